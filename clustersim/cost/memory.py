"""What a replica holds in each accelerator's memory: weights, workspace, cache. No clock.

All sizes are of the fullest accelerator: the first pipeline stage, or the last with the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from clustersim.cost.replica import Parallel
from clustersim.models.operators import ExpertGemm, Gemm, local_kv_heads, operators, split
from clustersim.models.transformer import Transformer
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.precision import Precision

BASE_BYTES: Final = 0.85e9
"""Context, captured graphs and communication buffers (fitted: what vLLM 0.19 left unused of an RTX 4090 with
Llama-3.1-8B, LLMServingSim's bench run, after weights, activations and 2,588 cache blocks of 16 tokens)."""
DRIVER_SHARE: Final = 0.985
"""Of the card's memory that programs see (assumed from driver readings: 79.1 of 80 GiB on H100 and A100,
23.5 of 24 GiB on RTX 4090)."""
MEMORY_SHARE: Final = 0.9
"""Of the memory that an engine may fill (published: the default of vLLM's gpu_memory_utilization)."""


@dataclass(frozen=True, slots=True)
class KvBytes:
    """Cache of one accelerator: for every token of context, and once a sequence for its sliding windows."""

    per_token: float
    per_sequence: float


@dataclass(frozen=True, slots=True)
class Budget:
    """How the memory of the fullest accelerator is used, bytes."""

    usable_bytes: float
    weights_bytes: float
    workspace_bytes: float
    kv: KvBytes

    @property
    def kv_bytes(self) -> float:
        """What is left for the cache; negative if not even the weights fit."""
        return self.usable_bytes - self.weights_bytes - self.workspace_bytes

    def capacity_tokens(self, sequences: int = 0) -> int:
        """Return the tokens of context that the cache of one accelerator holds beside *sequences* windows."""
        left = self.kv_bytes - sequences * self.kv.per_sequence
        return max(0, int(left / self.kv.per_token))

    def capacity_blocks(self, block_tokens: int, sequences: int = 0) -> int:
        """Return the whole blocks of *block_tokens* tokens that fit."""
        return self.capacity_tokens(sequences) // block_tokens


def weights_bytes(model: Transformer, parallel: Parallel, precision: Precision) -> float:
    """Return the bytes of the weights on the fullest accelerator; embeddings, head and router at 16 bits."""
    layers = split(model.layers, parallel.pipeline) / model.layers
    total = 0.0
    for operator in operators(model, parallel.shard):
        if isinstance(operator, ExpertGemm):
            experts = -(-operator.experts // parallel.expert)
            total += layers * operator.layers * experts * operator.weight_elements * precision.weight_bytes
        elif isinstance(operator, Gemm) and operator.kind != "logits":
            width = precision.weight_bytes if operator.kind == "gemm" else 2.0
            total += layers * operator.layers * operator.weight_elements * width
    return total + _embedding_bytes(model, parallel)


def kv_bytes(model: Transformer, parallel: Parallel, precision: Precision) -> KvBytes:
    """Return the cache bytes on one accelerator; ranks beyond the key-value heads hold copies."""
    if model.latent:
        elements = model.latent.kv_rank + model.latent.rope_size
    else:
        elements = 2 * local_kv_heads(model, parallel.tensor) * model.head_size
    layer_bytes = elements * precision.kv_bytes / parallel.pipeline
    return KvBytes(
        (model.layers - model.window_layers) * layer_bytes,
        model.window_layers * model.window_tokens * layer_bytes,
    )


def workspace_bytes(model: Transformer, parallel: Parallel, tokens: int, sequences: int) -> float:
    """Return what passes of *tokens* tokens and *sequences* outputs need beside weights and cache."""
    width = 4 * model.hidden + 3 * split(model.ffn, parallel.tensor)
    if model.experts:
        width += model.experts.top_k * model.hidden
    return BASE_BYTES + 2.0 * tokens * width + 4.0 * sequences * model.vocabulary


def budget(
    model: Transformer,
    accelerator: Accelerator,
    parallel: Parallel,
    precision: Precision,
    room: Room | None = None,
) -> Budget:
    """Return how *model* fills the memory of *accelerator*."""
    room = room or Room()
    return Budget(
        accelerator.memory * DRIVER_SHARE * room.memory_share,
        weights_bytes(model, parallel, precision),
        workspace_bytes(model, parallel, room.max_tokens, room.max_sequences),
        kv_bytes(model, parallel, precision),
    )


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory an engine may fill, and the largest pass that it must have room for."""

    memory_share: float = MEMORY_SHARE
    max_tokens: int = 2048
    max_sequences: int = 256


def why_not(
    model: Transformer,
    accelerator: Accelerator,
    parallel: Parallel,
    precision: Precision,
    room: Room | None = None,
) -> str | None:
    """Say why *model* does not fit: what is needed, what there is, what would fit; None if it fits."""
    found = budget(model, accelerator, parallel, precision, room)
    if found.kv_bytes > 0:
        return None
    needed = found.weights_bytes + found.workspace_bytes
    hint = _advice(model, accelerator, parallel, precision, room)
    return (
        f"needs {_gib(needed)} on each accelerator ({_gib(found.weights_bytes)} of weights), "
        f"but {accelerator.name} has {_gib(found.usable_bytes)} of its {_gib(accelerator.memory)} to give "
        f"with tensor_parallel={parallel.tensor}, pipeline_parallel={parallel.pipeline}; {hint}"
    )


def _advice(
    model: Transformer,
    accelerator: Accelerator,
    parallel: Parallel,
    precision: Precision,
    room: Room | None,
) -> str:
    tensor = parallel.tensor * 2
    while tensor <= max(64, model.heads):
        wider = replace(parallel, tensor=tensor, expert=1)
        if budget(model, accelerator, wider, precision, room).kv_bytes > 0:
            return f"tensor_parallel={tensor} would fit"
        tensor *= 2
    return "no tensor_parallel up to the number of heads would fit; use more pipeline stages or fewer bits"


def _embedding_bytes(model: Transformer, parallel: Parallel) -> float:
    """Return the larger of embeddings and head, or both where one stage holds both and they are not tied."""
    rows = split(model.vocabulary, parallel.tensor)
    embeddings = 2.0 * (rows + model.learned_positions) * model.hidden
    head = 2.0 * rows * model.hidden
    if parallel.pipeline > 1:
        return max(embeddings, head)
    return embeddings if model.tied_embeddings else embeddings + head


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
