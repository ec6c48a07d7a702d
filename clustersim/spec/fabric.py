"""The interconnect as a user writes it: one of the shapes, told apart by ``kind``, or a card by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isqrt
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Field, PositiveInt, TypeAdapter, model_validator

from clustersim.errors import FieldError, UnknownNameError, choices
from clustersim.spec.base import Spec, card_data
from clustersim.spec.direct import FullMesh, Graph, Torus
from clustersim.spec.interconnect import MODES, Fabric, LinkClass, Mode, Paths, Routing, ScaleUp
from clustersim.spec.node import Node
from clustersim.spec.switched import (
    Dragonfly,
    DragonflyPlus,
    FatTree,
    HyperX,
    LeafSpine,
    MultiPlane,
    NodeFabric,
    RailFatTree,
    ScaleUpFabric,
)
from clustersim.spec.workload import one_of

__all__ = [
    "MODES",
    "AnyFabric",
    "Dragonfly",
    "DragonflyPlus",
    "Fabric",
    "FatTree",
    "FullMesh",
    "Graph",
    "HyperX",
    "LeafSpine",
    "LinkClass",
    "Mode",
    "MultiPlane",
    "NodeFabric",
    "Paths",
    "RailFatTree",
    "Routing",
    "ScaleUp",
    "ScaleUpFabric",
    "Torus",
    "Wan",
    "load_fabric",
    "of_node",
]

CARDS: Final = "topologies/fabrics"


def _card(value: Any) -> Any:
    """Replace the name of a card by its content."""
    if not isinstance(value, str):
        return value
    try:
        return card_data(CARDS, value)
    except UnknownNameError as error:
        raise ValueError(str(error)) from None


_SITES = (
    ScaleUpFabric,
    LeafSpine,
    FatTree,
    RailFatTree,
    MultiPlane,
    Dragonfly,
    DragonflyPlus,
    Torus,
    HyperX,
    FullMesh,
)
SiteFabric: TypeAlias = Annotated[
    ScaleUpFabric
    | LeafSpine
    | FatTree
    | RailFatTree
    | MultiPlane
    | Dragonfly
    | DragonflyPlus
    | Torus
    | HyperX
    | FullMesh,
    one_of(_SITES, expand=_card),
]


class Site(Spec):
    """One datacentre of several; its last *border* ports hold the gateway instead of accelerators."""

    name: str = Field(min_length=1)
    fabric: SiteFabric
    border: PositiveInt = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        group = self.fabric.scale_up.size if self.fabric.scale_up else 1
        if self.border >= self.fabric.size:
            raise FieldError("border", f"{self.border} leaves none of {self.fabric.size:,} ports to machines")
        if self.border % group:
            raise FieldError("border", f"must take whole scale-up domains: a multiple of {group}")
        return self

    @property
    def size(self) -> int:
        """Accelerators of the site."""
        return self.fabric.size - self.border


class LongLink(Spec):
    """A line between two sites, of a class of links."""

    between: tuple[str, str]
    link: str


class Wan(Fabric):
    """Datacentres joined by long links; traffic between sites takes the lines of least latency."""

    kind: Literal["wan"] = "wan"
    sites: tuple[Site, ...] = Field(min_length=2)
    lines: tuple[LongLink, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = [site.name for site in self.sites]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise FieldError("sites", f"two are called {twice!r}")
        for number, line in enumerate(self.lines):
            for name in line.between:
                if name not in names:
                    known = choices(name, names)
                    raise FieldError(f"lines.{number}.between", f"unknown site {name!r}; {known}")
            if line.between[0] == line.between[1]:
                raise FieldError(f"lines.{number}.between", "a line joins two different sites")
        if self.scale_up is not None:
            raise FieldError("scale_up", "belongs to the fabrics of the sites")
        if self.routing.mode != "ecmp":
            raise FieldError(
                "routing.mode", "every site routes as its own fabric says, and lines as they lie"
            )
        return self

    @property
    def size(self) -> int:
        return sum(site.size for site in self.sites)

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.link for line in self.lines))


AnyFabric: TypeAlias = Annotated[
    NodeFabric
    | ScaleUpFabric
    | LeafSpine
    | FatTree
    | RailFatTree
    | MultiPlane
    | Dragonfly
    | DragonflyPlus
    | Torus
    | HyperX
    | FullMesh
    | Graph
    | Wan,
    one_of((NodeFabric, *_SITES, Graph, Wan), expand=_card),
]
"""What a field holds that takes an interconnect: a mapping with a ``kind``, a card's name, or an object."""


def load_fabric(name: str) -> Fabric:
    """Return the catalogue's interconnect *name*; raise UnknownNameError if there is none."""
    data: Mapping[str, Any] = card_data(CARDS, name)
    adapter: TypeAdapter[Fabric] = TypeAdapter(AnyFabric)
    return adapter.validate_python(data, context={"needs_units": True})


def of_node(node: Node, latency_s: float = 0.0, efficiency: float = 1.0) -> Fabric:
    """Return the inside of a node of the catalogue as an interconnect.

    In a mesh each peer gets an equal part of an accelerator's bandwidth, in a torus (of two dimensions, as
    square as can be) each neighbour; a node without a link of its own, or with PCI Express, is a tree with a
    switch for each accelerator.
    """
    count, kind, sent = node.accelerators, node.link.kind, node.link.bandwidth
    if kind in ("pcie", "none"):
        return _tree(node, latency_s, efficiency)
    sides = _square(count)
    near = sum(min(2, side - 1) for side in sides) if kind == "torus" else 1
    peers = max(1, count - 1) if kind.endswith("-mesh") else max(1, near)
    joined = LinkClass(bandwidth=sent / peers, latency=latency_s, efficiency=efficiency)
    if kind == "torus":
        return Torus(name=node.name, dimensions=sides, links={"ici": joined})
    layout: Literal["mesh", "switch"] = "mesh" if kind.endswith("-mesh") else "switch"
    return NodeFabric(name=node.name, accelerators=count, layout=layout, links={"scale_up": joined})


def _square(count: int) -> tuple[int, int]:
    short = next(n for n in range(isqrt(count), 0, -1) if count % n == 0)
    return short, count // short


def _tree(node: Node, latency_s: float, efficiency: float) -> NodeFabric:
    count = node.accelerators
    sockets = 2 if count > 1 and count % 2 == 0 else 1
    lane = LinkClass(
        bandwidth=node.host_bandwidth or node.link.bandwidth, latency=latency_s, efficiency=efficiency
    )
    wide = lane.model_copy(update={"bandwidth": lane.bandwidth * count / sockets})
    links = {"lane": lane, "uplink": lane, "memory": wide} | ({"socket": wide} if sockets > 1 else {})
    return NodeFabric(
        name=node.name,
        accelerators=count,
        layout="pcie",
        sockets=sockets,
        switches_per_socket=count // sockets,
        links=links,
    )
