"""Training steps obey what must hold whatever the numbers: sums, monotonicity, symmetry, bounds."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clustersim.cost.training.machine import Machine, machine_of
from clustersim.cost.training.memory import memory, why_not
from clustersim.cost.training.plans import broadcast, columns
from clustersim.cost.training.step import iteration, steps
from clustersim.errors import ClusterSimError, FieldError, SpecError
from clustersim.models.transformer import Experts, Transformer
from clustersim.plots import training as figures
from clustersim.spec.base import card_files, load_card
from clustersim.spec.load import load_spec
from clustersim.spec.model import Model
from clustersim.spec.node import Node
from clustersim.spec.training import Plan, Training
from clustersim.spec.training_stack import FOLDER, Overlap, load_training_stack

GPT_175B = Transformer(96, 12288, 96, 96, 128, 49152, 51200, 2048, gated=False, tied_embeddings=True)
MOE = Transformer(
    48, 2048, 32, 4, 128, 6144, 151936, 4096, experts=Experts(experts=128, top_k=8, ffn=768, layers=48)
)
STACKS = sorted(card_files(FOLDER))


def node(name: str = "dgx-a100") -> Machine:
    return machine_of(load_card(Node, "topologies/nodes", name))


def plan(**changes) -> Plan:
    base = {
        "data_parallel": 8,
        "tensor_parallel": 8,
        "pipeline": {"stages": 8},
        "microbatch": 1,
        "global_batch": 512,
        "sequence_tokens": 2048,
    }
    return Plan.model_validate(base | changes)


def seconds(one: Plan, machine: Machine | None = None, stack: str = "megatron-2022", model=GPT_175B) -> float:
    return iteration(model, one, machine or node(), load_training_stack(stack)).seconds


PLANS = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2, 4, 8]),
        "pipeline": st.sampled_from([1, 4, 8, {"stages": 8, "schedule": "interleaved", "chunks": 3}]),
        "microbatch": st.sampled_from([1, 2]),
        "recompute": st.sampled_from(["none", "selective", "full"]),
        "sharding": st.sampled_from([0, 1, "fsdp"]),
        "optimizer": st.sampled_from(["adam", "adam-8bit", "muon", "sgd"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(PLANS, st.sampled_from(STACKS))
def test_the_parts_of_a_step_are_not_negative_and_add_up_to_it(changes, stack):
    found = iteration(GPT_175B, plan(**changes), node(), load_training_stack(stack))
    assert min(found.parts.values()) >= 0.0
    assert sum(found.parts.values()) == pytest.approx(found.seconds, rel=1e-12)
    assert 0.0 < found.mfu <= found.hfu < 1.0


@settings(max_examples=25, deadline=None)
@given(PLANS, st.sampled_from(["link_bytes_per_s", "nic_bytes_per_s"]))
def test_more_bandwidth_never_makes_a_step_slower(changes, link):
    machine = node()
    faster = replace(machine, **{link: 2.0 * getattr(machine, link)})
    assert seconds(plan(**changes), faster) <= seconds(plan(**changes), machine) * (1.0 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(PLANS, st.sampled_from(["compute", "memory_bandwidth"]))
def test_a_faster_accelerator_never_makes_a_step_slower(changes, part):
    machine = node()
    card = machine.accelerator
    value = (
        {k: 2.0 * v for k, v in card.compute.items()} if part == "compute" else 2.0 * card.memory_bandwidth
    )
    faster = replace(machine, accelerator=card.model_copy(update={part: value}))
    assert seconds(plan(**changes), faster) <= seconds(plan(**changes), machine) * (1.0 + 1e-12)


@pytest.mark.parametrize("name", ["tensor", "pipeline", "data"])
def test_overlapping_more_of_a_communication_never_makes_a_step_slower(name):
    steps_s = [seconds(plan(overlap={name: share})) for share in (0.0, 0.3, 0.7, 1.0)]
    assert steps_s == sorted(steps_s, reverse=True)
    assert steps_s[-1] < steps_s[0]


def test_communication_hides_at_most_behind_the_work_beside_it():
    machine = replace(node(), link_bytes_per_s=1e9)
    found = iteration(GPT_175B, plan(overlap={"tensor": 1.0}), machine, load_training_stack("megatron-2022"))
    assert found.parts["tensor_s"] > found.parts["compute_s"]


def test_plans_that_say_the_same_take_the_same():
    one = plan(pipeline=1, tensor_parallel=1, data_parallel=64, sharding="fsdp")
    same = plan(
        pipeline={"stages": 1, "layers": [96]},
        tensor_parallel=1,
        data_parallel=64,
        sharding={"stage": 3, "group": 64},
        precision="bf16",
    )
    assert seconds(one) == seconds(same)
    assert seconds(plan()) == seconds(plan(order=["tensor", "context", "data", "pipeline"]))
    assert seconds(plan()) == pytest.approx(seconds(plan(order=["context", "tensor", "data", "pipeline"])))


def test_what_lies_next_to_each_other_talks_over_the_node_and_the_rest_over_the_network():
    changes = {"tensor_parallel": 2, "data_parallel": 4, "pipeline": 4, "global_batch": 64}
    stack = load_training_stack("megatron-2022")
    near_data, near_stages = (
        iteration(GPT_175B, plan(**changes, order=order), node(), stack).parts
        for order in (
            ["tensor", "context", "data", "pipeline"],
            ["tensor", "context", "pipeline", "data"],
        )
    )
    assert near_data["data_s"] < near_stages["data_s"]
    assert near_data["pipeline_s"] > near_stages["pipeline_s"]
    assert near_data["compute_s"] == near_stages["compute_s"]
    far = iteration(GPT_175B, plan(**changes, order=["data", "context", "pipeline", "tensor"]), node(), stack)
    assert far.parts["tensor_s"] > 2.0 * near_data["tensor_s"]


def test_a_step_over_many_plans_prices_each_as_if_alone():
    plans = [plan(**c) for c in ({}, {"tensor_parallel": 4}, {"recompute": "full"}, {"sharding": 1})]
    together = steps(GPT_175B, columns(GPT_175B, plans), node(), load_training_stack("megatron-2022")).seconds
    assert together == pytest.approx([seconds(one) for one in plans], rel=1e-12)


def test_a_bigger_batch_takes_longer_and_wastes_less_of_the_pipeline():
    small, large = (
        iteration(GPT_175B, plan(global_batch=n), node(), load_training_stack("megatron-2022"))
        for n in (256, 2048)
    )
    assert large.seconds > small.seconds
    assert large.mfu > small.mfu
    assert large.parts["bubble_s"] == pytest.approx(small.parts["bubble_s"])


def test_recomputation_costs_time_and_saves_memory():
    stack = load_training_stack("megatron-2022")
    plans = [plan(recompute=r, sequence_parallel=True) for r in ("none", "selective", "full")]
    table = columns(GPT_175B, plans)
    times = steps(GPT_175B, table, node(), stack).seconds
    sizes = memory(GPT_175B, table, stack).total_bytes
    assert np.all(np.diff(times) > 0.0)
    assert np.all(np.diff(sizes) < 0.0)


def test_experts_on_more_ranks_travel_and_take_less_memory():
    stack, machine = load_training_stack("megatron-core-2025"), node("dgx-h100")
    changes = {"tensor_parallel": 1, "pipeline": 1, "data_parallel": 64, "global_batch": 512, "sharding": 1}
    plans = [plan(**changes, expert_parallel=n) for n in (1, 8, 64)]
    table = columns(MOE, plans)
    parts = steps(MOE, table, machine, stack).parts
    assert parts.expert_s[0] == 0.0 < parts.expert_s[1] < parts.expert_s[2]
    assert np.all(np.diff(memory(MOE, table, stack).parameters_bytes) < 0.0)


def test_launches_bound_a_small_model():
    small = replace(GPT_175B, layers=24, hidden=512, heads=8, kv_heads=8, head_size=64, ffn=2048)
    changes = {"tensor_parallel": 2, "pipeline": 1, "data_parallel": 4, "global_batch": 32}
    found = iteration(small, plan(**changes), node(), load_training_stack("vtrain-megatron"))
    assert found.parts["launch_s"] > 0.5 * found.seconds


@settings(max_examples=25, deadline=None)
@given(PLANS)
def test_the_parts_of_memory_are_not_negative_and_add_up(changes):
    found = memory(GPT_175B, columns(GPT_175B, [plan(**changes)]), load_training_stack("megatron-2022"))
    parts = found.of(0)
    assert min(parts.values()) >= 0.0
    assert sum(parts.values()) == pytest.approx(float(found.total_bytes[0]))


def test_a_plan_that_does_not_fit_says_what_takes_the_space_and_what_would_fit():
    stack = load_training_stack("megatron-2022")
    said = why_not(GPT_175B, plan(microbatch=4), node(), stack)
    assert said is not None
    assert "A100" in said
    assert "activations" in said
    assert said.endswith("would fit")
    fitting = plan(pipeline=16, sharding=1, sequence_parallel=True, recompute="selective")
    assert why_not(GPT_175B, fitting, node(), stack) is None
    hopeless = plan(data_parallel=1, tensor_parallel=1, pipeline=1)
    assert "no single change" in str(why_not(GPT_175B, hopeless, node(), stack))


def test_offloading_frees_memory_and_takes_time():
    stack = load_training_stack("megatron-2022")
    table = columns(GPT_175B, [plan(), plan(offload={"optimizer": 1.0})])
    sizes, found = memory(GPT_175B, table, stack), steps(GPT_175B, table, node(), stack)
    assert sizes.optimizer_bytes[1] == 0.0 < sizes.optimizer_bytes[0]
    assert found.parts.optimizer_s[1] > found.parts.optimizer_s[0]


@pytest.mark.parametrize("what", ["activations", "parameters"])
def test_copies_from_the_host_hide_behind_layers_until_the_host_is_slow(what):
    stack, fast = load_training_stack("megatron-2022"), node()
    slow = replace(fast, accelerator=fast.accelerator.model_copy(update={"host_bandwidth": 1e8}))
    offloaded = columns(GPT_175B, [plan(), plan(offload={what: 1.0})])
    hidden = steps(GPT_175B, offloaded, fast, stack).parts.shards_s
    shows = steps(GPT_175B, offloaded, slow, stack).parts.shards_s
    assert shows[0] == hidden[0] == 0.0
    assert shows[1] > hidden[1]
    sizes = memory(GPT_175B, offloaded, stack)
    assert sizes.total_bytes[1] < sizes.total_bytes[0]
    alone = replace(fast, accelerator=fast.accelerator.model_copy(update={"host_bandwidth": 0.0}))
    with pytest.raises(ClusterSimError, match="nothing can be offloaded"):
        steps(GPT_175B, offloaded, alone, stack)


def test_adapters_spare_gradients_of_the_base_model():
    stack = load_training_stack("megatron-core-2026")
    table = columns(GPT_175B, [plan(), plan(lora={"rank": 16})])
    sizes, found = memory(GPT_175B, table, stack), steps(GPT_175B, table, node(), stack)
    assert sizes.gradients_bytes[1] < 0.01 * sizes.gradients_bytes[0]
    assert found.parts.compute_s[1] < found.parts.compute_s[0]
    assert found.parts.data_s[1] < found.parts.data_s[0]


def test_eight_bit_products_are_faster_where_the_hardware_has_them():
    changes = {"tensor_parallel": 8, "precision": "fp8"}
    hopper, stack = node("dgx-h100"), "megatron-core-2025"
    assert seconds(plan(**changes), hopper, stack) < seconds(plan(), hopper, stack)
    ampere = columns(GPT_175B, [plan(**changes), plan()])
    found = steps(GPT_175B, ampere, node(), load_training_stack("megatron-2022"))
    assert found.peak_flop_per_s[0] == found.peak_flop_per_s[1]


def test_broadcast_spreads_layers_as_a_plan_does():
    table = broadcast(plan(), GPT_175B, stages=np.array([1.0, 5.0, 7.0]), data=np.array([64.0, 8.0, 8.0]))
    for row, stages in enumerate((1, 5, 7)):
        spread = plan().pipeline.model_copy(update={"stages": stages}).spread(96)
        assert (table.first_layers[row], table.last_layers[row]) == (spread[0], spread[-1])
    assert len(fields(table)) == len({f.name for f in fields(table)})


def test_a_machine_without_a_network_refuses_plans_beyond_one_node():
    alone = replace(node(), nic_bytes_per_s=0.0)
    with pytest.raises(ClusterSimError, match="keep the plan inside one node"):
        seconds(plan(), alone)
    inside = plan(data_parallel=1, pipeline=1, global_batch=8)
    assert seconds(inside, alone) == seconds(inside)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"global_batch": 511}, "nearest: 504 or 512"),
        ({"pipeline": {"stages": 8, "chunks": 2}}, "need schedule: interleaved"),
        ({"pipeline": {"stages": 8, "schedule": "1f1f"}}, "1f1b"),
        ({"pipeline": {"stages": 2, "layers": [90]}}, "1 numbers for 2 stages"),
        ({"pipeline": {"stages": 7, "schedule": "interleaved", "chunks": 2}}, "multiples of the 7 stages"),
        ({"sharding": "zero"}, "unknown sharding 'zero'"),
        ({"sharding": {"stage": 3, "group": 3}}, "does not divide the 8 data-parallel ranks"),
        ({"context_parallel": 3}, "nearest: 1, 2, 4"),
        ({"expert_parallel": 3}, "does not divide the 64 accelerators of a stage"),
        ({"recompute_layers": 2}, "has no effect with recompute: none"),
        ({"tensor_parallel": 1, "sequence_parallel": True}, "needs tensor_parallel of 2 or more"),
        ({"order": ["tensor", "data"]}, "each once"),
    ],
)
def test_a_plan_that_cannot_be_says_what_is_wrong_and_what_would_be_right(changes, said):
    with pytest.raises((ValidationError, FieldError), match=said):
        plan(**changes)


def test_a_plan_is_checked_against_its_model_and_its_cluster():
    model = load_card(Model, "workloads/models", "gpt-3-175b")
    with pytest.raises(FieldError, match="5 does not divide the 96 attention heads; nearest: 3, 4, 6"):
        plan(tensor_parallel=5).check_model(model)
    with pytest.raises(FieldError, match="at most 96 stages"):
        plan(pipeline=97).check_model(model)
    with pytest.raises(FieldError, match="add up to 90"):
        plan(pipeline={"stages": 2, "layers": [45, 45]}).check_model(model)
    with pytest.raises(FieldError, match="2 does not divide the 1 experts"):
        plan(expert_parallel=2).check_model(model)
    with pytest.raises(FieldError, match="the cluster has 256; at most 4 of this size fit"):
        plan().check_cluster(256)
    plan().check_cluster(512)


def test_a_file_of_a_training_run_names_the_line_of_a_mistake(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "model: gpt-3-175b\nplan:\n  tensor_parallel: 5\n  global_batch: 8\n  sequence_tokens: 2048\n"
    )
    with pytest.raises(SpecError, match=r"run.yaml:3.*plan.tensor_parallel.*attention heads"):
        load_spec(Training, file)
    file.write_text("model: gpt-3-175b\nplan: {tensor_parallel: 8, global_batch: 8, sequence_tokens: 2048}\n")
    read = load_spec(Training, file)
    assert read.plan.accelerators == 8
    assert read.plan.microbatches == 8
    assert read.plan.tokens == 8 * 2048


def test_every_stack_is_read_and_says_where_its_numbers_come_from():
    assert len(STACKS) >= 10
    for name in STACKS:
        stack = load_training_stack(name)
        assert stack.name == name
        assert stack.sources
    assert Overlap().tensor == 0.0


RUNS = sorted((Path(__file__).resolve().parents[2] / "workloads/training").glob("*.yaml"))


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_every_training_run_of_the_catalogue_is_read_and_priced(file):
    run = load_spec(Training, file)
    model = run.model.transformer
    found = iteration(model, run.plan, node("dgx-h100"), run.stack)
    assert found.seconds > 0.0
    assert 0.05 < found.mfu < 0.8
    assert memory(model, columns(model, [run.plan]), run.stack).total_bytes[0] > 1e9


def test_figures_of_steps_stack_to_the_step_and_say_when_there_is_nothing():
    names = ["8 stages", "16 stages"]
    table = columns(GPT_175B, [plan(), plan(pipeline=16)])
    stack = load_training_stack("megatron-2022")
    found, held = steps(GPT_175B, table, node(), stack), memory(GPT_175B, table, stack)
    frame = pd.DataFrame(
        {"plan": names, **{f.name: getattr(found.parts, f.name) for f in fields(found.parts)}}
    )
    figure = figures.step_parts(frame)
    assert sum(np.asarray(bar.x) for bar in figure.data) == pytest.approx(found.seconds)
    frame = pd.DataFrame({"plan": names, **{f.name: getattr(held, f.name) for f in fields(held)}})
    figure = figures.memory_parts(frame, 80 * 2.0**30)
    assert sum(np.asarray(bar.x) for bar in figure.data) == pytest.approx(held.total_bytes / 2**30)
    rows = pd.DataFrame(
        {"plan": names, "seconds": found.seconds, "needed_bytes": held.total_bytes, "fits": [True, False]}
    )
    assert [trace.name for trace in figures.plans_found(rows).data] == ["fits", "does not fit"]
    for draw in (figures.step_parts, figures.memory_parts, figures.plans_found):
        assert "no plan was priced" in str(draw(frame.iloc[:0]).layout.annotations)
