"""Linear programs, small and dense, by an interior-point method. Pure arithmetic, no clock.

Where many points are best, the method ends in the middle of them and not in a corner, so that equal jobs
get equal shares. It is the homogeneous self-dual method with Mehrotra's corrector, as in cone solvers
(Vandenberghe 2010; Domahidi, Chu and Boyd 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import ClusterSimError

Floats = NDArray[np.float64]
_ROUNDS = 100
_TOLERANCE = 1e-8
_RIDGE = 1e-14
_CLOSE, _MOST = 0.99, 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The best point, and what one more of each bound is worth."""

    x: Floats
    prices: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """Where the method is: unknowns, prices and slacks of the bounds, and the two scales."""

    x: Floats
    z: Floats
    s: Floats
    tau: float = 1.0
    kappa: float = 1.0

    def moved(self, step: _Point, by: float) -> _Point:
        return _Point(
            self.x + by * step.x, self.z + by * step.z, self.s + by * step.s,
            self.tau + by * step.tau, self.kappa + by * step.kappa,
        )  # fmt: skip

    def longest(self, step: _Point) -> float:
        """Return how far along *step* everything stays positive, at most nearly 1."""
        here = np.concatenate([self.z, self.s, [self.tau, self.kappa]])
        change = np.concatenate([step.z, step.s, [step.tau, step.kappa]])
        falling = change < 0
        return min(_MOST, float((-here[falling] / change[falling]).min())) if falling.any() else _MOST


def minimize(cost: Floats, bounded: Floats, bounds: Floats) -> Solution:
    """Return the x with ``bounded @ x <= bounds`` of the least ``cost @ x``; raise if none is found.

    >>> rows = np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> found = minimize(np.array([-1.0, -2.0]), rows, np.array([1.0, 0.0, 0.0]))
    >>> (found.x + 0.0).round(6).tolist()
    [0.0, 1.0]
    """
    rows, columns = _even(bounded)
    lone = np.count_nonzero(bounded, axis=1) == 1
    program = _Program(cost / columns, bounded / rows[:, None] / columns, bounds / rows, lone)
    point = program.start()
    for _ in range(_ROUNDS):
        if program.is_solved(point):
            return Solution(point.x / point.tau / columns, point.z / point.tau / rows)
        point = program.advance(point)
        if not np.isfinite(point.tau) or point.tau < 1e-12 * point.kappa:
            break
    raise ClusterSimError("a linear program of a scheduler has no solution")


def _even(bounded: Floats) -> tuple[Floats, Floats]:
    """Return by what to divide rows and columns so that none is far larger than another (Ruiz 2001)."""
    rows, columns = np.ones(len(bounded)), np.ones(bounded.shape[1])
    for _ in range(_EVENINGS):
        sizes = np.abs(bounded / rows[:, None] / columns)
        rows *= np.sqrt(sizes.max(axis=1))
        columns *= np.sqrt(sizes.max(axis=0))
    return rows, columns


_EVENINGS = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    c: Floats
    g: Floats
    h: Floats
    lone: NDArray[np.bool_]
    """Rows that bound one unknown: their part of the equations is diagonal."""

    def start(self) -> _Point:
        """Return the least slacks and prices that meet the equations, moved inside their bounds."""
        ones = np.ones(len(self.h))
        x, r = self._solve(np.zeros(len(self.c)), self.h, ones)
        _, z = self._solve(-self.c, np.zeros(len(self.h)), ones)
        return _Point(x, _inside(z), _inside(-r))

    def is_solved(self, p: _Point) -> bool:
        """Return whether the equations hold and the gap is closed."""
        x, z, s = (_norm(values) for values in (p.x, p.z, p.s))
        primal = _norm(p.s + self.g @ p.x - self.h * p.tau) / (self._size(self.h) + x + s)
        dual = _norm(self.g.T @ p.z + self.c * p.tau) / (self._size(self.c) + z)
        gap = float(p.s @ p.z)
        gap = min(gap, gap / max(abs(float(self.c @ p.x)) / p.tau, _RIDGE))
        return max(primal / p.tau, dual / p.tau, gap) < _TOLERANCE

    @staticmethod
    def _size(values: Floats) -> float:
        return max(1.0, _norm(values))

    def advance(self, p: _Point) -> _Point:
        """Return the next point: a guess straight ahead, then a step corrected by what the guess missed."""
        errors = (
            -self.g.T @ p.z - self.c * p.tau,
            p.s + self.g @ p.x - self.h * p.tau,
            p.kappa + float(self.c @ p.x + self.h @ p.z),
        )
        scale = np.sqrt(p.s / p.z)
        first = self._solve(-self.c, self.h, scale)
        middle = (float(p.s @ p.z) + p.kappa * p.tau) / (len(self.h) + 1)
        guess = self._step(p, errors, (scale, first), (p.s * p.z, p.kappa * p.tau))
        pull = min(1.0, max(1e-4, (1.0 - p.longest(guess)) ** 3))
        product = p.s * p.z + guess.s * guess.z - pull * middle
        scales = p.kappa * p.tau + guess.kappa * guess.tau - pull * middle
        left = 1.0 - pull
        errors = (left * errors[0], left * errors[1], left * errors[2])
        step = self._step(p, errors, (scale, first), (product, scales))
        return p.moved(step, _CLOSE * p.longest(step))

    def _step(
        self,
        p: _Point,
        errors: tuple[Floats, Floats, float],
        known: tuple[Floats, tuple[Floats, Floats]],
        products: tuple[Floats, float],
    ) -> _Point:
        """Return the step that mends the *errors* of the equations and the *products* of the pairs."""
        scale, (x1, z1) = known
        x2, z2 = self._solve(errors[0], products[0] / p.z - errors[1], scale)
        below = p.kappa / p.tau - float(self.c @ x1 + self.h @ z1)
        tau = (errors[2] - products[1] / p.tau + float(self.c @ x2 + self.h @ z2)) / below
        z = z2 + tau * z1
        return _Point(
            x2 + tau * x1, z, -(products[0] + p.s * z) / p.z, tau, -(products[1] + p.kappa * tau) / p.tau
        )

    def _solve(self, above: Floats, below: Floats, scale: Floats) -> tuple[Floats, Floats]:
        """Return x and z with ``g.T @ z = above`` and ``g @ x - scale**2 * z = below``."""
        weight = 1.0 / scale**2
        dense = self.g[~self.lone]
        normal = (dense.T * weight[~self.lone]) @ dense
        diagonal = np.diag_indices_from(normal)
        normal[diagonal] += weight[self.lone] @ self.g[self.lone] ** 2
        normal[diagonal] *= 1.0 + _RIDGE
        right = above + self.g.T @ (weight * below)
        x: Floats = np.asarray(np.linalg.solve(normal, right), dtype=np.float64)
        z = weight * (self.g @ x - below)
        return x, z


def _norm(values: Floats) -> float:
    return float(np.sqrt(values @ values))


def _inside(values: Floats) -> Floats:
    return values + (1.0 + max(-_CLOSE, -float(values.min())))
