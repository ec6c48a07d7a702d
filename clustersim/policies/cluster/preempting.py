"""Schedulers that stop jobs: all jobs of the pool in one order, and the first that fit run.

The order is taken anew at every event, and where it changes in between, the scheduler says when.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from clustersim.policies.cluster.contracts import (
    Intent,
    JobScheduler,
    JobView,
    PoolView,
    Preempt,
    QueueView,
    Start,
    Wake,
)
from clustersim.units import Seconds

_INF = float("inf")


class Preemptive(JobScheduler):
    """Runs the first jobs of an order, as many as there are accelerators for, and stops the others."""

    preempts: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    """True: it keeps an order of its own, and is asked even if nobody waits."""
    strict: bool = Field(False, description="Whether a job that does not fit holds back all behind it.")

    @abstractmethod
    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        """Return the place of *job* among all, running or waiting; lowest first."""

    def wake_s(self, view: PoolView) -> float:
        """Return when the order changes by itself; infinity if never."""
        return _INF

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        if len(queue) or self.remembers:
            chosen, stopped = self.choose([*view.running, *queue], view)
            for job in stopped:
                yield Preempt(job)
            for job in chosen:
                if not job.held and view.fits(job):
                    yield Start(job)
        at_s = self.wake_s(view) if len(queue) else _INF
        if view.now_s < at_s < _INF:
            yield Wake(at_s)

    def choose(self, jobs: Sequence[JobView], view: PoolView) -> tuple[list[JobView], list[JobView]]:
        """Return which *jobs* are to run, and which of the running ones are to stop."""
        left, chosen, stopped = view.total, list[JobView](), list[JobView]()
        for job in sorted(jobs, key=lambda job: (*self.order(job, view), job.index)):
            asked = job.held or job.accelerators
            if asked <= left:
                left -= asked
                chosen.append(job)
            else:
                left = 0 if self.strict else left
                if job.held:
                    stopped.append(job)
        return chosen, stopped


class Srtf(Preemptive):
    """Shortest remaining time first, by the estimates."""

    needs_estimates: ClassVar[bool] = True
    ties_to: Literal["running", "waiting"] = Field("running", description="Who comes first of equals.")

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        is_last = bool(job.held) != (self.ties_to == "running")
        return self.left(job), float(is_last), job.start_s if job.held else job.waiting_since_s

    def left(self, job: JobView) -> float:
        """Return what is left to do, as far as it counts."""
        return job.remaining_s


class Srsf(Srtf):
    """Smallest remaining service first: remaining time times accelerators."""

    def left(self, job: JobView) -> float:
        return job.remaining_s * max(job.accelerators, 1)


class PreemptivePriority(Preemptive):
    """The most urgent run; of equals, those that already do."""

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        return (-job.priority, 0.0 if job.held else 1.0, job.submit_s)


class Sliced(Preemptive):
    """Looks at the order again after each slice of time."""

    slice: Annotated[Seconds, Field(gt=0)] = 360.0

    def wake_s(self, view: PoolView) -> float:
        return view.now_s + self.slice


class Las(Sliced):
    """Least attained service first, in accelerator-seconds; looked at again after each slice."""

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        return (job.service_s,)


class Gandiva(Sliced):
    """Turns: each job runs for a slice, then those that have waited longest (Gandiva, OSDI 2018)."""

    slice: Annotated[Seconds, Field(gt=0)] = 60.0

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        if not job.held:
            return 1.0, job.waiting_since_s
        return (0.0 if view.now_s - job.start_s < self.slice else 2.0), job.start_s


class Themis(Sliced):
    """The job treated most unfairly first: its time to finish over that in a fair share (NSDI 2020)."""

    needs_estimates: ClassVar[bool] = True
    slice: Annotated[Seconds, Field(gt=0)] = 600.0

    def choose(self, jobs: Sequence[JobView], view: PoolView) -> tuple[list[JobView], list[JobView]]:
        asked = sum(job.accelerators for job in jobs)
        crowd = max(1.0, asked / max(view.total, 1))
        unfair = {job.index: self._unfairness(job, view.now_s, crowd) for job in jobs}
        ordered = sorted(jobs, key=lambda job: (-unfair[job.index], job.index))
        return _fill(ordered, view.total)

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        return (-self._unfairness(job, view.now_s, 1.0),)

    @staticmethod
    def _unfairness(job: JobView, now_s: float, crowd: float) -> float:
        alone_s = max(min(job.estimate_s, job.limit_s), 1.0)
        return (now_s - job.submit_s + min(job.remaining_s, job.limit_s)) / (alone_s * crowd)


class Tiresias(Preemptive):
    """Queues by attained service, first come first served in each (2D-LAS; Tiresias, NSDI 2019).

    A job falls to the end of the next queue when its accelerator-seconds pass a threshold, and may then be
    stopped for those that wait there. Among those in a queue, the ones that run stay in front. Thresholds
    and order are those of the authors' simulator (SymbioticLab/Tiresias@959f9b0).
    """

    remembers: ClassVar[bool] = True
    thresholds: tuple[float, ...] = Field((3250.0, 7200.0), description="Accelerator-seconds, rising.")
    by_time: bool = Field(False, description="Count seconds of running instead: one-dimensional LAS.")

    def attained(self, job: JobView) -> float:
        """Return what counts against the thresholds."""
        return job.ran_s if self.by_time else job.service_s

    def level(self, job: JobView) -> int:
        """Return the number of the queue of *job*; 0 is the most urgent."""
        return bisect_right(self.thresholds, self.attained(job) * (1 + 1e-12))

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        return (self.level(job), 0.0 if job.held else 1.0, job.start_s)

    def choose(self, jobs: Sequence[JobView], view: PoolView) -> tuple[list[JobView], list[JobView]]:
        lines = view.memory.get("tiresias")
        if not isinstance(lines, Lines):
            lines = view.memory["tiresias"] = Lines([{} for _ in range(len(self.thresholds) + 1)])
        lines.update({job.index: (job, self.level(job)) for job in sorted(jobs, key=lambda job: job.index)})
        chosen, stopped = _fill([job for line in lines.lines for job in line.values()], view.total)
        lines.put_first({job.index for job in chosen})
        return chosen, stopped

    def wake_s(self, view: PoolView) -> float:
        soonest_s, last = _INF, len(self.thresholds)
        for job in view.running:
            level = self.level(job)
            if level < last:
                rate = 1.0 if self.by_time else max(job.held, 1) * job.demand.share
                soonest_s = min(soonest_s, (self.thresholds[level] - self.attained(job)) / rate)
        return view.now_s + soonest_s


@dataclass(slots=True, eq=False)
class Lines:
    """Jobs in lines of falling urgency, each in its own order."""

    lines: list[dict[int, JobView]]
    level: dict[int, int] = field(default_factory=dict)

    def update(self, jobs: Mapping[int, tuple[JobView, int]]) -> None:
        """Let those that are gone go, and put those at the end of a line that are new to it."""
        for index in [index for index in self.level if index not in jobs]:
            del self.lines[self.level.pop(index)][index]
        for index, (job, level) in jobs.items():
            before = self.level.get(index)
            if before != level:
                if before is not None:
                    del self.lines[before][index]
                self.lines[level][index] = job
                self.level[index] = level

    def put_first(self, chosen: set[int]) -> None:
        """Put those of *chosen* in front of the others of their line."""
        for number, line in enumerate(self.lines):
            ordered = sorted(line, key=lambda index: index not in chosen)
            self.lines[number] = {index: line[index] for index in ordered}


class Gittins(Sliced):
    """The highest chance of ending soon for the service it takes first (Gittins index; Tiresias, NSDI 2019).

    The distribution of services is *services*, or what finished jobs have shown so far.
    """

    services: tuple[float, ...] = Field((), description="Accelerator-seconds of jobs, as a sample.")

    def choose(self, jobs: Sequence[JobView], view: PoolView) -> tuple[list[JobView], list[JobView]]:
        sample = np.sort(np.asarray(self.services or view.services(), dtype=float))
        if len(sample) > _SAMPLE:
            sample = np.quantile(sample, (np.arange(_SAMPLE) + 0.5) / _SAMPLE)
        index = {job.index: gittins_index(sample, job.service_s) for job in jobs}
        return _fill(sorted(jobs, key=lambda job: (-index[job.index], job.submit_s, job.index)), view.total)

    def order(self, job: JobView, view: PoolView) -> tuple[float, ...]:
        return (-gittins_index(np.sort(np.asarray(self.services or view.services())), job.service_s),)


_SAMPLE = 200


def gittins_index(services: np.ndarray, attained: float) -> float:
    """Return the Gittins index after *attained* service, of jobs with these (sorted) services.

    >>> gittins_index(np.array([1.0, 1.0, 10.0]), 0.0)
    0.6666666666666666
    """
    left = services[np.searchsorted(services, attained, side="right") :] - attained
    if not len(left):
        return 0.0
    ended = np.arange(1, len(left) + 1)
    spent = np.cumsum(left) + left * (len(left) - ended)
    return float((ended / spent).max())


def _fill(ordered: Sequence[JobView], total: int) -> tuple[list[JobView], list[JobView]]:
    """Return those of *ordered* that fit in *total* accelerators, and those that run and must stop."""
    chosen, stopped = list[JobView](), list[JobView]()
    for job in ordered:
        asked = job.held or job.accelerators
        if asked <= total:
            total -= asked
            chosen.append(job)
        elif job.held:
            stopped.append(job)
    return chosen, stopped
