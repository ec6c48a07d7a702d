"""The state of shared links as arrays that the compiled solver works on; every place in them named once.

An *activity* loads some links: *entries* tell, per unit of its level, the bytes per second on each. Its rate
is its level times its weight. A cap is a link of the activity's own, numbered after the real ones.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from clustersim.network.topology import Array

# Columns of ``State.entry``.
LINK: Final = 0
OWNER: Final = 1
AFTER: Final = 2  # neighbours in the list of the link's entries, else -1
BEFORE: Final = 3

# Columns of ``State.whole``, whole numbers of an activity.
FIRST: Final = 0  # its entries are FIRST, FIRST + 1, ... up to LAST, which is not one
LAST: Final = 1
CLASS: Final = 2  # priority: 0 is served before 1
LIMIT: Final = 3  # the link that holds it back, else -1
IN_SET: Final = 4  # the stamp of the pass that solves it
PLACE: Final = 5  # in ``State.active``, else -1
HELD_BY: Final = 6  # LIMIT before the pass
WHOLE: Final = 7

# Columns of ``State.real``, real numbers of an activity.
LEVEL: Final = 0  # below 0 while it rises
WEIGHT: Final = 1
LEFT: Final = 2  # bytes still to go at SINCE
SINCE: Final = 3
DUE: Final = 4  # when it ends at its present rate
OLD: Final = 5  # its level before the pass
SIZE: Final = 6  # bytes in all
REAL: Final = 7

# Columns of ``State.link``, real numbers of a link.
CAPACITY: Final = 0
LOAD: Final = 1  # bytes per second on it
FAIR: Final = 2  # the level of those that it holds back, no one on it being higher; NEVER if it holds none
ROOM: Final = 3  # capacity that the pass has not given away yet
SUM: Final = 4  # what all that rise on it add per unit of level
SEEN: Final = 5  # where it is metered: until when the next two are counted
MOVED: Final = 6  # bytes carried; where it is not metered, by activities that have ended
USED: Final = 7  # seconds times activities on it
LINKS: Final = 8

# Columns of ``State.mark``, whole numbers of a link.
HEAD: Final = 0  # first entry of its list, else -1
PASS: Final = 1  # stamp of the pass that last touched it
RISING: Final = 2  # activities that rise on it
HELD: Final = 3  # activities outside the set that it holds back
AT: Final = 4  # its place in the heap, else -1
AGE: Final = 5  # passes since its load was last summed
USERS: Final = 6  # activities on it
EVENT: Final = 7  # the update that last changed its load
MARKS: Final = 8

# Places in ``State.scalar``.
ACTIVE: Final = 0
STAMPS: Final = 1
UPDATES: Final = 2
GONE: Final = 3  # activities that ended in the last update: ``State.gone[:GONE]``
PASSES: Final = 4
SOLVED: Final = 5  # activities solved, summed over the passes
CLASSES: Final = 6
METERED: Final = 7  # 1: MOVED and USED are kept at all times
CHANGED: Final = 8  # links whose load the last update changed: ``State.changed[:CHANGED]``
TOUCHED: Final = 9  # links in ``State.touched``
HEAP: Final = 10  # links in the heap
SCALARS: Final = 11

MOST_CLASSES: Final = 16
BLOCK: Final = 64
"""Activities whose earliest end is kept together."""
NEVER: Final = 1e300


class State(NamedTuple):
    """All arrays; the solver makes none."""

    entry: Array
    coef: Array
    """Of each entry: bytes per second on the link per unit of the owner's level."""
    whole: Array
    real: Array
    link: Array
    mark: Array
    active: Array
    chosen: Array
    """Activities being solved, class after class."""
    gone: Array
    fresh: Array
    altered: Array
    """Links whose capacity changed."""
    touched: Array
    changed: Array
    heap_key: Array
    heap_link: Array
    soonest: Array
    """Of each block of activities, when the first of them ends."""
    block_stamp: Array
    scalar: Array


def new_state(capacity_bytes_per_s: Array, activities: int, entries: int, metered: bool) -> State:
    """Return the state of idle links with room for so many activities and entries."""
    real_links = len(capacity_bytes_per_s)
    links = real_links + activities
    blocks = -(-activities // BLOCK)
    link = np.zeros((links, LINKS))
    link[:real_links, CAPACITY] = capacity_bytes_per_s
    link[:, FAIR] = NEVER
    mark = np.zeros((links, MARKS), np.int64)
    mark[:, HEAD] = -1
    real = np.zeros((activities, REAL))
    real[:, DUE] = NEVER
    whole = np.zeros((activities, WHOLE), np.int64)
    whole[:, [LIMIT, PLACE]] = -1
    scalar = np.zeros(SCALARS, np.int64)
    scalar[CLASSES], scalar[METERED] = 1, metered
    of_activities = {name: np.zeros(activities, np.int32) for name in ("active", "chosen", "gone", "fresh")}
    of_links = {name: np.zeros(links, np.int32) for name in ("altered", "touched", "changed", "heap_link")}
    return State(
        entry=np.full((entries, 4), -1, np.int32),
        coef=np.zeros(entries),
        whole=whole,
        real=real,
        link=link,
        mark=mark,
        **of_activities,
        **of_links,
        heap_key=np.zeros(links),
        soonest=np.full(blocks, NEVER),
        block_stamp=np.zeros(blocks, np.int64),
        scalar=scalar,
    )
