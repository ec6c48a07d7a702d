"""A collective's time and bandwidths by size, as nccl-tests reports them. Pure arithmetic, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives.domain import wire_share
from clustersim.cost.collectives.levels import Group, chosen, group_s
from clustersim.spec.efficiency import Operation

Floats = NDArray[np.float64]


def sizes(least_bytes: float, most_bytes: float) -> Floats:
    """Return the powers of two from *least_bytes* to *most_bytes*."""
    first, last = np.ceil(np.log2(least_bytes)), np.floor(np.log2(most_bytes))
    return np.asarray(2.0 ** np.arange(first, last + 1), dtype=np.float64)


def table(
    group: Group, operation: Operation, size_bytes: Floats, algorithm: str = "auto"
) -> list[dict[str, Any]]:
    """Return a row for each size: algorithm, time, bytes a second of the buffer and of each rank's link.

    The bus bandwidth is the algorithm's times what a ring sends of the buffer, whatever the algorithm, so
    that it can be held against the speed of a link.
    """
    time_s = group_s(group, operation, size_bytes, algorithm)
    names = chosen(group, operation, size_bytes) if algorithm == "auto" else [algorithm] * len(size_bytes)
    return rows((operation, group.ranks), size_bytes, time_s, names)


def rows(
    what: tuple[Operation, int], size_bytes: Floats, time_s: Floats, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of an operation between so many ranks from its times."""
    operation, ranks = what
    share = wire_share(operation, ranks) if ranks > 1 else 0.0
    rate = np.divide(size_bytes, time_s, out=np.zeros_like(time_s), where=time_s > 0.0)
    columns = zip(size_bytes.tolist(), names, time_s.tolist(), rate.tolist(), strict=True)
    return [
        {
            "size_bytes": size,
            "algorithm": name,
            "time_s": time,
            "algbw_bytes_per_s": speed,
            "busbw_bytes_per_s": speed * share,
        }
        for size, name, time, speed in columns
    ]
