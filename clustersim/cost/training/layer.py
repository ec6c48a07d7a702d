"""A layer of one rank in one microbatch: its kernels, and what of its communication shows. No clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.training.case import Case, shown
from clustersim.cost.training.kernels import Kernels, Passes
from clustersim.cost.training.plans import RECOMPUTE, Plans
from clustersim.models.operators import Attention, ExpertGemm, Gemm, Shard, operators

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Seconds of the mean layer a microbatch, each an array over the plans; communication is what shows."""

    kernels: Passes
    recompute_s: Floats
    """Forward kernels that run again before the backward pass."""
    tensor_s: Floats
    """Forward, backward and again forward where that is recomputed; so for the two below."""
    context_s: Floats
    expert_s: Floats
    collectives: Floats
    """Launched a microbatch."""
    launches: Floats
    """Passes that the host launches, in forward passes, of which a backward pass is two."""
    embedding_s: Floats
    """Of the first stage alone."""
    head_s: Floats
    """Of the last stage alone."""

    @property
    def busy_s(self) -> Floats:
        """Everything but launches and the ends."""
        return self.kernels.total_s + self.recompute_s + self.tensor_s + self.context_s + self.expert_s


def layer_of(case: Case) -> Layer:
    """Return the mean layer of the model, and its ends, for all plans."""
    plans, found = case.plans, _kernels(case)
    whole = (plans.recompute == RECOMPUTE["full"]) * 1.0
    covered = whole * np.minimum(1.0, plans.recompute_layers / plans.most_layers)
    stored = (plans.recompute == RECOMPUTE["selective"]) & (case.stack.attention == "unfused")
    reduce_s, reductions = _reductions(case)
    ring_s, swap_s = _ring_s(case), _swap_s(case)
    mean = Passes(found["forward"], found["inputs"], found["weights"])
    started = reductions + 2.0 * (plans.expert > 1) + (plans.context > 1)
    return Layer(
        kernels=mean,
        recompute_s=covered * mean.forward_s + np.where(stored, found["core"], 0.0),
        tensor_s=(1.0 + covered) * shown(reduce_s, case.overlap("tensor"), found["products"])
        + shown(reduce_s, case.overlap("tensor"), found["products_backward"]),
        context_s=(1.0 + covered) * shown(ring_s, case.overlap("context"), found["core"])
        + shown(2.0 * ring_s, case.overlap("context"), found["core_backward"]),
        expert_s=(1.0 + covered) * shown(swap_s, case.overlap("expert"), mean.forward_s)
        + shown(swap_s, case.overlap("expert"), mean.backward_s),
        collectives=started * (2.0 + covered),
        launches=3.0 + covered,
        embedding_s=found["embedding"],
        head_s=found["head"],
    )


def _kernels(case: Case) -> dict[str, Floats]:
    """Return the kernels of the mean layer and of the ends, cut by cut."""
    table: dict[str, Floats] = {}
    for shard, bits, rows in case.plans.cuts(case.model):
        kernels = Kernels(case.model, case.machine, case.stack, bits)
        for name, values in _kernel_columns(kernels, shard, case.plans.take(rows)).items():
            table.setdefault(name, np.empty(len(case.plans)))[rows] = values
    return table


def _kernel_columns(kernels: Kernels, shard: Shard, plans: Plans) -> dict[str, Floats]:
    """Return the kernels of the mean layer, its attention and products apart, and of the ends."""
    model, zero = kernels.model, np.zeros(len(plans))
    total = kernels.moves(shard.tensor, plans)
    core = products = Passes(zero, zero, zero)
    for operator in operators(model, shard):
        priced = kernels.operator(operator, plans)
        if priced is None:
            continue
        priced = priced * (operator.layers / model.layers)
        total = total + priced
        if isinstance(operator, Attention):
            core = core + priced
        elif isinstance(operator, Gemm | ExpertGemm):
            products = products + priced
    return {
        "forward": total.forward_s,
        "inputs": total.inputs_s,
        "weights": total.weights_s,
        "core": core.forward_s,
        "core_backward": core.inputs_s,
        "products": products.forward_s,
        "products_backward": products.backward_s,
        "embedding": kernels.embedding(shard.tensor, plans).total_s,
        "head": kernels.head(shard.tensor, plans).total_s,
    }


def _reductions(case: Case) -> tuple[Floats, Floats]:
    """Return seconds and number of the reductions of one forward pass between tensor ranks."""
    plans, model = case.plans, case.model
    size = 2.0 * model.hidden * plans.local_tokens
    whole = case.exchange.seconds("all_reduce", case.tensor, size)
    halves = case.exchange.seconds("reduce_scatter", case.tensor, size)
    halves = halves + case.exchange.seconds("all_gather", case.tensor, size)
    dense = model.dense_layers / model.layers
    feed_forward = dense + (1.0 - dense) * (plans.expert_tensor > 1)
    count = (plans.tensor > 1) * (1.0 + (0.0 if case.stack.parallel_block else feed_forward))
    return np.where(plans.sequence_parallel > 0, halves, whole) * count, count


def _ring_s(case: Case) -> Floats:
    """Return the seconds in which every context rank gets the keys and values of all the others."""
    plans, model = case.plans, case.model
    elements = 2.0 * np.ceil(model.kv_heads / plans.tensor) * model.head_size
    size = 2.0 * elements * plans.microbatch * plans.sequence
    return case.exchange.seconds("all_gather", case.context, size)


def _swap_s(case: Case) -> Floats:
    """Return the seconds of dispatch to experts and back of one forward pass."""
    plans, moe = case.plans, case.model.experts
    if moe is None:
        return case.zero
    rows = plans.local_tokens / plans.tensor * plans.expert_tensor * moe.top_k
    once = case.exchange.dispatch_s(case.expert, 2.0 * case.model.hidden * rows, moe.top_k)
    return 2.0 * once * (moe.layers / case.model.layers)
