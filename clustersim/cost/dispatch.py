"""The time to send tokens to the ranks of their experts, and to bring the results back. No clock.

Times are of one accelerator's *tokens*; all ranks of the group do the same at once, with experts chosen
independently of the rank that a token sits on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import ClusterSimError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.dispatch import DispatchCurve, DispatchKernels, Mode

Floats = NDArray[np.float64]

ROW_BYTES: Final[Mapping[str, float]] = MappingProxyType(
    {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0 + 4.0 / 128.0, "int8": 1.0 + 4.0 / 128.0, "fp4": 0.5 + 1.0 / 16.0}
)
"""Bytes an element that travel, by format: blocks of 128 share a scale of 4 bytes, of 16 one of 1 byte."""
USUAL_PROCESSORS: Final = 20
"""Streaming multiprocessors that DeepEP's normal kernels take unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A mixture-of-experts layer over the ranks that hold its experts."""

    hidden: int
    top_k: int
    experts: int
    ranks: int
    nodes: int = 1
    """Scale-up domains that the ranks spread over, equally."""
    processors: int = USUAL_PROCESSORS
    """Streaming multiprocessors that the kernel may take."""

    def __post_init__(self) -> None:
        if min(self.hidden, self.top_k, self.experts, self.ranks, self.nodes, self.processors) < 1:
            raise ClusterSimError(f"{self}: each of them must be 1 or more")
        if self.ranks % self.nodes:
            raise ClusterSimError(f"{self.ranks} ranks do not divide over {self.nodes} nodes")


@dataclass(frozen=True, slots=True)
class Wires:
    """What an accelerator sends with at best, in bytes per second, and how many processors it has."""

    link_bytes_per_s: float
    network_bytes_per_s: float
    processors: int


def wires_of(accelerator: Accelerator) -> Wires:
    """Return the wires of an accelerator by its card."""
    return Wires(accelerator.link_bandwidth, accelerator.network_bandwidth, accelerator.processors or 1)


def round_trip_s(
    kernels: DispatchKernels, at: Exchange, tokens: Floats, accelerator: Accelerator, dispatched: str = "fp8"
) -> Floats:
    """Return the time of dispatch, with rows in the format *dispatched*, and of combine, at 16 bits.

    The faster of the library's modes is taken, token count by token count.
    """
    wires, found = wires_of(accelerator), []
    for mode in kernels.modes:
        if suits(mode, at):
            phases = kernels.phases(mode, accelerator.generation)
            out_s = phase_s(phases.dispatch, at, tokens, at.hidden * ROW_BYTES[dispatched], wires)
            found.append(out_s + phase_s(phases.combine, at, tokens, at.hidden * ROW_BYTES["bf16"], wires))
    if not found:
        raise ClusterSimError(f"{kernels.name} has no kernel for {at.ranks} ranks on {at.nodes} nodes")
    return np.asarray(np.minimum.reduce(found), dtype=np.float64)


def suits(mode: Mode, at: Exchange) -> bool:
    """Return whether a mode's kernels serve ranks that spread over so many nodes."""
    return mode == "low_latency" or (mode == "between_nodes") == (at.nodes > 1)


def phase_s(curve: DispatchCurve, at: Exchange, tokens: Floats, row_bytes: float, wires: Wires) -> Floats:
    """Return the time of one phase for *tokens* tokens an accelerator, each a row of *row_bytes*."""
    count = np.asarray(tokens, dtype=np.float64)
    if at.ranks == 1:
        return np.zeros_like(count)
    parts = (
        _work_s(curve, at, row_bytes, wires),
        _link_s(curve, at, row_bytes, wires),
        _network_s(curve, at, row_bytes, wires),
    )
    norm = sum(part**curve.norm for part in parts) ** (1.0 / curve.norm)
    return np.where(count > 0.0, _start_s(curve, at, row_bytes) + count * norm, 0.0)


def copies(curve: DispatchCurve, at: Exchange, places: int) -> float:
    """Return in how many of *places* equal places (ranks or nodes) a token is copied to, its own included."""
    if curve.copies == "each":
        return float(at.top_k)
    if curve.copies == "balanced":
        return float(min(at.top_k, places))
    return float(places * (1.0 - (1.0 - 1.0 / places) ** at.top_k))


def _start_s(curve: DispatchCurve, at: Exchange, row_bytes: float) -> float:
    row_s = row_bytes / curve.row_rate if curve.row_rate else 0.0
    return curve.launch + at.experts * curve.expert + row_s + float(np.log2(at.nodes)) * curve.hop


def _work_s(curve: DispatchCurve, at: Exchange, row_bytes: float, wires: Wires) -> float:
    """Return the processors' time on one token; low-latency kernels take one for each expert."""
    busy = min(at.experts, wires.processors) if curve.copies == "each" else at.processors
    made = copies(curve, at, at.ranks)
    read_s = row_bytes / curve.read_rate if curve.read_rate else 0.0
    write_s = made * row_bytes / curve.write_rate if curve.write_rate else 0.0
    return (curve.token + made * curve.copy_time + read_s + write_s) / busy


def _link_s(curve: DispatchCurve, at: Exchange, row_bytes: float, wires: Wires) -> float:
    """Return the time of a token's copies to other ranks of the domains on the scale-up link."""
    members = at.ranks // at.nodes
    inside = copies(curve, at, at.ranks) * (1.0 - 1.0 / members)
    if curve.copies == "each":
        inside /= at.nodes
    return inside * row_bytes / (curve.link_share * wires.link_bytes_per_s)


def _network_s(curve: DispatchCurve, at: Exchange, row_bytes: float, wires: Wires) -> float:
    """Return the time of a token's copies to other nodes on the network."""
    if at.nodes == 1:
        return 0.0
    if not wires.network_bytes_per_s:
        raise ClusterSimError(
            f"{at.nodes} nodes exchange tokens, but the accelerator has no network_bandwidth"
        )
    leaving = copies(curve, at, at.nodes) * (1.0 - 1.0 / at.nodes)
    return leaving * row_bytes / (_share(curve, at.nodes) * wires.network_bytes_per_s)


def _share(curve: DispatchCurve, nodes: int) -> float:
    known = sorted(curve.network_share)
    if not known:
        return 1.0
    return curve.network_share[max([n for n in known if n <= nodes], default=known[0])]
