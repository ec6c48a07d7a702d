"""The time of a collective between the accelerators of one scale-up domain. Pure arithmetic, no clock.

A collective takes the time of the fastest of a few protocols, each ``[(launch + steps step)^q +
(wire bytes / (share link))^q]^(1/q)``. *size_bytes* is the buffer as nccl-tests counts it: the whole
vector of an all-reduce, the whole result of an all-gather, the whole input of the others.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives.algorithms import torus_shape
from clustersim.errors import UnknownNameError
from clustersim.spec.efficiency import CollectiveCurve, Efficiency, Operation, Protocol

Floats = NDArray[np.float64]

BARRIER_BYTES: Final = 8.0
"""A barrier is an all-reduce of one number."""
ALIKE: Final = MappingProxyType[Operation, Operation](
    {
        "broadcast": "all_gather",
        "reduce": "reduce_scatter",
        "send_recv": "all_gather",
        "barrier": "all_reduce",
    }
)
"""Whose protocols an operation takes where a library's own were not measured."""
_SENDS_ALL: Final = ("broadcast", "reduce", "send_recv")


def collective_s(
    curve: CollectiveCurve, operation: Operation, ranks: int, size_bytes: Floats, link_bytes_per_s: float
) -> Floats:
    """Return the seconds of *operation* between *ranks* ranks, each sending *link_bytes_per_s* at best."""
    size = np.asarray(size_bytes, dtype=np.float64)
    if operation == "barrier":
        size = np.full_like(size, BARRIER_BYTES)
    if ranks <= 1:
        return np.zeros_like(size)
    times = [_protocol_s(p, operation, ranks, size / link_bytes_per_s) for p in curve.protocols]
    return np.where(size > 0.0, np.minimum.reduce(times), 0.0)


def torus_s(
    curve: CollectiveCurve,
    operation: Operation,
    sides: tuple[int, ...],
    size_bytes: Floats,
    link_bytes_per_s: float,
) -> Floats:
    """Return the seconds of rings along all dimensions of a torus at once, each link of *link_bytes_per_s*.

    Protocols are those of a domain: their launch, their step from neighbour to neighbour, their share.
    """
    size, form = np.asarray(size_bytes, dtype=np.float64), torus_shape(operation, sides)
    rings = [p for p in curve.protocols if not (p.direct or p.in_network)]
    times = [
        p.launch + form.steps * p.step + size * (form.sent_share / (p.link_share * link_bytes_per_s))
        for p in rings
    ]
    return np.where((size > 0.0) & (form.steps > 0), np.minimum.reduce(times), 0.0)


def curve_of(efficiency: Efficiency, library: str, operation: Operation) -> CollectiveCurve:
    """Return the curve of *operation* by *library*, or by NCCL where the library has none of its own."""
    for wanted in (operation, ALIKE.get(operation, operation)):
        for name in (library, "nccl"):
            if wanted in efficiency.collectives.get(name, {}):
                return efficiency.collectives[name][wanted]
    raise UnknownNameError("collective library", library, efficiency.collectives)


def steps(operation: Operation, ranks: int) -> int:
    """Return the dependent steps of a ring, or of a direct exchange for an all-to-all."""
    if operation in ("all_to_all", "send_recv"):
        return 1
    return (2 if operation in ("all_reduce", "barrier") else 1) * (ranks - 1)


def wire_share(operation: Operation, ranks: int) -> float:
    """Return the bytes that each rank must send, as a share of the buffer."""
    if operation in _SENDS_ALL:
        return 1.0
    return (2.0 if operation in ("all_reduce", "barrier") else 1.0) * (ranks - 1) / ranks


def start_s(protocol: Protocol, operation: Operation, ranks: int) -> float:
    """Return the time by one protocol of an empty buffer."""
    return protocol.launch + (ranks if protocol.in_network else steps(operation, ranks)) * protocol.step


def crossings(protocol: Protocol, operation: Operation, ranks: int) -> float:
    """Return how often the buffer crosses a rank's link by one protocol, its own copies counted with it."""
    if protocol.direct:
        return ranks - 1.0 + protocol.copies
    if protocol.in_network and operation in ("all_reduce", "barrier"):
        return 1.0 + 1.0 / ranks + protocol.copies
    return wire_share(operation, ranks) + protocol.copies


def _protocol_s(protocol: Protocol, operation: Operation, ranks: int, link_s: Floats) -> Floats:
    """Return the time by one protocol of a buffer that crosses the link in *link_s* at full speed."""
    begin_s = start_s(protocol, operation, ranks)
    wire_s = link_s * (crossings(protocol, operation, ranks) / protocol.link_share)
    q = protocol.norm
    top = np.maximum(wire_s, begin_s)
    return np.asarray(top * ((begin_s / top) ** q + (wire_s / top) ** q) ** (1.0 / q), dtype=np.float64)
