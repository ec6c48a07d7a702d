"""HyperX: switches on a grid, all of a row joined; a path takes one link for each dimension that differs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial, prod
from typing import ClassVar

import numpy as np

from clustersim.network.draft import Draft, cable
from clustersim.network.hashing import detours
from clustersim.network.topology import Array
from clustersim.spec.interconnect import Paths
from clustersim.spec.switched import HyperX


@dataclass(frozen=True, slots=True)
class Rows:
    """The wiring: links of dimension d are numbered by row, switch, how far on in the row, parallel link."""

    dimensions: tuple[int, ...]
    hosts: int
    parallel: int
    first: tuple[int, ...]
    """First link of: host up, host down, then each dimension."""
    capacity_bytes_per_s: tuple[float, float]
    """Of a host link and of a link between switches."""

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "single", "valiant")

    @property
    def ways(self) -> int:
        """Orders of the dimensions, times the parallel links."""
        return factorial(len(self.dimensions)) * self.parallel

    @property
    def diameter(self) -> int:
        """A link a dimension, and the two of the hosts."""
        return 2 + len(self.dimensions)

    @property
    def bisection_bytes_per_s(self) -> float:
        """Between two halves of every row of the dimension where that is least, or from half of the hosts."""
        switches = prod(self.dimensions)
        cuts = [switches // n * (n // 2) * (n - n // 2) * self.parallel for n in self.dimensions]
        host, link = self.capacity_bytes_per_s
        return min(min(cuts) * link, switches * self.hosts // 2 * host)

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return minimal paths, the order of dimensions chosen; valiant, by way of a switch."""
        if mode == "single":
            choice = np.zeros_like(choice)
        start, end = source // self.hosts, target // self.hosts
        hops = [self.first[0] + source]
        if mode == "valiant":
            third = np.where(start == end, end, detours(choice, prod(self.dimensions)))
            hops += [*self._between(start, third, choice)]
            start = third
        hops += [*self._between(start, end, choice), self.first[1] + target]
        return np.stack(hops, axis=1)

    def _between(self, start: Array, end: Array, choice: Array) -> list[Array]:
        """Return one link, or none, for each dimension in each flow's own order."""
        orders = np.array(list(permutations(range(len(self.dimensions)))))
        copy = (choice % np.uint64(self.parallel)).astype(np.int64)
        order = orders[(choice // np.uint64(self.parallel) % np.uint64(len(orders))).astype(np.int64)]
        at = np.stack(np.unravel_index(start, self.dimensions), axis=1)
        to = np.stack(np.unravel_index(end, self.dimensions), axis=1)
        hops, flows = [], np.arange(len(start))
        for turn in range(len(self.dimensions)):
            d = order[:, turn]
            here, there = at[flows, d], to[flows, d]
            link = self._link(at, d, there) * self.parallel + copy
            base = np.asarray(self.first[2:])[d]
            hops.append(np.where(here == there, -1, base + link))
            at[flows, d] = there
        return hops

    def _link(self, at: Array, d: Array, there: Array) -> Array:
        """Return which pair of a dimension a hop is: row by row, switch by switch."""
        n, here = np.asarray(self.dimensions)[d], at[np.arange(len(d)), d]
        row = np.zeros(len(d), np.int64)
        for other, length in enumerate(self.dimensions):
            row = np.where(other == d, row, row * length + at[:, other])
        return np.asarray((row * n + here) * (n - 1) + there - (there > here))


def wire_hyperx(draft: Draft, fabric: HyperX, ends: Array) -> Rows:
    """Add the switches and links of a HyperX around the vertices *ends*."""
    host, row = cable(fabric, "host"), cable(fabric, "switch")
    switches = draft.layer("switch", prod(fabric.dimensions))
    first = [*draft.both_ways(host, ends, switches[np.arange(len(ends)) // fabric.hosts])]
    for d, n in enumerate(fabric.dimensions):
        others = [length for other, length in enumerate(fabric.dimensions) if other != d]
        axes = np.indices((prod(others), n, n - 1, fabric.links_per_pair)).reshape(4, -1)
        lines, here, place = axes[0], axes[1], axes[2]
        there = place + (place >= here)
        ends_of = [_switch(fabric, d, lines, at) for at in (here, there)]
        first.append(draft.one_way(row, switches[ends_of[0]], switches[ends_of[1]]))
    capacity = (host.capacity_bytes_per_s, row.capacity_bytes_per_s)
    return Rows(fabric.dimensions, fabric.hosts, fabric.links_per_pair, tuple(first), capacity)


def _switch(fabric: HyperX, d: int, line: Array, at: Array) -> Array:
    """Return the number of the switch *at* a place of a line along dimension *d*."""
    others = [length for other, length in enumerate(fabric.dimensions) if other != d]
    rest = list(np.unravel_index(line, others)) if others else []
    rest.insert(d, at)
    return np.asarray(np.ravel_multi_index(tuple(rest), fabric.dimensions))
