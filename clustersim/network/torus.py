"""Grids and tori: paths go through the dimensions in order, each in its shorter direction.

A dimension's forward links go from place c to c + 1 and its backward links the other way; both are numbered
by the place c at which the forward one starts, line by line. Twisted: see ``spec.direct.Torus``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from clustersim.network.draft import Draft, cable
from clustersim.network.hashing import detours
from clustersim.network.topology import Array
from clustersim.spec.direct import Torus
from clustersim.spec.interconnect import Paths


@dataclass(frozen=True, slots=True)
class Grid:
    """The wiring of a torus or grid."""

    dimensions: tuple[int, ...]
    wraps: tuple[bool, ...]
    twisted: bool
    first: tuple[tuple[int, int], ...]
    """Of each dimension, the first forward and the first backward link."""
    capacity_bytes_per_s: float

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "single", "valiant")

    @property
    def size(self) -> int:
        """Places."""
        return prod(self.dimensions)

    @property
    def even(self) -> tuple[int, ...]:
        """Rings on which the opposite place is as far either way."""
        pairs = enumerate(zip(self.dimensions, self.wraps, strict=True))
        return tuple(d for d, (n, wrap) in pairs if wrap and n % 2 == 0)

    @property
    def ways(self) -> int:
        """Two for each ring on which a place may be exactly opposite."""
        return 1 << len(self.even)

    @property
    def diameter(self) -> int:
        """Half of each ring, the whole of each line; of a twisted torus, the farthest place from 0."""
        if not self.twisted:
            pairs = zip(self.dimensions, self.wraps, strict=True)
            return sum(n // 2 if wrap else n - 1 for n, wrap in pairs)
        everywhere = np.arange(self.size)
        steps = self._plan(np.zeros_like(everywhere), everywhere, np.zeros_like(everywhere), "single")
        return int(np.abs(steps).sum(axis=1).max())

    @property
    def bisection_bytes_per_s(self) -> float | None:
        """Links across the middle of the longest dimension: two a ring, one a line; unknown if twisted."""
        if self.twisted:
            return None
        cuts = [
            self.size // n * (2 if wrap else 1)
            for n, wrap in zip(self.dimensions, self.wraps, strict=True)
            if n > 1
        ]
        return min(cuts, default=0) * self.capacity_bytes_per_s

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the links of each dimension in turn; valiant, by way of a place chosen by a hash."""
        if mode == "valiant":
            third = detours(choice, self.size)
            legs = [self.paths(a, b, choice, "ecmp") for a, b in ((source, third), (third, target))]
            return np.column_stack(legs)
        return self._walk(source, self._plan(source, target, choice, mode))

    def coordinates(self, places: Array) -> Array:
        """Return the place in each dimension, the last running fastest."""
        return np.stack(np.unravel_index(places, self.dimensions), axis=1)

    def _plan(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the signed steps to take in each dimension."""
        start, end = self.coordinates(source), self.coordinates(target)
        if not self.twisted:
            return self._shortest(start, end, choice, mode)
        short = [d for d, n in enumerate(self.dimensions) if n == min(self.dimensions)]
        best = np.zeros_like(start)
        fewest = np.full(len(source), np.iinfo(np.int64).max)
        for crossed in product((False, True), repeat=len(short)):
            steps = self._twist(start, end, dict(zip(short, crossed, strict=True)))
            length = np.abs(steps).sum(axis=1)
            better = length < fewest
            best[better], fewest[better] = steps[better], length[better]
        return best

    def _shortest(self, start: Array, end: Array, choice: Array, mode: Paths) -> Array:
        steps = end - start
        for d, (n, wrap) in enumerate(zip(self.dimensions, self.wraps, strict=True)):
            if not wrap:
                continue
            ahead = steps[:, d] % n
            backward = ahead > n // 2
            if d in self.even:
                bit = choice >> np.uint64(self.even.index(d)) if mode == "ecmp" else start[:, d]
                backward |= (ahead == n // 2) & (bit % 2 == 1)
            steps[:, d] = np.where(backward, ahead - n, ahead)
        return steps

    def _twist(self, start: Array, end: Array, crossed: dict[int, bool]) -> Array:
        """Return the steps where closing links of some short rings are crossed and shift the long ones."""
        steps = end - start
        shift = sum(crossed.values()) * min(self.dimensions)
        for d, n in enumerate(self.dimensions):
            if d not in crossed:
                ahead = (steps[:, d] + shift) % n
                steps[:, d] = np.where(ahead > n // 2, ahead - n, ahead)
            elif crossed[d]:
                steps[:, d] = np.where(steps[:, d] > 0, steps[:, d] - n, steps[:, d] + n)
        return steps

    def _walk(self, source: Array, steps: Array) -> Array:
        at = self.coordinates(source)
        hops: list[Array] = []
        for d in self._order():
            most = int(np.abs(steps[:, d]).max(initial=0))
            hops += [self._step(at, d, steps[:, d], k) for k in range(most)]
        return np.stack(hops, axis=1) if hops else np.full((len(source), 1), -1, np.int64)

    def _order(self) -> list[int]:
        """Short rings first where they shift the long ones."""
        return sorted(range(len(self.dimensions)), key=lambda d: self.dimensions[d] if self.twisted else 0)

    def _step(self, at: Array, d: int, steps: Array, k: int) -> Array:
        """Move everyone who has not arrived one place along *d* and return the links taken."""
        moving, forward = np.abs(steps) > k, steps > 0
        n = self.dimensions[d]
        before = at.copy()
        beyond = at[:, d] + np.where(forward, 1, -1)
        crossed = moving & ((beyond < 0) | (beyond >= n))
        at[moving, d] = (beyond % n)[moving]
        if self.twisted and n == min(self.dimensions):
            for other, length in enumerate(self.dimensions):
                if length > n:
                    at[crossed, other] = (at[crossed, other] + n) % length
        number = self._number(np.where(forward[:, None], before, at), d)
        first = np.where(forward, self.first[d][0], self.first[d][1])
        return np.where(moving, first + number, -1)

    def _number(self, at: Array, d: int) -> Array:
        """Return the number of the forward link that starts *at* a place, among those of dimension *d*."""
        n = self.dimensions[d]
        line = np.zeros(len(at), np.int64)
        for other, length in enumerate(self.dimensions):
            if other != d:
                line = line * length + at[:, other]
        return line * (n if self.wraps[d] else n - 1) + at[:, d]


def wire_torus(draft: Draft, fabric: Torus, ends: Array) -> Grid:
    """Add the links of a torus or grid between the vertices *ends*."""
    kind = cable(fabric, "ici")
    optical = cable(fabric, "optical") if "optical" in fabric.links else None
    grid = Grid(fabric.dimensions, fabric.wraps, fabric.twisted, (), kind.capacity_bytes_per_s)
    first = []
    for d, (n, wrap) in enumerate(zip(fabric.dimensions, fabric.wraps, strict=True)):
        start, end = _forward(grid, d, n if wrap else n - 1)
        numbers = []
        for a, b in ((start, end), (end, start)):
            numbers.append(draft.one_way(kind, ends[a], ends[b]))
            if optical is not None and fabric.cube is not None:
                place = grid.coordinates(start)[:, d]
                draft.change(optical, place % fabric.cube == fabric.cube - 1)
        first.append((numbers[0], numbers[1]))
    narrow = min(kind.capacity_bytes_per_s, optical.capacity_bytes_per_s if optical else np.inf)
    return Grid(fabric.dimensions, fabric.wraps, fabric.twisted, tuple(first), float(narrow))


def _forward(grid: Grid, d: int, count: int) -> tuple[Array, Array]:
    """Return where the forward links of a dimension start and end, in the order of their numbers."""
    others = [n for other, n in enumerate(grid.dimensions) if other != d]
    lines = np.stack(np.unravel_index(np.repeat(np.arange(prod(others)), count), [*others, 1]), axis=1)
    at = np.insert(lines[:, :-1], d, np.tile(np.arange(count), prod(others)), axis=1)
    end = at.copy()
    end[:, d] = (at[:, d] + 1) % grid.dimensions[d]
    if grid.twisted and grid.dimensions[d] == min(grid.dimensions):
        closing = end[:, d] == 0
        for other, n in enumerate(grid.dimensions):
            if n > grid.dimensions[d]:
                end[closing, other] = (end[closing, other] + grid.dimensions[d]) % n
    places = [np.ravel_multi_index(tuple(x.T), grid.dimensions) for x in (at, end)]
    return places[0].astype(np.int64), places[1].astype(np.int64)
