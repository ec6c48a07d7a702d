"""Scale-up domains: inside a node, in meshes, on PCI Express trees, and before a network outside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clustersim.network.clos import Clos
from clustersim.network.draft import Draft, cable
from clustersim.network.hashing import detours
from clustersim.network.topology import Array, Wiring
from clustersim.spec.fabric import FullMesh, NodeFabric
from clustersim.spec.interconnect import Fabric, Paths, ScaleUp


@dataclass(frozen=True, slots=True)
class Mesh:
    """Groups of *size* endpoints, in each of which everyone has a link to everyone else."""

    size: int
    groups: int
    first: int
    capacity_bytes_per_s: float

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "spread", "single", "valiant")
    ways: ClassVar[int] = 1

    @property
    def diameter(self) -> int:
        """One link."""
        return 1

    @property
    def bisection_bytes_per_s(self) -> float:
        """Everyone of one half to everyone of the other."""
        return (self.size // 2) * (self.size - self.size // 2) * self.capacity_bytes_per_s

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the direct link; valiant, the two links over a third endpoint."""
        if mode == "valiant":
            third = detours(choice, self.size) + source // self.size * self.size
            return np.column_stack([self._link(source, third), self._link(third, target)])
        return self._link(source, target)[:, None]

    def _link(self, source: Array, target: Array) -> Array:
        place = target % self.size - (target > source)
        return np.where(source == target, -1, self.first + source * (self.size - 1) + place)


def wire_mesh(draft: Draft, fabric: Fabric, ends: Array, size: int, tier: str) -> Mesh:
    """Join everyone to everyone in groups of *size*."""
    groups = len(ends) // size
    source = np.repeat(np.arange(len(ends)), size - 1)
    place = np.tile(np.arange(size - 1), len(ends))
    target = place + (place >= source % size) + source // size * size
    kind = cable(fabric, tier)
    first = draft.one_way(kind, ends[source], ends[target])
    return Mesh(size, groups, first, kind.capacity_bytes_per_s)


def wire_full_mesh(draft: Draft, fabric: FullMesh, ends: Array) -> Mesh:
    """Join everyone to everyone."""
    return wire_mesh(draft, fabric, ends, len(ends), "mesh")


@dataclass(frozen=True, slots=True)
class Crossbars:
    """Groups of *size* endpoints, each group on a switch of its own."""

    size: int
    up: int
    down: int
    capacity_bytes_per_s: float

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "spread", "single")
    ways: ClassVar[int] = 1
    diameter: ClassVar[int] = 2

    @property
    def bisection_bytes_per_s(self) -> float:
        """Half of the endpoints of a group, all sending."""
        return self.size // 2 * self.capacity_bytes_per_s

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the way to the switch and from it."""
        return np.column_stack([self.up + source, self.down + target])


def wire_crossbars(draft: Draft, fabric: Fabric, ends: Array, size: int) -> Crossbars:
    """Give every group of *size* endpoints a switch."""
    switches = draft.layer("node switch", len(ends) // size)
    kind = cable(fabric, "scale_up")
    up, down = draft.both_ways(kind, ends, switches[np.arange(len(ends)) // size])
    return Crossbars(size, up, down, kind.capacity_bytes_per_s)


@dataclass(frozen=True, slots=True)
class Domains:
    """Scale-up domains of *size* endpoints each before a network that joins them."""

    inner: Crossbars | Mesh
    outer: Wiring
    size: int
    rails: int = 0
    """With PXN, the rails; between two of them the first hop is inside the sender's own node."""

    @property
    def modes(self) -> tuple[Paths, ...]:
        """Those of the network outside."""
        return self.outer.modes

    @property
    def ways(self) -> int:
        """Those of the network outside."""
        return self.outer.ways

    @property
    def diameter(self) -> int | None:
        """That of the network outside; with PXN that of one rail and the hop before it."""
        if not self.rails or not isinstance(self.outer, Clos):
            return self.outer.diameter
        hop = self.inner.diameter if self.rails > 1 else 0
        return self.outer.rail_diameter + hop

    @property
    def bisection_bytes_per_s(self) -> float | None:
        """That of the network outside."""
        return self.outer.bisection_bytes_per_s

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the path inside the domain, or outside it, after the hop to the receiver's rail."""
        within = source // self.size == target // self.size
        entry = source
        if self.rails:
            entry = np.where(within, source, source - source % self.rails + target % self.rails)
        hops = self.inner.paths(source, np.where(within, target, entry), choice, "single")
        hops[(source == entry) & ~within] = -1
        beyond = np.flatnonzero(~within)
        outside = self.outer.paths(entry[beyond], target[beyond], choice[beyond], mode)
        found = np.full((len(source), hops.shape[1] + outside.shape[1]), -1, np.int64)
        found[:, : hops.shape[1]] = hops
        found[beyond, hops.shape[1] :] = outside
        return found


def wire_domains(draft: Draft, fabric: Fabric, ends: Array) -> Crossbars | Mesh:
    """Add the links inside the scale-up domains of *fabric*."""
    group: ScaleUp = fabric.scale_up or ScaleUp(size=1)
    if group.layout == "mesh":
        return wire_mesh(draft, fabric, ends, group.size, "scale_up")
    return wire_crossbars(draft, fabric, ends, group.size)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of PCI Express switches and root complexes; endpoints are accelerators, then host memories.

    Blocks, up and down: an accelerator's lane, a switch's uplink, a socket's memory; then socket to socket.
    """

    accelerators: int
    per_switch: int
    per_socket: int
    sockets: int
    first: tuple[int, ...]
    """First link of: lane up, lane down, uplink up, down, memory up, down, sockets."""
    capacity_bytes_per_s: tuple[float, ...]
    """Of a lane, an uplink, a memory, a line between sockets."""

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "spread", "single")
    ways: ClassVar[int] = 1

    @property
    def diameter(self) -> int:
        """Lane and uplink on both sides, and the line between sockets."""
        if self.sockets > 1:
            return 5
        return 2 if self.per_switch == self.accelerators else 4

    @property
    def bisection_bytes_per_s(self) -> float:
        """The narrowest of lanes, uplinks and lines between two halves of the accelerators."""
        lane, uplink, _, line = self.capacity_bytes_per_s
        switches, near = self.accelerators // self.per_switch, self.sockets // 2
        widths = [self.accelerators // 2 * lane]
        if switches > 1:
            widths.append(switches // 2 * uplink)
        if self.sockets > 1:
            widths.append(near * (self.sockets - near) * line)
        return min(widths)

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return lane, uplink, line between sockets, uplink, lane, as far as each is needed."""
        found = np.full((len(source), 5), -1, np.int64)
        here, there = self._socket(source), self._socket(target)
        split = here != there
        place = there - (there > here)
        line = self.first[6] + here * (self.sockets - 1) + place
        found[split, 2] = line[split]
        apart = self._switch(source) != self._switch(target)
        for side, ends in enumerate((source, target)):
            self._climb(found, ends, apart, side)
        found[source == target] = -1
        return found

    def _climb(self, found: Array, ends: Array, apart: Array, side: int) -> None:
        is_memory = ends >= self.accelerators
        lane = self.first[side] + ends
        memory = self.first[4 + side] + ends - self.accelerators
        found[:, 4 * side] = np.where(is_memory, memory, lane)
        through = apart & ~is_memory
        found[through, 1 + 2 * side] = (self.first[2 + side] + ends // self.per_switch)[through]

    def _switch(self, ends: Array) -> Array:
        return np.where(ends < self.accelerators, ends // self.per_switch, -1 - ends)

    def _socket(self, ends: Array) -> Array:
        return np.where(ends < self.accelerators, ends // self.per_socket, ends - self.accelerators)


def wire_tree(draft: Draft, fabric: NodeFabric, ends: Array) -> Tree:
    """Add the switches, root complexes and lines of a PCI Express tree."""
    n, sockets = fabric.accelerators, fabric.sockets
    switches, roots = (
        draft.layer("switch", sockets * fabric.switches_per_socket),
        draft.layer("root", sockets),
    )
    per_switch, per_socket = n // len(switches), n // sockets
    tiers = [cable(fabric, tier) for tier in ("lane", "uplink", "memory")]
    lanes = draft.both_ways(tiers[0], ends[:n], switches[np.arange(n) // per_switch])
    above = roots[np.arange(len(switches)) // fabric.switches_per_socket]
    uplinks = draft.both_ways(tiers[1], switches, above)
    memories = draft.both_ways(tiers[2], ends[n:], roots)
    lines = draft.links
    if sockets > 1:
        tiers.append(cable(fabric, "socket"))
        wire_mesh(draft, fabric, roots, sockets, "socket")
    capacity = tuple(kind.capacity_bytes_per_s for kind in tiers) + (0.0,) * (4 - len(tiers))
    return Tree(n, per_switch, per_socket, sockets, (*lanes, *uplinks, *memories, lines), capacity)
