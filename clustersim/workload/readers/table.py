"""A table in a file: CSV, JSON lines or Parquet, plain or gzipped. Knows its columns before its rows."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np

from clustersim.errors import Problem, SpecError, choices
from clustersim.workload.readers.cells import Column, Kind, suspicious

Container: TypeAlias = Literal["csv", "jsonl", "parquet"]
_ENDINGS: Mapping[str, Container] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A file whose columns' names are known and whose rows are not yet read."""

    file: Path
    container: Container
    names: tuple[str, ...]
    delimiter: str = ","

    def read(self, kinds: Mapping[str, Kind]) -> dict[str, Column]:
        """Return the named columns; raise SpecError with the place of everything wrong in them.

        Whole files are read fast; only if something is off, line by line, to say what and where.
        """
        from clustersim.workload.readers import careful, fast

        columns = fast.read(self, kinds)
        if columns is None or any(suspicious(columns[name], kind) for name, kind in kinds.items()):
            columns = careful.read(self, kinds)
        if not all(map(len, columns.values())):
            raise wrong(self.file, "has no rows")
        return columns

    def column(self, name: str) -> np.ndarray:
        """Return one column of token counts."""
        if name not in self.names:
            raise wrong(self.file, f"has no column {name!r}; {choices(name, self.names)}")
        return cast("np.ndarray", self.read({name: "tokens"})[name])

    def open(self) -> BinaryIO:
        """Open the file for its bytes, unpacked."""
        zipped = self.file.suffix.lower() == ".gz"
        return cast(BinaryIO, gzip.open(self.file) if zipped else self.file.open("rb"))


def open_table(file: Path) -> Table:
    """Return the table in *file*; raise SpecError if it is no table or has no columns."""
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
    container = _ENDINGS.get(suffixes[-1]) if suffixes else None
    if container is None:
        raise wrong(
            file, f"is not a table; its name must end in {', '.join(_ENDINGS)} or one of these and .gz", None
        )
    table = Table(file, container, ())
    if container == "parquet":
        return Table(file, container, _parquet_names(file))
    header = _first_line(table)
    if container == "jsonl":
        return Table(file, container, _json_names(file, header))
    delimiter = max(",;\t", key=header.count)
    names = tuple(name.strip() for name in next(csv.reader([header], delimiter=delimiter)))
    return Table(file, container, names, delimiter)


def wrong(file: Path, message: str, line: int | None = 1) -> SpecError:
    """Return the error that says one thing about a whole file."""
    return SpecError([Problem("", message, str(file), line, None if line is None else 1)])


def _first_line(table: Table) -> str:
    try:
        with table.open() as stream:
            line = stream.readline().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise wrong(table.file, "is not UTF-8 text; save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise wrong(table.file, "is not a whole gzip file") from None
    except OSError as error:
        raise wrong(table.file, f"cannot be read: {error.strerror}", None) from None
    if not line:
        raise wrong(table.file, "is empty, or its first line is; column names or a JSON object belong there")
    return line


def _json_names(file: Path, line: str) -> tuple[str, ...]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        message = f"is not a JSON object a line: {error.msg}"
        raise SpecError([Problem("", message, str(file), 1, error.colno)]) from None
    if not isinstance(row, dict):
        raise wrong(file, "is not a JSON object a line")
    return tuple(row)


def _parquet_names(file: Path) -> tuple[str, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_schema(file).names)
    except (pa.ArrowException, OSError):
        raise wrong(file, "is not a whole Parquet file", None) from None
