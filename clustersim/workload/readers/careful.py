"""Line by line: slow, forgiving of spaces and mixed stamps, and exact about what is wrong and where."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from clustersim.errors import Problem, SpecError
from clustersim.workload.readers.cells import Column, Kind, cell, column_of

if TYPE_CHECKING:
    from clustersim.workload.readers.table import Table

_SHOWN = 10
Row = tuple[int | None, dict[str, tuple[Any, int | None]]]


class Problems:
    """Collects what is wrong with a file: keeps the first few and counts the rest."""

    def __init__(self, table: Table):
        self.file, self.kept, self.more = str(table.file), list[Problem](), 0

    def add(self, path: str, message: str, line: int | None, column: int | None = 1) -> None:
        """Note one problem."""
        if len(self.kept) < _SHOWN:
            self.kept.append(Problem(path, message, self.file, line, column))
        else:
            self.more += 1

    def stop(self) -> NoReturn:
        """Raise what was found."""
        more = [Problem("", f"and {self.more:,} more", self.file)] if self.more else []
        raise SpecError([*self.kept, *more])


def read(table: Table, kinds: Mapping[str, Kind]) -> dict[str, Column]:
    """Return the named columns, or raise SpecError with the place of every mistake."""
    problems, cells = Problems(table), {name: list[Any]() for name in kinds}
    rows = {"csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}[table.container]
    for line, row in rows(table, kinds, problems):
        for name, kind in kinds.items():
            value, column = row[name]
            try:
                cells[name].append(cell(value, kind))
            except ValueError as error:
                problems.add(name, str(error), line, column)
    for name, kind in kinds.items():
        if kind == "time" and len({isinstance(value, np.datetime64) for value in cells[name]}) > 1:
            problems.add(name, "mixes dates with plain numbers", 1)
    if problems.kept:
        problems.stop()
    return {name: column_of(found, kinds[name]) for name, found in cells.items()}


def _lines(table: Table, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line that is not empty and is UTF-8."""
    line = 0
    try:
        with table.open() as stream:
            for line, raw in enumerate(stream, 1):
                try:
                    text = raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    problems.add("", "is not UTF-8 text", line, error.start + 1)
                    continue
                if text.strip():
                    yield line, text
    except (EOFError, zlib.error, gzip.BadGzipFile):
        problems.add("", "is cut short or damaged: the gzip data break off here", line + 1)


def _csv_rows(table: Table, kinds: Mapping[str, Kind], problems: Problems) -> Iterator[Row]:
    numbers = {name: table.names.index(name) for name in kinds}
    for line, text in _lines(table, problems):
        fields = next(csv.reader([text], delimiter=table.delimiter))
        if line == 1:
            continue
        if len(fields) != len(table.names):
            has = f"has {len(fields)} fields where the header has {len(table.names)}"
            problems.add("", f"{has}: cut short, or a stray separator", line)
            continue
        starts = {name: sum(len(field) + 1 for field in fields[:at]) + 1 for name, at in numbers.items()}
        yield line, {name: (fields[at], starts[name]) for name, at in numbers.items()}


def _json_rows(table: Table, kinds: Mapping[str, Kind], problems: Problems) -> Iterator[Row]:
    for line, text in _lines(table, problems):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            problems.add("", f"is not JSON (cut short?): {error.msg}", line, error.colno)
            continue
        if not isinstance(row, dict):
            problems.add("", "is not a JSON object", line)
            continue
        yield line, {name: (row.get(name), text.find(f'"{name}"') + 1 or 1) for name in kinds}


def _parquet_rows(table: Table, kinds: Mapping[str, Kind], problems: Problems) -> Iterator[Row]:
    """Yield the rows of a Parquet file, numbered from 1 in place of lines."""
    import pyarrow.parquet as pq

    read = pq.read_table(table.file, columns=list(kinds))
    for number, row in enumerate(read.to_pylist(), 1):
        yield number, {name: (value, None) for name, value in row.items()}
