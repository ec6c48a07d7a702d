"""A collective on a given interconnect: its levels, and what it puts on the links. Pure arithmetic, no clock.

The analytic price takes from the interconnect the bandwidth of each domain, oversubscription and collisions
of hashed paths included; the activity carries the same latency and the same highest speed, and the bytes on
every link, so that on an empty network both take the same time and on a shared one the links decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from clustersim.cost.collectives.domain import BARRIER_BYTES, wire_share
from clustersim.cost.collectives.levels import Group, Inside, Outside, chosen, group_s
from clustersim.errors import ClusterSimError
from clustersim.network.loads import domain_rings, hierarchical, merged, rails, switched, traffic
from clustersim.network.route import LinkLoad, Traffic, link_load
from clustersim.network.topology import Topology
from clustersim.spec.efficiency import Operation
from clustersim.spec.transport import Transport

SCALE_UP: Final = "scale_up"
"""The tier of the links inside a domain."""
_NUDGE: Final = 1e-6
_PAIRWISE: Final = ("all_to_all", "send_recv")


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A group of accelerators on an interconnect: its endpoints in the order of ranks, domain by domain."""

    topology: Topology
    endpoints: Any
    inside: Inside
    """With as many ranks as each domain has members of the group."""
    adapter_bytes_per_s: float
    """Line rate of an accelerator's adapters, one direction."""
    transport: Transport


def group_on(placed: Placed, operation: Operation) -> Group:
    """Return the levels of a group for *operation*, with the bandwidth that the links leave its domains."""
    ranks, members = len(placed.endpoints), placed.inside.ranks
    if ranks % members:
        raise ClusterSimError(f"{ranks} ranks do not divide into domains of {members}")
    domains = ranks // members
    if domains == 1:
        return Group(placed.inside)
    pairs = pairs_of(placed, operation, "exchange" if operation in _PAIRWISE else "ring")
    load = link_load(placed.topology, pairs)
    outer = placed.topology.tier[load.links] != _scale_up(placed.topology)
    if not outer.any():
        return Group(Inside(ranks, placed.inside.bytes_per_s, placed.inside.curves))
    narrowest = (placed.topology.capacity_bytes_per_s[load.links] / load.weights)[outer].min()
    rate, limit = (
        members * placed.adapter_bytes_per_s,
        float(narrowest) * _leaving(operation, members, domains),
    )
    return Group(placed.inside, (Outside(domains, rate, placed.transport, limit),))


def activity(placed: Placed, operation: Operation, size_bytes: float, algorithm: str = "auto") -> LinkLoad:
    """Return a collective of *size_bytes* as one activity: latency, highest speed, bytes on links.

    Latency and speed are those of the protocol that is fastest at this size; the activity is good for it.
    """
    group = group_on(placed, operation)
    size = np.array([BARRIER_BYTES if operation == "barrier" else size_bytes])
    name = chosen(group, operation, size)[0] if algorithm == "auto" else algorithm
    whole = float(group_s(group, operation, size, algorithm)[0])
    slope = (float(group_s(group, operation, size * (1.0 + _NUDGE), algorithm)[0]) - whole) / (
        size[0] * _NUDGE
    )
    pairs = pairs_of(placed, operation, "ring" if name == "domain" else name)
    load = link_load(placed.topology, pairs)
    fastest = 1.0 / slope if slope > 0.0 else np.inf
    latency_s = max(0.0, whole - float(size[0]) * slope)
    return LinkLoad(load.links, load.weights, latency_s, fastest, pairs)


def pairs_of(placed: Placed, operation: Operation, algorithm: str) -> Traffic:
    """Return who sends to whom by an algorithm over levels."""
    endpoints, members = placed.endpoints, placed.inside.ranks
    if algorithm == "exchange":
        if operation == "send_recv":
            return Traffic.of(endpoints[0], endpoints[members])
        return traffic("pairwise", operation, endpoints)
    if algorithm == "ring" or operation in ("broadcast", "reduce"):
        return domain_rings(operation, endpoints, members)
    reduces = operation in ("all_reduce", "barrier") and algorithm != "separate"
    between = "double_tree" if reduces else "ring"
    if reduces and any(p.in_network for p in placed.inside.curves["all_reduce"].protocols):
        return merged([switched(endpoints, members), rails(between, operation, endpoints, members)])
    return hierarchical(operation, endpoints, members, between)


def _leaving(operation: Operation, members: int, domains: int) -> float:
    """Return the buffers that leave a domain; of one transfer, as if all its members sent."""
    if operation == "send_recv":
        return float(members)
    if operation == "all_to_all":
        return members * (1.0 - 1.0 / domains)
    return wire_share(operation, members * domains)


def _scale_up(topology: Topology) -> int:
    return topology.tiers.index(SCALE_UP) if SCALE_UP in topology.tiers else -1
