"""Dragonflies, of routers that all meet or of small leaf-spine groups: one global link between two groups.

Global links are numbered by the group they leave, then by how many places on the other group is (1, 2, ...),
then by the parallel link; the port that holds one follows, and so does the switch of that port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clustersim.network.draft import Draft, cable
from clustersim.network.hashing import detours
from clustersim.network.topology import Array
from clustersim.spec.interconnect import Paths
from clustersim.spec.switched import Dragonfly, DragonflyPlus


@dataclass(frozen=True, slots=True)
class Groups:
    """The wiring; *spines* is 0 where the routers of a group all meet."""

    groups: int
    leaves: int
    """Switches of a group that hold endpoints."""
    spines: int
    hosts: int
    ports: int
    """Global ports of a switch that has any."""
    parallel: int
    first: tuple[int, ...]
    """First link of: host up, host down, local up, local down, global."""
    capacity_bytes_per_s: tuple[float, ...]
    """Of a host, local and global link."""

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "single", "valiant")

    @property
    def ways(self) -> int:
        """Parallel global links, or the spines inside a group."""
        return self.parallel * max(1, self.spines)

    @property
    def diameter(self) -> int:
        """Up, to the global link, across, from it, down."""
        return 5 if self.leaves > 1 or self.spines else 3

    @property
    def bisection_bytes_per_s(self) -> float:
        """Global links between two halves of the groups, or the hosts of one."""
        host, _, far = self.capacity_bytes_per_s
        half = self.groups // 2
        across = half * (self.groups - half) * self.parallel * far
        return min(across, half * self.leaves * self.hosts * host)

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return minimal paths; valiant, between groups by way of a third group chosen by a hash."""
        if mode == "single":
            choice = target.astype(np.uint64)
        (group, at), (end, to) = (divmod(ends // self.hosts, self.leaves) for ends in (source, target))
        stops = [end]
        if mode == "valiant":
            stops.insert(0, np.where(group == end, end, detours(choice, self.groups)))
        hops = [self.first[0] + source]
        for stop in stops:
            more, at = self._to_group(group, at, stop, choice)
            hops, group = [*hops, *more], stop
        hops += [*self._local(group, at, to, choice), self.first[1] + target]
        return np.stack(hops, axis=1)

    def _to_group(self, group: Array, at: Array, stop: Array, choice: Array) -> tuple[list[Array], Array]:
        """Return the links to another group, and the switch at which they end; none if already there."""
        copy, there = (choice % np.uint64(self.parallel)).astype(np.int64), group == stop
        gate, place = self.gate(group, stop, copy)
        across = self.first[4] + (group * (self.groups - 1) + place) * self.parallel + copy
        local = self._local(group, at, np.where(there, at, gate), choice)
        landing, _ = self.gate(stop, group, copy)
        return [*local, np.where(there, -1, across)], np.where(there, at, landing)

    def gate(self, group: Array, other: Array, copy: Array) -> tuple[Array, Array]:
        """Return the switch that holds a global link, and how far on the other group is, less one."""
        place = (other - group - 1) % self.groups
        port = place + copy * (self.groups - 1)
        return port // self.ports + (self.leaves if self.spines else 0), place

    def _local(self, group: Array, at: Array, to: Array, choice: Array) -> list[Array]:
        """Return the links between two switches of a group; spines are numbered after the leaves."""
        if not self.spines:
            number = (group * self.leaves + at) * (self.leaves - 1) + to - (to > at)
            return [np.where(at == to, -1, self.first[2] + number)]
        rest = choice // np.uint64(self.parallel)
        spine, leaf = ((rest % np.uint64(n)).astype(np.int64) for n in (self.spines, self.leaves))
        from_leaf, to_leaf = at < self.leaves, to < self.leaves
        up = self._leaf_spine(group, at, np.where(to_leaf, spine, to - self.leaves))
        down = self._leaf_spine(group, np.where(to_leaf, to, leaf), at - self.leaves)
        one = np.where(from_leaf, self.first[2] + up, self.first[3] + down)
        down = self._leaf_spine(group, to, spine)
        up = self._leaf_spine(group, leaf, to - self.leaves)
        two = np.where(from_leaf, self.first[3] + down, self.first[2] + up)
        return [np.where(at == to, -1, one), np.where((at == to) | (from_leaf != to_leaf), -1, two)]

    def _leaf_spine(self, group: Array, leaf: Array, spine: Array) -> Array:
        return (group * self.leaves + leaf) * self.spines + spine


def wire_dragonfly(draft: Draft, fabric: Dragonfly | DragonflyPlus, ends: Array) -> Groups:
    """Add the switches and links of a dragonfly around the vertices *ends*."""
    plus = isinstance(fabric, DragonflyPlus)
    leaves = fabric.leaves if isinstance(fabric, DragonflyPlus) else fabric.routers
    spines = fabric.spines if isinstance(fabric, DragonflyPlus) else 0
    kinds = [cable(fabric, tier) for tier in ("host", "local", "global")]
    lower = draft.layer("leaf" if plus else "router", fabric.groups * leaves)
    upper = draft.layer("spine", fabric.groups * spines) if plus else lower
    host = draft.both_ways(kinds[0], ends, lower[np.arange(len(ends)) // fabric.hosts])
    if plus:
        leaf = np.repeat(np.arange(len(lower)), spines)
        spine = leaf // leaves * spines + np.tile(np.arange(spines), len(lower))
        local = draft.both_ways(kinds[1], lower[leaf], upper[spine])
    else:
        router = np.repeat(np.arange(len(lower)), leaves - 1)
        place = np.tile(np.arange(leaves - 1), len(lower))
        other = place + (place >= router % leaves) + router // leaves * leaves
        local = draft.one_way(kinds[1], lower[router], lower[other]), 0
    capacity = tuple(kind.capacity_bytes_per_s for kind in kinds)
    counts = (fabric.groups, leaves, spines, fabric.hosts, fabric.global_ports, fabric.links_per_pair)
    groups = Groups(*counts, (*host, *local, draft.links), capacity)
    draft.one_way(kinds[2], *_global_ends(groups, upper))
    return groups


def _global_ends(g: Groups, holders: Array) -> list[Array]:
    """Return the switches at both ends of every global link; *holders* are those with global ports."""
    group, place, copy = np.indices((g.groups, g.groups - 1, g.parallel))
    other = (group + place + 1) % g.groups
    each, before = (g.spines, g.leaves) if g.spines else (g.leaves, 0)
    pairs = ((group, other), (other, group))
    return [holders[a * each + g.gate(a, b, copy)[0] - before].ravel() for a, b in pairs]
