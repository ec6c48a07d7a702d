"""Hashes that stand for what switches do: a flow's number decides its path, evenly and repeatably."""

from __future__ import annotations

import numpy as np

from clustersim.network.topology import Array

_ODD = tuple(np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mixed(numbers: Array) -> Array:
    """Return 64 well-mixed bits of each number (the finaliser of splitmix64)."""
    x = numbers.astype(np.uint64) + _ODD[0]
    x = (x ^ (x >> np.uint64(30))) * _ODD[1]
    x = (x ^ (x >> np.uint64(27))) * _ODD[2]
    return x ^ (x >> np.uint64(31))


def hashed(source: Array, target: Array, flow: Array) -> Array:
    """Return the hash of a flow between two endpoints; flows differ by their number."""
    return mixed(mixed(mixed(source) ^ target.astype(np.uint64)) ^ flow.astype(np.uint64))


def detours(choice: Array, places: int) -> Array:
    """Return a place to detour over, by a hash of each choice."""
    return (mixed(choice) % np.uint64(places)).astype(np.int64)
