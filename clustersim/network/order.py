"""Which link comes up next in a pass, and who ends first: a heap and blocks of minima. Compiled."""

from __future__ import annotations

from clustersim.kernels import kernel
from clustersim.network.state import (
    AT,
    BLOCK,
    DUE,
    HEAP,
    NEVER,
    STAMPS,
    State,
)


@kernel
def next_end(s: State, high: int, ended: int) -> float:
    """Bring the blocks of those that changed up to date; return when the first of all ends."""
    s.scalar[STAMPS] += 1
    stamp = s.scalar[STAMPS]
    for a in range(high + ended):
        f = s.chosen[a] if a < high else s.gone[a - high]
        block = f // BLOCK
        if s.block_stamp[block] != stamp:
            s.block_stamp[block] = stamp
            first_s = NEVER
            for g in range(block * BLOCK, min((block + 1) * BLOCK, len(s.real))):
                first_s = min(first_s, s.real[g, DUE])
            s.soonest[block] = first_s
    first_s = NEVER
    for block in range(len(s.soonest)):
        first_s = min(first_s, s.soonest[block])
    return first_s


@kernel
def reorder(s: State, link: int, key: float) -> None:
    """Put a link into the heap, or nearer to the front if its *key* has fallen."""
    place = s.mark[link, AT]
    if place < 0:
        if key >= NEVER:
            return
        place = s.scalar[HEAP]
        s.scalar[HEAP] += 1
    elif key >= s.heap_key[place]:
        return
    while place > 0:
        parent = (place - 1) >> 1
        if s.heap_key[parent] <= key:
            break
        put(s, place, s.heap_key[parent], s.heap_link[parent])
        place = parent
    put(s, place, key, link)


@kernel
def drop_first(s: State) -> None:
    """Take the first link off the heap."""
    last = s.scalar[HEAP] - 1
    s.scalar[HEAP] = last
    s.mark[s.heap_link[0], AT] = -1
    if last > 0:
        sift_down(s, s.heap_key[last], s.heap_link[last])


@kernel
def sift_down(s: State, key: float, link: int) -> None:
    """Put a link in the place of the first of the heap."""
    place, size = 0, s.scalar[HEAP]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and s.heap_key[child + 1] < s.heap_key[child]:
            child += 1
        if key <= s.heap_key[child]:
            break
        put(s, place, s.heap_key[child], s.heap_link[child])
        place = child
    put(s, place, key, link)


@kernel
def put(s: State, place: int, key: float, link: int) -> None:
    """Write a link at a place of the heap."""
    s.heap_key[place] = key
    s.heap_link[place] = link
    s.mark[link, AT] = place
