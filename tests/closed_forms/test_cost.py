"""Prices against what can be worked out by hand: FLOPs, roofline corners, rings, bytes, sums of parts."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.cost import compute, measured, memory
from clustersim.cost.attention import prefill_parts, prefill_work
from clustersim.cost.collectives import collective_s, curve_of, wire_share
from clustersim.cost.compute import Formats
from clustersim.cost.step import Parallel, Replica, Sizes, breakdown, compile_prices, compile_replica
from clustersim.cost.table import read_table
from clustersim.errors import ClusterSimError, SpecError, UnknownNameError
from clustersim.models.operators import Attention, Elementwise, ExpertGemm, Gemm, Shard, operators
from clustersim.models.transformer import Experts, Latent, Transformer
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import card_files, load_card
from clustersim.spec.efficiency import (
    FOLDER,
    CollectiveCurve,
    Protocol,
    efficiency_of,
    load_efficiency,
)
from clustersim.spec.precision import Precision
from clustersim.spec.source import Source
from clustersim.spec.stack import load_stack

LLAMA_70B = Transformer(80, 8192, 64, 8, 128, 28672, 128256, 131072)
LLAMA_8B = Transformer(32, 4096, 32, 8, 128, 14336, 128256, 131072)
DEEPSEEK_V3 = Transformer(
    61,
    7168,
    128,
    128,
    128,
    18432,
    129280,
    163840,
    latent=Latent(kv_rank=512, rope_size=64, nope_size=128, value_size=128, q_rank=1536),
    experts=Experts(256, 8, 2048, layers=58, shared=1, shared_ffn=2048),
)
GPT_OSS = Transformer(
    36,
    2880,
    64,
    8,
    64,
    2880,
    201088,
    131072,
    window_tokens=128,
    window_layers=18,
    experts=Experts(128, 4, 2880, 36),
)
BY_HAND = Source(source="by hand", date="2026-11-24", kind="assumed")


def accelerator(name: str = "h100-sxm") -> Accelerator:
    return load_card(Accelerator, "topologies/accelerators", name)


def replica(model: Transformer = LLAMA_70B, parallel: Parallel | None = None, **changes) -> Replica:
    parallel = parallel or Parallel(4)
    card = changes.pop("accelerator", None) or accelerator()
    whole = Replica(model, card, efficiency_of(card), load_stack("vllm"), parallel, Precision())
    return replace(whole, **changes)


def token_flop(model: Transformer, shard: Shard) -> float:
    """FLOPs of one token on one rank, attention's query-key products and the embedding left out."""
    one = np.array([1.0])
    priced = [o for o in operators(model, shard) if isinstance(o, (Gemm, ExpertGemm))]
    return sum(o.layers * float(o.flop(one)[0]) for o in priced)


@pytest.mark.parametrize("model", [LLAMA_8B, LLAMA_70B, DEEPSEEK_V3, GPT_OSS])
def test_a_token_takes_two_flop_for_each_active_parameter(model):
    elements = model.weight_elements
    lookups = elements.embeddings + elements.norms
    assert token_flop(model, Shard()) == pytest.approx(2.0 * (model.active_parameters - lookups), rel=1e-12)


@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_tensor_ranks_share_the_flop_of_a_token_evenly(tensor):
    assert token_flop(LLAMA_70B, Shard(tensor)) * tensor == pytest.approx(token_flop(LLAMA_70B, Shard()))


def test_key_value_heads_are_copied_when_there_are_more_ranks_than_heads():
    qkv = next(o for o in operators(LLAMA_70B, Shard(16)) if o.name == "qkv")
    assert qkv.n == (4 + 2 * 1) * 128


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 200))
def test_attention_counts_each_query_key_pair_under_the_mask_and_the_window(tokens, past, window):
    full = Attention("a", 1, 0, 1, 1.0, 1.0, 1.0, 1.0, 1.0)
    windowed = replace(full, window_tokens=window)
    chunk, cached = np.array([float(tokens)]), np.array([float(past)])
    assert full.flop(chunk, cached)[0] == sum(past + i + 1 for i in range(tokens))
    pairs = sum(min(past + i + 1, window) for i in range(tokens))
    assert windowed.flop(chunk, cached)[0] == pytest.approx(pairs, abs=window)


def test_absorbed_latent_attention_costs_more_products_and_reads_the_latent_alone():
    latent = next(o for o in operators(DEEPSEEK_V3, Shard()) if isinstance(o, Attention))
    assert latent.pair_flop == 2 * 128 * (128 + 64 + 128)
    assert latent.decode_pair_flop == 2 * 128 * (512 + 64 + 512)
    assert latent.context_elements == 512 + 64


def test_one_token_touches_its_experts_and_many_touch_all_of_the_rank():
    local = next(o for o in operators(DEEPSEEK_V3, Shard(8, 8, 1)) if isinstance(o, ExpertGemm))
    assert local.touched(np.array([1.0]))[0] == pytest.approx(8 / 8)
    assert local.touched(np.array([1e5]))[0] == pytest.approx(32)
    assert local.rows(np.array([64.0]))[0] == pytest.approx(64 * 8 / 8)


@given(st.floats(1e-9, 1.0), st.floats(1e-9, 1.0), st.floats(1.0, 12.0), st.floats(0.0, 1e-3))
def test_the_parts_of_a_roofline_add_up_to_its_norm(compute_s, memory_s, norm, launch_s):
    price = compute.roofline(np.array([compute_s]), np.array([memory_s]), norm, launch_s)
    whole = launch_s + (compute_s**norm + memory_s**norm) ** (1 / norm)
    assert price.total_s[0] == pytest.approx(whole, rel=1e-9)
    assert min(part[0] for part in price.columns) >= 0.0


def test_a_product_tends_to_memory_at_few_rows_and_to_the_peak_at_many():
    card, curve = accelerator(), efficiency_of(accelerator()).gemm["bf16"]
    operator, rows = Gemm("g", 1, 8192, 8192), np.array([1.0, 1e6])
    few, many = compute.gemm(operator, rows, curve, card, Formats()).total_s
    moved = 2 * (8192 * 8192 + 2 * 8192) / (curve.memory_share * card.memory_bandwidth)
    peak = 2 * 1e6 * 8192**2 / (curve.compute_share * card.compute["bf16"])
    assert few == pytest.approx(curve.launch + moved, rel=2e-2)
    assert many == pytest.approx(curve.launch + peak, rel=1e-2)


def test_narrow_weights_are_read_in_proportion_to_their_width():
    card, curves = accelerator("b200-sxm"), load_efficiency("generic")
    operator, rows = Gemm("g", 1, 16384, 16384), np.array([1.0])
    times = {
        f: compute.gemm(operator, rows, curves.gemm["bf16"], card, Formats(f, f)).memory_s
        for f in ("bf16", "fp8")
    }
    assert times["bf16"] / times["fp8"] == pytest.approx(2.0, rel=1e-3)


def test_unfused_quantisation_costs_its_own_traffic():
    fused = replica(precision=Precision.model_validate("fp8"))
    apart = replace(fused, stack=fused.stack.model_copy(update={"fuses_quantisation": False}))
    curve = fused.curves.gemm["fp8"].quantise
    gap = (
        compile_replica(apart, Sizes(512, 8)).pass_s[512] - compile_replica(fused, Sizes(512, 8)).pass_s[512]
    )
    products = [o for o in fused.operators if isinstance(o, Gemm) and o.kind == "gemm"]
    moved = sum(o.layers * 3.0 * 512 * o.k for o in products)
    expected = moved / (curve.memory_share * 3.35e12) + 4 * 80 * curve.launch
    assert gap.sum() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_a_ring_sends_two_n_minus_one_over_n_of_the_buffer(ranks):
    ring = CollectiveCurve(source=BY_HAND, protocols=(Protocol(launch=1e-6, step=0.0, link_share=0.5),))
    time_s = collective_s(ring, "all_reduce", ranks, np.array([1e9]), 100e9)[0]
    assert time_s == pytest.approx(1e-6 + 2 * (ranks - 1) / ranks * 1e9 / 50e9)
    assert wire_share("all_gather", ranks) == pytest.approx((ranks - 1) / ranks)


def test_a_collective_takes_its_fastest_protocol_and_one_rank_takes_none():
    quick = Protocol(launch=2e-6, step=0.0, link_share=0.1, direct=True)
    wide = Protocol(launch=2e-5, step=0.0, link_share=0.9)
    curve = CollectiveCurve(source=BY_HAND, protocols=(quick, wide))
    small, large = collective_s(curve, "all_reduce", 4, np.array([1e3, 1e9]), 1e11)
    assert small == pytest.approx(2e-6 + 3 * 1e3 / 1e10)
    assert large == pytest.approx(2e-5 + 1.5 * 1e9 / 9e10)
    assert collective_s(curve, "all_reduce", 1, np.array([1e9]), 1e11)[0] == 0.0
    assert collective_s(curve, "all_reduce", 8, np.array([0.0]), 1e11)[0] == 0.0


@given(st.sampled_from(["nvidia-hopper", "nvidia-blackwell", "nvidia-ampere"]), st.integers(2, 8))
def test_more_bytes_never_reduce_faster(card, ranks):
    sizes = np.geomspace(256, 2**30, 60)
    for library, operations in load_efficiency(card).collectives.items():
        times = collective_s(operations["all_reduce"], "all_reduce", ranks, sizes, 450e9)
        assert (np.diff(times) > 0).all(), library


def test_an_unknown_library_falls_back_to_nccl_and_an_unknown_operation_is_told():
    curves = load_efficiency("nvidia-hopper")
    assert curve_of(curves, "mpi", "all_gather") is curves.collectives["nccl"]["all_gather"]
    bare = curves.model_copy(update={"collectives": {}})
    with pytest.raises(UnknownNameError, match="collective library"):
        curve_of(bare, "nccl", "all_reduce")


@given(st.integers(1, 4096), st.integers(0, 64), st.integers(0, 200_000))
def test_a_breakdown_adds_up_to_the_compiled_prices(tokens, sequences, context):
    whole = replica()
    prices = compile_replica(whole, Sizes(4096, 64))
    rows = breakdown(whole, tokens, sequences, context)
    expected = prices.pass_s[tokens] + prices.output_s[sequences]
    if sequences:
        expected = (
            expected + prices.decode_s[0] + sequences * prices.decode_s[1] + context * prices.decode_s[2]
        )
    assert sum(row for _, row in rows) == pytest.approx(expected, rel=2e-6)


def test_long_passes_are_interpolated_to_a_millionth():
    whole = replica(DEEPSEEK_V3, Parallel(8, expert=8), precision=Precision.model_validate("fp8"))
    prices = compile_replica(whole, Sizes(131072, 8))
    for tokens in (3001, 17_771, 90_001):
        exact = sum(row.sum() for _, row in breakdown(whole, tokens))
        assert prices.pass_s[tokens].sum() == pytest.approx(exact, rel=5e-6)


def test_compiling_a_hundred_thousand_tokens_takes_less_than_50_ms():
    whole = replica()
    compile_replica(whole, Sizes(1024, 8))
    spent = []
    for _ in range(5):
        began = time.process_time()
        compile_replica(whole, Sizes(131072, 1024))
        spent.append(time.process_time() - began)
    assert min(spent) < 0.05


@pytest.mark.parametrize("model", [LLAMA_70B, DEEPSEEK_V3, GPT_OSS])
@pytest.mark.parametrize("word", ["bf16", "fp8"])
def test_every_price_is_finite_and_grows_with_the_tokens(model, word):
    prices = compile_replica(
        replica(model, Parallel(8), precision=Precision.model_validate(word)), Sizes(8192, 256)
    )
    assert np.isfinite(prices.pass_s).all()
    assert (prices.pass_s >= 0.0).all()
    assert (np.diff(prices.pass_s.sum(axis=1)) > -1e-12).all()
    assert (prices.pass_s[0] == 0.0).all()
    assert (prices.decode_s >= 0.0).all()


def test_the_signature_of_compile_prices_takes_the_parts_of_a_replica():
    whole = replica()
    parts = (whole.model, whole.accelerator, whole.efficiency, whole.stack, whole.parallel, whole.precision)
    ours, theirs = compile_prices(*parts, Sizes(64, 8)), compile_replica(whole, Sizes(64, 8))
    assert (ours.pass_s == theirs.pass_s).all()


def test_decode_attention_reads_the_cache_at_its_share_of_bandwidth():
    whole = replica(parallel=Parallel(8))
    curve, card = whole.curves.decode["bf16"], whole.accelerator
    read_s = 80 * 2 * 1 * 128 * 2 / (curve.memory_share * card.memory_bandwidth)
    asked_s = 80 * 4 * 8 * 128 / (curve.compute_share * card.compute["bf16"])
    prices = compile_replica(whole, Sizes(8, 8))
    assert prices.decode_s[2].sum() == pytest.approx(
        (read_s**curve.norm + asked_s**curve.norm) ** (1 / curve.norm), rel=1e-9
    )
    assert prices.decode_s[0].sum() == pytest.approx(80 * curve.launch)


def test_prefill_attention_follows_its_closed_form():
    whole = replica(parallel=Parallel(8))
    curve, card = whole.curves.prefill["bf16"], whole.accelerator
    vector = compile_replica(whole, Sizes(8, 8)).prefill
    total = sum(prefill_parts(vector, *prefill_work(vector, 2000, 1000)))
    pairs = 2000 * 1000 + 2000 * 2001 / 2
    fill = min(1.0, (8 * np.ceil(2000 / 128) / 132) ** curve.fill_power)
    share = curve.compute_share * 3000 / (3000 + curve.half_tokens) * fill
    compute_s = 80 * 4 * 8 * 128 * pairs / (share * card.compute["bf16"])
    moved = 80 * (2 * 2000 * (2 * 8 * 128 + 2 * 128) + 2 * 3000 * 2 * 128)
    memory_s = moved / (curve.memory_share * card.memory_bandwidth)
    expected = 80 * curve.launch + (compute_s**curve.norm + memory_s**curve.norm) ** (1 / curve.norm)
    assert total == pytest.approx(expected, rel=1e-9)


def test_windowed_layers_have_slopes_of_their_own():
    prices = compile_replica(replica(GPT_OSS, Parallel(1)), Sizes(8, 8))
    assert prices.window_tokens == 128
    assert prices.decode_s[3] == pytest.approx(prices.decode_s[2])


def test_data_parallel_ranks_share_the_batch():
    alone = compile_replica(replica(LLAMA_8B, Parallel(1)), Sizes(512, 64))
    eight = compile_replica(replica(LLAMA_8B, Parallel(1, data=8)), Sizes(512, 64))
    assert eight.pass_s[512] == pytest.approx(alone.pass_s[64])
    assert eight.decode_s[2] * 8 == pytest.approx(alone.decode_s[2])


def test_a_pipeline_adds_only_the_hand_overs_to_the_latency():
    names = dict(breakdown(replica(parallel=Parallel(4, pipeline=2)), 64))
    handed = names.pop("stage hand-over").sum()
    assert handed > 0.0
    whole = sum(row.sum() for _, row in breakdown(replica(), 64))
    assert sum(row.sum() for row in names.values()) == pytest.approx(whole)


def test_an_engine_without_graphs_waits_for_its_launches():
    eager = replica(stack=load_stack("eager-2023"))
    prices = compile_replica(eager, Sizes(16384, 8))
    assert prices.pass_s[1].sum() == pytest.approx(80 * 0.4e-3)
    assert prices.pass_s[16384].sum() > 80 * 0.4e-3
    assert prices.pass_s[16384, 3] < prices.pass_s[1, 3]


def test_a_fused_normalisation_saves_its_launch_when_tensor_parallel():
    fused = replica(stack=load_stack("tensorrt-llm"))
    apart = replace(fused, stack=fused.stack.model_copy(update={"fuses_norms": False}))
    gap = compile_replica(apart, Sizes(8, 8)).pass_s[1] - compile_replica(fused, Sizes(8, 8)).pass_s[1]
    assert gap.sum() == pytest.approx(2 * 80 * fused.curves.elementwise.launch)


def test_experts_of_data_parallel_ranks_are_reached_through_the_network():
    names = dict(breakdown(replica(DEEPSEEK_V3, Parallel(1, data=8, expert=8)), 256))
    assert names["expert dispatch and combine"][2] > 0.0
    assert names["all-reduce"].sum() == 0.0


def test_an_expert_group_must_divide_the_stage():
    with pytest.raises(ClusterSimError, match="expert=3 does not divide the 8 accelerators"):
        Parallel(8, expert=3)
    with pytest.raises(ClusterSimError, match=r"parallel\.tensor is 0"):
        Parallel(0)


def test_power_levels_are_of_all_accelerators_and_never_below_idle():
    watts = compile_replica(replica(parallel=Parallel(4)), Sizes(8, 8)).power_w
    assert watts[1] == pytest.approx(4 * 0.95 * 700)
    assert watts[0] == pytest.approx(4 * accelerator().idle_power)
    assert (watts >= watts[0]).all()


def test_the_cache_of_a_token_has_its_published_size():
    sixteen = Precision()
    assert memory.kv_bytes(LLAMA_70B, Parallel(), sixteen).per_token == 327_680
    assert memory.kv_bytes(DEEPSEEK_V3, Parallel(), sixteen).per_token == 70_272
    assert memory.kv_bytes(LLAMA_70B, Parallel(8), sixteen).per_token == 327_680 / 8
    assert memory.kv_bytes(LLAMA_70B, Parallel(16), sixteen).per_token == 327_680 / 8
    assert memory.kv_bytes(DEEPSEEK_V3, Parallel(8), sixteen).per_token == 70_272


def test_a_sliding_window_caches_no_more_than_its_length():
    found = memory.kv_bytes(GPT_OSS, Parallel(), Precision())
    assert found.per_token == 18 * 2 * 8 * 64 * 2
    assert found.per_sequence == 18 * 128 * 2 * 8 * 64 * 2


@pytest.mark.parametrize("model", [LLAMA_8B, LLAMA_70B, DEEPSEEK_V3])
def test_weights_take_their_parameters_times_their_width(model):
    found = memory.weights_bytes(model, Parallel(), Precision())
    assert found == pytest.approx(2.0 * (model.parameters - model.weight_elements.norms), rel=1e-9)


def test_embeddings_and_head_stay_at_16_bits():
    found = memory.weights_bytes(LLAMA_70B, Parallel(), Precision.model_validate("fp8"))
    elements = LLAMA_70B.weight_elements
    assert found == elements.attention + elements.dense_ffn + 2 * (elements.embeddings + elements.lm_head)


def test_experts_are_spread_over_expert_ranks():
    one = memory.weights_bytes(DEEPSEEK_V3, Parallel(8), Precision())
    spread = memory.weights_bytes(DEEPSEEK_V3, Parallel(1, data=8, expert=8), Precision())
    elements = DEEPSEEK_V3.weight_elements
    assert spread - one == pytest.approx(2.0 * (_sharded(DEEPSEEK_V3) - _sharded(DEEPSEEK_V3, 8)), rel=1e-9)
    assert spread > 2.0 * elements.experts / 8


def _sharded(model: Transformer, tensor: int = 1) -> float:
    local = operators(model, Shard(tensor))
    rows = -(-model.vocabulary // tensor)
    products = sum(o.layers * o.weight_elements for o in local if isinstance(o, Gemm) and o.kind == "gemm")
    return products + 2 * rows * model.hidden


def test_vllm_left_the_cache_that_the_budget_predicts():
    """LLMServingSim's bench run: 2,588 blocks of 16 tokens on an RTX 4090 with Llama-3.1-8B (MIT)."""
    found = memory.budget(LLAMA_8B, accelerator("rtx-4090"), Parallel(), Precision())
    assert found.capacity_blocks(16) == pytest.approx(2588, rel=0.03)


def test_too_large_a_model_says_what_is_needed_and_what_would_fit():
    said = memory.why_not(LLAMA_70B, accelerator(), Parallel(1), Precision())
    assert said is not None
    assert "131.4 GiB of weights" in said
    assert "H100" in said
    assert "tensor_parallel=2 would fit" in said
    assert memory.why_not(LLAMA_70B, accelerator(), Parallel(4), Precision()) is None


def test_a_fitting_tensor_parallel_is_the_one_that_is_told():
    said = memory.why_not(LLAMA_70B, accelerator(), Parallel(1), Precision()) or ""
    told = int(said.split("tensor_parallel=")[-1].split()[0])
    assert memory.why_not(LLAMA_70B, accelerator(), Parallel(told), Precision()) is None


def test_every_accelerator_finds_curves_and_every_curve_its_source():
    for name in card_files("topologies/accelerators"):
        card = accelerator(name)
        curves = efficiency_of(card)
        told = dict(curves.curves())
        assert {"gemm.bf16", "elementwise", "prefill.bf16", "decode.bf16", "experts.bf16"} <= set(told)
        assert all(curve.source.source and curve.card for curve in told.values())


def test_what_a_card_does_not_hold_it_inherits_and_says_so():
    hopper = load_efficiency("nvidia-hopper")
    assert hopper.gemm["bf16"].card == "nvidia-hopper"
    assert hopper.elementwise.card == "generic"
    assert "gemm.bf16: fitted (nvidia-hopper)" in hopper.provenance
    assert "elementwise: fitted (generic)" in hopper.provenance
    assert load_efficiency("nvidia-blackwell-ultra").gemm["bf16"].card == "nvidia-blackwell"


def test_hardware_without_measurements_gets_the_generic_curves():
    assert efficiency_of(accelerator("ascend-910b")).name == "generic"
    assert efficiency_of(accelerator("rtx-pro-6000")).name == "nvidia-blackwell-pcie"
    assert efficiency_of(accelerator("b200-sxm")).name == "nvidia-blackwell"
    with pytest.raises(UnknownNameError, match="efficiency card"):
        load_efficiency("nvidia-hoper")


def test_an_engine_lays_its_own_kernels_over_the_card():
    hopper = load_efficiency("nvidia-hopper")
    vllm = hopper.for_stack("vllm")
    assert vllm.decode["fp8"].element_flop > 0.0
    assert vllm.decode["bf16"] == hopper.decode["bf16"]
    assert hopper.for_stack("none of these") is hopper


@pytest.mark.parametrize("name", sorted(card_files(FOLDER)))
def test_every_card_states_errors_of_what_was_fitted_on_tables(name):
    for key, curve in load_efficiency(name).curves():
        if (
            curve.source.kind == "fitted"
            and "aiconfigurator-core" in curve.source.source
            and "MLA" not in curve.source.source
        ):
            assert curve.error is not None, key


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_measured_products_are_met_and_their_neighbours_follow(tmp_path):
    whole = replica(LLAMA_8B, Parallel(1))
    plain = dict(breakdown(whole, 64))["feed-forward down"].sum() / 32
    file = write(tmp_path, f"kind,m,n,k,dtype,seconds\ngemm,64,4096,14336,bf16,{2 * plain}\n")
    table = read_table(file)
    laid = dict(breakdown(replace(whole, table=table), 64))
    assert laid["feed-forward down"].sum() / 32 == pytest.approx(2 * plain)
    assert laid["qkv"].sum() == pytest.approx(2 * dict(breakdown(whole, 64))["qkv"].sum())


def test_measured_passes_are_met_exactly_and_kept_in_proportion_between(tmp_path):
    whole = replica(LLAMA_8B, Parallel(1))
    file = write(tmp_path, "kind,tokens,seconds\npass,100,0.02\npass,400,0.05\n")
    laid = compile_replica(replace(whole, table=read_table(file)), Sizes(1024, 8))
    plain = compile_replica(whole, Sizes(1024, 8))
    assert laid.pass_s[100].sum() == pytest.approx(0.02)
    assert laid.pass_s[400].sum() == pytest.approx(0.05)
    low, between, high = (laid.pass_s[t].sum() / plain.pass_s[t].sum() for t in (100, 200, 400))
    assert min(low, high) <= between <= max(low, high)


def test_measured_decodes_replace_the_affine_price(tmp_path):
    once, sequence, token = 3e-4, 2e-6, 1e-7
    rows = [(n, c, once + n * sequence + n * c * token) for n in (1, 8, 64) for c in (128, 1024, 8192)]
    text = "kind,sequences,context,seconds\n" + "".join(f"decode,{n},{c},{s}\n" for n, c, s in rows)
    whole = replica(LLAMA_8B, Parallel(1), table=read_table(write(tmp_path, text)))
    found = compile_replica(whole, Sizes(8, 8)).decode_s.sum(axis=1)
    assert found[:3] == pytest.approx([once, sequence, token], rel=1e-6)


def test_a_changed_table_is_another_table_and_changes_the_prices(tmp_path):
    whole = replica(LLAMA_8B, Parallel(1))
    file = write(tmp_path, "kind,tokens,seconds\npass,100,0.02\n")
    first = read_table(file)
    before = compile_replica(replace(whole, table=first), Sizes(128, 8)).pass_s[100].sum()
    file.write_text("kind,tokens,seconds\npass,100,0.03\n", encoding="utf-8")
    second = read_table(file)
    after = compile_replica(replace(whole, table=second), Sizes(128, 8)).pass_s[100].sum()
    assert (before, after) == (pytest.approx(0.02), pytest.approx(0.03))
    assert first.digest != second.digest


def test_a_changed_card_changes_the_prices():
    whole = replica()
    slower = whole.efficiency.gemm["bf16"].model_copy(update={"memory_share": 0.4})
    changed = replace(
        whole, efficiency=whole.efficiency.model_copy(update={"gemm": {"bf16": slower}, "stacks": {}})
    )
    price = compile_replica(whole, Sizes(8, 8)).pass_s[1].sum()
    assert compile_replica(changed, Sizes(8, 8)).pass_s[1].sum() > 1.4 * price


def test_every_impossible_row_is_told_with_its_line(tmp_path):
    text = (
        "kind,m,n,k,dtype,seconds\n"
        "gemm,64,4096,4096,bf16,nan\n"
        "gemm,64,4096,4096,bf16,0\n"
        "gemm,64,4096,4096,bf16,-1\n"
        "gem,64,4096,4096,bf16,1\n"
        "gemm,64,4096,,bf16,1\n"
    )
    with pytest.raises(SpecError) as caught:
        read_table(write(tmp_path, text))
    lines = [problem.line for problem in caught.value.problems]
    assert lines == [2, 3, 4, 5, 6]
    assert "'nan' is not positive and finite" in str(caught.value)
    assert "did you mean 'gemm'" in str(caught.value)


def test_a_row_faster_than_the_hardware_is_told_with_its_limit(tmp_path):
    text = "kind,m,n,k,dtype,seconds\ngemm,8192,8192,8192,bf16,1e-3\ngemm,8192,8192,8192,bf16,2e-3\n"
    table = read_table(write(tmp_path, text))
    whole = replica(LLAMA_8B, Parallel(1), table=table)
    with pytest.raises(
        SpecError, match=r"table.csv:2: seconds: 0.001 is less than .* limit of 0.00111"
    ) as caught:
        compile_replica(whole, Sizes(8, 8))
    assert len(caught.value.problems) == 1


def test_products_that_fit_the_cache_may_beat_the_memory_but_not_the_peak():
    card = accelerator()
    limits = measured._Limits(card, Precision(), (), 1)
    small = 2 * (64 * 2048 + 2048 * 2048 + 64 * 2048)
    assert small < 3 * card.cache
    row = read_row(64, 2048, 2048)
    assert limits.of(row) == pytest.approx(2 * 64 * 2048**2 / card.compute["bf16"])


def read_row(m: int, n: int, k: int):
    from clustersim.cost.table import Row

    return Row("gemm", (m, n, k), "bf16", 1.0, 1)


def test_a_parquet_table_is_read_as_a_csv_one(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table({"kind": ["pass"], "tokens": [100], "seconds": [0.02]}), file)
    assert read_table(file).of("pass")[0].seconds == 0.02


def test_an_empty_or_missing_table_is_refused(tmp_path):
    with pytest.raises(SpecError, match="holds no measurement"):
        read_table(write(tmp_path, "kind,tokens,seconds\n"))
    with pytest.raises(ClusterSimError, match="cannot be read"):
        read_table(tmp_path / "none.csv")


def test_elementwise_kernels_move_16_bit_numbers():
    assert Elementwise("e", 1, 4.0).bytes(np.array([10.0]))[0] == 80.0
