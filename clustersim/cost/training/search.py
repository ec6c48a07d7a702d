"""Every plan of a space priced at once, those that fit the memory first, the fastest first. No clock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.memory import DRIVER_SHARE
from clustersim.cost.training.machine import Machine
from clustersim.cost.training.memory import memory
from clustersim.cost.training.plans import RECOMPUTE, SCHEDULES, Plans, broadcast
from clustersim.cost.training.step import Steps, steps
from clustersim.errors import ClusterSimError
from clustersim.models.transformer import Transformer
from clustersim.spec.training import Pipeline, Plan
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]

POWERS: Final = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Space:
    """Which values a search tries; what *base* says besides them holds for every plan."""

    accelerators: int
    base: Plan
    """Its batch, sequence, formats, sharding and the like; its parallel ranks are replaced."""
    tensor: tuple[int, ...] = POWERS[:4]
    stages: tuple[int, ...] = POWERS
    chunks: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    microbatch: tuple[int, ...] = POWERS[:4]
    recompute: tuple[str, ...] = ("none", "selective", "full")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Priced plans of a space, in the order in which they were made."""

    plans: Plans
    steps: Steps
    needed_bytes: Floats
    fits: NDArray[np.bool_]

    @property
    def order(self) -> NDArray[np.intp]:
        """Rows from best to worst: those that fit first, then by seconds, ties as they were made."""
        return np.lexsort((np.arange(len(self.fits)), self.steps.seconds, ~self.fits))


def search(model: Transformer, space: Space, machine: Machine, stack: TrainingStack) -> Found:
    """Price every plan of *space*; raise ClusterSimError if there is none."""
    plans = candidates(model, space)
    needed = memory(model, plans, stack).total_bytes
    usable = machine.accelerator.memory * DRIVER_SHARE
    return Found(plans, steps(model, plans, machine, stack), needed, needed <= usable)


def candidates(model: Transformer, space: Space) -> Plans:
    """Return every combination of *space* that cuts model, batch and accelerators evenly."""
    rows = [row for row in _combinations(space) if _is_possible(model, space, *row[:4])]
    if not rows:
        raise ClusterSimError(
            f"no plan of the space cuts {model.layers} layers, {model.heads} heads and "
            f"{space.base.global_batch} sequences over {space.accelerators} accelerators; widen it"
        )
    tensor, stages, chunks, microbatch, recompute = np.array(rows, dtype=np.float64).T
    base = space.base.model_copy(update={"pipeline": Pipeline()})
    return broadcast(
        base,
        model,
        tensor=tensor,
        stages=stages,
        chunks=chunks,
        microbatch=microbatch,
        recompute=recompute,
        data=space.accelerators / (tensor * stages * base.context_parallel),
        shard_ranks=space.accelerators / (tensor * stages),
        schedule=np.where(chunks > 1, SCHEDULES["interleaved"], SCHEDULES["1f1b"]),
        sequence_parallel=1.0 * (base.sequence_parallel & (tensor > 1)),
        expert_tensor=np.where(base.expert_parallel > 1, 1.0, tensor),
    )


def _combinations(space: Space) -> list[tuple[int, int, int, int, float]]:
    recompute = [RECOMPUTE[name] for name in space.recompute]
    return list(product(space.tensor, space.stages, space.chunks, space.microbatch, recompute))


def _is_possible(
    model: Transformer, space: Space, tensor: int, stages: int, chunks: int, microbatch: int
) -> bool:
    """Return whether ranks and pieces divide what they cut."""
    data, rest = divmod(space.accelerators, tensor * stages * space.base.context_parallel)
    if rest or model.heads % tensor or stages * chunks > model.layers or (chunks > 1 and stages == 1):
        return False
    microbatches, rest = divmod(space.base.global_batch, data * microbatch)
    return not rest and (
        chunks == 1 or (microbatches % stages == 0 and model.layers % (stages * chunks) == 0)
    )
