"""When a pipeline does what: the times of all operations, and what follows from them. No clock.

Hand-overs take time but occupy no stage. Where a stage cannot compute while it sends, add the time to its
passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.pipeline import recurrence
from clustersim.cost.pipeline.ops import (
    BACK_CHUNK,
    BACK_MICROBATCH,
    BACKWARD,
    CHUNK,
    FORWARD,
    KIND,
    KINDS,
    MICROBATCH,
    PAIR,
)
from clustersim.cost.pipeline.orders import Order, order_for
from clustersim.cost.pipeline.recurrence import BUSY_S, FIRST_S, LAST_S, SPANS
from clustersim.cost.pipeline.schedules import Schedule, find
from clustersim.cost.pipeline.times import StageTimes

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The times of one iteration; operations are in the rows of ``order.ops``."""

    order: Order
    times: StageTimes
    start_s: Floats
    end_s: Floats
    spans: Floats
    """By stage: start of its first operation, end of its last, and how long it worked."""
    kept_share: float = 1.0
    """Of a microbatch's activations, what stays between the backward for the input and for the weights."""

    @property
    def kind(self) -> Ints:
        """The kind of every operation, a place in ``KINDS``."""
        return self.order.ops[:, KIND]

    @property
    def microbatch(self) -> Ints:
        """The microbatch of every operation; of a pair, the forward's."""
        return self.order.ops[:, MICROBATCH]

    @property
    def chunk(self) -> Ints:
        """The chunk of every operation; of a pair, the forward's."""
        return self.order.ops[:, CHUNK]

    @property
    def makespan_s(self) -> float:
        """From the first operation to the end of the last optimizer step; no step waits for others."""
        return float((self.spans[:, LAST_S] + self.times.optimizer_s).max())

    @property
    def period_s(self) -> float:
        """The longest time that a stage takes from its first to its last operation: the literature's cost."""
        return float((self.spans[:, LAST_S] - self.spans[:, FIRST_S]).max())

    @property
    def bubble_shares(self) -> Floats:
        """By stage, the share of the period in which it does not work."""
        return np.asarray(1.0 - self.spans[:, BUSY_S] / self.period_s)

    @property
    def bubble_share(self) -> float:
        """The mean over the stages: (cost - m (F + B + W)) / cost where all are equal."""
        return float(self.bubble_shares.mean())

    @property
    def peak_activations(self) -> Floats:
        """By stage, the most microbatches whose activations it holds at once, each of one chunk."""
        return peak_activations(self.order, self.kept_share)

    def table(self) -> dict[str, NDArray[Any]]:
        """Return the passes as columns; the two of a pair are rows of their own, marked as overlapping."""
        ops, stage = self.order.ops, self.order.stage
        pair = ops[:, KIND] == PAIR
        kinds = np.array(KINDS)
        first = np.where(pair, FORWARD, ops[:, KIND]), ops[:, MICROBATCH], ops[:, CHUNK]
        second = np.full(pair.sum(), BACKWARD), ops[pair, BACK_MICROBATCH], ops[pair, BACK_CHUNK]
        kind, microbatch, chunk = (np.concatenate(columns) for columns in zip(first, second, strict=True))
        again = np.concatenate([np.arange(len(ops)), np.flatnonzero(pair)])
        return {
            "stage": stage[again],
            "kind": kinds[kind],
            "microbatch": microbatch,
            "chunk": chunk,
            "start_s": self.start_s[again],
            "duration_s": (self.end_s - self.start_s)[again],
            "is_overlapped": pair[again],
        }


def timeline(
    schedule: str | Schedule, times: StageTimes, microbatches: int, kept_share: float = 1.0
) -> Timeline:
    """Return when every operation of an iteration runs under a schedule.

    >>> line = timeline("1f1b", StageTimes.equal(4, 1, (1.0, 1.0, 1.0)), 8)
    >>> line.makespan_s, round(line.bubble_share, 4), line.peak_activations.tolist()
    (33.0, 0.2727, [4.0, 3.0, 2.0, 1.0])
    """
    return run(order_for(schedule, times, microbatches, kept_share), times, kept_share)


def run(found: Order, times: StageTimes, kept_share: float = 1.0) -> Timeline:
    """Return when every operation of an order runs."""
    start_s, end_s = np.empty((2, len(found.ops)))
    spans = np.zeros((found.size.stages, SPANS))
    spans[:, FIRST_S] = -1.0
    recurrence.run(found.program, times.prices(), spans, start_s, end_s)
    return Timeline(found, times, start_s, end_s, spans, kept_share)


class Plan(NamedTuple):
    """One pipeline of a search."""

    schedule: str | Schedule
    times: StageTimes
    microbatches: int
    kept_share: float = 1.0


class Estimates(NamedTuple):
    """What a search compares, by plan."""

    makespan_s: Floats
    period_s: Floats
    bubble_share: Floats


def evaluate(plans: Sequence[Plan]) -> Estimates:
    """Return the figures of many plans, as ``timeline`` has them; plans that share an order run together."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(_key(number, plan), []).append(number)
    figures = np.empty((3, len(plans)))
    for numbers in groups.values():
        found = order_for(*plans[numbers[0]])
        figures[:, numbers] = _figures(found, [plans[number].times for number in numbers])
    return Estimates(*figures)


def _key(number: int, plan: Plan) -> tuple[Any, ...]:
    """Return what plans that share an order have in common; automatic orders are each their own."""
    schedule = find(plan.schedule)
    if schedule.fill is None:
        return (number,)
    return (schedule, plan.times.stages, plan.times.chunks, plan.microbatches)


def _figures(found: Order, times: list[StageTimes]) -> Floats:
    """Return makespans, periods and bubble shares of one order at several times."""
    spans = np.zeros((len(times), found.size.stages, SPANS))
    spans[:, :, FIRST_S] = -1.0
    recurrence.run_all(found.program, np.stack([t.prices() for t in times]), spans, np.empty(len(found.ops)))
    makespan_s = (spans[:, :, LAST_S] + np.stack([t.optimizer_s for t in times])).max(axis=1)
    period_s = (spans[:, :, LAST_S] - spans[:, :, FIRST_S]).max(axis=1)
    return np.stack([makespan_s, period_s, 1.0 - spans[:, :, BUSY_S].mean(axis=1) / period_s])


@lru_cache(maxsize=64)
def peak_activations(found: Order, kept_share: float = 1.0) -> Floats:
    """Return by stage the most activations that an order holds at once, in microbatches of one chunk."""
    peak = peak_units(found, np.ones((found.size.stages, found.size.chunks)), kept_share)
    peak.flags.writeable = False
    return peak


def peak_units(found: Order, units: Floats, kept_share: float = 1.0) -> Floats:
    """Return by stage the peak of what is stored, where a microbatch's chunk takes *units* (stage, chunk)."""
    peak = np.zeros(found.size.stages)
    recurrence.peaks(found.ops, found.offsets, np.asarray(units, dtype=np.float64), kept_share, peak)
    return peak
