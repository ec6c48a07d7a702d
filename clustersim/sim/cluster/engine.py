"""The cluster on a SimPy clock: one process, one pending timeout, a heap of what is due.

At one time, first jobs end, then nodes change, then jobs are withdrawn and submitted, then each pool in
which something changed decides once. Times are those of the heap, never sums of waits, so a run is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from heapq import heappop, heappush
from math import ceil
from typing import Any, Final

import numpy as np
import simpy

from clustersim.errors import StalledError
from clustersim.sim.cluster.job import Clock, Job
from clustersim.sim.cluster.pool import Pool
from clustersim.sim.cluster.record import Record

_END, _DRAIN, _CANCEL, _SUBMIT, _WAKE, _DECIDE = range(6)
_INF: Final = float("inf")
_NEARLY, _NOTHING_S = 1 - 1e-12, 1e-9


class Engine:
    """Runs jobs through pools until none is left."""

    def __init__(self, env: simpy.Environment, clock: Clock, work_s: np.ndarray):
        self.env, self.clock = env, clock
        self.record = Record(len(work_s))
        self.decisions = 0
        self._work_s: list[float] = work_s.tolist()
        self._due: list[tuple[float, int, int, Any]] = []
        self._count = 0
        self._pool_of: Sequence[Pool] = ()
        self._dirty: dict[Pool, None] = {}
        self._round_s: float | None = None

    def load(self, jobs: Sequence[Job], pools: Sequence[Pool], round_s: float | None) -> None:
        """Take the jobs, in order of submission, each with its pool."""
        self._jobs, self._pool_of, self._round_s = jobs, pools, round_s

    def drain_at(self, at_s: float, change: Callable[[], Pool]) -> None:
        """Do *change*, which returns the pool that it touches, at a time."""
        self._push(at_s, _DRAIN, change)

    def cancel_at(self, at_s: float, job: Job) -> None:
        """Withdraw *job* at a time, if it still waits."""
        self._push(at_s, _CANCEL, job)

    def started(self, job: Job) -> None:
        """Note a start and when the job will end: done, or at its limit."""
        now_s = self.clock.now_s
        left_s = self._work_s[job.index] - job.past_done_s
        runs_s = job.past_debt_s + (left_s / job.speed if job.speed > 0 else _INF)
        runs_s = min(runs_s, max(0.0, job.limit_s - job.past_ran_s))
        self.record.start(job)
        if runs_s < _INF:
            self._push(now_s + runs_s, _END, (job, job.version))

    def stopped(self, job: Job) -> None:
        """Note the end of a stretch of running."""
        self.record.stop(job)

    def wake(self, pool: Pool, at_s: float) -> None:
        """Ask *pool* at a time."""
        self._push(at_s, _WAKE, pool)

    def run(self) -> Generator[simpy.Event, Any, None]:
        """Live through all events; a SimPy process."""
        submits = [job.submit_s for job in self._jobs]
        at, n = 0, len(submits)
        while True:
            due_s = self._due[0][0] if self._due else _INF
            if at < n and submits[at] < due_s:
                due_s = submits[at]
            if due_s == _INF:
                break
            if due_s > self.env.now:
                yield self.env.timeout(due_s - self.env.now)
            self.clock.now_s = due_s
            self._events(due_s, _SUBMIT)
            while at < n and submits[at] <= due_s:
                self._submit(self._jobs[at])
                at += 1
            if self._due and self._due[0][0] <= due_s:
                self._events(due_s, _DECIDE)
            self._decide()
        self._check_done()

    def _events(self, now_s: float, before: int) -> None:
        """Let happen what is due by now and comes before the kind of event *before*."""
        due = self._due
        while due and due[0][0] <= now_s and due[0][1] < before:
            _, kind, _, subject = heappop(due)
            if kind == _END:
                self._end(*subject)
            elif kind == _DRAIN:
                self._dirty[subject()] = None
            elif kind == _CANCEL:
                self._cancel(subject)
            elif kind == _WAKE:
                self._dirty[subject] = None

    def _submit(self, job: Job) -> None:
        pool = self._pool_of[job.index]
        pool.submit(job)
        self._dirty[pool] = None

    def _end(self, job: Job, version: int) -> None:
        if job.version != version:
            return
        pool = self._pool_of[job.index]
        pool.finish(job)
        is_done = job.past_done_s >= self._work_s[job.index] * _NEARLY - _NOTHING_S
        self.record.finish(job, is_done)
        self._dirty[pool] = None

    def _cancel(self, job: Job) -> None:
        if job.lane is not None:
            pool = self._pool_of[job.index]
            pool.withdraw(job)
            self.record.cancel(job)
            self._dirty[pool] = None

    def _decide(self) -> None:
        now_s, round_s = self.clock.now_s, self._round_s
        while self._due and self._due[0][0] <= now_s and self._due[0][1] == _DECIDE:
            pool = heappop(self._due)[3]
            pool.decide_at_s = -1.0
            self._dirty.setdefault(pool)
        dirty = list(self._dirty)
        self._dirty.clear()
        for pool in dirty:
            if round_s is None or now_s == round_s * ceil(now_s / round_s):
                self.decisions += 1
                pool.decide()
            elif pool.decide_at_s < 0:
                pool.explain(is_round_open=True)
                pool.decide_at_s = round_s * ceil(now_s / round_s)
                self._push(pool.decide_at_s, _DECIDE, pool)
            else:
                pool.explain(is_round_open=True)

    def _push(self, at_s: float, kind: int, subject: Any) -> None:
        self._count += 1
        heappush(self._due, (at_s, kind, self._count, subject))

    def _check_done(self) -> None:
        left = [job for job in self._jobs if not self.record.is_over(job)]
        if left:
            job = left[0]
            raise StalledError(
                f"{len(left)} jobs never run, the first is {job.name!r}, which asks for {job.accelerators} "
                f"accelerators{_of(job)}: the scheduler leaves them waiting although nothing else happens"
            )


def _of(job: Job) -> str:
    return f" in the queue {job.queue!r}" if job.queue else ""


def facts_of(tables: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Return the headline numbers of the table of jobs."""
    jobs = tables["jobs"]
    ran = jobs["start_s"] >= 0
    jct_s = jobs["finish_s"] - jobs["submit_s"]
    if not ran.any():
        return {"jobs": len(ran)}
    return {
        "jobs": len(ran),
        "wait_mean_s": float(jobs["wait_s"].mean()),
        "jct_mean_s": float(jct_s[ran].mean()),
        "jct_p99_s": float(np.quantile(jct_s[ran], 0.99)),
        "makespan_s": float(jobs["finish_s"].max() - jobs["submit_s"].min()),
        "preemptions": int(jobs["preemptions"].sum()),
    }
