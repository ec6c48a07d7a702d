"""Binary heaps over pairs of arrays, the smaller key first, ties by the smaller request. Compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustersim.kernels import kernel

Array = np.ndarray[Any, Any]


@kernel
def push_key(keys: Array, items: Array, size: int, key: float, item: int) -> None:
    """Add a pair to a heap of *size* entries; the arrays must have room."""
    j = size
    while j > 0:
        parent = (j - 1) >> 1
        if keys[parent] < key or (keys[parent] == key and items[parent] <= item):
            break
        keys[j] = keys[parent]
        items[j] = items[parent]
        j = parent
    keys[j] = key
    items[j] = item


@kernel
def pop_key(keys: Array, items: Array, size: int) -> None:
    """Take the first pair away from a heap of *size* entries."""
    last = size - 1
    key, item = keys[last], items[last]
    j = 0
    while True:
        child = 2 * j + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (
            keys[right] < keys[child] or (keys[right] == keys[child] and items[right] < items[child])
        ):
            child = right
        if key < keys[child] or (key == keys[child] and item <= items[child]):
            break
        keys[j] = keys[child]
        items[j] = items[child]
        j = child
    keys[j] = key
    items[j] = item


@kernel
def push(keys: Array, items: Array, size: int, key: int, item: int, valid: Array) -> int:
    """Add a pair and return the new size; entries whose key is not ``valid[item]`` make room if needed."""
    if size == len(keys):
        size = sweep(keys, items, size, valid)
    push_key(keys, items, size, key, item)
    return size + 1


@kernel
def sweep(keys: Array, items: Array, size: int, valid: Array) -> int:
    """Drop every stale entry and return how many are left."""
    kept = 0
    for j in range(size):
        key, item = keys[j], items[j]
        if valid[item] == key:
            push_key(keys, items, kept, key, item)
            kept += 1
    return kept


@kernel
def drop_stale(keys: Array, items: Array, size: int, valid: Array) -> int:
    """Drop stale entries from the front and return the size."""
    while size > 0 and valid[items[0]] != keys[0]:
        pop_key(keys, items, size)
        size -= 1
    return size
