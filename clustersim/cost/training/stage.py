"""A pipeline stage in one microbatch, and what fills and drains the pipeline. No clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.training.case import Case, shown
from clustersim.cost.training.layer import Layer
from clustersim.cost.training.memory import activations_bytes
from clustersim.cost.training.plans import SCHEDULES
from clustersim.spec.efficiency import Operation

Floats = NDArray[np.float64]

STAGE: Final = (
    "compute_s",
    "recompute_s",
    "tensor_s",
    "context_s",
    "expert_s",
    "pipeline_s",
    "shards_s",
    "launch_s",
)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Seconds of one microbatch, forward and backward, on one stage."""

    compute_s: Floats
    recompute_s: Floats
    tensor_s: Floats
    context_s: Floats
    expert_s: Floats
    pipeline_s: Floats
    shards_s: Floats
    launch_s: Floats

    @property
    def total_s(self) -> Floats:
        """The whole."""
        return np.asarray(sum(getattr(self, name) for name in STAGE), dtype=np.float64)

    def times(self, count: Floats) -> Stage:
        """Return *count* times the stage."""
        return Stage(**{name: getattr(self, name) * count for name in STAGE})


def pace(case: Case, layer: Layer) -> Stage:
    """Return the stage that paces the pipeline: the first, the fullest in the middle, or the last."""
    plans, one = case.plans, case.plans.stages == 1
    shards_s = _shards_s(case, layer) + _host_s(case, layer)
    stages = [
        _stage(case, layer, shards_s, (count, end_s))
        for count, end_s in (
            (plans.last_layers, layer.head_s + one * layer.embedding_s),
            (plans.first_layers, layer.embedding_s + one * layer.head_s),
            (plans.most_layers, case.zero),
        )
    ]
    which = np.argmax(np.stack([stage.total_s for stage in stages]), axis=0)
    return Stage(**{name: np.choose(which, [getattr(s, name) for s in stages]) for name in STAGE})


def bubble_s(case: Case, layer: Layer, stage: Stage) -> Floats:
    """Return what fills and drains the pipeline: the other stages once, less what the schedule tucks in."""
    plans = case.plans
    ends = layer.embedding_s + layer.head_s
    per_layer = layer.busy_s + stage.shards_s / np.maximum(plans.most_layers, 1.0)
    launches = np.maximum(stage.launch_s - case.stack.microbatch, 0.0) / np.maximum(plans.most_layers, 1.0)
    whole = case.model.layers * (per_layer + launches) + ends
    whole = whole + plans.stages * (stage.pipeline_s + case.stack.microbatch)
    others = np.where(plans.stages > 1, np.maximum(whole - stage.total_s, 0.0), 0.0)
    return others / plans.chunks * _exposed_share(case, layer)


def _exposed_share(case: Case, layer: Layer) -> Floats:
    """Return the bubble of each schedule over that of one forward, one backward.

    Per stage of the pipeline, with forward F, gradient of inputs B and of weights W: F + B + W for 1F1B and
    GPipe, F + B - W for ZB-H1 and ZB-1p, F + B - 2 W for ZB-2p (published, arXiv 2401.10241); for DualPipe
    half as many stages take 2 (F + B + W) - F - 3 W (published, arXiv 2412.19437, with F&B = F + B + W).
    """
    plans, kernels = case.plans, layer.kernels
    inside = kernels.total_s + layer.recompute_s
    forward, weights = kernels.forward_s / inside, kernels.weights_s / inside
    halves = np.maximum(plans.stages / 2.0 - 1.0, 0.0) / np.maximum(plans.stages - 1.0, 1.0)
    shares = {
        "zb-h1": 1.0 - 2.0 * weights,
        "zb-1p": 1.0 - 2.0 * weights,
        "zb-2p": 1.0 - 3.0 * weights,
        "dualpipe": halves * (2.0 - forward - 3.0 * weights),
    }
    found = np.ones(len(plans))
    for name, share in shares.items():
        found = np.where(plans.schedule == SCHEDULES[name], np.maximum(share, 0.0), found)
    return found


def _stage(case: Case, layer: Layer, shards_s: Floats, holds: tuple[Floats, Floats]) -> Stage:
    """Return a stage that *holds* so many layers and seconds of an end of the model."""
    (count, end_s), stack = holds, case.stack
    model = case.model
    per_layer = stack.layer_floor + stack.expert_floor * model.expert_layers / model.layers
    floor_s = count * (layer.launches * per_layer + layer.collectives * stack.kernel_launch)
    busy_s = count * layer.busy_s + end_s
    return Stage(
        compute_s=count * layer.kernels.total_s + end_s,
        recompute_s=count * layer.recompute_s,
        tensor_s=count * layer.tensor_s,
        context_s=count * layer.context_s,
        expert_s=count * layer.expert_s,
        pipeline_s=_transfers_s(case, layer),
        shards_s=count * shards_s,
        launch_s=_launch_s(case, layer, floor_s, busy_s) + stack.microbatch,
    )


def _launch_s(case: Case, layer: Layer, floor_s: Floats, busy_s: Floats) -> Floats:
    """Return how long the accelerator waits for launches that take *floor_s* beside *busy_s* of work.

    The host runs ahead where nothing holds it; collectives inside layers tie it to the accelerator, and the
    two overlap as a norm instead.
    """
    norm, top = case.stack.launch_norm, np.maximum(np.maximum(floor_s, busy_s), 1e-30)
    tied = top * ((floor_s / top) ** norm + (busy_s / top) ** norm) ** (1.0 / norm) - busy_s
    return np.where(layer.collectives > 0, tied, np.maximum(0.0, floor_s - busy_s))


def _transfers_s(case: Case, layer: Layer) -> Floats:
    """Return what shows of sending activations on and their gradients back, one microbatch of a stage."""
    plans = case.plans
    reach = plans.stride_of("pipeline") * plans.stages
    leaves = (reach > case.machine.node_ranks) & (plans.stages > 1)
    size = 2.0 * case.model.hidden * plans.local_tokens / plans.tensor
    once = case.exchange.transfer_s(size, leaves)
    total = np.where(plans.stages > 1, 2.0 * plans.chunks * once, 0.0)
    return shown(total, case.overlap("pipeline"), layer.kernels.total_s * plans.most_layers)


def _shards_s(case: Case, layer: Layer) -> Floats:
    """Return what shows of gathering a layer's weights and scattering its gradients, one microbatch.

    In a pipeline, gradients of stage 2 are summed where they are and scattered once a step.
    """
    plans, weights, stack = case.plans, case.weights, case.stack
    second = (plans.sharding == 2) & (plans.stages == 1)
    if not bool(np.any((plans.sharding == 3) | second)):
        return case.zero
    sizes = weights.layer * plans.parameter_bytes, weights.layer * plans.gradient_bytes
    gather, scatter = (
        stack.gathers
        * case.exchange.seconds(operation, case.shard, size / stack.gathers, share=stack.gather_share)
        for operation, size in zip(SHARDING, sizes, strict=True)
    )
    beside, backward = case.overlap("shards"), layer.kernels.backward_s + layer.recompute_s
    third = shown(gather, beside, layer.kernels.forward_s) + shown(gather + scatter, beside, backward)
    return np.where(plans.sharding == 3, third, np.where(second, shown(scatter, beside, backward), 0.0))


def _host_s(case: Case, layer: Layer) -> Floats:
    """Return what shows of bringing a layer's offloaded weights and activations from the host and back.

    Copies run beside the layer that computes: weights in before both passes, activations out and in again.
    """
    plans = case.plans
    if not bool(np.any(plans.offload_parameters + plans.offload_activations)):
        return case.zero
    kept = activations_bytes(case.model, plans, case.stack) / plans.most_layers
    size = plans.offload_parameters * case.weights.layer * plans.parameter_bytes
    size = size + plans.offload_activations * kept
    once = size / case.machine.host_bytes_per_s
    backward = layer.kernels.backward_s + layer.recompute_s
    return shown(once, np.ones(len(plans)), layer.kernels.forward_s) + shown(
        once, np.ones(len(plans)), backward
    )


SHARDING: Final[tuple[Operation, Operation]] = ("all_gather", "reduce_scatter")
"""What sharded weights and their gradients need."""
