"""Read the ``config.json`` of a Hugging Face model as the fields of a model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from clustersim.errors import ClusterSimError, UnknownNameError

Fields = dict[str, Any]


class _Config:
    """A config with its defaults; a missing key is named in the error."""

    def __init__(self, data: Mapping[str, Any], model_type: str):
        self.data, self.model_type = data, model_type

    def get(self, *names: str, default: Any = None) -> Any:
        """Return the first of *names* that is present and not null; without a default one must be."""
        for name in names:
            if self.data.get(name) is not None:
                return self.data[name]
        if default is None:
            raise ClusterSimError(f"the config of a {self.model_type!r} model lacks {names[0]!r}")
        return default


def is_config(value: Any) -> bool:
    """Tell whether *value* looks like a Hugging Face ``config.json``."""
    return isinstance(value, Mapping) and ("model_type" in value or "architectures" in value)


def from_config(config: Mapping[str, Any]) -> Fields:
    """Return the fields of a model card that say the same as *config*.

    Raises UnknownNameError for a type of model that is not known here, and ClusterSimError
    naming the key for a config that lacks one. Keys that a config may leave out take the defaults
    of the model's own class in Hugging Face transformers.
    """
    model_type = _model_type(config)
    text = {**config, **config.get("text_config", {})}
    read = _Config({**DEFAULTS.get(model_type, {}), **text}, model_type)
    fields = READERS[model_type](read)
    if fields.get("experts", {}).get("layers") == fields["layers"]:
        del fields["ffn"]
    name = str(config.get("_name_or_path") or "").rstrip("/").rpartition("/")[2]
    return {"name": name or model_type, "family": model_type, **fields}


def _model_type(config: Mapping[str, Any]) -> str:
    named = config.get("model_type") or _from_architecture(config.get("architectures") or [""])
    model_type = str(named).removesuffix("_text")
    if model_type not in READERS:
        raise UnknownNameError("model_type", model_type, READERS)
    return model_type


def _from_architecture(architectures: list[str]) -> str:
    stem = str(architectures[0])
    for suffix in ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"):
        stem = stem.removesuffix(suffix)
    return next((name for name in READERS if name.replace("_", "") == stem.lower()), stem)


def _decoder(read: _Config) -> Fields:
    """Return what the configs of Llama and most later models have in common."""
    hidden, heads = read.get("hidden_size"), read.get("num_attention_heads")
    return {
        "layers": read.get("num_hidden_layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": read.get("num_key_value_heads", default=heads),
        "head_size": read.get("head_dim", default=hidden // heads),
        "ffn": read.get("intermediate_size", "ffn_dim"),
        "vocabulary": read.get("vocab_size"),
        "max_context": read.get("max_position_embeddings"),
        "tied_embeddings": read.get("tie_word_embeddings", default=False),
        "qkv_bias": read.get("attention_bias", default=False),
    }


def _llama(read: _Config) -> Fields:
    return _decoder(read) | _window(read, read.get("num_hidden_layers"))


def _qwen(read: _Config) -> Fields:
    layers = read.get("num_hidden_layers")
    windowed = layers - read.get("max_window_layers", default=layers)
    return _decoder(read) | (_window(read, windowed) if read.get("use_sliding_window", default=False) else {})


def _qwen2(read: _Config) -> Fields:
    return _qwen(read) | {"qkv_bias": True}


def _qwen_moe(read: _Config) -> Fields:
    step = read.get("decoder_sparse_step", default=1)
    dense = read.get("mlp_only_layers", default=[])
    sparse = [i for i in range(read.get("num_hidden_layers")) if (i + 1) % step == 0 and i not in dense]
    shared = read.get("shared_expert_intermediate_size", default=0)
    experts = {
        "experts": read.get("num_experts"),
        "top_k": read.get("num_experts_per_tok"),
        "ffn": read.get("moe_intermediate_size"),
        "layers": len(sparse),
        "shared": 1 if shared else 0,
        "shared_ffn": shared,
    }
    return _qwen(read) | {"experts": experts, "qkv_bias": read.model_type == "qwen2_moe"}


def _mixtral(read: _Config) -> Fields:
    experts = {
        "experts": read.get("num_local_experts"),
        "top_k": read.get("num_experts_per_tok", "experts_per_token"),
        "ffn": read.get("intermediate_size"),
        "layers": read.get("num_hidden_layers"),
    }
    return _llama(read) | {"experts": experts}


def _gpt_oss(read: _Config) -> Fields:
    half = (read.get("num_hidden_layers") + 1) // 2
    return _mixtral(read) | _window(read, half) | {"qkv_bias": read.get("attention_bias", default=True)}


def _llama4(read: _Config) -> Fields:
    layers, step = read.get("num_hidden_layers"), read.get("interleave_moe_layer_step", default=1)
    width = read.get("intermediate_size")
    experts = {
        "experts": read.get("num_local_experts"),
        "top_k": read.get("num_experts_per_tok"),
        "ffn": width,
        "layers": layers // step,
        "shared": 1,
        "shared_ffn": width,
    }
    chunked = layers - layers // read.get("no_rope_layer_interval", default=4)
    window = {"tokens": read.get("attention_chunk_size", default=8192), "layers": chunked}
    return _decoder(read) | {"ffn": read.get("intermediate_size_mlp"), "experts": experts, "window": window}


def _deepseek(read: _Config) -> Fields:
    layers, width = read.get("num_hidden_layers"), read.get("moe_intermediate_size")
    shared = read.get("n_shared_experts", default=0)
    experts = {
        "experts": read.get("n_routed_experts"),
        "top_k": read.get("num_experts_per_tok"),
        "ffn": width,
        "layers": layers - read.get("first_k_dense_replace", default=0),
        "shared": shared,
        "shared_ffn": shared * width,
    }
    latent = {
        "kv_rank": read.get("kv_lora_rank"),
        "q_rank": read.get("q_lora_rank", default=0),
        "rope_size": read.get("qk_rope_head_dim"),
        "nope_size": read.get("qk_nope_head_dim"),
        "value_size": read.get("v_head_dim"),
    }
    return _decoder(read) | {"head_size": latent["value_size"], "experts": experts, "latent": latent}


def _gemma(read: _Config) -> Fields:
    layers = read.get("num_hidden_layers")
    pattern = read.get("sliding_window_pattern", default=2 if read.model_type == "gemma2" else 6)
    return _decoder(read) | _window(read, layers - layers // pattern)


def _phi(read: _Config) -> Fields:
    return _decoder(read) | {"gated": False, "qkv_bias": True}


def _opt(read: _Config) -> Fields:
    positions = read.get("max_position_embeddings")
    fixed = {"gated": False, "qkv_bias": True, "learned_positions": positions + 2}
    return _decoder(read) | fixed


def _bloom(read: _Config) -> Fields:
    return _gpt(read) | {"qkv_bias": True}


def _falcon(read: _Config) -> Fields:
    heads = read.get("num_attention_heads", "n_head")
    few = 1 if read.get("multi_query", default=True) else heads
    if read.get("new_decoder_architecture", default=False):
        few = read.get("num_kv_heads", "n_head_kv", default=heads)
    return _gpt(read) | {"kv_heads": few, "qkv_bias": read.get("bias", default=False)}


def _gpt2(read: _Config) -> Fields:
    return _gpt(read) | {"qkv_bias": True, "learned_positions": read.get("n_positions")}


def _gpt(read: _Config) -> Fields:
    """Return what the configs of GPT-2, GPT-J, BLOOM and Falcon have in common."""
    hidden = read.get("hidden_size", "n_embd", "n_embed")
    heads = read.get("num_attention_heads", "n_head")
    return {
        "layers": read.get("num_hidden_layers", "n_layer"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": heads,
        "head_size": hidden // heads,
        "ffn": read.get("n_inner", "ffn_hidden_size", default=4 * hidden),
        "vocabulary": read.get("vocab_size"),
        "max_context": read.get("n_positions", "seq_length", "max_position_embeddings"),
        "gated": False,
        "tied_embeddings": read.get("tie_word_embeddings", default=True),
    }


def _window(read: _Config, layers: int) -> Fields:
    """Return the sliding window on *layers* of the layers, unless the context never outgrows it."""
    kinds = read.get("layer_types", default=[])
    layers = kinds.count("sliding_attention") if kinds else layers
    tokens = read.get("sliding_window", default=0)
    if not tokens or not layers or tokens >= read.get("max_position_embeddings"):
        return {}
    return {"window": {"tokens": tokens, "layers": layers}}


READERS: Final[Mapping[str, Callable[[_Config], Fields]]] = MappingProxyType(
    {
        "llama": _llama,
        "mistral": _llama,
        "phi3": _llama,
        "mixtral": _mixtral,
        "minimax_m2": _mixtral,
        "qwen2": _qwen2,
        "qwen3": _qwen,
        "qwen2_moe": _qwen_moe,
        "qwen3_moe": _qwen_moe,
        "gpt_oss": _gpt_oss,
        "llama4": _llama4,
        "deepseek_v2": _deepseek,
        "deepseek_v3": _deepseek,
        "deepseek_v32": _deepseek,
        "kimi_k2": _deepseek,
        "glm_moe_dsa": _deepseek,
        "gemma2": _gemma,
        "gemma3": _gemma,
        "phi": _phi,
        "opt": _opt,
        "bloom": _bloom,
        "falcon": _falcon,
        "gpt2": _gpt2,
        "gptj": _gpt,
    }
)

DEFAULTS: Final[Mapping[str, Fields]] = MappingProxyType(
    {
        "bloom": {"seq_length": 2048},
        "falcon": {"max_position_embeddings": 2048},
        "gemma2": {"tie_word_embeddings": True},
        "gemma3": {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": True,
        },
        "gptj": {"tie_word_embeddings": False},
        "opt": {"tie_word_embeddings": True},
    }
)
"""Keys that a config may leave out (Hugging Face transformers, configuration classes)."""
