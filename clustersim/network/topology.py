"""An interconnect as arrays: who is joined to whom, by links of which capacity. Pure data, no clock.

*Links* are directed and numbered from 0; a cable is two of them. After the links come the *bundles*: groups
of equal parallel links, each as one link of the summed capacity, which stand for them where traffic spreads
evenly. Links and bundles together are the *resources* that capacities, latencies and tiers are listed for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.spec.interconnect import Paths, Routing

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray[Any, Any]


class Wiring(Protocol):
    """What a family of topologies knows by arithmetic: paths, and a few closed forms."""

    @property
    def ways(self) -> int:
        """Equal paths among which a flow can choose: the selectors 0, 1, ... give each in turn."""

    @property
    def modes(self) -> tuple[Paths, ...]:
        """The ways to choose paths that it offers itself."""

    @property
    def diameter(self) -> int | None:
        """Most links on a minimal path between endpoints; None where no closed form is known."""

    @property
    def bisection_bytes_per_s(self) -> float | None:
        """Capacity from one half of the endpoints to the other, one direction; None where unknown."""

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return the resources along each path, one row each, -1 where there is none.

        *choice* is one unsigned number a flow; the same number always selects the same path. In the mode
        ``spread`` rows may name bundles: a number -2 - b stands for bundle b.
        """


@dataclass(frozen=True, slots=True)
class Layer:
    """Vertices of one sort, numbered from *first* on."""

    name: str
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """An interconnect ready to compute on; endpoints are the vertices 0, 1, ... of the first layers."""

    name: str
    kind: str
    endpoints: int
    """Whom a path can join: accelerators, then any host memories."""
    layers: tuple[Layer, ...]
    tiers: tuple[str, ...]
    source: Array
    """Vertex at the start of each link."""
    target: Array
    tier: Array
    """Of each resource, a place in ``tiers``."""
    capacity_bytes_per_s: Array
    latency_s: Array
    width: Array
    """Links that each resource stands for: 1, or those of a bundle."""
    wiring: Wiring
    routing: Routing
    names: tuple[str, ...] = ()
    """Names of the first vertices, where the user gave any."""

    @property
    def links(self) -> int:
        """Directed links, bundles not counted."""
        return len(self.source)

    @property
    def resources(self) -> int:
        """Links and bundles."""
        return len(self.capacity_bytes_per_s)

    @property
    def vertices(self) -> int:
        """Endpoints and switches."""
        return sum(layer.count for layer in self.layers)

    def vertex_name(self, vertex: int) -> str:
        """Return what a vertex is called: its own name, or its layer's with its number there."""
        if vertex < len(self.names):
            return self.names[vertex]
        for layer in self.layers:
            if layer.first <= vertex < layer.first + layer.count:
                return f"{layer.name} {vertex - layer.first}"
        raise ClusterSimError(f"vertex {vertex} is not in {self.name}, which has {self.vertices:,}")

    def endpoint(self, name: str) -> int:
        """Return the number of the endpoint that is called *name*; raise UnknownNameError if none is."""
        if name in self.names[: self.endpoints]:
            return self.names.index(name)
        word, _, number = name.rpartition(" ")
        for layer in self.layers:
            fits = word == layer.name and number.isdigit() and int(number) < layer.count
            if fits and layer.first + int(number) < self.endpoints:
                return layer.first + int(number)
        raise UnknownNameError(f"endpoint of {self.name}", name, self._some_names())

    def _some_names(self) -> list[str]:
        return [self.vertex_name(vertex) for vertex in range(min(self.endpoints, 1024))]

    def group(self, count: int, first: int = 0) -> Array:
        """Return *count* endpoints from *first* on; raise ClusterSimError if the fabric has fewer."""
        if count < 1 or first < 0 or first + count > self.endpoints:
            start = f" from {first:,} on" if first else ""
            raise ClusterSimError(
                f"{count:,} accelerators{start} do not fit: {self.name} has {self.endpoints:,}; "
                "ask for fewer, or take a larger fabric"
            )
        return np.arange(first, first + count)

    def tier_of(self, resource: int) -> str:
        """Return the name of the tier of a link or bundle."""
        return self.tiers[int(self.tier[resource])]

    def resource_name(self, resource: int) -> str:
        """Return what a link or bundle is called: its ends, or its tier and a number."""
        if resource < self.links:
            ends = int(self.source[resource]), int(self.target[resource])
            return " > ".join(map(self.vertex_name, ends))
        return f"{self.tier_of(resource)} bundle {resource - self.links}"

    def to_networkx(self) -> nx.DiGraph:
        """Return the graph for inspection and drawing; parallel links become one edge of their sum."""
        import networkx as nx

        graph = nx.DiGraph(name=self.name)
        for layer in self.layers:
            for vertex in range(layer.first, layer.first + layer.count):
                is_end = vertex < self.endpoints
                graph.add_node(self.vertex_name(vertex), layer=layer.name, number=vertex, endpoint=is_end)
        for edge, links in self._edges().items():
            start, end = map(self.vertex_name, edge)
            graph.add_edge(start, end, **self._attributes(links))
        return graph

    def _edges(self) -> dict[tuple[int, int], list[int]]:
        edges: dict[tuple[int, int], list[int]] = {}
        ends = zip(self.source.tolist(), self.target.tolist(), strict=True)
        for link, edge in enumerate(ends):
            edges.setdefault(edge, []).append(link)
        return edges

    def _attributes(self, links: list[int]) -> dict[str, Any]:
        return {
            "tier": self.tier_of(links[0]),
            "links": len(links),
            "bandwidth_bytes_per_s": float(self.capacity_bytes_per_s[links].sum()),
            "latency_s": float(self.latency_s[links].max()),
        }
