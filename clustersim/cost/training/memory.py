"""What a plan holds in the memory of its fullest rank, and what would make it fit. No clock.

Activations follow Korthikanti et al. (arXiv 2205.05198, section 4): of a layer with s tokens of b sequences,
``s b h (10 + 24/t + 5 a s / (h t))`` bytes at 16 bits on one of t tensor ranks, the 10 divided by t as well
with sequence parallelism and the last term absent with flash attention; here for any widths, gated
feed-forwards and experts. States follow ZeRO (arXiv 1910.02054).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.memory import DRIVER_SHARE
from clustersim.cost.training.machine import Machine
from clustersim.cost.training.parameters import Held, held
from clustersim.cost.training.plans import RECOMPUTE, SCHEDULES, Plans, columns
from clustersim.models.transformer import Transformer
from clustersim.spec.training import Plan
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]

CONTEXT_BYTES: Final = 1.5e9
"""Of the driver's context and the buffers of collectives (assumed: readings of 1 to 2 GB)."""
MARGIN: Final = 0.04
"""Of what is allocated that fragmentation adds (assumed: PyTorch's caching allocator, 2 to 8 %)."""
GATHERED_LAYERS: Final = 2.0
"""Layers whose sharded weights are whole at once: the one that computes and the one that is prefetched."""
ADDED_BYTES: Final = 2.0
"""A parameter of embeddings and head: their gradient at 16 bits before it is added to the others (fitted:
SimuMax's measured peaks on B200, of which all rows were looked at)."""


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Bytes on the fullest rank by what they hold; they add up to what is needed."""

    parameters_bytes: Floats
    gradients_bytes: Floats
    optimizer_bytes: Floats
    activations_bytes: Floats
    logits_bytes: Floats
    gathered_bytes: Floats
    """What is whole for a moment: sharded layers with their gradients, gradients of embeddings and head."""
    margin_bytes: Floats
    context_bytes: Floats

    @property
    def allocated_bytes(self) -> Floats:
        """What the framework's allocator hands out at its peak."""
        return self.total_bytes - self.margin_bytes - self.context_bytes

    @property
    def total_bytes(self) -> Floats:
        """The whole."""
        return np.asarray(sum(getattr(self, f.name) for f in fields(self)), dtype=np.float64)

    def of(self, row: int) -> dict[str, float]:
        """Return the parts of one plan by name."""
        return {f.name: float(getattr(self, f.name)[row]) for f in fields(self)}


def memory(model: Transformer, plans: Plans, stack: TrainingStack) -> Memory:
    """Return what each of *plans* needs on its fullest rank."""
    weights = held(model, plans)
    states = _states(plans, weights)
    activations = activations_bytes(model, plans, stack)
    logits = _logits_bytes(model, plans, stack)
    flying = in_flight(plans)
    second = np.maximum(flying - (plans.schedule != SCHEDULES["gpipe"]), 1.0)
    first = np.maximum(flying * plans.first_layers, second * plans.most_layers) / plans.most_layers
    first = activations * first * (1.0 - plans.offload_activations)
    last = activations * np.minimum(plans.microbatches, 1.0) + logits
    alone = plans.stages == 1
    most = np.where(alone, activations, np.maximum(first, last - logits))
    ends = np.where(alone | (last > first), logits, 0.0)
    used = sum(states.values()) + most + ends
    return Memory(
        **states,
        activations_bytes=most,
        logits_bytes=ends,
        margin_bytes=MARGIN * used,
        context_bytes=np.full(len(plans), CONTEXT_BYTES),
    )


def activations_bytes(model: Transformer, plans: Plans, stack: TrainingStack) -> Floats:
    """Return the bytes of activations that one microbatch leaves on the first stage."""
    whole, kept, scores = _layer_bytes(model, plans, stack)
    unfused = scores * (stack.attention == "unfused")
    selective = plans.recompute == RECOMPUTE["selective"]
    stored = whole + np.where(selective, 0.0, unfused)
    again = np.minimum(plans.recompute_layers, plans.most_layers) * (plans.recompute == RECOMPUTE["full"])
    running = np.where(again > 0, whole + unfused, 0.0) / np.maximum(in_flight(plans), 1.0)
    embedding = (1.0 if stack.dropout else 0.0) * plans.norm_tokens * model.hidden
    layers = (plans.most_layers - again) * stored + again * kept
    return np.asarray(layers + running + embedding, dtype=np.float64)


def in_flight(plans: Plans) -> Floats:
    """Return how many microbatches' activations the first stage holds at its peak.

    As many as stages for 1F1B, ZB-H1 and ZB-1p, twice as many for ZB-2p (published, arXiv 2401.10241), a
    chunk's worth less than one more round with interleaving (published, arXiv 2205.05198, section 4.2.3),
    one more than stages for DualPipe (published, arXiv 2412.19437), all for GPipe.
    """
    stages, chunks = plans.stages, plans.chunks
    found = stages.copy()
    for name, count in (
        ("gpipe", plans.microbatches),
        ("interleaved", stages * (1.0 + (stages - 1.0) / (stages * chunks))),
        ("zb-2p", 2.0 * stages),
        ("dualpipe", stages + 1.0),
    ):
        found = np.where(plans.schedule == SCHEDULES[name], count, found)
    return np.where(stages > 1, np.minimum(found, plans.microbatches), 1.0)


def why_not(model: Transformer, plan: Plan, machine: Machine, stack: TrainingStack) -> str | None:
    """Say why *plan* does not fit: what takes the space, and which one change would do; None if it fits."""
    usable = machine.accelerator.memory * DRIVER_SHARE
    found = memory(model, columns(model, [plan]), stack)
    needed = float(found.total_bytes[0])
    if needed <= usable:
        return None
    parts = sorted(found.of(0).items(), key=lambda part: -part[1])[:3]
    takes = ", ".join(f"{_gib(size)} of {name.removesuffix('_bytes')}" for name, size in parts)
    name = machine.accelerator.name
    return f"needs {_gib(needed)}, {name} has {_gib(usable)}: {takes}; {_advice(model, plan, usable, stack)}"


def _advice(model: Transformer, plan: Plan, usable: float, stack: TrainingStack) -> str:
    """Return the first single change that makes *plan* fit."""
    base = columns(model, [plan])
    for text, changes in _changes(plan):
        changed = replace(base, **{name: base.data * 0.0 + value for name, value in changes.items()})
        if float(memory(model, changed, stack).total_bytes[0]) <= usable:
            return f"{text} would fit"
    return "no single change would fit; combine more stages, more tensor ranks and full recomputation"


def _changes(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """Return single changes of *plan*, the cheapest in time first."""
    tensor, stages = plan.tensor_parallel, plan.pipeline.stages
    found: list[tuple[str, dict[str, Any]]] = []
    if tensor > 1 and not plan.sequence_parallel:
        found.append(("sequence_parallel: true", {"sequence_parallel": 1.0}))
    if plan.sharding.stage == 0 and plan.data_parallel > 1:
        found.append(("sharding: 1", {"sharding": 1.0}))
    if plan.recompute == "none":
        found.append(("recompute: selective", {"recompute": RECOMPUTE["selective"]}))
    if plan.recompute != "full":
        found.append(("recompute: full", {"recompute": RECOMPUTE["full"]}))
    if plan.microbatch > 1:
        found.append(("microbatch: 1", {"microbatch": 1.0}))
    if plan.sharding.stage < 3 and plan.data_parallel > 1 and stages == 1:
        found.append(("sharding: fsdp", {"sharding": 3.0}))
    if tensor < 8:
        found.append(("tensor_parallel: 8", {"tensor": 8.0}))
    return found


def _states(plans: Plans, weights: Held) -> dict[str, Floats]:
    """Return the bytes of weights, gradients and optimizer, and of layers that are whole for the moment.

    DualPipe keeps two copies of the weights (published, arXiv 2412.19437).
    """
    sharding, experts = plans.sharding, weights.expert_replicas
    cut = [np.where(sharding >= stage, plans.shard_ranks, 1.0) for stage in (1, 2, 3)]
    apart = [np.where(sharding >= stage, experts, 1.0) for stage in (1, 2, 3)]
    optimizer, gradients, parameters = (
        weights.dense / dense + weights.experts / expert for dense, expert in zip(cut, apart, strict=True)
    )
    copies = np.where(plans.schedule == SCHEDULES["dualpipe"], 2.0, 1.0)
    here = copies * plans.parameter_bytes * (1.0 - plans.offload_parameters)
    whole = GATHERED_LAYERS * weights.layer * (plans.parameter_bytes + plans.gradient_bytes)
    return {
        "parameters_bytes": parameters * here + weights.frozen * here / cut[2],
        "gradients_bytes": gradients * plans.gradient_bytes,
        "optimizer_bytes": optimizer
        * (plans.master_bytes + plans.state_bytes)
        * (1.0 - plans.offload_optimizer),
        "gathered_bytes": np.where(sharding == 3, whole, 0.0)
        + np.where(plans.lora_rank > 0, 0.0, ADDED_BYTES * weights.ends),
    }


def _layer_bytes(model: Transformer, plans: Plans, stack: TrainingStack) -> tuple[Floats, Floats, Floats]:
    """Return a layer's activations without scores, its input alone, and its scores of attention."""
    tensor, local, norm = plans.tensor, plans.local_tokens, plans.norm_tokens
    latent = model.latent
    query = model.heads * (latent.nope_size + latent.rope_size if latent else model.head_size)
    value = model.heads * (latent.value_size if latent else model.head_size)
    keys = query + value if latent else 2 * model.kv_heads * model.head_size
    inner = 6.0 if model.gated else 4.0
    share = model.dense_layers / model.layers
    feed_forward = inner * model.ffn * share
    routed = np.zeros(len(plans))
    if model.experts:
        moe = model.experts
        feed_forward += inner * moe.shared_ffn * (1.0 - share)
        rows = moe.top_k * local / tensor
        routed = (1.0 - share) * rows * (4.0 * model.hidden + inner * moe.ffn)
    masks = 2.0 if stack.dropout else 0.0
    outside = (8.0 + masks) * model.hidden * norm
    inside = (2.0 * query + 2.0 * keys + 2.0 * value + feed_forward) / tensor * local
    scores = 5.0 if stack.dropout else 2.0
    pairs = model.heads * plans.microbatch * plans.sequence**2 / plans.context / tensor
    return outside + inside + routed, 2.0 * model.hidden * norm, scores * pairs


def _logits_bytes(model: Transformer, plans: Plans, stack: TrainingStack) -> Floats:
    """Return the bytes of logits and their gradients: 16 bits, and 32 where the loss is not fused."""
    width = 6.0 if stack.fused_loss else 10.0
    return np.asarray(width * plans.local_tokens * model.vocabulary / plans.tensor, dtype=np.float64)


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
