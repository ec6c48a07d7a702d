"""Integrate power: from what each stretch of passes drew to the mean power of time bins, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

Columns = dict[str, np.ndarray[Any, Any]]


def power_table(
    iterations: Columns, replicas: int, idle_w: float, bins: int, width_s: float | None = None
) -> Columns:
    """Return the table of power: for every replica, the mean watts of each bin of equal width.

    While no pass runs a replica draws *idle_w*; a stretch's energy is spread evenly over it. The
    integral over a bin, and so over the run, is exact.
    """
    ends = iterations["start_s"] + iterations["duration_s"]
    last_s = float(ends.max(initial=0.0))
    if last_s <= 0:
        return _empty()
    width = width_s or last_s / bins
    edges = np.arange(int(np.ceil(last_s / width - 1e-9)) + 1) * width
    edges[-1] = last_s
    edges = edges[np.concatenate([[True], np.diff(edges) > 0])]
    order = np.argsort(iterations["replica"], kind="stable")
    cuts = np.searchsorted(iterations["replica"][order], np.arange(replicas + 1))
    watts = [_mean_w(iterations, order[cuts[r] : cuts[r + 1]], edges, idle_w) for r in range(replicas)]
    names = [f"replica {r}" for r in range(replicas)]
    return {
        "domain": np.repeat(np.asarray(names, dtype=object), len(edges) - 1),
        "start_s": np.tile(edges[:-1], replicas),
        "duration_s": np.tile(np.diff(edges), replicas),
        "power_w": np.concatenate(watts) if watts else np.zeros(0),
    }


def _mean_w(
    iterations: Columns, rows: np.ndarray[Any, Any], edges: np.ndarray[Any, Any], idle_w: float
) -> np.ndarray[Any, Any]:
    """Return the mean watts of one replica between each pair of *edges*."""
    start, duration = iterations["start_s"][rows], iterations["duration_s"][rows]
    excess_j = iterations["energy_j"][rows].astype(np.float64) - idle_w * duration
    times = np.column_stack([start, start + duration]).ravel()
    steps = np.column_stack([np.zeros(len(rows)), excess_j]).ravel()
    above_j = np.interp(edges, np.append(0.0, times), np.append(0.0, np.cumsum(steps)))
    return np.asarray(idle_w + np.diff(above_j) / np.diff(edges))


def _empty() -> Columns:
    return {
        "domain": np.zeros(0, dtype=object),
        "start_s": np.zeros(0),
        "duration_s": np.zeros(0),
        "power_w": np.zeros(0),
    }
