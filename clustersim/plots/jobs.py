"""A shared cluster over time: what is in use, who waits and why, how long jobs take. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots import bins as exact
from clustersim.plots.theme import BLUE, GREY, ORANGE, PALETTE, blank, colors, faded, nothing, on_time, scale

POINTS: Final = 1000
"""Most points of a curve: what is left out is thinner than a pixel."""
ROWS: Final = 256
"""Most rows of a picture of nodes; where there are more nodes, a row is the mean of several."""
COLUMNS: Final = 800
LABELS: Final = {
    "wait_s": "time that a job waited (s)",
    "run_s": "time that a job ran (s)",
    "jct_s": "time from submission to the end (s)",
}
_LEAST_S: Final = 1.0


def utilization(job_spans: pd.DataFrame, accelerators: int, bins: int = 300) -> go.Figure:
    """Draw the share of *accelerators* in use over time; the area under it is exact."""
    figure = blank("time (s)", "share of accelerators in use")
    if not len(job_spans):
        return nothing(figure, "no job ran")
    start_s, duration_s = _stretches(job_spans)
    bounds_s = exact.edges(float(start_s.min()), float((start_s + duration_s).max()), bins)
    used = exact.level_mean(bounds_s, start_s, duration_s, job_spans["accelerators"].to_numpy())
    _steps(figure, bounds_s, used / max(accelerators, 1), "in use", BLUE)
    return on_time(figure.update_yaxes(range=[0, 1.02]), bounds_s[0], bounds_s[-1])


def queue_length(jobs: pd.DataFrame, bins: int = 300) -> go.Figure:
    """Draw how many jobs and how many accelerators' worth of jobs wait for their first start over time."""
    figure = blank("time (s)", "jobs, accelerators")
    if not len(jobs):
        return nothing(figure, "no jobs")
    submit_s, start_s = jobs["submit_s"].to_numpy(), jobs["start_s"].to_numpy()
    until_s = np.where(start_s >= 0, start_s, jobs["finish_s"].to_numpy())
    bounds_s = exact.edges(float(submit_s.min()), float(jobs["finish_s"].max()), bins)
    for name, level, color in (
        ("accelerators asked for by those that wait", jobs["accelerators"].to_numpy(), ORANGE),
        ("jobs that wait", np.ones(len(jobs)), BLUE),
    ):
        _steps(figure, bounds_s, exact.level_mean(bounds_s, submit_s, until_s - submit_s, level), name, color)
    return on_time(figure.update_yaxes(rangemode="tozero"), bounds_s[0], bounds_s[-1])


def jobs_cdf(runs: Mapping[str, pd.DataFrame], column: str = "jct_s") -> go.Figure:
    """Draw for each run the share of its jobs whose *column* (jct_s, wait_s, run_s) is at most x."""
    figure = blank(LABELS.get(column, column), "share of jobs")
    longest = 0.0
    for name, color in colors(runs).items():
        values = np.sort(_column(runs[name], column))
        if len(values):
            rank = np.unique(np.linspace(0, len(values) - 1, POINTS).astype(np.int64))
            x, y = np.maximum(values[rank], _LEAST_S), (rank + 1) / len(values)
            figure.add_scatter(x=x, y=y, mode="lines", name=name, line={"shape": "hv", "color": color})
            longest = max(longest, float(values[-1]))
    if not figure.data:
        return nothing(figure, "no job ended")
    return scale("x", figure.update_yaxes(range=[0, 1.02]), longest > 100 * _LEAST_S)


def wait_reasons(jobs: pd.DataFrame, job_waits: pd.DataFrame, by: str = "queue") -> go.Figure:
    """Draw the mean wait of a job by its reasons, one bar for each value of *by* (a column of jobs)."""
    figure = blank(by, "mean wait of a job (s)")
    if not len(job_waits):
        return nothing(figure, "no job waited")
    group = jobs[by].astype(str)
    counts = group.value_counts().sort_index()
    waits = job_waits.assign(group=group.to_numpy()[job_waits["job"].to_numpy()])
    sums = waits.groupby(["reason", "group"])["duration_s"].sum()
    for reason, color in colors(sorted(set(waits["reason"]))).items():
        of_reason = sums[reason].reindex(counts.index, fill_value=0.0)
        figure.add_bar(
            x=[name or "all" for name in counts.index], y=of_reason / counts, name=reason, marker_color=color
        )
    return figure.update_layout(barmode="stack")


def node_map(job_spans: pd.DataFrame, nodes: int, accelerators: int) -> go.Figure:
    """Draw how full each node is over time, as a picture of at most 256 rows; means are exact."""
    figure = blank("time (s)", "node")
    if not len(job_spans):
        return nothing(figure, "no job ran")
    start_s, duration_s = _stretches(job_spans)
    bounds_s = exact.edges(float(start_s.min()), float((start_s + duration_s).max()), COLUMNS)
    together = -(-nodes // ROWS)
    row = job_spans["node"].to_numpy() // together
    taken = job_spans["accelerators"].to_numpy()
    picture = np.zeros((-(-nodes // together), COLUMNS if len(bounds_s) > 2 else 1))
    for n in np.unique(row):
        mine = row == n
        full = accelerators * min(together, nodes - int(n) * together)
        picture[n] = exact.level_mean(bounds_s, start_s[mine], duration_s[mine], taken[mine]) / max(full, 1)
    figure.add_heatmap(
        x=(bounds_s[:-1] + bounds_s[1:]) / 2,
        y=np.arange(len(picture)) * together,
        z=picture.round(4),
        zmin=0,
        zmax=1,
        colorscale=[[0, faded(GREY, 0.08)], [1, BLUE]],
        colorbar={"title": "in use", "tickformat": ".0%"},
        hovertemplate="node %{y}<br>%{x:.6g} s<br>%{z:.0%} in use<extra></extra>",
    )
    return on_time(figure, bounds_s[0], bounds_s[-1]).update_layout(hovermode="closest")


def gantt(job_spans: pd.DataFrame, jobs: pd.DataFrame, most: int = 2000) -> go.Figure:
    """Draw the longest *most* stretches of jobs on their nodes as lines, one colour a virtual cluster."""
    figure = blank("time (s)", "node")
    if not len(job_spans):
        return nothing(figure, "no job ran")
    rows = job_spans.nlargest(most, "duration_s").sort_values(["node", "start_s"])
    queue = jobs["queue"].to_numpy()[rows["job"].to_numpy()]
    for n, name in enumerate(sorted(set(queue.tolist()))):
        mine = rows[queue == name]
        start_s, duration_s = _stretches(mine)
        gap = np.full(len(mine), np.nan)
        x = np.column_stack([start_s, start_s + duration_s, gap]).ravel()
        y = np.column_stack([mine["node"], mine["node"], gap]).ravel()
        text = np.repeat(
            [
                f"job {job}, {n} accelerators"
                for job, n in zip(mine["job"], mine["accelerators"], strict=True)
            ],
            3,
        )
        look: dict[str, Any] = {"color": PALETTE[n % len(PALETTE)], "width": 4}
        figure.add_scatter(
            x=x,
            y=y,
            text=text,
            mode="lines",
            name=name or "jobs",
            line=look,
            hovertemplate="%{text}<br>%{x:.6g} s",
        )
    end_s = float((job_spans["start_s"] + job_spans["duration_s"]).max())
    return on_time(figure, float(job_spans["start_s"].min()), end_s).update_layout(hovermode="closest")


def fragmentation(curves: Mapping[str, pd.DataFrame], accelerators: int) -> go.Figure:
    """Draw the share of accelerators left in pieces over the share asked for (columns arrived, fragments)."""
    figure = blank("share of accelerators asked for", "share of accelerators in fragments")
    for name, color in colors(curves).items():
        table = curves[name]
        if len(table):
            rank = np.unique(np.linspace(0, len(table) - 1, POINTS).astype(np.int64))
            x, y = (table[c].to_numpy()[rank] / accelerators for c in ("arrived", "fragments"))
            figure.add_scatter(x=x, y=y, mode="lines", name=name, line={"color": color})
    return figure.update_yaxes(rangemode="tozero") if figure.data else nothing(figure, "nothing arrived")


def _column(jobs: pd.DataFrame, column: str) -> np.ndarray:
    if column == "jct_s":
        ended = jobs["start_s"] >= 0
        return (jobs["finish_s"] - jobs["submit_s"])[ended].to_numpy(dtype=np.float64)
    return jobs[column].to_numpy(dtype=np.float64)


def _stretches(spans: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return spans["start_s"].to_numpy(dtype=np.float64), spans["duration_s"].to_numpy(dtype=np.float64)


def _steps(figure: go.Figure, bounds_s: np.ndarray, height: np.ndarray, name: str, color: str) -> None:
    """Draw the mean of each bin as a step; the last is repeated at its end."""
    figure.add_scatter(
        x=bounds_s,
        y=np.append(height, height[-1]),
        mode="lines",
        name=name,
        fill="tozeroy",
        fillcolor=faded(color, 0.2),
        line={"shape": "hv", "width": 1.5, "color": color},
        hovertemplate="%{y:.4g}",
    )
