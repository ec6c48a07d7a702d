"""What a user may write for an accelerator, a node, a model, a precision, and what mistakes say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from clustersim.errors import SpecError, UnknownNameError
from clustersim.models import Experts, Latent, Transformer
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import Spec, card, card_files, load_card
from clustersim.spec.catalogue import FOLDERS, catalogue, show
from clustersim.spec.load import load_spec
from clustersim.spec.model import Model
from clustersim.spec.node import Node
from clustersim.spec.precision import BYTES, SHORT, Precision

# Precision


@pytest.mark.parametrize(
    ("word", "formats"),
    [
        ("bf16", ("bf16", "bf16", "bf16")),
        ("fp8", ("fp8", "fp8", "bf16")),
        ("int4", ("int4", "bf16", "bf16")),
        ({"weights": "fp8"}, ("fp8", "bf16", "bf16")),
    ],
)
def test_one_word_says_a_precision(word: Any, formats: tuple[str, str, str]) -> None:
    read = Precision.model_validate(word)
    assert (read.weights, read.activations, read.kv) == formats
    assert (read.weight_bytes, read.activation_bytes, read.kv_bytes) == tuple(BYTES[f] for f in formats)


def test_a_mistyped_precision_names_the_choices() -> None:
    with pytest.raises(ValidationError, match=r"unknown precision 'pf8'; allowed: .*did you mean 'fp8'"):
        Precision.model_validate("pf8")
    assert set(SHORT) == set(BYTES)


# Accelerators and nodes


def test_a_format_that_the_hardware_lacks_runs_at_the_next_wider_one() -> None:
    a100 = load_card(Accelerator, "topologies/accelerators", "a100-80gb-sxm")
    assert a100.flop_per_s("fp8") == a100.flop_per_s("bf16") == 312e12
    assert a100.flop_per_s("int4") == a100.flop_per_s("int8") == 624e12
    v100 = load_card(Accelerator, "topologies/accelerators", "v100")
    assert v100.flop_per_s("bf16") == v100.compute["fp16"] == 125e12


def test_a_format_that_cannot_be_computed_is_an_error() -> None:
    tpu = load_card(Accelerator, "topologies/accelerators", "tpu-v5e")
    with pytest.raises(UnknownNameError, match="number format of TPU v5e 'fp32'"):
        tpu.flop_per_s("fp32")


class Box(Spec):
    """Something that holds an accelerator and a node."""

    accelerator: Annotated[Accelerator, card("topologies/accelerators")] | None = None
    node: Annotated[Node, card("topologies/nodes")] | None = None
    model: Annotated[Model, card("workloads/models")] | None = None
    precision: Precision = Precision()


def problems(tmp_path: Path, text: str) -> str:
    file = tmp_path / "box.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(Box, file)
    return str(caught.value).replace(f"{file}:", "")


def test_cards_are_named_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "box.yaml"
    file.write_text("node: dgx-h100\nmodel: llama-3.1-8b\nprecision: fp8\n", encoding="utf-8")
    box = load_spec(Box, file)
    assert box.node is not None
    assert box.node.accelerator.memory == 80 * 2**30
    assert box.node.network_bandwidth == 8 * 400e9 / 8
    assert box.node.host_power == pytest.approx(10_200 - 8 * 700)
    assert box.model is not None
    assert box.model.transformer.layers == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accelerator: h100-smx\n", "1:1: accelerator: unknown accelerator 'h100-smx'"),
        ("accelerator: h100-smx\n", "did you mean 'h100-sxm'?"),
        ("node: dgx-h10\n", "unknown node 'dgx-h10'"),
        ("model: lama-3.1-8b\n", "did you mean 'llama-3.1-8b'?"),
        ("node:\n  accelerators: 8\n", "node.accelerator: is required"),
    ],
)
def test_mistakes_have_a_place_and_a_hint(tmp_path: Path, text: str, message: str) -> None:
    assert message in problems(tmp_path, text)


OWN = """
node:
  name: mine
  accelerator: l4
  accelerators: 2
  link: {{kind: {kind}, bandwidth: {bandwidth}}}
  power: {power}
  idle_power: 200 W
"""


def test_a_node_of_ones_own_needs_no_sources(tmp_path: Path) -> None:
    file = tmp_path / "box.yaml"
    file.write_text(OWN.format(kind="pcie", bandwidth="25 GB/s", power="600 W"), encoding="utf-8")
    box = load_spec(Box, file)
    assert box.node is not None
    assert box.node.flop_per_s("bf16") == 242e12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "pcie", "bandwidth": 25, "power": "600 W"}, "6:22: node.link.bandwidth: 25 needs a unit"),
        (
            {"kind": "pcie", "bandwidth": "0 B/s", "power": "600 W"},
            "must be positive for a link of kind 'pcie'",
        ),
        ({"kind": "pci", "bandwidth": "25 GB/s", "power": "600 W"}, "node.link.kind"),
        ({"kind": "pcie", "bandwidth": "25 GB/s", "power": "100 W"}, "200 W exceeds the power of 100 W"),
    ],
)
def test_a_wrong_node_says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in problems(tmp_path, OWN.format(**changes))


# Models

SMALL: dict[str, Any] = {
    "name": "small",
    "family": "toy",
    "layers": 4,
    "hidden": 8,
    "heads": 4,
    "kv_heads": 2,
    "head_size": 2,
    "ffn": 16,
    "vocabulary": 10,
    "max_context": 64,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_heads": 3}, "must divide the 4 heads"),
        ({"window": {"tokens": 8, "layers": 5}}, "exceeds the model's 4 layers"),
        ({"experts": {"experts": 4, "top_k": 5, "ffn": 4, "layers": 4}}, "exceeds the 4 experts"),
        ({"experts": {"experts": 4, "top_k": 1, "ffn": 4, "layers": 4, "shared": 1}}, "go together"),
        ({"ffn": 0}, "some layers have a dense feed-forward"),
        ({"tied": True}, "Extra inputs"),
    ],
)
def test_a_wrong_model_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Model.model_validate(SMALL | changes)


def test_parameters_of_a_small_model_by_hand() -> None:
    dense = Model.model_validate(SMALL).transformer
    attention, ffn, norms = 8 * 8 + 2 * 8 * 4 + 8 * 8, 3 * 8 * 16, 4 * 2 * 8 + 8
    assert dense.parameters == 2 * 10 * 8 + 4 * (attention + ffn) + norms
    assert dense.active_parameters == dense.parameters
    assert dense.kv_elements_per_token == 4 * 2 * 2 * 2
    assert (dense.full_layers, dense.dense_layers, dense.expert_layers) == (4, 4, 0)


def test_parameters_of_a_small_mixture_by_hand() -> None:
    dense = Model.model_validate(SMALL).transformer
    experts = {"experts": 6, "top_k": 2, "ffn": 4, "layers": 3, "shared": 1, "shared_ffn": 4}
    mixture = Model.model_validate(SMALL | {"experts": experts}).transformer
    one = 3 * 8 * 4
    assert mixture.parameters == dense.parameters + 3 * (7 * one + 6 * 8 - 3 * 8 * 16)
    assert mixture.parameters - mixture.active_parameters == 3 * 4 * one
    assert mixture.weight_elements.total == mixture.parameters
    assert mixture.dense_layers == 1


def test_every_variant_adds_what_it_should() -> None:
    plain = Model.model_validate(SMALL).transformer
    tied = Model.model_validate(SMALL | {"tied_embeddings": True}).transformer
    assert plain.parameters - tied.parameters == 10 * 8
    biased = Model.model_validate(SMALL | {"qkv_bias": True}).transformer
    assert biased.parameters - plain.parameters == 4 * (8 + 2 * 4)
    positions = Model.model_validate(SMALL | {"learned_positions": 64}).transformer
    assert positions.parameters - plain.parameters == 64 * 8
    two = Model.model_validate(SMALL | {"gated": False}).transformer
    assert plain.parameters - two.parameters == 4 * 8 * 16
    window = Model.model_validate(SMALL | {"window": {"tokens": 8, "layers": 3}}).transformer
    assert (window.full_layers, window.window_tokens, window.parameters) == (1, 8, plain.parameters)


def test_latent_attention_caches_the_latent_and_the_rotary_key() -> None:
    latent = Latent(kv_rank=5, rope_size=2, nope_size=3, value_size=4, q_rank=6)
    model = Transformer(**{k: v for k, v in SMALL.items() if k not in {"name", "family"}}, latent=latent)
    assert model.kv_elements_per_token == 4 * (5 + 2)
    query, down, up, out = 6 * (8 + 4 * 5), 8 * (5 + 2), 5 * 4 * (3 + 4), 4 * 4 * 8
    assert model.attention_parameters == 4 * (query + down + up + out)
    assert Experts(experts=4, top_k=1, ffn=2, layers=1).shared == 0


# The catalogue


def test_the_catalogue_lists_every_card_with_a_line_and_a_source() -> None:
    entries = catalogue()
    for kind in ("accelerators", "nodes", "models"):
        mine = [entry for entry in entries if entry.kind == kind]
        assert [entry.name for entry in mine] == list(card_files(FOLDERS[kind]))
        assert all(entry.summary and entry.source and "\n" not in entry.summary for entry in mine)
        assert mine == catalogue(kind)


def test_one_line_says_what_an_accelerator_is() -> None:
    (h100,) = [entry for entry in catalogue("accelerators") if entry.name == "h100-sxm"]
    assert h100.summary == "NVIDIA H100 SXM, 2022: 989 TFLOP/s bf16, 80 GiB at 3.35 TB/s, 700 W"
    assert h100.source.endswith("(2026-08-22, published)")


def test_show_returns_the_card_and_names_close_ones() -> None:
    assert show("dgx-h100").startswith("name: DGX H100\n")
    assert "accelerator: jetson-agx-orin" in show("nodes/jetson-agx-orin")
    assert "generation: orin" in show("accelerators/jetson-agx-orin")
    with pytest.raises(UnknownNameError, match=r"did you mean 'llama-3\.1-70b'"):
        show("llama-3.1-7b0")
    with pytest.raises(UnknownNameError, match="kind of card 'model'"):
        catalogue("model")


def test_listing_cards_imports_nothing_heavy() -> None:
    code = (
        "import sys; from clustersim.spec.catalogue import catalogue; catalogue();"
        "assert not {'numpy', 'pandas', 'plotly', 'pyarrow', 'numba', 'simpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
