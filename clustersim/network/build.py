"""Turn the description of an interconnect into arrays, and say in a few numbers what it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.network.clos import wire_clos
from clustersim.network.domains import Domains, wire_domains, wire_full_mesh, wire_mesh, wire_tree
from clustersim.network.draft import Draft
from clustersim.network.dragonfly import wire_dragonfly
from clustersim.network.generic import build_graph
from clustersim.network.hyperx import wire_hyperx
from clustersim.network.topology import Array, Topology, Wiring
from clustersim.network.torus import wire_torus
from clustersim.network.wan import Place, Sites, wire_lines
from clustersim.spec.fabric import (
    Dragonfly,
    DragonflyPlus,
    FatTree,
    FullMesh,
    Graph,
    HyperX,
    LeafSpine,
    MultiPlane,
    NodeFabric,
    RailFatTree,
    ScaleUpFabric,
    Torus,
    Wan,
)
from clustersim.spec.interconnect import Fabric


def build(fabric: Fabric) -> Topology:
    """Return the topology that *fabric* describes; raise ClusterSimError for one that is in pieces."""
    if isinstance(fabric, Graph):
        return build_graph(fabric)
    draft = Draft()
    if isinstance(fabric, Wan):
        return _build_sites(draft, fabric)
    memories = fabric.sockets if isinstance(fabric, NodeFabric) and fabric.layout == "pcie" else 0
    ends = np.concatenate([draft.layer("accelerator", fabric.size), draft.layer("memory", memories)])
    return draft.finish(_wire(draft, fabric, ends, len(ends)), fabric, len(ends))


def summary(topology: Topology) -> dict[str, Any]:
    """Return what an interconnect is in numbers: counts by layer and tier, bisection, diameter, paths."""
    wiring, ends = topology.wiring, topology.endpoints
    bisection = wiring.bisection_bytes_per_s
    injection = _injection(topology)
    rows: dict[str, Any] = {"kind": topology.kind, "endpoints": ends}
    for layer in topology.layers:
        if layer.first >= ends:
            rows[f"{layer.name.replace(' ', '_')}_count"] = layer.count
    tier = topology.tier[: topology.links]
    for number, name in enumerate(topology.tiers):
        of_tier = np.flatnonzero(tier == number)
        rows[f"{name}_links"] = len(of_tier)
        rows[f"{name}_bytes_per_s"] = float(topology.capacity_bytes_per_s[of_tier[0]])
        rows[f"{name}_latency_s"] = float(topology.latency_s[of_tier[0]])
    rows["diameter_links"] = wiring.diameter
    rows["bisection_bytes_per_s"] = bisection
    rows["bisection_share"] = 2.0 * bisection / injection if bisection is not None else None
    rows["paths"] = wiring.ways
    rows["routing"] = topology.routing.mode
    return rows


def _injection(topology: Topology) -> float:
    """Return what all endpoints can send outside their scale-up domains at once."""
    of_end = topology.source < topology.endpoints
    tier = topology.tier[: topology.links]
    if "scale_up" in topology.tiers:
        outside = of_end & (tier != topology.tiers.index("scale_up"))
        of_end = outside if outside.any() else of_end
    return float(topology.capacity_bytes_per_s[: topology.links][of_end].sum())


def _wire(draft: Draft, fabric: Fabric, ends: Array, machines: int) -> Wiring:
    """Add a network around the vertices *ends*, of which *machines* sit in scale-up domains."""
    if isinstance(fabric, NodeFabric):
        return _wire_node(draft, fabric, ends)
    inner = wire_domains(draft, fabric, ends[:machines]) if fabric.scale_up else None
    outer = _wire_outer(draft, fabric, ends)
    if inner is None or fabric.scale_up is None:
        return outer
    return Domains(inner, outer, fabric.scale_up.size, _rails(fabric))


def _rails(fabric: Fabric) -> int:
    plane = fabric.plane if isinstance(fabric, MultiPlane) else fabric
    return plane.rails if fabric.routing.pxn and isinstance(plane, RailFatTree) else 0


def _wire_node(draft: Draft, fabric: NodeFabric, ends: Array) -> Wiring:
    if fabric.layout == "pcie":
        return wire_tree(draft, fabric, ends)
    if fabric.layout == "mesh":
        return wire_mesh(draft, fabric, ends, fabric.accelerators, "scale_up")
    one = ScaleUpFabric(name=fabric.name, accelerators=fabric.accelerators, links=fabric.links)
    return wire_clos(draft, one, ends)


def _wire_outer(draft: Draft, fabric: Fabric, ends: Array) -> Wiring:
    if isinstance(fabric, (ScaleUpFabric, LeafSpine, FatTree, RailFatTree, MultiPlane)):
        return wire_clos(draft, fabric, ends)
    if isinstance(fabric, (Dragonfly, DragonflyPlus)):
        return wire_dragonfly(draft, fabric, ends)
    if isinstance(fabric, Torus):
        return wire_torus(draft, fabric, ends)
    if isinstance(fabric, HyperX):
        return wire_hyperx(draft, fabric, ends)
    if isinstance(fabric, FullMesh):
        return wire_full_mesh(draft, fabric, ends)
    raise ClusterSimError(f"{fabric.name}: nothing builds a fabric of type {type(fabric).__name__}")


def _build_sites(draft: Draft, fabric: Wan) -> Topology:
    """Number the accelerators of all sites first, then wire each site, then the lines between them."""
    ends = []
    for site in fabric.sites:
        draft.prefix = f"{site.name} "
        ends.append(draft.layer("accelerator", site.size))
    count = draft.vertices
    draft.prefix = ""
    gateways = draft.layer("gateway", len(fabric.sites))
    places = []
    for number, site in enumerate(fabric.sites):
        draft.prefix = f"{site.name} "
        ports = np.concatenate([ends[number], np.repeat(gateways[number], site.border)])
        wiring = _wire(draft, site.fabric, ports, site.size)
        mode = site.fabric.routing.paths
        places.append(Place(int(ends[number][0]), site.size, wiring, site.border, mode))
    lines, capacity = wire_lines(draft, fabric, gateways)
    return draft.finish(Sites(tuple(places), lines, capacity), fabric, count)
