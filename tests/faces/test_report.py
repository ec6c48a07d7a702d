"""Reports open offline and say the answer first; runs, sweeps and comparisons read back what was written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from plotly.offline import get_plotlyjs

from clustersim import explore
from clustersim.errors import ClusterSimError
from clustersim.record.summary import METRICS
from clustersim.report import write
from clustersim.report.parts import figures
from clustersim.results import Run, Sweep, answer, compare, open_results
from clustersim.results.comparison import T_975, student


@pytest.fixture(scope="module")
def run(sample_run_folder: Path) -> Run:
    return Run(sample_run_folder)


@pytest.fixture(scope="module")
def sweep(sample_sweep_folder: Path) -> Sweep:
    return Sweep(sample_sweep_folder)


@pytest.fixture(scope="module")
def run_page(run: Run, tmp_path_factory) -> Path:
    return write(run, tmp_path_factory.mktemp("page") / "deep" / "run.html")


@pytest.fixture(scope="module")
def sweep_page(sweep: Sweep, tmp_path_factory) -> Path:
    return write(sweep, tmp_path_factory.mktemp("page") / "sweep.html")


def own_text(page: Path) -> str:
    """Return the page without plotly.js, which it must hold exactly once."""
    text = page.read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == 1
    return text.replace(get_plotlyjs(), "")


@pytest.mark.parametrize("page", ["run_page", "sweep_page"])
def test_a_page_asks_the_network_for_nothing(page, request):
    text = own_text(request.getfixturevalue(page))
    assert not re.search(r"https?://|@import|url\(|<link|<img|<iframe|\bsrc=", text)
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text


@pytest.mark.parametrize("page", ["run_page", "sweep_page"])
def test_no_figure_of_a_page_offers_an_upload(page, request):
    config = re.search(r'id="config">(.*?)</script>', own_text(request.getfixturevalue(page)))
    assert json.loads(config[1])["showSendToCloud"] is False


def test_the_report_of_a_run_begins_with_its_answer_and_warnings(run, run_page):
    text = own_text(run_page)
    said = answer(run)
    assert said[0].startswith("2 replicas served")
    assert "met the SLO (TTFT ≤ 1 s, TPOT ≤ 30 ms)" in said[1]
    places = [
        text.index(words) for words in (said[0], "mi999: no measured kernels", "Throughput", "Timeline")
    ]
    assert places == sorted(places)
    assert "kind: prefill-first" in text
    for metric in METRICS:
        assert metric.doc.split("'")[0] in text


def test_the_report_of_a_sweep_names_the_winner_the_capacity_and_the_failure(sweep, sweep_page):
    text = own_text(sweep_page)
    best = sweep.points.loc[sweep.points["goodput_requests_per_s"].idxmax()]
    assert f"batching {best['serving.batching']}, rate {best['workload.rate']:g}" in answer(sweep)[0]
    for sentence in answer(sweep):
        assert sentence in text
    assert "the policy returned None" in text
    assert text.count("<tr class=") == len(sweep.points) == 6
    assert text.count('class="best"') == 1


def test_the_data_of_a_page_is_small(run_page, sweep_page):
    assert len(own_text(run_page)) < 500_000
    assert len(own_text(sweep_page)) < 1_000_000


def test_text_from_a_spec_cannot_break_out_of_the_page(sample_tables, sample_write, tmp_path):
    nasty = "</script><b onclick=x>"
    folder = sample_write(tmp_path / "nasty", sample_tables, name=nasty, warnings=[nasty], point={"a": nasty})
    text = own_text(write(Run(folder), tmp_path / "page.html"))
    assert "<b onclick" not in text


def test_a_run_without_power_slo_or_summary_is_reported(sample_tables, sample_write, tmp_path):
    tables = {name: sample_tables[name] for name in ("requests", "iterations", "token_gaps")}
    folder = sample_write(tmp_path / "bare", tables, slo=None, summary=None, versions=None)
    run = Run(folder)
    assert run.summary["finished"] == len(sample_tables["requests"])
    assert np.isnan(run.summary["energy_j"])
    assert "no power was metered" in own_text(write(run, tmp_path / "page.html"))


def test_a_run_without_passes_is_reported_and_explored(sample_tables, sample_write, tmp_path):
    requests, folder = sample_tables["requests"], tmp_path / "runs" / "bare"
    sample_write(folder, sample_tables)
    for name in ("iterations", "token_gaps"):
        (folder / f"{name}.parquet").unlink()
    assert own_text(write(Run(folder), tmp_path / "page.html")).count("no passes") == 4
    low_s, high_s, window_s = explore.span(Sweep(tmp_path / "runs"), "bare")
    assert low_s == requests["arrival_s"].min()
    assert high_s == requests["finish_s"].max()
    assert len(explore.moments(Sweep(tmp_path / "runs"), "bare", window_s)) == 3


def test_a_sweep_of_which_nothing_finished_is_reported(tmp_path):
    rows = [
        {"a": 1, "replication": 0, "status": "failed", "stage": "build", "message": "too big", "folder": "x"}
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "index.parquet")
    text = own_text(write(Sweep(tmp_path), tmp_path / "page.html"))
    assert "None of 1 runs finished." in text
    assert "too big" in text


@pytest.mark.parametrize("page", ["run_page", "sweep_page"])
def test_a_page_draws_its_figures_in_a_browser_without_network(page, request, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    file = request.getfixturevalue(page)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,5000"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=15000", "--enable-logging=stderr", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    shown = done.stdout.replace(get_plotlyjs(), "")
    assert "CONSOLE" not in done.stderr, done.stderr
    assert shown.count("js-plotly-plot") >= (13 if page == "run_page" else 6)


def test_every_figure_of_a_run_is_a_card_with_its_title(run):
    html = figures(run.figures())
    assert html.count('<section class="figure') == len(run.figures()) == 13
    for title in run.figures():
        assert f"<h3>{title}</h3>" in html


def test_a_run_reads_back_what_was_written(run, sample_tables):
    assert len(run.requests) == len(sample_tables["requests"])
    assert (run.requests["e2e_s"] >= run.requests["ttft_s"]).all()
    assert run.slo == {"ttft_s": 1.0, "tpot_s": 0.03}
    assert "throughput_tokens_per_s" in repr(run)
    assert "<table>" in run._repr_html_()


def test_a_sweep_without_index_is_gathered_from_its_runs(sample_sweep_folder, sweep, tmp_path):
    shutil.copytree(sample_sweep_folder, tmp_path / "copy")
    (tmp_path / "copy" / "index.parquet").unlink()
    gathered = Sweep(tmp_path / "copy")
    assert gathered.axes == sweep.axes == ["serving.batching", "workload.rate"]
    assert gathered.best().name == sweep.best().name
    assert len(gathered.done) == len(sweep.done) == 12
    assert len(sweep.failed) == 1


def test_rates_written_with_units_are_numbers_and_the_load():
    table = pd.DataFrame({"workload.rate": ["4 /s", "8 /s"], "status": "ok", "folder": ["a", "b"]})
    sweep = Sweep(".")
    sweep.__dict__["_read"] = table
    assert list(sweep.index["workload.rate"]) == [4.0, 8.0]
    assert sweep.load == "workload.rate"


def test_capacity_is_the_highest_load_that_holds_the_slo(sweep):
    table = sweep.capacity(0.9).set_index("serving.batching")["capacity"]
    points = sweep.points[sweep.points["slo_attainment_share"] >= 0.9]
    assert dict(table) == dict(points.groupby("serving.batching")["workload.rate"].max())


def test_a_folder_without_results_says_so(tmp_path):
    with pytest.raises(ClusterSimError, match=r"manifest\.json"):
        Run(tmp_path)
    with pytest.raises(ClusterSimError, match="no run was found"):
        _ = Sweep(tmp_path).index
    with pytest.raises(ClusterSimError, match="not a folder"):
        open_results(tmp_path / "absent")


def test_a_comparison_shows_only_what_differs(sweep):
    a, b = (sweep.runs[f"{policy}_rate-8_r0"] for policy in ("chunked", "prefill-first"))
    found = compare(a, b)
    assert list(found.spec.itertuples(index=False, name=None)) == [
        ("serving.batching.kind", "chunked", "prefill-first")
    ]
    assert found.replications == (2, 2)
    assert found.paired
    row = found.metrics.set_index("metric").loc["tpot_mean_s"]
    assert row["delta"] == pytest.approx(row["b"] - row["a"])
    assert row["low"] < row["delta"] < row["high"]
    assert "serving.batching.kind: chunked -> prefill-first" in found.text


def test_a_comparison_of_single_runs_claims_no_confidence(run, sweep):
    found = compare([run], [next(iter(sweep.runs.values()))])
    assert found.metrics["low"].isna().all()
    assert "no confidence interval" in found.text


def test_a_run_compared_with_itself_is_the_same(run):
    found = compare(run, run.folder)
    assert not len(found.spec)
    assert set(found.metrics["verdict"]) <= {"same", ""}


def test_a_sweep_is_not_one_setting(sweep, run):
    with pytest.raises(ClusterSimError, match="6 settings"):
        compare(run, sweep)


def test_pairs_take_the_luck_of_the_draw_out(sample_serve, sample_write, tmp_path):
    runs = {}
    for name, shift in (("a", 0.0), ("b", 0.01)):
        for replication in range(4):
            tables = sample_serve(40, 4.0 + 3 * replication, 1, seed=replication)
            columns = ["admitted_s", "first_token_s", "finish_s"]
            tables["requests"][columns] += shift
            said = {"experiment": {"shift": shift}, "replication": replication}
            folder = sample_write(tmp_path / name / str(replication), tables, **said)
            runs.setdefault(name, []).append(Run(folder))
    paired = compare(runs["a"], runs["b"]).metrics.set_index("metric").loc["ttft_mean_s"]
    apart = compare(runs["a"], runs["b"][:3]).metrics.set_index("metric").loc["ttft_mean_s"]
    assert paired["delta"] == pytest.approx(0.01)
    assert paired["high"] - paired["low"] < 1e-9
    assert paired["verdict"] == "worse"
    assert apart["high"] - apart["low"] > 1e-3


def test_quantiles_of_student_are_those_of_his_law():
    law = pytest.importorskip("scipy.stats", reason="scipy is not installed").t
    for freedom in [*range(1, len(T_975) + 1), 31, 60, 1000]:
        assert student(freedom) == pytest.approx(law.ppf(0.975, freedom), abs=6e-4)


def test_the_spec_of_a_report_reads_back_as_the_spec(run, run_page):
    text = re.search(r"<pre>(name: chat.*?)</pre>", own_text(run_page), re.DOTALL)
    assert yaml.safe_load(text[1]) == run.manifest["experiment"]
