"""One trace file as raw columns: in the file's order, on the file's clock, with nothing moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clustersim.spec.workload import Trace
from clustersim.workload.readers.cells import Kind, Ragged
from clustersim.workload.readers.layouts import Found, find_layout
from clustersim.workload.readers.table import open_table, wrong
from clustersim.workload.requests import Blocks


@dataclass(frozen=True, slots=True)
class Raw:
    """The columns of a trace; *arrival_s* counts from the earliest stamp and is None if there are none."""

    arrival_s: np.ndarray | None
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    tenant: np.ndarray | None = None
    blocks: Blocks | None = None
    quantised: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def take(self, rows: np.ndarray, *notes: str) -> Raw:
        """Return some rows, in the order of *rows* (numbers or a mask), with more to say about it."""
        numbers = np.arange(len(self))[rows]
        return replace(
            self,
            arrival_s=None if self.arrival_s is None else self.arrival_s[numbers],
            prompt_tokens=self.prompt_tokens[numbers],
            output_tokens=self.output_tokens[numbers],
            tenant=None if self.tenant is None else self.tenant[numbers],
            blocks=None if self.blocks is None else self.blocks.take(numbers),
            notes=(*self.notes, *notes),
        )


def read_raw(trace: Trace) -> Raw:
    """Read the file of a trace; raise SpecError with the place of everything wrong in it."""
    if not trace.file.is_file():
        raise wrong(trace.file, "is a folder; only servegen traces are folders", None)
    table = open_table(trace.file)
    found = find_layout(trace, table)
    columns = table.read(_kinds(found, trace))
    stamps = None if found.arrival is None else columns[found.arrival]
    raw = Raw(
        arrival_s=None if stamps is None else _seconds(stamps, found.arrival_unit_s),
        prompt_tokens=_whole(columns[found.prompt]),
        output_tokens=_whole(columns[found.output]),
        tenant=None if found.tenant is None else np.asarray(columns[found.tenant]),
        blocks=None if found.blocks is None else _blocks(columns[found.blocks], found),
        quantised=found.layout.quantised,
        notes=_origin(stamps),
    )
    return _complete(raw, found, trace)


def _kinds(found: Found, trace: Trace) -> dict[str, Kind]:
    empty_allowed = trace.zero_tokens == "drop"
    kinds: Mapping[str | None, Kind] = {
        found.arrival: "time",
        found.prompt: "count" if empty_allowed else "tokens",
        found.output: "count" if empty_allowed or found.layout.failures else "tokens",
        found.tenant: "text",
        found.blocks: "ids",
    }
    return {name: kind for name, kind in kinds.items() if name is not None}


def _seconds(stamps: Any, unit_s: float) -> np.ndarray:
    """Return seconds since the earliest stamp, subtracted before scaling so that no digit is lost."""
    if stamps.dtype.kind == "M":
        stamps, unit_s = stamps.view(np.int64), 1e-9
    since: np.ndarray = (stamps - stamps.min()) * unit_s
    return since


def _origin(stamps: Any) -> tuple[str, ...]:
    if stamps is None or not len(stamps):
        return ()
    first = stamps.min()
    return () if first == 0 else (f"time 0 is the earliest stamp, {first}",)


def _whole(column: Any) -> np.ndarray:
    whole: np.ndarray = column.astype(np.int64)
    return whole


def _blocks(column: Ragged | np.ndarray, found: Found) -> Blocks:
    if not isinstance(column, Ragged):
        raise TypeError(f"column {found.blocks} was not read as lists")
    return Blocks(column.values, column.offsets, found.layout.block_tokens)


def _complete(raw: Raw, found: Found, trace: Trace) -> Raw:
    """Leave out failed requests and, if the spec says so, empty ones."""
    failed = (raw.output_tokens == 0) if found.layout.failures else np.zeros(len(raw), dtype=bool)
    empty = ((raw.prompt_tokens == 0) | (raw.output_tokens == 0)) & ~failed
    notes = []
    if failed.any():
        notes.append(
            f"{int(failed.sum()):,} of {len(raw):,} rows are failed requests (no response) and were dropped"
        )
    if empty.any():
        notes.append(f"{int(empty.sum()):,} of {len(raw):,} rows have zero tokens and were dropped")
    left = ~(failed | empty)
    if not left.any():
        raise wrong(trace.file, "has no row with a prompt and an output")
    return raw if left.all() else raw.take(left, *notes)
