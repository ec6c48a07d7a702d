"""Backfill: later jobs may start early if, by the estimates, they delay nobody who has a promise.

Accelerators are counted where promises are made, as all published backfill simulators do; a job still
starts only where the placement finds room for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice
from typing import ClassVar

from pydantic import Field, PositiveInt

from clustersim.policies.cluster.contracts import Intent, JobScheduler, JobView, PoolView, QueueView, Start

_INF = float("inf")


class Backfill(JobScheduler):
    """What both kinds of backfill have in common."""

    needs_estimates: ClassVar[bool] = True
    depth: PositiveInt | None = Field(None, description="How many jobs behind the first are looked at.")

    def rank(self, job: JobView) -> float:
        return -job.priority

    def expected_s(self, job: JobView) -> float:
        """Return how long *job* is taken to run."""
        return min(job.estimate_s, job.limit_s)


class Easy(Backfill):
    """First come, first served; the first that does not fit gets a promise, and nobody may break it.

    EASY backfill (Lifka 1995; Mu'alem and Feitelson 2001): others start if they end before the promised
    start, or on accelerators that the promise leaves free.
    """

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        while (head := queue.first) is not None and view.fits(head):
            yield Start(head)
        if head is None or len(queue) < 2 or not view.free:
            return
        start_s, spare = view.earliest_start_s(head)
        for job in islice(queue, 1, None if self.depth is None else self.depth + 1):
            if not view.free:
                return
            ends_before = view.now_s + self.expected_s(job) <= start_s
            if (ends_before or job.accelerators <= spare) and view.fits(job):
                spare -= 0 if ends_before else job.accelerators
                yield Start(job)


class Conservative(Backfill):
    """Everybody who waits gets a promise in turn; a job starts early if it breaks none of them."""

    depth: PositiveInt | None = 100

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        if queue.first is None or not view.free:
            return
        plan = Plan(view)
        for job in islice(queue, self.depth):
            start_s = plan.earliest_s(job.accelerators, self.expected_s(job))
            if start_s <= view.now_s and view.fits(job):
                yield Start(job)
            elif start_s <= view.now_s:
                start_s = plan.next_change_s(start_s)
            plan.reserve(start_s, self.expected_s(job), job.accelerators)


class Plan:
    """Free accelerators over time, by the estimates: a step function that promises lower."""

    def __init__(self, view: PoolView):
        self.times_s, self.free = [view.now_s], [view.free]
        running = ((view.now_s + max(0.0, min(j.remaining_s, j.limit_s - j.ran_s)), j) for j in view.running)
        for end_s, job in sorted(running, key=lambda pair: (pair[0], pair[1].index)):
            self._add(end_s, _INF, job.held)

    def earliest_s(self, accelerators: int, length_s: float) -> float:
        """Return the earliest time from which so many are free for so long; infinity if never."""
        start = 0
        while start < len(self.times_s):
            end_s = self.times_s[start] + length_s
            short = None
            for step in range(start, len(self.times_s)):
                if self.times_s[step] >= end_s and step > start:
                    break
                if self.free[step] < accelerators:
                    short = step
                    break
            if short is None:
                return self.times_s[start]
            start = short + 1
        return _INF

    def next_change_s(self, after_s: float) -> float:
        """Return when the free accelerators next change; infinity if never."""
        at = bisect_right(self.times_s, after_s)
        return self.times_s[at] if at < len(self.times_s) else _INF

    def reserve(self, start_s: float, length_s: float, accelerators: int) -> None:
        """Promise accelerators from *start_s* for *length_s*."""
        if start_s < _INF and length_s > 0:
            self._add(start_s, start_s + length_s, -accelerators)

    def _add(self, start_s: float, end_s: float, change: int) -> None:
        first, last = self._edge(start_s), len(self.times_s) if end_s == _INF else self._edge(end_s)
        for step in range(first, last):
            self.free[step] += change

    def _edge(self, at_s: float) -> int:
        """Return the number of the step that begins at *at_s*, made if there is none."""
        if at_s == _INF:
            return len(self.times_s)
        place = bisect_right(self.times_s, at_s)
        if place and self.times_s[place - 1] == at_s:
            return place - 1
        self.times_s.insert(place, at_s)
        self.free.insert(place, self.free[place - 1])
        return place
