"""Inter-token latencies out of stretches of passes: exact quantiles and curves. Pure numpy, no clock.

A stretch of n passes is n samples in arithmetic progression, each as heavy as the sequences it advanced.
They are expanded a block at a time, and ranks are found by counting the leading bits of the samples
(positive floats sort like their bits), so neither memory nor sorting grows with the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clustersim.record.latency import Columns

BLOCK: Final = 1 << 22
"""Samples expanded at a time."""
BINS: Final = 1 << 20
"""Bins of the histogram of leading bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Weighted samples: single ones, and progressions ``start + growth * (1 .. count)`` of equal weight."""

    single_s: np.ndarray
    single_weight: np.ndarray
    start_s: np.ndarray
    growth_s: np.ndarray
    count: np.ndarray
    weight: np.ndarray

    @property
    def total(self) -> int:
        """How many samples there are, each counted by its weight."""
        return int(self.single_weight.sum()) + int(np.dot(self.count, self.weight))

    @property
    def mean_s(self) -> float:
        """The mean over all samples, by formula; NaN if there is none."""
        middle_s = self.start_s + self.growth_s * (self.count + 1) / 2
        sum_s = np.dot(self.single_s, self.single_weight) + np.dot(middle_s, self.count * self.weight)
        return float(sum_s) / self.total if self.total else math.nan

    @property
    def range_s(self) -> np.ndarray:
        """The least and the greatest sample."""
        ends = (self.start_s + self.growth_s, self.start_s + self.growth_s * self.count)
        every = [x for x in (self.single_s, *ends) if len(x)]
        return np.array([min(x.min() for x in every), max(x.max() for x in every)])

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Expand into (values, weights), at most ``BLOCK`` at a time; a long stretch is cut."""
        for low in range(0, len(self.single_s), BLOCK):
            yield self.single_s[low : low + BLOCK], self.single_weight[low : low + BLOCK]
        ends = np.cumsum(self.count)
        for low in range(0, int(ends[-1]) if len(ends) else 0, BLOCK):
            high = min(low + BLOCK, int(ends[-1]))
            rows = slice(np.searchsorted(ends, low, "right"), np.searchsorted(ends, high, "left") + 1)
            begins = ends[rows] - self.count[rows]
            counts = np.minimum(ends[rows], high) - np.maximum(begins, low)
            place = np.arange(low + 1, high + 1) - np.repeat(begins, counts)
            values = np.repeat(self.start_s[rows], counts) + np.repeat(self.growth_s[rows], counts) * place
            yield values, np.repeat(self.weight[rows], counts)


def samples(iterations: Columns, gaps: Columns) -> Samples:
    """Collect the time before each token but a sequence's first: one pass later, or after a gap."""
    step_s, growth_s = np.asarray(iterations["step_s"]), np.asarray(iterations["growth_s"])
    count, decoding, fresh = (
        np.asarray(iterations[name], dtype=np.int64)
        for name in ("count", "decode_sequences", "fresh_sequences")
    )
    flat = np.flatnonzero((count > 1) & (growth_s == 0.0) & (decoding > 0))
    grows = np.flatnonzero((count > 1) & (growth_s != 0.0) & (decoding > 0))
    gap_s, sequences = np.asarray(gaps["gap_s"]), np.asarray(gaps["sequences"], dtype=np.int64)
    values = np.concatenate([step_s[fresh > 0], step_s[flat], gap_s[sequences > 0]])
    weights = np.concatenate([fresh[fresh > 0], decoding[flat] * (count[flat] - 1), sequences[sequences > 0]])
    return Samples(values, weights, step_s[grows], growth_s[grows], count[grows] - 1, decoding[grows])


def quantiles(data: Samples, shares: Sequence[float]) -> np.ndarray:
    """Return the exact quantiles of all samples, interpolated as numpy does; NaN if there is none."""
    if not data.total:
        return np.full(len(shares), np.nan)
    places = np.asarray(shares, dtype=np.float64) * (data.total - 1)
    below = np.floor(places).astype(np.int64)
    ranks = np.unique(np.concatenate([below, np.minimum(below + 1, data.total - 1)]))
    values = _at_ranks(data, ranks)
    low = values[np.searchsorted(ranks, below)]
    high = values[np.searchsorted(ranks, np.minimum(below + 1, data.total - 1))]
    return np.asarray(low + (high - low) * (places - below))


def curve(data: Samples, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most *points* latencies and the exact share of samples no longer than each."""
    if not data.total:
        return np.empty(0), np.empty(0)
    low, shift = _layout(data)
    sums = np.cumsum(_histogram(data, low, shift))
    wanted = np.linspace(0.0, 1.0, points) * (data.total - 1)
    bins = np.unique(np.searchsorted(sums, wanted, side="right"))
    edges = (((bins + 1) << shift) + low - 1).view(np.float64)
    return np.minimum(edges, data.range_s[1]), sums[bins] / data.total


def _layout(data: Samples) -> tuple[int, int]:
    """Return the lowest bit pattern, and how many trailing bits to drop so that ``BINS`` bins are enough."""
    bits = data.range_s.view(np.int64)
    return int(bits[0]), max(0, int(bits[1] - bits[0]).bit_length() - BINS.bit_length() + 1)


def _histogram(data: Samples, low: int, shift: int) -> np.ndarray:
    heights = np.zeros(BINS)
    for values, weights in data.blocks():
        found = np.bincount((values.view(np.int64) - low) >> shift, weights)
        heights[: len(found)] += found
    return heights


def _at_ranks(data: Samples, ranks: np.ndarray) -> np.ndarray:
    """Return the samples at *ranks* (from 0, ascending) of the sorted whole."""
    low, shift = _layout(data)
    heights = _histogram(data, low, shift)
    chosen = np.zeros(BINS, dtype=bool)
    bins = np.searchsorted(np.cumsum(heights), ranks, side="right")
    chosen[bins] = True
    values, weights = _inside(data, chosen, (low, shift))
    order = np.argsort(values)
    skipped = np.cumsum(np.where(chosen, 0.0, heights))[bins]
    return np.asarray(
        values[order][np.searchsorted(np.cumsum(weights[order]), ranks - skipped, side="right")]
    )


def _inside(data: Samples, chosen: np.ndarray, layout: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Gather the samples whose bin is *chosen*."""
    low, shift = layout
    parts = []
    for values, weights in data.blocks():
        keep = chosen[(values.view(np.int64) - low) >> shift]
        parts.append((values[keep], weights[keep]))
    return np.concatenate([v for v, _ in parts]), np.concatenate([w for _, w in parts])
