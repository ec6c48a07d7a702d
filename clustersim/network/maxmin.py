"""Weighted max-min fair rates, solved again only for the activities that an event can change. Compiled.

*Fair*: every activity is held back by a link that is full and on which none of its class has a higher level.
Classes are served in order: a lower one shares what the higher leave.

After an event a *pass* sweeps over the levels from 0 up. Those that joined rise from the start; everyone else
stays where he was, an outsider, until one of two things happens on a link that the pass touches:

- it is full while outsiders are above the level reached: those above the level that fits rise too;
- the level reaches that of outsiders whom the link held back, and it is not full: they rise on from there.

A link that is full with no outsider above freezes what rises on it. So everyone is looked at once, nearly all
of them because their rate changes, and the result is exact. A heap holds the touched links by the level at
which they come up; keys that grow are corrected when they come up, those that fall at once.
"""

from __future__ import annotations

from typing import Final

from clustersim.kernels import entry as entry_point
from clustersim.kernels import kernel
from clustersim.network.order import drop_first, next_end, reorder, sift_down
from clustersim.network.state import (
    ACTIVE,
    AFTER,
    AGE,
    AT,
    BEFORE,
    BLOCK,
    CAPACITY,
    CHANGED,
    CLASS,
    CLASSES,
    DUE,
    EVENT,
    FAIR,
    FIRST,
    GONE,
    HEAD,
    HEAP,
    HELD,
    HELD_BY,
    IN_SET,
    LAST,
    LEFT,
    LEVEL,
    LIMIT,
    LINK,
    LOAD,
    METERED,
    MOVED,
    NEVER,
    OLD,
    OWNER,
    PASS,
    PASSES,
    PLACE,
    RISING,
    ROOM,
    SEEN,
    SINCE,
    SIZE,
    SOLVED,
    STAMPS,
    SUM,
    TOUCHED,
    UPDATES,
    USED,
    USERS,
    WEIGHT,
    State,
)
from clustersim.network.topology import Array

FULL: Final = 1e-12
"""A link is full when less than this share of it is free."""
SAME: Final = 1e-13
"""Levels closer than this are equal."""
OLDEST: Final = 64
"""After so many passes a load that was only added to is summed again."""


@entry_point
def update(s: State, now_s: float, counts: Array, tolerance: float) -> float:
    """Bring *s* to *now_s* and return when the next activity ends.

    *counts*: activities that join (``fresh``), leave (``gone``), and links whose capacity changed
    (``altered``). Those that ended by themselves are ``gone[:GONE]`` afterwards.
    """
    return advance(s, now_s, counts, tolerance)


@entry_point
def drain(s: State, next_s: float, nobody: Array, finish_s: Array, tolerance: float) -> float:
    """Let everything end from *next_s* on, write when each activity did, and return when the last did."""
    now_s = next_s
    while next_s < NEVER:
        now_s = next_s
        next_s = advance(s, now_s, nobody, tolerance)
        for a in range(s.scalar[GONE]):
            finish_s[s.gone[a]] = now_s
    return now_s


@kernel
def advance(s: State, now_s: float, counts: Array, tolerance: float) -> float:
    """End what is due, admit and remove what is asked, solve what that touches."""
    fresh, left, altered = counts[0], counts[1], counts[2]
    s.scalar[UPDATES] += 1
    s.scalar[CHANGED] = 0
    ended = end_due(s, now_s, left)
    s.scalar[GONE] = ended - left
    for a in range(ended):
        leave(s, s.gone[a], now_s)
    for a in range(fresh):
        join(s, s.fresh[a], now_s)
    same, high = max(tolerance, SAME), 0
    for group in range(s.scalar[CLASSES]):
        low = high
        begin(s, group, low, ended, altered)
        for a in range(fresh):
            if s.whole[s.fresh[a], CLASS] == group:
                high = pull(s, s.fresh[a], group, high)
        high = sweep(s, group, high, same)
        finish(s, now_s, low, high)
    return next_end(s, high, ended)


@kernel
def end_due(s: State, now_s: float, left: int) -> int:
    """Put those that end by *now_s* before the *left* ones that are removed; return how many both are."""
    latest_s, ended = now_s * (1.0 + 1e-15), 0
    for block in range(len(s.soonest)):
        if s.soonest[block] > latest_s:
            continue
        for f in range(block * BLOCK, min((block + 1) * BLOCK, len(s.real))):
            if s.real[f, DUE] <= latest_s:
                s.real[f, DUE] = NEVER
                s.gone[left + ended] = f
                ended += 1
    last = ended + left - 1
    for a in range(min(left, ended)):
        removed = s.gone[a]
        s.gone[a] = s.gone[last - a]
        s.gone[last - a] = removed
    for a in range(ended, ended + left):
        settle(s, s.gone[a], s.real[s.gone[a], LEVEL], now_s)
    for a in range(ended):
        s.real[s.gone[a], LEFT] = 0.0
    return ended + left


@kernel
def settle(s: State, f: int, level: float, now_s: float) -> None:
    """Count what an activity has moved at *level* until now."""
    moved = level * s.real[f, WEIGHT] * max(0.0, now_s - s.real[f, SINCE])
    s.real[f, LEFT] = max(0.0, s.real[f, LEFT] - moved)
    s.real[f, SINCE] = now_s


@kernel
def leave(s: State, f: int, now_s: float) -> None:
    """Take an activity off its links and out of the active ones."""
    moved = (s.real[f, SIZE] - s.real[f, LEFT]) / s.real[f, WEIGHT]
    for e in range(s.whole[f, FIRST], s.whole[f, LAST]):
        link = s.entry[e, LINK]
        unlist(s, e, link)
        if s.scalar[METERED]:
            integrate(s, link, now_s)
        else:
            s.link[link, MOVED] += s.coef[e] * moved
        s.mark[link, USERS] -= 1
        rest = s.link[link, LOAD] - s.coef[e] * s.real[f, LEVEL]
        s.link[link, LOAD] = rest if s.mark[link, USERS] > 0 else 0.0
    limit = s.whole[f, LIMIT]
    s.mark[limit, HELD] -= 1
    if s.mark[limit, HELD] == 0:
        s.link[limit, FAIR] = NEVER
    last = s.active[s.scalar[ACTIVE] - 1]
    s.active[s.whole[f, PLACE]] = last
    s.whole[last, PLACE] = s.whole[f, PLACE]
    s.whole[f, PLACE] = -1
    s.scalar[ACTIVE] -= 1


@kernel
def unlist(s: State, e: int, link: int) -> None:
    """Take an entry out of the list of its link."""
    before, after = s.entry[e, BEFORE], s.entry[e, AFTER]
    if before >= 0:
        s.entry[before, AFTER] = after
    else:
        s.mark[link, HEAD] = after
    if after >= 0:
        s.entry[after, BEFORE] = before


@kernel
def join(s: State, f: int, now_s: float) -> None:
    """Put an activity on its links, as yet without a rate."""
    for e in range(s.whole[f, FIRST], s.whole[f, LAST]):
        link = s.entry[e, LINK]
        head = s.mark[link, HEAD]
        s.entry[e, BEFORE] = -1
        s.entry[e, AFTER] = head
        if head >= 0:
            s.entry[head, BEFORE] = e
        s.mark[link, HEAD] = e
        if s.scalar[METERED]:
            integrate(s, link, now_s)
        s.mark[link, USERS] += 1
    s.real[f, LEVEL] = 0.0
    s.real[f, SINCE] = now_s
    s.real[f, DUE] = NEVER
    s.whole[f, LIMIT] = -1
    s.whole[f, PLACE] = s.scalar[ACTIVE]
    s.active[s.scalar[ACTIVE]] = f
    s.scalar[ACTIVE] += 1


@kernel
def begin(s: State, group: int, low: int, ended: int, altered: int) -> None:
    """Start a pass over a class: touch the links on which others left, came or changed."""
    s.scalar[STAMPS] += 1
    s.scalar[PASSES] += 1
    s.scalar[HEAP] = 0
    s.scalar[TOUCHED] = 0
    for a in range(ended + low):
        f = s.gone[a] if a < ended else s.chosen[a - ended]
        changed = a < ended or s.real[f, LEVEL] != s.real[f, OLD]
        if changed and s.whole[f, CLASS] <= group:
            for e in range(s.whole[f, FIRST], s.whole[f, LAST]):
                touch(s, s.entry[e, LINK], group)
                reorder(s, s.entry[e, LINK], key_of(s, s.entry[e, LINK]))
    for a in range(altered):
        touch(s, s.altered[a], group)
        reorder(s, s.altered[a], key_of(s, s.altered[a]))


@kernel
def touch(s: State, link: int, group: int) -> None:
    """Bring a link into the pass, once."""
    if s.mark[link, PASS] == s.scalar[STAMPS]:
        return
    s.mark[link, PASS] = s.scalar[STAMPS]
    s.mark[link, RISING] = 0
    s.mark[link, AT] = -1
    s.mark[link, AGE] += 1
    s.link[link, SUM] = 0.0
    s.link[link, ROOM] = s.link[link, CAPACITY] - s.link[link, LOAD]
    if s.scalar[CLASSES] > 1:
        sort_out(s, link, group)
    s.touched[s.scalar[TOUCHED]] = link
    s.scalar[TOUCHED] += 1


@kernel
def sort_out(s: State, link: int, group: int) -> None:
    """Where there are several classes: read off a link what concerns this one."""
    room, held, fair = s.link[link, CAPACITY], 0, NEVER
    e = s.mark[link, HEAD]
    while e >= 0:
        f = s.entry[e, OWNER]
        if s.whole[f, CLASS] <= group:
            room -= s.coef[e] * s.real[f, LEVEL]
        if s.whole[f, CLASS] == group and s.whole[f, LIMIT] == link:
            held, fair = held + 1, s.real[f, LEVEL]
        e = s.entry[e, AFTER]
    s.link[link, ROOM] = room
    s.link[link, FAIR] = fair
    s.mark[link, HELD] = held


@kernel
def pull(s: State, f: int, group: int, high: int) -> int:
    """Let an activity rise with the others; return how many are chosen."""
    old = s.real[f, LEVEL]
    s.real[f, OLD] = old
    s.whole[f, IN_SET] = s.scalar[STAMPS]
    s.whole[f, HELD_BY] = s.whole[f, LIMIT]
    s.chosen[high] = f
    for e in range(s.whole[f, FIRST], s.whole[f, LAST]):
        link = s.entry[e, LINK]
        touch(s, link, group)
        s.mark[link, RISING] += 1
        s.link[link, SUM] += s.coef[e]
        s.link[link, ROOM] += s.coef[e] * old
    s.real[f, LEVEL] = -1.0
    if s.whole[f, LIMIT] >= 0:
        s.mark[s.whole[f, LIMIT], HELD] -= 1
    for e in range(s.whole[f, FIRST], s.whole[f, LAST]):
        reorder(s, s.entry[e, LINK], key_of(s, s.entry[e, LINK]))
    return high + 1


@kernel
def full_at(s: State, link: int) -> float:
    """Return the level at which what rises on a link fills it; what rounding leaves of a link is nothing."""
    room, rising = s.link[link, ROOM], s.link[link, SUM]
    return room / rising if room > FULL * s.link[link, CAPACITY] and rising > 0.0 else 0.0


@kernel
def key_of(s: State, link: int) -> float:
    """Return the level at which a link comes up: full, or reached by those that it held back."""
    level = NEVER
    if s.mark[link, RISING] > 0:
        level = full_at(s, link)
    elif is_overfull(s, link):
        level = 0.0
    return min(level, s.link[link, FAIR]) if s.mark[link, HELD] > 0 else level


@kernel
def sweep(s: State, group: int, high: int, same: float) -> int:
    """Go up the levels until nothing rises any more; return how many are chosen then."""
    while s.scalar[HEAP] > 0:
        link, level = s.heap_link[0], key_of(s, s.heap_link[0])
        if level >= NEVER:
            drop_first(s)
        elif level > s.heap_key[0] * (1.0 + SAME):
            sift_down(s, level, link)
        elif s.mark[link, HELD] > 0 and is_free(s, link, level * (1.0 + same)):
            high = release(s, link, group, high)
        elif s.mark[link, RISING] > 0 or is_overfull(s, link):
            high = fill(s, link, group, high, same)
        else:
            drop_first(s)
    return high


@kernel
def is_free(s: State, link: int, level: float) -> bool:
    """Tell whether a link is not yet full when what rises on it has reached *level*."""
    if s.mark[link, RISING] > 0:
        return bool(full_at(s, link) > level)
    return bool(s.link[link, ROOM] > FULL * s.link[link, CAPACITY])


@kernel
def is_overfull(s: State, link: int) -> bool:
    """Tell whether the outsiders alone are too much for a link."""
    return bool(s.link[link, ROOM] < -FULL * s.link[link, CAPACITY])


@kernel
def release(s: State, link: int, group: int, high: int) -> int:
    """Let those rise on that *link* held back."""
    e = s.mark[link, HEAD]
    while e >= 0:
        f = s.entry[e, OWNER]
        if s.whole[f, LIMIT] == link and is_outside(s, f, group):
            high = pull(s, f, group, high)
        e = s.entry[e, AFTER]
    return high


@kernel
def fill(s: State, link: int, group: int, high: int, same: float) -> int:
    """Freeze what rises on a link that is full, or let outsiders above the level that fits rise too."""
    fastest = sum_up(s, link, group)
    level = full_at(s, link)
    if level > s.heap_key[0] * (1.0 + same):
        sift_down(s, key_of(s, link), link)
        return high
    if fastest > level * (1.0 + same):
        grown = pull_faster(s, link, group, high, fitting_level(s, link, group, level))
        if grown > high:
            return grown
    e = s.mark[link, HEAD]
    while e >= 0:
        if s.real[s.entry[e, OWNER], LEVEL] < 0.0:
            freeze(s, s.entry[e, OWNER], link, level)
        e = s.entry[e, AFTER]
    drop_first(s)
    return high


@kernel
def pull_faster(s: State, link: int, group: int, high: int, level: float) -> int:
    """Let the outsiders on a link rise that are above *level*."""
    e = s.mark[link, HEAD]
    while e >= 0:
        f = s.entry[e, OWNER]
        if s.real[f, LEVEL] > level and is_outside(s, f, group):
            high = pull(s, f, group, high)
        e = s.entry[e, AFTER]
    return high


@kernel
def is_outside(s: State, f: int, group: int) -> bool:
    """Tell whether an activity of the class has not been looked at in this pass."""
    return bool(s.whole[f, IN_SET] != s.scalar[STAMPS] and s.whole[f, CLASS] == group)


@kernel
def sum_up(s: State, link: int, group: int) -> float:
    """Sum anew what is left of a link and what rises on it; return the highest level of outsiders."""
    room, rising, fastest = s.link[link, CAPACITY], 0.0, -1.0
    e = s.mark[link, HEAD]
    while e >= 0:
        f = s.entry[e, OWNER]
        level = s.real[f, LEVEL]
        if level < 0.0:
            rising += s.coef[e]
        elif s.whole[f, CLASS] <= group:
            room -= s.coef[e] * level
            if is_outside(s, f, group):
                fastest = max(fastest, level)
        e = s.entry[e, AFTER]
    s.link[link, ROOM] = room
    s.link[link, SUM] = rising
    s.mark[link, AGE] = 0
    return fastest


@kernel
def fitting_level(s: State, link: int, group: int, level: float) -> float:
    """Return the level at which a link is full if the outsiders above that level rise from 0 too."""
    while True:
        room, rising = s.link[link, ROOM], s.link[link, SUM]
        e = s.mark[link, HEAD]
        while e >= 0:
            f = s.entry[e, OWNER]
            if s.real[f, LEVEL] > level and is_outside(s, f, group):
                room += s.coef[e] * s.real[f, LEVEL]
                rising += s.coef[e]
            e = s.entry[e, AFTER]
        higher = max(room, 0.0) / rising if rising > 0.0 else level
        if higher <= level * (1.0 + SAME):
            return level
        level = higher


@kernel
def freeze(s: State, f: int, link: int, level: float) -> None:
    """Hold an activity at *level*, by *link*."""
    s.real[f, LEVEL] = level
    s.whole[f, LIMIT] = link
    for e in range(s.whole[f, FIRST], s.whole[f, LAST]):
        other = s.entry[e, LINK]
        s.mark[other, RISING] -= 1
        s.link[other, SUM] -= s.coef[e]
        s.link[other, ROOM] -= s.coef[e] * level


@kernel
def finish(s: State, now_s: float, low: int, high: int) -> None:
    """End a pass: new ends for those whose rate changed, and what every touched link carries now."""
    s.scalar[SOLVED] += high - low
    for a in range(low, high):
        f = s.chosen[a]
        s.mark[s.whole[f, LIMIT], HELD] += 1
        s.link[s.whole[f, LIMIT], FAIR] = s.real[f, LEVEL]
        level, old = s.real[f, LEVEL], s.real[f, OLD]
        if level != old or s.real[f, DUE] >= NEVER:
            settle(s, f, old, now_s)
            rate = level * s.real[f, WEIGHT]
            s.real[f, DUE] = now_s + s.real[f, LEFT] / rate if rate > 0.0 else NEVER
    for a in range(low, high):
        before = s.whole[s.chosen[a], HELD_BY]
        if before >= 0 and s.mark[before, HELD] == 0:
            s.link[before, FAIR] = NEVER
    for t in range(s.scalar[TOUCHED]):
        carry(s, s.touched[t], now_s)


@kernel
def carry(s: State, link: int, now_s: float) -> None:
    """Note what a link carries from now on."""
    if s.scalar[METERED]:
        integrate(s, link, now_s)
    if s.mark[link, EVENT] != s.scalar[UPDATES]:
        s.mark[link, EVENT] = s.scalar[UPDATES]
        s.changed[s.scalar[CHANGED]] = link
        s.scalar[CHANGED] += 1
    if s.scalar[CLASSES] == 1 and s.mark[link, AGE] < OLDEST:
        s.link[link, LOAD] = s.link[link, CAPACITY] - s.link[link, ROOM]
        return
    load = 0.0
    e = s.mark[link, HEAD]
    while e >= 0:
        load += s.coef[e] * s.real[s.entry[e, OWNER], LEVEL]
        e = s.entry[e, AFTER]
    s.link[link, LOAD] = load
    s.mark[link, AGE] = 0


@kernel
def integrate(s: State, link: int, now_s: float) -> None:
    """Count what a link carried, and for how many, since its load last changed."""
    past_s = max(0.0, now_s - s.link[link, SEEN])
    s.link[link, MOVED] += s.link[link, LOAD] * past_s
    s.link[link, USED] += s.mark[link, USERS] * past_s
    s.link[link, SEEN] = now_s
