"""A run as a trace for ui.perfetto.dev: Chrome trace events in gzipped JSON. No clock, no pandas.

Perfetto does not draw overlapping slices of one track, so stretches of passes are slices, one track a
replica, and requests, which overlap, are asynchronous spans with ids.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from clustersim.errors import ClusterSimError

Event = dict[str, Any]
Tables = Mapping[str, Mapping[str, np.ndarray]]
SERVICE: Final = 0
"""The process that holds what belongs to no replica; replica r is process r + 1."""
_SAID: Final = ("replica", "start_s", "duration_s")
EVENTS_A_STRETCH: Final = 3
EVENTS_A_REQUEST: Final = 8


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a run to write: from *start_s* to *end_s*, and at most about *limit* events."""

    start_s: float = 0.0
    end_s: float = float("inf")
    limit: int = 1_000_000


WHOLE: Final = Window()


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the file, how many events, and a note if something was left out."""

    path: Path
    events: int
    note: str


def write_trace(tables: Tables, path: str | Path, window: Window = WHOLE) -> Written:
    """Write the passes, requests and counters of a run as a gzipped Chrome trace.

    Args:
        tables: The result tables by name, each a mapping from column to array.
        path: The file to write, by custom ``trace.json.gz``.
        window: What part of the run to write; the note says what its limit left out.
    """
    path = Path(path)
    if not window.start_s < window.end_s:
        raise ClusterSimError(f"the window from {window.start_s} s to {window.end_s} s is empty")
    cut, note = _cut(tables, window)
    events = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=5) as out:
        out.write('{"displayTimeUnit":"ms","otherData":' + json.dumps({"note": note}) + ',"traceEvents":[\n')
        for event in _events(tables, cut):
            out.write(("" if events == 0 else ",\n") + json.dumps(event, separators=(",", ":")))
            events += 1
        out.write("\n]}\n")
    return Written(path, events, note)


def _cut(tables: Tables, window: Window) -> tuple[Window, str]:
    """Move the window's end to where the limit is reached, and say so."""
    starts_s = [tables["iterations"]["start_s"], tables["requests"]["arrival_s"], tables["power"]["start_s"]]
    times_s = np.concatenate(starts_s)
    weights = np.repeat([EVENTS_A_STRETCH, EVENTS_A_REQUEST, 1], [len(column) for column in starts_s])
    inside = (times_s >= window.start_s) & (times_s < window.end_s)
    times_s, weights = times_s[inside], weights[inside]
    order = np.argsort(times_s, kind="stable")
    kept = int(np.searchsorted(np.cumsum(weights[order]), window.limit, side="right"))
    if kept >= len(times_s):
        return window, ""
    end_s = float(times_s[order[kept]])
    note = (
        f"cut at {end_s:.6g} s: {kept:,} of {len(times_s):,} stretches, requests and power bins written; "
        "choose a window or raise the limit for the rest"
    )
    return Window(window.start_s, end_s, window.limit), note


def _events(tables: Tables, window: Window) -> Iterator[Event]:
    yield from _names(tables)
    yield from _passes(_rows(tables["iterations"], "start_s", window))
    yield from _counters(_rows(tables["iterations"], "start_s", window))
    yield from _requests(_rows(tables["requests"], "arrival_s", window))
    yield from _power(_rows(tables["power"], "start_s", window))
    yield from _instants(_rows(tables.get("events") or {"t_s": np.empty(0)}, "t_s", window))


def _rows(table: Mapping[str, np.ndarray], column: str, window: Window) -> list[Event]:
    """Return the rows that begin inside the window as plain mappings."""
    inside = (table[column] >= window.start_s) & (table[column] < window.end_s)
    columns = [table[name][inside].tolist() for name in table]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def _us(time_s: float) -> float:
    """Return microseconds, rounded to the nanosecond that Perfetto keeps."""
    return round(time_s * 1e6, 3)


def _names(tables: Tables) -> Iterator[Event]:
    replicas = np.unique(np.concatenate([tables["iterations"]["replica"], tables["requests"]["replica"]]))
    names = {SERVICE: "service"} | {int(r) + 1: f"replica {r}" for r in replicas if r >= 0}
    for pid, name in names.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "thread_name", "args": {"name": "passes"}}


def _passes(rows: list[Event]) -> Iterator[Event]:
    for row in rows:
        start, end = _us(row["start_s"]), _us(row["start_s"] + row["duration_s"])
        times = f" ×{row['count']}" if row["count"] > 1 else ""
        at = {"pid": row["replica"] + 1, "tid": 0, "ts": start, "dur": round(end - start, 3)}
        yield {"ph": "X", "cat": "pass", "name": _sort(row) + times, "args": _shown(row), **at}


def _sort(row: Event) -> str:
    if row["prefill_tokens"] and row["decode_sequences"]:
        return "decode + prefill"
    return "prefill" if row["prefill_tokens"] else "decode"


def _shown(row: Event) -> Event:
    """Return what is seen at a click: numbers JSON can hold, not what the slice says already."""
    return {k: v for k, v in row.items() if k not in _SAID and not _missing(v)}


def _missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _counters(rows: list[Event]) -> Iterator[Event]:
    for row in rows:
        at = {"ph": "C", "pid": row["replica"] + 1, "ts": _us(row["start_s"])}
        held = {"waiting": row["waiting"], "decoding": row["decode_sequences"]}
        yield {"name": "sequences", "args": held, **at}
        at["ts"] = _us(row["start_s"] + row["duration_s"])
        yield {"name": "kv_blocks", "args": {"blocks": row["kv_blocks"]}, **at}


def _requests(rows: list[Event]) -> Iterator[Event]:
    for row in rows:
        at = {"cat": "request", "id": row["request"], "pid": row["replica"] + 1, "tid": 0}
        times_s = [row[c] for c in ("arrival_s", "admitted_s", "first_token_s", "finish_s")]
        known_s = [t for t in times_s if not _missing(t)]
        yield {"ph": "b", "name": "request", "ts": _us(known_s[0]), "args": _shown(row), **at}
        for name, start_s, end_s in zip(("queued", "prefill", "decode"), known_s, known_s[1:], strict=False):
            yield {"ph": "b", "name": name, "ts": _us(start_s), **at}
            yield {"ph": "e", "name": name, "ts": _us(end_s), **at}
        yield {"ph": "e", "name": "request", "ts": _us(known_s[-1]), **at}


def _power(rows: list[Event]) -> Iterator[Event]:
    for row in rows:
        at = {"ph": "C", "pid": SERVICE, "ts": _us(row["start_s"])}
        yield {"name": f"power of {row['domain']}", "args": {"W": round(row["power_w"], 3)}, **at}


def _instants(rows: list[Event]) -> Iterator[Event]:
    for row in rows:
        at = {"ph": "i", "s": "p", "pid": SERVICE, "tid": 0, "ts": _us(row["t_s"])}
        yield {"name": row["kind"], "args": {"subject": row["subject"], "detail": row["detail"]}, **at}
