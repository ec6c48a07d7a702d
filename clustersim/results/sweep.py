"""All runs of an experiment: the index, the swept fields, the best point."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

from clustersim import units
from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.record.summary import BY_NAME, METRICS
from clustersim.record.words import setting
from clustersim.results.run import Run

FIXED: Final = ("replication", "status", "stage", "message", "folder", "seed")
"""Columns of an index that are neither swept fields nor metrics."""


class Sweep:
    """The runs of one experiment, or of every experiment below a folder."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ClusterSimError(f"{str(folder)!r} is not a folder")

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row a run: the swept fields, replication, status, stage, message, folder, and every metric."""
        table = self._read
        if not len(table):
            raise ClusterSimError(f"no run was found below {str(self.folder)!r}")
        missing = {m.name: float("nan") for m in METRICS if m.name not in table}
        table = table.assign(**missing)
        return table.assign(**{axis: _tidy(table[axis]) for axis in _axes(table)})

    @cached_property
    def _read(self) -> pd.DataFrame:
        file = self.folder / "index.parquet"
        return pd.read_parquet(file) if file.is_file() else self._gathered()

    def _gathered(self) -> pd.DataFrame:
        """Make the index from the manifests, where none was written."""
        rows = []
        for file in sorted(self.folder.rglob("manifest.json")):
            run = Run(file.parent)
            row = {"replication": 0, "status": "ok", "stage": "", "message": ""}
            row |= {key: run.manifest[key] for key in row if key in run.manifest}
            row["folder"] = file.parent.relative_to(self.folder).as_posix()
            rows.append(run.point | row | run.summary.to_dict())
        return pd.DataFrame(rows)

    @property
    def axes(self) -> list[str]:
        """The swept fields: the columns of the index that take more than one value, the load last."""
        found = [axis for axis in _axes(self.index) if self.index[axis].astype(str).nunique() > 1]
        return sorted(found, key=lambda axis: axis == self.load)

    @property
    def load(self) -> str | None:
        """The swept field that sets the offered load, if there is one."""
        names = ("rate", "concurrency", "speed", "poisson_rate")
        return next(
            (
                axis
                for axis in _axes(self.index)
                if axis.rpartition(".")[2] in names and pd.api.types.is_numeric_dtype(self.index[axis])
            ),
            None,
        )

    @cached_property
    def done(self) -> pd.DataFrame:
        """The rows of the index whose runs finished."""
        return self.index[self.index["status"] == "ok"]

    @cached_property
    def failed(self) -> pd.DataFrame:
        """The rows of the index whose runs did not finish."""
        return self.index[self.index["status"] != "ok"]

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The finished runs by folder, in the order of the index."""
        return {name: Run(self.folder / name) for name in self.done["folder"]}

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row a point: every metric as the mean over the replications, and how many there are."""
        keys = _axes(self.index) or ["status"]
        groups = self.done.groupby(keys, sort=False, dropna=False)
        means = groups[[m.name for m in METRICS]].mean()
        table = means.assign(replications=groups.size(), folder=groups["folder"].first()).reset_index()
        return table.drop(columns="status") if keys == ["status"] else table

    def best(self, metric: str | None = None) -> Run:
        """Return the run of the point with the best *metric*: goodput if there is an SLO, else throughput."""
        row = self.best_point(metric)
        return Run(self.folder / str(row["folder"]))

    def best_point(self, metric: str | None = None) -> pd.Series:
        """Return the row of ``points`` with the best *metric*; see ``best``."""
        name = metric or self.goal
        if name not in BY_NAME:
            raise UnknownNameError("metric", name, BY_NAME)
        values = self.points[name].dropna()
        if not len(values):
            raise ClusterSimError(f"no finished run below {str(self.folder)!r} has {name}")
        rank = values if BY_NAME[name].better == "lower" else -values
        return self.points.loc[rank.sort_values().index].iloc[0]

    def contenders(self, count: int) -> list[Run]:
        """Return the run of the best point, then of the best with each other value of the first swept field.

        All meet the load of the best point; where nothing but the load is swept, it alone is returned.
        """
        best, points = self.best_point(), self.points
        if self.load is not None:
            points = points[points[self.load] == best[self.load]]
        points = points.sort_values(self.goal, ascending=False, kind="stable")
        color = next((axis for axis in self.axes if axis != self.load), None)
        rows: pd.DataFrame = points.drop_duplicates(color) if color else points
        return [Run(self.folder / str(folder)) for folder in rows["folder"].head(count)]

    @property
    def goal(self) -> str:
        """The metric that the best point has most of: goodput if there is an SLO, else throughput."""
        has_slo = self.done["goodput_requests_per_s"].notna().any()
        return "goodput_requests_per_s" if has_slo else "throughput_tokens_per_s"

    def capacity(self, target: float = 0.9) -> pd.DataFrame:
        """Return the highest offered load with *target* of the requests within the SLO, for each setting.

        The table has a row for each combination of the other swept fields; the load is empty where even
        the lowest misses the target. Empty if no load is swept or there is no SLO.
        """
        load, others = self.load, [axis for axis in self.axes if axis != self.load]
        if load is None or self.goal != "goodput_requests_per_s":
            return pd.DataFrame()
        kept = self.points.assign(
            capacity=self.points[load].where(self.points["slo_attainment_share"] >= target)
        )
        if not others:
            return pd.DataFrame({"capacity": [kept["capacity"].max()]})
        return kept.groupby(others, sort=False)["capacity"].max().reset_index()

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r}): {len(self.done)} runs, {len(self.failed)} failed"

    def _repr_html_(self) -> str:
        return str(self.points.to_html(index=False, float_format="{:.4g}".format))


def open_results(folder: str | Path) -> Run | Sweep:
    """Return the run whose folder this is, or the sweep of all runs below it."""
    return Run(folder) if (Path(folder) / "manifest.json").is_file() else Sweep(folder)


def _axes(index: pd.DataFrame) -> list[str]:
    return [str(c) for c in index.columns if c not in FIXED and c not in BY_NAME]


def _tidy(column: pd.Series) -> pd.Series:
    """Make rates numbers, so that they sort and draw as such, and other settings short text."""
    try:
        return pd.to_numeric(column.map(_number))
    except (TypeError, ValueError):
        return column.map(setting)


def _number(value: Any) -> float:
    return units.parse(value, "rate") if isinstance(value, str) else value
