"""The serving core: what happens in a replica from one decision to the next. Compiled; no SimPy.

Numbers that grow with every token are kept as running totals, so that a pass costs the same whatever
the batch: the passes after which a sequence finishes are known when it joins (a heap), the pass at
which it needs its next cache block is known modulo the block (``phase``), and the time of a pass is
affine in the total context. A *segment* is therefore any number of decode passes at once.

A decision sees what arrived up to its time, that time included; a segment that ends at *t* is applied
by ``settle(..., t)`` only when *t* has passed.
"""

from __future__ import annotations

import math

from clustersim.cost.attention import prefill_parts, prefill_work
from clustersim.kernels import entry, kernel
from clustersim.sim.serving import heaps
from clustersim.sim.serving.batch import (
    add_group,
    admit,
    dequeue,
    finish,
    growth_blocks,
    join,
    late_tokens,
    leave,
    make_room,
    needed_blocks,
    passes_that_fit,
    release,
    swap_in,
    unlink,
    write_gap,
)
from clustersim.sim.serving.state import (
    AFTER,
    ALIVE,
    BLOCKS,
    CHUNK_REQ,
    CHUNK_TOKENS,
    CHUNKED,
    CHUNKS,
    CLOCK,
    CROSS,
    CROSS_IT,
    CROSS_REQ,
    CROSSING,
    CTX,
    DECODE,
    DONE,
    END,
    EXTRA,
    FIRST_S,
    FREE,
    GENERATED,
    GIVEN,
    GROWTH,
    HEAP,
    HEAP_IT,
    HEAP_REQ,
    HELD,
    HOLDS,
    IT,
    LAST_S,
    LIVE,
    MAX_BATCH,
    MAX_LEAP,
    MIXED,
    OUTPUT,
    PART,
    PART_GROWTH,
    PASSES,
    PENDING,
    POWER,
    PRE_HEAD,
    PREF,
    PREFILL,
    QUEUE,
    READY,
    REFILL,
    ROW_CTX,
    ROW_FRESH,
    ROW_WAIT,
    ROWS,
    RUN,
    RUN_HEAD,
    SEQS,
    START,
    STATUS,
    STEP,
    SWAPPED_OUT,
    SYNC,
    TARGET,
    TOKEN_BUDGET,
    TOTAL_PASSES,
    UNSAT,
    WAIT,
    WATERMARK,
    WIN,
    State,
)


@kernel
def decide(s: State, r: int) -> bool:
    """Let the rules choose the next pass; False if there is nothing to do."""
    rules = s.rules
    mixed = rules[MIXED] == 1
    preempted = False
    budget = rules[TOKEN_BUDGET] - (s.ints[r, RUN] if mixed else 0)
    if mixed and s.ints[r, RUN] > 0:
        preempted = make_room(s, r)
    s.ints[r, CHUNKS] = 0
    req = s.ints[r, PRE_HEAD]
    while req >= 0:
        tokens = min(s.req[req, TARGET] - s.req[req, DONE], budget)
        if tokens > 0:
            add_chunk(s, r, req, tokens)
            budget -= tokens
        req = s.req[req, AFTER]
    if not preempted and s.ints[r, RUN] + s.ints[r, PREF] <= rules[REFILL]:
        admit_waiting(s, r, budget)
    decodes = s.ints[r, RUN] > 0 and (mixed or s.ints[r, CHUNKS] == 0)
    if decodes and not mixed:
        preempted = make_room(s, r)
    if not decodes and s.ints[r, CHUNKS] == 0:
        return False
    begin(s, r, decodes, 1 if preempted else s.rules[MAX_LEAP])
    return True


@kernel
def admit_waiting(s: State, r: int, budget: int) -> None:
    """Admit from the head of the queue while batch, blocks and budget allow."""
    rules = s.rules
    reserve = growth_blocks(s, r, 1) if rules[MIXED] == 1 else 0
    while s.ints[r, QUEUE] > 0:
        size = s.ints[r, RUN] + s.ints[r, PREF]
        req = s.queue_req[r, 0]
        kept = reserve + (rules[WATERMARK] if size > 0 else 0)
        if size >= rules[MAX_BATCH] or needed_blocks(s, req) > s.ints[r, FREE] - kept:
            return
        if s.req[req, STATUS] == SWAPPED_OUT:
            if rules[MIXED] == 1 and budget <= 0:
                return
            left = s.ints[r, FREE] - needed_blocks(s, req)
            dequeue(s, r)
            swap_in(s, r, req)
            reserve = growth_blocks(s, r, 1) if rules[MIXED] == 1 else reserve + s.ints[r, FREE] - left
            budget -= rules[MIXED]
            continue
        tokens = s.req[req, TARGET]
        if rules[CHUNKED] == 1:
            tokens = min(tokens, budget)
        if tokens <= 0 or (tokens > budget and s.ints[r, CHUNKS] > 0):
            return
        dequeue(s, r)
        admit(s, r, req)
        add_chunk(s, r, req, tokens)
        budget -= tokens


@entry
def add_chunk(s: State, r: int, req: int, tokens: int) -> None:
    """Put *tokens* of the prompt of *req* into the next pass."""
    j = s.ints[r, CHUNKS]
    s.lanes[r, CHUNK_REQ, j] = req
    s.lanes[r, CHUNK_TOKENS, j] = tokens
    s.ints[r, CHUNKS] = j + 1


@entry
def begin(s: State, r: int, decodes: bool, most: int) -> None:
    """Price the chosen pass, and find how many like it, at *most* so many, follow before anything changes."""
    ints, floats = s.ints, s.floats
    n = ints[r, RUN] if decodes else 0
    ints[r, SEQS] = n
    price_pass(s, r, n)
    step = 0.0
    growth = 0.0
    for part in range(4):
        step += floats[r, PART + part]
        grows = 0.0
        if n > 0:
            grows = n * s.cost[DECODE + 8 + part] + ints[r, UNSAT] * s.cost[DECODE + 12 + part]
        floats[r, PART_GROWTH + part] = grows
        growth += grows
    passes = 1
    if n > 0 and ints[r, CHUNKS] == 0 and floats[r, EXTRA] == 0.0 and most > 1:
        passes = passes_ahead(s, r, most)
    start = floats[r, CLOCK]
    floats[r, EXTRA] = 0.0
    floats[r, START] = start
    floats[r, STEP] = step
    floats[r, GROWTH] = growth
    ints[r, ROW_CTX] = ints[r, CTX] if n > 0 else 0
    ints[r, ROW_WAIT] = ints[r, WAIT]
    ints[r, ROW_FRESH] = late_tokens(s, r, start, start + step) if n > 0 else 0
    set_passes(s, r, passes)


@kernel
def price_pass(s: State, r: int, n: int) -> None:
    """Write the four parts of the pass over the chosen chunks and *n* decoding sequences."""
    tokens = n
    emitting = n
    compute = 0.0
    memory = 0.0
    items = 0.0
    curve = s.cost[PREFILL:]
    for j in range(s.ints[r, CHUNKS]):
        req = s.lanes[r, CHUNK_REQ, j]
        chunk = s.lanes[r, CHUNK_TOKENS, j]
        tokens += chunk
        emitting += s.req[req, DONE] + chunk == s.req[req, TARGET]
        c, m, i = prefill_work(curve, chunk, s.req[req, DONE])
        compute += c
        memory += m
        items += i
    last = s.pass_s.shape[0] - 1
    scale = max(1.0, tokens / last)
    row = min(tokens, last)
    for part in range(4):
        seconds = s.pass_s[row, part] * scale + s.output_s[emitting, part]
        if n > 0:
            seconds += s.cost[DECODE + part] + n * s.cost[DECODE + 4 + part]
            seconds += (
                s.ints[r, CTX] * s.cost[DECODE + 8 + part] + s.ints[r, WIN] * s.cost[DECODE + 12 + part]
            )
        s.floats[r, PART + part] = seconds
    if s.ints[r, CHUNKS] > 0:
        c, m, o = prefill_parts(curve, compute, memory, items)
        s.floats[r, PART] += c
        s.floats[r, PART + 1] += m
        s.floats[r, PART + 3] += o
    if s.floats[r, GIVEN] > 0.0:
        rescale(s, r, s.floats[r, GIVEN])
    s.floats[r, PART + 2] += s.floats[r, EXTRA]


@kernel
def rescale(s: State, r: int, seconds: float) -> None:
    """Let the four parts of the pass add up to *seconds*, in the proportions that they have."""
    total = 0.0
    for part in range(4):
        total += s.floats[r, PART + part]
    for part in range(4):
        s.floats[r, PART + part] *= seconds / total


@kernel
def passes_ahead(s: State, r: int, most: int) -> int:
    """Return the decode passes until a sequence finishes, leaves the window short, or lacks a block."""
    it = s.ints[r, IT]
    s.ints[r, HEAP] = heaps.drop_stale(
        s.lanes[r, HEAP_IT], s.lanes[r, HEAP_REQ], s.ints[r, HEAP], s.req[:, ALIVE]
    )
    passes = min(s.lanes[r, HEAP_IT, 0] - it, most)
    if s.ints[r, UNSAT] > 0:
        s.ints[r, CROSS] = heaps.drop_stale(
            s.lanes[r, CROSS_IT], s.lanes[r, CROSS_REQ], s.ints[r, CROSS], s.req[:, CROSSING]
        )
        passes = min(passes, s.lanes[r, CROSS_IT, 0] - it)
    return max(1, passes_that_fit(s, r, passes))


@kernel
def set_passes(s: State, r: int, passes: int) -> None:
    """Set the length of the segment in flight, in passes."""
    s.ints[r, PASSES] = passes
    s.floats[r, END] = s.floats[r, START] + time_of(s, r, passes)


@kernel
def time_of(s: State, r: int, passes: int) -> float:
    """Return how long the first *passes* passes of the segment in flight take."""
    return passes * s.floats[r, STEP] + s.floats[r, GROWTH] * (0.5 * passes * (passes - 1.0))


@kernel
def passes_before(s: State, r: int, t: float) -> int:
    """Return how many passes of the segment in flight end before *t*."""
    since = t - s.floats[r, START]
    step, growth = s.floats[r, STEP], s.floats[r, GROWTH]
    if growth > 0.0:
        b = step - 0.5 * growth
        done = int((math.sqrt(b * b + 2.0 * growth * max(since, 0.0)) - b) / growth)
    else:
        done = int(max(since, 0.0) / step)
    done = max(0, min(done, s.ints[r, PASSES]))
    while done > 0 and time_of(s, r, done) >= since:
        done -= 1
    while done < s.ints[r, PASSES] and time_of(s, r, done + 1) < since:
        done += 1
    return done


@entry
def apply(s: State, r: int) -> None:
    """Let the segment in flight be over: tokens are there, sequences join or finish, a row is written."""
    ints = s.ints
    passes = ints[r, PASSES]
    end = s.floats[r, END]
    live = ints[r, LIVE] if ints[r, SEQS] > 0 else 0
    if ints[r, SEQS] > 0:
        advance_batch(s, r, passes)
        s.floats[r, SYNC] = end
    used = s.rules[BLOCKS] - ints[r, FREE]
    prefilled = apply_chunks(s, r, end)
    if ints[r, SEQS] > 0:
        complete(s, r, end)
    write_row(s, r, (prefilled, live, used))
    s.fleet[TOTAL_PASSES] += passes
    s.floats[r, CLOCK] = end
    ints[r, PASSES] = 0
    ints[r, CHUNKS] = 0
    ints[r, SEQS] = 0
    ints[r, READY] = 1


@kernel
def advance_batch(s: State, r: int, passes: int) -> None:
    """Give every decoding sequence *passes* tokens."""
    ints = s.ints
    ints[r, FREE] -= growth_blocks(s, r, passes)
    ints[r, IT] += passes
    ints[r, CTX] += ints[r, RUN] * passes
    ints[r, WIN] += ints[r, UNSAT] * passes
    while ints[r, CROSS] > 0 and s.lanes[r, CROSS_IT, 0] <= ints[r, IT]:
        req = s.lanes[r, CROSS_REQ, 0]
        if s.req[req, CROSSING] == s.lanes[r, CROSS_IT, 0]:
            s.req[req, CROSSING] = -1
            ints[r, UNSAT] -= 1
        heaps.pop_key(s.lanes[r, CROSS_IT], s.lanes[r, CROSS_REQ], ints[r, CROSS])
        ints[r, CROSS] -= 1


@kernel
def apply_chunks(s: State, r: int, end: float) -> int:
    """Add the computed chunks to their prompts; whole prompts emit a token and join the batch."""
    prefilled = 0
    joined = 0
    for j in range(s.ints[r, CHUNKS]):
        req = s.lanes[r, CHUNK_REQ, j]
        tokens = s.lanes[r, CHUNK_TOKENS, j]
        prefilled += tokens
        s.req[req, DONE] += tokens
        s.ints[r, PENDING] -= tokens
        if s.req[req, DONE] == s.req[req, TARGET]:
            joined += first_token(s, r, req, end)
    if joined > 0 and s.ints[r, SEQS] == 0:
        s.ints[r, LIVE] -= joined
        add_group(s, r, end, joined)
        s.ints[r, LIVE] += joined
    return prefilled


@kernel
def first_token(s: State, r: int, req: int, end: float) -> int:
    """End the prefill of *req* with a token; return 1 if it goes on to decode."""
    s.ints[r, PREF] -= 1
    unlink(s, r, PRE_HEAD, req)
    s.req[req, GENERATED] += 1
    if s.req[req, GENERATED] == 1:
        s.req_t[req, FIRST_S] = end
    else:
        write_gap(s, r, end, end - s.req_t[req, LAST_S], 1)
    s.req_t[req, LAST_S] = end
    if s.req[req, GENERATED] < s.req[req, OUTPUT]:
        join(s, r, req, s.req[req, TARGET])
        return 1
    release(s, r, req, s.req[req, TARGET])
    finish(s, r, req, end)
    return 0


@kernel
def complete(s: State, r: int, end: float) -> None:
    """Finish the sequences that have all their tokens; a held batch finishes together."""
    while s.ints[r, HEAP] > 0 and s.lanes[r, HEAP_IT, 0] <= s.ints[r, IT]:
        req = s.lanes[r, HEAP_REQ, 0]
        due = s.req[req, ALIVE] == s.lanes[r, HEAP_IT, 0]
        heaps.pop_key(s.lanes[r, HEAP_IT], s.lanes[r, HEAP_REQ], s.ints[r, HEAP])
        s.ints[r, HEAP] -= 1
        if due and s.rules[HOLDS] == 1:
            s.req[req, ALIVE] = -1
            s.req[req, GENERATED] = s.req[req, OUTPUT]
            s.req[req, STATUS] = HELD
            s.ints[r, LIVE] -= 1
        elif due:
            release(s, r, req, leave(s, r, req))
            finish(s, r, req, end)
    if s.rules[HOLDS] == 1 and s.ints[r, LIVE] == 0:
        while s.ints[r, RUN_HEAD] >= 0:
            req = s.ints[r, RUN_HEAD]
            release(s, r, req, leave(s, r, req))
            finish(s, r, req, end)


@kernel
def write_row(s: State, r: int, counts: tuple[int, int, int]) -> None:
    """Add the segment that ends to the buffer of iterations (columns as in the result table)."""
    prefilled, live, used = counts
    passes = s.ints[r, PASSES]
    pairs = 0.5 * passes * (passes - 1.0)
    row = s.rows[s.fleet[ROWS]]
    row[0] = r
    row[1] = s.floats[r, START]
    row[2] = s.floats[r, END] - s.floats[r, START]
    row[3] = passes
    row[4] = s.floats[r, STEP]
    row[5] = s.floats[r, GROWTH] if passes > 1 else 0.0
    row[6] = prefilled
    row[7] = live
    row[8] = s.ints[r, ROW_FRESH]
    row[9] = s.ints[r, ROW_CTX]
    row[10] = s.ints[r, ROW_WAIT]
    row[11] = used
    energy = 0.0
    for part in range(4):
        seconds = passes * s.floats[r, PART + part] + pairs * s.floats[r, PART_GROWTH + part]
        row[12 + part] = seconds
        energy += seconds * s.cost[POWER + 1 + part]
    row[16] = energy
    s.fleet[ROWS] += 1
