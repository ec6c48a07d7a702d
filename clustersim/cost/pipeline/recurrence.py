"""From orders to times: who waits for whom, a sequence that respects it, and the times that follow. Compiled.

An operation starts when its stage is free and its inputs have arrived. Sorted once, an order is a *program*:
one pass over it gives the times for any prices. A program's rows name operations by their row in the order.
"""

from __future__ import annotations

from typing import Final

from clustersim.cost.pipeline.ops import (
    BACK_CHUNK,
    BACK_MICROBATCH,
    BACKWARD,
    CHUNK,
    FORWARD,
    INPUT,
    KIND,
    KIND_COUNT,
    MICROBATCH,
    PAIR,
    WEIGHT,
    Array,
)
from clustersim.kernels import entry, kernel

# Columns of a program. Rows name operations by their row in the order, prices by their place in
# ``StageTimes.prices``.
AFTER: Final = 0  # the operation that this one waits for, or -1
HOP: Final = 1  # price of the link in between
AFTER_TOO: Final = 2  # what the backward of a pair waits for, or -1
HOP_TOO: Final = 3
ROW: Final = 4
STAGE: Final = 5
PRICE: Final = 6
PROGRAM: Final = 7

# Columns of the spans of stages.
FIRST_S: Final = 0  # start of the first operation; -1 before
LAST_S: Final = 1  # end of the last
BUSY_S: Final = 2
SPANS: Final = 3


@kernel
def is_forward(kind: int) -> bool:
    """Whether an operation holds a forward pass."""
    return kind in (FORWARD, PAIR)


@kernel
def claim(found: Array, depth: int, microbatch: int, row: int) -> bool:
    """Note who works on a microbatch at a depth; False if somebody did before."""
    fresh: bool = 0 <= microbatch < found.shape[1] and found[depth, microbatch] < 0
    if fresh:
        found[depth, microbatch] = row
    return fresh


@entry
def index(ops: Array, stage: Array, place: Array, found: Array) -> int:
    """Find the forward, backward and weight rows by depth and microbatch; return a row that is amiss, or -1.

    *place* is the depth of (stage, chunk); *found* (3, depths, microbatches) holds -1 at first.
    """
    for row in range(len(ops)):
        kind, chunk, microbatch = ops[row, KIND], ops[row, CHUNK], ops[row, MICROBATCH]
        depth = place[stage[row], chunk]
        right = True
        if is_forward(kind):
            right = claim(found[0], depth, microbatch, row)
        if kind == PAIR:
            depth = place[stage[row], ops[row, BACK_CHUNK]]
            microbatch = ops[row, BACK_MICROBATCH]
        if kind in (INPUT, BACKWARD, PAIR):
            right = right and claim(found[1], depth, microbatch, row)
        if kind in (WEIGHT, BACKWARD, PAIR):
            right = right and found[1, depth, microbatch] >= 0 and claim(found[2], depth, microbatch, row)
        if not right:
            return row
    return -1


@kernel
def link(here: int, there: int, stages: int) -> int:
    """Return the number of the link between two stages: the lower one's, the ring's last, or none."""
    if here == there:
        return stages
    return min(here, there) if abs(here - there) == 1 else stages - 1


@entry
def connect(ops: Array, stage: Array, place: Array, found: Array, waits: Array) -> None:
    """Write the rows of a program, in the order of *ops*; *waits* holds -1 at first.

    A backward at the greatest depth follows its own forward; elsewhere the chain implies it.
    """
    last = found.shape[1] - 1
    for row in range(len(ops)):
        kind, here, at = ops[row, KIND], stage[row], AFTER
        chunk, microbatch = ops[row, CHUNK], ops[row, MICROBATCH]
        waits[row, ROW] = row
        waits[row, STAGE] = here
        waits[row, PRICE] = kind * place.size + here * place.shape[1] + chunk
        depth = place[here, chunk]
        if is_forward(kind) and depth > 0:
            waits[row, AFTER] = found[0, depth - 1, microbatch]
        if kind == PAIR:
            at, chunk, microbatch = AFTER_TOO, ops[row, BACK_CHUNK], ops[row, BACK_MICROBATCH]
            depth = place[here, chunk]
        if kind in (INPUT, BACKWARD, PAIR):
            waits[row, at] = found[1, depth + 1, microbatch] if depth < last else found[0, last, microbatch]
        for column in (AFTER, AFTER_TOO):
            before = waits[row, column]
            hop = link(stage[before], here, len(place)) if before >= 0 else len(place)
            waits[row, column + 1] = KIND_COUNT * place.size + hop


@kernel
def is_ready(waits: Array, row: int, done: Array) -> bool:
    """Whether all that an operation waits for is done."""
    one, other = waits[row, AFTER], waits[row, AFTER_TOO]
    ready: bool = (one < 0 or done[one] > 0) and (other < 0 or done[other] > 0)
    return ready


@entry
def sort(waits: Array, offsets: Array, heads: Array, done: Array, program: Array) -> int:
    """Copy rows into *program* so that what they wait for comes first; return how many can ever run.

    *heads* are the first rows of the stages; *done* by row holds 0.
    """
    count, before = 0, -1
    while count > before:
        before = count
        for stage in range(len(heads)):
            while heads[stage] < offsets[stage + 1] and is_ready(waits, heads[stage], done):
                row = heads[stage]
                for column in range(PROGRAM):
                    program[count, column] = waits[row, column]
                done[row] = 1
                heads[stage] += 1
                count += 1
    return count


@kernel
def advance(program: Array, k: int, prices: Array, spans: Array, end_s: Array) -> float:
    """Run one operation as early as it can; return its start."""
    stage = program[k, STAGE]
    start_s: float = spans[stage, LAST_S]
    if program[k, AFTER] >= 0:
        start_s = max(start_s, end_s[program[k, AFTER]] + prices[program[k, HOP]])
    if program[k, AFTER_TOO] >= 0:
        start_s = max(start_s, end_s[program[k, AFTER_TOO]] + prices[program[k, HOP_TOO]])
    if spans[stage, FIRST_S] < 0.0:
        spans[stage, FIRST_S] = start_s
    duration_s = prices[program[k, PRICE]]
    spans[stage, BUSY_S] += duration_s
    spans[stage, LAST_S] = start_s + duration_s
    end_s[program[k, ROW]] = start_s + duration_s
    return start_s


@entry
def run(program: Array, prices: Array, spans: Array, start_s: Array, end_s: Array) -> None:
    """Time every operation; *spans* (stages, SPANS) holds -1, 0, 0."""
    for k in range(len(program)):
        start_s[program[k, ROW]] = advance(program, k, prices, spans, end_s)


@entry
def run_all(program: Array, prices: Array, spans: Array, end_s: Array) -> None:
    """Time the stages for every row of *prices*; *spans* (rows, stages, SPANS); *end_s* is scratch."""
    for j in range(len(prices)):
        for k in range(len(program)):
            advance(program, k, prices[j], spans[j], end_s)


@entry
def peaks(ops: Array, offsets: Array, units: Array, kept_share: float, peak: Array) -> None:
    """Write by stage the most activations held at once, in *units* of (stage, chunk).

    A forward stores one. The backward for the input frees all of it but *kept_share*, which is kept for
    the backward for the weights.
    """
    for stage in range(len(peak)):
        held = 0.0
        for row in range(offsets[stage], offsets[stage + 1]):
            kind = ops[row, KIND]
            unit = units[stage, ops[row, CHUNK]]
            if is_forward(kind):
                held += unit
                peak[stage] = max(peak[stage], held)
            if kind == PAIR:
                held -= units[stage, ops[row, BACK_CHUNK]]
            elif kind == BACKWARD:
                held -= unit
            elif kind == INPUT:
                held -= unit * (1.0 - kept_share)
            elif kind == WEIGHT:
                held -= unit * kept_share
