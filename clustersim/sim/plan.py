"""From an experiment to what its service is made of: prices, memory, policies. No clock yet."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from clustersim.cost.memory import Budget, Room, budget, why_not
from clustersim.cost.replica import Network
from clustersim.cost.step import Parallel, Replica, Sizes, StepPrices, compile_replica
from clustersim.cost.table import read_table
from clustersim.errors import ClusterSimError, SpecError
from clustersim.policies import BatchingPolicy, RuleBatching, RuleRouter
from clustersim.policies.admission import Always, QueueLimit
from clustersim.rng import Streams
from clustersim.sim.serving.asked import policy_errors
from clustersim.sim.serving.fleet import FleetPlan, Memory, is_compiled, most_sequences
from clustersim.spec.dispatch import load_dispatch
from clustersim.spec.efficiency import GENERIC, efficiency_of
from clustersim.spec.experiment import Cluster, Experiment
from clustersim.spec.transport import load_transport
from clustersim.workload import Requests, draw

_LONGEST_TABLE = 1 << 20
_LARGEST_BATCH = 1 << 16
USUAL_TRANSPORT = "infiniband"
USUAL_DISPATCH = "deepep"


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A service ready to run: its fleet, its requests, and what a reader of results should know."""

    fleet: FleetPlan
    requests: Requests
    budget: Budget
    provenance: str
    warnings: tuple[str, ...]
    """What makes the numbers less certain than usual."""
    notes: tuple[str, ...]
    """What was done to the load on the way."""


def plan(experiment: Experiment, streams: Streams) -> Service:
    """Return the service that *experiment* describes; raise SpecError for what cannot be built."""
    serving = experiment.serving
    _check_policies(experiment)
    replica = replica_of(experiment)
    batching = _policy_of_a_lane(serving.batching, serving.pipeline_parallel)
    memory, found = _memory(experiment, replica, batching)
    requests = _requests(experiment, memory, streams)
    sizes = Sizes(_longest_pass(batching, requests), most_sequences(batching) + 1)
    prices = _of_a_lane(_prices(experiment, replica, sizes), serving.pipeline_parallel)
    lanes = serving.replicas * serving.pipeline_parallel
    admission = serving.admission
    fleet = FleetPlan(lanes, prices, memory, batching, serving.router, admission, experiment.engine.leap)
    notes = tuple(f"workload: {note}" for note in requests.notes)
    warnings = _warnings(experiment, replica)
    return Service(fleet, requests, found, replica.curves.provenance, warnings, notes)


def check(experiment: Experiment) -> None:
    """Raise SpecError if *experiment* cannot be built, as far as that shows without its requests."""
    _check_policies(experiment)
    serving = experiment.serving
    _memory(
        experiment, replica_of(experiment), _policy_of_a_lane(serving.batching, serving.pipeline_parallel)
    )


def _check_policies(experiment: Experiment) -> None:
    """Refuse a batch beyond all memory, and a closed loop with a policy that must be asked in Python."""
    batch = most_sequences(experiment.serving.batching)
    if batch > _LARGEST_BATCH:
        message = f"{batch:,} sequences are more than the engine's most, {_LARGEST_BATCH:,}"
        raise experiment.problem("serving.batching.max_batch", message)
    if experiment.workload.concurrency is None:
        return
    serving = experiment.serving
    compiled = {
        "batching": is_compiled(serving.batching),
        "router": type(serving.router).route is RuleRouter.route,
        "admission": type(serving.admission) in (Always, QueueLimit),
    }
    for name, rules in compiled.items():
        if not rules:
            raise experiment.problem(
                f"serving.{name}",
                f"{getattr(serving, name).kind or name!r} is written in Python, and a closed loop "
                "(workload.concurrency) needs the rules of a built-in kind; use a rate or arrivals",
            )


def replica_of(experiment: Experiment) -> Replica:
    """Return the replica that is priced; raise SpecError if its parallelism is impossible."""
    serving, accelerator = experiment.serving, experiment.cluster.kind
    try:
        parallel = Parallel(
            serving.tensor_parallel, serving.pipeline_parallel, serving.data_parallel, serving.expert_parallel
        )
        efficiency = serving.efficiency or efficiency_of(accelerator)
        table = read_table(serving.measured) if serving.measured else None
        model = serving.model.transformer
        parts = (model, accelerator, efficiency, serving.stack, parallel, serving.precision, table)
        return Replica(*parts, network_of(experiment.cluster))
    except SpecError:
        raise
    except ClusterSimError as error:
        raise experiment.problem("serving", str(error)) from None


def network_of(cluster: Cluster) -> Network | None:
    """Return what lies beyond a node; None for bare accelerators and nodes without adapters."""
    node = cluster.node
    if node is None or not node.network_bandwidth:
        return None
    transport = cluster.transport or load_transport(USUAL_TRANSPORT)
    each = node.network_bandwidth / node.accelerators
    return Network(node.accelerators, each, transport, load_dispatch(USUAL_DISPATCH))


def _prices(experiment: Experiment, replica: Replica, sizes: Sizes) -> StepPrices:
    try:
        return compile_replica(replica, sizes)
    except SpecError:
        raise
    except ClusterSimError as error:
        raise experiment.problem("serving", str(error)) from None


def _policy_of_a_lane(batching: BatchingPolicy, stages: int) -> BatchingPolicy:
    """Share the batch between the pipeline's lanes: as many batches as stages are in flight at a time."""
    if stages == 1 or not hasattr(batching, "max_batch"):
        return batching
    return batching.model_copy(update={"max_batch": -(-batching.max_batch // stages)})


def _of_a_lane(prices: StepPrices, stages: int) -> StepPrices:
    """A lane's pass goes through every stage, and keeps each busy for its share of that time only."""
    return replace(prices, power_w=prices.power_w / stages)


def _memory(experiment: Experiment, replica: Replica, batching: BatchingPolicy) -> tuple[Memory, Budget]:
    serving, spec = experiment.serving, experiment.serving.memory
    tokens = int(min(getattr(batching, "token_budget", 8192), 8192))
    room = Room(spec.share, tokens, min(int(getattr(batching, "max_batch", 256)), 1024))
    parts = (replica.model, replica.accelerator, replica.parallel, replica.precision)
    if spec.blocks is None and (reason := why_not(*parts, room)):
        raise experiment.problem("serving.tensor_parallel", f"{serving.model.name} {reason}")
    found = budget(*parts, room)
    ranks, stages = serving.data_parallel, serving.pipeline_parallel
    blocks = spec.blocks or found.capacity_blocks(spec.block_tokens) * ranks
    lane_blocks = blocks // stages
    token_bytes = found.kv.per_token * replica.parallel.stage_ranks / ranks * stages
    swap = int(spec.swap_space / (token_bytes * spec.block_tokens)) // stages if token_bytes else 0
    return Memory(lane_blocks, spec.block_tokens, int(spec.watermark * lane_blocks), swap), found


def _requests(experiment: Experiment, memory: Memory, streams: Streams) -> Requests:
    """Draw the requests, and refuse those that no replica's cache can hold."""
    workload, context = experiment.workload, experiment.serving.model.max_context
    cache = memory.blocks * memory.block_tokens
    most = context if workload.too_long == "error" else min(context, cache)
    shape = getattr(workload.arrivals, "shape", None)
    try:
        with policy_errors(shape, "rate") if shape and shape.source else nullcontext():
            drawn = draw(workload, streams, most)
    except SpecError as error:
        raise experiment.placed(error) from None
    length = drawn.prompt_tokens + drawn.output_tokens
    if len(drawn) and length.max() > cache:
        first = int(np.argmax(length > cache))
        raise experiment.problem(
            "workload",
            f"request {first} needs {length[first]:,} tokens of cache and a replica has {cache:,} "
            f"({memory.blocks:,} blocks of {memory.block_tokens}); raise serving.tensor_parallel, or set "
            "workload.too_long to drop or clip",
        )
    limit = np.minimum(drawn.limit_tokens, cache - drawn.prompt_tokens)
    return replace(drawn, limit_tokens=np.maximum(limit, drawn.output_tokens))


def _longest_pass(batching: BatchingPolicy, requests: Requests) -> int:
    """Return the tokens of the longest pass that can come up, so that the table of prices holds it."""
    longest = int((requests.prompt_tokens + requests.output_tokens).max())
    batch = most_sequences(batching)
    tokens = int(getattr(batching, "token_budget", longest))
    if isinstance(batching, RuleBatching) and is_compiled(batching):
        rules = batching.rules()
        whole = longest if not rules.chunked else 0
        everyone = longest * min(rules.max_batch, len(requests))
        tokens = max(whole, min(rules.token_budget, everyone))
    return min(tokens + batch, _LONGEST_TABLE)


def _warnings(experiment: Experiment, replica: Replica) -> tuple[str, ...]:
    """Return what makes the numbers less certain than usual."""
    found = []
    if replica.efficiency.name == GENERIC:
        found.append(
            f"{replica.accelerator.name}: no kernels of its generation were measured; the generic curves are "
            "used, which may be off by 30% (published: what one calibration changes on unseen vendors)"
        )
    if experiment.serving.pipeline_parallel > 1:
        found.append(
            "serving.pipeline_parallel: a replica's batches in flight are priced as if the stages were "
            "evenly filled"
        )
    return tuple(found)
