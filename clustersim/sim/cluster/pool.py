"""One pool: nodes, the jobs that wait for them and run on them, and the scheduler that decides.

The pool carries out and checks what the scheduler intends, and shows it a view. Time comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clustersim.errors import PolicyError
from clustersim.policies.cluster import (
    Demand,
    Intent,
    JobScheduler,
    JobView,
    Move,
    Nodes,
    Placement,
    Preempt,
    Resize,
    Start,
    Wake,
)
from clustersim.sim.cluster import queueing
from clustersim.sim.cluster.history import History
from clustersim.sim.cluster.job import Clock, Job
from clustersim.sim.cluster.nodes import PoolNodes
from clustersim.sim.cluster.queueing import JobQueue, Lane
from clustersim.sim.cluster.quotas import Quotas
from clustersim.sim.cluster.speeds import Speeds


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What all pools of a cluster have in common."""

    scheduler: JobScheduler
    placement: Placement
    speeds: Speeds
    restart_s: Callable[[int], float]
    round_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Hooks:
    """Whom the pool tells: a job started, a job stopped, and when it wants to be asked again."""

    started: Callable[[Job], None]
    stopped: Callable[[Job], None]
    wake: Callable[[Pool, float], None]


class Pool:
    """A pool of nodes with its queue; a ``PoolView``."""

    def __init__(self, rules: Rules, nodes: PoolNodes, quotas: Quotas, clock: Clock, hooks: Hooks):
        self.rules, self.nodes, self.quotas, self.clock, self.hooks = rules, nodes, quotas, clock, hooks
        self.queue = JobQueue(self.fits)
        self.history = History()
        self.memory: dict[str, object] = {}
        self._counts = rules.placement.any_free and nodes.is_plain and quotas.is_open
        self._is_open = quotas.is_open
        self._only_kind = nodes.kind_names[0] if len(nodes.kind_names) == 1 else None
        self.decide_at_s = -1.0
        self._running: dict[int, Job] = {}
        self._releases = 0
        self._changes = 0
        self._found: tuple[int, Demand, Nodes] | None = None

    @property
    def now_s(self) -> float:
        """The time."""
        return self.clock.now_s

    @property
    def total(self) -> int:
        """Accelerators of all nodes that are up."""
        return self.nodes.total_up

    @property
    def free(self) -> int:
        """Accelerators that nobody holds, on nodes that are up."""
        return self.nodes.free_up

    @property
    def running(self) -> list[Job]:
        """Jobs that run, in the order in which they started."""
        return list(self._running.values())

    @property
    def kinds(self) -> dict[str, int]:
        """Accelerators by their kind, in order of the nodes."""
        counts = np.bincount(self.nodes.kind, self.nodes.size, minlength=len(self.nodes.kind_names))
        return {name: int(count) for name, count in zip(self.nodes.kind_names, counts, strict=True)}

    def held(self, queue: str) -> int:
        """Return the accelerators that the jobs of *queue* hold."""
        return self.quotas.held(queue)

    def quota(self, queue: str) -> int:
        """Return the accelerators that are due to *queue*; all, where no quota is set."""
        return self.quotas.due(queue, self.nodes.total_up)

    def speed(self, job: JobView, accelerators: int, kind: str = "", nodes: int = 1) -> float:
        """Return the predicted speed of *job* on so many accelerators of *kind*, as requested = 1."""
        is_spread = nodes > 1 and nodes > -(-accelerators // self.nodes.largest)
        return self.rules.speeds.speed(job, accelerators, kind, is_spread)

    def throughput(self, job: JobView, accelerators: int, kind: str = "") -> float:
        """Return the iterations per second that *job* makes, where its profile has them; else its speed."""
        return self.rules.speeds.throughput(job, accelerators, kind)

    def mean_duration_s(self, user: str) -> float:
        """Return the mean duration of the finished jobs of *user*; of all, if none; infinity at first."""
        return self.history.mean_s(user)

    def services(self) -> list[float]:
        """Return the accelerator-seconds of the finished jobs, in the order in which they ended."""
        return self.history.services

    def earliest_start_s(self, job: JobView) -> tuple[float, int]:
        """Return when *job* could start if running jobs end by their estimates, and what it leaves free.

        Accelerators are counted, not placed. A job that has outrun its estimate is taken to end now.
        """
        free, needed = self.nodes.free_for(job.demand), job.accelerators
        ends = sorted(
            (self.now_s + min(j.remaining_s, j.limit_s - j.ran_s), j.index, j.held) for j in self.running
        )
        at_s = self.now_s
        for end_s, _, held in ends:
            if free >= needed and end_s > at_s:
                break
            free, at_s = free + held, max(end_s, at_s) if free < needed else at_s
        return (at_s if free >= needed else float("inf")), free - needed

    def fits(self, job: JobView, accelerators: int | None = None, kind: str | None = None) -> bool:
        """Return whether *job* could start now, by its quota and by the placement."""
        lane = getattr(job, "lane", None) if accelerators is None and kind is None else None
        if lane is not None and lane.blocked == self._releases:
            return False
        fine = self._find(job, accelerators, kind) is not None
        if not fine and lane is not None:
            lane.blocked = self._releases
        return fine

    def _find(self, job: JobView, accelerators: int | None, kind: str | None = None) -> Nodes | None:
        """Return where *job* could start, or None; remembered until something changes."""
        demand = job.demand
        if accelerators is not None or kind is not None:
            demand = _altered(demand, accelerators, kind)
        if not self._is_open and not self.quotas.allows(job.queue, demand):
            return None
        if self.nodes.free_for(demand) < (demand.accelerators or 1):
            return None
        known = self._found
        if known is not None and known[0] == self._changes and known[1] == demand:
            return known[2]
        nodes = self.rules.placement.place(demand, self.nodes)
        if nodes is not None:
            self._found = (self._changes, demand, nodes)
        return nodes

    def submit(self, job: Job) -> None:
        """Let *job* wait here."""
        job.waiting_since_s = self.now_s
        job.rank = self.rules.scheduler.rank(job)
        if job.rank != job.rank:
            raise PolicyError(f"{_name(self.rules.scheduler)}: ranks job {job.name!r} as not a number")
        self.queue.add(job, self.now_s)

    def withdraw(self, job: Job) -> None:
        """Let *job*, which waits, go without running."""
        self._leave_queue(job)

    def finish(self, job: Job) -> None:
        """Free what *job* holds: it has ended."""
        self._stop(job)
        self.history.note(job.user, job.past_ran_s, job.past_service_s)

    def decide(self) -> None:
        """Ask the scheduler until it has nothing more to intend, and note why the others wait."""
        scheduler = self.rules.scheduler
        if not self.queue.lanes and not scheduler.preempts:
            return
        for intent in scheduler.pick(self.queue, self):
            self._carry_out(intent)
        self.explain(is_round_open=False)

    def explain(self, is_round_open: bool) -> None:
        """Note for each lane why its jobs wait from now on."""
        free, fits = self.nodes.free_up, queueing.ROUND if is_round_open else queueing.ORDER
        only_counts = self._counts and self.nodes.total_up == self.nodes.total
        for lane in self.queue.lanes:
            if only_counts:
                short = queueing.GANG if free else queueing.BUSY
                reason = fits if free >= lane.demand.accelerators else short
            else:
                reason = self._reason(lane, is_round_open)
            if reason != lane.reason:
                lane.charge(self.now_s)
                lane.reason = reason

    def _reason(self, lane: Lane, is_round_open: bool) -> int:
        demand = lane.demand
        if not self.quotas.allows(lane.queue, demand):
            return queueing.QUOTA
        needed, free = demand.accelerators or 1, self.nodes.free_for(demand)
        if free < needed:
            if needed <= free + self.nodes.drained_for(demand):
                return queueing.DRAINED
            return queueing.GANG if free else queueing.BUSY
        if self.rules.placement.any_free or self.fits(lane.first[2]):
            return queueing.ROUND if is_round_open else queueing.ORDER
        return queueing.FRAGMENTATION

    def _carry_out(self, intent: Intent) -> None:
        if isinstance(intent, Start):
            self._start(self._own(intent.job, is_running=False), intent)
        elif isinstance(intent, Wake):
            self._wake(intent)
        elif isinstance(intent, Preempt):
            self.preempt(self._own(intent.job, is_running=True))
        elif isinstance(intent, (Resize, Move)):
            self._change(self._own(intent.job, is_running=True), intent)
        else:
            raise PolicyError(f"{_name(self.rules.scheduler)}: {intent!r} is no intent")

    def _own(self, job: JobView, is_running: bool) -> Job:
        """Return *job* as ours, if it is one of this pool in that state."""
        is_ours = isinstance(job, Job) and (
            job.index in self._running if is_running else job.lane is not None and job.held == 0
        )
        if not is_ours or not isinstance(job, Job):
            does = "run" if is_running else "wait"
            raise PolicyError(
                f"{_name(self.rules.scheduler)}: job {getattr(job, 'name', job)!r} does not {does} here"
            )
        return job

    def _wake(self, intent: Wake) -> None:
        if not self.now_s < intent.at_s < float("inf"):
            raise PolicyError(
                f"{_name(self.rules.scheduler)}: wants to be asked at {intent.at_s} s, now {self.now_s} s"
            )
        self.hooks.wake(self, intent.at_s)

    def _start(self, job: Job, intent: Start) -> None:
        accelerators = job.accelerators if intent.accelerators is None else intent.accelerators
        self._check_size(job, accelerators)
        nodes = intent.nodes
        if nodes is None:
            nodes = self._find(job, intent.accelerators, intent.kind)
        elif not self.quotas.allows(job.queue, job.demand):
            raise PolicyError(
                f"{_name(self.rules.scheduler)}: job {job.name!r} exceeds the quota of {job.queue!r}"
            )
        if nodes is None:
            raise PolicyError(
                f"{_name(self.rules.scheduler)}: starts job {job.name!r} on {accelerators} accelerators, "
                f"which do not fit; {self.free} of {self.total} are free"
            )
        self._leave_queue(job)
        self._occupy(job, accelerators, nodes)

    def _check_size(self, job: Job, accelerators: int) -> None:
        if accelerators != job.accelerators and not (
            job.min_accelerators <= accelerators <= job.max_accelerators
        ):
            raise PolicyError(
                f"{_name(self.rules.scheduler)}: job {job.name!r} runs on {job.min_accelerators} to "
                f"{job.max_accelerators} accelerators, not on {accelerators}"
            )

    def _leave_queue(self, job: Job) -> None:
        now_s = self.clock.now_s
        self.queue.remove(job, now_s)
        job.wait_s += now_s - job.waiting_since_s

    def _occupy(self, job: Job, accelerators: int, nodes: Nodes) -> None:
        now_s = self.clock.now_s
        demand = job.demand if accelerators == job.accelerators else _altered(job.demand, accelerators)
        device = None
        if demand.share < 1.0:
            device = self.rules.placement.device(demand, nodes[0][0], self.nodes)
        job.devices = self.nodes.take(demand, nodes, device)
        self.quotas.take(job.queue, accelerators)
        self._changes += 1
        job.held, job.nodes = accelerators, nodes
        job.since_s = job.start_s = now_s
        if job.first_start_s < 0:
            job.first_start_s = now_s
        kind = self._only_kind
        if kind is None:
            kind = self.nodes.kind_names[self.nodes.kind[nodes[0][0]]]
        job.speed = self.speed(job, accelerators, kind, len(nodes))
        job.version += 1
        self._running[job.index] = job
        self.hooks.started(job)

    def preempt(self, job: Job) -> None:
        """Stop *job*, which runs; it waits again."""
        self._stop(job)
        job.past_debt_s += self.rules.restart_s(job.accelerators)
        job.preemptions += 1
        self.submit(job)

    def _stop(self, job: Job) -> None:
        self.hooks.stopped(job)
        job.settle()
        demand = job.demand if job.held == job.accelerators else _altered(job.demand, job.held)
        self.nodes.give_back(demand, job.nodes, job.devices)
        self.quotas.give_back(job.queue, job.held)
        self._releases += 1
        self._changes += 1
        job.held, job.nodes, job.devices, job.speed = 0, (), (), 0.0
        job.version += 1
        del self._running[job.index]

    def _change(self, job: Job, intent: Resize | Move) -> None:
        """Restart *job* elsewhere or on another number of accelerators."""
        accelerators = intent.accelerators if isinstance(intent, Resize) else job.held
        self._check_size(job, accelerators)
        self._stop(job)
        job.past_debt_s += self.rules.restart_s(accelerators)
        nodes = intent.nodes if isinstance(intent, Move) else None
        if nodes is None:
            nodes = self._find(job, None if accelerators == job.accelerators else accelerators)
        if nodes is None:
            raise PolicyError(
                f"{_name(self.rules.scheduler)}: job {job.name!r} does not fit where it is to go"
            )
        self._occupy(job, accelerators, nodes)

    def drain(self, nodes: np.ndarray, is_up: bool, evict: bool) -> None:
        """Let *nodes* take jobs or not; *evict* stops what runs there."""
        if evict and not is_up:
            gone = set(nodes.tolist())
            for job in self.running:
                if any(node in gone for node, _ in job.nodes):
                    self.preempt(job)
        self.nodes.drain(nodes, is_up)
        self._changes += 1
        self._releases += 1


def _altered(demand: Demand, accelerators: int | None, kind: str | None = None) -> Demand:
    """Return *demand* for another number or another kind of accelerators."""
    n = demand.accelerators if accelerators is None else accelerators
    part = n / demand.accelerators if demand.accelerators else 1.0
    kinds = demand.kinds if kind is None else (kind,)
    return Demand(n, kinds, demand.share, demand.cpus * part, demand.memory_bytes * part)


def _name(policy: JobScheduler) -> str:
    return policy.kind or type(policy).__name__
