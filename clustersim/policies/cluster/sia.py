"""Sia (Jayaram Subramanya et al., SOSP 2023): kinds and numbers of accelerators, chosen together.

Each job may get one configuration, a kind and a number, and is worth its speed over its least speed, to a
power. The paper solves an integer program for the greatest sum; here jobs get the configuration of the
greatest worth per accelerator, then better ones as long as there is room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar

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

Choice = tuple[str, int]


class Sia(JobScheduler):
    """Gives each job the kind and number of accelerators that raise the sum of speedups most."""

    preempts: ClassVar[bool] = True
    interval: Annotated[Seconds, Field(gt=0)] = 60.0
    exponent: float = Field(0.5, gt=0, le=1, description="Of the speedup; smaller is fairer.")
    stay: float = Field(1.1, ge=1, description="By how much a job's present configuration counts more.")

    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        jobs = sorted([*view.running, *queue], key=lambda job: job.index)
        due_s = view.memory.get("due_s", -1.0)
        if isinstance(due_s, float) and due_s <= view.now_s:
            view.memory["due_s"] = due_s = view.now_s + self.interval
            yield from self._apply(jobs, self._choose(jobs, view), view)
        if jobs and isinstance(due_s, float):
            yield Wake(due_s)

    def _choose(self, jobs: Sequence[JobView], view: PoolView) -> dict[int, Choice]:
        """Return a configuration for as many jobs as there is room for."""
        worth = {job.index: self._worth(job, view) for job in jobs}
        room, chosen = dict(view.kinds), dict[int, Choice]()
        while True:
            best = min(
                (
                    (-rate, index, choice)
                    for index, options in worth.items()
                    for choice in options
                    if (rate := self._rate(options, chosen.get(index), choice, room)) > 0
                ),
                default=None,
            )
            if best is None:
                return chosen
            _, index, choice = best
            if index in chosen:
                room[chosen[index][0]] += chosen[index][1]
            chosen[index] = choice
            room[choice[0]] -= choice[1]

    @staticmethod
    def _rate(options: dict[Choice, float], now: Choice | None, then: Choice, room: dict[str, int]) -> float:
        """Return what *then* is worth more than *now* for each accelerator more; 0 if there is no room."""
        back = now[1] if now is not None and now[0] == then[0] else 0
        if then[1] > room[then[0]] + back:
            return 0.0
        more = options[then] - (options[now] if now is not None else 0.0)
        return more / max(then[1] - (now[1] if now is not None else 0), 0.5)

    def _worth(self, job: JobView, view: PoolView) -> dict[Choice, float]:
        """Return what each configuration is worth to *job*."""
        held = view.memory.setdefault("held", dict[int, Choice]())
        mine = held.get(job.index) if isinstance(held, dict) and job.held else None
        speeds = {choice: view.speed(job, choice[1], choice[0]) for choice in self._options(job, view)}
        speeds = {choice: speed for choice, speed in speeds.items() if speed > 0}
        least = min(speeds.values(), default=1.0)
        return {
            choice: (speed / least) ** self.exponent * (self.stay if choice == mine else 1.0)
            for choice, speed in speeds.items()
        }

    @staticmethod
    def _options(job: JobView, view: PoolView) -> list[Choice]:
        """Return kinds with the job's own number and the powers of two in its range."""
        least, most = max(job.min_accelerators, 1), max(job.max_accelerators, 1)
        numbers = {n for n in (1 << k for k in range(most.bit_length())) if least <= n <= most}
        kinds = job.demand.kinds or tuple(view.kinds)
        return [
            (kind, n)
            for kind in kinds
            if kind in view.kinds
            for n in sorted(numbers | {max(job.accelerators, 1)})
        ]

    @staticmethod
    def _apply(jobs: Sequence[JobView], chosen: dict[int, Choice], view: PoolView) -> Iterable[Intent]:
        held = view.memory["held"]
        if not isinstance(held, dict):
            return
        moved = [job for job in jobs if job.held and held.get(job.index) != chosen.get(job.index)]
        for job in moved:
            yield Preempt(job)
        for job in jobs:
            if job.index in chosen and not job.held:
                kind, n = chosen[job.index]
                if view.fits(job, n, kind):
                    held[job.index] = kind, n
                    yield Start(job, n, kind=kind)
