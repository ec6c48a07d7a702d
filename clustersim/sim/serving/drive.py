"""Drive the core: settle replicas up to a time, route and deliver requests. Compiled; no SimPy.

These are the loops between two events that anybody else can see. They stop early, and say so, when a
buffer of records must be emptied; calling again goes on where they stopped.
"""

from __future__ import annotations

from clustersim.kernels import entry, kernel
from clustersim.sim.serving.batch import (
    add_group,
    drop_from_group,
    enqueue,
    growth_blocks,
    join,
    leave,
    note,
    preempt,
)
from clustersim.sim.serving.core import (
    apply,
    decide,
    passes_before,
    set_passes,
)
from clustersim.sim.serving.state import (
    BLOCKS,
    CLOCK,
    COIN,
    COLUMN,
    DONE,
    DUE,
    END,
    ERROR,
    EVENTS,
    FINISHED,
    FREE,
    GAPS,
    LAST_S,
    MAX_BATCH,
    MAX_PENDING,
    MAX_WAITING,
    OUTSTANDING,
    PASSES,
    PAUSED,
    PENDING,
    PRE_TAIL,
    PREF,
    PROMPT,
    READY,
    REFILL,
    REJECT,
    REJECTED,
    REPLICA,
    ROUTER,
    ROWS,
    RUN,
    RUN_TAIL,
    SENT,
    SEQS,
    STATUS,
    TARGET,
    WAIT,
    WAITING,
    Array,
    State,
)


@entry
def room(s: State) -> bool:
    """Say whether the buffers hold whatever one more segment of one replica can write."""
    side = s.rules[MAX_BATCH] + 8
    return (
        s.fleet[ROWS] + 1 < s.rows.shape[0]
        and s.fleet[GAPS] + 2 * side < s.gaps.shape[0]
        and s.fleet[EVENTS] + side < s.events.shape[0]
    )


@kernel
def settle(s: State, r: int, until: float) -> bool:
    """Run replica *r* to just before *until*; False if it stopped for a full buffer or an error."""
    while True:
        if s.ints[r, PASSES] > 0:
            if s.floats[r, END] >= until:
                return True
            if not room(s):
                return False
            apply(s, r)
        elif s.ints[r, READY] == 1 and s.floats[r, CLOCK] < until:
            if not room(s):
                return False
            if not decide(s, r):
                s.ints[r, READY] = 0
            if s.fleet[ERROR] > 0:
                return False
        else:
            return True


@entry
def settle_all(s: State, until: float) -> bool:
    """Run every replica to just before *until*; False if one stopped for a full buffer or an error."""
    for r in range(s.ints.shape[0]):  # noqa: SIM110  (compiled)
        if not settle(s, r, until):
            return False
    return True


@kernel
def next_boundary(s: State, r: int) -> float:
    """Return when replica *r* changes next of itself; infinity while it sleeps."""
    if s.ints[r, PASSES] > 0:
        return s.floats[r, END]
    if s.ints[r, READY] == 1:
        return s.floats[r, CLOCK]
    return float("inf")


@entry
def truncate(s: State, r: int, t: float) -> None:
    """Let the segment in flight end with the pass in which *t* falls."""
    if s.ints[r, PASSES] > 1:
        set_passes(s, r, min(s.ints[r, PASSES], passes_before(s, r, t) + 1))


@entry
def deliver(s: State, r: int, req: int, t: float) -> None:
    """Put *req* into the queue of replica *r*, settled to *t*, and wake or interrupt it if that matters."""
    s.req[req, REPLICA] = r
    s.req[req, STATUS] = WAITING
    s.req[req, TARGET] = s.req[req, PROMPT]
    s.ints[r, PENDING] += s.req[req, PROMPT]
    s.ints[r, OUTSTANDING] += 1
    enqueue(s, r, req)
    if s.ints[r, PASSES] == 0:
        if s.ints[r, READY] == 0:
            s.floats[r, CLOCK] = t
            s.ints[r, READY] = 1
        return
    size = s.ints[r, RUN] + s.ints[r, PREF]
    if size < s.rules[MAX_BATCH] and size <= s.rules[REFILL] and s.queue_req[r, 0] == req:
        truncate(s, r, t)


@entry
def look(s: State, r: int, column: int, t: float) -> int:
    """Return a column of a settled replica as of its last pass that ended before *t*."""
    if column >= 0:
        return int(s.ints[r, column])
    used = s.rules[BLOCKS] - s.ints[r, FREE]
    if s.ints[r, SEQS] > 0 and s.ints[r, PASSES] > 0:
        used += growth_blocks(s, r, passes_before(s, r, t))
    return int(used)


@kernel
def route(s: State, req: int, t: float) -> int:
    """Return the replica that the compiled router gives *req*; -1 if a buffer must be emptied first."""
    n = s.ints.shape[0]
    first = int(s.req_t[req, COIN] * n)
    code = s.rules[ROUTER]
    if code == 0:
        return req % n
    if code == 1:
        return first
    column = s.rules[COLUMN]
    if code == 2:
        second = int(s.req_t[req, COIN + 1] * n)
        if not (settle(s, first, t) and settle(s, second, t)):
            return -1
        return second if look(s, second, column, t) < look(s, first, column, t) else first
    best = 0
    least = -1
    for r in range(n):
        if next_boundary(s, r) < t and not settle(s, r, t):
            return -1
        load = look(s, r, column, t)
        if least < 0 or load < least:
            best, least = r, load
    return best


@entry
def play(s: State, arrival_s: Array, first: int, last: int) -> int:
    """Route and deliver the requests from *first* to before *last*; return the first not delivered."""
    for req in range(first, last):
        t = arrival_s[req]
        r = route(s, req, t)
        if r < 0 or not settle(s, r, t) or not room(s):
            return req
        if s.ints[r, OUTSTANDING] + 2 >= s.queue_req.shape[1]:
            return req
        offer(s, r, req, t)
    return last


@kernel
def offer(s: State, r: int, req: int, t: float) -> bool:
    """Deliver *req* to replica *r* if the compiled admission lets it in; say whether it did."""
    full = s.ints[r, WAIT] >= s.rules[MAX_WAITING]
    if full or s.ints[r, PENDING] + s.req[req, PROMPT] > s.rules[MAX_PENDING]:
        reject(s, r, req, t)
        return False
    deliver(s, r, req, t)
    return True


@entry
def reject(s: State, r: int, req: int, t: float) -> None:
    """Turn *req* away at replica *r*."""
    s.req[req, REPLICA] = r
    s.req[req, STATUS] = REJECTED
    note(s, t, REJECT, req, r)


@entry
def play_closed(s: State, arrival_s: Array, last: int, think_s: float) -> bool:
    """Run a fleet whose clients send a new request *think_s* after each answer; False to be called again.

    ``fleet[SENT]`` requests have an arrival time so far, ``fleet[DUE]`` of them have been delivered.
    """
    while True:
        due = s.fleet[DUE]
        t_next = arrival_s[due] if due < s.fleet[SENT] else float("inf")
        first = earliest(s)
        boundary = next_boundary(s, first)
        if t_next == float("inf") and boundary == float("inf"):
            return True
        if not room(s):
            return False
        if t_next <= boundary:
            r = route(s, due, t_next)
            if r < 0 or s.ints[r, OUTSTANDING] + 2 >= s.queue_req.shape[1]:
                return False
            s.fleet[DUE] += 1
            if not offer(s, r, due, t_next):
                send_next(s, arrival_s, last, t_next + think_s)
        elif s.ints[first, PASSES] > 0:
            before = s.fleet[FINISHED]
            apply(s, first)
            for _ in range(s.fleet[FINISHED] - before):
                send_next(s, arrival_s, last, boundary + think_s)
        else:
            if not decide(s, first):
                s.ints[first, READY] = 0
            if s.fleet[ERROR] > 0:
                return False


@kernel
def send_next(s: State, arrival_s: Array, last: int, t: float) -> None:
    """Let the next client request arrive at *t*, if there is one."""
    if s.fleet[SENT] < last:
        arrival_s[s.fleet[SENT]] = t
        s.fleet[SENT] += 1


@kernel
def earliest(s: State) -> int:
    """Return the replica with the earliest boundary, the first of equals."""
    best = 0
    for r in range(1, s.ints.shape[0]):
        if next_boundary(s, r) < next_boundary(s, best):
            best = r
    return best


# -- for policies asked in Python -------------------------------------------------------------------


@entry
def take(s: State, r: int, req: int) -> None:
    """Note that *req* waits at replica *r*, whose queue is kept by the caller."""
    s.req[req, REPLICA] = r
    s.req[req, STATUS] = WAITING
    s.req[req, TARGET] = s.req[req, PROMPT]
    s.ints[r, PENDING] += s.req[req, PROMPT]
    s.ints[r, OUTSTANDING] += 1
    s.ints[r, WAIT] += 1


@entry
def pause(s: State, r: int, req: int) -> None:
    """Take *req* out of the decoding batch; it keeps its cache."""
    s.req_t[req, LAST_S] = drop_from_group(s, r, req)
    s.req[req, DONE] = leave(s, r, req)
    s.req[req, STATUS] = PAUSED


@entry
def resume(s: State, r: int, req: int) -> None:
    """Let a paused *req* decode again."""
    add_group(s, r, s.req_t[req, LAST_S], 1)
    join(s, r, req, s.req[req, DONE])


@entry
def evict(s: State, r: int, req: int) -> None:
    """Preempt *req* into a queue that is kept by the caller."""
    if s.req[req, STATUS] == PAUSED:
        resume(s, r, req)
    preempt(s, r, req)
    s.ints[r, WAIT] += 1


@entry
def newest(s: State, r: int) -> int:
    """Return whom to preempt if the decoding batch lacks a block for its next pass; -1 if it does not."""
    if growth_blocks(s, r, 1) <= s.ints[r, FREE]:
        return -1
    return s.ints[r, PRE_TAIL] if s.ints[r, PRE_TAIL] >= 0 else s.ints[r, RUN_TAIL]
