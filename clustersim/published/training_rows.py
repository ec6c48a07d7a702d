"""Measured training steps read as models, machines and plans, and split into halves by a hash. No prices.

A row belongs to the half that stacks were fitted on if the first byte of the BLAKE2b hash of its identity is
even. The identity is what describes the run (model, accelerator, plan, batch, formats), never its result, so
that repeated measurements of one run fall into one half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost.training.machine import Machine, machine_of
from clustersim.cost.training.plans import OVERLAPS, RECOMPUTE, SCHEDULES, Plans, strides
from clustersim.cost.training.step import Steps, steps
from clustersim.models.transformer import Transformer
from clustersim.published.tables import data_file
from clustersim.spec.base import load_card
from clustersim.spec.model import Model
from clustersim.spec.node import Node
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]

IDENTITY: Final = (
    "model",
    "layers",
    "hidden",
    "heads",
    "seq",
    "gpu",
    "n_gpus",
    "tp",
    "pp",
    "vpp",
    "dp",
    "cp",
    "ep",
    "zero_stage",
    "mbs",
    "gbs",
    "recompute",
    "seq_par",
    "pp_schedule",
    "precision",
    "framework",
)
"""The columns that describe a run."""
COLUMNS: Final = (*IDENTITY, "ffn", "kv_heads", "vocab", "gated_mlp", "experts", "inter_node_Gbps_per_gpu")
"""The columns that a price needs."""
NODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "a100_80gb": "dgx-a100",
        "a100_40gb": "hgx-a100-40gb",
        "h100_80gb": "dgx-h100",
        "h100": "dgx-h100",
        "b200": "dgx-b200",
        "b300": "hgx-b300",
        "gb200": "gb200-nvl72",
        "gb300": "gb300-nvl72",
    }
)
"""The node of each accelerator in the tables."""
CARDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "deepseek-v3": "deepseek-v3",
        "deepseek-v2": "deepseek-v2",
        "gpt-oss-120b": "gpt-oss-120b",
        "gpt-oss-20b": "gpt-oss-20b",
        "qwen3-30b-a3b": "qwen3-30b-a3b",
        "qwen3-235b-a22b": "qwen3-235b-a22b",
        "mixtral-8x7b": "mixtral-8x7b",
        "kimi-k2": "kimi-k2",
        "llama3-8b": "llama-3-8b",
        "llama3-70b": "llama-3-70b",
        "llama3.1-405b": "llama-3.1-405b",
    }
)
"""Cards of models whose dimensions the tables' columns do not hold completely."""
VOCABULARY: Final = 51200
"""Where a row has none: Megatron's padded GPT-2 vocabulary (published, arXiv 2104.04473)."""

LORA_RANK: Final = 16
"""Of the adapters in rows that are LoRA (assumed: the recipes' default)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the rows of a table share and its columns do not say."""

    stack: TrainingStack
    gradient_bytes: float = 4.0


def read(data: Path, name: str) -> pd.DataFrame:
    """Return the rows of a measured table in ``training/`` on known machines, their half as ``fitted``."""
    frame = pd.read_csv(data_file(data, f"training/{name}.csv"), low_memory=False)
    frame = frame[frame.gpu.isin(list(NODES))].reset_index(drop=True)
    return frame.assign(fitted=[in_fit(row) for row in frame[list(IDENTITY)].itertuples(index=False)])


def in_fit(identity: Any) -> bool:
    """Return whether the run of this *identity* belongs to the half that was fitted.

    >>> in_fit(("GPT", 24, 1024)), in_fit(("GPT", 24, 4096))
    (False, True)
    """
    text = "|".join(_canonical(value) for value in identity)
    return blake2b(text.encode(), digest_size=8).digest()[0] % 2 == 0


def predict(frame: pd.DataFrame, setting: Setting) -> Floats:
    """Return the predicted seconds of a step of every row."""
    seconds = np.zeros(len(frame))
    for rows, found in priced(frame, setting):
        seconds[rows] = found.seconds
    return seconds


def priced(frame: pd.DataFrame, setting: Setting) -> Iterator[tuple[NDArray[np.intp], Steps]]:
    """Yield the priced steps of the rows of each model and machine, with the positions of those rows."""
    keys = frame[["model", "layers", "hidden", "heads", "vocab", "gpu", "inter_node_Gbps_per_gpu"]]
    groups = keys.fillna(-1).groupby(list(keys.columns), sort=False).indices
    for rows in map(np.asarray, groups.values()):
        part = frame.iloc[rows]
        model, box = transformer(part.iloc[0]), machine(part.iloc[0])
        yield rows, steps(model, plans(part, model, setting), box, setting.stack)


def transformer(row: Any) -> Transformer:
    """Return the model of a row: a card where experts or the head size matter, else its columns."""
    name = str(row.model).lower()
    card = next((card for key, card in CARDS.items() if name.startswith(key)), None)
    if card:
        return _cut(load_card(Model, "workloads/models", card).transformer, int(row.layers))
    hidden, heads = int(row.hidden), int(row.heads)
    vocabulary = VOCABULARY if pd.isna(row.vocab) else int(row.vocab)
    gated = bool(row.gated_mlp == 1)
    return Transformer(
        layers=int(row.layers),
        hidden=hidden,
        heads=heads,
        kv_heads=heads if pd.isna(row.kv_heads) else int(row.kv_heads),
        head_size=hidden // heads,
        ffn=4 * hidden if pd.isna(row.ffn) else int(row.ffn),
        vocabulary=vocabulary,
        max_context=int(row.seq),
        gated=gated,
        tied_embeddings=not gated,
        learned_positions=0 if gated else int(row.seq),
    )


def machine(row: Any) -> Machine:
    """Return the machine of a row, with the adapters that it names."""
    node = load_card(Node, "topologies/nodes", NODES[row.gpu])
    rate = row.inter_node_Gbps_per_gpu
    if not pd.isna(rate):
        node = node.model_copy(update={"nics": node.accelerators, "nic_bandwidth": float(rate) / 8.0 * 1e9})
    return machine_of(node)


def plans(frame: pd.DataFrame, model: Transformer, setting: Setting) -> Plans:
    """Return the plans of rows of one model."""
    one = np.ones(len(frame))

    def column(name: str, default: float) -> Floats:
        return np.asarray(frame[name].astype(np.float64).fillna(default), dtype=np.float64)

    tensor, stages, expert = column("tp", 1), column("pp", 1), column("ep", 1)
    each, extra = np.divmod(model.layers * one, stages)
    most = each + (extra > 0)
    recompute = frame.recompute.astype(str).map(lambda text: RECOMPUTE.get(text, 0.0)).to_numpy(np.float64)
    chunks = column("vpp", 1)
    context = column("cp", 1)
    data = np.maximum(column("n_gpus", 1) / (tensor * stages * context), 1.0)
    return Plans(
        data=data,
        tensor=tensor,
        context=context,
        expert=expert,
        expert_tensor=np.where(expert > 1, 1.0, tensor),
        stages=stages,
        chunks=chunks,
        schedule=np.array([_schedule(text, v) for text, v in zip(frame.pp_schedule, chunks, strict=True)]),
        first_layers=most,
        most_layers=most,
        last_layers=each,
        microbatch=column("mbs", 1),
        batch=column("gbs", 1),
        sequence=column("seq", 2048),
        sequence_parallel=column("seq_par", 0),
        sharding=column("zero_stage", 0),
        shard_ranks=data * context,
        recompute=recompute,
        recompute_layers=one * np.inf,
        compute_bits=_bits(frame),
        gradient_bytes=np.where(frame.precision == "fp16", 2.0, setting.gradient_bytes),
        parameter_bytes=2.0 * one,
        master_bytes=4.0 * one,
        state_bytes=8.0 * one,
        newton_schulz=0.0 * one,
        offload_optimizer=0.0 * one,
        offload_parameters=0.0 * one,
        offload_activations=0.0 * one,
        lora_rank=one * LORA_RANK * frame.model.astype(str).str.contains("LoRA").to_numpy(bool),
        lora_all=one,
        overlap=np.full((len(OVERLAPS), len(frame)), np.nan),
        stride=strides({"tensor": tensor, "context": context, "data": data, "pipeline": stages}),
    )


def _bits(frame: pd.DataFrame) -> Floats:
    """Return the bits of the inputs of each row's products."""
    names = frame.precision.astype(str).str.lower()
    eight, four = names.str.contains("fp8|mx"), names.str.contains("fp4")
    return np.where(four, 4.0, np.where(eight, 8.0, 16.0))


def _schedule(text: Any, chunks: float) -> float:
    name = str(text).lower()
    if name in SCHEDULES:
        return SCHEDULES[name]
    return SCHEDULES["interleaved" if chunks > 1 else "1f1b"]


def _cut(model: Transformer, layers: int) -> Transformer:
    """Return *model* with only *layers*, of which one stays dense where some are (as SimuMax cuts models)."""
    if layers == model.layers:
        return model
    experts = model.experts
    dense = model.layers - (experts.layers if experts else model.layers)
    cut = replace(experts, layers=layers - min(1, dense)) if experts else None
    return replace(
        model, layers=layers, experts=cut, window_layers=model.window_layers * layers // model.layers
    )


def _canonical(value: Any) -> str:
    """Return text that does not depend on how a number was read."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(cast("object", value))
