"""The catalogue against what vendors and papers publish, recomputed from the cards."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import card_files, load_card
from clustersim.spec.model import Model
from clustersim.spec.node import Node

HARDWARE = Path(__file__).parents[3] / "shared" / "data" / "hardware"
ACCELERATORS, NODES, MODELS = "topologies/accelerators", "topologies/nodes", "workloads/models"


def accelerator(name: str) -> Accelerator:
    return load_card(Accelerator, ACCELERATORS, name)


def node(name: str) -> Node:
    return load_card(Node, NODES, name)


def model(name: str) -> Model:
    return load_card(Model, MODELS, name)


def rows(file: str) -> dict[str, dict[str, str]]:
    if not (HARDWARE / file).is_file():
        pytest.skip(f"{file} of the measured data is not here")
    with (HARDWARE / file).open(encoding="utf-8", newline="") as lines:
        return {row["name"]: row for row in csv.DictReader(lines)}


# Accelerators


@pytest.mark.parametrize("name", card_files(ACCELERATORS))
def test_every_number_of_an_accelerator_has_a_source(name: str) -> None:
    card = accelerator(name)
    needed = {"compute", "memory", "power", "idle_power"}
    optional = {
        "link": card.link_bandwidth,
        "host": card.host_bandwidth,
        "network": card.network_bandwidth,
        "price": card.price_per_hour,
    }
    assert set(card.sources) == needed | {group for group, value in optional.items() if value}


@pytest.mark.parametrize("name", card_files(ACCELERATORS))
def test_an_accelerators_numbers_are_of_its_kind(name: str) -> None:
    card = accelerator(name)
    assert card.idle_power < card.power
    peaks = [card.compute[f] for f in ("fp32", "tf32", "bf16", "fp8", "fp4") if f in card.compute]
    assert peaks == sorted(peaks)
    assert 0.3 < card.flop_per_s("bf16") / card.memory_bandwidth < 2000
    assert card.cache is None or card.cache < card.memory


@pytest.mark.parametrize(
    "name",
    [n for n in card_files(ACCELERATORS) if accelerator(n).clock and accelerator(n).vendor != "Apple"],
)
def test_peaks_are_dense_a_power_of_two_per_clock_and_processor(name: str) -> None:
    """Matrix units do a power of two of operations a clock; a sparse peak would be the next power."""
    card = accelerator(name)
    if card.processors is None or card.clock is None:
        pytest.skip("the number of processors is not published")
    per_clock = (card.compute.get("bf16") or card.compute["fp16"]) / card.processors / card.clock
    ideal = 2.0 ** math.ceil(math.log2(per_clock * 0.99))
    slack = 0.15 if name in {"b200-sxm", "gb200", "h100-pcie", "h100-nvl", "h200-nvl"} else 0.02
    assert ideal * (1 - slack) < per_clock < ideal * 1.005


CARD_OF = {
    "V100-SXM2-32GB": "v100",
    "A100-SXM-40GB": "a100-40gb-sxm",
    "A100-SXM-80GB": "a100-80gb-sxm",
    "A100-PCIe-80GB": "a100-pcie",
    "H100-SXM-80GB": "h100-sxm",
    "H100-PCIe-80GB": "h100-pcie",
    "H100-NVL-94GB": "h100-nvl",
    "H800-SXM-80GB": "h800-sxm",
    "H200-SXM-141GB": "h200-sxm",
    "H200-NVL-141GB": "h200-nvl",
    "GH200-141GB": "gh200",
    "B200-SXM-180GB": "b200-sxm",
    "GB200 (per GPU)": "gb200",
    "B300-SXM-288GB": "b300-sxm",
    "GB300 (per GPU)": "gb300",
    "Rubin (VR NVL72, per GPU)": "rubin",
    "RTX PRO 6000 Blackwell Server": "rtx-pro-6000",
    "Jetson AGX Orin 64GB": "jetson-agx-orin",
    "Jetson Orin NX 16GB": "jetson-orin-nx",
    "Jetson Thor T5000": "jetson-thor",
    "TPU v7 (Ironwood)": "tpu-v7",
    "Gaudi 2": "gaudi2",
    "Gaudi 3": "gaudi3",
}
NO_CARD = {
    "MI455X": "announced, its power unpublished",
    "Ascend 950DT": "announced, its power unpublished",
    "Google Edge TPU (Coral)": "int8 alone, and no memory of its own",
    "Groq LPU v1": "no memory but SRAM: models are spread over hundreds",
    "Cerebras WSE-3": "a wafer: no memory but SRAM",
}
BANDWIDTH_DIFFERS = {"B300-SXM-288GB": "7.75 TB/s by the driver", "TPU v6e": "1638 GB/s by its maker"}
LINK_DIFFERS = {  # the table halves what its maker states in one direction
    "TPU v4": 300,
    "TPU v5e": 200,
    "TPU v5p": 600,
    "TPU v6e": 400,
}


def test_accelerators_agree_with_the_compiled_table() -> None:
    for name, row in rows("accelerators.csv").items():
        if name in NO_CARD:
            continue
        card = accelerator(CARD_OF.get(name, name.lower().replace(" ", "-")))
        peak = card.compute.get("bf16") or card.compute["fp16"]
        assert peak == pytest.approx(float(row["bf16"]) * 1e12), name
        if name not in BANDWIDTH_DIFFERS:
            assert card.memory_bandwidth == pytest.approx(float(row["mem_bw_gbs"]) * 1e9), name
        if card.link != "none":
            link = LINK_DIFFERS.get(name, float(row["scaleup_uni_gbs"]))
            assert card.link_bandwidth == pytest.approx(link * 1e9), name
        if row["tdp_w"]:
            assert card.power == float(row["tdp_w"]), name


def test_measured_products_stay_below_the_peaks() -> None:
    """The best matrix product anyone measured (ML Engineering) is 50 to 97 % of the dense peak."""
    measured = {n: r for n, r in rows("accelerators.csv").items() if r["meas_bf16_tflops"]}
    assert len(measured) >= 10
    for name, row in measured.items():
        peak = accelerator(CARD_OF.get(name, name.lower())).flop_per_s("bf16")
        share = float(row["meas_bf16_tflops"]) * 1e12 / peak
        assert 0.5 < share < 0.98, name


# Nodes

GIB, PETA = 2.0**30, 1e15
TOTALS = [
    # node, memory in the vendors' GB, dense PFLOP/s (halved where they print sparse ones), format, source
    ("dgx-a100", 640, 5 / 2, "bf16", "DGX A100: 640 GB, 5 petaFLOPS"),
    ("hgx-a100-40gb", 320, 5 / 2, "bf16", "DGX A100, first: 320 GB, 5 petaFLOPS"),
    ("dgx-h100", 640, 32 / 2, "fp8", "DGX H100: 640 GB, 32 petaFLOPS"),
    ("hgx-h200", 1128, 32 / 2, "fp8", "DGX H200: 1128 GB, 32 petaFLOPS"),
    ("dgx-b200", 1440, 72 / 2, "fp8", "DGX B200: 1440 GB, 72 petaFLOPS"),
    ("hgx-b300", 8 * 270, 72 / 2, "fp8", "verda.com: 270 GB a GPU; HGX B300: 72 petaFLOPS"),
    ("gb200-nvl72", 13_400, 720 / 2, "fp8", "GB200 NVL72: 13.4 TB, 720 petaFLOPS"),
    ("gb300-nvl72", 20_000, 720 / 2, "fp8", "GB300 NVL72: 20 TB, 720 petaFLOPS"),
    ("mi300x-8gpu", 1536, 10.4, "bf16", "MI300X platform: 1.5 TB, 10.4 petaFLOPS"),
    ("mi325x-8gpu", 2048, 10.4, "bf16", "MI325X platform: 2 TB, 10.4 petaFLOPS"),
    ("mi355x-8gpu", 2304, 40.3, "fp8", "MI355X platform: 2.3 TB, 40.3 petaFLOPS"),
    ("trn2-16", 1536, 20.8, "fp8", "Trn2 instance: 1.5 TB, 20.8 petaFLOPS"),
    ("gaudi3-8", 1024, None, "bf16", "Gaudi 3 server: 1 TB"),
    ("dgx-1-v100", 256, 1.0, "fp16", "DGX-1: 256 GB, 1 petaFLOPS"),
    ("dgx-2", 512, 2.0, "fp16", "DGX-2: 512 GB, 2 petaFLOPS"),
    ("tpu-v4-4", 128, 1.1, "bf16", "1.1 exaFLOPS a pod of 4096 chips"),
    ("tpu-v5e-8", 128, 50.63 / 32, "bf16", "50.63 petaFLOPS a pod of 256 chips"),
    ("tpu-v6e-8", 256, 234.9 / 32, "bf16", "234.9 petaFLOPS a pod of 256 chips"),
]


@pytest.mark.parametrize(("name", "memory", "peak", "number_format", "source"), TOTALS, ids=str)
def test_a_nodes_totals_are_the_published_ones(
    name: str, memory: float, peak: float | None, number_format: str, source: str
) -> None:
    box = node(name)
    assert box.accelerator_memory / GIB == pytest.approx(memory, rel=0.01), source
    if peak is not None:
        assert box.flop_per_s(number_format) / PETA == pytest.approx(peak, rel=0.015), source


@pytest.mark.parametrize("name", card_files(NODES))
def test_a_node_has_sources_and_feeds_its_accelerators(name: str) -> None:
    box = node(name)
    assert set(box.sources) == {"link", "network", "host", "host_memory", "power", "idle_power"}
    assert box.power >= box.accelerators * box.accelerator.power
    assert box.power > box.idle_power >= box.accelerators * box.accelerator.idle_power


def test_scale_up_bandwidth_of_a_rack_is_the_published_one() -> None:
    """GB200 NVL72 is sold with 130 TB/s of NVLink, both directions together."""
    rack = node("gb200-nvl72")
    assert 2 * rack.accelerators * rack.link.bandwidth == pytest.approx(130e12, rel=0.01)


# Models


@pytest.mark.parametrize("name", card_files(MODELS))
def test_parameters_and_cache_follow_from_the_dimensions(name: str) -> None:
    card = model(name)
    published, dimensions = card.published, card.transformer
    assert published.parameters is not None
    assert dimensions.parameters == pytest.approx(published.parameters, rel=published.tolerance)
    if published.active_parameters is not None:
        parts = dimensions.weight_elements
        active = dimensions.active_parameters - sum(getattr(parts, p) for p in published.active_excludes)
        assert active == pytest.approx(published.active_parameters, rel=published.tolerance)
    if published.kv_bytes_per_token is not None:
        assert 2 * dimensions.kv_elements_per_token == published.kv_bytes_per_token


@pytest.mark.parametrize("name", card_files(MODELS))
def test_a_models_numbers_have_sources_and_wide_tolerances_a_reason(name: str) -> None:
    card = model(name)
    assert {"dimensions", "parameters"} <= set(card.sources)
    assert ("active_parameters" in card.sources) == (card.published.active_parameters is not None)
    assert ("kv_bytes_per_token" in card.sources) == (card.published.kv_bytes_per_token is not None)
    assert (card.experts is not None) == (card.published.active_parameters is not None)
    assert card.published.tolerance <= 0.02 or card.published.note


EXACT = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-72b": 72_706_203_648,
    "phi-3-mini": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
}


@pytest.mark.parametrize(("name", "parameters"), EXACT.items())
def test_parameters_are_exact_to_the_last_one(name: str, parameters: int) -> None:
    """What the Hugging Face Hub counts in the released tensors."""
    assert model(name).transformer.parameters == parameters


NOT_DESCRIBED = {
    "Qwen3.5-397B-A17B": "linear attention on three layers of four",
    "Qwen3-VL-8B": "a vision-language model; its language part is qwen3-8b",
    "Qwen3-VL-235B-A22B": "a vision-language model; its language part is qwen3-235b-a22b",
    "DeepSeek-V4-Flash": "compressed attention",
    "DeepSeek-V4-Pro": "compressed attention",
    "Kimi-K3": "linear attention on most layers",
    "Gemma-4-26B-A4B": "two head sizes in one model, and dense feed-forwards beside the experts",
}
COMPUTED_DIFFERS = {"GPT-3 XL": "the table keeps the paper's 24 heads"}


def test_every_language_model_of_the_compiled_table_has_a_card_or_a_reason() -> None:
    seen = 0
    for name, row in rows("models.csv").items():
        if row["kind"] not in {"dense", "moe"} or name in NOT_DESCRIBED | COMPUTED_DIFFERS:
            continue
        seen += 1
        dimensions = model(name.lower().replace(" ", "-")).transformer
        assert 2 * dimensions.kv_elements_per_token == float(row["kv_bytes_per_token_bf16"]), name
        total, active = float(row["params_total_B_computed"]), float(row["params_active_B_computed"])
        assert dimensions.parameters / 1e9 == pytest.approx(total, rel=0.01), name
        assert dimensions.active_parameters / 1e9 == pytest.approx(active, rel=0.01), name
    assert seen >= 50
