"""What the kernels of one layer take on one rank, forward and backward, without any communication. No clock.

A product is priced forward, for the gradient of its inputs and for that of its weights, which has the
tokens as its inner dimension and adds to gradients in memory. Attention is priced at once (flash) or as two
products around a softmax whose scores lie in memory (unfused).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost import compute
from clustersim.cost.compute import Formats
from clustersim.cost.replica import expert_curve, gemm_curve
from clustersim.cost.step import DEFAULT_PROCESSORS
from clustersim.cost.training.machine import Machine
from clustersim.cost.training.plans import Plans
from clustersim.models.operators import Attention, ExpertGemm, Gemm, Operator
from clustersim.models.transformer import Transformer
from clustersim.spec.efficiency import Roofline
from clustersim.spec.precision import BYTES
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]

FORMATS: Final = MappingProxyType({16: Formats(), 8: Formats("fp8", "fp8"), 4: Formats("fp4", "fp4")})
BACKWARD_FLOP: Final = 2.5
"""Products of flash attention backward over forward: five instead of two (published, arXiv 2205.14135)."""
BACKWARD_SHARE: Final = 0.85
"""Speed of flash attention backward as a share of forward (published: FlashAttention-2, arXiv 2307.08691,
reaches 73 % of an A100's peak forward and 63 % backward)."""
ACTIVATION_BYTES: Final = MappingProxyType({True: (6.0, 10.0), False: (4.0, 6.0)})
"""Bytes forward and backward per inner element of a gated or plain feed-forward (16-bit reads, writes)."""


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """Seconds of a forward pass, of the gradient of inputs, and of that of weights."""

    forward_s: Floats
    inputs_s: Floats
    weights_s: Floats

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.forward_s + other.forward_s,
            self.inputs_s + other.inputs_s,
            self.weights_s + other.weights_s,
        )

    def __mul__(self, times: float | Floats) -> Passes:
        return Passes(self.forward_s * times, self.inputs_s * times, self.weights_s * times)

    @property
    def backward_s(self) -> Floats:
        """Both gradients."""
        return self.inputs_s + self.weights_s

    @property
    def total_s(self) -> Floats:
        """All three."""
        return self.forward_s + self.backward_s


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of a model's layers on one machine, with one stack, in one number format of products."""

    model: Transformer
    machine: Machine
    stack: TrainingStack
    bits: int

    @property
    def formats(self) -> Formats:
        """Of the products of activations and weights."""
        return FORMATS[self.bits]

    def peak(self, number_format: str) -> float:
        """Return the FLOP/s that the accelerator sustains in *number_format*."""
        accelerator, stack = self.machine.accelerator, self.stack
        share = stack.kernel_share * stack.generations.get(accelerator.generation, 1.0)
        return accelerator.flop_per_s(number_format) * stack.sustained * share

    def aligned(self, size: int) -> float:
        """Return the speed of products with an inner or outer dimension of *size*, for what 8 divides."""
        return 1.0 if size % 8 == 0 else self.stack.unaligned_share

    def operator(self, operator: Operator, plans: Plans) -> Passes | None:
        """Price one layer of *operator*; None for what training prices elsewhere."""
        if isinstance(operator, Gemm):
            return None if operator.kind == "logits" else self.product(operator, plans)
        if isinstance(operator, ExpertGemm):
            return self.experts(operator, plans)
        if isinstance(operator, Attention):
            return self.attention(operator, plans)
        return None

    def product(self, operator: Gemm, plans: Plans) -> Passes:
        """Price a product with weights, its activations' quantisation included."""
        formats = self.formats if operator.kind == "gemm" else Formats()
        tokens, n, k = plans.local_tokens, float(operator.n), float(operator.k)
        curve = gemm_curve(self.machine.efficiency, formats)
        width, rate = BYTES[formats.activations], self.peak(formats.activations) * self.aligned(operator.n)
        flop, weights = 2.0 * n * k * tokens, width * n * k
        added = n * k * (2.0 * plans.gradient_bytes)
        passes = Passes(
            self._roofline(curve, flop / rate, width * k * tokens + weights + 2.0 * n * tokens),
            self._roofline(curve, flop / rate, width * n * tokens + weights + 2.0 * k * tokens),
            self._roofline(curve, flop / rate, width * (n + k) * tokens + added),
        )
        frozen = plans.lora_rank > 0
        passes = Passes(passes.forward_s, passes.inputs_s, np.where(frozen, 0.0, passes.weights_s))
        return passes + self._quantised(formats, n, k, tokens) + self._adapters(operator, plans)

    def experts(self, operator: ExpertGemm, plans: Plans) -> Passes:
        """Price the grouped products of a rank's experts under even routing, and moving rows to them."""
        curve = expert_curve(self.machine.efficiency, self.formats)
        width = BYTES[self.formats.activations]
        ranks = plans.expert * plans.expert_tensor
        tokens = plans.local_tokens * ranks / plans.tensor
        rows, rate = operator.rows(tokens), self.peak(self.formats.activations) * self.stack.expert_share
        flop, held = operator.flop(tokens), operator.local_experts * operator.weight_elements
        moved = width * operator.activation_elements(tokens)
        once = self._roofline(curve, flop / rate, moved + width * held)
        gradient = self._roofline(curve, flop / rate, moved + 2.0 * plans.gradient_bytes * held)
        inner = ACTIVATION_BYTES[self.model.gated]
        permuted = 8.0 * operator.hidden
        moves = Passes(
            self._moved(rows * (inner[0] * operator.ffn + permuted), 4),
            self._moved(rows * (inner[1] * operator.ffn + permuted), 4),
            np.zeros_like(rows),
        )
        return Passes(once, once, gradient) + moves

    def attention(self, operator: Attention, plans: Plans) -> Passes:
        """Price attention's core: the products of queries, keys and values."""
        if self.stack.attention == "unfused":
            return self._unfused(operator, plans)
        return self._flash(operator, plans)

    def moves(self, tensor: int, plans: Plans) -> Passes:
        """Price the elementwise kernels of one layer: norms, residuals, dropout, positions, activations."""
        model, stack = self.model, self.stack
        halves = 1.0 if stack.parallel_block else 2.0
        residual = (7.0, 11.0) if stack.dropout else (6.0, 6.0)
        inner = ACTIVATION_BYTES[model.gated]
        dense = model.dense_layers / model.layers * model.ffn
        shared = model.expert_layers / model.layers * (model.experts.shared_ffn if model.experts else 0)
        width = (dense + shared) / tensor
        rotated = 4.0 * (model.heads + 2 * model.kv_heads) * model.head_size / tensor
        norm, local = plans.norm_tokens * model.hidden, plans.local_tokens
        forward = halves * (4.0 + residual[0]) * norm + (inner[0] * width + rotated) * local
        backward = halves * (6.0 + residual[1]) * norm + (inner[1] * width + rotated) * local
        return Passes(
            self._moved(forward, 3 * halves + 2), self._moved(backward, 4 * halves + 2), np.zeros_like(norm)
        )

    def head(self, tensor: int, plans: Plans) -> Passes:
        """Price the logits and their loss."""
        logits = Gemm("logits", 1, -(-self.model.vocabulary // tensor), self.model.hidden, "logits")
        product = self.product(logits, plans)
        forward, backward = (6.0, 4.0) if self.stack.fused_loss else (18.0, 10.0)
        entries = plans.local_tokens * logits.n
        return product + Passes(
            self._moved(forward * entries, 4), self._moved(backward * entries, 2), np.zeros_like(entries)
        )

    def embedding(self, tensor: int, plans: Plans) -> Passes:
        """Price the look-up of tokens and the scatter of its gradients."""
        moved = plans.local_tokens * self.model.hidden
        added = self.model.vocabulary / tensor * self.model.hidden * 2.0 * plans.gradient_bytes
        frozen = plans.lora_rank > 0
        return Passes(
            self._moved((11.0 if self.stack.dropout else 4.0) * moved, 2),
            np.where(frozen, 0.0, self._moved(6.0 * moved + added, 3)),
            np.zeros_like(moved),
        )

    def _flash(self, operator: Attention, plans: Plans) -> Passes:
        curve = self.machine.efficiency.prefill["bf16"]
        sequence = plans.sequence
        pairs = operator.flop(sequence, np.zeros_like(sequence)) * plans.microbatch / plans.context
        processors = self.machine.accelerator.processors or DEFAULT_PROCESSORS
        items = plans.microbatch * operator.heads * np.ceil(sequence / plans.context / 128.0) / processors
        efficiency = sequence / (sequence + curve.half_tokens) * np.minimum(1.0, items**curve.fill_power)
        rate = self.peak("bf16") * self.stack.attention_share * efficiency
        moved = 2.0 * (operator.new_elements + operator.prefill_context_elements) * plans.local_tokens
        backward = self._roofline(curve, BACKWARD_FLOP * pairs / (BACKWARD_SHARE * rate), 2.5 * moved)
        return Passes(self._roofline(curve, pairs / rate, moved), backward, np.zeros_like(backward))

    def _unfused(self, operator: Attention, plans: Plans) -> Passes:
        """Two products and a softmax with dropout, all scores written and read; the mask saves nothing."""
        curve = gemm_curve(self.machine.efficiency, Formats())
        scores = operator.heads * plans.microbatch * plans.sequence**2 / plans.context
        flop = operator.pair_flop / operator.heads * scores
        rate = self.peak("bf16") * self.aligned(self.model.head_size) * self.stack.attention_share
        products = self._roofline(curve, flop / rate, 4.0 * scores) + curve.launch
        softmax = (9.0, 11.0) if self.stack.dropout else (4.0, 6.0)
        return Passes(
            products + self._moved(softmax[0] * scores, 2),
            2.0 * products + self._moved(softmax[1] * scores, 2),
            np.zeros_like(scores),
        )

    def _roofline(self, curve: Roofline, at_peak_s: Floats, moved: Floats) -> Floats:
        memory_s = moved / (curve.memory_share * self.machine.accelerator.memory_bandwidth)
        return compute.roofline(at_peak_s / curve.compute_share, memory_s, curve.norm, curve.launch).total_s

    def _moved(self, moved: Floats, kernels: float) -> Floats:
        """Return the time of *kernels* elementwise kernels that move so many bytes together."""
        curve = self.machine.efficiency.elementwise
        rate = curve.memory_share * self.stack.moves_share * self.machine.accelerator.memory_bandwidth
        return np.asarray(moved / rate + kernels * curve.launch, dtype=np.float64)

    def _quantised(self, formats: Formats, n: float, k: float, tokens: Floats) -> Passes:
        """Casts to the products' format: inputs forward; output gradients, and both transposed, backward."""
        width, zero = BYTES[formats.activations], np.zeros_like(tokens)
        curve = gemm_curve(self.machine.efficiency, formats).quantise
        if curve is None or width >= 2.0:
            return Passes(zero, zero, zero)
        rate = curve.memory_share * self.machine.accelerator.memory_bandwidth * self.stack.moves_share
        forward = (2.0 + 2.0 * width) * k * tokens / rate + curve.launch
        backward = (2.0 + 2.0 * width) * n * tokens / rate + curve.launch
        return Passes(forward, backward, zero)

    def _adapters(self, operator: Gemm, plans: Plans) -> Passes:
        """The two thin products of a low-rank adapter, memory-bound, where the plan has adapters."""
        zero = np.zeros_like(plans.local_tokens)
        ours = (plans.lora_rank > 0) & (operator.kind == "gemm")
        if "feed-forward" in operator.name or "experts" in operator.name:
            ours = ours & (plans.lora_all > 0)
        if not bool(np.any(ours)):
            return Passes(zero, zero, zero)
        curve, rank = gemm_curve(self.machine.efficiency, Formats()), plans.lora_rank
        tokens, wide = plans.local_tokens, float(operator.n + operator.k)
        once = self._roofline(curve, 2.0 * rank * wide * tokens / self.peak("bf16"), 2.0 * wide * tokens)
        once = np.where(ours, once + curve.launch, 0.0)
        return Passes(once, once, once)
