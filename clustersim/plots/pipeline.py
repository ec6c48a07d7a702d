"""What every stage of a pipeline does when, and where it waits. No I/O."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, blank, faded, nothing, on_time

KINDS: Final = (
    ("F", "forward", BLUE),
    ("B", "backward, inputs", GREEN),
    ("W", "backward, weights", ORANGE),
    ("BW", "backward", PURPLE),
)
BARS: Final = 20_000
"""The most bars of a figure."""
SORTS: Final = 2 * len(KINDS) + 3
"""The most bars that one stage draws in one pixel: those of short passes by kind and lane, and long ones."""
FAINTEST: Final = 0.45
"""Opacity of the last chunk."""
OUTLINED: Final = 4_000
"""Up to so many bars have an outline."""


def pipeline(passes: pd.DataFrame) -> go.Figure:
    """Draw the passes of a time line (``Timeline.table``); what stays grey is the bubble.

    Passes shorter than a pixel are drawn together, one bar for each sort: the widths of the bars of a sort
    always add up to the time that it took.
    """
    figure = blank("time (s)", "")
    if not len(passes):
        return nothing(figure, "no passes")
    rows = passes.assign(end_s=passes["start_s"] + passes["duration_s"], lane=_lanes(passes), count=1)
    spans = rows.groupby("stage").agg(start_s=("start_s", "min"), end_s=("end_s", "max"))
    figure.add_bar(**_bubbles(spans))
    bars = _gathered(rows, float(rows["end_s"].max() - rows["start_s"].min()))
    chunks = int(passes["chunk"].max()) + 1
    for kind, name, color in KINDS:
        _draw(figure, bars[bars["kind"] == kind], f"{name} ({kind})", (color, chunks))
    if len(bars) <= OUTLINED:
        figure.update_traces(marker_line={"width": 0.5, "color": "rgba(255, 255, 255, 0.7)"})
    stages = spans.index.to_numpy()
    figure.update_layout(barmode="overlay", height=140 + 24 * max(4, len(stages)), hovermode="closest")
    figure.update_yaxes(tickvals=stages, ticktext=[f"stage {s}" for s in stages], autorange="reversed")
    return on_time(figure, float(rows["start_s"].min()), float(rows["end_s"].max()))


def _lanes(passes: pd.DataFrame) -> np.ndarray:
    """Return where a bar lies: in the middle, or above or below it where two passes overlap."""
    side = np.where(passes["kind"].to_numpy() == "F", -1, 1)
    return np.where(passes["is_overlapped"].to_numpy(bool), side, 0)


def _bubbles(spans: pd.DataFrame) -> dict[str, Any]:
    """Return the ground on which the passes of every stage lie."""
    return {
        "base": spans["start_s"].to_numpy(),
        "x": (spans["end_s"] - spans["start_s"]).to_numpy(),
        "y": spans.index.to_numpy(),
        "width": 0.8,
        "orientation": "h",
        "name": "bubble",
        "marker": {"color": faded(GREY, 0.3), "line": {"width": 0}},
        "hoverinfo": "skip",
    }


def _gathered(rows: pd.DataFrame, span_s: float) -> pd.DataFrame:
    """Sum the passes shorter than a pixel that begin in the same one, by sort, and set them side by side."""
    rows = rows.sort_values(["stage", "lane", "start_s"], kind="stable")
    stages = rows["stage"].nunique()
    if len(rows) + stages <= BARS:
        return rows
    pixel_s = span_s * stages * SORTS / (BARS - stages * (SORTS + 1))
    pixel = (rows["start_s"] // pixel_s).where(rows["duration_s"] < pixel_s, -1.0 - np.arange(len(rows)))
    same = (pixel == pixel.shift()) & (rows["stage"] == rows["stage"].shift())
    rows = rows.assign(group=(~same | (rows["lane"] != rows["lane"].shift())).cumsum())
    rows["start_s"] = rows.groupby("group")["start_s"].transform("min")
    keys = ["stage", "lane", "group", "start_s", "kind"]
    total = {"duration_s": "sum", "count": "sum", "microbatch": "min", "chunk": "min"}
    sums = rows.groupby(keys, as_index=False).agg(total)
    before_s = sums.groupby("group")["duration_s"].cumsum() - sums["duration_s"]
    return sums.assign(start_s=sums["start_s"] + before_s)


def _draw(figure: go.Figure, bars: pd.DataFrame, name: str, look: tuple[str, int]) -> None:
    """Draw the bars of one kind, later chunks fainter."""
    color, chunks = look
    for chunk, rows in bars.groupby("chunk"):
        alpha = 1.0 - (1.0 - FAINTEST) * int(str(chunk)) / max(chunks - 1, 1)
        lane = rows["lane"].to_numpy()
        figure.add_bar(
            base=rows["start_s"].to_numpy(),
            x=rows["duration_s"].to_numpy(),
            y=rows["stage"].to_numpy() + 0.2 * lane,
            width=np.where(lane == 0, 0.8, 0.4),
            orientation="h",
            name=name,
            legendgroup=name,
            showlegend=bool(chunk == bars["chunk"].min()),
            marker={"color": faded(color, alpha), "line": {"width": 0}},
            customdata=rows[["microbatch", "chunk", "count"]].to_numpy(),
            hovertemplate="microbatch %{customdata[0]}, chunk %{customdata[1]}: %{base:.6g} s for %{x:.4g} s"
            " (%{customdata[2]} passes)",
        )
