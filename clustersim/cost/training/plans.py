"""Many plans as one table of columns, so that a search prices thousands at once. No prices, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clustersim.models.operators import Shard
from clustersim.models.transformer import Transformer
from clustersim.spec.training import STATE_BYTES, Plan
from clustersim.spec.training_stack import Overlap

Floats = NDArray[np.float64]

RECOMPUTE: Final[Mapping[str, float]] = MappingProxyType({"none": 0.0, "selective": 1.0, "full": 2.0})
"""Recomputation as a number of the column ``recompute``."""
SCHEDULES: Final[Mapping[str, float]] = MappingProxyType(
    {"gpipe": 0.0, "1f1b": 1.0, "interleaved": 2.0, "zb-h1": 3.0, "zb-1p": 4.0, "zb-2p": 5.0, "dualpipe": 6.0}
)
"""Schedules as numbers of the column ``schedule``."""
NEWTON_SCHULZ: Final = 5.0
"""Iterations of Muon (published, arXiv 2502.16982)."""
DIMENSIONS: Final = ("tensor", "context", "data", "pipeline")
OVERLAPS: Final = ("tensor", "pipeline", "data", "shards", "expert", "context")


@dataclass(frozen=True, slots=True, eq=False)
class Plans:
    """Columns of plans, each a float array over the plans."""

    data: Floats
    tensor: Floats
    context: Floats
    expert: Floats
    expert_tensor: Floats
    stages: Floats
    chunks: Floats
    schedule: Floats
    """A value of ``SCHEDULES``."""
    first_layers: Floats
    """Layers of the first stage."""
    most_layers: Floats
    """Layers of the fullest stage between the first and the last, or of the first."""
    last_layers: Floats
    microbatch: Floats
    batch: Floats
    """Sequences of a step."""
    sequence: Floats
    """Tokens of a sequence."""
    sequence_parallel: Floats
    sharding: Floats
    shard_ranks: Floats
    """Ranks that share one copy of what is sharded."""
    recompute: Floats
    """A value of ``RECOMPUTE``."""
    recompute_layers: Floats
    """Layers of a stage that full recomputation covers; infinite for all."""
    compute_bits: Floats
    """Of the inputs of products: 16, 8 or 4."""
    gradient_bytes: Floats
    parameter_bytes: Floats
    master_bytes: Floats
    state_bytes: Floats
    newton_schulz: Floats
    """Iterations in which the optimizer makes updates orthogonal; 0 for all but Muon."""
    offload_optimizer: Floats
    offload_parameters: Floats
    offload_activations: Floats
    lora_rank: Floats
    """Rank of adapters; 0 where all weights are trained."""
    lora_all: Floats
    """1 where the feed-forward has adapters too."""
    overlap: Floats
    """Rows of ``OVERLAPS`` over the plans; NaN where the stack decides."""
    stride: Floats
    """Rows of ``DIMENSIONS``: how many accelerators lie between neighbours of a dimension."""

    def __len__(self) -> int:
        return len(self.data)

    @property
    def ranks(self) -> Floats:
        """Accelerators of each plan."""
        return self.data * self.tensor * self.context * self.stages

    def stride_of(self, dimension: str) -> Floats:
        """Return how many accelerators lie between neighbours of *dimension*."""
        return np.asarray(self.stride[DIMENSIONS.index(dimension)], dtype=np.float64)

    @property
    def microbatches(self) -> Floats:
        """Forward passes of a replica in a step."""
        return self.batch / (self.data * self.microbatch)

    @property
    def local_tokens(self) -> Floats:
        """Tokens of a microbatch on one of the context ranks."""
        return self.microbatch * self.sequence / self.context

    @property
    def norm_tokens(self) -> Floats:
        """Tokens that norms, dropout and residuals of one rank see."""
        return self.local_tokens / np.where(self.sequence_parallel > 0, self.tensor, 1.0)

    def take(self, rows: NDArray[Any]) -> Plans:
        """Return the plans at *rows*."""
        return Plans(**{f.name: getattr(self, f.name)[..., rows] for f in fields(self)})

    def cuts(self, model: Transformer) -> Iterator[tuple[Shard, int, NDArray[np.intp]]]:
        """Yield each way to cut a layer with the bits of its products, and the plans that do so."""
        keys = np.stack([self.tensor, self.expert, self.expert_tensor, self.compute_bits]).astype(int)
        unique, inverse = np.unique(keys, axis=1, return_inverse=True)
        for number, (tensor, expert, expert_tensor, bits) in enumerate(unique.T.tolist()):
            shard = Shard(tensor, expert if model.experts else 1, expert_tensor if model.experts else tensor)
            yield shard, bits, np.flatnonzero(inverse.ravel() == number)


def columns(model: Transformer, plans: Iterable[Plan]) -> Plans:
    """Return *plans* of *model* as columns."""
    rows = [_row(model, plan) for plan in plans]
    if not rows:
        raise ValueError("there is no plan to price")
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    table["overlap"] = table["overlap"].T
    table["stride"] = table["stride"].T
    return Plans(**table)


def strides(sizes: Mapping[str, Floats], order: Sequence[str] = DIMENSIONS) -> Floats:
    """Return the rows of ``Plans.stride`` for dimensions of *sizes* laid out in *order*, neighbours first.

    >>> strides({"tensor": np.array([8.0]), "context": np.array([1.0]), "data": np.array([4.0])}).T.tolist()
    [[1.0, 8.0, 8.0, 32.0]]
    """
    found: dict[str, Floats] = {}
    apart = np.ones_like(sizes["tensor"])
    for dimension in order:
        found[dimension] = apart
        apart = apart * sizes.get(dimension, np.ones_like(apart))
    return np.stack([found[dimension] for dimension in DIMENSIONS])


def broadcast(base: Plan, model: Transformer, **changed: Any) -> Plans:
    """Return many plans that differ from *base* in the columns *changed*, arrays of equal length.

    The columns of layers follow from the stages unless they are changed too; nothing is checked.
    """
    size = np.broadcast_shapes(*(np.shape(value) for name, value in changed.items() if name != "overlap"))
    row = columns(model, [base])
    table = {
        f.name: np.broadcast_to(
            np.asarray(changed.get(f.name, getattr(row, f.name)), dtype=np.float64),
            (len(OVERLAPS), *size) if f.name == "overlap" else size,
        )
        for f in fields(Plans)
        if f.name != "stride"
    }
    table["stride"] = strides({**table, "pipeline": table["stages"]}, base.order)
    if "stages" in changed and "most_layers" not in changed:
        each, stages = model.layers // table["stages"], table["stages"]
        extra = model.layers - each * stages
        first = each + (extra > 0)
        table |= {"first_layers": first, "most_layers": first, "last_layers": each + 0.0}
    return Plans(**table)


def _row(model: Transformer, plan: Plan) -> dict[str, Any]:
    spread, offload = plan.pipeline.spread(model.layers), plan.offload
    middle = spread[1:-1] or spread[:1]
    ranks = plan.data_parallel * plan.context_parallel
    return {
        "data": plan.data_parallel,
        "tensor": plan.tensor_parallel,
        "context": plan.context_parallel,
        "expert": plan.expert_parallel,
        "expert_tensor": plan.expert_tensor_parallel,
        "stages": plan.pipeline.stages,
        "chunks": plan.pipeline.chunks,
        "schedule": SCHEDULES[plan.pipeline.schedule],
        "first_layers": spread[0],
        "most_layers": max(middle),
        "last_layers": spread[-1],
        "microbatch": plan.microbatch,
        "batch": plan.global_batch,
        "sequence": plan.sequence_tokens,
        "sequence_parallel": plan.sequence_parallel,
        "sharding": plan.sharding.stage,
        "shard_ranks": plan.sharding.group or ranks,
        "recompute": RECOMPUTE[plan.recompute],
        "recompute_layers": plan.recompute_layers or np.inf,
        "lora_rank": plan.lora.rank if plan.lora else 0,
        "lora_all": bool(plan.lora and plan.lora.targets == "all"),
        "offload_optimizer": offload.optimizer,
        "offload_parameters": offload.parameters,
        "offload_activations": offload.activations,
        **_formats(plan),
        "overlap": _overlap(plan.overlap),
        "stride": _stride(plan),
    }


def _formats(plan: Plan) -> dict[str, float]:
    recipe = plan.precision
    return {
        "compute_bits": {"fp8": 8.0, "fp4": 4.0}.get(recipe.compute, 16.0),
        "gradient_bytes": recipe.gradient_bytes,
        "parameter_bytes": recipe.parameter_bytes,
        "master_bytes": 4.0 if recipe.master else 0.0,
        "state_bytes": STATE_BYTES[plan.optimizer],
        "newton_schulz": NEWTON_SCHULZ * (plan.optimizer == "muon"),
    }


def _overlap(overlap: Overlap | None) -> list[float]:
    return [getattr(overlap, name) if overlap else np.nan for name in OVERLAPS]


def _stride(plan: Plan) -> list[float]:
    sizes = {
        "tensor": plan.tensor_parallel,
        "context": plan.context_parallel,
        "data": plan.data_parallel,
        "pipeline": plan.pipeline.stages,
    }
    return [float(row[0]) for row in strides({k: np.array([float(v)]) for k, v in sizes.items()}, plan.order)]
