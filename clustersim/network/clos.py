"""Networks of leaves, spines and cores: paths go up, across, and down again. Arithmetic on numbers only.

Blocks of links, each once up and once down, plane by plane: one link an endpoint; leaf by leaf one to every
spine of its pod (times the parallel links); spine by spine one to each of its cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.network.draft import Cable, Draft, cable
from clustersim.network.topology import Array
from clustersim.spec.fabric import FatTree, LeafSpine, MultiPlane, RailFatTree, ScaleUpFabric
from clustersim.spec.interconnect import Fabric, Paths

HOST_UP, LEAF_UP, SPINE_UP, SPINE_DOWN, LEAF_DOWN, HOST_DOWN = range(6)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of each: a pod is what the same spines join; without spines there is a single leaf."""

    endpoints: int
    hosts: int
    """Of a leaf."""
    leaves: int
    leaves_per_pod: int
    spines: int = 0
    """Of a pod."""
    parallel: int = 1
    """Links between a leaf and a spine."""
    cores: int = 0
    """Of a spine."""
    core_groups: int = 0
    """Sets of cores; each joins equally many spines of every pod."""
    rails: int = 1
    isolated: bool = False
    planes: int = 1

    @property
    def pods(self) -> int:
        """Pods."""
        return self.leaves // self.leaves_per_pod

    @property
    def uplinks(self) -> int:
        """Of a leaf."""
        return self.spines * self.parallel

    @property
    def units(self) -> int:
        """Leaves of one rail."""
        return self.leaves // self.rails

    def leaf_of(self, endpoint: Array) -> Array:
        """Return the leaf at which an endpoint sits: that of its rail."""
        unit, rail = endpoint // self.rails // self.hosts, endpoint % self.rails
        return np.asarray(rail * self.units + unit if self.isolated else unit * self.rails + rail)


@dataclass(frozen=True, slots=True)
class Clos:
    """The wiring of such a network."""

    shape: Shape
    first: tuple[int, ...]
    """The first link of each block, in the order of the hops of a path."""
    bundle: tuple[int, ...]
    """The same of bundles; 0 where a link stands for itself."""
    capacity_bytes_per_s: tuple[float, ...]
    """Of one link of the host, leaf and spine tiers."""

    modes: ClassVar[tuple[Paths, ...]] = ("ecmp", "spread", "single")

    @property
    def ways(self) -> int:
        """Planes, uplinks of a leaf and cores of a spine, every combination."""
        s = self.shape
        return s.planes * max(1, s.uplinks) * max(1, s.cores)

    @property
    def diameter(self) -> int:
        """Two links a tier that a path climbs."""
        s = self.shape
        return 2 if s.leaves == 1 else 4 if s.pods == 1 or s.isolated else 6

    @property
    def rail_diameter(self) -> int:
        """The same between endpoints of one rail."""
        s = self.shape
        return 2 if s.units == 1 else 6 if s.pods > 1 and not s.isolated else 4

    @property
    def bisection_bytes_per_s(self) -> float:
        """The narrowest tier between two halves: of the hosts, of the leaves, of the pods."""
        s, (host, leaf, spine) = self.shape, self.capacity_bytes_per_s
        widths = [s.endpoints // 2 * host]
        if s.leaves > 1:
            widths.append(s.leaves // 2 * s.uplinks * leaf)
        if s.pods > 1 and not s.isolated:
            widths.append(s.pods // 2 * s.spines * s.cores * spine)
        return s.planes * min(widths)

    def paths(self, source: Array, target: Array, choice: Array, mode: Paths) -> Array:
        """Return paths of up to six links: up from the host, the leaf, the spine, and down again."""
        s = self.shape
        leaf, other = s.leaf_of(source), s.leaf_of(target)
        if mode == "single":
            choice = (other * s.hosts + target // s.rails % s.hosts).astype(np.uint64)
        found = np.full((len(source), 6), -1, np.int64)
        rows = (
            _bundles(s, self, source, target) if mode == "spread" else _links(s, self, source, target, choice)
        )
        climbs, crosses = leaf != other, leaf // s.leaves_per_pod != other // s.leaves_per_pod
        if s.cores == 0 and crosses.any():
            first = int(np.argmax(crosses))
            raise ClusterSimError(
                f"no path from endpoint {source[first]} to {target[first]}: their rails meet only inside "
                "nodes; give scale_up and set routing.pxn"
            )
        everyone = np.ones(len(source), bool)
        used = (everyone, climbs, crosses, crosses, climbs, everyone)
        for hop, (row, flows) in enumerate(zip(rows, used, strict=True)):
            found[flows, hop] = row[flows]
        return found


def _links(s: Shape, wiring: Clos, source: Array, target: Array, choice: Array) -> tuple[Array, ...]:
    """Return what each hop would be, for every flow, with the links that *choice* selects."""
    leaf, other = s.leaf_of(source), s.leaf_of(target)
    plane, choice = (choice % s.planes).astype(np.int64), choice // np.uint64(s.planes)
    up = (choice % max(1, s.uplinks)).astype(np.int64)
    core = (choice // np.uint64(max(1, s.uplinks)) % max(1, s.cores)).astype(np.int64)
    spine = up // s.parallel
    hosts, leaves = plane * s.endpoints, plane * s.leaves

    def of_leaf(number: Array) -> Array:
        return (leaves + number) * s.uplinks + up

    def of_spine(number: Array) -> Array:
        pod = plane * s.pods + number // s.leaves_per_pod
        return np.asarray((pod * s.spines + spine) * s.cores + core)

    numbers = (hosts + source, of_leaf(leaf), of_spine(leaf), of_spine(other), of_leaf(other), hosts + target)
    return tuple(first + number for first, number in zip(wiring.first, numbers, strict=True))


def _bundles(s: Shape, wiring: Clos, source: Array, target: Array) -> tuple[Array, ...]:
    """Return what each hop would be where a flow uses all planes, uplinks and cores alike."""
    leaf, other = s.leaf_of(source), s.leaf_of(target)
    pod, beyond = leaf // s.leaves_per_pod, other // s.leaves_per_pod
    numbers = (source, leaf, pod, beyond, other, target)
    return tuple(
        bundle - number if bundle else first + number
        for bundle, first, number in zip(wiring.bundle, wiring.first, numbers, strict=True)
    )


def shape_of(fabric: Fabric) -> Shape:
    """Return the counts of a Clos network as it is described."""
    if isinstance(fabric, ScaleUpFabric):
        hosts = fabric.accelerators // fabric.groups
        spines = (fabric.spines, fabric.links_per_spine)
        return Shape(fabric.size, hosts, fabric.groups, fabric.groups, *spines)
    if isinstance(fabric, LeafSpine):
        spines = (fabric.spines, fabric.links_per_spine)
        return Shape(fabric.size, fabric.hosts_per_leaf, fabric.leaves, fabric.leaves, *spines)
    if isinstance(fabric, FatTree):
        hosts, leaves, pods, per_pod, cores = fabric.counts
        groups = fabric.core_groups or per_pod
        return Shape(fabric.size, hosts, leaves * pods, leaves, per_pod, 1, cores, groups)
    if isinstance(fabric, RailFatTree):
        pod = fabric.leaves // fabric.rails if fabric.isolated else fabric.leaves_per_pod or fabric.leaves
        counts = (fabric.size, fabric.nodes_per_leaf, fabric.leaves, pod, fabric.spines)
        up = (fabric.links_per_spine, fabric.cores_per_spine or 0, fabric.core_groups or fabric.spines)
        return Shape(*counts, *up, fabric.rails, fabric.isolated)
    raise ClusterSimError(f"{fabric.name} is no Clos network")


def wire_clos(draft: Draft, fabric: Fabric, ends: Array) -> Clos:
    """Add the switches and links of a Clos network, or of equal planes of one, around the vertices *ends*."""
    planes = fabric.planes if isinstance(fabric, MultiPlane) else 1
    plane: Fabric = fabric.plane if isinstance(fabric, MultiPlane) else fabric
    flat = shape_of(plane)
    shape = Shape(**{name: getattr(flat, name) for name in Shape.__slots__} | {"planes": planes})
    tiers = ("scale_up", "spine") if isinstance(plane, ScaleUpFabric) else ("host", "leaf", "spine")
    share = plane if plane is fabric else plane.model_copy(update={"routing": fabric.routing})
    cables = [cable(share, tier) for tier in tiers if tier in plane.links]
    first, bundle = _wire(draft, shape, cables, ends)
    capacity = tuple(kind.capacity_bytes_per_s for kind in cables) + (0.0,) * (3 - len(cables))
    return Clos(shape, first, bundle, capacity)


def _wire(
    draft: Draft, s: Shape, cables: list[Cable], ends: Array
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Add layers, links and bundles; return the first link and bundle of each hop of a path."""
    first, bundle = [0] * 6, [0] * 6
    leaves = draft.layer("leaf" if s.spines else "switch", s.planes * s.leaves)
    plane = np.repeat(np.arange(s.planes), s.endpoints)
    at = np.tile(s.leaf_of(np.arange(s.endpoints)), s.planes) + plane * s.leaves
    first[HOST_UP], first[HOST_DOWN] = draft.both_ways(cables[0], np.tile(ends, s.planes), leaves[at])
    if s.planes > 1:
        bundle[HOST_UP], bundle[HOST_DOWN] = (draft.bundle(cables[0], s.planes, s.endpoints) for _ in "ud")
    if s.spines and s.leaves > 1:
        spines = draft.layer("spine", s.planes * s.pods * s.spines)
        leaf = np.repeat(np.arange(len(leaves)), s.uplinks)
        up = np.tile(np.arange(s.uplinks), len(leaves))
        spine = spines[leaf // s.leaves_per_pod * s.spines + up // s.parallel]
        first[LEAF_UP], first[LEAF_DOWN] = draft.both_ways(cables[1], leaves[leaf], spine)
        width = s.planes * s.uplinks
        bundle[LEAF_UP], bundle[LEAF_DOWN] = (draft.bundle(cables[1], width, s.leaves) for _ in "ud")
        if s.cores:
            first[SPINE_UP], first[SPINE_DOWN] = _wire_cores(draft, s, cables[2], spines)
            width = s.planes * s.spines * s.cores
            bundle[SPINE_UP], bundle[SPINE_DOWN] = (draft.bundle(cables[2], width, s.pods) for _ in "ud")
    return tuple(first), tuple(bundle)


def _wire_cores(draft: Draft, s: Shape, kind: Cable, spines: Array) -> tuple[int, int]:
    """Join spine j of every pod to all cores of its group, plane by plane."""
    cores = draft.layer("core", s.planes * s.core_groups * s.cores)
    spine = np.repeat(np.arange(len(spines)), s.cores)
    plane, place = spine // (s.pods * s.spines), spine % s.spines
    group = plane * s.core_groups + place // (s.spines // s.core_groups)
    core = group * s.cores + np.tile(np.arange(s.cores), len(spines))
    return draft.both_ways(kind, spines[spine], cores[core])
