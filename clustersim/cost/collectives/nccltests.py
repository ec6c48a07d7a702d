"""Reads what nccl-tests prints: which collective, between how many ranks on which hosts, and its times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.spec.efficiency import Operation

Floats = NDArray[np.float64]

PROGRAMS: Final[dict[str, Operation]] = {
    "all_reduce_perf": "all_reduce",
    "all_gather_perf": "all_gather",
    "reduce_scatter_perf": "reduce_scatter",
    "alltoall_perf": "all_to_all",
    "broadcast_perf": "broadcast",
    "reduce_perf": "reduce",
    "sendrecv_perf": "send_recv",
}
"""The programs that are understood, and the operation of each."""
_PREFIX: Final = re.compile(r"^\[\d+,\d+\]<\w+>:\s?")
_PROGRAM: Final = re.compile(r"\b(\w+_perf)\b")
_RANK: Final = re.compile(r"#\s+Rank\s+(\d+)\b.*?\bon\s+(\S+)\s+device")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of nccl-tests: out-of-place times by size."""

    operation: Operation
    ranks: int
    hosts: int
    size_bytes: Floats
    time_s: Floats


def read(text: str, operation: Operation | None = None, ranks: int | None = None) -> Run:
    """Return the run that *text* shows.

    *operation* and *ranks* are needed only where the text does not tell them. Raises ClusterSimError for a
    text that holds no results.
    """
    lines = [_PREFIX.sub("", line) for line in text.splitlines()]
    rows = list(_rows(lines))
    if not rows:
        raise ClusterSimError("no line of results: give the text that a program of nccl-tests printed")
    found = operation or _operation(lines)
    members = {match[1]: match[2] for match in map(_RANK.search, lines) if match}
    count = ranks or len(members) or _ranks_by_ratio(found, rows)
    size, time_us = (np.array([row[i] for row in rows], dtype=np.float64) for i in (0, 1))
    kept = (size > 0.0) & (time_us > 0.0)
    return Run(found, count, max(1, len(set(members.values()))), size[kept], time_us[kept] * 1e-6)


def _operation(lines: list[str]) -> Operation:
    names = [name for line in lines for name in _PROGRAM.findall(line)]
    for name in names:
        if name in PROGRAMS:
            return PROGRAMS[name]
    if names:
        raise UnknownNameError("program of nccl-tests", names[0], PROGRAMS)
    raise ClusterSimError(
        "the text does not name the program that printed it; say which operation it is, with --op"
    )


def _rows(lines: list[str]) -> Iterator[tuple[float, float, float, float]]:
    """Yield size, time, algorithm bandwidth and bus bandwidth of each line of results."""
    at = -1
    for line in lines:
        words = line.split()
        if line.lstrip().startswith("#"):
            columns = words[1:] if words[0] == "#" else [words[0][1:], *words[1:]]
            if columns[:2] == ["size", "count"] and "time" in columns:
                at = columns.index("time")
        elif at > 0 and len(words) >= at + 3 and words[0].isdigit():
            yield float(words[0]), _number(words[at]), _number(words[at + 1]), _number(words[at + 2])


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ClusterSimError(f"{word!r} stands where nccl-tests writes a time or bandwidth") from None


def _ranks_by_ratio(operation: Operation, rows: list[tuple[float, float, float, float]]) -> int:
    """Return the number of ranks behind the ratio of bus to algorithm bandwidth of the largest buffer."""
    _, _, algorithm, bus = max(rows)
    ratio = bus / algorithm if algorithm else 0.0
    laps = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}.get(operation)
    if laps is None or not 0.0 < ratio < laps:
        raise ClusterSimError("the text does not list its ranks; say how many there were, with --ranks")
    return round(laps / (laps - ratio))
