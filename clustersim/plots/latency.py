"""Who waits how long: distribution curves of latencies. Functions of tables; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots.theme import BLUE, GREY, SPREAD, VERMILION, blank, colors, nothing, scale
from clustersim.record import intertoken, words

POINTS: Final = 2000
"""Most points of a curve: what is left out is thinner than a pixel."""
WORDS: Final = {
    "ttft_s": "time to first token (s)",
    "tpot_s": "time per output token (s)",
    "e2e_s": "time to last token (s)",
    "queue_s": "time in the queue (s)",
    "itl_s": "time between tokens (s)",
}
MARKS: Final = {"p50": 0.5, "p99": 0.99}
"""The quantiles that are written at a curve."""


def latency_cdf(requests: pd.DataFrame, column: str = "ttft_s", slo: float | None = None) -> go.Figure:
    """Draw the share of requests no slower than x, and the limit of the SLO with the share that meets it."""
    values = np.sort(requests[column].to_numpy(dtype=np.float64))
    values = values[~np.isnan(values)]
    figure = blank(WORDS.get(column, column), "share of requests")
    if not len(values):
        return nothing(figure, "no request finished")
    picked = _ranks(len(values))
    _curve(figure, values[picked], (picked + 1) / len(values), np.quantile(values, list(MARKS.values())))
    return figure if slo is None else _limit(figure, slo, float(np.mean(values <= slo)))


def itl_cdf(iterations: pd.DataFrame, gaps: pd.DataFrame, slo: float | None = None) -> go.Figure:
    """Draw the share of all tokens that came no later than x after the one before; every point is exact."""
    data = intertoken.samples(iterations, gaps)
    figure = blank(WORDS["itl_s"], "share of tokens")
    if not data.total:
        return nothing(figure, "no sequence has two tokens")
    x, y = intertoken.curve(data, POINTS)
    _curve(figure, x, y, intertoken.quantiles(data, list(MARKS.values())))
    return figure if slo is None else _limit(figure, slo, float(np.interp(slo, x, y, left=0.0)))


def overlay(figures: Mapping[str, go.Figure]) -> go.Figure:
    """Lay the curves of several figures over one another, one colour and one legend entry each."""
    first = next(iter(figures.values()))
    drawn = go.Figure(layout=first.layout)
    for (name, figure), color in zip(figures.items(), colors(figures).values(), strict=True):
        for trace in figure.data:
            if trace.mode == "lines":
                drawn.add_trace(trace).data[-1].update(name=name, line_color=color, showlegend=True)
    ends = [float(np.max(trace.x)) for trace in drawn.data]
    middles = [float(trace.x[len(trace.x) // 2]) for trace in drawn.data]
    return scale("x", drawn, bool(ends) and min(middles) > 0 and max(ends) > SPREAD * min(middles))


def _ranks(count: int) -> np.ndarray:
    """Return which of *count* sorted values to draw: evenly spread ones, and more towards the last."""
    if count <= POINTS:
        return np.arange(count)
    even = np.linspace(0, count - 1, POINTS - POINTS // 4)
    tail = count - np.geomspace(1, count / 10, POINTS // 4)
    return np.unique(np.concatenate([even, tail]).astype(np.int64))


def _curve(figure: go.Figure, x: np.ndarray, y: np.ndarray, marks: np.ndarray) -> None:
    is_log = bool(x[0] > 0 and x[-1] > SPREAD * marks[0])
    start = x[0] if is_log else 0.0
    figure.add_scatter(
        x=np.concatenate([[start], x]),
        y=np.concatenate([[0.0], y]),
        mode="lines",
        line={"shape": "hv", "width": 2, "color": BLUE},
        hovertemplate="%{y:.2%} within %{x:.4g} s<extra></extra>",
        showlegend=False,
    )
    scale("x", figure, is_log)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    for (word, share), value in zip(MARKS.items(), marks, strict=True):
        is_right = not is_log and value > 0.75 * x[-1]
        _mark(figure, (float(value), share), f"{word} {words.seconds(float(value))}", bool(is_right))


def _mark(figure: go.Figure, place: tuple[float, float], text: str, is_right: bool) -> None:
    figure.add_scatter(
        x=[place[0]],
        y=[place[1]],
        mode="markers+text",
        text=text,
        textposition="bottom left" if is_right else "bottom right",
        cliponaxis=False,
        marker={"size": 7, "color": BLUE},
        hovertemplate=f"{text}<extra></extra>",
        showlegend=False,
    )


def _limit(figure: go.Figure, slo: float, share: float) -> go.Figure:
    figure.add_vline(x=slo, line={"color": VERMILION, "width": 1.5, "dash": "dash"})
    return figure.add_annotation(
        x=np.log10(slo) if figure.layout.xaxis.type == "log" else slo,
        y=0.04,
        yanchor="bottom",
        xanchor="left",
        showarrow=False,
        font={"color": VERMILION, "size": 12},
        text=f" SLO {words.seconds(slo)}: {words.share(share)}",
    )


def lengths(requests: pd.DataFrame) -> go.Figure:
    """Draw the distribution of prompt and output tokens of all requests."""
    figure = blank("tokens of a request", "share of requests")
    if not len(requests):
        return nothing(figure, "no requests")
    for column, word, color in (("prompt_tokens", "prompt", GREY), ("output_tokens", "output", BLUE)):
        values = np.sort(requests[column].to_numpy())
        picked = _ranks(len(values))
        figure.add_scatter(
            x=values[picked],
            y=(picked + 1) / len(values),
            mode="lines",
            line={"shape": "hv", "width": 2, "color": color},
            name=f"{word}, mean {values.mean():,.0f}",
            hovertemplate="%{y:.1%} have at most %{x:,} tokens",
        )
    return figure.update_xaxes(type="log").update_yaxes(tickformat=".0%", range=[0, 1.02])
