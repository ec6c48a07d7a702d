"""The price of one operator on one accelerator: a calibrated roofline per kernel class. No clock.

``t = launch + [(flop / (compute_share P))^q + (bytes / (memory_share BW))^q]^(1/q)``

The norm is shared out between its two sides in proportion to their q-th powers, so that the parts of a
price always add up to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.models.operators import Attention, Elementwise, ExpertGemm, Gemm
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.efficiency import DecodeCurve, ElementwiseCurve, ExpertCurve, GemmCurve, PrefillCurve
from clustersim.spec.precision import BYTES

Floats = NDArray[np.float64]

SKEW_TOKENS = (512.0, 2048.0)
"""Between these tokens of a pass, uneven routing grows from no effect to its full one (measured: none below
1,024 tokens and all of it well above, aiconfigurator's mixture-of-experts tables)."""


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """Seconds in four parts that add up; each part an array over the passes priced."""

    compute_s: Floats
    memory_s: Floats
    network_s: Floats
    overhead_s: Floats

    @property
    def total_s(self) -> Floats:
        """The whole."""
        return self.compute_s + self.memory_s + self.network_s + self.overhead_s

    @property
    def columns(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The parts, in the order of ``clustersim.cost.step.PARTS``."""
        return self.compute_s, self.memory_s, self.network_s, self.overhead_s

    def __add__(self, other: Price) -> Price:
        return Price(
            self.compute_s + other.compute_s,
            self.memory_s + other.memory_s,
            self.network_s + other.network_s,
            self.overhead_s + other.overhead_s,
        )

    def __mul__(self, times: float) -> Price:
        return Price(
            self.compute_s * times, self.memory_s * times, self.network_s * times, self.overhead_s * times
        )


def nothing(like: Floats) -> Price:
    """Return a price of zero for each pass of *like*."""
    zero = np.zeros_like(like)
    return Price(zero, zero, zero, zero)


def network(seconds: Floats) -> Price:
    """Return *seconds* spent in collectives and transfers as a price."""
    zero = np.zeros_like(seconds)
    return Price(zero, zero, seconds, zero)


def overhead(seconds: Floats) -> Price:
    """Return *seconds* of launches, scheduling and sampling as a price."""
    zero = np.zeros_like(seconds)
    return Price(zero, zero, zero, seconds)


def norm_parts(compute_s: Floats, memory_s: Floats, norm: float) -> tuple[Floats, Floats]:
    """Return the q-norm of two times, shared out between them in proportion to their q-th powers."""
    top = np.maximum(np.maximum(compute_s, memory_s), 1e-30)
    c, m = (compute_s / top) ** norm, (memory_s / top) ** norm
    total = np.maximum(c + m, 1e-300)
    scale = top * total ** (1.0 / norm - 1.0)
    return scale * c, scale * m


def roofline(compute_s: Floats, memory_s: Floats, norm: float, launch_s: float) -> Price:
    """Price a kernel from its compute time, its memory time and its launch."""
    compute, memory = norm_parts(compute_s, memory_s, norm)
    return Price(compute, memory, np.zeros_like(compute), np.full_like(compute, launch_s))


@dataclass(frozen=True, slots=True)
class Formats:
    """Number formats of one kernel's weights and activations."""

    weights: str = "bf16"
    activations: str = "bf16"


def gemm(
    operator: Gemm, tokens: Floats, curve: GemmCurve, accelerator: Accelerator, formats: Formats
) -> Price:
    """Price a product with weights: activations and weights read, 16-bit results written."""
    moved = (
        BYTES[formats.activations] * operator.k * tokens
        + BYTES[formats.weights] * operator.weight_elements
        + 2.0 * operator.n * tokens
    )
    return roofline(
        operator.flop(tokens) / (curve.compute_share * accelerator.flop_per_s(formats.activations)),
        moved / (curve.memory_share * accelerator.memory_bandwidth),
        curve.norm,
        curve.launch,
    )


def quantise(
    operator: Gemm, tokens: Floats, curve: GemmCurve, accelerator: Accelerator, formats: Formats
) -> Price:
    """Price the kernel that brings 16-bit activations into the format of the product, if it is another."""
    width = BYTES[formats.activations]
    if curve.quantise is None or width >= 2.0:
        return nothing(tokens)
    moved = (2.0 + width) * operator.k * tokens
    memory_s = moved / (curve.quantise.memory_share * accelerator.memory_bandwidth)
    return roofline(np.zeros_like(memory_s), memory_s, 1.0, curve.quantise.launch)


def elementwise(
    operator: Elementwise, tokens: Floats, curve: ElementwiseCurve, accelerator: Accelerator
) -> Price:
    """Price a kernel that only moves numbers."""
    memory_s = operator.bytes(tokens) / (curve.memory_share * accelerator.memory_bandwidth)
    return roofline(np.zeros_like(memory_s), memory_s, 1.0, curve.launch)


def experts(
    operator: ExpertGemm, tokens: Floats, curve: ExpertCurve, accelerator: Accelerator, formats: Formats
) -> Price:
    """Price the routed experts of the busiest rank; *tokens* are those of all ranks together."""
    moved = BYTES[formats.weights] * operator.touched(
        tokens
    ) * operator.weight_elements + 2.0 * operator.activation_elements(tokens)
    ranks = operator.experts / operator.local_experts
    skew = _skew(curve, ranks, tokens)
    price = roofline(
        skew * operator.flop(tokens) / (curve.compute_share * accelerator.flop_per_s(formats.activations)),
        skew * moved / (curve.memory_share * accelerator.memory_bandwidth),
        curve.norm,
        curve.launch,
    )
    return price + overhead(curve.token * tokens)


def _skew(curve: ExpertCurve, ranks: float, tokens: Floats) -> Floats:
    """Return the busiest rank's load over the mean; interpolated between the measured numbers of ranks."""
    known = sorted({1: 1.0, **curve.skew}.items())
    full = np.interp(np.log2(ranks), [np.log2(r) for r, _ in known], [factor for _, factor in known])
    ramp = np.interp(np.log2(np.maximum(tokens, 1.0)), np.log2(SKEW_TOKENS), (0.0, 1.0))
    return np.asarray(1.0 + (full - 1.0) * ramp, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class DecodeSlopes:
    """Decode attention of one layer: launch, and (compute, memory) seconds a sequence and a context token."""

    launch_s: float
    sequence_s: tuple[float, float]
    token_s: tuple[float, float]


def decode_attention(
    operator: Attention, curve: DecodeCurve, accelerator: Accelerator, kv_bytes: float
) -> DecodeSlopes:
    """Return the slopes of decode attention, affine in sequences and context by the form of its roofline."""
    bandwidth = curve.memory_share * accelerator.memory_bandwidth
    peak = accelerator.flop_per_s("bf16")
    unpack_s = operator.context_elements * curve.element_flop / peak
    compute_s = max(operator.decode_pair_flop / (curve.compute_share * peak), unpack_s)
    memory_s = operator.context_elements * kv_bytes / bandwidth
    compute, memory = norm_parts(np.array(compute_s), np.array(memory_s), curve.norm)
    query_s = 2.0 * operator.new_elements / bandwidth
    return DecodeSlopes(curve.launch, (0.0, query_s), (float(compute), float(memory)))


@dataclass(frozen=True, slots=True)
class PrefillSlopes:
    """Prefill attention of one layer: seconds a query-key pair, a new token and a token of context."""

    pair_s: float
    token_s: float
    context_s: float


def prefill_attention(
    operator: Attention, curve: PrefillCurve, accelerator: Accelerator, kv_bytes: float
) -> PrefillSlopes:
    """Return the slopes of prefill attention at full efficiency."""
    bandwidth = curve.memory_share * accelerator.memory_bandwidth
    written = operator.prefill_context_elements * 2.0
    return PrefillSlopes(
        operator.pair_flop / (curve.compute_share * accelerator.flop_per_s("bf16")),
        (2.0 * operator.new_elements + written) / bandwidth,
        operator.prefill_context_elements * kv_bytes / bandwidth,
    )
