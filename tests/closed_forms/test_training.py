"""Training prices against what can be worked out by hand: FLOPs, bytes, states, activations, bubbles."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost.pipeline import StageTimes, timeline
from clustersim.cost.training import memory as held_in_memory
from clustersim.cost.training.case import Case, shown
from clustersim.cost.training.flop import attention_flop, hardware_flop, model_flop
from clustersim.cost.training.layer import layer_of
from clustersim.cost.training.machine import LINK_SHARE, START_S, Exchange, Group, group, machine_of
from clustersim.cost.training.memory import activations_bytes, in_flight, memory
from clustersim.cost.training.parameters import held
from clustersim.cost.training.plans import broadcast, columns
from clustersim.cost.training.search import Space, candidates, search
from clustersim.cost.training.stage import bubble_s, pace
from clustersim.cost.training.step import iteration, steps
from clustersim.cost.training.sync import OPTIMIZER_SHARE, slowest
from clustersim.errors import ClusterSimError
from clustersim.models.encoder import Encoder, decoder_operators, encoder_operators, forward_flop
from clustersim.models.transformer import Experts, Latent, Transformer
from clustersim.models.vision import Vision, VisionLanguage, image_flop, language_operators, vision_operators
from clustersim.spec.base import load_card
from clustersim.spec.node import Node
from clustersim.spec.source import Source
from clustersim.spec.training import STATE_BYTES, Pipeline, Plan
from clustersim.spec.training_stack import Overlap, TrainingStack, load_training_stack

GPT_175B = Transformer(96, 12288, 96, 96, 128, 49152, 51200, 2048, gated=False, tied_embeddings=True)
LLAMA_8B = Transformer(32, 4096, 32, 8, 128, 14336, 128256, 8192)
BY_HAND = {"all": Source(source="by hand", date="2026-11-24", kind="assumed")}
PLAIN = TrainingStack(name="plain", sources=BY_HAND)
A100 = machine_of(load_card(Node, "topologies/nodes", "dgx-a100"))


def plan(**changes) -> Plan:
    base = {"tensor_parallel": 8, "microbatch": 1, "global_batch": 64, "sequence_tokens": 2048}
    return Plan.model_validate(base | changes)


def case(one: Plan, stack: TrainingStack = PLAIN, model: Transformer = GPT_175B) -> Case:
    return Case(model, columns(model, [one]), A100, stack)


# FLOPs


@pytest.mark.parametrize(("layers", "hidden", "heads"), [(48, 6144, 64), (96, 12288, 96), (105, 20480, 128)])
def test_model_flop_are_those_of_korthikanti(layers, hidden, heads):
    s, v = 2048.0, 51200
    gpt = replace(
        GPT_175B,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=hidden // heads,
        ffn=4 * hidden,
    )
    by_hand = 72 * s * layers * hidden**2 * (1 + s / (6 * hidden) + v / (12 * layers * hidden))
    assert model_flop(gpt, np.array([s]))[0] == pytest.approx(by_hand, rel=1e-12)


def test_model_flop_of_a_token_are_those_of_palm():
    s = 8192.0
    non_embedding = LLAMA_8B.parameters - LLAMA_8B.vocabulary * LLAMA_8B.hidden
    by_hand = 6 * non_embedding + 12 * 32 * 32 * 128 * s
    assert model_flop(LLAMA_8B, np.array([s]))[0] / s == pytest.approx(by_hand, rel=1e-3)


def test_full_recomputation_adds_a_forward_pass_of_the_layers():
    table = columns(GPT_175B, [plan(recompute=r) for r in ("none", "selective", "full")])
    none, selective, full = hardware_flop(GPT_175B, table)
    core = attention_flop(GPT_175B, np.array([2048.0]))[0]
    assert selective - none == pytest.approx(core)
    logits = 2.0 * 2048 * 51200 * 12288
    assert full - none == pytest.approx(none / 3.0 - logits)


def test_a_window_and_latent_attention_count_what_they_see():
    windowed = replace(LLAMA_8B, window_tokens=1024, window_layers=16)
    s = np.array([4096.0])
    by_hand = 4.0 * 32 * 128 * 4096.0 * 16 * (4096.0 + 1024.0)
    assert attention_flop(windowed, s)[0] == pytest.approx(by_hand)
    latent = replace(LLAMA_8B, latent=Latent(kv_rank=512, rope_size=64, nope_size=128, value_size=128))
    assert attention_flop(latent, s)[0] == pytest.approx(2.0 * 32 * (64 + 128 + 128) * 4096.0**2 * 32)


# States and activations


@pytest.mark.parametrize(
    ("stage", "bytes_a_parameter"),
    [(0, 16.0), (1, 2 + 2 + 12 / 64), (2, 2 + 14 / 64), (3, 16 / 64)],
)
def test_states_are_those_of_zero(stage, bytes_a_parameter):
    one = plan(
        tensor_parallel=1,
        data_parallel=64,
        sharding=stage,
        precision={"compute": "fp16", "gradients": "bf16"},
    )
    found = memory(LLAMA_8B, columns(LLAMA_8B, [one]), PLAIN)
    states = found.parameters_bytes + found.gradients_bytes + found.optimizer_bytes
    assert states[0] == pytest.approx(bytes_a_parameter * LLAMA_8B.parameters, rel=1e-6)


@pytest.mark.parametrize("optimizer", sorted(STATE_BYTES))
def test_an_optimizer_holds_its_moments_and_a_master_copy(optimizer):
    one = plan(tensor_parallel=1, optimizer=optimizer)
    found = memory(LLAMA_8B, columns(LLAMA_8B, [one]), PLAIN)
    assert found.optimizer_bytes[0] == pytest.approx((4.0 + STATE_BYTES[optimizer]) * LLAMA_8B.parameters)


@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_activations_of_a_layer_are_those_of_korthikanti(tensor):
    stack = load_training_stack("megatron-2022")
    s, b, h, a, layers = 2048.0, 2.0, 12288.0, 96.0, 96
    changes = {"tensor_parallel": tensor, "microbatch": 2}
    parallel = {"sequence_parallel": tensor > 1}
    embedding = s * b * h
    cases = [
        (changes, s * b * h * (10 + 24 / tensor + 5 * a * s / (h * tensor)), embedding),
        (changes | parallel, s * b * h / tensor * (34 + 5 * a * s / h), embedding / tensor),
        (changes | parallel | {"recompute": "selective"}, s * b * h / tensor * 34, embedding / tensor),
    ]
    for said, layer, mask in cases:
        found = activations_bytes(GPT_175B, columns(GPT_175B, [plan(**said)]), stack)[0]
        assert found == pytest.approx(layers * layer + mask, rel=1e-9)
    kept = activations_bytes(GPT_175B, columns(GPT_175B, [plan(**changes, recompute="full")]), stack)[0]
    assert kept == pytest.approx(layers * 2 * s * b * h + cases[0][1] + embedding, rel=1e-9)


def test_flash_attention_leaves_no_scores_behind():
    table = columns(GPT_175B, [plan()])
    unfused, flash = (
        activations_bytes(GPT_175B, table, PLAIN.model_copy(update={"attention": name}))[0]
        for name in ("unfused", "flash")
    )
    assert unfused - flash == pytest.approx(96 * 2.0 * 96 * 2048.0**2 / 8)


@pytest.mark.parametrize(
    ("pipeline", "microbatches"),
    [
        ({"stages": 8}, 8.0),
        ({"stages": 8, "schedule": "gpipe"}, 64.0),
        ({"stages": 8, "schedule": "zb-1p"}, 8.0),
        ({"stages": 8, "schedule": "zb-2p"}, 16.0),
        ({"stages": 8, "schedule": "dualpipe"}, 9.0),
        ({"stages": 8, "schedule": "interleaved", "chunks": 3}, 8.0 * (1 + 7 / 24)),
        (1, 1.0),
    ],
)
def test_the_first_stage_holds_as_many_microbatches_as_published(pipeline, microbatches):
    table = columns(GPT_175B, [plan(pipeline=pipeline)])
    assert in_flight(table)[0] == pytest.approx(microbatches)
    few = columns(GPT_175B, [plan(pipeline={"stages": 8}, global_batch=4)])
    assert in_flight(few)[0] == 4.0


def test_ranks_hold_their_share_of_the_parameters():
    whole = held(GPT_175B, columns(GPT_175B, [plan(tensor_parallel=1)]))
    assert whole.dense[0] == pytest.approx(GPT_175B.parameters, rel=1e-5)
    moe = replace(LLAMA_8B, experts=Experts(experts=64, top_k=4, ffn=2048, layers=32))
    table = columns(moe, [plan(tensor_parallel=1, data_parallel=64, expert_parallel=n) for n in (1, 8, 64)])
    found = held(moe, table)
    assert found.experts == pytest.approx(moe.weight_elements.experts / np.array([1.0, 8.0, 64.0]))
    assert found.expert_replicas == pytest.approx([64.0, 8.0, 1.0])


def test_adapters_have_two_thin_matrices_a_projection():
    one = plan(tensor_parallel=1, lora={"rank": 16})
    found = held(LLAMA_8B, columns(LLAMA_8B, [one]))
    h, q, kv, f, r = 4096, 4096, 1024, 14336, 16
    by_hand = 32 * r * ((h + q + 2 * kv) + (q + h) + (h + 2 * f) + (f + h))
    assert found.dense[0] == pytest.approx(by_hand)
    assert found.frozen[0] == pytest.approx(LLAMA_8B.parameters)


# Communication


def test_a_group_leaves_its_node_through_the_adapters_of_its_ranks():
    found = group(A100, np.array([64.0, 64.0, 8.0, 4.0]), np.array([8.0, 1.0, 1.0, 2.0]))
    assert found.local.tolist() == [1.0, 8.0, 8.0, 4.0]


@given(st.integers(2, 512), st.floats(1e6, 1e10))
def test_collectives_between_nodes_move_what_a_ring_moves(nodes, size):
    exchange = Exchange(A100, PLAIN)
    who = Group(np.array([float(nodes)]), np.array([1.0]))
    rate = PLAIN.network_share * A100.nic_bytes_per_s
    once = size * (nodes - 1) / nodes / rate
    gather = exchange.seconds("all_gather", who, np.array([size]))[0]
    assert gather == pytest.approx(once + PLAIN.hop * (nodes - 1) + START_S)
    reduce_s = exchange.seconds("all_reduce", who, np.array([size]))[0]
    hops = min(2 * (nodes - 1), 2 * np.log2(nodes) + 2)
    assert reduce_s == pytest.approx(2 * once + PLAIN.hop * hops + START_S)


def test_eight_ranks_of_a_node_share_its_adapters_and_its_link_is_the_ceiling():
    exchange = Exchange(A100, PLAIN)
    size, n = 1e10, 64.0
    seconds = [
        exchange.seconds("all_gather", Group(np.array([n]), np.array([local])), np.array([size]))[0]
        for local in (1.0, 8.0)
    ]
    nic = PLAIN.network_share * A100.nic_bytes_per_s
    link = A100.link_bytes_per_s * PLAIN.collective_share * LINK_SHARE
    latency = [PLAIN.hop * (n / local - 1) + START_S for local in (1.0, 8.0)]
    assert seconds[0] - latency[0] == pytest.approx(size * 63 / 64 / nic)
    assert seconds[1] - latency[1] == pytest.approx(size * 63 / 64 / min(link, 8 * nic))


def test_rows_that_travel_once_to_a_node_take_less_than_one_copy_an_expert():
    once = PLAIN.model_copy(update={"dispatch_once": True})
    who, size = Group(np.array([32.0]), np.array([8.0])), np.array([1e9])
    copies = Exchange(A100, PLAIN).dispatch_s(who, size, 8)[0]
    single = Exchange(A100, once).dispatch_s(who, size, 8)[0]
    nic = PLAIN.network_share * A100.nic_bytes_per_s
    assert copies == pytest.approx(1e9 / 32 * 24 / nic + PLAIN.hop)
    assert single == pytest.approx(1e9 / 8 * 3 * (1 - 0.75**8) / nic + PLAIN.hop)


def test_gradients_cross_the_network_as_often_as_the_sharding_says():
    changes = {"data_parallel": 16, "global_batch": 64, "sequence_tokens": 2048}
    found = {
        stage: iteration(GPT_175B, plan(**changes, sharding=stage), A100, PLAIN).parts["data_s"]
        for stage in (0, 1, 3)
    }
    gradients = held(GPT_175B, columns(GPT_175B, [plan(**changes)])).dense[0] * 4.0
    rate = PLAIN.network_share * A100.nic_bytes_per_s
    assert found[0] == pytest.approx(2 * gradients * 15 / 16 / rate, rel=1e-3)
    assert found[1] == pytest.approx((gradients + gradients / 2) * 15 / 16 / rate, rel=1e-3)
    assert found[3] == 0.0


def test_fully_sharded_weights_are_gathered_twice_and_their_gradients_scattered():
    slow = replace(A100, nic_bytes_per_s=1e8)
    changes = {"tensor_parallel": 1, "data_parallel": 64, "sharding": "fsdp", "global_batch": 64}
    found = iteration(LLAMA_8B, plan(**changes), slow, PLAIN)
    layers = held(LLAMA_8B, columns(LLAMA_8B, [plan(**changes)])).layer[0] * 32
    rate = 8 * PLAIN.gather_share * slow.nic_bytes_per_s
    moved = layers * (2 + 2 + 4) * 63 / 64
    assert found.parts["shards_s"] == pytest.approx(moved / rate, rel=0.01)


@given(st.floats(0, 10), st.floats(0, 1), st.floats(0, 10))
def test_what_shows_of_a_communication_is_bounded_by_its_share_and_by_the_work(sent, share, beside):
    left = float(shown(np.array(sent), np.array(share), np.array(beside)))
    assert left == pytest.approx(max((1 - share) * sent, sent - beside), abs=1e-12)


# Pipelines


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([("1f1b", 1), ("gpipe", 1), ("interleaved", 2), ("interleaved", 4), ("zb-h1", 1)]),
    st.sampled_from([2, 4, 8]),
    st.integers(1, 4),
)
def test_the_pipeline_takes_what_its_exact_time_line_takes(schedule, stages, rounds):
    name, chunks = schedule
    model = replace(GPT_175B, layers=64, vocabulary=8)
    pipeline = {"stages": stages, "schedule": name, "chunks": chunks}
    one = plan(pipeline=pipeline, global_batch=stages * rounds, overlap={"pipeline": 1.0})
    found = case(one, model=model)
    layer = replace(layer_of(found), embedding_s=found.zero, head_s=found.zero)
    stage = pace(found, layer)
    ours = stage.times(found.plans.microbatches).total_s + bubble_s(found, layer, stage)
    tensor_s = layer.tensor_s[0] / 2.0
    kernels = layer.kernels
    per = 64 / stages / chunks
    passes = (kernels.forward_s[0] + tensor_s, kernels.inputs_s[0] + tensor_s, kernels.weights_s[0])
    times = StageTimes.equal(stages, chunks, tuple(per * seconds for seconds in passes))
    exact = timeline(name, times, stages * rounds).period_s
    if name == "zb-h1":
        assert ours[0] <= exact * (1 + 1e-9)
        assert ours[0] >= 0.9 * exact
    else:
        assert ours[0] == pytest.approx(exact, rel=1e-9)


def test_interleaving_divides_the_bubble_and_multiplies_the_hand_overs():
    found = [
        iteration(
            GPT_175B,
            plan(pipeline={"stages": 8, "schedule": "interleaved" if v > 1 else "1f1b", "chunks": v}),
            A100,
            PLAIN,
        ).parts
        for v in (1, 2, 4)
    ]
    hops = [parts["pipeline_s"] for parts in found]
    assert hops == pytest.approx([hops[0], 2 * hops[0], 4 * hops[0]])
    size = 2.0 * 12288 * 2048 / 8
    rate = PLAIN.network_share * A100.nic_bytes_per_s
    assert hops[0] == pytest.approx(64 * 2 * (size / rate + PLAIN.hop))
    assert found[1]["bubble_s"] == pytest.approx(found[0]["bubble_s"] / 2, rel=0.02)


def test_the_fullest_stage_paces_the_pipeline():
    even, uneven = (
        iteration(GPT_175B, plan(pipeline={"stages": 4, "layers": layers}), A100, PLAIN)
        for layers in ([24] * 4, [22, 30, 22, 22])
    )
    extra = uneven.parts["compute_s"] / even.parts["compute_s"]
    assert extra == pytest.approx(30 / 24, rel=0.05)
    assert Pipeline(stages=5).spread(96) == (20, 19, 19, 19, 19)


# The end of a step


def test_an_update_streams_weights_gradients_and_moments():
    found = iteration(LLAMA_8B, plan(tensor_parallel=1), A100, PLAIN).parts["optimizer_s"]
    by_hand = LLAMA_8B.parameters * (2 * 12 + 2 + 3 * 4)
    assert found == pytest.approx(by_hand / (OPTIMIZER_SHARE * A100.accelerator.memory_bandwidth), rel=1e-4)
    sharded = iteration(LLAMA_8B, plan(tensor_parallel=1, data_parallel=8, sharding=1), A100, PLAIN)
    assert sharded.parts["optimizer_s"] == pytest.approx(found / 8, rel=1e-4)


def test_muon_pays_five_iterations_of_products_and_saves_a_moment():
    adam, muon = (
        iteration(LLAMA_8B, plan(tensor_parallel=1, optimizer=name), A100, PLAIN).parts["optimizer_s"]
        for name in ("adam", "muon")
    )
    share = A100.efficiency.gemm["bf16"].compute_share
    products = 5 * 6 * 4096 * LLAMA_8B.parameters / (312e12 * PLAIN.sustained * share)
    moment = 2 * 4 * LLAMA_8B.parameters / (OPTIMIZER_SHARE * A100.accelerator.memory_bandwidth)
    assert muon - adam == pytest.approx(products - moment, rel=1e-4)


def test_dualpipe_holds_two_copies_of_the_weights():
    schedules = ("1f1b", "dualpipe")
    table = columns(GPT_175B, [plan(pipeline={"stages": 8, "schedule": name}) for name in schedules])
    once, twice = memory(GPT_175B, table, PLAIN).parameters_bytes
    assert twice == 2 * once


@pytest.mark.parametrize(("ranks", "expected"), [(100, 2.508), (1000, 3.241), (10_000, 3.852)])
def test_the_slowest_rank_is_as_slow_as_order_statistics_say(ranks, expected):
    assert slowest(np.array([float(ranks)]))[0] == pytest.approx(expected, rel=0.06)
    assert slowest(np.array([1.0]))[0] == 0.0


def test_waiting_for_the_slowest_grows_with_ranks_and_fixed_costs_do_not():
    jittery = PLAIN.model_copy(update={"jitter": 0.01, "iteration": 0.5})
    small, large = (
        iteration(GPT_175B, plan(data_parallel=n, global_batch=8 * n), A100, jittery) for n in (2, 64)
    )
    calm = iteration(GPT_175B, plan(data_parallel=2, global_batch=16), A100, PLAIN)
    assert small.parts["overhead_s"] > 0.5
    assert large.parts["overhead_s"] > small.parts["overhead_s"]
    assert calm.parts["overhead_s"] == 0.0


def test_a_layer_takes_at_least_its_launches():
    tiny = replace(GPT_175B, layers=12, hidden=64, heads=8, kv_heads=8, head_size=8, ffn=256, vocabulary=64)
    stack = PLAIN.model_copy(update={"layer_floor": 1.0})
    found = iteration(tiny, plan(tensor_parallel=1, global_batch=4), A100, stack)
    parts = found.parts
    assert parts["launch_s"] + parts["compute_s"] == pytest.approx(4 * 12 * 3.0)


# Search


def base(**changes) -> Plan:
    return plan(tensor_parallel=2, global_batch=4096, sequence_parallel=True, sharding=1, **changes)


def test_a_search_tries_every_even_cut_once_and_ranks_what_fits_first():
    space = Space(4096, base(), chunks=(1, 2, 3, 6, 12))
    found = search(GPT_175B, space, A100, load_training_stack("megatron-2022"))
    table = found.plans
    assert np.all(table.ranks == 4096)
    assert np.all(96 % table.tensor == 0)
    assert np.all(table.microbatches % 1 == 0)
    cuts = np.stack([table.tensor, table.stages, table.chunks, table.microbatch, table.recompute])
    assert np.unique(cuts, axis=1).shape[1] == len(table)
    best = found.order[0]
    assert found.fits[best]
    assert found.steps.seconds[best] == found.steps.seconds[found.fits].min()
    assert not found.fits[found.order[-1]] or found.fits.all()


def test_a_search_that_has_nothing_to_try_says_so():
    with pytest.raises(ClusterSimError, match="no plan of the space cuts 96 layers"):
        candidates(GPT_175B, Space(4095, base()))


def test_a_step_is_priced_in_milliseconds_and_thousands_of_plans_in_less_than_a_second():
    stack = load_training_stack("megatron-2022")
    one = plan(data_parallel=16, pipeline=8, global_batch=1024, recompute="selective", sequence_parallel=True)
    iteration(GPT_175B, one, A100, stack)
    began = time.process_time()
    for _ in range(10):
        iteration(GPT_175B, one, A100, stack)
    assert (time.process_time() - began) / 10 < 0.005
    table = broadcast(one, GPT_175B, microbatch=np.tile([1.0, 2.0, 4.0, 8.0], 650))
    began = time.process_time()
    found = steps(GPT_175B, table, A100, stack)
    assert len(found.seconds) == 2600
    assert time.process_time() - began < 1.0


def test_defaults_of_a_stack_overlap_nothing_and_memory_says_what_it_assumes():
    assert Overlap() == PLAIN.overlap
    assert 0.0 < held_in_memory.MARGIN < 0.1


# Encoders and vision


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (Encoder(12, 768, 12, 64, 3072, 30522, 514), 110e6),
        (Encoder(24, 1024, 16, 64, 4096, 30522, 514), 340e6),
        (Encoder(24, 1024, 128, 128, 65536, 32128, decoder_layers=24), 11.3e9),
        (Vision(Encoder(12, 768, 12, 64, 3072), 224, 16), 86e6),
        (Vision(Encoder(24, 1024, 16, 64, 4096), 224, 16, classes=1000), 307e6),
        (Vision(Encoder(32, 1280, 16, 80, 5120), 224, 14), 632e6),
    ],
    ids=["BERT base", "BERT large", "T5 11B", "ViT-B/16", "ViT-L/16", "ViT-H/14"],
)
def test_encoders_have_as_many_parameters_as_published(model, published):
    """BERT (arXiv 1810.04805), T5 (arXiv 1910.10683), ViT (arXiv 2010.11929)."""
    assert model.parameters == pytest.approx(published, rel=0.02)


def test_an_image_takes_the_operations_that_are_published():
    """ViT-B/16 at 224 pixels: 17.6 billion multiply-adds (DeiT, arXiv 2012.12877, Table 5)."""
    vit = Vision(Encoder(12, 768, 12, 64, 3072), 224, 16)
    assert vit.tokens == 197
    assert forward_flop(vision_operators(vit), 197.0) == pytest.approx(2 * 17.6e9, rel=0.01)
    halves = forward_flop(vision_operators(vit, 4), 197.0)
    assert halves * 4 == pytest.approx(forward_flop(vision_operators(vit), 197.0), rel=1e-12)


def test_a_decoder_attends_to_what_is_before_it_and_to_all_of_the_encoder():
    t5 = Encoder(2, 64, 4, 16, 128, 1000, decoder_layers=2)
    tokens, memory_tokens = 10.0, 7.0
    weights = 2.0 * (2 * (t5.layer_elements + 2 * 64 * 64) * tokens + 2 * 2 * 64 * 64 * memory_tokens)
    pairs = 2 * 4 * 64 * (tokens * (tokens + 1) / 2 + tokens * memory_tokens)
    found = forward_flop(decoder_operators(t5), tokens, memory_tokens)
    assert found == pytest.approx(weights + pairs + 2 * 1000 * 64 * tokens)
    assert decoder_operators(replace(t5, decoder_layers=0)) == ()
    assert forward_flop(encoder_operators(t5), 10.0) == pytest.approx(
        2.0 * 2 * t5.layer_elements * 10 + 2 * 4 * 64 * 100
    )


def test_a_vision_language_model_is_its_three_parts():
    """LLaVA-1.5 (arXiv 2310.03744): CLIP ViT-L/14 at 336 pixels, 576 tokens an image."""
    seen = Vision(Encoder(24, 1024, 16, 64, 4096), 336, 14)
    llama = Transformer(32, 4096, 32, 32, 128, 11008, 32000, 4096)
    model = VisionLanguage(seen, llama)
    assert model.tokens_per_image == 576
    assert model.parameters == seen.parameters + llama.parameters + 1024 * 4096 + 4096**2
    by_hand = forward_flop(vision_operators(seen), 577.0) + 2.0 * model.projector_elements * 576
    assert image_flop(model) == pytest.approx(by_hand)
    assert len(language_operators(model, 2)) == len(language_operators(model))
    assert VisionLanguage(seen, llama, pooled=4).tokens_per_image == 144
