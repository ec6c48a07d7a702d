"""Bending the protocols of a curve to measured times. Pure arithmetic, no clock, no files.

The fit minimises a robust sum of squared logarithms of predicted over measured, by Levenberg-Marquardt
from several starts, and is held lightly to the curve it starts from: what the measurements say nothing
about (steps, when all have one group size) stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives.domain import collective_s
from clustersim.errors import ClusterSimError
from clustersim.rng import Streams
from clustersim.spec.efficiency import CollectiveCurve, Operation, Protocol

Floats = NDArray[np.float64]

ROBUST: Final = 0.1
"""Errors beyond this fraction count linearly instead of squared."""
HOLD: Final = 0.02
"""Weight of a parameter's logarithmic distance from where it started."""
WIDEST_SHARE: Final = 0.95
_SHORTEST_S: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one operation by group size and buffer size."""

    operation: Operation
    ranks: NDArray[np.int64]
    size_bytes: Floats
    time_s: Floats

    def __post_init__(self) -> None:
        if not len(self.ranks) == len(self.size_bytes) == len(self.time_s) > 0:
            raise ClusterSimError("a fit needs as many group sizes and buffer sizes as times, at least one")
        if (self.time_s <= 0.0).any() or (self.size_bytes <= 0.0).any():
            raise ClusterSimError("a fit needs positive buffer sizes and times")

    def at(self, rows: NDArray[np.bool_]) -> Measured:
        """Return the rows that *rows* marks."""
        return Measured(self.operation, self.ranks[rows], self.size_bytes[rows], self.time_s[rows])


def fitted(
    start: CollectiveCurve, measured: Measured, link_bytes_per_s: float, starts: int = 5
) -> tuple[Protocol, ...]:
    """Return the protocols of *start* bent to *measured*; the fastest of them is what is measured."""
    begin = _vector(start.protocols)
    draw = Streams(0).get("collective fit")
    residuals = _residuals(start, measured, link_bytes_per_s, begin)
    found = []
    for i in range(starts):
        spread = draw.normal(0.0, 0.5, len(begin)) if i else 0.0
        found.append(descend(residuals, begin + spread))
    best = min(found, key=lambda pair: pair[1])[0]
    return _protocols(start, best)


def errors(curve: CollectiveCurve, measured: Measured, link_bytes_per_s: float) -> Floats:
    """Return predicted over measured, less one, row by row."""
    return _predict(curve, measured, link_bytes_per_s) / measured.time_s - 1.0


def _predict(curve: CollectiveCurve, measured: Measured, link_bytes_per_s: float) -> Floats:
    found = np.zeros(len(measured.time_s))
    for ranks in np.unique(measured.ranks):
        rows = measured.ranks == ranks
        size = measured.size_bytes[rows]
        found[rows] = collective_s(curve, measured.operation, int(ranks), size, link_bytes_per_s)
    return found


def _vector(protocols: tuple[Protocol, ...]) -> Floats:
    """Return launches, steps, shares and, where there are any, the copies that all share, as logarithms."""
    numbers = [
        n for p in protocols for n in (max(p.launch, _SHORTEST_S), max(p.step, _SHORTEST_S), p.link_share)
    ]
    copies = max(p.copies for p in protocols)
    vector: Floats = np.log(np.array([*numbers, copies] if copies else numbers))
    return vector


def _protocols(start: CollectiveCurve, vector: Floats) -> tuple[Protocol, ...]:
    numbers = np.exp(vector).tolist()
    bent = []
    for i, p in enumerate(start.protocols):
        launch, step, share = numbers[3 * i : 3 * i + 3]
        changes = {"launch": launch, "step": step, "link_share": min(share, WIDEST_SHARE)}
        bent.append(p.model_copy(update=changes | ({"copies": numbers[-1]} if p.copies else {})))
    return tuple(bent)


def _residuals(
    start: CollectiveCurve, measured: Measured, link_bytes_per_s: float, begin: Floats
) -> Callable[[Floats], Floats]:
    logs = np.log(measured.time_s)

    def residuals(vector: Floats) -> Floats:
        curve = start.model_copy(update={"protocols": _protocols(start, vector)})
        error = np.log(_predict(curve, measured, link_bytes_per_s)) - logs
        shares = vector[2 : 3 * len(start.protocols) : 3]
        wide = 3.0 * np.maximum(0.0, shares - np.log(WIDEST_SHARE))
        return np.concatenate([robust(error), HOLD * (vector - begin), wide])

    return residuals


def robust(error: Floats) -> Floats:
    """Return residuals whose squares grow linearly beyond ROBUST."""
    scaled = np.sqrt(1.0 + (error / ROBUST) ** 2) - 1.0
    return np.asarray(np.sign(error) * ROBUST * np.sqrt(2.0 * scaled), dtype=np.float64)


def descend(residuals: Callable[[Floats], Floats], vector: Floats) -> tuple[Floats, float]:
    """Return the nearest minimum of the sum of squares, and that sum."""
    now = residuals(vector)
    damping = 1e-2
    for _ in range(150):
        slope = _jacobian(residuals, vector, now)
        square, pull = slope.T @ slope, slope.T @ now
        for _ in range(10):
            step = -np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), pull)
            moved = vector + np.clip(step, -1.0, 1.0)
            then = residuals(moved)
            if then @ then < now @ now:
                break
            damping *= 4.0
        else:
            break
        gain = 1.0 - float(then @ then) / float(now @ now)
        vector, now, damping = moved, then, max(damping / 5.0, 1e-9)
        if gain < 1e-8:
            break
    return vector, float(now @ now)


def _jacobian(residuals: Callable[[Floats], Floats], vector: Floats, now: Floats) -> Floats:
    columns = []
    for i in range(len(vector)):
        moved = vector.copy()
        moved[i] += 1e-5
        columns.append((residuals(moved) - now) / 1e-5)
    return np.stack(columns, axis=1)
