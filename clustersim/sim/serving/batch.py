"""The parts of a replica: its lists, cache blocks, decoding batch, admission and preemption. Compiled."""

from __future__ import annotations

import math

from clustersim.kernels import entry, kernel
from clustersim.sim.serving import heaps
from clustersim.sim.serving.state import (
    ADMITTED_S,
    AFTER,
    ALIVE,
    BEFORE,
    BLOCK_TOKENS,
    CLOCK,
    CROSS,
    CROSS_IT,
    CROSS_REQ,
    CROSSING,
    CTX,
    DONE,
    ERROR,
    EVENTS,
    EXTRA,
    FINISH_S,
    FINISHED,
    FINISHED_STATUS,
    FREE,
    GAPS,
    GENERATED,
    GROUPS,
    HEAP,
    HEAP_IT,
    HEAP_REQ,
    HELD,
    HELD_BLOCKS,
    IT,
    KEY,
    LAST_S,
    LIMIT,
    LIVE,
    OFFSET,
    OUTPUT,
    OUTSTANDING,
    PENDING,
    PRE_HEAD,
    PRE_TAIL,
    PREEMPT,
    PREEMPTIONS,
    PREF,
    PREFILLING,
    PROMPT,
    QUEUE,
    RESERVES,
    RUN,
    RUN_HEAD,
    RUN_TAIL,
    RUNNING,
    STATUS,
    SWAP,
    SWAP_BLOCKS,
    SWAP_IN,
    SWAP_OUT,
    SWAPPED,
    SWAPPED_OUT,
    SYNC,
    TARGET,
    UNSAT,
    WAIT,
    WAITING,
    WIN,
    WINDOW,
    State,
)

# -- lists: a request is in one list at a time, linked through ``after`` and ``before`` --------------


@kernel
def append(s: State, r: int, head: int, req: int) -> None:
    """Put *req* at the end of the list whose head and tail stand at *head*, *head* + 1."""
    tail = s.ints[r, head + 1]
    s.req[req, BEFORE] = tail
    s.req[req, AFTER] = -1
    if tail >= 0:
        s.req[tail, AFTER] = req
    else:
        s.ints[r, head] = req
    s.ints[r, head + 1] = req


@kernel
def unlink(s: State, r: int, head: int, req: int) -> None:
    """Take *req* out of its list."""
    left, right = s.req[req, BEFORE], s.req[req, AFTER]
    if left >= 0:
        s.req[left, AFTER] = right
    else:
        s.ints[r, head] = right
    if right >= 0:
        s.req[right, BEFORE] = left
    else:
        s.ints[r, head + 1] = left


# -- cache blocks -----------------------------------------------------------------------------------


@kernel
def blocks_of(s: State, tokens: int) -> int:
    """Return the blocks that *tokens* need."""
    size = s.rules[BLOCK_TOKENS]
    return (tokens + size - 1) // size


@entry
def growth_blocks(s: State, r: int, passes: int) -> int:
    """Return the blocks that the decoding batch takes in its next *passes* passes."""
    if s.rules[RESERVES]:
        return 0
    size = s.rules[BLOCK_TOKENS]
    need = s.ints[r, RUN] * (passes // size)
    it = s.ints[r, IT]
    for j in range(passes % size):
        need += s.phase[r, (it + j) % size]
    return need


@kernel
def passes_that_fit(s: State, r: int, passes: int) -> int:
    """Return how many of the next *passes* decode passes the free blocks allow."""
    free = s.ints[r, FREE]
    if growth_blocks(s, r, passes) <= free:
        return passes
    size, it = s.rules[BLOCK_TOKENS], s.ints[r, IT]
    rounds = free // s.ints[r, RUN]
    free -= rounds * s.ints[r, RUN]
    fit = rounds * size
    while s.phase[r, (it + fit) % size] <= free:
        free -= s.phase[r, (it + fit) % size]
        fit += 1
    return fit


# -- the decoding batch -----------------------------------------------------------------------------


@kernel
def join(s: State, r: int, req: int, context: int) -> None:
    """Let *req*, with *context* tokens in its cache, decode from the next pass on."""
    it = s.ints[r, IT]
    s.req[req, OFFSET] = context - it
    s.req[req, ALIVE] = it + s.req[req, OUTPUT] - s.req[req, GENERATED]
    s.ints[r, HEAP] = heaps.push(
        s.lanes[r, HEAP_IT], s.lanes[r, HEAP_REQ], s.ints[r, HEAP], s.req[req, ALIVE], req, s.req[:, ALIVE]
    )
    s.phase[r, (it - context) % s.rules[BLOCK_TOKENS]] += 1
    s.ints[r, RUN] += 1
    s.ints[r, LIVE] += 1
    s.ints[r, CTX] += context
    window = s.rules[WINDOW]
    if window > 0:
        s.ints[r, WIN] += min(context, window)
        if context < window:
            s.ints[r, UNSAT] += 1
            s.req[req, CROSSING] = it + window - context
            s.ints[r, CROSS] = heaps.push(
                s.lanes[r, CROSS_IT],
                s.lanes[r, CROSS_REQ],
                s.ints[r, CROSS],
                s.req[req, CROSSING],
                req,
                s.req[:, CROSSING],
            )
    s.req[req, STATUS] = RUNNING
    append(s, r, RUN_HEAD, req)


@kernel
def leave(s: State, r: int, req: int) -> int:
    """Take *req* out of the decoding batch and return the tokens in its cache."""
    context = s.req[req, OFFSET] + s.ints[r, IT]
    s.phase[r, (-s.req[req, OFFSET]) % s.rules[BLOCK_TOKENS]] -= 1
    s.ints[r, RUN] -= 1
    s.ints[r, LIVE] -= s.req[req, STATUS] != HELD
    s.ints[r, CTX] -= context
    window = s.rules[WINDOW]
    if window > 0:
        s.ints[r, WIN] -= min(context, window)
        s.ints[r, UNSAT] -= context < window
        s.req[req, CROSSING] = -1
    if s.req[req, STATUS] != HELD:
        s.req[req, GENERATED] = s.req[req, OUTPUT] - (s.req[req, ALIVE] - s.ints[r, IT])
    s.req[req, ALIVE] = -1
    unlink(s, r, RUN_HEAD, req)
    return context


@kernel
def release(s: State, r: int, req: int, context: int) -> None:
    """Give back the blocks of *req*, whose cache holds *context* tokens."""
    s.ints[r, FREE] += s.req[req, HELD_BLOCKS] if s.rules[RESERVES] else blocks_of(s, context)


@kernel
def finish(s: State, r: int, req: int, now: float) -> None:
    """Note that *req* got its last token."""
    s.req[req, GENERATED] = s.req[req, OUTPUT]
    s.req_t[req, FINISH_S] = now
    s.req[req, STATUS] = FINISHED_STATUS
    s.ints[r, OUTSTANDING] -= 1
    s.finished[s.fleet[FINISHED]] = req
    s.fleet[FINISHED] += 1


@kernel
def note(s: State, now: float, kind: int, req: int, r: int) -> None:
    """Add a row to the buffer of events."""
    row = s.fleet[EVENTS]
    s.events[row, 0] = now
    s.events[row, 1] = kind
    s.events[row, 2] = req
    s.events[row, 3] = r
    s.fleet[EVENTS] += 1


# -- waiting, admission, preemption -----------------------------------------------------------------


@kernel
def enqueue(s: State, r: int, req: int) -> None:
    """Put *req* among the waiting."""
    heaps.push_key(s.queue_key[r], s.queue_req[r], s.ints[r, QUEUE], s.req_t[req, KEY], req)
    s.ints[r, QUEUE] += 1
    s.ints[r, WAIT] += 1


@kernel
def dequeue(s: State, r: int) -> None:
    """Take the first of the waiting away."""
    heaps.pop_key(s.queue_key[r], s.queue_req[r], s.ints[r, QUEUE])
    s.ints[r, QUEUE] -= 1
    s.ints[r, WAIT] -= 1


@entry
def needed_blocks(s: State, req: int) -> int:
    """Return the blocks that admitting *req* takes at once."""
    if s.rules[RESERVES]:
        return blocks_of(s, s.req[req, PROMPT] + s.req[req, LIMIT])
    if s.req[req, STATUS] == SWAPPED_OUT:
        return blocks_of(s, s.req[req, DONE] + 1)
    return blocks_of(s, s.req[req, TARGET])


@entry
def admit(s: State, r: int, req: int) -> None:
    """Give *req* its blocks and let its prefill begin."""
    s.req[req, HELD_BLOCKS] = needed_blocks(s, req)
    s.ints[r, FREE] -= s.req[req, HELD_BLOCKS]
    s.ints[r, PREF] += 1
    s.req[req, STATUS] = PREFILLING
    append(s, r, PRE_HEAD, req)
    if math.isnan(s.req_t[req, ADMITTED_S]):
        s.req_t[req, ADMITTED_S] = s.floats[r, CLOCK]


@entry
def swap_in(s: State, r: int, req: int) -> None:
    """Bring the cache of *req* back from host memory and let it decode."""
    context = s.req[req, DONE]
    held = s.req[req, HELD_BLOCKS] if s.rules[RESERVES] else blocks_of(s, context)
    s.ints[r, FREE] -= held
    s.ints[r, SWAPPED] -= blocks_of(s, context)
    s.floats[r, EXTRA] += context * s.cost[SWAP]
    note(s, s.floats[r, CLOCK], SWAP_IN, req, r)
    add_group(s, r, s.req_t[req, LAST_S], 1)
    join(s, r, req, context)


@kernel
def preempt(s: State, r: int, req: int) -> None:
    """Take the cache of *req* away; it waits again, to recompute it or to swap it back."""
    now = s.floats[r, CLOCK]
    s.req[req, PREEMPTIONS] += 1
    if s.req[req, STATUS] == PREFILLING:
        s.ints[r, FREE] += s.req[req, HELD_BLOCKS]
        s.ints[r, PREF] -= 1
        s.ints[r, PENDING] += s.req[req, DONE]
        s.req[req, DONE] = 0
        unlink(s, r, PRE_HEAD, req)
        s.req[req, STATUS] = WAITING
        note(s, now, PREEMPT, req, r)
        return
    s.req_t[req, LAST_S] = drop_from_group(s, r, req)
    context = leave(s, r, req)
    release(s, r, req, context)
    held = blocks_of(s, context)
    if s.ints[r, SWAPPED] + held <= s.rules[SWAP_BLOCKS]:
        s.ints[r, SWAPPED] += held
        s.floats[r, EXTRA] += context * s.cost[SWAP]
        s.req[req, DONE] = context
        s.req[req, STATUS] = SWAPPED_OUT
        note(s, now, SWAP_OUT, req, r)
        return
    s.req[req, TARGET] = s.req[req, PROMPT] + s.req[req, GENERATED]
    s.req[req, DONE] = 0
    s.ints[r, PENDING] += s.req[req, TARGET]
    s.req[req, STATUS] = WAITING
    note(s, now, PREEMPT, req, r)


@kernel
def make_room(s: State, r: int) -> bool:
    """Preempt the newest until the decoding batch can take a pass; say whether anyone was."""
    any_preempted = False
    while growth_blocks(s, r, 1) > s.ints[r, FREE]:
        victim = s.ints[r, PRE_TAIL]
        if victim < 0:
            victim = s.ints[r, RUN_TAIL]
            if s.ints[r, RUN] <= 1:
                s.fleet[ERROR] = r + 1
                return any_preempted
        preempt(s, r, victim)
        enqueue(s, r, victim)
        any_preempted = True
    return any_preempted


# -- groups: sequences whose last token came at the same time, while prefills hold the batch up -----


@kernel
def add_group(s: State, r: int, last_s: float, size: int) -> None:
    """Note that *size* sequences that decode next had their last token at *last_s*."""
    groups = s.ints[r, GROUPS]
    if groups == 0:
        s.groups[r, 0, 0] = s.floats[r, SYNC]
        s.groups[r, 1, 0] = s.ints[r, LIVE]
        groups = 1
    s.groups[r, 0, groups] = last_s
    s.groups[r, 1, groups] = size
    s.ints[r, GROUPS] = groups + 1


@kernel
def drop_from_group(s: State, r: int, req: int) -> float:
    """Take a decoding sequence out of its group and return when it had its last token."""
    groups = s.ints[r, GROUPS]
    if groups == 0:
        return s.floats[r, SYNC]
    found = 0
    for j in range(1, groups):
        if s.groups[r, 0, j] == s.req_t[req, LAST_S] and s.groups[r, 1, j] > 0:
            found = j
    s.groups[r, 1, found] -= 1
    return s.groups[r, 0, found]


@kernel
def late_tokens(s: State, r: int, start: float, end: float) -> int:
    """Write the gaps of the sequences that a first pass from *start* to *end* finds late; return the rest."""
    groups = s.ints[r, GROUPS]
    if groups == 0:
        if s.floats[r, SYNC] == start:
            return s.ints[r, LIVE]
        add_group(s, r, start, 0)
        groups = 2
    fresh = 0
    for j in range(groups):
        size = int(s.groups[r, 1, j])
        if s.groups[r, 0, j] == start:
            fresh += size
        elif size > 0:
            write_gap(s, r, end, end - s.groups[r, 0, j], size)
    s.ints[r, GROUPS] = 0
    return fresh


@kernel
def write_gap(s: State, r: int, end: float, gap: float, size: int) -> None:
    """Add a row to the buffer of token gaps."""
    row = s.fleet[GAPS]
    s.gaps[row, 0] = r
    s.gaps[row, 1] = end
    s.gaps[row, 2] = gap
    s.gaps[row, 3] = size
    s.fleet[GAPS] += 1
