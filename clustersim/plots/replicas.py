"""What the replicas do: batch, queue, memory, time line, and where the time goes. No I/O."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from clustersim.plots import bins as exact
from clustersim.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    HEIGHT,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    VERMILION,
    blank,
    faded,
    nothing,
    on_time,
)

PARTS: Final = (
    ("compute_s", "compute", BLUE),
    ("memory_s", "memory", SKY),
    ("network_s", "network", ORANGE),
    ("overhead_s", "overhead", GREY),
)


def batch_and_queue(iterations: pd.DataFrame, bins: int = 300) -> go.Figure:
    """Draw how many sequences decode and how many requests wait, all replicas together."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06)
    figure.update_layout(template=TEMPLATE, showlegend=False, height=HEIGHT)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="decoding", row=1).update_yaxes(title_text="waiting", row=2)
    figure.update_xaxes(title_text="time (s)", row=2)
    if not len(iterations):
        return nothing(figure, "no passes")
    start_s, duration_s = iterations["start_s"].to_numpy(), iterations["duration_s"].to_numpy()
    bounds_s = exact.edges(float(start_s.min()), float((start_s + duration_s).max()), bins)
    for row, column, color in ((1, "decode_sequences", BLUE), (2, "waiting", VERMILION)):
        mean = exact.level_mean(bounds_s, start_s, duration_s, iterations[column].to_numpy())
        figure.add_trace(_area(bounds_s, mean, column.replace("_", " "), color), row=row, col=1)
    return on_time(figure, bounds_s[0], bounds_s[-1])


def kv_cache(
    iterations: pd.DataFrame, total_blocks: int, events: pd.DataFrame | None = None, bins: int = 300
) -> go.Figure:
    """Draw the share of key-value blocks in use (mean of all replicas, peak of any), and preemptions."""
    figure = blank("time (s)", "key-value blocks in use")
    if not len(iterations) or not total_blocks:
        return nothing(figure, "no key-value cache was used")
    ends_s = (iterations["start_s"] + iterations["duration_s"]).to_numpy()
    bounds_s = exact.edges(float(iterations["start_s"].min()), float(ends_s.max()), bins)
    lines = [_line(rows) for _, rows in iterations.groupby("replica")]
    area = sum(exact.line_integral(bounds_s, *line) for line in lines)
    mean = np.diff(area) / np.diff(bounds_s) / (total_blocks * len(lines))
    peak = np.max([exact.line_peaks(bounds_s, *line) for line in lines], axis=0) / total_blocks
    figure.add_trace(_area(bounds_s, mean, "mean of replicas", BLUE))
    figure.add_trace(_area(bounds_s, peak, "peak of any", PURPLE).update(fill="none"))
    if events is not None:
        _preemptions(figure, events, bounds_s)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.06])
    return on_time(figure, bounds_s[0], bounds_s[-1])


def _line(rows: pd.DataFrame) -> tuple[exact.Track, np.ndarray]:
    rows = rows.sort_values("start_s")
    track = exact.Track(rows["start_s"].to_numpy(), rows["duration_s"].to_numpy())
    return track, rows["kv_blocks"].to_numpy(dtype=np.float64)


def _preemptions(figure: go.Figure, events: pd.DataFrame, bounds_s: np.ndarray) -> None:
    at_s = events.loc[events["kind"].isin(["preempt", "swap_out"]), "t_s"].to_numpy()
    counts = np.histogram(at_s, bounds_s)[0]
    hit = np.flatnonzero(counts)
    if len(hit):
        figure.add_scatter(
            x=(bounds_s[hit] + bounds_s[hit + 1]) / 2,
            y=np.full(len(hit), 1.03),
            mode="markers",
            name="preemptions",
            marker={"symbol": "triangle-down", "size": 8, "color": VERMILION},
            customdata=counts[hit],
            hovertemplate="%{customdata}",
        )


def _area(bounds_s: np.ndarray, height: np.ndarray, name: str, color: str) -> go.Scatter:
    return go.Scatter(
        x=bounds_s,
        y=np.append(height, height[-1]),
        name=name,
        mode="lines",
        fill="tozeroy",
        fillcolor=faded(color, 0.25),
        line={"shape": "hv", "width": 1.5, "color": color},
        hovertemplate="%{y:.4g}",
    )


def breakdown(iterations: pd.DataFrame) -> go.Figure:
    """Draw what a pass spends its time on, with prefill, without, and over all."""
    figure = blank("mean time of a pass (ms)", "")
    if not len(iterations):
        return nothing(figure, "no passes")
    has_prefill = iterations["prefill_tokens"] > 0
    groups = {"decode only": iterations[~has_prefill], "with prefill": iterations[has_prefill]}
    groups = {f"{name}<br>{_passes(rows)} passes": rows for name, rows in groups.items() if len(rows)}
    groups |= {f"all<br>{_passes(iterations)} passes": iterations}
    whole_s = np.array([sum(rows[column].sum() for column, _, _ in PARTS) for rows in groups.values()])
    for column, name, color in PARTS:
        part_s = np.array([rows[column].sum() for rows in groups.values()])
        share = np.divide(part_s, whole_s, out=np.zeros(len(whole_s)), where=whole_s > 0)
        passes = np.array([rows["count"].sum() for rows in groups.values()])
        figure.add_bar(x=part_s / passes * 1e3, y=list(groups), name=name, **_part(part_s, share, color))
    hide = {"mode": "hide", "minsize": 9}
    return figure.update_layout(barmode="stack", legend_traceorder="normal", uniformtext=hide)


def _part(part_s: np.ndarray, share: np.ndarray, color: str) -> dict[str, Any]:
    """Return how one part of the stacked bars looks."""
    return {
        "orientation": "h",
        "marker": {"color": color, "line": {"width": 0}},
        "customdata": np.stack([part_s, share], axis=1),
        "text": [f"{x:.0%}" if x >= 0.04 else "" for x in share],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "insidetextfont": {"color": "white"},
        "textangle": 0,
        "hovertemplate": "%{x:.4g} ms a pass, %{customdata[0]:.4g} s in all, %{customdata[1]:.1%}",
    }


def _passes(rows: pd.DataFrame) -> str:
    return f"{rows['count'].sum():,}"


KINDS: Final = (("decode", BLUE), ("decode and prefill", GREEN), ("prefill", ORANGE))
BARS: Final = 4000
"""About the most bars that a browser draws at ease."""
ROWS: Final = 32


def timeline(iterations: pd.DataFrame, start_s: float | None = None, end_s: float | None = None) -> go.Figure:
    """Draw what each replica ran when, from *start_s* to *end_s*.

    Stretches shorter than a pixel are drawn together, one bar for each sort of pass: the widths of the bars
    of a sort always add up to the time it took.
    """
    figure = blank("time (s)", "")
    if not len(iterations):
        return nothing(figure, "no passes")
    low_s = float(iterations["start_s"].min()) if start_s is None else start_s
    high_s = float((iterations["start_s"] + iterations["duration_s"]).max()) if end_s is None else end_s
    replicas = np.sort(iterations["replica"].unique())[:ROWS]
    bars = _bars(iterations[iterations["replica"].isin(replicas)], low_s, high_s)
    for kind, (name, color) in enumerate(KINDS):
        _draw(figure, bars[bars["kind"] == kind], name, color)
    figure.update_layout(barmode="overlay", bargap=0.3, height=140 + 24 * max(4, len(replicas)))
    figure.update_yaxes(tickvals=replicas, ticktext=[f"replica {r}" for r in replicas], autorange="reversed")
    return on_time(figure, low_s, high_s).update_layout(hovermode="closest")


def _draw(figure: go.Figure, rows: pd.DataFrame, name: str, color: str) -> None:
    if len(rows):
        figure.add_bar(
            base=rows["start_s"].to_numpy(),
            x=rows["duration_s"].to_numpy(dtype=np.float32),
            y=rows["replica"].to_numpy(dtype=np.int16),
            orientation="h",
            name=name,
            marker={"color": color, "line": {"width": 0}},
            customdata=rows[["count", "prefill_tokens", "decode_sequences"]].to_numpy(dtype=np.float32),
            hovertemplate="at %{base:.6g} s for %{x:.4g} s<br>%{customdata[0]:,.4g} passes, "
            "%{customdata[1]:,.0f} prompt tokens, batch %{customdata[2]:,.4g}",
        )


def _bars(iterations: pd.DataFrame, low_s: float, high_s: float) -> pd.DataFrame:
    """Cut the stretches at the window, and gather those of one pixel by their sort."""
    rows = iterations.assign(end_s=iterations["start_s"] + iterations["duration_s"])
    rows = rows[(rows["end_s"] > low_s) & (rows["start_s"] < high_s)].sort_values(["replica", "start_s"])
    begin_s = rows["start_s"].clip(lower=low_s)
    inside_s = rows["end_s"].clip(upper=high_s) - begin_s
    prefills = rows["prefill_tokens"].to_numpy() > 0
    kind = np.where(prefills, np.where(rows["decode_sequences"].to_numpy() > 0, 1, 2), 0)
    passes = rows["count"] * (inside_s / rows["duration_s"]).where(rows["duration_s"] > 0, 1.0)
    cut = rows[["replica", "prefill_tokens"]].assign(
        kind=kind, start_s=begin_s, duration_s=inside_s, count=passes, decode=rows["decode_sequences"]
    )
    return _placed(_gathered(cut, (high_s - low_s) * rows["replica"].nunique() * len(KINDS) / BARS))


def _gathered(cut: pd.DataFrame, pixel_s: float) -> pd.DataFrame:
    """Sum the stretches shorter than *pixel_s* that begin in the same pixel, by sort."""
    pixel = (cut["start_s"] // pixel_s).where(cut["duration_s"] < pixel_s, -1.0 - np.arange(len(cut)))
    group = ((pixel != pixel.shift()) | (cut["replica"] != cut["replica"].shift())).cumsum()
    cut = cut.assign(group=group, tokens=cut["decode"] * cut["count"])
    cut["start_s"] = cut.groupby("group")["start_s"].transform("min")
    sums = cut.groupby(["replica", "group", "start_s", "kind"], as_index=False)[
        ["duration_s", "count", "prefill_tokens", "tokens"]
    ].sum()
    return sums.assign(decode_sequences=sums["tokens"] / sums["count"])


def _placed(sums: pd.DataFrame) -> pd.DataFrame:
    """Set the bars of one group one after the other."""
    before_s = sums.groupby("group")["duration_s"].cumsum() - sums["duration_s"]
    return sums.assign(start_s=sums["start_s"] + before_s)
