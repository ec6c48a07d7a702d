"""Means over time bins as exact integrals: never samples. Pure numpy.

What is constant over a stretch, or has a closed form inside it, is integrated up to each edge of the bins;
a bin's mean is the difference of two integrals. So areas add up, whatever the width of the bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def edges(start_s: float, end_s: float, bins: int) -> np.ndarray:
    """Return the edges of *bins* equal bins; a span of no length gets one bin of a second."""
    if not end_s > start_s:
        return np.array([start_s, start_s + 1.0])
    return np.linspace(start_s, end_s, bins + 1)


def level_integral(at_s: np.ndarray, start_s: Any, duration_s: Any, level: Any) -> np.ndarray:
    """Integrate up to *at_s* what holds *level* for *duration_s* from *start_s*; stretches may overlap."""
    begin_s = np.asarray(start_s, dtype=np.float64)
    height = np.asarray(level, dtype=np.float64)
    end_s = begin_s + np.asarray(duration_s, dtype=np.float64)
    return np.asarray(_ramp(at_s, begin_s, height) - _ramp(at_s, end_s, height))


def level_mean(bounds_s: np.ndarray, start_s: Any, duration_s: Any, level: Any) -> np.ndarray:
    """Return the mean over each bin of what holds *level* for *duration_s* from *start_s*."""
    return np.asarray(np.diff(level_integral(bounds_s, start_s, duration_s, level)) / np.diff(bounds_s))


def _ramp(at_s: np.ndarray, from_s: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Sum ``slope * max(0, at - from)`` over all rows, for each of *at_s*."""
    order = np.argsort(from_s, kind="stable")
    origin_s = float(from_s.min()) if len(from_s) else 0.0
    starts_s, slopes = from_s[order] - origin_s, slope[order]
    begun = np.searchsorted(starts_s, at_s - origin_s, side="left")
    slope_sum = np.concatenate([[0.0], np.cumsum(slopes)])[begun]
    offset_sum = np.concatenate([[0.0], np.cumsum(slopes * starts_s)])[begun]
    return np.asarray(slope_sum * (at_s - origin_s) - offset_sum)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The stretches of one replica in order of time, none overlapping another."""

    start_s: np.ndarray
    duration_s: np.ndarray

    def place(self, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the last stretch begun at each time (-1: none), and how long it has run by then."""
        row = np.searchsorted(self.start_s, at_s, side="right") - 1
        known = np.maximum(row, 0)
        return row, np.clip(at_s - self.start_s[known], 0.0, self.duration_s[known])


def line_integral(at_s: np.ndarray, track: Track, level: np.ndarray) -> np.ndarray:
    """Integrate what goes straight to *level* until the end of each stretch, and holds it until the next."""
    before = np.concatenate([[0.0], level[:-1]])
    gap_s = np.diff(track.start_s, append=np.inf) - track.duration_s
    area = (before + level) / 2 * track.duration_s
    whole = np.concatenate([[0.0], np.cumsum(area[:-1] + level[:-1] * gap_s[:-1])])
    row, ran_s = track.place(at_s)
    known = np.maximum(row, 0)
    slope = np.divide(level - before, track.duration_s, out=np.zeros(len(level)), where=track.duration_s > 0)
    held_s = np.maximum(0.0, at_s - track.start_s[known] - track.duration_s[known])
    inside = before[known] * ran_s + slope[known] * ran_s**2 / 2 + level[known] * held_s
    return np.where(row >= 0, whole[known] + inside, 0.0)


def passes_done(ran_s: np.ndarray, step_s: np.ndarray, growth_s: np.ndarray) -> np.ndarray:
    """Return how many passes a stretch has done after *ran_s*, the last in part: growing ones by the formula.

    n passes take ``n step + growth n (n - 1) / 2``; between whole passes the same parabola is followed.
    """
    base_s = step_s - growth_s / 2
    root = np.sqrt(np.maximum(base_s**2 + 2.0 * growth_s * ran_s, 0.0))
    return np.asarray(
        np.divide(2.0 * ran_s, base_s + root, out=np.zeros_like(ran_s), where=base_s + root > 0)
    )


def line_peaks(bounds_s: np.ndarray, track: Track, level: np.ndarray) -> np.ndarray:
    """Return the highest that such a line stands in each bin: at the bin's edges, or at an end within it."""
    row, ran_s = track.place(bounds_s)
    known = np.maximum(row, 0)
    before = np.concatenate([[0.0], level[:-1]])[known]
    part = np.divide(
        ran_s, track.duration_s[known], out=np.ones_like(ran_s), where=track.duration_s[known] > 0
    )
    at_edges = np.where(row >= 0, before + (level[known] - before) * part, 0.0)
    top = np.maximum(at_edges[:-1], at_edges[1:])
    place = np.searchsorted(bounds_s, track.start_s + track.duration_s, side="right") - 1
    inside = (place >= 0) & (place < len(top))
    np.maximum.at(top, place[inside], level[inside])
    return top
