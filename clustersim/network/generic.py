"""Any graph: shortest paths by breadth-first search from each destination, for small networks only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.network.draft import Cable, Draft
from clustersim.network.hashing import mixed
from clustersim.network.topology import Array, Layer, Topology
from clustersim.spec.direct import Graph
from clustersim.spec.graphs import Edge
from clustersim.spec.interconnect import Paths

MOST_VERTICES: Final = 20_000
SAMPLES: Final = 16
"""Paths over which a flow is spread where there is no closed form for all of them."""
_FAR: Final = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True, eq=False)
class Ways:
    """For one destination: at each vertex, the links that lead nearer to it."""

    distance: Array
    links: Array
    start: Array
    count: Array


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """The wiring of a graph, with what has been searched so far."""

    vertices: int
    source: Array
    target: Array
    known: dict[int, Ways] = field(default_factory=dict)

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "single")
    ways: ClassVar[int] = SAMPLES
    bisection_bytes_per_s: ClassVar[None] = None

    @property
    def diameter(self) -> int | None:
        """Unknown without looking at every pair."""
        return None

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return shortest paths (in links); at every vertex a hash chooses among the next links."""
        if mode == "single":
            choice = target.astype(np.uint64)
        order = np.argsort(target, kind="stable")
        ends, begin = np.unique(target[order], return_index=True)
        groups = np.split(order, begin[1:])
        found = [self._to(int(t), source[g], choice[g]) for t, g in zip(ends, groups, strict=True)]
        paths = np.full((len(source), max((f.shape[1] for f in found), default=1)), -1, np.int64)
        for flows, part in zip(groups, found, strict=True):
            paths[flows, : part.shape[1]] = part
        return paths

    def _to(self, target: int, source: Array, choice: Array) -> Array:
        """Return the paths of some flows to one destination."""
        ways = self.toward(target)
        hops: list[Array] = []
        at, turn = source.copy(), 0
        while True:
            moving = at != target
            if not moving.any():
                return np.stack(hops, axis=1) if hops else np.full((len(source), 1), -1, np.int64)
            pick = mixed(choice + np.uint64(turn)) % np.maximum(ways.count[at], 1).astype(np.uint64)
            link = ways.links[np.minimum(ways.start[at] + pick.astype(np.int64), len(ways.links) - 1)]
            hops.append(np.where(moving, link, -1))
            at, turn = np.where(moving, self.target[link], at), turn + 1

    def toward(self, target: int) -> Ways:
        """Search from *target* against the links, once."""
        if target not in self.known:
            distance = _search(target, self.vertices, self.target, self.source)
            if (distance[self.source] == _FAR).any():
                reachable = distance < _FAR
            else:
                reachable = np.ones(self.vertices, bool)
            nearer = reachable[self.source] & (distance[self.target] == distance[self.source] - 1)
            links = np.flatnonzero(nearer)
            links = links[np.argsort(self.source[links], kind="stable")]
            count = np.bincount(self.source[links], minlength=self.vertices)
            self.known[target] = Ways(distance, links, np.cumsum(count) - count, count)
        return self.known[target]


def _search(start: int, vertices: int, source: Array, target: Array) -> Array:
    """Return the distance of every vertex from *start* along links from *source* to *target*."""
    distance = np.full(vertices, _FAR, np.int64)
    distance[start] = 0
    reached, step = np.array([start]), 0
    while len(reached):
        step += 1
        next_to = np.zeros(vertices, bool)
        next_to[target[np.isin(source, reached)]] = True
        reached = np.flatnonzero(next_to & (distance == _FAR))
        distance[reached] = step
    return distance


def build_graph(fabric: Graph) -> Topology:
    """Return the topology of a graph; raise ClusterSimError if it is too large or in pieces."""
    ends = list(fabric.leaves)
    names = list(dict.fromkeys([*ends, *(v for e in fabric.edges for v in (e.source, e.target))]))
    _check_size(fabric.name, len(names), len(ends))
    draft = Draft(layers=[Layer("endpoint", 0, len(ends))], vertices=len(ends))
    draft.layer("vertex", len(names) - len(ends))
    number = {name: place for place, name in enumerate(names)}
    for edge in fabric.edges:
        a, b = (np.array([number[name]]) for name in (edge.source, edge.target))
        kind = _cable(fabric, edge)
        draft.one_way(kind, a, b)
        if not edge.one_way:
            draft.one_way(kind, b, a)
    source, target = (
        np.concatenate([getattr(b, side) for b in draft.blocks]) for side in ("source", "target")
    )
    _check_joined(fabric.name, names, len(ends), (source, target))
    wiring = Searched(len(names), source.astype(np.int64), target.astype(np.int64))
    return draft.finish(wiring, fabric, len(ends), tuple(names))


def _check_size(name: str, vertices: int, ends: int) -> None:
    if vertices > MOST_VERTICES:
        raise ClusterSimError(
            f"{name} has {vertices:,} vertices; paths are searched in graphs of up to {MOST_VERTICES:,}: "
            "describe a larger network by its shape"
        )
    if not ends:
        raise ClusterSimError(f"{name} has no endpoints: name them in the field endpoints")


def _cable(fabric: Graph, edge: Edge) -> Cable:
    share = fabric.routing.transport_share
    if edge.link is not None:
        link = fabric.links[edge.link]
        return Cable(edge.tier or edge.link, link.capacity_bytes_per_s * share, link.latency)
    return Cable(edge.tier or "link", (edge.bandwidth or 0.0) * share, edge.latency or 0.0)


def _check_joined(name: str, names: list[str], ends: int, links: tuple[Array, Array]) -> None:
    """Raise ClusterSimError unless every endpoint reaches every other."""
    for source, target, way in ((*links, "from"), (*links[::-1], "to")):
        distance = _search(0, len(names), source, target)
        lost = np.flatnonzero(distance[:ends] == _FAR)
        if len(lost):
            raise ClusterSimError(
                f"{name} is in pieces: there is no path {way} {names[0]!r} "
                f"{'to' if way == 'from' else 'from'} {names[lost[0]]!r} and {len(lost) - 1:,} more of "
                f"{ends:,} endpoints; join them, or leave them out of endpoints"
            )
