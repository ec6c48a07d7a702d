"""What is asked and what is served over time. Functions of tables; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots import bins as exact
from clustersim.plots.theme import BLUE, GREEN, GREY, ORANGE, blank, faded, nothing, on_time
from clustersim.record import latency


def throughput_goodput(
    requests: pd.DataFrame, slo: Mapping[str, float | None] | None = None, bins: int = 80
) -> go.Figure:
    """Draw requests per second that arrived, that finished, and that finished within the SLO."""
    figure = blank("time (s)", "requests/s")
    done = latency.finished(requests)
    if not done.any():
        return nothing(figure, "no request finished")
    arrivals_s, ends_s = requests["arrival_s"].to_numpy(), requests["finish_s"].to_numpy()
    bounds_s = exact.edges(float(arrivals_s.min()), float(ends_s[done].max()), bins)
    _rate(figure, arrivals_s, bounds_s, ("arrived", GREY, None))
    _rate(figure, ends_s[done], bounds_s, ("finished", BLUE, None))
    if latency.limits(slo):
        _rate(figure, ends_s[latency.meets(requests, slo)], bounds_s, ("within the SLO", GREEN, "tozeroy"))
    return on_time(figure.update_yaxes(rangemode="tozero"), bounds_s[0], bounds_s[-1])


def arrivals(requests: pd.DataFrame, bins: int = 120) -> go.Figure:
    """Draw requests per second that arrived, and their prompt tokens per second."""
    figure = blank("time (s)", "requests/s")
    if not len(requests):
        return nothing(figure, "no requests")
    at_s = requests["arrival_s"].to_numpy()
    bounds_s = exact.edges(float(at_s.min()), float(at_s.max()), bins)
    _rate(figure, at_s, bounds_s, ("arrived", BLUE, "tozeroy"))
    return on_time(figure.update_yaxes(rangemode="tozero"), bounds_s[0], bounds_s[-1])


def token_rate(iterations: pd.DataFrame, bins: int = 300) -> go.Figure:
    """Draw tokens per second computed in prompts and generated in decoding, all replicas together."""
    figure = blank("time (s)", "tokens/s")
    if not len(iterations):
        return nothing(figure, "no passes")
    start_s, duration_s = iterations["start_s"].to_numpy(), iterations["duration_s"].to_numpy()
    bounds_s = exact.edges(float(start_s.min()), float((start_s + duration_s).max()), bins)
    speed = np.divide(
        iterations["prefill_tokens"].to_numpy(dtype=np.float64),
        duration_s,
        out=np.zeros(len(duration_s)),
        where=duration_s > 0,
    )
    prefill = exact.level_mean(bounds_s, start_s, duration_s, speed)
    decode = np.diff(_decoded(iterations, bounds_s)) / np.diff(bounds_s)
    for name, height, color in (("decode", decode, BLUE), ("prefill", prefill, ORANGE)):
        _steps(figure, bounds_s, height, {"name": name, "stackgroup": "one", "color": color})
    return on_time(figure.update_yaxes(rangemode="tozero"), bounds_s[0], bounds_s[-1])


def _decoded(iterations: pd.DataFrame, at_s: np.ndarray) -> np.ndarray:
    """Count the tokens decoded until each time, a pass in the making in proportion."""
    total = np.zeros(len(at_s))
    for _, rows in iterations.groupby("replica"):
        rows = rows.sort_values("start_s")
        track = exact.Track(rows["start_s"].to_numpy(), rows["duration_s"].to_numpy())
        count, batch = (rows[c].to_numpy(dtype=np.float64) for c in ("count", "decode_sequences"))
        step_s, growth_s = rows["step_s"].to_numpy(), rows["growth_s"].to_numpy()
        whole = np.concatenate([[0.0], np.cumsum(count * batch)])
        row, ran_s = track.place(at_s)
        known = np.maximum(row, 0)
        passes = np.minimum(exact.passes_done(ran_s, step_s[known], growth_s[known]), count[known])
        total += np.where(row >= 0, whole[known] + passes * batch[known], 0.0)
    return total


def _rate(
    figure: go.Figure, at_s: np.ndarray, bounds_s: np.ndarray, look: tuple[str, str, str | None]
) -> None:
    name, color, fill = look
    height = np.histogram(at_s, bounds_s)[0] / np.diff(bounds_s)
    _steps(figure, bounds_s, height, {"name": name, "color": color, "fill": fill})


def _steps(
    figure: go.Figure, bounds_s: np.ndarray, height: np.ndarray, look: Mapping[str, str | None]
) -> None:
    """Draw the mean of each bin as a step; the last is repeated at its end."""
    figure.add_scatter(
        x=bounds_s,
        y=np.append(height, height[-1]),
        mode="lines",
        name=look["name"],
        stackgroup=look.get("stackgroup"),
        fill=look.get("fill") or ("tonexty" if look.get("stackgroup") else None),
        fillcolor=faded(str(look["color"]), 0.28),
        line={"shape": "hv", "width": 1.5, "color": look["color"]},
        hovertemplate="%{y:.4g}",
    )
