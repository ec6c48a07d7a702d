"""Schedulers that only order: who is first in line. They start jobs and never stop one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from clustersim.policies.cluster.contracts import Intent, JobScheduler, JobView, PoolView, QueueView, Start


class Ordered(JobScheduler):
    """Starts jobs by rank; strictly, or letting those behind pass one that does not fit."""

    strict: bool = Field(True, description="Whether a job that does not fit holds back all behind it.")

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        if not self.strict:
            while (job := queue.first_fitting()) is not None:
                yield Start(job)
            return
        while (job := queue.first) is not None and view.fits(job):
            yield Start(job)


class Fifo(Ordered):
    """First come, first served."""


class Sjf(Ordered):
    """Shortest job first, by the estimates."""

    needs_estimates: ClassVar[bool] = True

    def rank(self, job: JobView) -> float:
        return job.estimate_s


class SmallestFirst(Ordered):
    """The job that asks for the fewest accelerators first."""

    def rank(self, job: JobView) -> float:
        return float(job.accelerators)


class Ssf(Ordered):
    """Smallest service first: estimate times accelerators."""

    needs_estimates: ClassVar[bool] = True

    def rank(self, job: JobView) -> float:
        return job.estimate_s * max(job.accelerators, 1)


class Priority(Ordered):
    """The most urgent first, by the priority that jobs bring."""

    def rank(self, job: JobView) -> float:
        return -job.priority


class EarliestDeadline(Ordered):
    """The earliest deadline first."""

    def rank(self, job: JobView) -> float:
        return job.deadline_s
