"""The published serving tables: whole engines simulated against what was measured, or what a peer answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simpy

from clustersim.cost.passes import PassShape
from clustersim.policies.admission import Always
from clustersim.policies.batching import Chunked
from clustersim.policies.routing import RoundRobin
from clustersim.published import replay, rerun, serving, vidur
from clustersim.rng import Streams
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from clustersim.spec.precision import Precision
from tests import fleets

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

CLOSED, OFFLINE = "serving/inferencex_aic.csv.gz", "serving/trtllm_offline.csv"
ANSWERS = "peers/serving/vidur_realattn_7b_tp1_sarathi_q3_n1000.csv.gz"


def measured(*files: str) -> Path:
    for file in files:
        if not (DATA / file).exists():
            pytest.skip(f"the measurements {file} are not beside this checkout")
    return DATA


class Fixed:
    """A price that remembers what it was asked."""

    def __init__(self, seconds: float):
        self.each_s = seconds
        self.asked: list[PassShape] = []

    def seconds(self, shape: PassShape) -> float:
        self.asked.append(shape)
        return self.each_s


def priced(price, load, **rules):
    """Serve *load* with one replica whose passes are priced by *price*."""
    batching = Chunked(**{"max_batch": 8, "token_budget": 64} | rules)
    memory = Memory(100, 16)
    plan = FleetPlan(1, fleets.prices(), memory, batching, RoundRobin(), Always(), price=price)
    env = simpy.Environment()
    made = Fleet(env, plan, load, Streams(0))
    env.process(made.serve())
    env.run()
    made.log.flush()
    made.check_done()
    return made


def test_a_price_written_in_python_decides_how_long_each_pass_takes():
    price = Fixed(0.01)
    made = priced(price, fleets.requests([0.0], [100], [5]))
    assert made.state.req_t[0, state.FIRST_S] == pytest.approx(0.02)  # 64 + 36 prompt tokens
    assert made.state.req_t[0, state.FINISH_S] == pytest.approx(0.06)
    rows = made.log.iterations()
    parts = rows["compute_s"] + rows["memory_s"] + rows["network_s"] + rows["overhead_s"]
    np.testing.assert_allclose(parts, 0.01)
    assert (rows["energy_j"] > 0.0).all()


def test_a_price_sees_decodes_with_their_context_and_chunks_with_their_past():
    price = Fixed(0.01)
    priced(price, fleets.requests([0.0, 0.0], [100, 30], [3, 2]))
    assert price.asked == [
        PassShape(0, 0, ((0, 64),)),
        PassShape(0, 0, ((64, 36), (0, 28))),
        PassShape(1, 100, ((28, 2),)),
        PassShape(2, 131, ()),
    ]
    assert [shape.tokens for shape in price.asked] == [64, 64, 3, 2]


def test_the_sarathi_policy_answers_as_vidur_does_at_vidurs_prices():
    data = measured(ANSWERS, "peers/vidur_optables")
    answers = data / ANSWERS
    ours, theirs = vidur.compare(answers, vidur.OperatorTables(data))
    assert len(ours) == 2 * 1000
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-6)


def test_vidurs_tables_are_looked_up_by_rounded_shapes():
    price = vidur.OperatorTables(measured("peers/vidur_optables"))
    assert price.seconds(PassShape(2, 126, ())) == price.seconds(PassShape(2, 120, ()))  # both round to 64
    assert price.seconds(PassShape(2, 128, ())) > price.seconds(PassShape(2, 126, ()))  # 65 on average
    alone = price.seconds(PassShape(0, 0, ((0, 400), (64, 300))))
    assert alone == price.seconds(PassShape(0, 0, ((64, 500), (0, 200)))) - _prefill_gap(price)


def _prefill_gap(price: vidur.OperatorTables) -> float:
    """Return by how much chunks of 500 and 200 tokens cost more than ones of 400 and 300."""
    more, less = round((500**2 + 200**2) ** 0.5), round((400**2 + 300**2) ** 0.5)
    return float(price.prefill_s[1, more] - price.prefill_s[1, less]) * vidur.LAYERS


def some_closed_loops(data: Path) -> pd.DataFrame:
    frame = serving.closed_loop_rows(data)
    return frame.sort_values("id").iloc[::12].reset_index(drop=True)


def test_time_per_token_of_closed_loops_is_met_within_ten_percent():
    frame = some_closed_loops(measured(CLOSED))
    predicted = np.array([serving.closed_loop(row)[1] for row in frame.itertuples()])
    errors = np.abs(predicted / (frame.tpot_ms.to_numpy() * 1e-3) - 1.0)
    assert len(errors) >= 20
    assert errors.mean() <= 0.08
    assert np.quantile(errors, 0.9) <= 0.20


@pytest.mark.parametrize("system", ["h100_sxm", "b200_sxm"])
def test_where_the_cache_is_full_requests_wait_as_long_as_was_measured(system):
    frame = serving.closed_loop_rows(measured(CLOSED))
    waiting = frame[(frame.system == system) & (frame.ttft_ms > 6000.0)]
    assert len(waiting) >= 3
    for row in waiting.itertuples():
        assert serving.closed_loop(row)[0] == pytest.approx(row.ttft_ms * 1e-3, rel=0.2)


def test_rows_that_constants_were_fitted_on_are_told_apart():
    rows = [
        ("vllm", "h100_sxm", "fp8", 64, True),
        ("vllm", "h200_sxm", "fp8", 64, False),
        ("vllm", "h200_sxm", "fp8", 4, True),
        ("trtllm", "b200_sxm", "fp8", 8, True),
        ("trtllm", "b200_sxm", "fp4", 8, False),
        ("vllm", "b200_sxm", "fp8", 4, False),
        ("trtllm", "h200_sxm", "fp8", 4, False),
    ]
    frame = pd.DataFrame(rows, columns=["backend", "system", "precision", "concurrency", "fitted"])
    assert serving.was_fitted(frame).tolist() == frame.fitted.tolist()


def test_an_engine_for_offline_runs_is_sized_by_the_rules_of_its_benchmark():
    fp8 = Precision(weights="fp8", activations="fp8", kv="fp8")
    small = serving.Setup("Llama-3.1-8B", "H100 SXM 80GB", fp8, 1)
    assert serving.sized(small, 128, 128).max_batch == 4096  # the cap
    assert serving.sized(small, 128, 128).token_budget == 8192  # twice that: as many prompts as answers
    assert serving.sized(small, 20000, 2000).max_batch == 64  # the least
    tight = serving.Setup("Llama-3.1-70B", "H100 SXM 80GB", fp8, 1)
    assert serving.sized(tight, 128, 128).token_budget == 2048
    staged = serving.Setup("Llama-3.1-8B", "H100 SXM 80GB", fp8, 1, 2)
    assert serving.sized(staged, 128, 128).max_batch == 4096  # 2,048 a stage


def test_the_cache_gets_its_share_of_what_the_weights_leave():
    fp8 = Precision(weights="fp8", activations="fp8", kv="fp8")
    setup = serving.Setup("Llama-3.1-70B", "H200 SXM 141GB", fp8, 1)
    assert setup.weights_bytes == pytest.approx(72.7e9, rel=0.02)  # nvidia/Llama-3.1-70B-Instruct-FP8
    assert setup.memory_share(1.0) == pytest.approx(1.0)
    assert setup.memory_share(0.5) == pytest.approx(0.5 + 0.5 * setup.memory_share(0.0))
    assert 0.45 < setup.memory_share(0.0) < 0.55


def test_offline_throughput_is_met_within_twelve_percent():
    frame = serving.offline_rows(measured(OFFLINE)).iloc[::11]
    predicted = np.array([serving.offline(row) for row in frame.itertuples()])
    errors = np.abs(predicted / frame.output_tokens_per_s.to_numpy() - 1.0)
    assert len(errors) >= 20
    assert np.median(errors) <= 0.10
    one_stage = errors[(frame.pp == 1).to_numpy()]
    assert one_stage.mean() <= 0.12


def test_measured_runs_are_replayed_request_by_request():
    (result,) = replay.latencies(measured(replay.RUNS))
    assert result.rows == 1200
    assert result.met
    assert result.mape <= 0.06
    assert abs(result.bias) <= 0.04


def test_a_replay_takes_requests_in_the_order_in_which_the_engine_queued_them(tmp_path):
    folder = tmp_path / replay.RUNS / "RTX4090_tiny"
    folder.mkdir(parents=True)
    engine = {
        "model": "meta-llama/Llama-3.1-8B",
        "tensor_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_expert_parallel": False,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 2048,
    }
    (folder / "meta.json").write_text(json.dumps({"engine_kwargs": engine}))
    stamps = ("queued_ts", "first_token_ts", "last_token_ts")
    rows = [
        {"input_toks": 100, "output_toks": 10, **dict(zip(stamps, times, strict=True))}
        for times in ((7.0, 7.1, 7.4), (5.0, 5.05, 5.3))
    ]
    with gzip.open(folder / "requests.jsonl.gz", "wt") as lines:
        lines.write("\n".join(json.dumps(row) for row in rows))
    run = replay.read_run(folder)
    served = replay.replay(run)
    assert run.requests.queued_ts.tolist() == [5.0, 7.0]
    assert served.measured_latency_s.tolist() == pytest.approx([0.3, 0.4])
    assert served.latency_s[0] == pytest.approx(served.latency_s[1])  # both run alone
    assert 0.1 < served.latency_s[0] < 0.3


def test_what_is_missing_is_named_with_where_it_is_public(tmp_path):
    results, missing = rerun(["S1", "S2", "S4", "S8"], tmp_path)
    assert results == []
    assert [line[:2] for line in missing] == ["S1", "S2", "S4", "S8"]
    assert all(str(tmp_path) in line for line in missing)
    assert "InferenceX" in missing[0]
    assert "TensorRT-LLM" in missing[1]
    assert "LLMServingSim" in missing[2]
    assert "vidur" in missing[3]
