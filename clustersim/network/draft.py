"""A topology while it is wired: layers of vertices, blocks of links and bundles, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clustersim.network.topology import Array, Layer, Topology, Wiring
from clustersim.spec.interconnect import Fabric, LinkClass


@dataclass(frozen=True, slots=True)
class Cable:
    """A class of links of a tier, with what the transport makes of its capacity."""

    tier: str
    capacity_bytes_per_s: float
    latency_s: float


def cable(fabric: Fabric, tier: str) -> Cable:
    """Return the links of a tier of *fabric*; outside scale-up domains the transport takes its toll."""
    link: LinkClass = fabric.links[tier]
    share = 1.0 if tier == "scale_up" else fabric.routing.transport_share
    return Cable(tier, link.capacity_bytes_per_s * share, link.latency)


@dataclass(slots=True)
class _Block:
    """Consecutive resources; without ends they are bundles."""

    tier: Array
    capacity_bytes_per_s: Array
    latency_s: Array
    width: Array
    source: Array
    target: Array


def _block(tier: int, kind: Cable, width: Array, ends: tuple[Array, Array]) -> _Block:
    count = len(width)
    capacity = width * kind.capacity_bytes_per_s
    tiers, latency = np.full(count, tier, np.int16), np.full(count, kind.latency_s)
    return _Block(tiers, capacity, latency, width, *ends)


_NOBODY = np.zeros(0, np.int32)


@dataclass(slots=True)
class Draft:
    """Collects what families of topologies add, and numbers it."""

    layers: list[Layer] = field(default_factory=list)
    tiers: dict[str, int] = field(default_factory=dict)
    blocks: list[_Block] = field(default_factory=list)
    bundled: list[_Block] = field(default_factory=list)
    links: int = 0
    bundles: int = 0
    vertices: int = 0
    prefix: str = ""
    """Set before the names of layers, for networks of several parts."""

    def layer(self, name: str, count: int) -> Array:
        """Add *count* vertices and return their numbers."""
        numbers = np.arange(self.vertices, self.vertices + count)
        if count:
            self.layers.append(Layer(self.prefix + name, self.vertices, count))
        self.vertices += count
        return numbers

    def one_way(self, kind: Cable, source: Array, target: Array) -> int:
        """Add a block of links and return the number of the first."""
        first, count = self.links, len(source)
        ends = source.astype(np.int32), target.astype(np.int32)
        self.blocks.append(_block(self._tier(kind), kind, np.ones(count), ends))
        self.links += count
        return first

    def both_ways(self, kind: Cable, lower: Array, upper: Array) -> tuple[int, int]:
        """Add a block of links up and the same down, and return the first of each."""
        return self.one_way(kind, lower, upper), self.one_way(kind, upper, lower)

    def change(self, kind: Cable, which: Array) -> None:
        """Make the links of the last block that *which* marks links of another tier."""
        block = self.blocks[-1]
        block.tier[which] = self._tier(kind)
        block.capacity_bytes_per_s[which] = kind.capacity_bytes_per_s
        block.latency_s[which] = kind.latency_s

    def bundle(self, kind: Cable, width: int, count: int) -> int:
        """Add *count* bundles of *width* links and return what stands for the first of them in a path.

        In a path a bundle is a number below -1, because links are still being counted: -2 is the first.
        """
        first = -2 - self.bundles
        self.bundled.append(_block(self._tier(kind), kind, np.full(count, float(width)), (_NOBODY, _NOBODY)))
        self.bundles += count
        return first

    def _tier(self, kind: Cable) -> int:
        return self.tiers.setdefault(kind.tier, len(self.tiers))

    def finish(self, wiring: Wiring, fabric: Fabric, endpoints: int, names: tuple[str, ...] = ()) -> Topology:
        """Return the topology."""
        blocks = [*self.blocks, *self.bundled]

        def joined(attribute: str) -> Array:
            return np.concatenate([getattr(block, attribute) for block in blocks])

        arrays: dict[str, Any] = {
            name: joined(name)
            for name in ("source", "target", "tier", "capacity_bytes_per_s", "latency_s", "width")
        }
        return Topology(
            name=fabric.name,
            kind=str(getattr(fabric, "kind", "")),
            endpoints=endpoints,
            layers=tuple(self.layers),
            tiers=tuple(self.tiers),
            wiring=wiring,
            routing=fabric.routing,
            names=names,
            **arrays,
        )
