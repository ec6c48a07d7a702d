"""One finished run, read from its folder as it is asked for."""

from __future__ import annotations

import json
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim import plots
from clustersim.errors import ClusterSimError
from clustersim.record.latency import latencies, limits
from clustersim.record.summary import METRICS
from clustersim.record.tables import TABLES
from clustersim.record.words import quantity
from clustersim.results import metrics

HEADLINE: Final = (
    "throughput_tokens_per_s",
    "throughput_requests_per_s",
    "slo_attainment_share",
    "ttft_p50_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "tpot_p99_s",
    "busy_share",
    "kv_peak_share",
    "energy_j_per_token",
)
"""The numbers that one asks for first."""
SHOWN_STRETCHES: Final = 250
"""Stretches of each replica in the time line of a report: a few pixels each."""


class Run:
    """One finished run: its manifest, its tables as DataFrames, its summary and its figures."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise ClusterSimError(f"{str(folder)!r} is not the folder of a run: it has no manifest.json")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was run, with what, and how it ended."""
        text = (self.folder / "manifest.json").read_text(encoding="utf-8")
        said: dict[str, Any] = json.loads(text)
        return said

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def point(self) -> dict[str, Any]:
        """The swept fields and their values; empty if nothing was swept."""
        return dict(self.manifest.get("point") or {})

    @property
    def slo(self) -> dict[str, float]:
        """The limits that the experiment sets on the latencies of a request."""
        return limits(self.manifest.get("slo"))

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, with ``ttft_s tpot_s e2e_s queue_s`` derived from its times."""
        table = self._read("requests")
        return table.assign(**latencies(table))

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """One row a stretch of passes."""
        return self._read("iterations")

    @cached_property
    def token_gaps(self) -> pd.DataFrame:
        """One row for sequences that waited more than a pass for their next token."""
        return self._read("token_gaps")

    @cached_property
    def power(self) -> pd.DataFrame:
        """One row a domain and time bin."""
        return self._read("power")

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row for each thing that happened and is in no other table."""
        return self._read("events")

    def _read(self, name: str) -> pd.DataFrame:
        file = self.folder / f"{name}.parquet"
        if file.is_file():
            return pd.read_parquet(file)
        columns = TABLES[name].columns
        return pd.DataFrame(
            {c.name: pd.Series(dtype="object" if c.dtype == "string" else c.dtype) for c in columns}
        )

    def columns(self) -> dict[str, dict[str, np.ndarray]]:
        """Return every table as numpy columns, as ``results.summary`` and the trace writer take them."""
        return {
            name: {column: self._table(name)[column].to_numpy() for column in table.names}
            for name, table in TABLES.items()
        }

    def _table(self, name: str) -> pd.DataFrame:
        """Return a table of any kind of run; empty if this one has none of that name."""
        found: pd.DataFrame = getattr(self, name) if hasattr(type(self), name) else self._read(name)
        return found

    @cached_property
    def summary(self) -> pd.Series:
        """Every metric of ``record.summary.METRICS``: as the run noted it, or computed where it did not."""
        noted = self.manifest.get("summary") or metrics.summary(self.columns(), self.manifest)
        values = [float("nan") if noted.get(m.name) is None else float(noted[m.name]) for m in METRICS]
        return pd.Series(values, index=[m.name for m in METRICS], name=self.name)

    def replications(self) -> list[Run]:
        """Return this run and those beside it that differ in nothing but the replication, in order.

        Of several runs of one replication, made by other versions of the code, the latest counts.
        """
        same: dict[int, Run] = {}
        files = self.folder.resolve().parent.glob("*/manifest.json")
        for file in sorted(files, key=lambda file: file.stat().st_mtime):
            other = Run(file.parent)
            if all(other.manifest.get(k) == self.manifest.get(k) for k in ("experiment", "point", "seed")):
                same[other.replication] = other
        same[self.replication] = self
        return [same[number] for number in sorted(same)]

    @property
    def replication(self) -> int:
        """Which repetition of its point this is, from 0."""
        return int(self.manifest.get("replication") or 0)

    def figures(self) -> dict[str, go.Figure]:
        """Every figure of the run, by title, the most asked first."""
        return self._latency_figures() | self._time_figures() | self._inside_figures()

    def _latency_figures(self) -> dict[str, go.Figure]:
        return {
            "Time to first token": plots.latency_cdf(self.requests, "ttft_s", self.slo.get("ttft_s")),
            "Time in the queue": plots.latency_cdf(self.requests, "queue_s", self.slo.get("queue_s")),
            "Time per output token": plots.latency_cdf(self.requests, "tpot_s", self.slo.get("tpot_s")),
            "Time between tokens": plots.itl_cdf(self.iterations, self.token_gaps),
            "Time to last token": plots.latency_cdf(self.requests, "e2e_s", self.slo.get("e2e_s")),
        }

    def _time_figures(self) -> dict[str, go.Figure]:
        total_blocks = int(self.manifest.get("kv_blocks_total") or 0)
        return {
            "Requests in and out": plots.throughput_goodput(self.requests, self.slo),
            "Tokens computed": plots.token_rate(self.iterations),
            "Batch and queue": plots.batch_and_queue(self.iterations),
            "Key-value cache": plots.kv_cache(self.iterations, total_blocks, self.events),
            "Power": plots.power(self.power, self.manifest.get("idle_w")),
        }

    def _inside_figures(self) -> dict[str, go.Figure]:
        low_s, high_s = self.window()
        timeline = plots.timeline(self.iterations, low_s, high_s)
        if low_s is not None:
            timeline.update_layout(meta=None)
        word = "" if low_s is None else f" from {low_s:.1f} s to {high_s:.1f} s"
        return {
            "Where a pass spends its time": plots.breakdown(self.iterations),
            "Tokens of a request": plots.lengths(self.requests),
            f"Timeline{word}": timeline,
        }

    def window(self, stretches: int = SHOWN_STRETCHES) -> tuple[float | None, float | None]:
        """Return the middle of the run with about *stretches* a replica, or (None, None) if that is all."""
        starts_s = np.sort(self.iterations["start_s"].to_numpy())
        shown = stretches * max(1, self.iterations["replica"].nunique())
        if len(starts_s) <= shown:
            return None, None
        first = (len(starts_s) - shown) // 2
        return float(starts_s[first]), float(starts_s[first + shown])

    def _headline(self) -> dict[str, str]:
        return {name: quantity(name, self.summary[name]) for name in HEADLINE}

    def __repr__(self) -> str:
        lines = [f"  {name:<28}{text}" for name, text in self._headline().items()]
        return "\n".join([f"Run({str(self.folder)!r})", *lines])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{metric.label}</th><td>{quantity(metric.name, value)}</td></tr>"
            for metric, value in zip(METRICS, self.summary, strict=True)
            if metric.name in HEADLINE
        )
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"
