"""Datacentres joined by long lines: traffic leaves by a border port and enters the other site by another.

The border ports of a site are ports of its own network, at which its gateway sits instead of accelerators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.network.domains import Domains
from clustersim.network.draft import Draft, cable
from clustersim.network.topology import Array, Wiring
from clustersim.spec.fabric import Wan
from clustersim.spec.interconnect import Paths


@dataclass(frozen=True, slots=True)
class Place:
    """A site: its first endpoint, how many, its wiring, its border ports, and how it routes."""

    first: int
    count: int
    wiring: Wiring
    border: int
    mode: Paths

    @property
    def outer(self) -> Wiring:
        """The network at whose ports the gateway sits."""
        return self.wiring.outer if isinstance(self.wiring, Domains) else self.wiring

    def port(self, endpoint: Array) -> Array:
        """Return the border port for an endpoint's traffic; rails keep to their own where they can."""
        return self.count + endpoint % self.border


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """The wiring of several sites."""

    sites: tuple[Place, ...]
    lines: Array
    """Links from gateway to gateway: by site, by other site, hop by hop; -1 where there is none."""
    capacity_bytes_per_s: tuple[float, ...]
    """Of the lines of each pair of sites, if there are two."""

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp",)

    @property
    def ways(self) -> int:
        """Those of the site that has most."""
        return max(place.wiring.ways for place in self.sites)

    @property
    def diameter(self) -> int | None:
        """Across two sites and the lines between them, or inside one."""
        inside = [place.wiring.diameter for place in self.sites]
        outside = [place.outer.diameter for place in self.sites]
        if None in inside or None in outside:
            return None
        count = len(self.sites)
        across = [
            (outside[a] or 0) + (outside[b] or 0) + int((self.lines[a, b] >= 0).sum())
            for a in range(count)
            for b in range(count)
            if a != b
        ]
        return max(*across, *(x or 0 for x in inside))

    @property
    def bisection_bytes_per_s(self) -> float | None:
        """Of two equal sites, what the lines between them carry."""
        counts = {place.count for place in self.sites}
        return sum(self.capacity_bytes_per_s) if len(self.sites) == 2 and len(counts) == 1 else None

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the path inside a site, or out of one, along the lines, and into the other."""
        starts = np.array([place.first for place in self.sites])
        here, there = (np.searchsorted(starts, ends, side="right") - 1 for ends in (source, target))
        parts: list[tuple[Array, list[Array]]] = []
        for a, place in enumerate(self.sites):
            for b, other in enumerate(self.sites):
                flows = np.flatnonzero((here == a) & (there == b))
                if not len(flows):
                    continue
                ends = source[flows] - place.first, target[flows] - other.first
                legs = _legs(place, other, ends, choice[flows])
                if a != b:
                    legs.insert(1, np.tile(self.lines[a, b], (len(flows), 1)))
                parts.append((flows, legs))
        return _stacked(len(source), parts)


def _legs(place: Place, other: Place, ends: tuple[Array, Array], choice: Array) -> list[Array]:
    """Return the paths inside a site, or out of one and into another, as each routes by itself."""
    source, target = ends
    if place is other:
        return [place.wiring.paths(source, target, choice, _mode(place, place.wiring))]
    out = place.outer.paths(source, place.port(source), choice, _mode(place, place.outer))
    into = other.outer.paths(other.port(target), target, choice, _mode(other, other.outer))
    return [out, into]


def _mode(place: Place, wiring: Wiring) -> Paths:
    """Return how a site routes: by hash where it would spread over paths that no bundles stand for."""
    return place.mode if place.mode in wiring.modes else "ecmp"


def _stacked(count: int, parts: list[tuple[Array, list[Array]]]) -> Array:
    joined = [(flows, np.concatenate(legs, axis=1)) for flows, legs in parts]
    found = np.full((count, max((rows.shape[1] for _, rows in joined), default=1)), -1, np.int64)
    for flows, rows in joined:
        found[flows, : rows.shape[1]] = rows
    return found


def wire_lines(draft: Draft, fabric: Wan, gateways: Array) -> tuple[Array, tuple[float, ...]]:
    """Add the lines; return the links of the path of least latency between every two sites."""
    place = {site.name: number for number, site in enumerate(fabric.sites)}
    count = len(place)
    cost = np.where(np.eye(count, dtype=bool), 0.0, np.inf)
    first = np.full((count, count), -1)
    capacity = []
    for line in fabric.lines:
        kind = cable(fabric, line.link)
        a, b = (place[name] for name in line.between)
        links = draft.both_ways(kind, gateways[[a]], gateways[[b]])
        capacity.append(kind.capacity_bytes_per_s)
        for start, end, link in ((a, b, links[0]), (b, a, links[1])):
            if kind.latency_s < cost[start, end]:
                cost[start, end], first[start, end] = kind.latency_s, link
    return _routes(fabric, cost, first), tuple(capacity)


def _routes(fabric: Wan, cost: Array, first: Array) -> Array:
    """Return the lines between every two sites, by least latency (Floyd and Warshall)."""
    count = len(cost)
    via = [[[int(first[a, b])] if first[a, b] >= 0 else [] for b in range(count)] for a in range(count)]
    for k in range(count):
        for a in range(count):
            for b in range(count):
                if cost[a, k] + cost[k, b] < cost[a, b]:
                    cost[a, b] = cost[a, k] + cost[k, b]
                    via[a][b] = via[a][k] + via[k][b]
    if np.isinf(cost).any():
        a, b = np.argwhere(np.isinf(cost))[0]
        names = fabric.sites[a].name, fabric.sites[b].name
        raise ClusterSimError(f"{fabric.name} is in pieces: no lines lead from {names[0]!r} to {names[1]!r}")
    longest = max(len(hops) for row in via for hops in row)
    return np.array([[hops + [-1] * (longest - len(hops)) for hops in row] for row in via])
