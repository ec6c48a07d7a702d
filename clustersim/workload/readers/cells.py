"""What one cell of a trace may hold, and what is said when it holds something else."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Literal, TypeAlias

import numpy as np

Kind: TypeAlias = Literal["time", "tokens", "count", "number", "text", "ids"]
_TOO_BIG = 2.0**62
_FRACTION = re.compile(r"(?<=:\d\d)[.,](\d+)")
_DATE = re.compile(r"\s*\d{4}-\d\d-\d\d[ T]\d\d:")


@dataclass(frozen=True, slots=True)
class Ragged:
    """A column of lists: all their entries, and where the entries of each row begin."""

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


Column: TypeAlias = np.ndarray | Ragged


def suspicious(column: Column, kind: Kind) -> bool:
    """Return whether a column that was read fast holds something that cannot be right."""
    if isinstance(column, Ragged) or kind == "text":
        return False
    if column.dtype.kind == "M":
        return bool(np.isnat(column).any())
    least = 1 if kind == "tokens" else 0
    with np.errstate(invalid="ignore"):
        fine = (column >= least) & (column < _TOO_BIG)
        if kind in ("tokens", "count"):
            fine &= column == np.floor(column)
    return not fine.all()


def cell(value: Any, kind: Kind) -> Any:
    """Return the value of one cell, text or typed; raise ValueError that says what is wrong with it."""
    if kind == "text":
        return "" if value is None else str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError("is missing")
    if kind == "ids":
        return _ids(value)
    if kind == "time" and (isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value))):
        return _stamp(value)
    number = _number(value)
    if number < 0:
        raise ValueError(f"{value!r} is negative")
    if kind in ("tokens", "count") and number != math.floor(number):
        raise ValueError(f"{value!r} is not a whole number of tokens")
    if kind == "tokens" and number == 0:
        raise ValueError("is zero tokens; zero_tokens: drop leaves such rows out")
    return number


def column_of(cells: list[Any], kind: Kind) -> Column:
    """Return the cells of one column as an array."""
    if kind == "ids":
        offsets = np.concatenate(([0], np.cumsum([len(ids) for ids in cells]))).astype(np.int64)
        return Ragged(np.fromiter(chain.from_iterable(cells), np.int64), offsets)
    if kind == "text":
        return np.array(cells, dtype=object)
    if kind == "time" and any(isinstance(value, np.datetime64) for value in cells):
        return np.array(cells, dtype="datetime64[ns]")
    whole = kind == "time" and all(isinstance(value, int) for value in cells)
    return np.array(cells, dtype=np.int64 if whole else float)


def _number(value: Any) -> Any:
    if isinstance(value, (bool, list, dict)):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(number) or abs(number) >= _TOO_BIG:
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _ids(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(i, int) and -(2**63) <= i < 2**63 for i in value):
        raise ValueError("is not a list of whole numbers of 64 bits")
    return value


def _stamp(value: str | datetime) -> np.datetime64:
    """Read a date and time to the nanosecond; one without a zone is taken as UTC."""
    text = value if isinstance(value, str) else value.isoformat()
    fraction = _FRACTION.search(text)
    plain = text if fraction is None else text.replace(fraction[0], "", 1)
    try:
        moment = datetime.fromisoformat(plain.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a date and time such as 2023-11-16 18:15:46.68") from None
    moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    nanoseconds = int(fraction[1][:9].ljust(9, "0")) if fraction else 0
    return np.datetime64(moment, "ns") + np.timedelta64(nanoseconds, "ns")
