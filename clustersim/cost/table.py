"""A user's own measured times, to be laid over the rooflines: what was measured is met.

A table is a CSV or Parquet file with a column ``kind`` and, by kind, the columns

- ``gemm``: ``m, n, k, dtype, seconds`` - one product of m x k activations with k x n weights;
- ``pass``: ``tokens, seconds`` - a forward pass of the replica without attention, logits and sampling;
- ``decode``: ``sequences, context, seconds`` - decode attention of all layers for so many sequences that
  have so many tokens of context each.

Prices are multiplied by measured / predicted, interpolated along the tokens and, for products, between the
nearest (n, k) pairs. A row that no accelerator could have run is an error, not a measurement. Pure
arithmetic; a table is known by its content, so that a changed file is another table.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import ClusterSimError, Problem, SpecError, choices

Floats = NDArray[np.float64]

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"gemm": ("m", "n", "k"), "pass": ("tokens",), "decode": ("sequences", "context")}
)
"""The sizes that a row of each kind states, beside ``seconds``."""
NEIGHBOURS: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: its kind, sizes in the order of COLUMNS, number format and time."""

    kind: str
    sizes: tuple[float, ...]
    dtype: str
    seconds: float
    line: int


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """The measurements of one file."""

    file: str
    digest: str
    """SHA-256 of the file: the key under which anything made from the table may be kept."""
    rows: tuple[Row, ...]

    def of(self, kind: str, dtype: str = "") -> list[Row]:
        """Return the rows of *kind*; of products those in *dtype*."""
        return [row for row in self.rows if row.kind == kind and row.dtype == dtype]


def read_table(file: str | Path) -> MeasuredTable:
    """Read a CSV or Parquet file of measurements; raise SpecError with every row that cannot be one."""
    file = Path(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ClusterSimError(f"{file}: cannot be read: {error.strerror}") from None
    problems: list[Problem] = []
    records = _parquet(file) if file.suffix == ".parquet" else _csv(content)
    rows = tuple(_rows(records, str(file), problems))
    if not rows and not problems:
        problems.append(Problem("", "holds no measurement", str(file)))
    if problems:
        raise SpecError(problems)
    return MeasuredTable(str(file), sha256(content).hexdigest(), rows)


def ratios(sizes: Floats, measured: Floats, predicted: Floats, at: Floats) -> Floats:
    """Return measured / predicted at *at*, interpolated over the logarithm of *sizes*, constant outside."""
    order = np.argsort(sizes)
    logs = np.log(measured[order] / predicted[order])
    found, first = np.unique(sizes[order], return_index=True)
    means = np.add.reduceat(logs, first) / np.diff(np.append(first, len(logs)))
    return np.asarray(np.exp(np.interp(np.log(at), np.log(found), means)), dtype=np.float64)


def blend(shape: tuple[float, float], known: Mapping[tuple[float, float], Floats]) -> Floats:
    """Return the ratios at *shape* from the nearest known (n, k) pairs, by inverse square distance."""
    distances = {
        pair: math.hypot(*(math.log2(a / b) for a, b in zip(shape, pair, strict=True))) for pair in known
    }
    nearest = sorted(distances, key=lambda pair: (distances[pair], pair))[:NEIGHBOURS]
    if distances[nearest[0]] == 0.0:
        return known[nearest[0]]
    weights = np.array([distances[pair] ** -2 for pair in nearest])
    logs = np.stack([np.log(known[pair]) for pair in nearest])
    return np.asarray(np.exp(weights @ logs / weights.sum()), dtype=np.float64)


def too_fast(table: MeasuredTable, row: Row, limit_s: float) -> Problem:
    """Say that *row* beats the least time that the hardware can take."""
    return Problem(
        "seconds",
        f"{row.seconds:g} is less than the hardware's limit of {limit_s:g} s for this {row.kind}; "
        "remove the row, or check its units and sizes",
        table.file,
        row.line,
    )


def _csv(content: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(content.decode("utf-8-sig", errors="replace").splitlines())
    for record in reader:
        yield reader.line_num, record


def _parquet(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from pyarrow import parquet

    yield from enumerate(parquet.read_table(file).to_pylist(), start=1)


def _rows(
    records: Iterator[tuple[int, Mapping[str, Any]]], file: str, problems: list[Problem]
) -> Iterator[Row]:
    """Yield the rows that can be measurements, and note the others."""
    for line, record in records:
        kind = str(record.get("kind") or "").strip()
        if kind not in COLUMNS:
            problems.append(
                Problem("kind", f"{kind!r} is no kind of row; {choices(kind, COLUMNS)}", file, line)
            )
            continue
        found: list[float] = []
        for name in (*COLUMNS[kind], "seconds"):
            value, reason = _number(record.get(name))
            if reason:
                problems.append(Problem(name, f"{record.get(name)!r} {reason}", file, line))
            found.append(value)
        if all(value > 0.0 for value in found):
            dtype = str(record.get("dtype") or "bf16") if kind == "gemm" else ""
            yield Row(kind, tuple(found[:-1]), dtype, found[-1], line)


def _number(value: Any) -> tuple[float, str]:
    """Return a positive finite number, or zero and why it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0, "is not a number"
    if not math.isfinite(number) or number <= 0.0:
        return 0.0, "is not positive and finite"
    return number, ""
