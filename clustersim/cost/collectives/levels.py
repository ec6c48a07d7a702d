"""The time of a collective over several levels: accelerators in a domain, domains over a network. No clock.

Latency is the sum over the levels of dependent steps; bytes of different levels flow at the same time,
because the buffer is cut into chunks, and the slowest level sets the pace. *size_bytes* counts as for one
domain. *auto* is the fastest of what a library would choose from; a name asks for one algorithm:

- ``ring``: one ring through all ranks, domain by domain;
- ``tree``: a chain in each domain, and a double binary tree between the domains;
- ``hierarchical``: the domain's own algorithm, pipelined with a tree (all-reduce) or ring between domains;
- ``separate``: reduce-scatter in the domain, then between domains, then all-gather, one after the other;
- ``in_network``: the domain's own algorithm, and switches that add up between the domains;
- ``exchange``: direct transfers between all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives.domain import (
    ALIKE,
    BARRIER_BYTES,
    collective_s,
    crossings,
    start_s,
    steps,
    wire_share,
)
from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.spec.efficiency import CollectiveCurve, Operation
from clustersim.spec.transport import Crossing, Hop, Transport

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Inside:
    """The members of a group in one scale-up domain, and what they reach each other with."""

    ranks: int
    bytes_per_s: float
    """Of one accelerator to its peers, one direction."""
    curves: Mapping[Operation, CollectiveCurve]


@dataclass(frozen=True, slots=True)
class Outside:
    """One level of network: how many of the things below it joins, and how."""

    domains: int
    bytes_per_s: float
    """Line rate with which the group's members in one of the things below reach the others, one direction."""
    transport: Transport
    limit_bytes_per_s: float = math.inf
    """What the links beyond allow of it: oversubscription, collisions of hashed paths."""


@dataclass(frozen=True, slots=True)
class Group:
    """The accelerators that take part in a collective, from the inside out."""

    inside: Inside
    outside: tuple[Outside, ...] = ()

    @property
    def ranks(self) -> int:
        """Accelerators of the group."""
        return self.inside.ranks * self.domains

    @property
    def domains(self) -> int:
        """Scale-up domains that the group spans."""
        return math.prod(level.domains for level in self.outside)

    @property
    def crossed(self) -> tuple[Outside, ...]:
        """The levels of network that the group really crosses."""
        return tuple(level for level in self.outside if level.domains > 1)


def group_s(group: Group, operation: Operation, size_bytes: Floats, algorithm: str = "auto") -> Floats:
    """Return the seconds of *operation* over all levels of *group*."""
    size = _sizes(operation, size_bytes)
    if not group.crossed and algorithm == "auto":
        return _inside_s(group.inside, operation, size)
    names = _names(operation, algorithm)
    return np.where(size > 0.0, _least([_by(name, group, operation, size) for name in names]), 0.0)


def chosen(group: Group, operation: Operation, size_bytes: Floats) -> list[str]:
    """Return for each size the algorithm that ``auto`` takes; ``domain`` where there is only one domain."""
    size = _sizes(operation, size_bytes)
    if not group.crossed:
        return ["domain"] * size.size
    names = _names(operation, "auto")
    times = np.stack([_by(name, group, operation, size.ravel()) for name in names])
    return [names[i] for i in times.argmin(axis=0)]


def group_of(inside: Inside, ranks: int, bytes_per_s: float, transport: Transport) -> Group:
    """Return the group of *ranks* accelerators in equal parts of as few domains as hold them.

    *inside.ranks* is how many a domain holds, *bytes_per_s* the network bandwidth of one accelerator.
    """
    domains = math.ceil(ranks / inside.ranks)
    if ranks % domains:
        raise ClusterSimError(
            f"{ranks} accelerators do not divide into {domains} equal parts, one for each scale-up domain "
            f"of {inside.ranks}; choose a multiple of {domains}"
        )
    part = Inside(ranks // domains, inside.bytes_per_s, inside.curves)
    return Group(part, (Outside(domains, part.ranks * bytes_per_s, transport),) if domains > 1 else ())


def _sizes(operation: Operation, size_bytes: Floats) -> Floats:
    size = np.asarray(size_bytes, dtype=np.float64)
    return np.full_like(size, BARRIER_BYTES) if operation == "barrier" else size


def _names(operation: Operation, algorithm: str) -> tuple[str, ...]:
    if algorithm == "auto":
        return CHOICES[operation]
    if algorithm not in _PRICES:
        raise UnknownNameError("collective algorithm over levels", algorithm, ["auto", *_PRICES])
    if algorithm not in CHOICES[operation] and algorithm not in NAMED.get(operation, ()):
        known = [*CHOICES[operation], *NAMED.get(operation, ())]
        raise UnknownNameError(f"algorithm of {operation}", algorithm, known)
    return (algorithm,)


def _by(name: str, group: Group, operation: Operation, size: Floats) -> Floats:
    return _least(list(_PRICES[name](group, operation, size)))


def _least(times: Sequence[Floats]) -> Floats:
    return np.asarray(np.minimum.reduce(times), dtype=np.float64)


def _curve(inside: Inside, operation: Operation) -> CollectiveCurve:
    for wanted in (operation, ALIKE.get(operation, operation)):
        if wanted in inside.curves:
            return inside.curves[wanted]
    raise UnknownNameError("collective operation of the domain", operation, inside.curves)


def _inside_s(inside: Inside, operation: Operation, size: Floats) -> Floats:
    if inside.ranks <= 1:
        return np.zeros_like(size)
    return collective_s(_curve(inside, operation), operation, inside.ranks, size, inside.bytes_per_s)


def _units(group: Group) -> list[int]:
    """Return how many units there are in all below each level of network, and the one of the whole."""
    counts = [group.domains]
    for level in group.crossed:
        counts.append(counts[-1] // level.domains)
    return counts


def _hops(group: Group, crossing: Crossing) -> Iterator[tuple[Hop, tuple[Hop, ...]]]:
    """Yield each protocol of the innermost level with those of the same order of the levels beyond."""
    lists = [level.transport.hops(crossing).protocols for level in group.crossed]
    for i, first in enumerate(lists[0] if lists else ()):
        yield first, tuple(hops[min(i, len(hops) - 1)] for hops in lists)


def _outside_s(group: Group, hops: tuple[Hop, ...], shares: list[float], size: Floats) -> Floats:
    """Return the time of the slowest level of network; *shares* of the buffer leave each unit."""
    times = [
        size * (share / min(level.bytes_per_s * hop.link_share, level.limit_bytes_per_s))
        for level, hop, share in zip(group.crossed, hops, shares, strict=True)
    ]
    return np.asarray(np.maximum.reduce(times), dtype=np.float64)


def _ring(group: Group, operation: Operation, size: Floats) -> Iterator[Floats]:
    """Yield the time of a flat ring by each protocol: it leaves and enters every domain once a lap.

    There are as many rings as ranks in a domain, each leaving from another, so that of a rank's bytes one
    part in as many leaves by the network.
    """
    laps = steps(operation, group.ranks) // max(group.ranks - 1, 1)
    share = wire_share(operation, group.ranks)
    units = _units(group)
    for first, hops in _hops(group, "ring"):
        crossing_s = sum(
            laps * (below - above) * hop.cross
            for hop, below, above in zip(hops, units, units[1:], strict=False)
        )
        start = first.launch + laps * (group.ranks - units[0]) * first.step + crossing_s
        inside = group.inside.ranks
        inner_s = _links_s(group, first, share * (inside - 1) / inside, size)
        yield start + np.maximum(inner_s, _outside_s(group, hops, [share] * len(hops), size))


def _links_s(group: Group, hop: Hop, share: float, size: Floats) -> Floats:
    """Return the time of *share* of the buffer on the link of a rank to its peers in the domain."""
    return size * (share / (group.inside.bytes_per_s * hop.inner_share))


def _tree(group: Group, operation: Operation, size: Floats) -> Iterator[Floats]:
    """Yield the time of chains in the domains and double binary trees between them, by each protocol."""
    chain = group.inside.ranks - 1
    for first, hops in _hops(group, "tree"):
        start = first.launch + 2 * (chain * first.step + _tree_cross_s(group, hops))
        inner_s = _links_s(group, first, float(min(chain, 2)), size)
        yield start + np.maximum(inner_s, _outside_s(group, hops, _tree_shares(group), size))


def _tree_cross_s(group: Group, hops: tuple[Hop, ...]) -> float:
    return sum(
        math.ceil(math.log2(level.domains)) * hop.cross
        for level, hop in zip(group.crossed, hops, strict=True)
    )


def _tree_shares(group: Group) -> list[float]:
    """Two units swap halves; of more, the fullest passes the whole buffer up and down.

    Three units could do with 1.5, but NCCL does not: it reaches the bandwidth of its rings (96 of 100 GB/s).
    """
    return [1.0 if level.domains == 2 else 2.0 for level in group.crossed]


def _hierarchical(group: Group, operation: Operation, size: Floats) -> Iterator[Floats]:
    """Yield the domain's algorithm pipelined with trees (all-reduce) or rings between the domains."""
    reduces = operation in ("all_reduce", "barrier")
    for _, hops in _hops(group, "tree" if reduces else "ring"):
        if reduces:
            cross_s, shares = 2 * _tree_cross_s(group, hops), _tree_shares(group)
        else:
            levels = list(zip(group.crossed, hops, strict=True))
            cross_s = sum((level.domains - 1) * hop.cross for level, hop in levels)
            shares = [wire_share(operation, level.domains) for level, _ in levels]
        yield from _pipelined(group, operation, size, (cross_s, _outside_s(group, hops, shares, size)))


def _in_network(group: Group, operation: Operation, size: Floats) -> Iterator[Floats]:
    """Yield the domain's algorithm pipelined with switches that add up: a domain sends its part once."""
    for _, hops in _hops(group, "in_network"):
        cross_s = 2 * sum(hop.cross for hop in hops)
        yield from _pipelined(
            group, operation, size, (cross_s, _outside_s(group, hops, [1.0] * len(hops), size))
        )


def _pipelined(
    group: Group, operation: Operation, size: Floats, outside: tuple[float, Floats]
) -> Iterator[Floats]:
    """Yield the domain's protocols with *outside* (latency, time of the bytes) at the same time."""
    inside, (cross_s, outside_s) = group.inside, outside
    if inside.ranks <= 1:
        yield group.crossed[0].transport.tree.protocols[0].launch + cross_s + outside_s
        return
    for protocol in _curve(inside, operation).protocols:
        begin = start_s(protocol, operation, inside.ranks)
        share = crossings(protocol, operation, inside.ranks) / protocol.link_share
        yield begin + cross_s + np.maximum(size * (share / inside.bytes_per_s), outside_s)


def _separate(group: Group, operation: Operation, size: Floats) -> Iterator[Floats]:
    """Yield the sum of the phases: each rank of a domain works on its own share of the buffer outside."""
    scatters = operation in ("all_reduce", "barrier", "reduce_scatter")
    gathers = operation in ("all_reduce", "barrier", "all_gather")
    inside_s = np.zeros_like(size)
    if scatters:
        inside_s = inside_s + _inside_s(group.inside, "reduce_scatter", size)
    if gathers:
        inside_s = inside_s + _inside_s(group.inside, "all_gather", size)
    laps = 2 if operation in ("all_reduce", "barrier") else 1
    for first, hops in _hops(group, "ring"):
        levels = list(zip(group.crossed, hops, strict=True))
        cross_s = laps * sum((level.domains - 1) * hop.cross for level, hop in levels)
        shares = [laps * (level.domains - 1) / level.domains for level, _ in levels]
        yield inside_s + first.launch + cross_s + _outside_s(group, hops, shares, size)


def _exchange(group: Group, operation: Operation, size: Floats) -> Iterator[Floats]:
    """Yield direct transfers: of an all-to-all, what is for other domains leaves over the network."""
    crossing: Crossing = "send" if operation == "send_recv" else "exchange"
    inside, pairs = group.inside, operation == "send_recv"
    for first, hops in _hops(group, crossing):
        start = first.launch + sum(hop.cross for hop in hops)
        if pairs:
            yield start + _outside_s(group, hops, [float(inside.ranks)] * len(hops), size)
            continue
        shares = [_leaving(group, i) for i in range(len(hops))]
        near = _links_s(group, first, (inside.ranks - 1) / group.ranks, size)
        yield start + np.maximum(near, _outside_s(group, hops, shares, size))


def _leaving(group: Group, level: int) -> float:
    """Return the buffers that an all-to-all sends out of each unit below a level of network."""
    units = _units(group)
    members, apart = group.ranks // units[level], units[level]
    return members * (1.0 - 1.0 / apart)


Price = Callable[[Group, Operation, Floats], Iterator[Floats]]

_PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "ring": _ring,
        "tree": _tree,
        "hierarchical": _hierarchical,
        "separate": _separate,
        "in_network": _in_network,
        "exchange": _exchange,
    }
)
CHOICES: Final[Mapping[Operation, tuple[str, ...]]] = MappingProxyType(
    {
        "all_reduce": ("ring", "tree", "hierarchical"),
        "barrier": ("ring", "tree", "hierarchical"),
        "all_gather": ("ring",),
        "reduce_scatter": ("ring",),
        "broadcast": ("ring",),
        "reduce": ("ring",),
        "all_to_all": ("exchange",),
        "send_recv": ("exchange",),
    }
)
"""What ``auto`` chooses from, as NCCL does: scatters and gathers between nodes are rings."""
NAMED: Final[Mapping[Operation, tuple[str, ...]]] = MappingProxyType(
    {
        "all_reduce": ("separate", "in_network"),
        "barrier": ("separate", "in_network"),
        "all_gather": ("hierarchical", "separate"),
        "reduce_scatter": ("hierarchical", "separate"),
    }
)
"""What may be asked for by name besides."""
