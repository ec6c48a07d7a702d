"""A trace of jobs as columns of text, and what is said of cells that hold something else than they should."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from clustersim.errors import ClusterSimError, Problem, SpecError

_SHOWN = 10
_EMPTY = frozenset({"", "none", "nan", "null", "unknown", "n/a"})


def open_text(file: Path) -> str:
    """Return the text of *file*, unpacked if its name ends in .gz; raise ClusterSimError if that fails."""
    try:
        raw = file.read_bytes()
        data = gzip.decompress(raw) if file.suffix == ".gz" else raw
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ClusterSimError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error):
        raise ClusterSimError(f"{file}: is cut short or damaged: the gzip data break off") from None
    except UnicodeDecodeError as error:
        raise ClusterSimError(f"{file}: is not UTF-8 text at byte {error.start}") from None


class TextTable:
    """Rows of a separated file with a header, by column; keeps the line of each row for messages."""

    def __init__(self, file: Path, names: Sequence[str], lines: Sequence[int], rows: Sequence[Sequence[str]]):
        self.file, self.lines = file, np.asarray(lines, dtype=np.int64)
        self.names = [name.strip() for name in names]
        self._columns = dict(zip(self.names, zip(*rows, strict=True), strict=True)) if rows else {}
        self._problems: list[Problem] = []
        self._more = 0
        self.kept = np.ones(len(lines), dtype=bool)
        self.dropped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def text(self, name: str) -> np.ndarray:
        """Return a column as it is, without outer spaces; empty text where the file has no such column."""
        cells = self._columns.get(name)
        found = np.full(len(self), "", dtype=object)
        if cells is not None:
            found[:] = [cell.strip() for cell in cells]
        return found

    def numbers(self, name: str, empty: float | None = None, factor: float = 1.0) -> np.ndarray:
        """Return a column of numbers times *factor*; *empty* stands for missing ones, None: a mistake."""
        cells = self._columns.get(name)
        if cells is None and empty is not None:
            return np.full(len(self), empty)
        if cells is None:
            self._missing(name)
        try:
            return np.array(cells, dtype=np.float64) * factor
        except ValueError:
            return self._each(name, _number, empty) * factor

    def times_s(self, name: str, unit: float = 1.0, empty: float | None = None) -> np.ndarray:
        """Return a column of stamps in seconds, numbers in *unit* or dates (without a zone: UTC)."""
        cells = self._columns.get(name)
        if cells is None:
            if empty is not None:
                return np.full(len(self), empty)
            self._missing(name)
        try:
            return np.array(cells, dtype=np.float64) * unit
        except ValueError:
            pass
        try:
            whole = np.array([cell[:19] for cell in cells], dtype="datetime64[s]").astype(np.float64)
            if all(len(cell) == 19 for cell in cells) and np.isfinite(whole).all() and (whole > 0).all():
                return whole
        except ValueError:
            pass
        return self._each(name, _stamp_s, empty)

    def check(self, fine: np.ndarray, name: str, says: str) -> None:
        """Note a mistake for each kept row that is not *fine*."""
        cells = self._columns.get(name)
        for row in np.flatnonzero(self.kept & ~fine).tolist():
            self._note(name, f"{cells[row]!r} {says}" if cells else says, row)

    def drop(self, rows: np.ndarray, reason: str) -> None:
        """Leave out *rows* (a mask), and count them under *reason*."""
        gone = int(np.count_nonzero(self.kept & rows))
        if gone:
            self.dropped[reason] = self.dropped.get(reason, 0) + gone
            self.kept &= ~rows

    def stop_if_wrong(self) -> None:
        """Raise SpecError if mistakes were found."""
        if self._problems:
            more = [Problem("", f"and {self._more:,} more", str(self.file))] if self._more else []
            raise SpecError([*self._problems, *more])

    def _each(self, name: str, read: Callable[[str], float | None], empty: float | None) -> np.ndarray:
        values = np.full(len(self), np.nan if empty is None else empty)
        for row, cell in enumerate(self._columns[name]):
            try:
                value = read(cell.strip())
            except ValueError as error:
                self._note(name, str(error), row)
                continue
            if value is not None:
                values[row] = value
            elif empty is None:
                self._note(name, "is missing", row)
        return values

    def _note(self, name: str, message: str, row: int) -> None:
        if len(self._problems) < _SHOWN:
            self._problems.append(Problem(name, message, str(self.file), int(self.lines[row])))
        else:
            self._more += 1

    def _missing(self, name: str) -> NoReturn:
        has = ", ".join(self.names[:12])
        raise SpecError([Problem(name, f"is no column of this file, which has: {has}", str(self.file), 1)])


def read_table(file: Path, delimiter: str = ",", comment: str = "#", names: Sequence[str] = ()) -> TextTable:
    """Return *file* as a table; raise SpecError for rows of another length than the header.

    Lines that begin with *comment* are skipped. Files without a header get *names*.
    """
    return table_of(file, open_text(file), delimiter, comment, names)


def table_of(file: Path, text: str, delimiter: str, comment: str, names: Sequence[str]) -> TextTable:
    """Return the table that *text*, the content of *file*, holds."""
    lines, rows, header = list[int](), list[list[str]](), list(names)
    problems: list[Problem] = []
    for number, row in _rows(text, delimiter):
        if not row or (comment and row[0].startswith(comment)):
            continue
        if not header:
            header = row
        elif len(row) != len(header):
            says = (
                f"has {len(row)} fields where the header has {len(header)}: cut short, or a stray separator"
            )
            problems.append(Problem("", says, str(file), number))
        else:
            lines.append(number)
            rows.append(row)
    if problems:
        raise SpecError(problems[:_SHOWN])
    if not rows:
        raise ClusterSimError(f"{file}: holds no jobs")
    return TextTable(file, header, lines, rows)


def _rows(text: str, delimiter: str) -> Iterable[tuple[int, list[str]]]:
    if delimiter == " ":
        yield from ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
        return
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=False)
    for row in reader:
        yield reader.line_num, row


def _number(cell: str) -> float | None:
    if cell.lower() in _EMPTY:
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{cell!r} is not a number") from None


def _stamp_s(cell: str) -> float | None:
    if cell.lower() in _EMPTY:
        return None
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        moment: Any = datetime.fromisoformat(cell.removesuffix(" PST").removesuffix(" PDT"))
    except ValueError:
        raise ValueError(f"{cell!r} is not a date and time such as 2017-10-09 07:01:55") from None
    return float((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
