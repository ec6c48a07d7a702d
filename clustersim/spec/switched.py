"""Interconnects of switches: inside a node, scale-up domains, Clos networks, dragonflies, HyperX."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from clustersim.errors import FieldError
from clustersim.spec.interconnect import Fabric, Routing
from clustersim.spec.workload import one_of


class NodeFabric(Fabric):
    """The inside of a single node: a switch, a mesh, or a tree of PCI Express switches with host memories.

    In a tree the accelerators under one switch share its uplink, and those of one socket its root complex;
    the memories of the sockets are endpoints of their own, numbered after the accelerators.
    """

    kind: Literal["node"] = "node"
    accelerators: PositiveInt
    layout: Literal["switch", "mesh", "pcie"] = "switch"
    sockets: PositiveInt = 1
    switches_per_socket: PositiveInt = 1

    @model_validator(mode="after")
    def _even(self) -> Self:
        switches = self.sockets * self.switches_per_socket
        if self.layout == "pcie" and self.accelerators % switches:
            raise FieldError("accelerators", f"{self.accelerators} do not divide among {switches} switches")
        return self

    @property
    def size(self) -> int:
        return self.accelerators

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        if self.layout != "pcie":
            return ("scale_up",)
        return ("lane", "uplink", "memory", *(("socket",) if self.sockets > 1 else ()))


class ScaleUpFabric(Fabric):
    """A scale-up domain larger than a node: one tier of switches, or groups joined by spines."""

    kind: Literal["scale-up"] = "scale-up"
    accelerators: PositiveInt
    groups: PositiveInt = 1
    spines: NonNegativeInt = 0
    links_per_spine: PositiveInt = 1

    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.accelerators % self.groups:
            raise FieldError("groups", f"{self.groups} do not divide {self.accelerators:,} accelerators")
        if (self.groups > 1) != (self.spines > 0):
            raise FieldError("spines", "several groups need spines, and only they do")
        return self

    @property
    def size(self) -> int:
        return self.accelerators

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("scale_up", *(("spine",) if self.groups > 1 else ()))


class LeafSpine(Fabric):
    """Two tiers: every leaf has *links_per_spine* links to every spine."""

    kind: Literal["leaf-spine"] = "leaf-spine"
    leaves: PositiveInt
    hosts_per_leaf: PositiveInt
    spines: PositiveInt
    links_per_spine: PositiveInt = 1

    @property
    def size(self) -> int:
        return self.leaves * self.hosts_per_leaf

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("host", "leaf")


class FatTree(Fabric):
    """Three tiers: leaves, the spines of a pod, and cores that join the pods.

    Either by the *radix* k of equal switches (k**3 / 4 hosts; a leaf's ports divide as *oversubscription*
    to 1 between hosts and spines), or number by number. Spine j of every pod joins all cores of a group:
    group j, or with fewer *core_groups* the one that it shares with its neighbours.
    """

    kind: Literal["fat-tree"] = "fat-tree"
    radix: Annotated[int, Field(ge=2)] | None = None
    oversubscription: Annotated[float, Field(ge=1)] = 1.0
    hosts_per_leaf: PositiveInt | None = None
    leaves_per_pod: PositiveInt | None = None
    pods: PositiveInt | None = None
    spines_per_pod: PositiveInt | None = None
    cores_per_spine: PositiveInt | None = None
    core_groups: PositiveInt | None = None
    """By default one for each spine of a pod."""

    @model_validator(mode="after")
    def _determined(self) -> Self:
        names = ("hosts_per_leaf", "leaves_per_pod", "pods", "spines_per_pod", "cores_per_spine")
        for name in names:
            if self.radix is not None and getattr(self, name) is not None:
                raise FieldError(name, "follows from radix; give one or the other")
            if self.radix is None and getattr(self, name) is None:
                raise FieldError(name, "is required where there is no radix")
        if self.radix is not None and (self.radix % 2 or (self.radix / (1 + self.oversubscription)) % 1):
            raise FieldError(
                "radix", f"{self.radix} ports do not divide into halves and {self.oversubscription:g} to 1"
            )
        if self.radix is None and self.oversubscription != 1.0:
            raise FieldError("oversubscription", "goes with radix; else it follows from the numbers")
        _check_groups(self.core_groups, self.counts[3])
        return self

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Hosts a leaf, leaves a pod, pods, spines a pod, cores a spine."""
        if self.radix is not None:
            up, half = round(self.radix / (1 + self.oversubscription)), self.radix // 2
            return self.radix - up, half, self.radix, up, half
        found = (
            self.hosts_per_leaf,
            self.leaves_per_pod,
            self.pods,
            self.spines_per_pod,
            self.cores_per_spine,
        )
        hosts, leaves, pods, spines, cores = (number or 0 for number in found)
        return hosts, leaves, pods, spines, cores

    @property
    def size(self) -> int:
        return prod(self.counts[:3])

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("host", "leaf", "spine")


def _check_groups(groups: int | None, spines: int) -> None:
    if groups is not None and (not spines or spines % groups):
        raise FieldError("core_groups", f"{groups} must divide the {spines} spines of a pod with cores above")


class RailFatTree(Fabric):
    """Rail-optimised: accelerator r of *nodes_per_leaf* nodes meets its like at one leaf, that of rail r.

    Leaves join over *spines* (two tiers), or, with *leaves_per_pod*, over the spines of their pod and cores
    (three tiers). *isolated* rails have *spines* each and no way between them but through the nodes.
    """

    kind: Literal["rail-fat-tree"] = "rail-fat-tree"
    nodes: PositiveInt
    rails: PositiveInt
    nodes_per_leaf: PositiveInt
    spines: PositiveInt
    links_per_spine: PositiveInt = 1
    leaves_per_pod: PositiveInt | None = None
    cores_per_spine: PositiveInt | None = None
    core_groups: PositiveInt | None = None
    """By default one for each spine of a pod."""
    isolated: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.leaves_per_pod is None) != (self.cores_per_spine is None):
            raise FieldError("cores_per_spine", "goes with leaves_per_pod: a third tier needs both")
        if self.nodes % self.nodes_per_leaf:
            raise FieldError("nodes_per_leaf", f"{self.nodes_per_leaf} does not divide {self.nodes:,} nodes")
        if self.leaves_per_pod and (self.leaves_per_pod % self.rails or self.leaves % self.leaves_per_pod):
            raise FieldError(
                "leaves_per_pod",
                f"must be a multiple of the {self.rails} rails and divide the {self.leaves} leaves",
            )
        _check_groups(self.core_groups, self.spines if self.leaves_per_pod else 0)
        if self.scale_up is not None and self.scale_up.size % self.rails:
            raise FieldError("scale_up.size", f"must be a multiple of the {self.rails} rails")
        if self.isolated and (self.leaves_per_pod or not self.routing.pxn):
            raise FieldError("isolated", "needs two tiers and routing.pxn: rails meet only inside nodes")
        return self

    @property
    def leaves(self) -> int:
        """Leaves of all rails."""
        return self.nodes // self.nodes_per_leaf * self.rails

    @property
    def size(self) -> int:
        return self.nodes * self.rails

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("host", "leaf", *(("spine",) if self.leaves_per_pod else ()))


Clos: TypeAlias = Annotated[LeafSpine | FatTree | RailFatTree, one_of((LeafSpine, FatTree, RailFatTree))]


class MultiPlane(Fabric):
    """Equal networks side by side: every accelerator has a port in each, as the plane's classes say."""

    kind: Literal["multi-plane"] = "multi-plane"
    planes: Annotated[int, Field(ge=2)]
    plane: Clos

    @model_validator(mode="after")
    def _bare(self) -> Self:
        if self.plane.scale_up is not None:
            raise FieldError("plane.scale_up", "belongs to the whole, beside planes")
        if self.plane.routing != Routing():
            raise FieldError("plane.routing", "belongs to the whole, beside planes")
        return self

    @property
    def size(self) -> int:
        return self.plane.size

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ()


class Dragonfly(Fabric):
    """Groups whose routers all meet; every two groups are joined by *links_per_pair* links.

    Global link c of a group to the group t places on (t from 1) leaves at port (t - 1) + c (groups - 1), the
    ports counted router by router, *global_ports* each.
    """

    kind: Literal["dragonfly"] = "dragonfly"
    groups: Annotated[int, Field(ge=2)]
    routers: PositiveInt
    """Of a group."""
    hosts: PositiveInt
    """Of a router."""
    global_ports: PositiveInt
    """Of a router."""
    links_per_pair: PositiveInt = 1

    @model_validator(mode="after")
    def _ports(self) -> Self:
        needed, there = (self.groups - 1) * self.links_per_pair, self.routers * self.global_ports
        if needed > there:
            raise FieldError(
                "global_ports",
                f"a group has {there:,} global ports, and {self.groups} groups need {needed:,}",
            )
        return self

    @property
    def size(self) -> int:
        return self.groups * self.routers * self.hosts

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("host", "local", "global")


class DragonflyPlus(Fabric):
    """Groups that are small leaf-spine networks; the spines hold the global links, numbered as above."""

    kind: Literal["dragonfly-plus"] = "dragonfly-plus"
    groups: Annotated[int, Field(ge=2)]
    leaves: PositiveInt
    spines: PositiveInt
    hosts: PositiveInt
    """Of a leaf."""
    global_ports: PositiveInt
    """Of a spine."""
    links_per_pair: PositiveInt = 1

    @model_validator(mode="after")
    def _ports(self) -> Self:
        needed, there = (self.groups - 1) * self.links_per_pair, self.spines * self.global_ports
        if needed > there:
            raise FieldError(
                "global_ports",
                f"a group has {there:,} global ports, and {self.groups} groups need {needed:,}",
            )
        return self

    @property
    def size(self) -> int:
        return self.groups * self.leaves * self.hosts

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("host", "local", "global")


class HyperX(Fabric):
    """Switches on a grid, each joined to all others of its row in every dimension."""

    kind: Literal["hyperx"] = "hyperx"
    dimensions: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1, max_length=4)
    hosts: PositiveInt
    """Of a switch."""
    links_per_pair: PositiveInt = 1

    @property
    def size(self) -> int:
        return prod(self.dimensions) * self.hosts

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        return ("host", "switch")
