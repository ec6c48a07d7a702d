"""The state of a fleet of serving replicas, as arrays that the compiled core works on.

Every name below is a place in an array; the meaning of each is written here once. Time is in seconds,
counts are whole. A replica's *segment* is the stretch of passes in flight; its *boundary* its end.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

# Integer scalars of a replica: columns of ``State.ints``.
RUN: Final = 0  # sequences in the decoding batch
LIVE: Final = 1  # of these, the ones not yet finished (fewer only where a batch is held)
PREF: Final = 2  # prompts partly computed
WAIT: Final = 3  # requests waiting
FREE: Final = 4  # cache blocks that nobody holds
CTX: Final = 5  # tokens in the caches of the decoding batch
WIN: Final = 6  # of these, tokens inside the sliding window
UNSAT: Final = 7  # decoding sequences shorter than the window
IT: Final = 8  # decode passes done
HEAP: Final = 9  # entries of the completion heap
CROSS: Final = 10  # entries of the window-crossing heap
QUEUE: Final = 11  # entries of the waiting heap
RUN_HEAD: Final = 12  # list of the decoding batch in order of admission
RUN_TAIL: Final = 13
PRE_HEAD: Final = 14  # list of the partly computed prompts in order of admission
PRE_TAIL: Final = 15
PASSES: Final = 16  # passes of the segment in flight; 0 = none
READY: Final = 17  # 1: a decision is due at CLOCK
CHUNKS: Final = 18  # prompt chunks in the segment
SEQS: Final = 19  # sequences that the segment decodes
PENDING: Final = 20  # prompt tokens still to compute
SWAPPED: Final = 21  # blocks swapped to host memory
GROUPS: Final = 22  # groups of sequences by the time of their last token; 0 = all in step
OUTSTANDING: Final = 23  # requests sent here and not finished
ROW_CTX: Final = 24  # for the record: context, waiting and fresh sequences when the segment began
ROW_WAIT: Final = 25
ROW_FRESH: Final = 26
INTS: Final = 27

# Float scalars of a replica: columns of ``State.floats``.
CLOCK: Final = 0  # when the last segment ended, or the replica woke
START: Final = 1  # of the segment in flight
STEP: Final = 2  # its first pass
GROWTH: Final = 3  # by how much each pass is longer than the one before
END: Final = 4  # its boundary
SYNC: Final = 5  # when the decoding batch got its last tokens
EXTRA: Final = 6  # seconds of swapping to add to the next pass
PART: Final = 7  # four places: the parts of the first pass
PART_GROWTH: Final = 11  # four places: the growth of each part
GIVEN: Final = 15  # seconds of the next pass where the caller prices it; 0 = by the compiled prices
FLOATS: Final = 16

# Scalars of the whole fleet: places in ``State.fleet``.
ROWS: Final = 0  # rows in the buffer of iterations
GAPS: Final = 1  # rows in the buffer of token gaps
EVENTS: Final = 2  # rows in the buffer of events
FINISHED: Final = 3  # requests finished, which are ``State.finished[:FINISHED]``
TOTAL_PASSES: Final = 4
ERROR: Final = 5  # 1 + the replica on which the last sequence ran out of cache
SENT: Final = 6  # closed loop: requests with an arrival time
DUE: Final = 7  # closed loop: requests delivered
FLEET: Final = 8

# The rules of the policies: places in ``State.rules``.
MAX_BATCH: Final = 0
TOKEN_BUDGET: Final = 1
MIXED: Final = 2
CHUNKED: Final = 3
RESERVES: Final = 4
HOLDS: Final = 5
REFILL: Final = 6
WATERMARK: Final = 7
BLOCKS: Final = 8  # cache blocks of a replica
BLOCK_TOKENS: Final = 9
SWAP_BLOCKS: Final = 10  # blocks that fit in host memory; 0 = preempt by recomputing
MAX_LEAP: Final = 11  # most passes in a segment; 1 = step one by one
WINDOW: Final = 12
ROUTER: Final = 13  # 0 in turn, 1 one at random, 2 two at random, 3 all, 4 given by the caller
COLUMN: Final = 14  # which column of ``ints`` a router compares; -1 = blocks in use
MAX_WAITING: Final = 15
MAX_PENDING: Final = 16
RULES: Final = 17

# Whole numbers of a request: columns of ``State.req``.
PROMPT: Final = 0
OUTPUT: Final = 1
LIMIT: Final = 2  # most output tokens its client allows
TARGET: Final = 3  # tokens to prefill before it decodes
DONE: Final = 4  # of these, tokens computed; while paused or swapped out, tokens in its cache
GENERATED: Final = 5  # output tokens so far; while it decodes, as of when it joined
HELD_BLOCKS: Final = 6  # blocks given at admission
OFFSET: Final = 7  # while it decodes: tokens in its cache less the passes done
ALIVE: Final = 8  # while it decodes: the pass after which it finishes, else -1
CROSSING: Final = 9  # the pass after which it outgrows the sliding window, else -1
STATUS: Final = 10
AFTER: Final = 11  # its neighbours in its list, else -1
BEFORE: Final = 12
REPLICA: Final = 13
PREEMPTIONS: Final = 14
REQ: Final = 15

# Real numbers of a request: columns of ``State.req_t``.
KEY: Final = 0  # its place in the queue
COIN: Final = 1  # two numbers in [0, 1)
ADMITTED_S: Final = 3
FIRST_S: Final = 4
FINISH_S: Final = 5
LAST_S: Final = 6  # its last token, while it does not decode
REQ_T: Final = 7

# Heaps and lists of a replica: rows of ``State.lanes``.
HEAP_IT: Final = 0  # completions
HEAP_REQ: Final = 1
CROSS_IT: Final = 2  # window crossings
CROSS_REQ: Final = 3
CHUNK_REQ: Final = 4  # prompt chunks of the segment
CHUNK_TOKENS: Final = 5
LANES: Final = 6

# Prices that are not tables: places in ``State.cost``.
DECODE: Final = 0  # 4 x 4, row by row
POWER: Final = 16  # five levels
SWAP: Final = 21
PREFILL: Final = 22  # to the end

# What a request is doing: values of the column STATUS.
NEW: Final = 0
WAITING: Final = 1
PREFILLING: Final = 2
RUNNING: Final = 3
PAUSED: Final = 4
FINISHED_STATUS: Final = 5
REJECTED: Final = 6
SWAPPED_OUT: Final = 7
HELD: Final = 8

# Columns of the buffer of iterations, in the order of the result table without its last column.
ROW_SIZE: Final = 17
GAP_SIZE: Final = 4
EVENT_SIZE: Final = 4  # time, kind, request, replica
PREEMPT: Final = 0
SWAP_OUT: Final = 1
SWAP_IN: Final = 2
REJECT: Final = 3


class State(NamedTuple):
    """All arrays of a fleet."""

    req: Array
    """int64 (requests, REQ)."""
    req_t: Array
    """float64 (requests, REQ_T)."""
    finished: Array
    """int64 (requests): who finished, in order; the first ``fleet[FINISHED]`` count."""
    ints: Array
    """int64 (replicas, INTS)."""
    floats: Array
    """float64 (replicas, FLOATS)."""
    phase: Array
    """int64 (replicas, block tokens): decoding sequences by the pass, modulo a block, that needs a block."""
    lanes: Array
    """int64 (replicas, LANES, size)."""
    queue_key: Array
    """float64 (replicas, size): the waiting heap."""
    queue_req: Array
    """int64 (replicas, size)."""
    groups: Array
    """float64 (replicas, 2, size): time of the last token, and number of sequences."""
    rules: Array
    """int64 (RULES)."""
    fleet: Array
    """int64 (FLEET)."""
    pass_s: Array
    """float64 (tokens, 4)."""
    output_s: Array
    """float64 (sequences, 4)."""
    cost: Array
    """float64: the other prices."""
    rows: Array
    """float64 (size, ROW_SIZE): records of iterations not yet flushed."""
    gaps: Array
    """float64 (size, GAP_SIZE)."""
    events: Array
    """float64 (size, EVENT_SIZE)."""


def request_arrays(prompt: Array, output: Array, limit: Array, coin: Array) -> dict[str, Array]:
    """Return the arrays of a fleet's requests, none of them arrived yet."""
    n = len(prompt)
    req, req_t = np.zeros((n, REQ), np.int64), np.full((n, REQ_T), np.nan)
    req[:, PROMPT], req[:, OUTPUT], req[:, LIMIT] = prompt, output, limit
    req[:, [ALIVE, CROSSING, AFTER, BEFORE, REPLICA]] = -1
    req_t[:, KEY] = np.arange(n)
    req_t[:, COIN : COIN + 2] = coin
    return {"req": req, "req_t": req_t, "finished": np.zeros(n, np.int64)}


def replica_arrays(replicas: int, max_batch: int, blocks: int, block_tokens: int) -> dict[str, Array]:
    """Return the arrays of a fleet's replicas, all idle and empty."""
    ints = np.zeros((replicas, INTS), np.int64)
    ints[:, FREE] = blocks
    ints[:, [RUN_HEAD, RUN_TAIL, PRE_HEAD, PRE_TAIL]] = -1
    size = 2 * max_batch + 16
    return {
        "ints": ints,
        "floats": np.zeros((replicas, FLOATS)),
        "phase": np.zeros((replicas, block_tokens), np.int64),
        "lanes": np.zeros((replicas, LANES, size), np.int64),
        "queue_key": np.zeros((replicas, 64)),
        "queue_req": np.zeros((replicas, 64), np.int64),
        "groups": np.zeros((replicas, 2, size)),
    }


def buffers(max_batch: int, rows: int = 1 << 15) -> dict[str, Array]:
    """Return the buffers of records; the core stops when one might not hold another segment's rows."""
    side = max(rows // 4, 4 * max_batch + 64)
    return {
        "fleet": np.zeros(FLEET, np.int64),
        "rows": np.zeros((rows, ROW_SIZE)),
        "gaps": np.zeros((side, GAP_SIZE)),
        "events": np.zeros((side, EVENT_SIZE)),
    }
