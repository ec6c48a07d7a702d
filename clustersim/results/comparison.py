"""Two settings side by side: what differs in the spec, and what that did to every metric.

Replications of the same seed met the same requests and faults, so they are compared pair by pair; that
takes the luck of the draw out of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from clustersim.errors import ClusterSimError
from clustersim.record.summary import BY_NAME, METRICS
from clustersim.record.words import quantity, setting
from clustersim.results.run import Run
from clustersim.results.sweep import Sweep, open_results

T_975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom (published tables)."""

Runs = Run | Sweep | str | Path | Sequence[Run]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What differs between *names*: fields of the spec, and metrics."""

    names: tuple[str, str]
    spec: pd.DataFrame
    """Columns field, a, b: the fields that differ, by path."""
    metrics: pd.DataFrame
    """Columns metric, a, b, delta, percent, low, high, verdict; *low* to *high* holds the true difference
    with 95 % confidence, and is empty without replications."""
    replications: tuple[int, int]
    paired: bool

    @property
    def text(self) -> str:
        """The comparison in a few lines of plain text: the fields, then the metrics that moved."""
        first, second = self.names
        lines = [f"{second} against {first} ({self._basis})", ""]
        lines += [f"  {field}: {a} -> {b}" for field, a, b in self.spec.itertuples(index=False)]
        if not len(self.spec):
            lines.append("  the specs are the same")
        return "\n".join([*lines, "", *map(_line, self.metrics.to_dict("records"))])

    @property
    def _basis(self) -> str:
        if min(self.replications) < 2:
            return "one run each: no confidence interval"
        return f"{self.replications[0]} and {self.replications[1]} replications" + (
            ", pair by pair" if self.paired else ""
        )

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return str(
            self.spec.to_html(index=False) + self.metrics.to_html(index=False, float_format="{:.4g}".format)
        )


def compare(a: Runs, b: Runs) -> Comparison:
    """Compare *b* against *a*; each is a run (with its replications), its folder, or a list of runs.

    Raises ClusterSimError for a sweep of several points, which are not one setting.
    """
    first, second = _replications(a), _replications(b)
    paired = _pairs(first, second)
    return Comparison(
        names=_names(first[0], second[0]),
        spec=spec_diff(first[0].manifest, second[0].manifest),
        metrics=pd.DataFrame([_row(metric.name, first, second, paired) for metric in METRICS]),
        replications=(len(first), len(second)),
        paired=paired,
    )


def spec_diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> pd.DataFrame:
    """Return the fields in which the experiments of two manifests differ, one row a field path."""
    first, second = (dict(_flat(said.get("experiment") or {})) for said in (a, b))
    rows = [
        (path, setting(first.get(path, "absent")), setting(second.get(path, "absent")))
        for path in dict.fromkeys([*first, *second])
        if first.get(path, "absent") != second.get(path, "absent")
    ]
    return pd.DataFrame(rows, columns=["field", "a", "b"])


def _replications(given: Runs) -> list[Run]:
    if isinstance(given, (str, Path)):
        given = open_results(given)
    if isinstance(given, Run):
        return given.replications()
    if not isinstance(given, Sweep):
        return list(given)
    if len(given.points) != 1:
        raise ClusterSimError(
            f"{str(given.folder)!r} holds {len(given.points)} settings; name the folder of one of its runs, "
            f"such as {next(iter(given.runs), 'none finished')!r}"
        )
    return list(given.runs.values())


def _pairs(first: list[Run], second: list[Run]) -> bool:
    keys = [
        [(run.manifest.get("seed"), run.manifest.get("replication")) for run in runs]
        for runs in (first, second)
    ]
    return len(first) > 1 and keys[0] == keys[1]


def _names(first: Run, second: Run) -> tuple[str, str]:
    if first.name != second.name:
        return first.name, second.name
    return f"{first.folder.parent.name}/{first.name}", f"{second.folder.parent.name}/{second.name}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a spec with its path; what is swept is no part of a point."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if path or key != "sweep":
                yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{place}")
    else:
        yield path, value


def _row(name: str, first: list[Run], second: list[Run], paired: bool) -> dict[str, Any]:
    x, y = (np.array([run.summary[name] for run in runs]) for runs in (first, second))
    a, b = float(x.mean()), float(y.mean())
    half = _half_width(x, y, paired)
    delta = b - a
    percent = 100.0 * delta / abs(a) if a else math.nan
    row = {"metric": name, "a": a, "b": b, "delta": delta, "percent": percent}
    return row | {"low": delta - half, "high": delta + half, "verdict": _verdict(name, delta, half)}


def _half_width(x: np.ndarray, y: np.ndarray, paired: bool) -> float:
    """Return half the 95 % confidence interval of the difference; NaN without replications."""
    if min(len(x), len(y)) < 2:
        return math.nan
    if paired:
        return student(len(x) - 1) * float(np.std(y - x, ddof=1)) / math.sqrt(len(x))
    parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    if not parts.sum() > 0:
        return float(parts.sum())
    freedom = parts.sum() ** 2 / (parts**2 / np.array([len(x) - 1, len(y) - 1])).sum()
    return student(int(freedom)) * math.sqrt(float(parts.sum()))


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t: by table, or by expansion about the normal quantile.

    >>> student(1), round(student(60), 3)
    (12.706, 2.0)
    """
    if freedom < 1:
        return math.inf
    return T_975[freedom - 1] if freedom <= len(T_975) else 1.95996 + 2.3722 / freedom + 2.8225 / freedom**2


def _verdict(name: str, delta: float, half: float) -> str:
    better = BY_NAME[name].better
    if math.isnan(delta) or not better:
        return ""
    if delta == 0.0:
        return "same"
    if not math.isnan(half) and abs(delta) <= half:
        return "within noise"
    return "better" if (delta > 0) == (better == "higher") else "worse"


def _line(row: Mapping[Any, Any]) -> str:
    label, name = BY_NAME[row["metric"]].label, row["metric"]
    moved = f"{row['percent']:+.1f}%" if not math.isnan(row["percent"]) else ""
    noise = ""
    if not math.isnan(row["low"]) and row["a"]:
        noise = f" [{100 * row['low'] / abs(row['a']):+.1f}, {100 * row['high'] / abs(row['a']):+.1f}]"
    values = f"{quantity(name, row['a']):>18}{quantity(name, row['b']):>18}"
    return f"  {label:<28}{values}  {moved:>8}{noise}  {row['verdict']}".rstrip()
