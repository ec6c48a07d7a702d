"""How often hashed flows meet on one path: the statistics behind the slow-down by hash collisions.

Flows are balls, paths are bins. The counts in the bins are independent Poisson variables on condition that
they add up, so the chance that none exceeds k is the part of a power of a Poisson law cut at k. Exact.
"""

from __future__ import annotations

import numpy as np

from clustersim.network.topology import Array


def busiest_path(flows: int, paths: int, groups: int = 1) -> float:
    """Return the flows to be expected on the busiest path, over *groups* of equal paths hashed apart.

    >>> round(busiest_path(2, 2), 9)
    1.5
    """
    expected, chance, most = 0.0, 0.0, 0
    while chance < 1.0 - 1e-9:
        chance = at_most(most, flows, paths)
        expected += 1.0 - chance**groups
        most += 1
    return expected


def slowdown(hosts: int, uplinks: int, queue_pairs: int = 1, groups: int = 1) -> float:
    """Return by how much a step of a ring takes longer than on evenly filled paths.

    Each of *groups* leaves sends from *hosts* hosts over *uplinks*, every host *queue_pairs* flows of equal
    bytes. All hosts wait for the busiest uplink; at best a step is bound by a host's own link.
    """
    busiest = busiest_path(hosts * queue_pairs, uplinks, groups) / queue_pairs
    return max(1.0, busiest / max(1.0, hosts / uplinks))


def at_most(most: int, flows: int, paths: int) -> float:
    """Return the chance that none of *paths* carries more than *most* of *flows*."""
    if most * paths < flows:
        return 0.0
    if most >= flows:
        return 1.0
    size = 1 << int(np.ceil(np.log2(max(flows, most * paths - flows) + 2)))
    one = np.zeros(size)
    one[: most + 1] = _poisson(flows / paths, most)
    total = np.fft.irfft(np.fft.rfft(one) ** paths, size)[flows]
    return float(np.clip(total / _poisson(float(flows), flows)[-1], 0.0, 1.0))


def _poisson(mean: float, most: int) -> Array:
    """Return the chances of 0 to *most* events."""
    number = np.arange(most + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(number[1:]))])
    return np.asarray(np.exp(number * np.log(mean) - mean - factorials))
