"""In which order a stage works, for every schedule that does not look at times. Compiled, no clock.

Each public function writes kinds and chunks of one stage into *ops* (``clustersim.cost.pipeline.ops``) and
returns how many operations there are. All of them take the microbatches of a chunk in order, and the
gradients of weights in the order of the backwards that they follow, so ``number`` adds the rest.
"""

from __future__ import annotations

from clustersim.cost.pipeline.ops import (
    BACK_CHUNK,
    BACK_MICROBATCH,
    BACKWARD,
    CHUNK,
    FORWARD,
    INPUT,
    KIND,
    MICROBATCH,
    PAIR,
    WEIGHT,
    Array,
)
from clustersim.kernels import entry, kernel


@entry
def number(ops: Array, counts: Array) -> None:
    """Write the microbatches of one stage; *counts* (2, chunks) holds the first forward and backward ones."""
    waiting = 0
    for row in range(len(ops)):
        kind, chunk = ops[row, KIND], ops[row, CHUNK]
        if kind == WEIGHT:
            while ops[waiting, KIND] != INPUT:
                waiting += 1
            ops[row, MICROBATCH] = ops[waiting, MICROBATCH]
            ops[row, CHUNK] = ops[waiting, CHUNK]
            waiting += 1
        else:
            back = 0 if kind in (FORWARD, PAIR) else 1
            ops[row, MICROBATCH] = counts[back, chunk]
            counts[back, chunk] += 1
        if kind == PAIR:
            ops[row, BACK_MICROBATCH] = counts[1, ops[row, BACK_CHUNK]]
            counts[1, ops[row, BACK_CHUNK]] += 1


@kernel
def put(ops: Array, at: int, kind: int, chunk: int) -> int:
    """Write an operation at row *at*; return the next row."""
    ops[at, KIND] = kind
    ops[at, CHUNK] = chunk
    return at + 1


@kernel
def put_pair(ops: Array, at: int, chunk: int, back_chunk: int) -> int:
    """Write a forward and a backward that overlap."""
    ops[at, BACK_CHUNK] = back_chunk
    return put(ops, at, PAIR, chunk)


@kernel
def put_split(ops: Array, at: int, chunk: int) -> int:
    """Write a backward for the input, and one for the weights of whoever has waited longest."""
    return put(ops, put(ops, at, INPUT, chunk), WEIGHT, chunk)


@entry
def breadth_first(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """Every chunk takes all microbatches before the next one begins; backwards alike. GPipe has one chunk."""
    at = 0
    for chunk in range(chunks):
        for _ in range(microbatches):
            at = put(ops, at, FORWARD, chunk)
    for chunk in range(chunks - 1, -1, -1):
        for _ in range(microbatches):
            at = put(ops, at, BACKWARD, chunk)
    return at


@kernel
def alternate(ops: Array, ahead: int, late: int, microbatches: int) -> int:
    """Run *ahead* forwards first; then one forward, one backward, and a gradient of weights *late* rounds on.

    The backwards are whole where *late* is negative.
    """
    at = 0
    for k in range(microbatches + ahead + max(late, 0)):
        if k < microbatches:
            at = put(ops, at, FORWARD, 0)
        if ahead <= k < microbatches + ahead:
            at = put(ops, at, BACKWARD if late < 0 else INPUT, 0)
        if late >= 0 and k >= ahead + late:
            at = put(ops, at, WEIGHT, 0)
    return at


@entry
def one_forward_one_backward(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """As many forwards as stages follow, then one forward, one backward."""
    return alternate(ops, min(stages - 1 - stage, microbatches), -1, microbatches)


@entry
def zero_bubble_h1(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """1F1B with each gradient of weights as many rounds late as stages come before."""
    return alternate(ops, min(stages - 1 - stage, microbatches), stage, microbatches)


@entry
def zero_bubble_h2(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """Twice as many forwards ahead, and the gradients of weights twice as late."""
    return alternate(ops, min(2 * (stages - 1 - stage), microbatches), 2 * stage, microbatches)


@entry
def interleaved(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """Groups of as many microbatches as stages go through all chunks, one forward, one backward."""
    at = 0
    count, group = microbatches * chunks, stages * chunks
    ahead = min(2 * (stages - 1 - stage) + (chunks - 1) * stages, count)
    for k in range(count + ahead):
        if k < count:
            at = put(ops, at, FORWARD, k % group // stages)
        if k >= ahead:
            at = put(ops, at, BACKWARD, chunks - 1 - (k - ahead) % group // stages)
    return at


@entry
def zero_bubble_v(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """Two chunks, down the stages and up again: fill the V, one forward and backward of each, then drain."""
    above = stages - stage
    down, up, at = min(2 * above - 1, microbatches), min(stage, microbatches), 0
    for _ in range(down):
        at = put(ops, at, FORWARD, 0)
    for k in range(up):
        at = put(ops, at, FORWARD, 1)
        if down + k < microbatches:
            at = put(ops, at, FORWARD, 0)
    for k in range(above):
        if up + k < microbatches:
            at = put(ops, at, FORWARD, 1)
        if k < microbatches:
            at = put_split(ops, at, 1)
    for k in range(microbatches - stages):
        if down + up + k < microbatches:
            at = put(ops, at, FORWARD, 0)
        at = put(ops, put_split(ops, at, 0), FORWARD, 1)
        at = put_split(ops, at, 1)
    return drain_v(ops, at, stage, stages, microbatches)


@kernel
def drain_v(ops: Array, at: int, stage: int, stages: int, microbatches: int) -> int:
    """Put off the gradients of weights while the last backwards run, and end with them."""
    down = min(microbatches, stages)
    up = microbatches - max(microbatches - stage, min(stages - stage, microbatches))
    for k in range(stage):
        if k < down:
            at = put(ops, at, INPUT, 0)
        if k < up:
            at = put(ops, at, INPUT, 1)
    for _ in range(stage, down):
        at = put_split(ops, at, 0)
    for _ in range(up + min(down, stage)):
        at = put(ops, at, WEIGHT, 0)
    return at


@kernel
def fold(ops: Array, rank: int, ranks: int, microbatches: int, near: int) -> int:
    """DualPipe's eight steps, *rank* stages from where chunk *near* begins and *ranks* - 1 from the fold."""
    rest, far, at = ranks - 1 - rank, 1 - near, 0
    for _ in range(2 * rest):
        at = put(ops, at, FORWARD, near)
    for _ in range(rank + 1):
        at = put(ops, put(ops, at, FORWARD, near), FORWARD, far)
    for _ in range(rest):
        at = put(ops, put_split(ops, at, far), FORWARD, far)
    for k in range(microbatches - 2 * ranks + rank + 1):
        if k == 0 and rest == 0:  # overlapped, these two would lengthen the bubble
            at = put(ops, put(ops, at, FORWARD, near), BACKWARD, far)
        else:
            at = put_pair(ops, at, near, far)
        at = put_pair(ops, at, far, near)
    for _ in range(rest):
        at = put_pair(ops, put(ops, at, BACKWARD, far), far, near)
    for k in range(2 * (rank + 1)):
        at = put(ops, at, INPUT if k > rank else BACKWARD, far if k % 2 == 0 else near)
    for k in range(ranks):
        at = put(ops, at, WEIGHT, near)
        if k < rest:
            at = put(ops, at, INPUT, near)
    return at


@entry
def dual_pipe(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """Two directions that meet half-way, half of the microbatches each."""
    rank = min(stage, stages - 1 - stage)
    return fold(ops, rank, stages // 2, microbatches // 2, 0 if rank == stage else 1)


@entry
def dual_pipe_v(ops: Array, stage: int, stages: int, chunks: int, microbatches: int) -> int:
    """One half of DualPipe, over all stages: its two directions are one model's two halves."""
    return fold(ops, stage, stages, microbatches, 0)
