"""The explorer's pages are functions of a sweep; they are asked here without a server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clustersim import explore
from clustersim.errors import ClusterSimError
from clustersim.results import Sweep


@pytest.fixture(scope="module")
def sweep(sample_sweep_folder: Path) -> Sweep:
    return Sweep(sample_sweep_folder)


def test_rows_are_found_by_words_and_by_tests(sweep):
    assert len(explore.rows(sweep)) == 12
    assert len(explore.rows(sweep, "CHUNK")) == 6
    assert set(explore.rows(sweep, "chunked rate>=8")["workload.rate"]) == {8.0, 12.0}
    assert len(explore.rows(sweep, "serving.batching=chunked replication=1")) == 3
    assert len(explore.rows(sweep, "ttft_p99_s<0")) == 0
    assert len(explore.rows(sweep, "rate>=eight")) == 0


def test_rows_are_sorted_with_the_best_first(sweep):
    waits, served = "ttft_p99_s", "goodput_requests_per_s"
    assert explore.rows(sweep, sort=waits)[waits].is_monotonic_increasing
    assert explore.rows(sweep, sort=served)[served].is_monotonic_decreasing


@pytest.mark.parametrize("column", explore.CURVES)
def test_each_chosen_run_has_a_curve_of_its_own_colour(sweep, column):
    names = list(sweep.runs)[:3]
    figure = explore.curves(sweep, names, column)
    assert [trace.name for trace in figure.data] == names
    assert len({trace.line.color for trace in figure.data}) == 3


def test_nothing_chosen_asks_for_a_choice(sweep):
    assert explore.curves(sweep, [], "ttft_s").layout.annotations[0].text == "choose runs"
    assert explore.differences(sweep, [])[2] == "Choose two runs to compare."
    table, figures = explore.watts(sweep, [])
    assert not len(table)
    assert not figures


def test_two_chosen_runs_are_compared_in_words(sweep):
    spec, metrics, basis = explore.differences(sweep, ["chunked_rate-8_r0", "prefill-first_rate-8_r0"])
    assert spec["field"].tolist() == ["serving.batching.kind"]
    assert "pair by pair" in basis
    assert metrics.set_index("metric").loc["Requests", "change"] == "+0.0%"


def test_the_time_line_shows_the_window_it_is_asked_for(sweep):
    name = next(iter(sweep.runs))
    low_s, high_s, window_s = explore.span(sweep, name)
    assert low_s <= window_s[0] < window_s[1] <= high_s + 1e-3
    for figure in explore.moments(sweep, name, [2.0, 4.0]):
        assert tuple(figure.layout.xaxis.range) == (2.0, 4.0)


def test_power_names_the_energy_of_each_chosen_run(sweep):
    names = list(sweep.runs)[:2]
    table, figures = explore.watts(sweep, names)
    assert list(table["run"]) == names
    assert [figure.layout.title.text for figure in figures] == names


def test_the_app_is_built_and_asks_the_network_for_nothing(sample_sweep_folder):
    pytest.importorskip("dash", reason="dash is not installed")
    page = explore.app(sample_sweep_folder)
    client = page.server.test_client()
    html = client.get("/").get_data(as_text=True)
    assert 'src="http' not in html
    assert 'href="http' not in html
    assert b"chosen" in client.get("/_dash-layout").data
    assert len(page.callback_map) == 6


def test_without_dash_the_explorer_says_what_to_install(sample_sweep_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "dash", None)
    with pytest.raises(ClusterSimError, match=r"pip install 'clustersim\[explore\]'"):
        explore.app(sample_sweep_folder)


def test_a_folder_without_runs_says_so(tmp_path):
    pytest.importorskip("dash", reason="dash is not installed")
    with pytest.raises(ClusterSimError, match="no run was found"):
        explore.app(tmp_path)
