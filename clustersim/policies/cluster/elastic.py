"""Schedulers that choose how many accelerators a job gets, within the range it allows.

They go by predicted speeds (``view.speed``), and look again after each interval.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Annotated, ClassVar

from pydantic import Field, PositiveFloat

from clustersim.policies.cluster.contracts import (
    Intent,
    JobScheduler,
    JobView,
    PoolView,
    Preempt,
    QueueView,
    Resize,
    Start,
    Wake,
)
from clustersim.units import Seconds

_NEVER_S = -1.0


class Elastic(JobScheduler):
    """Sizes all jobs anew at each interval, shrinks first, then grows and starts what fits."""

    preempts: ClassVar[bool] = True
    interval: Annotated[Seconds, Field(gt=0)] = 60.0

    @abstractmethod
    def sizes(self, jobs: Sequence[JobView], view: PoolView) -> Mapping[int, int]:
        """Return the accelerators of each job by its index; those left out get none."""

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        jobs = sorted([*view.running, *queue], key=lambda job: job.index)
        due_s = view.memory.get("due_s", _NEVER_S)
        if isinstance(due_s, float) and due_s > view.now_s:
            yield from self._between(queue, view)
        else:
            view.memory["due_s"] = due_s = view.now_s + self.interval
            sizes = self.sizes(jobs, view)
            yield from self._shrink(jobs, sizes)
            yield from self._grow(jobs, sizes, view)
        if jobs and isinstance(due_s, float):
            yield Wake(due_s)

    @staticmethod
    def _between(queue: QueueView, view: PoolView) -> Iterable[Intent]:
        """Between intervals, let those that wait start with the fewest they can run on."""
        for job in queue:
            least = max(job.min_accelerators, 1)
            if view.free >= least and view.fits(job, least):
                yield Start(job, least)

    @staticmethod
    def _shrink(jobs: Sequence[JobView], sizes: Mapping[int, int]) -> Iterable[Intent]:
        for job in jobs:
            size = sizes.get(job.index, 0)
            if job.held and not size:
                yield Preempt(job)
            elif size < job.held:
                yield Resize(job, size)

    @staticmethod
    def _grow(jobs: Sequence[JobView], sizes: Mapping[int, int], view: PoolView) -> Iterable[Intent]:
        for job in jobs:
            size = sizes.get(job.index, 0)
            if job.held and size > job.held and size - job.held <= view.free:
                yield Resize(job, size)
            elif size and not job.held and view.fits(job, size):
                yield Start(job, size)


class Greedy(Elastic):
    """Gives every job its least, in order of submission, then one more to whom it helps most."""

    def sizes(self, jobs: Sequence[JobView], view: PoolView) -> Mapping[int, int]:
        left, sizes = view.total, dict[int, int]()
        for job in self.turn(jobs):
            least = max(job.min_accelerators, 1)
            if least <= left:
                left -= least
                sizes[job.index] = least
        by_index = {job.index: job for job in jobs}
        gains = [(-self.gain(by_index[index], size, view), index) for index, size in sizes.items()]
        heapify(gains)
        while left and gains:
            gain, index = heappop(gains)
            job = by_index[index]
            if gain >= 0 or sizes[index] >= job.max_accelerators:
                continue
            sizes[index] += 1
            left -= 1
            heappush(gains, (-self.gain(job, sizes[index], view), index))
        return sizes

    def turn(self, jobs: Sequence[JobView]) -> Sequence[JobView]:
        """Return *jobs* in the order in which they get their least."""
        return sorted(jobs, key=lambda job: (job.submit_s, job.index))

    @abstractmethod
    def gain(self, job: JobView, accelerators: int, view: PoolView) -> float:
        """Return what one accelerator more is worth to *job*."""


class Optimus(Greedy):
    """One accelerator more to the job whose remaining time it shortens most (Peng et al., EuroSys 2018)."""

    needs_estimates: ClassVar[bool] = True
    interval: Annotated[Seconds, Field(gt=0)] = 600.0

    def gain(self, job: JobView, accelerators: int, view: PoolView) -> float:
        now, then = (view.speed(job, n) for n in (accelerators, accelerators + 1))
        if now <= 0 or then <= 0:
            return 0.0
        return min(job.remaining_s, _LONG_S) * (1 / now - 1 / then)


class Pollux(Greedy):
    """Sizes that maximise the power mean of speedups over a fair share (after Pollux, OSDI 2021).

    The mean's exponent is negative, so a slow job weighs more. Speeds are those predicted for the job's
    own batch: batches are not adapted, and placements are left to the placement policy.
    """

    exponent: float = Field(-1.0, lt=0, description="Of the power mean; nearer to 0 is less fair.")
    restart_penalty: PositiveFloat = Field(0.1, description="Share of a gain that a resize must exceed.")

    def gain(self, job: JobView, accelerators: int, view: PoolView) -> float:
        fair = max(view.speed(job, max(job.min_accelerators, 1)), _SLOW)
        now, then = (max(view.speed(job, n) / fair, _SLOW) for n in (accelerators, accelerators + 1))
        return float(now**self.exponent - then**self.exponent)

    def sizes(self, jobs: Sequence[JobView], view: PoolView) -> Mapping[int, int]:
        """Return the greedy sizes, but leave jobs as they are where a change gains little."""
        sizes = dict(super().sizes(jobs, view))
        for job in jobs:
            size = sizes.get(job.index, 0)
            if job.held and size > job.held:
                before, after = view.speed(job, job.held), view.speed(job, size)
                if after < before * (1 + self.restart_penalty):
                    sizes[job.index] = job.held
        return sizes


_LONG_S, _SLOW = 1e9, 1e-9
