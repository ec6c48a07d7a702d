"""A model, plans for it, a machine and a software stack: what every price of a training step depends on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.training.machine import Exchange, Group, Machine, group
from clustersim.cost.training.parameters import Held, held
from clustersim.cost.training.plans import OVERLAPS, Plans
from clustersim.models.transformer import Transformer
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Plans of one model on one machine with one stack."""

    model: Transformer
    plans: Plans
    machine: Machine
    stack: TrainingStack

    @cached_property
    def exchange(self) -> Exchange:
        """The machine's collectives as the stack does them."""
        return Exchange(self.machine, self.stack)

    @cached_property
    def weights(self) -> Held:
        """The parameters of the fullest rank."""
        return held(self.model, self.plans)

    @property
    def zero(self) -> Floats:
        """Nothing, for each plan."""
        return np.zeros(len(self.plans))

    @cached_property
    def tensor(self) -> Group:
        """Ranks that share a layer."""
        return group(self.machine, self.plans.tensor, self.plans.stride_of("tensor"))

    @cached_property
    def context(self) -> Group:
        """Ranks that share a sequence."""
        return group(self.machine, self.plans.context, self.plans.stride_of("context"))

    @cached_property
    def expert(self) -> Group:
        """Ranks that hold different experts."""
        return group(self.machine, self.plans.expert, self.plans.expert_tensor * self._apart)

    @cached_property
    def data(self) -> Group:
        """Ranks that hold the same weights outside experts: all of one stage's context and data ranks."""
        data = group(self.machine, self.plans.data, self.plans.stride_of("data"))
        return Group(data.ranks * self.context.ranks, data.local * self.context.local)

    @cached_property
    def expert_data(self) -> Group:
        """Ranks that hold the same experts."""
        held_by = self.plans.expert * self.plans.expert_tensor * self._apart
        return group(self.machine, self.weights.expert_replicas, held_by)

    @property
    def _apart(self) -> Floats:
        """How many stages lie between neighbours of one: all of them where the order puts stages first."""
        plans = self.plans
        inner = plans.stride_of("pipeline") < plans.stride_of("data")
        return np.where(inner & (plans.data > 1), plans.stages, 1.0)

    @cached_property
    def shard(self) -> Group:
        """Ranks that share one copy of what is sharded."""
        ranks = np.minimum(self.plans.shard_ranks, self.data.ranks)
        return Group(ranks, np.minimum(self.data.local, ranks))

    def overlap(self, name: str) -> Floats:
        """Return the share of a kind of communication that runs beside computation."""
        asked = self.plans.overlap[OVERLAPS.index(name)]
        share: float = getattr(self.stack.overlap, name)
        return np.where(np.isnan(asked), share, asked)


def shown(communication_s: Floats, share: Floats, beside_s: Floats) -> Floats:
    """Return what of a communication shows when *share* of it may hide behind *beside_s* of work."""
    return np.asarray(communication_s - np.minimum(share * communication_s, beside_s), dtype=np.float64)
