"""Interconnects without switches of their own: tori, full meshes, and any graph that a user brings."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationInfo, model_validator

from clustersim.errors import ClusterSimError, FieldError, choices
from clustersim.spec.graphs import Edge, from_networkx, from_node_link, read_graph
from clustersim.spec.interconnect import Fabric


class Torus(Fabric):
    """Accelerators on a grid, each with a link to either neighbour in every dimension.

    A dimension longer than two closes to a ring where *wrap* says so. *twisted*: the closing link of a
    dimension of n shifts every dimension of 2 n by n (shapes n x 2n, n x n x 2n, n x 2n x 2n). With a
    *cube*, links between cubes are optical circuits (tier ``optical``, if it has a class), which can be
    set to any *slice* before a job starts.
    """

    kind: Literal["torus"] = "torus"
    dimensions: tuple[PositiveInt, ...] = Field(min_length=1, max_length=6)
    wrap: bool | tuple[bool, ...] = True
    twisted: bool = False
    cube: PositiveInt | None = None
    accelerators: PositiveInt | None = None
    """If given, what the dimensions must multiply to."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        shape = "x".join(map(str, self.dimensions))
        if self.accelerators is not None and self.accelerators != prod(self.dimensions):
            raise FieldError(
                "dimensions", f"{shape} makes {prod(self.dimensions):,}, not {self.accelerators:,}"
            )
        if not isinstance(self.wrap, bool) and len(self.wrap) != len(self.dimensions):
            raise FieldError("wrap", f"needs one answer, or {len(self.dimensions)}")
        low, high = min(self.dimensions), max(self.dimensions)
        doubled = high == 2 * low and set(self.dimensions) == {low, high}
        if self.twisted and not (doubled and self.wrap is True):
            raise FieldError("twisted", f"needs a wrapped shape of n and 2n, such as 4x4x8, not {shape}")
        if self.cube is not None and any(n % self.cube for n in self.dimensions):
            raise FieldError("cube", f"{self.cube} does not divide {shape}")
        if self.scale_up is not None:
            raise FieldError("scale_up", "a torus joins accelerators itself")
        return self

    @property
    def wraps(self) -> tuple[bool, ...]:
        """For each dimension, whether it closes to a ring."""
        wrap = (self.wrap,) * len(self.dimensions) if isinstance(self.wrap, bool) else self.wrap
        return tuple(w and n > 2 for w, n in zip(wrap, self.dimensions, strict=True))

    def slice(self, *dimensions: int, twisted: bool = False) -> Torus:
        """Return the torus that the optical circuits make of some cubes; ClusterSimError if they cannot.

        A slice smaller than a cube is a grid inside it and closes to no ring.
        """
        shape = "x".join(map(str, dimensions))
        if self.cube is None:
            raise ClusterSimError(f"{self.name} has no optical circuits: its shape is fixed")
        if prod(dimensions) > self.size:
            raise ClusterSimError(f"a slice of {shape} needs {prod(dimensions):,} of {self.size:,} chips")
        whole = not any(n % self.cube for n in dimensions)
        if not whole and max(dimensions) > self.cube:
            raise ClusterSimError(f"a slice of {shape} is not made of cubes of {self.cube}, nor inside one")
        changes = {"dimensions": dimensions, "twisted": twisted, "wrap": whole, "accelerators": None}
        fields = {k: getattr(self, k) for k in type(self).model_fields} | changes
        return Torus.model_validate(fields | {"cube": self.cube if whole else None})

    @property
    def size(self) -> int:
        return prod(self.dimensions)

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("ici",)

    @property
    def optional_tiers(self) -> tuple[str, ...]:
        return ("optical",)


class FullMesh(Fabric):
    """A link from each accelerator to every other."""

    kind: Literal["full-mesh"] = "full-mesh"
    accelerators: Annotated[int, Field(ge=2)]

    @property
    def size(self) -> int:
        return self.accelerators

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("mesh",)


class Graph(Fabric):
    """Any network: edges written here, or in a *file* of edges (CSV), GraphML or node-link JSON.

    Endpoints are those named, else the vertices that the file marks, else those with a single neighbour.
    """

    kind: Literal["graph"] = "graph"
    file: Path | None = None
    edges: tuple[Edge, ...] = ()
    endpoints: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        """Take edges and endpoints from the file, so that the description holds all there is."""
        if not isinstance(data, Mapping) or data.get("file") is None or data.get("edges"):
            return data
        folder = Path((info.context or {}).get("folder") or Path())
        file = data["file"]
        found = from_node_link(file) if isinstance(file, Mapping) else read_graph(folder, Path(file))
        name = None if isinstance(file, Mapping) else file
        return {**data, "file": name, "edges": found[0], "endpoints": data.get("endpoints") or found[1]}

    @classmethod
    def of(cls, graph: Any, **fields: Any) -> Self:
        """Return the description of a networkx *graph*; see the manual for the attributes it reads."""
        edges, endpoints = from_networkx(graph)
        return cls.model_validate({"name": "graph", "endpoints": endpoints, **fields, "edges": edges})

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.edges:
            raise FieldError("edges", "is empty: give edges or a file of them")
        for number, edge in enumerate(self.edges):
            if edge.link is not None and edge.link not in self.links:
                known = choices(edge.link, self.links)
                raise FieldError(f"edges.{number}.link", f"unknown class of links {edge.link!r}; {known}")
        vertices = dict.fromkeys(name for edge in self.edges for name in (edge.source, edge.target))
        for number, name in enumerate(self.endpoints):
            if name not in vertices:
                known = choices(name, vertices)
                raise FieldError(f"endpoints.{number}", f"{name!r} is at the end of no edge; {known}")
        if self.scale_up is not None:
            raise FieldError("scale_up", "a graph says itself who is joined to whom")
        return self

    @property
    def leaves(self) -> tuple[str, ...]:
        """The endpoints' names, in order: those given, else the vertices with one neighbour."""
        if self.endpoints:
            return self.endpoints
        near: dict[str, set[str]] = {}
        for edge in self.edges:
            near.setdefault(edge.source, set()).add(edge.target)
            near.setdefault(edge.target, set()).add(edge.source)
        return tuple(name for name, others in near.items() if len(others) == 1)

    @property
    def size(self) -> int:
        return len(self.leaves)

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ()

    @property
    def optional_tiers(self) -> tuple[str, ...]:
        return tuple(self.links)
