"""The published training tables, on the measurements where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clustersim.cost.training.machine import machine_of
from clustersim.cost.training.step import iteration
from clustersim.published import training, training_memory, training_rows
from clustersim.published.tables import Result
from clustersim.spec.base import load_card
from clustersim.spec.node import Node
from clustersim.spec.training import Plan
from clustersim.spec.training_stack import load_training_stack

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

TABLES = {
    "T2": (training.sc21, "training_megatron_a100_papers"),
    "T3": (training.korthikanti, "training_megatron_a100_papers"),
    "T4": (training.megascale, "training_megascale"),
    "T5": (training.vtrain_single, "training_vtrain"),
    "T5-multi": (training.vtrain_multi, "training_vtrain"),
    "T6": (training.bloom, "training_bigscience_a100"),
    "T7": (training.llm_foundry, "training_llm_foundry"),
    "T8": (training.megatron_bridge, "training_megatron_bridge"),
    "T8-moe": (training.megatron_bridge_experts, "training_megatron_bridge"),
    "T9": (training.famous, "training_llama3"),
    "T10": (training_memory.peaks, "training_zero_bubble"),
    "T11": (training.simumax, "training_simumax_b200"),
}
"""By id, the function that computes a table, and the measurements that it needs."""


def measured(name: str) -> Path:
    if not (DATA / "training" / f"{name}.csv").is_file():
        pytest.skip(f"the measurements training/{name}.csv are not beside this checkout")
    return DATA


def held_out(name: str) -> Result:
    compute, file = TABLES[name]
    results = compute(measured(file))
    assert [result.split for result in results] == ["held-out", "in-sample"]
    assert all(result.id == name for result in results)
    return results[0]


@pytest.mark.parametrize("name", TABLES)
def test_rows_that_no_stack_was_fitted_on_are_within_the_target(name):
    result = held_out(name)
    assert result.met
    assert result.rows >= 3
    assert result.target is not None
    assert result.mape <= result.target


@pytest.mark.parametrize("name", [n for n in TABLES if n != "T10"])
def test_a_result_says_what_fitting_has_changed(name):
    title = held_out(name).title
    assert "unfitted" in title
    assert "one factor a stack" in title


def test_megascale_is_met_at_every_size_and_its_rank_is_kept():
    result = held_out("T4")
    assert result.worst <= 0.08
    frame = training_rows.read(measured("training_megascale"), "training_megascale")
    frame = frame[(frame.set == "megascale_t2") & (frame.framework == "MegaScale")]
    setting = training_rows.Setting(load_training_stack("megascale"))
    frame = frame.reset_index(drop=True)
    assert (
        np.argsort(training_rows.predict(frame, setting)).tolist() == np.argsort(frame.iter_time_s).tolist()
    )


def test_fully_sharded_training_falls_behind_pipelines_between_384_and_768_accelerators():
    """SC'21, Table 2: 144 against 153 TFLOP/s on 384 A100, 88 against 149 on 768."""
    frame = training._papers(measured("training_megatron_a100_papers"), "sc21_t2_ptd", "sc21_t2_zero3")
    frame = frame[frame.layers == 96]
    frame["vpp"] = np.where(frame.tp == 8, 2, 1)
    ptd, zero = (frame[frame.tp == tensor].reset_index(drop=True) for tensor in (8, 1))
    fast = training_rows.predict(ptd, training_rows.Setting(load_training_stack("megatron-2021")))
    slow = training_rows.predict(zero, training_rows.Setting(load_training_stack("deepspeed-zero3-2021")))
    ratio = slow / fast
    assert ratio[0] < 1.2
    assert ratio[1] > 1.4
    assert ratio[2] > 2.5


def test_data_parallel_gradients_that_nothing_hides_cost_what_korthikanti_saw():
    """arXiv 2205.05198, section 6.3: 37.83 s become 39.15 s with eight data ranks."""
    model = training_rows.transformer(
        training._papers(measured("training_megatron_a100_papers"), "korthikanti_text").iloc[0]
    )
    node, stack = load_card(Node, "topologies/nodes", "dgx-a100"), load_training_stack("megatron-2022")
    seconds = [
        iteration(
            model,
            Plan(
                data_parallel=data,
                tensor_parallel=8,
                pipeline={"stages": 35, "schedule": "interleaved", "chunks": 3},
                global_batch=280 * data,
                sequence_tokens=2048,
                sequence_parallel=True,
                recompute="selective",
                precision={"compute": "fp16", "gradients": "bf16"},
            ),
            machine_of(node),
            stack,
        ).seconds
        for data in (1, 8)
    ]
    assert 0.0 < seconds[1] - seconds[0] < 1.5


def test_halves_are_drawn_by_what_a_run_is_and_not_by_what_it_took():
    frame = training_rows.read(measured("training_bigscience_a100"), "training_bigscience_a100")
    keys = frame[list(training_rows.IDENTITY)].astype(str).agg("|".join, axis=1)
    assert frame.fitted.groupby(keys).nunique().max() == 1
    assert 0.3 < frame.fitted.mean() < 0.7
    moved = frame.assign(iter_time_s=1.0)[list(training_rows.IDENTITY)]
    assert [training_rows.in_fit(row) for row in moved.itertuples(index=False)] == frame.fitted.tolist()


def test_a_table_with_only_rows_that_were_not_fitted_is_computed_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    name = "training_simumax_b200"
    frame = training_rows.read(measured(name), name)
    (tmp_path / "training").mkdir()
    kept = frame[~frame.fitted].drop(columns="fitted")
    kept.to_csv(tmp_path / "training" / f"{name}.csv", index=False)
    (result,) = training.simumax(tmp_path)
    assert result.split == "held-out"
    assert result.met
    pandas.DataFrame(columns=kept.columns).to_csv(tmp_path / "training" / f"{name}.csv", index=False)
    assert training.simumax(tmp_path) == []
