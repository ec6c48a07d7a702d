"""Run one experiment on a SimPy clock and return what happened as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import process_time
from typing import Any, Final

import numpy as np
import simpy

from clustersim.rng import Streams
from clustersim.sim.meter import power_table
from clustersim.sim.plan import Service, plan
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import Fleet
from clustersim.spec.experiment import Experiment

Columns = dict[str, np.ndarray[Any, Any]]

_STATUS: Final = {state.FINISHED_STATUS: "finished", state.REJECTED: "rejected"}


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a run gave: the result tables as columns, and what the manifest says of it."""

    tables: Mapping[str, Columns]
    facts: Mapping[str, Any]


def simulate(experiment: Experiment, replication: int = 0) -> Outcome:
    """Run *experiment* until its last request is answered.

    Raises SpecError for what cannot be built, PolicyError for a policy that breaks its contract,
    StalledError if requests are left that nobody will ever serve.
    """
    streams = Streams(experiment.seed, replication)
    service = plan(experiment, streams)
    env = simpy.Environment()
    fleet = Fleet(env, service.fleet, service.requests, streams)
    workload = experiment.workload
    if workload.concurrency is not None:
        env.process(fleet.serve_clients(workload.concurrency, workload.think))
    else:
        env.process(fleet.serve())
    loop_s = process_time()
    env.run()
    loop_s = process_time() - loop_s
    fleet.log.flush()
    fleet.check_done()
    facts = {**_facts(experiment, service, fleet), "loop_cpu_s": loop_s}
    return Outcome(_tables(experiment, service, fleet), facts)


def _tables(experiment: Experiment, service: Service, fleet: Fleet) -> dict[str, Columns]:
    iterations = fleet.log.iterations()
    record = experiment.record
    idle_w = float(service.fleet.prices.power_w[0])
    return {
        "requests": requests_table(fleet),
        "iterations": iterations,
        "token_gaps": fleet.log.token_gaps(),
        "power": power_table(iterations, service.fleet.replicas, idle_w, record.power_bins, record.power_bin),
        "events": fleet.log.events(),
    }


def requests_table(fleet: Fleet) -> Columns:
    """Return the result table of requests."""
    s, requests = fleet.state, fleet.requests
    n = len(requests)
    tenant = requests.tenant if requests.tenant is not None else [""] * n
    return {
        "request": np.arange(n),
        "replica": s.req[:, state.REPLICA].astype(np.int32),
        "arrival_s": requests.arrival_s,
        "admitted_s": s.req_t[:, state.ADMITTED_S],
        "first_token_s": s.req_t[:, state.FIRST_S],
        "finish_s": s.req_t[:, state.FINISH_S],
        "prompt_tokens": requests.prompt_tokens,
        "output_tokens": s.req[:, state.GENERATED],
        "cached_tokens": np.zeros(n, np.int64),
        "preemptions": s.req[:, state.PREEMPTIONS].astype(np.int32),
        "tenant": np.asarray(tenant, dtype=object),
        "status": np.array(["finished", "rejected"], dtype=object)[
            (s.req[:, state.STATUS] == state.REJECTED).astype(int)
        ],
    }


def _facts(experiment: Experiment, service: Service, fleet: Fleet) -> dict[str, Any]:
    slo = experiment.serving.slo
    lanes = service.fleet.replicas
    accelerators = experiment.serving.accelerators
    return {
        "slo": {"ttft_s": slo.ttft, "tpot_s": slo.tpot, "e2e_s": slo.e2e},
        "replicas": lanes,
        "accelerators": accelerators,
        "accelerator": experiment.cluster.kind.name,
        "idle_w": float(service.fleet.prices.power_w[0]),
        "block_tokens": service.fleet.memory.block_tokens,
        "kv_blocks_total": service.fleet.memory.blocks,
        "passes": int(fleet.state.fleet[state.TOTAL_PASSES]),
        "events": len(fleet.log.iterations()["count"]) + len(fleet.requests),
        "simulated_s": fleet.end_s,
        "price_per_hour": _price(experiment),
        "warnings": list(service.warnings),
        "notes": list(service.notes),
        "provenance": service.provenance,
    }


def _price(experiment: Experiment) -> float | None:
    """Return dollars an hour of the accelerators in use, if the card knows."""
    price = experiment.cluster.kind.price_per_hour
    return price * experiment.serving.accelerators if price is not None else None
