"""Which links traffic uses: paths of single flows, and what a transfer or collective puts on every link.

Everything is vectorised over flows, and a path is arithmetic on the numbers of its ends: nothing searches
for shortest paths, but for graphs that users bring. Pure functions, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.network.hashing import hashed
from clustersim.network.topology import Array, Topology
from clustersim.spec.interconnect import Paths

MOST_WAYS: Final = 64
"""Over how many equal paths, at most, a flow is spread where no bundles stand for all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Who sends to whom, and how many bytes for each byte of the message."""

    source: Array
    target: Array
    share: Array

    @classmethod
    def of(cls, source: Any, target: Any, share: Any = 1.0) -> Traffic:
        """Return the traffic between pairs of endpoints; one *share* serves them all."""
        ends = np.broadcast_arrays(np.atleast_1d(source), np.atleast_1d(target))
        shares = np.broadcast_to(np.asarray(share, dtype=np.float64), ends[0].shape)
        return cls(ends[0].astype(np.int64), ends[1].astype(np.int64), shares.copy())


@dataclass(frozen=True, slots=True, eq=False)
class LinkLoad:
    """What one activity puts on the network: bytes on each link for each byte of its message."""

    links: Array
    """Links or bundles, each at most once."""
    weights: Array
    latency_s: float = 0.0
    cap_bytes_per_s: float = np.inf
    """The fastest that the message goes for other reasons than links."""
    traffic: Traffic | None = None
    """The pairs behind it, for the fidelity that follows every flow."""

    def alone_s(self, topology: Topology, size_bytes: float) -> float:
        """Return the seconds that *size_bytes* take on an empty network."""
        return self.latency_s + size_bytes / self.alone_bytes_per_s(topology)

    def alone_bytes_per_s(self, topology: Topology) -> float:
        """Return the speed of the message on an empty network."""
        if not len(self.links):
            return self.cap_bytes_per_s
        widest = topology.capacity_bytes_per_s[self.links] / self.weights
        return float(min(widest.min(), self.cap_bytes_per_s))


def routes(topology: Topology, source: Any, target: Any, flow: Any = 0, mode: Paths | None = None) -> Array:
    """Return the resources on the path of each flow, int32 [flows, hops], -1 where there is none.

    ``ecmp`` hashes the ends and the number of the *flow*; ``single`` lets the destination decide; ``spread``
    gives the bundles that stand for all paths, where the topology has them; ``valiant`` detours. The mode is
    the topology's own unless given. Raises ClusterSimError for an endpoint or mode that there is not.
    """
    mode = mode or topology.routing.paths
    _check_mode(topology, mode)
    start, end, number = np.broadcast_arrays(*map(np.atleast_1d, (source, target, flow)))
    ends = _ends(topology, start, end)
    return _resources(topology, *ends, hashed(*ends, number), mode)


def link_load(topology: Topology, traffic: Traffic, mode: Paths | None = None, flow: int = 0) -> LinkLoad:
    """Return what *traffic* puts on the links, per byte of the message, and its longest path's latency.

    A hashed flow is divided among the topology's queue pairs, numbered from *flow* on, each with a path of
    its own; a spread one among all paths.
    """
    mode = mode or topology.routing.paths
    paths, owner, share = _divided(topology, traffic, mode, flow)
    if len(paths) == 1:
        links = paths[0][paths[0] >= 0]
        latency_s = float(topology.latency_s[links].sum())
        return LinkLoad(links, np.full(len(links), traffic.share[0]), latency_s, traffic=traffic)
    used = paths >= 0
    links, place = np.unique(paths[used], return_inverse=True)
    bytes_of = np.broadcast_to((traffic.share[owner] * share)[:, None], paths.shape)[used]
    weights = np.bincount(place, weights=bytes_of, minlength=len(links))
    latency_s = float(path_latency_s(topology, paths).max(initial=0.0))
    kept = weights > 0
    return LinkLoad(links[kept], weights[kept], latency_s, traffic=traffic)


def path_latency_s(topology: Topology, paths: Array) -> Array:
    """Return the latency of each path."""
    return np.asarray(np.where(paths >= 0, topology.latency_s[paths], 0.0).sum(axis=1))


def queue_pairs(topology: Topology, mode: Paths | None = None) -> int:
    """Return into how many flows a transfer is divided: those of the routing, where paths are hashed."""
    return topology.routing.queue_pairs if (mode or topology.routing.paths) in ("ecmp", "valiant") else 1


def _divided(topology: Topology, traffic: Traffic, mode: Paths, flow: int) -> tuple[Array, Array, float]:
    """Return the paths of all parts of all pairs, the pair of each, and the share of a part."""
    pairs = np.arange(len(traffic.source))
    ends = _ends(topology, traffic.source, traffic.target)
    if mode == "spread" and "spread" not in topology.wiring.modes:
        ways = min(topology.wiring.ways, MOST_WAYS)
        owner, choice = np.repeat(pairs, ways), np.tile(np.arange(ways, dtype=np.uint64), len(pairs))
        return _resources(topology, ends[0][owner], ends[1][owner], choice, "ecmp"), owner, 1.0 / ways
    parts = queue_pairs(topology, mode)
    owner, number = np.repeat(pairs, parts), np.tile(np.arange(flow, flow + parts), len(pairs))
    paths = routes(topology, ends[0][owner], ends[1][owner], number, mode)
    return paths, owner, 1.0 / parts


def _resources(topology: Topology, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
    found = topology.wiring.paths(source, target, choice, mode)
    found = np.where(found < -1, topology.links - 2 - found, found)
    found[source == target] = -1
    return found.astype(np.int32)


def _check_mode(topology: Topology, mode: Paths) -> None:
    if mode not in topology.wiring.modes:
        allowed = ", ".join(topology.wiring.modes)
        raise ClusterSimError(f"{topology.name} ({topology.kind}) has no {mode!r} paths; allowed: {allowed}")


def _ends(topology: Topology, source: Any, target: Any) -> tuple[Array, Array]:
    """Return both ends of each flow, checked."""
    ends = np.broadcast_arrays(np.atleast_1d(source), np.atleast_1d(target))
    for side in ends:
        wrong = (side < 0) | (side >= topology.endpoints)
        if wrong.any():
            raise ClusterSimError(
                f"endpoint {side[wrong][0]} is not in {topology.name}, which has {topology.endpoints:,} "
                f"(0 to {topology.endpoints - 1:,})"
            )
    return ends[0].astype(np.int64), ends[1].astype(np.int64)
