"""Laws of the summary: exact quantiles, shares that add up, and silence where there is nothing to measure."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import UnknownNameError
from clustersim.record import intertoken
from clustersim.record.summary import METRICS, title
from clustersim.record.tables import TABLES
from clustersim.results.metrics import summary
from clustersim.sim.simulation import simulate
from clustersim.spec.experiment import Experiment

SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)
STRETCH = st.tuples(
    st.integers(1, 40),  # count
    st.floats(1e-4, 2.0),  # step_s
    st.one_of(st.just(0.0), st.floats(1e-9, 1e-2)),  # growth_s
    st.integers(0, 5),  # decode_sequences
    st.integers(0, 5),  # fresh_sequences
)
LENGTHS = {"kind": "uniform", "low": 1, "high": 90}
GAP = st.tuples(st.floats(1e-3, 100.0), st.integers(0, 3))


def stretches(rows: list[tuple[int, float, float, int, int]]) -> dict[str, np.ndarray]:
    names = ("count", "step_s", "growth_s", "decode_sequences", "fresh_sequences")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    kinds = (np.int32, float, float, np.int32, np.int32)
    return {n: np.array(c, dtype=k) for n, c, k in zip(names, columns, kinds, strict=True)}


def stalls(rows: list[tuple[float, int]]) -> dict[str, np.ndarray]:
    gap_s, sequences = zip(*rows, strict=True) if rows else ((), ())
    return {"gap_s": np.array(gap_s, dtype=float), "sequences": np.array(sequences, dtype=np.int64)}


def every_token(rows: list[tuple[int, float, float, int, int]], gaps: list[tuple[float, int]]) -> list[float]:
    """Write down the wait of each token, one by one."""
    waits = [gap_s for gap_s, sequences in gaps for _ in range(sequences)]
    for count, step_s, growth_s, decoding, fresh in rows:
        waits += [step_s] * fresh
        waits += [step_s + i * growth_s for i in range(1, count) for _ in range(decoding)]
    return waits


@given(st.lists(STRETCH, max_size=8), st.lists(GAP, max_size=6), st.integers(1, 50))
def test_inter_token_quantiles_are_those_of_all_tokens_one_by_one(rows, gaps, block):
    waits = every_token(rows, gaps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intertoken, "BLOCK", block)
        data = intertoken.samples(stretches(rows), stalls(gaps))
        found = intertoken.quantiles(data, SHARES)
    assert data.total == len(waits)
    if waits:
        np.testing.assert_allclose(found, np.quantile(waits, SHARES), rtol=1e-12)
        assert data.mean_s == pytest.approx(np.mean(waits), rel=1e-12)
    else:
        assert np.isnan(found).all()
        assert math.isnan(data.mean_s)


@given(st.lists(STRETCH, min_size=1, max_size=8), st.lists(GAP, max_size=6))
@settings(max_examples=50)
def test_every_point_of_the_inter_token_curve_is_exact(rows, gaps):
    waits = np.array(every_token(rows, gaps))
    x, y = intertoken.curve(intertoken.samples(stretches(rows), stalls(gaps)), 20)
    assert len(x) <= 20
    for edge, share in zip(x, y, strict=True):
        assert share == pytest.approx(np.mean(waits <= edge), abs=1e-12)
    if len(waits):
        assert y[-1] == 1.0


def test_fourteen_million_passes_take_less_than_three_cpu_seconds():
    random, rows = np.random.default_rng(1), 100_000
    table = {
        "step_s": random.gamma(9, 0.003, rows),
        "growth_s": random.random(rows) * 1e-5,
        "count": np.full(rows, 140),
        "decode_sequences": random.integers(0, 200, rows),
        "fresh_sequences": random.integers(0, 200, rows),
    }
    start_s = time.process_time()
    found = intertoken.quantiles(intertoken.samples(table, stalls([(9.0, 4)])), (0.5, 0.9, 0.99))
    assert time.process_time() - start_s < 3.0
    assert 0.005 < found[0] < found[1] < found[2] < 0.2


def test_more_tokens_than_a_short_integer_holds_are_counted():
    data = intertoken.samples(stretches([(100_000, 0.01, 1e-9, 50_000, 50_000)] * 2), stalls([]))
    assert data.total == 2 * 100_000 * 50_000
    assert intertoken.quantiles(data, (0.5,))[0] == pytest.approx(0.01 + 1e-9 * 49_999.5, rel=1e-12)


def run_tables() -> dict[str, dict[str, np.ndarray]]:
    """Write down a run of three requests that one can follow by hand."""
    requests = {
        "request": np.arange(4),
        "replica": np.array([0, 0, 0, -1]),
        "arrival_s": np.array([0.0, 1.0, 2.0, 3.0]),
        "admitted_s": np.array([0.0, 1.5, 2.0, np.nan]),
        "first_token_s": np.array([1.0, 2.0, 4.0, np.nan]),
        "finish_s": np.array([5.0, 2.0, 10.0, np.nan]),
        "prompt_tokens": np.array([10, 20, 30, 40]),
        "output_tokens": np.array([5, 1, 4, 7]),
        "cached_tokens": np.zeros(4, dtype=np.int64),
        "preemptions": np.array([0, 0, 2, 0]),
        "tenant": np.array([""] * 4, dtype=object),
        "status": np.array(["finished"] * 3 + ["rejected"], dtype=object),
    }
    iterations = {column: np.zeros(2) for column in TABLES["iterations"].names}
    iterations |= {"count": np.array([4, 1]), "decode_sequences": np.array([2, 7]), "step_s": np.ones(2)}
    iterations |= {"fresh_sequences": np.array([2, 7]), "duration_s": np.array([4.0, 1.0])}
    iterations |= {"kv_blocks": np.array([30, 80])}
    power = {
        "domain": np.array(["a", "a", "b", "b"], dtype=object),
        "start_s": np.array([0.0, 5.0, 0.0, 5.0]),
        "duration_s": np.full(4, 5.0),
        "power_w": np.array([100.0, 300.0, 100.0, 100.0]),
    }
    return {"requests": requests, "iterations": iterations, "power": power}


def test_the_summary_of_a_run_that_one_can_follow_by_hand():
    context = {
        "replicas": 2,
        "accelerators": 4,
        "kv_blocks_total": 100,
        "slo": {"ttft_s": 1.0, "tpot_s": None},
    }
    found = summary(run_tables(), context)
    assert found["duration_s"] == 10.0
    assert (found["requests"], found["finished"], found["rejected"]) == (4, 3, 1)
    assert found["request_rate_per_s"] == 1.0
    assert found["throughput_tokens_per_s"] == 1.0
    assert found["throughput_tokens_per_s_per_accelerator"] == 0.25
    assert found["total_tokens_per_s"] == 7.0
    assert found["ttft_p50_s"] == 1.0
    assert found["tpot_mean_s"] == pytest.approx((1.0 + 2.0) / 2)
    assert found["queue_mean_s"] == pytest.approx(0.5 / 3)
    assert found["goodput_requests_per_s"] == pytest.approx(0.2)
    assert found["slo_attainment_share"] == 0.5
    assert found["batch_mean_sequences"] == 3.0
    assert found["busy_share"] == 0.25
    assert found["kv_peak_share"] == 0.8
    assert found["preemptions"] == 2
    assert found["energy_j"] == 3000.0
    assert found["energy_j_per_token"] == 300.0
    assert found["mean_power_w"] == 300.0


def test_a_request_of_one_token_cannot_miss_the_time_per_output_token():
    found = summary(run_tables(), {"slo": {"tpot_s": 1e-9}})
    assert found["slo_attainment_share"] == 0.25


def test_without_slo_there_is_no_goodput():
    found = summary(run_tables(), {"slo": {"ttft_s": None}})
    assert math.isnan(found["goodput_requests_per_s"])
    assert math.isnan(found["slo_attainment_share"])


def test_a_limit_that_no_request_has_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="ttft_s"):
        summary(run_tables(), {"slo": {"ttfs_s": 1.0}})


def test_an_empty_run_has_every_key_and_no_number_but_zeros():
    found = summary({}, {"slo": {"ttft_s": 1.0}, "replicas": 1, "kv_blocks_total": 10})
    assert list(found) == [metric.name for metric in METRICS]
    assert {name for name, value in found.items() if not math.isnan(value)} == {
        "requests",
        "finished",
        "rejected",
        "preemptions",
    }


def test_nothing_finished_leaves_the_rest_silent():
    tables = run_tables()
    tables["requests"]["status"][:] = "dropped"
    found = summary(tables, {"slo": {"ttft_s": 1.0}, "replicas": 1})
    assert found["rejected"] == 4
    assert found["slo_attainment_share"] == 0.0
    assert math.isnan(found["throughput_tokens_per_s"])
    assert math.isnan(found["ttft_p99_s"])


def test_every_metric_says_its_unit_in_its_name():
    endings = {"s": "_s", "J": "_j", "W": "_w", "share": "_share", "requests/s": "_per_s"}
    for metric in METRICS:
        ending = endings.get(metric.unit)
        assert ending is None or metric.name.endswith((ending, ending + "_per_token")), metric.name
        assert metric.doc.endswith("."), metric.name
    assert title("ttft_p99_s") == "TTFT p99 (s)"
    assert title("serving.batching") == "serving.batching"


@pytest.mark.parametrize("batching", ["chunked", "prefill-first", "orca", "shortest-first", "mlfq"])
def test_waits_between_tokens_are_as_many_and_as_long_as_the_requests_say(batching):
    experiment = Experiment.model_validate(
        {
            "name": "law",
            "cluster": {"node": "dgx-h100"},
            "serving": {"model": "llama-3.1-8b", "batching": batching},
            "workload": {"requests": 120, "rate": 30.0, "prompt": 700, "output": LENGTHS},
        }
    )
    tables = simulate(experiment).tables
    requests, data = tables["requests"], intertoken.samples(tables["iterations"], tables["token_gaps"])
    done = requests["status"] == "finished"
    assert data.total == (requests["output_tokens"][done] - 1).sum()
    whole_s = (requests["finish_s"] - requests["first_token_s"])[done].sum()
    assert data.mean_s * data.total == pytest.approx(whole_s, rel=1e-9)
