"""What ends a step: gradients reduced, weights updated and gathered, the slowest rank awaited. No clock."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.compute import Formats
from clustersim.cost.replica import gemm_curve
from clustersim.cost.training.case import Case, shown
from clustersim.cost.training.layer import Layer
from clustersim.cost.training.machine import Group

Floats = NDArray[np.float64]

OPTIMIZER_SHARE: Final = 0.7
"""Of memory bandwidth that fused optimizer kernels reach (assumed: streams of fp32, near copies' 0.8)."""
HOST_MEMORY_BYTES_PER_S: Final = 20e9
"""Of one rank's part of the host's memory (assumed: eight channels of DDR4 shared by eight ranks)."""


def data_s(case: Case, layer: Layer) -> Floats:
    """Return what shows of reducing gradients and gathering updated weights between data ranks."""
    plans, weights, share = case.plans, case.weights, case.overlap("data")
    backward = (layer.kernels.backward_s + layer.recompute_s) * plans.most_layers
    forward = layer.kernels.forward_s * plans.most_layers
    reduce_s, gather_s = case.zero, case.zero
    for who, elements in ((case.data, weights.dense), (case.expert_data, weights.experts)):
        gradients = elements * plans.gradient_bytes
        whole = case.exchange.seconds("all_reduce", who, gradients)
        scatter = case.exchange.seconds("reduce_scatter", who, gradients)
        gather = case.exchange.seconds("all_gather", who, elements * plans.parameter_bytes)
        later = (plans.sharding == 1) | ((plans.sharding == 2) & (plans.stages > 1))
        reduce_s += np.where(plans.sharding == 0, whole, np.where(later, scatter, 0.0))
        gather_s += np.where((plans.sharding == 1) | (plans.sharding == 2), gather, 0.0)
    ends = _tied_s(case) + _between_copies_s(case)
    return shown(reduce_s, share, backward) + shown(gather_s, share, forward) + ends


def optimizer_s(case: Case) -> Floats:
    """Return the update of a rank's weights: memory passes, and the host's link where it is offloaded.

    An iteration of Muon on a matrix of m rows and more columns takes 6 m FLOPs an element at most; m is taken
    to be the hidden width.
    """
    plans, weights, machine = case.plans, case.weights, case.machine
    sharded = plans.sharding > 0
    elements = weights.dense / np.where(sharded, case.shard.ranks, 1.0)
    elements = elements + weights.experts / np.where(sharded, weights.expert_replicas, 1.0)
    passes = 2.0 * (plans.master_bytes + plans.state_bytes) + plans.parameter_bytes
    moved = elements * (passes + 3.0 * plans.gradient_bytes)
    here = moved / (OPTIMIZER_SHARE * machine.accelerator.memory_bandwidth)
    there = _on_host_s(case, elements, moved)
    peak = machine.accelerator.flop_per_s("bf16") * case.stack.sustained
    curve = gemm_curve(machine.efficiency, Formats())
    products = 6.0 * case.model.hidden * elements * plans.newton_schulz / (peak * curve.compute_share)
    return here + plans.offload_optimizer * (there - here) + products


def _on_host_s(case: Case, elements: Floats, moved: Floats) -> Floats:
    """Return the update on the host: gradients out, weights in, and the same passes over its memory."""
    plans = case.plans
    if not bool(np.any(plans.offload_optimizer)):
        return case.zero
    sent = elements * (plans.gradient_bytes + plans.parameter_bytes)
    return sent / case.machine.host_bytes_per_s + moved / HOST_MEMORY_BYTES_PER_S


def waiting_s(case: Case, running_s: Floats) -> Floats:
    """Return the fixed cost of a step and how much longer than the mean its slowest rank runs."""
    return case.stack.iteration + running_s * case.stack.jitter * slowest(case.plans.ranks)


def slowest(ranks: Floats) -> Floats:
    """Return the expected maximum of *ranks* standard normal numbers, in the form for large numbers."""
    log = np.log(np.maximum(ranks, 2.0))
    first = np.sqrt(2.0 * log)
    found = first - (np.log(log) + np.log(4.0 * np.pi)) / (2.0 * first)
    return np.asarray(np.where(ranks > 1, np.maximum(found, 0.0), 0.0), dtype=np.float64)


def _tied_s(case: Case) -> Floats:
    """Return the reduction of tied embeddings' gradients between the first and the last stage."""
    plans = case.plans
    size = case.weights.tied * plans.gradient_bytes
    seconds = case.exchange.transfer_s(size, plans.ranks > case.machine.node_ranks)
    return np.where((plans.stages > 1) & (size > 0), seconds, 0.0)


def _between_copies_s(case: Case) -> Floats:
    """Return the reduction of a shard's gradients between the copies of hybrid sharding."""
    plans, copies = case.plans, case.data.ranks / case.shard.ranks
    size = case.weights.dense * plans.gradient_bytes / case.shard.ranks
    seconds = case.exchange.seconds("all_reduce", Group(copies, np.ones_like(copies)), size)
    return np.where((plans.sharding > 0) & (copies > 1), seconds, 0.0)
