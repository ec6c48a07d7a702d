"""Shares of time that jobs are due on each kind of accelerator: the programs of Gavel (OSDI 2020).

An allocation is a table with a row a job and a column a kind: the share of time in which the job runs
there. Shares of a job add up to at most one, and no kind is given out more than it has. No clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustersim.policies.cluster.linear import Floats, Solution, minimize

_BOUND = 1e-6
_LEAST_S = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The jobs and kinds of one allocation."""

    speeds: Floats
    """Iterations per second of each job on each kind, gang and all."""
    sizes: Floats
    """Accelerators of each job."""
    counts: Floats
    """Accelerators of each kind."""
    left: Floats
    """Iterations that each job still has to do."""
    since_s: Floats
    """How long ago each job was submitted."""
    weights: Floats
    """More is more."""

    def blind(self, column: int | None) -> Problem:
        """Return the problem as one sees it who takes all kinds for the one in *column* (None: for one)."""
        n = len(self.counts)
        known = np.ones(len(self.sizes)) if column is None else self.speeds[:, column]
        return Problem(
            np.repeat(known[:, None], n, axis=1),
            self.sizes,
            self.counts,
            self.left,
            self.since_s,
            self.weights,
        )

    @property
    def fair(self) -> Floats:
        """Iterations per second of each job if it ran on all kinds in proportion to their counts."""
        fair: Floats = self.speeds @ self.counts / self.counts.sum()
        return fair

    @property
    def alone(self) -> Floats:
        """Iterations per second of each job in an equal part of the cluster of its own."""
        part = self.counts / len(self.sizes) / self.sizes[:, None]
        part /= np.maximum(part.sum(axis=1, keepdims=True), 1.0)
        alone: Floats = (self.speeds * part).sum(axis=1)
        return alone


def max_sum(problem: Problem) -> Floats:
    """Return the allocation with the most iterations per second in all."""
    rows, bounds = _capacity(problem, 0)
    return _table(minimize(-problem.speeds.ravel(), rows, bounds), problem)


def max_min(problem: Problem) -> Floats:
    """Return the allocation in which the least served job is served best, against its fair share."""
    gain = problem.speeds * (problem.sizes / (problem.weights * problem.fair))[:, None]
    return _table(_level(problem, gain, np.zeros(len(gain)), np.ones(len(gain))), problem)


def water_filling(problem: Problem) -> Floats:
    """Return the max-min allocation, then of those that can have more, and so on."""
    gain = problem.speeds * (problem.sizes / (problem.weights * problem.fair))[:, None]
    floor, rising = np.zeros(len(gain)), np.ones(len(gain))
    while True:
        found = _level(problem, gain, floor, rising)
        floor = np.where(rising > 0, floor + float(found.x[-1]), floor)
        worth = found.prices[-len(gain) :]
        stuck = (rising > 0) & (worth > _BOUND * max(float(worth.max()), _BOUND))
        rising = np.where(stuck, 0.0, rising)
        if not rising.any() or not stuck.any():
            return _table(found, problem)


def min_duration(problem: Problem, within: float = 1.05) -> Floats:
    """Return an allocation in which all jobs end within *within* of the earliest time possible."""
    gain = problem.speeds / problem.left[:, None]
    best_s = 1.0 / float(_level(problem, gain, np.zeros(len(gain)), np.ones(len(gain))).x[-1])
    low_s, high_s = 100.0, max(1e6, 10 * best_s)
    found_s = high_s
    while within * low_s < high_s:
        middle_s = (low_s + high_s) / 2
        if middle_s >= best_s:
            found_s = high_s = middle_s
        else:
            low_s = middle_s
    return _meet(problem, problem.left / found_s)


def finish_fairness(problem: Problem, alone_s: Floats) -> Floats:
    """Return the allocation of the best worst ratio of time to finish over that alone, *alone_s*."""
    low, high = float((problem.since_s / alone_s).max()), 1.0
    while high <= low or _spare(problem, alone_s, high) < 0:
        low, high = max(low, high), 2 * max(low, high)
    for _ in range(_HALVINGS):
        if high - low < _EXACT * high:
            break
        middle = (low + high) / 2
        low, high = (low, middle) if _spare(problem, alone_s, middle) >= 0 else (middle, high)
    return _meet(problem, _needs(problem, alone_s, high))


_HALVINGS, _EXACT = 40, 1e-4


def _needs(problem: Problem, alone_s: Floats, ratio: float) -> Floats:
    """Return the iterations per second with which each job finishes within *ratio* of its time alone."""
    return problem.left / np.maximum(ratio * alone_s - problem.since_s, _LEAST_S)


def _spare(problem: Problem, alone_s: Floats, ratio: float) -> float:
    """Return by which share all needs of *ratio* can be exceeded; negative, if they cannot be met."""
    gain = problem.speeds / _needs(problem, alone_s, ratio)[:, None]
    best = gain.max(axis=1)
    if (best < 1.0).any() or (problem.sizes / best).sum() > problem.counts.sum():
        return -1.0
    return float(_level(problem, gain, np.zeros(len(gain)), np.ones(len(gain))).x[-1]) - 1.0


def _meet(problem: Problem, needs: Floats) -> Floats:
    """Return an allocation with at least *needs* iterations per second of each job, in the middle of them."""
    rows, bounds = _capacity(problem, 0)
    rows, bounds = np.vstack([rows, -_by_job(problem.speeds, 0)]), np.append(bounds, -needs)
    return _table(minimize(np.zeros(rows.shape[1]), rows, bounds), problem)


def _level(problem: Problem, gain: Floats, floor: Floats, rising: Floats) -> Solution:
    """Raise the level of all *rising* jobs above their *floor* as far as it goes.

    The level is the last unknown; the last bounds are those of the jobs: gain >= floor + level.
    """
    rows, bounds = _capacity(problem, 1)
    jobs = -_by_job(gain, 1)
    jobs[:, -1] = rising
    cost = np.zeros(rows.shape[1])
    cost[-1] = -1.0
    return minimize(cost, np.vstack([rows, jobs]), np.concatenate([bounds, -floor]))


def _capacity(problem: Problem, more: int) -> tuple[Floats, Floats]:
    """Return the bounds of shares, kinds and jobs, with *more* unknowns behind the shares."""
    m, n = problem.speeds.shape
    kinds = np.zeros((n, m * n + more))
    for kind in range(n):
        kinds[kind, kind : m * n : n] = problem.sizes
    rows = np.vstack([-np.eye(m * n, m * n + more), kinds, _by_job(np.ones((m, n)), more)])
    return rows, np.concatenate([np.zeros(m * n), problem.counts, np.ones(m)])


def _by_job(values: Floats, more: int) -> Floats:
    """Return rows, one a job, with its *values* at its own shares."""
    m, n = values.shape
    rows = np.zeros((m, m * n + more))
    rows[np.arange(m)[:, None], np.arange(m * n).reshape(m, n)] = values
    return rows


def _table(found: Solution, problem: Problem) -> Floats:
    m, n = problem.speeds.shape
    return np.clip(found.x[: m * n].reshape(m, n), 0.0, 1.0)
