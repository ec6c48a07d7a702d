"""Shares between virtual clusters: dominant shares, guarantees and reclaiming, multifactor priority."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeFloat

from clustersim.policies.cluster.contracts import (
    Intent,
    JobScheduler,
    JobView,
    PoolView,
    Preempt,
    QueueView,
    Start,
)
from clustersim.units import Seconds


class Drf(JobScheduler):
    """The virtual cluster with the smallest share of the pool first (dominant resource fairness, NSDI 2011).

    Accelerators are the resource that counts; within a virtual cluster first come, first served.
    """

    weights: dict[str, float] = Field(default_factory=dict, description="Of virtual clusters; 1 by default.")

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        blocked: set[str] = set()
        while True:
            heads: dict[str, JobView] = {}
            for job in queue:
                if job.queue not in blocked:
                    heads.setdefault(job.queue, job)
            if not heads:
                return
            name = min(heads, key=lambda q: (view.held(q) / self.weights.get(q, 1.0), heads[q].index))
            if view.fits(heads[name]):
                yield Start(heads[name])
            else:
                blocked.add(name)


class Guaranteed(JobScheduler):
    """Quotas are guaranteed and the rest is lent; lent ones are taken back from the newest borrowers.

    For clusters with quotas and ``borrow: true``, as batch queues of Kubernetes do it.
    """

    preempts: ClassVar[bool] = True

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        for job in queue:
            is_due = view.held(job.queue) + job.accelerators <= view.quota(job.queue)
            if is_due and not view.fits(job):
                for victim in self._victims(job, view):
                    yield Preempt(victim)
            if (is_due or not self._claimed(queue, view)) and view.fits(job):
                yield Start(job)

    @staticmethod
    def _victims(job: JobView, view: PoolView) -> list[JobView]:
        """Return the newest running jobs of borrowers that make room for *job*; none, if they cannot."""
        over = {name: view.held(name) - view.quota(name) for name in {j.queue for j in view.running}}
        free, victims = view.free, list[JobView]()
        for other in sorted(view.running, key=lambda j: (-j.start_s, -j.index)):
            if free >= job.accelerators:
                break
            if other.queue != job.queue and over[other.queue] > 0:
                over[other.queue] -= other.held
                free += other.held
                victims.append(other)
        return victims if free >= job.accelerators else []

    @staticmethod
    def _claimed(queue: QueueView, view: PoolView) -> bool:
        """Return whether somebody waits for accelerators that are due to it and free."""
        return any(
            view.held(job.queue) + job.accelerators <= view.quota(job.queue) and view.fits(job)
            for job in queue
        )


class Multifactor(JobScheduler):
    """A weighted sum of age, size, priority and share of the virtual cluster, as in Slurm; highest first."""

    strict: bool = True
    age: NonNegativeFloat = 1.0
    full_age: Annotated[Seconds, Field(gt=0)] = Field(604_800.0, description="At which age counts in full.")
    size: float = Field(0.0, description="Weight of the share of the pool asked for; negative: small first.")
    priority: NonNegativeFloat = 1.0
    share: NonNegativeFloat = Field(0.0, description="Weight of what its virtual cluster does not hold.")

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        for job in sorted(queue, key=lambda job: (-self.score(job, view), job.index)):
            if view.fits(job):
                yield Start(job)
            elif self.strict:
                return

    def score(self, job: JobView, view: PoolView) -> float:
        """Return how urgent *job* is now."""
        total = max(view.total, 1)
        aged = min((view.now_s - job.submit_s) / self.full_age, 1.0)
        unheld = 1.0 - view.held(job.queue) / total
        return (
            self.age * aged + self.size * job.accelerators / total
            + self.priority * job.priority + self.share * unheld
        )  # fmt: skip


class Qssf(JobScheduler):
    """Quasi-shortest service first: by the mean duration of the user's finished jobs (Helios, SC 2021)."""

    strict: bool = True

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        known = {job.user: view.mean_duration_s(job.user) for job in queue}
        for job in sorted(queue, key=lambda job: (known[job.user] * max(job.accelerators, 1), job.index)):
            if view.fits(job):
                yield Start(job)
            elif self.strict:
                return
