"""Gavel (Narayanan et al., OSDI 2020): shares of time from a program, kept in rounds.

In each round, on each kind of accelerator, those jobs run that are furthest behind their share. A job
runs whole iterations, and the round ends with the last of them. The bookkeeping, with its resets and
half a round of credit, is that of the authors' simulator (stanford-futuredata/gavel@c4fa400).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from clustersim.policies.cluster import shares
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
from clustersim.policies.cluster.linear import Floats
from clustersim.policies.cluster.shares import Problem
from clustersim.units import Seconds

Objective = Literal[
    "max-min-fairness",
    "water-filling",
    "max-sum-throughput",
    "min-total-duration",
    "finish-time-fairness",
    "fifo",
]


@dataclass(frozen=True, slots=True)
class Lease:
    """Whole iterations on one kind of accelerator."""

    column: int
    start_s: float
    end_s: float
    is_last: bool
    """The job ends with it by itself."""


@dataclass(slots=True, eq=False)
class Books:
    """What Gavel remembers between rounds."""

    kinds: dict[str, int]
    round_end_s: float = -1.0
    reset_s: float = 0.0
    known: frozenset[int] = frozenset()
    stale: bool = True
    leases: dict[int, Lease] = field(default_factory=dict)
    """By job: what it was given in this round."""
    shares: dict[int, Floats] = field(default_factory=dict)
    time_s: dict[int, Floats] = field(default_factory=dict)
    deficit_s: dict[int, Floats] = field(default_factory=dict)
    given_s: Floats = field(default_factory=lambda: np.zeros(0))
    """Time given to jobs on each kind since the last reset, those that have left included."""
    alone_s: dict[int, float] = field(default_factory=dict)
    before: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By job: iterations left at the last allocation, and its speed alone then."""
    placed: dict[int, int] = field(default_factory=dict)
    """First come, first served: the kind that each job keeps."""


class Gavel(JobScheduler):
    """Runs jobs in rounds, on the kinds of accelerators that a policy over shares of time gives them."""

    preempts: ClassVar[bool] = True
    needs_estimates: ClassVar[bool] = True
    objective: Objective = "max-min-fairness"
    heterogeneous: bool = Field(True, description="Whether speeds on the kinds are told apart.")
    round: Annotated[Seconds, Field(gt=0)] = 360.0
    reset: Seconds = Field(1920.0, description="Least time between two allocations.")
    best_kind: str = Field("v100", description="For whom all kinds are alike: the one whose speed counts.")

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        books = view.memory.get("gavel")
        if not isinstance(books, Books):
            kinds = {name: n for n, name in enumerate(sorted(view.kinds))}
            books = view.memory["gavel"] = Books(kinds, given_s=np.zeros(len(kinds)))
        for job in view.running:
            lease = books.leases[job.index]
            if lease.end_s <= view.now_s and not lease.is_last:
                yield Preempt(job)
        if not view.running and view.now_s >= books.round_end_s - _SLACK_S:
            yield from self._round(list(queue), view, books)
        leases = [books.leases[job.index] for job in view.running]
        ends_s = [lease.end_s for lease in leases if not lease.is_last]
        if ends_s:
            yield Wake(min(ends_s))
        elif len(queue) and not leases and books.round_end_s > view.now_s:
            yield Wake(books.round_end_s)

    def _round(self, jobs: Sequence[JobView], view: PoolView, books: Books) -> Iterable[Intent]:
        jobs = sorted(jobs, key=lambda job: job.index)
        self._settle(jobs, books)
        if not jobs:
            return
        if books.stale and (view.now_s - books.reset_s >= self.reset or books.reset_s == 0):
            self._reset(jobs, view, books)
        books.leases = {}
        for job, kind in self._choose(jobs, view, books):
            rate, left = view.throughput(job, job.accelerators, kind), self._left(job, view)
            steps = min(max(1.0, float(int(rate * self.round))), left)
            end_s = view.now_s + steps / rate
            books.leases[job.index] = Lease(books.kinds[kind], view.now_s, end_s, steps == left)
            yield Start(job, kind=kind)
        books.round_end_s = max((lease.end_s for lease in books.leases.values()), default=view.now_s)

    @staticmethod
    def _left(job: JobView, view: PoolView) -> float:
        """Return the iterations that *job* has left."""
        return max(1.0, float(round(job.remaining_s * view.throughput(job, job.accelerators))))

    def _settle(self, jobs: Sequence[JobView], books: Books) -> None:
        """Count the time of the last round, and let jobs that are gone go."""
        for index, lease in books.leases.items():
            books.given_s[lease.column] += lease.end_s - lease.start_s
            if index in books.time_s:
                books.time_s[index][lease.column] += lease.end_s - lease.start_s
        books.leases = {}
        now = frozenset(job.index for job in jobs)
        books.stale |= now != books.known
        for index in sorted(books.known - now):
            del books.time_s[index], books.deficit_s[index]
        for index in sorted(now - books.known):
            books.time_s[index] = np.full(len(books.kinds), self.round / 2)
            books.deficit_s[index] = np.zeros(len(books.kinds))
        books.known = now

    def _reset(self, jobs: Sequence[JobView], view: PoolView, books: Books) -> None:
        """Start to count anew, carry over what was not received, and ask for new shares."""
        elapsed_s, nothing = view.now_s - books.reset_s, np.zeros(len(books.kinds))
        for job in jobs:
            received_s = books.time_s[job.index] - self.round / 2
            books.deficit_s[job.index] += books.shares.get(job.index, nothing) * elapsed_s - received_s
            books.time_s[job.index] = np.full(len(books.kinds), self.round / 2)
        books.given_s = np.full(len(books.kinds), len(jobs) * self.round / 2)
        books.reset_s, books.stale = view.now_s, False
        table = self._allocate(jobs, view, books)
        books.shares = {job.index: row for job, row in zip(jobs, table, strict=True)}

    def _allocate(self, jobs: Sequence[JobView], view: PoolView, books: Books) -> Floats:
        problem = self._problem(jobs, view, books)
        if self.objective == "max-sum-throughput":
            return shares.max_sum(problem)
        if self.objective == "fifo":
            return self._first_come(jobs, problem, books)
        if self.objective == "max-min-fairness":
            return shares.max_min(problem if self.heterogeneous else problem.blind(None))
        if self.objective == "water-filling":
            return shares.water_filling(problem if self.heterogeneous else problem.blind(None))
        seen = problem if self.heterogeneous else problem.blind(books.kinds[self.best_kind])
        if self.objective == "min-total-duration":
            return shares.min_duration(seen)
        return shares.finish_fairness(seen, self._alone_s(jobs, seen, books))

    @staticmethod
    def _alone_s(jobs: Sequence[JobView], problem: Problem, books: Books) -> Floats:
        """Return how long each job takes in all in a part of its own: what it did so far, then the rest."""
        found = []
        for job, left, speed in zip(jobs, problem.left.tolist(), problem.alone.tolist(), strict=True):
            left_before, speed_before = books.before.get(job.index, (left, speed))
            books.alone_s[job.index] = books.alone_s.get(job.index, 0.0) + (left_before - left) / speed_before
            books.before[job.index] = left, speed
            found.append(books.alone_s[job.index] + left / speed)
        return np.array(found)

    def _problem(self, jobs: Sequence[JobView], view: PoolView, books: Books) -> Problem:
        speeds = [[view.throughput(job, job.accelerators, kind) for kind in books.kinds] for job in jobs]
        return Problem(
            np.array(speeds),
            np.array([float(job.accelerators) for job in jobs]),
            np.array([float(view.kinds[kind]) for kind in books.kinds]),
            np.array([self._left(job, view) for job in jobs]),
            np.array([view.now_s - job.submit_s for job in jobs]),
            np.array([job.priority or 1.0 for job in jobs]),
        )

    @staticmethod
    def _first_come(jobs: Sequence[JobView], problem: Problem, books: Books) -> Floats:
        """Give each job in turn the fastest kind with room for it; stop at the first for whom none has."""
        table, room = np.zeros(problem.speeds.shape), problem.counts.copy()
        for row, job in enumerate(jobs):
            fitting = room >= job.accelerators
            if not fitting.any():
                break
            best = int(np.argmax(np.where(fitting, problem.speeds[row], -1.0)))
            if problem.speeds[row, best] > 0:
                table[row, best] = 1.0
                room[best] -= job.accelerators
        return table

    def _choose(self, jobs: Sequence[JobView], view: PoolView, books: Books) -> list[tuple[JobView, str]]:
        """Return who runs where in this round: on each kind in turn, the furthest behind first."""
        chosen, taken = list[tuple[JobView, str]](), set[int]()
        for kind in self._kinds_in_turn(view, books):
            column, room = books.kinds[kind], view.kinds[kind]
            order = sorted(jobs, key=lambda job: self._claim(job, column, books), reverse=True)
            for job in order:
                if job.index in taken or job.accelerators > room:
                    continue
                urgent = self._claim(job, column, books)[0] > 0
                if view.throughput(job, job.accelerators, kind) > 0 and (urgent or self.objective != "fifo"):
                    room -= job.accelerators
                    taken.add(job.index)
                    chosen.append((job, kind))
        return chosen

    def _kinds_in_turn(self, view: PoolView, books: Books) -> list[str]:
        """Return the kinds from fast to slow; in random order for whom they are all alike."""
        kinds = sorted(books.kinds, key=lambda kind: -books.kinds[kind])
        if self.heterogeneous:
            return kinds
        return [kinds[place] for place in np.argsort([view.nodes.random for _ in kinds])]

    @staticmethod
    def _claim(job: JobView, column: int, books: Books) -> tuple[float, float, float]:
        """Return how far *job* is behind its share on one kind, what it missed before, and the share."""
        share = float(books.shares[job.index][column]) if job.index in books.shares else 0.0
        given_s, time_s = float(books.given_s[column]), float(books.time_s[job.index][column])
        behind = share * given_s / time_s if given_s > 0 and time_s > 0 else share * 1e9
        return behind, float(books.deficit_s[job.index][column]), share


_SLACK_S = 1e-9
