"""Hugging Face configs read as model cards: the facts of real ones, few keys each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from clustersim.errors import ClusterSimError
from clustersim.spec.base import Spec, card, load_card
from clustersim.spec.huggingface import READERS, from_config
from clustersim.spec.load import load_spec
from clustersim.spec.model import Model

LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
DEEPSEEK = {
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {"model_type": "llama", **LLAMA},
    "mistral-7b": {
        "model_type": "mistral",
        **LLAMA,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "sliding_window": None,
    },
    "mixtral-8x7b": {
        "model_type": "mixtral",
        **LLAMA,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": 131072,
        "max_window_layers": 28,
    },
    "qwen3-8b": {
        "model_type": "qwen3",
        **LLAMA,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 24,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "max_position_embeddings": 131072,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "attention_bias": True,
    },
    "llama-4-scout": {
        "model_type": "llama4",
        "text_config": {
            "hidden_size": 5120,
            "intermediate_size": 8192,
            "intermediate_size_mlp": 16384,
            "num_hidden_layers": 48,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 202048,
            "max_position_embeddings": 10485760,
            "num_local_experts": 16,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 1,
            "attention_chunk_size": 8192,
        },
    },
    "deepseek-v3": {"model_type": "deepseek_v3", **DEEPSEEK},
    "deepseek-v2-lite": {
        "model_type": "deepseek_v2",
        **DEEPSEEK,
        "hidden_size": 2048,
        "intermediate_size": 10944,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 102400,
        "q_lora_rank": None,
        "n_routed_experts": 64,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
    },
    "glm-5": {
        "model_type": "glm_moe_dsa",
        **DEEPSEEK,
        "hidden_size": 6144,
        "intermediate_size": 12288,
        "num_hidden_layers": 78,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "vocab_size": 154880,
        "max_position_embeddings": 202752,
        "q_lora_rank": 2048,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
    },
    "minimax-m2.5": {
        "model_type": "minimax_m2",
        "hidden_size": 3072,
        "intermediate_size": 1536,
        "num_hidden_layers": 62,
        "num_attention_heads": 48,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 200064,
        "max_position_embeddings": 196608,
        "num_local_experts": 256,
        "num_experts_per_tok": 8,
    },
    "kimi-k2": {
        "model_type": "kimi_k2",
        **DEEPSEEK,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "vocab_size": 163840,
        "max_position_embeddings": 131072,
        "n_routed_experts": 384,
        "first_k_dense_replace": 1,
    },
    "gemma-2-9b": {
        "model_type": "gemma2",
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "num_hidden_layers": 42,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
    },
    "gemma-3-4b": {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "sliding_window": 1024,
        },
    },
    "phi-3-mini": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
        "max_position_embeddings": 131072,
        "sliding_window": 262144,
    },
    "phi-2": {
        "model_type": "phi",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 51200,
        "max_position_embeddings": 2048,
    },
    "opt-13b": {
        "model_type": "opt",
        "hidden_size": 5120,
        "ffn_dim": 20480,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
    },
    "bloom-176b": {
        "model_type": "bloom",
        "hidden_size": 14336,
        "n_layer": 70,
        "num_attention_heads": 112,
        "vocab_size": 250880,
    },
    "falcon-180b": {
        "model_type": "falcon",
        "hidden_size": 14848,
        "num_hidden_layers": 80,
        "num_attention_heads": 232,
        "num_kv_heads": 8,
        "new_decoder_architecture": True,
        "vocab_size": 65024,
        "bias": False,
    },
    "gpt-2-xl": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": 1600,
        "n_head": 25,
        "n_layer": 48,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
    "gpt-j-6b": {
        "model_type": "gptj",
        "n_embd": 4096,
        "n_head": 16,
        "n_layer": 28,
        "n_positions": 2048,
        "n_inner": None,
        "vocab_size": 50400,
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hugging_face_config_says_the_same_as_our_card(name: str) -> None:
    read = Model.model_validate(CONFIGS[name])
    assert read.transformer == load_card(Model, "workloads/models", name).transformer


def test_every_type_of_model_but_close_relatives_is_read_once_above() -> None:
    read = {str(c.get("model_type", "gemma3")) for c in CONFIGS.values()}
    assert set(READERS) - read == {"qwen2_moe", "deepseek_v32"}


def test_qwen2_moe_has_shared_experts_and_layers_without_any() -> None:
    config = CONFIGS["qwen3-30b-a3b"] | {
        "model_type": "qwen2_moe",
        "shared_expert_intermediate_size": 5632,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
    }
    read = Model.model_validate(config)
    assert read.experts is not None
    assert (read.experts.layers, read.experts.shared_ffn, read.qkv_bias) == (23, 5632, True)


def test_a_window_on_the_upper_layers_is_read() -> None:
    config = CONFIGS["qwen2.5-7b"] | {
        "use_sliding_window": True,
        "sliding_window": 4096,
        "max_window_layers": 20,
    }
    read = Model.model_validate(config)
    assert read.window is not None
    assert (read.window.tokens, read.window.layers) == (4096, 8)


def test_an_unknown_type_of_model_names_the_known_ones() -> None:
    with pytest.raises(
        ClusterSimError, match=r"unknown model_type 'llamma'; allowed: .*did you mean 'llama'"
    ):
        from_config({"model_type": "llamma"})
    with pytest.raises(ValidationError, match="unknown model_type 'Mamba'"):
        Model.model_validate(
            {"architectures": ["MambaForCausalLM"]} | {"architectures": ["MambaForCausalLM"]}
        )


def test_a_missing_key_is_named() -> None:
    config = {k: v for k, v in CONFIGS["deepseek-v3"].items() if k != "kv_lora_rank"}
    with pytest.raises(ValidationError, match="the config of a 'deepseek_v3' model lacks 'kv_lora_rank'"):
        Model.model_validate(config)


class Box(Spec):
    """Something that holds a model."""

    model: Annotated[Model, card("workloads/models")]


def test_a_spec_may_name_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["qwen3-8b"]), encoding="utf-8")
    file = tmp_path / "box.yaml"
    file.write_text("model: config.json\n", encoding="utf-8")
    box = load_spec(Box, file)
    assert box.model.transformer == load_card(Model, "workloads/models", "qwen3-8b").transformer
