"""Zero-bubble orders found for given times and a limit of memory, by the heuristic of Qi et al. Compiled.

After a warm-up of as many forwards as fit before the first backward arrives, every round runs one forward
and one backward on each stage. Gradients of weights go into gaps that hold them, into shorter gaps where
the stage would otherwise wait longer than all others have, and wherever memory is needed. Three choices are
left open, and the best of the eight combinations is taken.
"""

from __future__ import annotations

from itertools import product
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.pipeline.ops import CHUNK, FORWARD, INPUT, KIND, MICROBATCH, WEIGHT, WIDTH, Array
from clustersim.cost.pipeline.schedules import Schedule, ScheduleError
from clustersim.cost.pipeline.times import StageTimes
from clustersim.kernels import entry, kernel

# Columns of ``Draft.counts`` beyond those done of each kind.
ROWS: Final = 3
EXTRA: Final = 4  # forwards of the warm-up, then whether this round runs one
COUNTS: Final = 5

# Columns of ``Draft.levels``.
CLOCK_S: Final = 0
WAITED_S: Final = 1
FIRST_S: Final = 2
LEVELS: Final = 3

# Columns of ``Draft.prices`` beyond those of the kinds.
HOP_S: Final = 3  # to the next stage
PRICES: Final = 4

LIMIT: Final = 0
KEPT: Final = 1
ROUNDING: Final = 1e-9


class Draft(NamedTuple):
    """An order in the making."""

    ops: Array
    """int32 (stages, 3 microbatches, WIDTH)."""
    counts: Array
    """int64 (stages, COUNTS)."""
    levels: Array
    """float64 (stages, LEVELS)."""
    end_s: Array
    """float64 (2, stages, microbatches): of forwards and of backwards."""
    prices: Array
    """float64 (stages, PRICES): seconds."""
    memory: Array
    """float64 (2): activations that a stage may hold, and the share kept for the gradients of weights."""


def automatic(
    schedule: Schedule, times: StageTimes, microbatches: int, kept_share: float
) -> NDArray[np.int32]:
    """Return the operations of all stages of the shortest order found."""
    limit = schedule.limit_share * times.stages
    if limit < 1.0:
        raise ScheduleError(
            f"{schedule.name}: a stage must hold a microbatch, but limit_share {schedule.limit_share:g} of "
            f"{times.stages} stages is {limit:g}; use {1 / times.stages:g} or more"
        )
    drafts = []
    for late, patient, greedy in product((False, True), (True, False), (True, False)):
        draft = _draft(limit, times, microbatches, kept_share)
        drafts.append((plan(draft, late, patient, greedy), draft.ops))
    return min(drafts, key=itemgetter(0))[1].reshape(-1, WIDTH)


def _draft(limit: float, times: StageTimes, microbatches: int, kept_share: float) -> Draft:
    stages = times.stages
    parts = (times.forward_s[:, 0], times.input_s[:, 0], times.weight_s[:, 0], times.hop_s)
    return Draft(
        np.full((stages, 3 * microbatches, WIDTH), -1, dtype=np.int32),
        np.zeros((stages, COUNTS), dtype=np.int64),
        np.zeros((stages, LEVELS)),
        np.zeros((2, stages, microbatches)),
        np.stack(parts, axis=1),
        np.array([limit + ROUNDING, kept_share]),
    )


@entry
def plan(d: Draft, late: bool, patient: bool, greedy: bool) -> float:
    """Write the order; return the longest span of a stage.

    *late*: a forward may put off the first backward; *patient*: a stage may leave out a forward that its
    successor cannot use yet; *greedy*: gradients of weights fill gaps even where other stages waited longer.
    """
    warm_up(d, late)
    for _ in range(1, d.end_s.shape[2]):
        forwards(d, patient, greedy)
        backwards(d, greedy)
    span_s = 0.0
    for stage in range(len(d.counts)):
        catch_up(d, stage)
        span_s = max(span_s, d.levels[stage, CLOCK_S] - d.levels[stage, FIRST_S])
    return span_s


@kernel
def warm_up(d: Draft, late: bool) -> None:
    """Run the first forwards of every stage, each stage fewer than the one before, and a backward."""
    stages, microbatches = d.end_s.shape[1:]
    for stage in range(stages):
        append(d, stage, FORWARD)
    due_s = 0.0
    for stage in range(stages - 1, -1, -1):
        due_s = extras(d, stage, due_s, late)
    for stage in range(stages):
        extra = d.counts[stage, EXTRA]
        if stage > 0:
            before = d.counts[stage - 1, EXTRA]
            extra = min(extra, before if extra + 1 == microbatches else max(before - 1, 0))
        d.counts[stage, EXTRA] = extra
        for _ in range(extra):
            append(d, stage, FORWARD)
    for stage in range(stages - 1, -1, -1):
        append(d, stage, INPUT)


@kernel
def extras(d: Draft, stage: int, due_s: float, late: bool) -> float:
    """Count the forwards that fit before the first gradient; return when the stage sends it on.

    *due_s*: when the next stage sends it.
    """
    clock_s, forward_s, hop_s = d.levels[stage, CLOCK_S], d.prices[stage, FORWARD], d.prices[stage, HOP_S]
    extra = 0
    if stage < len(d.counts) - 1:
        due_s += hop_s
        while extra + 1 < d.end_s.shape[2] and extra + 2 <= d.memory[LIMIT]:
            if clock_s >= due_s or (not late and clock_s + forward_s > due_s):
                break
            clock_s += forward_s
            extra += 1
    d.counts[stage, EXTRA] = extra
    gone_s: float = max(clock_s, due_s) + d.prices[stage, INPUT]
    return gone_s


@kernel
def forwards(d: Draft, patient: bool, greedy: bool) -> None:
    """Run a forward on every stage that has one to run; whatever was done before has made room for it."""
    last = len(d.counts) - 1
    for stage in range(last, -1, -1):
        next_runs = stage == last or d.counts[stage + 1, EXTRA] == 1
        d.counts[stage, EXTRA] = 1 if next_runs and wants_forward(d, stage, patient) else 0
    for stage in range(last + 1):
        if d.counts[stage, EXTRA] == 0:
            continue
        while not has_room(d, stage, d.counts[stage, WEIGHT]):
            append(d, stage, WEIGHT)
        if stage > 0:
            fill_gap(d, stage, arrival_s(d, stage, FORWARD), greedy)
        append(d, stage, FORWARD)


@kernel
def backwards(d: Draft, greedy: bool) -> None:
    """Run a backward on every stage; nobody waits for those of stage 0."""
    last = len(d.counts) - 1
    for stage in range(last, -1, -1):
        if stage < last:
            fill_gap(d, stage, arrival_s(d, stage, INPUT), greedy)
        if stage == 0 and d.counts[0, FORWARD] == d.end_s.shape[2]:
            catch_up(d, stage)
        append(d, stage, INPUT)


@kernel
def wants_forward(d: Draft, stage: int, patient: bool) -> bool:
    """Whether a stage should run a forward this round."""
    forward = d.counts[stage, FORWARD]
    if forward >= d.end_s.shape[2]:
        return False
    if not patient or stage + 1 == len(d.counts) or forward < d.counts[stage + 1, FORWARD] + 2:
        return True
    clock_s, prices = d.levels[stage, CLOCK_S], d.prices
    back_s = d.levels[stage + 1, CLOCK_S] + prices[stage + 1, FORWARD] + prices[stage + 1, INPUT]
    spare_s = back_s + prices[stage, HOP_S] - clock_s
    weights = d.counts[stage, WEIGHT]
    while not has_room(d, stage, weights) and weights < d.counts[stage, INPUT]:
        weights += 1
    work_s = prices[stage, FORWARD] + (weights - d.counts[stage, WEIGHT]) * prices[stage, WEIGHT]
    wanted: bool = spare_s > 0.0 and (work_s <= spare_s or spare_s > lag_s(d, stage))
    return wanted


@kernel
def has_room(d: Draft, stage: int, weights: int) -> bool:
    """Whether a further forward fits once so many gradients of weights are done."""
    freed = d.counts[stage, INPUT] * (1.0 - d.memory[KEPT]) + weights * d.memory[KEPT]
    room: bool = d.counts[stage, FORWARD] + 1 - freed <= d.memory[LIMIT]
    return room


@kernel
def fill_gap(d: Draft, stage: int, until_s: float, greedy: bool) -> None:
    """Run gradients of weights until something arrives at *until_s*; the last may put it off."""
    while d.counts[stage, WEIGHT] < d.counts[stage, INPUT]:
        gap_s = until_s - d.levels[stage, CLOCK_S]
        fits = d.prices[stage, WEIGHT] <= gap_s
        if not fits and (gap_s <= 0.0 or not (greedy or gap_s > lag_s(d, stage))):
            break
        append(d, stage, WEIGHT)


@kernel
def lag_s(d: Draft, stage: int) -> float:
    """Return by how much less a stage has waited than the one that waited longest."""
    longest_s = 0.0
    for other in range(len(d.levels)):
        longest_s = max(longest_s, d.levels[other, WAITED_S])
    behind_s: float = longest_s - d.levels[stage, WAITED_S]
    return behind_s


@kernel
def catch_up(d: Draft, stage: int) -> None:
    """Run all gradients of weights that can run."""
    while d.counts[stage, WEIGHT] < d.counts[stage, INPUT]:
        append(d, stage, WEIGHT)


@kernel
def arrival_s(d: Draft, stage: int, kind: int) -> float:
    """Return when the input of the next operation of a kind is there."""
    at_s = 0.0
    number = d.counts[stage, kind]
    if kind == FORWARD and stage > 0:
        at_s = d.end_s[0, stage - 1, number] + d.prices[stage - 1, HOP_S]
    if kind == INPUT and stage < len(d.counts) - 1:
        at_s = d.end_s[1, stage + 1, number] + d.prices[stage, HOP_S]
    return at_s


@kernel
def append(d: Draft, stage: int, kind: int) -> None:
    """Run the next operation of a kind as soon as its stage and its input are there."""
    number, row = d.counts[stage, kind], d.counts[stage, ROWS]
    clock_s = d.levels[stage, CLOCK_S]
    start_s = max(clock_s, arrival_s(d, stage, kind))
    if row == 0:
        d.levels[stage, FIRST_S] = start_s
    else:
        d.levels[stage, WAITED_S] += start_s - clock_s
    d.levels[stage, CLOCK_S] = start_s + d.prices[stage, kind]
    if kind != WEIGHT:
        d.end_s[kind, stage, number] = d.levels[stage, CLOCK_S]
    d.ops[stage, row, KIND] = kind
    d.ops[stage, row, MICROBATCH] = number
    d.ops[stage, row, CHUNK] = 0
    d.counts[stage, kind] += 1
    d.counts[stage, ROWS] += 1
