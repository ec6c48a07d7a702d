"""How many of a model's parameters a rank of a plan holds, trains and sends. No clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.training.plans import Plans
from clustersim.models.transformer import Transformer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Elements on one rank of the stage that holds most, before sharding over data ranks."""

    dense: Floats
    """Trained parameters outside routed experts, embeddings or head included."""
    experts: Floats
    """Trained parameters of routed experts."""
    frozen: Floats
    """Parameters that no gradient is kept for."""
    layer: Floats
    """Parameters of the mean layer on one rank: what sharding gathers at once."""
    ends: Floats
    """Embeddings and head on one rank, included above."""
    tied: Floats
    """Embeddings that the first and the last stage both hold."""
    expert_replicas: Floats
    """Ranks that hold the same experts."""


def held(model: Transformer, plans: Plans) -> Held:
    """Return what the fullest rank of each plan holds: the first stage, or the fullest of the others."""
    parts = model.weight_elements
    tensor, split = plans.tensor, plans.expert * plans.expert_tensor
    every = parts.attention / tensor / model.layers + parts.norms / model.layers
    dense = parts.dense_ffn / tensor / max(model.dense_layers, 1)
    routed = max(model.expert_layers, 1)
    shared = (parts.shared_experts / tensor + parts.router) / routed
    experts = parts.experts / split / routed
    ends = model.vocabulary * model.hidden / tensor
    first = ends + model.learned_positions * model.hidden
    both = first + (0.0 if model.tied_embeddings else ends)
    end = np.where(plans.stages > 1, first, both)
    end = np.where(plans.most_layers * every > plans.first_layers * every + end, 0.0, end)
    count = np.where(end > 0, plans.first_layers, plans.most_layers)
    mixed = np.minimum(np.maximum(count, plans.most_layers * (plans.stages > 1)), model.expert_layers)
    adapters, frozen = _adapters(model, plans) * count, plans.lora_rank > 0
    all_dense = every * count + dense * np.maximum(count - mixed, 0.0) + shared * mixed + end
    return Held(
        dense=np.where(frozen, adapters, all_dense),
        experts=np.where(frozen, 0.0, experts * mixed),
        frozen=np.where(frozen, all_dense + experts * mixed, 0.0),
        layer=every + (dense * model.dense_layers + (shared + experts) * model.expert_layers) / model.layers,
        ends=end,
        tied=np.where(frozen, 0.0, ends if model.tied_embeddings else 0.0),
        expert_replicas=np.maximum(plans.data * plans.context * tensor / split, 1.0),
    )


def _adapters(model: Transformer, plans: Plans) -> Floats:
    """Return the elements of one layer's adapters on one rank, of fused projections as Megatron has them."""
    query, kv = model.heads * model.head_size, model.kv_heads * model.head_size
    attention = 2 * model.hidden + 2 * query + 2 * kv
    wide = 2 * model.hidden + (3 if model.gated else 2) * model.ffn
    return plans.lora_rank * (attention + plans.lora_all * wide) / plans.tensor
