"""Run jobs on a cluster and return what happened as columns."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import process_time
from typing import Any, Final

import numpy as np
import simpy

from clustersim.errors import ClusterSimError
from clustersim.policies.cluster import Demand
from clustersim.rng import Streams
from clustersim.sim.cluster.engine import Engine, facts_of
from clustersim.sim.cluster.job import Clock, Job
from clustersim.sim.cluster.nodes import PoolNodes
from clustersim.sim.cluster.pool import Hooks, Pool, Rules
from clustersim.sim.cluster.quotas import Quotas
from clustersim.sim.cluster.speeds import Profile, Speeds
from clustersim.spec.jobs import Drain, JobCluster, Scheduling
from clustersim.workload.jobs import Jobs

Columns = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class ClusterOutcome:
    """What a run gave: the tables jobs, job_waits and job_spans, and what a manifest says of it."""

    tables: Mapping[str, Columns]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class KnownSpeeds:
    """Measured speeds by profile, and the kind of accelerator on which the durations hold."""

    profiles: Mapping[str, Profile] = field(default_factory=dict)
    reference: str = ""


def simulate_cluster(
    cluster: JobCluster,
    jobs: Jobs,
    scheduling: Scheduling | None = None,
    speeds: KnownSpeeds | None = None,
    streams: Streams | None = None,
) -> ClusterOutcome:
    """Run *jobs* on *cluster* until the last has ended.

    Raises ClusterSimError for a job that no pool can ever hold, PolicyError for a policy that breaks its
    contract, StalledError if jobs are left that the scheduler will never start.
    """
    cpu_s = process_time()
    scheduling, speeds = scheduling or Scheduling(), speeds or KnownSpeeds()
    env, clock = simpy.Environment(), Clock()
    engine = Engine(env, clock, jobs.duration_s)
    build = _Build(cluster, scheduling, speeds, engine, _draws(streams or Streams(0)))
    pools = build.pools(bool((jobs.share < 1).any()))
    entities = _entities(jobs, clock, scheduling)
    places = [_pool_for(job, pools) for job in entities]
    engine.load(entities, places, scheduling.round)
    for job, cancel_s in zip(entities, jobs.cancel_s.tolist(), strict=True):
        if cancel_s < float("inf"):
            engine.cancel_at(cancel_s, job)
    for drain in cluster.drains:
        _plan_drain(engine, drain, list(dict.fromkeys(pools.values())))
    env.process(engine.run())
    with _no_collector():
        env.run()
    tables = {
        "jobs": engine.record.jobs(entities, jobs.status),
        "job_waits": engine.record.waits(entities),
        "job_spans": engine.record.spans([pool.nodes.number for pool in places]),
    }
    return ClusterOutcome(
        tables, _facts(cluster, scheduling, jobs, engine, tables) | {"cpu_s": process_time() - cpu_s}
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Build:
    cluster: JobCluster
    scheduling: Scheduling
    speeds: KnownSpeeds
    engine: Engine
    draws: Iterator[float]

    def pools(self, has_shares: bool) -> dict[str, Pool]:
        """Return the pools by the virtual cluster that owns their nodes; the empty name is everybody's."""
        owners = list(dict.fromkeys(group.queue for group in self.cluster.groups))
        return {owner: self._pool(owner, has_shares) for owner in owners}

    def _pool(self, owner: str, has_shares: bool) -> Pool:
        firsts = np.cumsum([0, *(group.nodes for group in self.cluster.groups)]).tolist()
        groups = [
            (first, group)
            for first, group in zip(firsts, self.cluster.groups, strict=False)
            if group.queue == owner
        ]
        scheduling, speeds, engine = self.scheduling, self.speeds, self.engine
        known = Speeds(scheduling.scaling, scheduling.across_nodes, speeds.profiles, speeds.reference)
        rules = Rules(
            scheduling.scheduler, scheduling.placement, known, scheduling.restart_s, scheduling.round
        )
        quotas = Quotas({} if owner else self.cluster.quotas, self.cluster.borrow)
        hooks = Hooks(engine.started, engine.stopped, engine.wake)
        return Pool(rules, PoolNodes(groups, has_shares, self.draws), quotas, engine.clock, hooks)


_COPIED: Final = (
    "min_accelerators",
    "max_accelerators",
    "limit_s",
    "deadline_s",
    "priority",
    "user",
    "queue",
    "profile",
)
"""Columns that a job takes over, in the order of its fields."""


@contextmanager
def _no_collector() -> Iterator[None]:
    """Pause the search for cycles: jobs live long and hold none, and looking through them takes a tenth."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _draws(streams: Streams) -> Iterator[float]:
    generator = streams.get("placement")
    while True:
        yield from generator.random(1024).tolist()


def _entities(jobs: Jobs, clock: Clock, scheduling: Scheduling) -> list[Job]:
    told = {"given": jobs.estimate_s, "limit": jobs.limit_s, "oracle": jobs.duration_s}[scheduling.estimates]
    if scheduling.estimates == "oracle":
        told = np.minimum(told, jobs.limit_s)
    demands: dict[tuple[Any, ...], Demand] = {}
    columns = (jobs.accelerators, jobs.kinds, jobs.share, jobs.cpus, jobs.memory_bytes)
    keys = zip(*(column.tolist() for column in columns), strict=True)
    asked = [demands.setdefault(key, Demand(*key)) for key in keys]
    copied = zip(*(getattr(jobs, name).tolist() for name in _COPIED), strict=True)
    rows = zip(jobs.name.tolist(), jobs.submit_s.tolist(), asked, told.tolist(), copied, strict=True)
    return [
        Job(number, name, submit_s, demand, clock, estimate_s, *rest)
        for number, (name, submit_s, demand, estimate_s, rest) in enumerate(rows)
    ]


def _pool_for(job: Job, pools: Mapping[str, Pool]) -> Pool:
    """Return the pool of the job's virtual cluster, else everybody's; raise if it can never run there."""
    pool = pools.get(job.queue, pools.get(""))
    if pool is None:
        raise ClusterSimError(f"job {job.name!r}: no nodes belong to its virtual cluster {job.queue!r}")
    most = min(pool.nodes.capacity(job.demand), pool.quota(job.queue))
    if job.min_accelerators > most:
        raise ClusterSimError(
            f"job {job.name!r} asks for {job.accelerators} accelerators{_kinds(job)}, and its pool gives at "
            f"most {most}; drop such jobs with without_oversized()"
        )
    return pool


def _kinds(job: Job) -> str:
    return f" of kind {' or '.join(job.demand.kinds)}" if job.demand.kinds else ""


def without_oversized(cluster: JobCluster, jobs: Jobs) -> Jobs:
    """Return the jobs that their pool could hold if it were empty; the others are noted as dropped."""
    room: dict[tuple[str, tuple[str, ...]], int] = {}
    owners = {group.queue for group in cluster.groups}
    rows = np.zeros(len(jobs), dtype=bool)
    asked = zip(jobs.queue.tolist(), jobs.kinds.tolist(), jobs.min_accelerators.tolist(), strict=True)
    for row, (queue, kinds, least) in enumerate(asked):
        if (queue, kinds) not in room:
            room[queue, kinds] = _room(cluster, queue if queue in owners else "", queue, kinds)
        rows[row] = least <= room[queue, kinds]
    return jobs.take(rows, "larger than its pool")


def _room(cluster: JobCluster, owner: str, queue: str, kinds: tuple[str, ...]) -> int:
    groups = [g for g in cluster.groups if g.queue == owner and (not kinds or g.accelerator_kind in kinds)]
    room = sum(group.nodes * group.accelerators_per_node for group in groups)
    return room if owner else min(room, cluster.quotas.get(queue, room))


def _plan_drain(engine: Engine, drain: Drain, pools: list[Pool]) -> None:
    for pool in pools:
        inside = (pool.nodes.number >= drain.first) & (pool.nodes.number < drain.first + drain.nodes)
        if inside.any():
            for at_s, is_up in ((drain.start, False), (drain.end, True)):
                engine.drain_at(at_s, partial(_drain, pool, np.flatnonzero(inside), is_up, drain.evict))


def _drain(pool: Pool, nodes: np.ndarray, is_up: bool, evict: bool) -> Pool:
    pool.drain(nodes, is_up, evict)
    return pool


def _facts(
    cluster: JobCluster, scheduling: Scheduling, jobs: Jobs, engine: Engine, tables: Mapping[str, Columns]
) -> dict[str, Any]:
    return {
        "accelerators": cluster.accelerators,
        "scheduler": scheduling.scheduler.kind or type(scheduling.scheduler).__name__,
        "placement": scheduling.placement.kind or type(scheduling.placement).__name__,
        "round_s": scheduling.round,
        "estimates": scheduling.estimates,
        "decisions": engine.decisions,
        "dropped": dict(jobs.dropped),
        **facts_of(tables),
    }
