"""Figures keep what they draw: areas add up, points are few, and every axis says its unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from clustersim import plots
from clustersim.plots import bins
from clustersim.record.latency import latencies
from clustersim.record.tables import TABLES

SLO = {"ttft_s": 0.2, "tpot_s": 0.012}


@pytest.fixture(scope="module")
def tables(sample_tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    requests = sample_tables["requests"]
    return sample_tables | {"requests": requests.assign(**latencies(requests))}


@pytest.fixture(scope="module")
def figures(tables: dict[str, pd.DataFrame]) -> dict[str, go.Figure]:
    requests, steps = tables["requests"], tables["iterations"]
    return {
        "ttft": plots.latency_cdf(requests, "ttft_s", 0.2),
        "itl": plots.itl_cdf(steps, tables["token_gaps"], 0.05),
        "goodput": plots.throughput_goodput(requests, SLO),
        "arrivals": plots.arrivals(requests),
        "tokens": plots.token_rate(steps),
        "batch": plots.batch_and_queue(steps),
        "kv": plots.kv_cache(steps, 2000, tables["events"]),
        "breakdown": plots.breakdown(steps),
        "timeline": plots.timeline(steps),
        "power": plots.power(tables["power"], 120.0),
        "lengths": plots.lengths(requests),
    }


def area(trace: go.Scatter) -> float:
    """Integrate a curve of steps."""
    return float(np.dot(np.asarray(trace.y)[:-1], np.diff(np.asarray(trace.x))))


def test_no_curve_has_more_points_than_a_screen(figures):
    for name, figure in figures.items():
        for trace in figure.data:
            assert len(trace.x) <= 2001 or trace.type == "bar", name


def test_every_axis_of_a_figure_with_numbers_has_a_title(figures):
    for name, figure in figures.items():
        titles = [axis.title.text for axis in figure.select_xaxes()] + [
            axis.title.text for axis in figure.select_yaxes()
        ]
        assert any(titles), name
        assert any("(s)" in str(t) or "(ms)" in str(t) or "token" in str(t) for t in titles), name


def test_shares_and_power_are_drawn_from_zero(figures):
    for name in ("ttft", "itl", "kv", "lengths"):
        assert figures[name].layout.yaxis.range[0] == 0, name
    for name in ("goodput", "tokens", "batch", "power"):
        assert figures[name].layout.yaxis.rangemode == "tozero", name


def test_the_area_of_power_is_the_energy(figures, tables):
    energy_j = float((tables["power"]["power_w"] * tables["power"]["duration_s"]).sum())
    assert sum(map(area, figures["power"].data)) * 1e3 == pytest.approx(energy_j, rel=1e-9)


def test_the_area_of_tokens_is_the_tokens(figures, tables):
    steps = tables["iterations"]
    decode, prefill = figures["tokens"].data
    assert area(decode) == pytest.approx((steps["count"] * steps["decode_sequences"]).sum(), rel=1e-9)
    assert area(prefill) == pytest.approx(steps["prefill_tokens"].sum(), rel=1e-9)


def test_the_area_of_the_batch_is_the_time_of_all_sequences(figures, tables):
    steps = tables["iterations"]
    whole = (steps["decode_sequences"] * steps["duration_s"]).sum()
    assert area(figures["batch"].data[0]) == pytest.approx(whole, rel=1e-9)


def test_requests_over_time_add_up(figures, tables):
    arrived, finished, met = map(area, figures["goodput"].data)
    assert round(arrived) == round(finished) == len(tables["requests"])
    within = (tables["requests"]["ttft_s"] <= 0.2) & ~(tables["requests"]["tpot_s"] > 0.012)
    assert round(met) == within.sum()


def test_bars_of_the_time_line_keep_the_time_of_each_sort_of_pass(tables):
    steps = pd.concat([tables["iterations"]] * 12).sort_values(["replica", "start_s"], kind="stable")
    steps = steps.assign(start_s=steps.groupby("replica")["duration_s"].cumsum() - steps["duration_s"])
    figure = plots.timeline(steps)
    shown = {trace.name: float(np.sum(trace.x, dtype=float)) for trace in figure.data}
    prefill = steps["prefill_tokens"] > 0
    assert len(steps) > sum(len(trace.x) for trace in figure.data)
    assert shown["prefill"] == pytest.approx(steps.loc[prefill, "duration_s"].sum(), rel=1e-5)
    assert shown["decode"] == pytest.approx(steps.loc[~prefill, "duration_s"].sum(), rel=1e-5)


def test_bars_of_a_replica_do_not_overlap(figures):
    bars = [
        pd.DataFrame({"base": trace.base, "x": np.asarray(trace.x, dtype=float), "y": trace.y})
        for trace in figures["timeline"].data
    ]
    for _, rows in pd.concat(bars).sort_values("base").groupby("y"):
        ends_s = (rows["base"] + rows["x"]).to_numpy()[:-1]
        assert (ends_s <= rows["base"].to_numpy()[1:] + 1e-6).all()


def test_a_window_of_the_time_line_cuts_stretches_at_its_edges(tables):
    figure = plots.timeline(tables["iterations"], 5.0, 6.0)
    for trace in figure.data:
        assert min(trace.base) >= 5.0
        assert max(np.asarray(trace.base) + np.asarray(trace.x)) <= 6.0 + 1e-6


def test_parts_of_a_pass_add_up_to_its_time(figures, tables):
    steps = tables["iterations"]
    of_all = sum(float(trace.x[-1]) for trace in figures["breakdown"].data)
    assert of_all == pytest.approx(steps["duration_s"].sum() / steps["count"].sum() * 1e3, rel=1e-5)


def test_a_bin_of_what_overlaps_is_its_exact_mean():
    bounds_s = np.array([0.0, 1.0, 2.0, 4.0])
    mean = bins.level_mean(bounds_s, [0.5, 0.0, 3.0], [1.0, 4.0, 0.5], [2.0, 1.0, 8.0])
    assert mean == pytest.approx([2.0, 2.0, 3.0])


def test_a_line_that_rises_and_holds_is_integrated_exactly():
    track = bins.Track(np.array([0.0, 3.0]), np.array([2.0, 1.0]))
    total = bins.line_integral(np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), track, np.array([4.0, 0.0]))
    assert total == pytest.approx([0.0, 0.0, 1.0, 4.0, 8.0, 10.0, 10.0])


def test_the_peak_of_a_line_is_seen_in_every_bin_it_spans():
    track = bins.Track(np.array([0.0, 3.0]), np.array([2.0, 1.0]))
    top = bins.line_peaks(np.array([0.0, 1.0, 1.5, 2.5, 2.9, 3.5, 4.5, 6.0]), track, np.array([4.0, 0.0]))
    assert top == pytest.approx([2.0, 3.0, 4.0, 4.0, 4.0, 2.0, 0.0])


def test_passes_done_follow_the_sum_of_growing_steps():
    done = np.array([1.0, 5.0, 20.0])
    ran_s = 0.01 * done + 1e-4 * done * (done - 1) / 2
    assert bins.passes_done(ran_s, np.full(3, 0.01), np.full(3, 1e-4)) == pytest.approx(done)
    assert bins.passes_done(0.01 * done, np.full(3, 0.01), np.zeros(3)) == pytest.approx(done)


def test_the_front_holds_whom_nobody_beats_in_both():
    index = pd.DataFrame(
        {"ttft_p99_s": [1.0, 2.0, 3.0, 1.0, 4.0], "throughput_tokens_per_s": [10.0, 30.0, 20.0, 5.0, 30.0]}
    )
    assert list(plots.front(index, "ttft_p99_s", "throughput_tokens_per_s").index) == [0, 1]


def test_points_of_a_pareto_say_what_differs():
    index = pd.DataFrame(
        {"ttft_p99_s": [1.0, 2.0], "throughput_tokens_per_s": [1.0, 2.0], "p": ["a", "b"], "q": [3, 4]}
    )
    figure = plots.pareto(index, "ttft_p99_s", "throughput_tokens_per_s", "p", ["p", "q"])
    assert figure.data[1].customdata[0] == "p: a<br>q: 3"
    assert figure.layout.xaxis.title.text == "TTFT p99 (s)"


def test_replications_of_a_point_are_one_point_with_its_range():
    index = pd.DataFrame({"rate": [1.0, 1.0, 2.0, 2.0], "slo_attainment_share": [0.9, 1.0, 0.5, 0.7]})
    (curve,) = plots.slo_curve(index, "rate").data
    assert list(curve.y) == pytest.approx([0.95, 0.6])
    assert list(curve.error_y.array) == pytest.approx([0.05, 0.1])


def test_long_logs_are_thinned_and_keep_their_tail():
    random = np.random.default_rng(0)
    requests = pd.DataFrame({"ttft_s": random.exponential(1.0, 100_000)})
    x = plots.latency_cdf(requests).data[0].x
    assert len(x) <= 2001
    assert x[-1] == requests["ttft_s"].max()


def test_empty_tables_draw_a_figure_that_says_why():
    empty = {name: pd.DataFrame(columns=list(table.names)) for name, table in TABLES.items()}
    empty["requests"] = empty["requests"].assign(ttft_s=[])
    drawn = [
        plots.latency_cdf(empty["requests"]),
        plots.itl_cdf(empty["iterations"], empty["token_gaps"]),
        plots.throughput_goodput(empty["requests"], SLO),
        plots.arrivals(empty["requests"]),
        plots.token_rate(empty["iterations"]),
        plots.batch_and_queue(empty["iterations"]),
        plots.kv_cache(empty["iterations"], 10),
        plots.breakdown(empty["iterations"]),
        plots.timeline(empty["iterations"]),
        plots.power(empty["power"]),
        plots.lengths(empty["requests"]),
        plots.pareto(pd.DataFrame({"a": [np.nan], "b": [1.0]}), "a", "b"),
        plots.slo_curve(pd.DataFrame({"rate": [1.0], "slo_attainment_share": [np.nan]}), "rate"),
    ]
    for figure in drawn:
        assert len(figure.data) == 0
        assert figure.layout.annotations[0].text


def test_no_figure_offers_to_upload_itself():
    assert plots.CONFIG["showSendToCloud"] is False
    assert plots.CONFIG["displaylogo"] is False
