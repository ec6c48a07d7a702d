"""What one training step takes, in parts that add up. No clock.

``step = microbatches x the slowest stage + bubble + data-parallel communication that shows + optimizer
+ fixed cost + waiting for the slowest rank``
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.training.case import Case
from clustersim.cost.training.flop import hardware_flop, model_flop
from clustersim.cost.training.layer import layer_of
from clustersim.cost.training.machine import Machine
from clustersim.cost.training.plans import Plans, columns
from clustersim.cost.training.stage import STAGE, bubble_s, pace
from clustersim.cost.training.sync import data_s, optimizer_s, waiting_s
from clustersim.models.transformer import Transformer
from clustersim.spec.training import Plan
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Seconds of a step by what they are spent on; they add up to the step."""

    compute_s: Floats
    recompute_s: Floats
    tensor_s: Floats
    context_s: Floats
    expert_s: Floats
    pipeline_s: Floats
    shards_s: Floats
    """Gathering and scattering sharded weights and gradients, and copies from the host, layer by layer."""
    bubble_s: Floats
    data_s: Floats
    optimizer_s: Floats
    launch_s: Floats
    """Waiting for the host to launch kernels."""
    overhead_s: Floats
    """Fixed cost of a step, and waiting for the slowest rank."""

    @property
    def total_s(self) -> Floats:
        """The step."""
        return np.asarray(sum(getattr(self, f.name) for f in fields(self)), dtype=np.float64)

    def of(self, row: int) -> dict[str, float]:
        """Return the parts of one plan by name."""
        return {f.name: float(getattr(self, f.name)[row]) for f in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Steps of many plans: seconds in parts and FLOPs."""

    parts: Parts
    ranks: Floats
    tokens: Floats
    model_flop: Floats
    hardware_flop: Floats
    peak_flop_per_s: Floats
    """Dense peak of one accelerator in the format of the plan's products."""

    @property
    def seconds(self) -> Floats:
        """Of one step."""
        return self.parts.total_s

    @property
    def mfu(self) -> Floats:
        """Model FLOPs over time, accelerators and peak (see ``clustersim.cost.training.flop``)."""
        return self.model_flop / (self.seconds * self.ranks * self.peak_flop_per_s)

    @property
    def hfu(self) -> Floats:
        """The same with recomputed FLOPs counted."""
        return self.hardware_flop / (self.seconds * self.ranks * self.peak_flop_per_s)

    @property
    def tokens_per_s(self) -> Floats:
        """Tokens a second of all accelerators together."""
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Iteration:
    """One step of one plan."""

    seconds: float
    parts: dict[str, float]
    mfu: float
    hfu: float
    model_flop: float
    tokens_per_s: float


def iteration(model: Transformer, plan: Plan, machine: Machine, stack: TrainingStack) -> Iteration:
    """Price one step of *plan*."""
    found = steps(model, columns(model, [plan]), machine, stack)
    return Iteration(
        float(found.seconds[0]),
        found.parts.of(0),
        float(found.mfu[0]),
        float(found.hfu[0]),
        float(found.model_flop[0]),
        float(found.tokens_per_s[0]),
    )


def steps(model: Transformer, plans: Plans, machine: Machine, stack: TrainingStack) -> Steps:
    """Price one step of each of *plans*."""
    case = Case(model, plans, machine, stack)
    return Steps(
        _parts(case),
        plans.ranks,
        plans.batch * plans.sequence,
        model_flop(model, plans.sequence) * plans.batch,
        hardware_flop(model, plans) * plans.batch,
        _peaks(case),
    )


def _parts(case: Case) -> Parts:
    layer = layer_of(case)
    stage = pace(case, layer)
    pipeline, bubble = stage.times(case.plans.microbatches), bubble_s(case, layer, stage)
    return Parts(
        **{name: getattr(pipeline, name) for name in STAGE},
        bubble_s=bubble,
        data_s=data_s(case, layer),
        optimizer_s=optimizer_s(case),
        overhead_s=waiting_s(case, pipeline.total_s + bubble),
    )


def _peaks(case: Case) -> Floats:
    """Return the dense peak of the format of each plan's products."""
    bits, found = case.plans.compute_bits, case.zero
    for width, name in ((16, "bf16"), (8, "fp8"), (4, "fp4")):
        if bool(np.any(bits == width)):
            found[bits == width] = case.machine.accelerator.flop_per_s(name)
    return found
