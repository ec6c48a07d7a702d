"""The order of every stage's operations under a schedule, and the program that it compiles to.

An order depends on the schedule and on the numbers of stages, chunks and microbatches; only the automatic
schedules look at times too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.pipeline import fill, recurrence
from clustersim.cost.pipeline.automatic import automatic
from clustersim.cost.pipeline.ops import BACKWARD, CHUNK, FORWARD, KIND, KINDS, MICROBATCH, PAIR, WIDTH
from clustersim.cost.pipeline.schedules import Fill, Schedule, ScheduleError, Shape, find, place
from clustersim.cost.pipeline.times import StageTimes
from clustersim.errors import UnknownNameError

Ints = NDArray[np.int32]


class Size(NamedTuple):
    """How large a pipeline is."""

    stages: int
    chunks: int
    microbatches: int


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What every stage does one after the other, sorted so that one pass over it gives the times."""

    schedule: Schedule
    size: Size
    ops: Ints
    """Operations of all stages, those of stage 0 first; columns as in ``clustersim.cost.pipeline.ops``."""
    offsets: NDArray[np.int64]
    """Where the operations of each stage begin, and at last how many there are."""
    program: NDArray[np.int32]
    """For ``clustersim.cost.pipeline.recurrence.run``."""

    @property
    def stage(self) -> Ints:
        """The stage of every operation."""
        return np.repeat(np.arange(self.size.stages, dtype=np.int32), np.diff(self.offsets))

    def rows(self, stage: int) -> slice:
        """Return which rows of the operations are a stage's."""
        return slice(int(self.offsets[stage]), int(self.offsets[stage + 1]))

    def words(self, stage: int) -> list[str]:
        """Return a stage's operations as words, such as ``F3.1`` for microbatch 3 in chunk 1."""
        return [_word(*row) for row in self.ops[self.rows(stage)].tolist()]


def order(
    schedule: str | Schedule,
    stages: int,
    chunks: int,
    microbatches: int,
) -> Order:
    """Return the order of a schedule; raise ScheduleError for a pipeline that it cannot run.

    Automatic schedules find theirs for passes of equal times and free hand-overs.
    """
    schedule = find(schedule)
    size = Size(stages, chunks, microbatches)
    schedule.check(*size)
    if schedule.fill is not None:
        return _fixed(schedule, schedule.fill, size)
    return order_for(schedule, StageTimes.equal(stages, chunks, (1.0, 1.0, 1.0)), microbatches)


def order_for(
    schedule: str | Schedule, times: StageTimes, microbatches: int, kept_share: float = 1.0
) -> Order:
    """Return the order of a schedule for given times, which matter to automatic schedules alone.

    *kept_share*: of a microbatch's activations, what stays between its backward for the input and that for
    the weights.
    """
    schedule = find(schedule)
    if schedule.fill is not None:
        return order(schedule, times.stages, times.chunks, microbatches)
    size = Size(times.stages, times.chunks, microbatches)
    schedule.check(*size)
    ops = automatic(schedule, times, microbatches, kept_share)
    return _compiled(schedule, ops, np.arange(size.stages + 1) * 3 * microbatches, size)


def custom(
    operations: Sequence[Sequence[tuple[str, int, int]]], shape: Shape = "loop", name: str = "custom"
) -> Order:
    """Return an order of one's own: by stage, (kind, microbatch, chunk), kinds as in ``KINDS`` but pairs.

    Raises ScheduleError where operations are missing, come twice or before their inputs, or wait in a ring.
    """
    rows = [
        (_kind(kind), microbatch, chunk, -1, -1) for stage in operations for kind, microbatch, chunk in stage
    ]
    ops = np.array(rows, dtype=np.int32).reshape(-1, WIDTH)
    schedule = Schedule(name, "an order of one's own", "", None, shape, chunks=None)
    if not len(ops) or ops[:, [MICROBATCH, CHUNK]].min() < 0:
        raise ScheduleError(f"{name}: microbatches and chunks are numbered from 0")
    size = Size(len(operations), int(ops[:, CHUNK].max()) + 1, int(ops[:, MICROBATCH].max()) + 1)
    return _compiled(schedule, ops, np.cumsum([0, *map(len, operations)], dtype=np.int64), size)


def _kind(name: str) -> int:
    if name not in KINDS[:PAIR]:
        raise UnknownNameError("kind of pass", name, KINDS[:PAIR])
    return KINDS.index(name)


def _word(kind: int, microbatch: int, chunk: int, back_microbatch: int, back_chunk: int) -> str:
    name, _, back = KINDS[kind].partition("+")
    return f"{name}{microbatch}.{chunk}" + (f"+{back}{back_microbatch}.{back_chunk}" if back else "")


@lru_cache(maxsize=64)
def _fixed(schedule: Schedule, write: Fill, size: Size) -> Order:
    """Return the order of a schedule that does not look at times."""
    room = 3 * size.chunks * size.microbatches
    ops = np.full((size.stages * room, WIDTH), -1, dtype=np.int32)
    offsets = np.zeros(size.stages + 1, dtype=np.int64)
    first = np.zeros((2, size.chunks), dtype=np.int64)
    if schedule.shape == "two-way":
        first[:, 1] = size.microbatches // 2
    for stage in range(size.stages):
        at = int(offsets[stage])
        offsets[stage + 1] = at + write(ops[at : at + room], stage, *size)
        fill.number(ops[at : offsets[stage + 1]], first.copy())
    return _compiled(schedule, ops[: offsets[-1]], offsets, size)


def _compiled(schedule: Schedule, ops: Ints, offsets: NDArray[np.int64], size: Size) -> Order:
    """Find what every operation waits for, and sort them so."""
    stage = np.repeat(np.arange(size.stages, dtype=np.int32), np.diff(offsets))
    depth = place(schedule.shape, size.stages, size.chunks)
    found = np.full((3, int(depth.max()) + 1, size.microbatches), -1, dtype=np.int32)
    wrong = recurrence.index(ops, stage, depth, found)
    if wrong >= 0 or found.min() < 0:
        raise ScheduleError(f"{schedule.name}: {_missing(ops, stage, found, wrong)}")
    waits = np.full((len(ops), recurrence.PROGRAM), -1, dtype=np.int32)
    recurrence.connect(ops, stage, depth, found, waits)
    if schedule.is_lenient:
        waits[_skipped(ops, stage, size), recurrence.AFTER] = -1
    program, done = np.empty_like(waits), np.zeros(len(ops), dtype=np.int8)
    if recurrence.sort(waits, offsets, offsets[:-1].copy(), done, program) < len(ops):
        row = int(np.flatnonzero(done == 0)[0])
        raise ScheduleError(
            f"{schedule.name}: {_said(ops, stage, row)} waits for itself, through other stages"
        )
    for shared in (ops, offsets, program):
        shared.flags.writeable = False
    return Order(schedule, size, ops, offsets, program)


def _skipped(ops: Ints, stage: Ints, size: Size) -> NDArray[np.bool_]:
    """Return which operations do not wait for the hand-over from the last stage to the first, or back."""
    kind, chunk = ops[:, KIND], ops[:, CHUNK]
    down = (kind == FORWARD) & (stage == 0) & (chunk > 0)
    up = (kind == BACKWARD) & (stage == size.stages - 1) & (chunk < size.chunks - 1)
    return np.asarray((down | up) & (ops[:, MICROBATCH] % size.stages > 0))


def _missing(ops: Ints, stage: Ints, found: Ints, wrong: int) -> str:
    """Say what is wrong with an order that is no order."""
    if wrong >= 0:
        return f"{_said(ops, stage, wrong)} comes twice, or before its backward for the input"
    part, depth, microbatch = np.argwhere(found < 0)[0]
    passes = ("forward", "backward for the input", "backward for the weights")
    return f"microbatch {microbatch} has no {passes[part]} at depth {depth} of the model"


def _said(ops: Ints, stage: Ints, row: int) -> str:
    kind, microbatch, chunk = ops[row, [KIND, MICROBATCH, CHUNK]]
    return f"{KINDS[kind]} of microbatch {microbatch}, chunk {chunk}, on stage {stage[row]}"
