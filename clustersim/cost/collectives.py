"""The time of a collective between the accelerators of one node. Pure arithmetic, no clock.

A collective takes the time of the fastest of a few protocols, each ``[(launch + steps step)^q +
(wire bytes / (share link))^q]^(1/q)``. *size_bytes* is the buffer as nccl-tests counts it: the whole
vector of an all-reduce, the whole result of an all-gather, the whole input of the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import UnknownNameError
from clustersim.spec.efficiency import CollectiveCurve, Efficiency, Operation, Protocol

Floats = NDArray[np.float64]


def collective_s(
    curve: CollectiveCurve, operation: Operation, ranks: int, size_bytes: Floats, link_bytes_per_s: float
) -> Floats:
    """Return the seconds of *operation* between *ranks* ranks, each sending *link_bytes_per_s* at best."""
    size = np.asarray(size_bytes, dtype=np.float64)
    if ranks <= 1:
        return np.zeros_like(size)
    times = [_protocol_s(p, operation, ranks, size / link_bytes_per_s) for p in curve.protocols]
    return np.where(size > 0.0, np.minimum.reduce(times), 0.0)


def curve_of(efficiency: Efficiency, library: str, operation: Operation) -> CollectiveCurve:
    """Return the curve of *operation* by *library*, or by NCCL where the library has none of its own."""
    for name in (library, "nccl"):
        if operation in efficiency.collectives.get(name, {}):
            return efficiency.collectives[name][operation]
    raise UnknownNameError("collective library", library, efficiency.collectives)


def steps(operation: Operation, ranks: int) -> int:
    """Return the dependent steps of a ring, or of a direct exchange for an all-to-all."""
    if operation == "all_to_all":
        return 1
    return (2 if operation == "all_reduce" else 1) * (ranks - 1)


def wire_share(operation: Operation, ranks: int) -> float:
    """Return the bytes that each rank must send, as a share of the buffer."""
    return (2.0 if operation == "all_reduce" else 1.0) * (ranks - 1) / ranks


def _protocol_s(protocol: Protocol, operation: Operation, ranks: int, link_s: Floats) -> Floats:
    """Return the time by one protocol of a buffer that crosses the link in *link_s* at full speed."""
    start_s = protocol.launch + steps(operation, ranks) * protocol.step
    crossings = ranks - 1.0 if protocol.direct else wire_share(operation, ranks)
    wire_s = link_s * (crossings / protocol.link_share)
    q = protocol.norm
    top = np.maximum(wire_s, start_s)
    return np.asarray(top * ((start_s / top) ** q + (wire_s / top) ** q) ** (1.0 / q), dtype=np.float64)
