"""N4: measured dispatch and combine of experts' tokens against the prices of their kernels.

DeepEP's curves were fitted on half of the layers of H100, B200 and GB200 (normal kernels: on 4, 12 and 24
processors) and on 2 and 8 nodes; TensorRT-LLM's on 2, 8 and 32 ranks. Left out are kernels timed from the
host by vLLM and TensorRT-LLM (two equal machines differ by 24 %), and the rows of H200 between nodes, which
repeat those of H100 to the digit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost.dispatch import ROW_BYTES, Exchange, phase_s, wires_of
from clustersim.published.collectives import ACCELERATORS
from clustersim.published.tables import Claim, Result, data_file, rate
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.dispatch import DispatchCurve, Mode, load_dispatch

Floats = NDArray[np.float64]

N4: Final = Claim(
    "N4",
    "dispatch and combine of experts' tokens: DeepEP on 4 to 64 ranks, TensorRT-LLM on 2 to 64 of NVL72",
    0.15,
    "DeepEP in SGLang 0.5 and TensorRT-LLM 1.3 all-to-all, aiconfigurator-core 0.12 (Apache-2.0)",
)
AUTHORS: Final = Claim(
    "N4-authors",
    "DeepEP's own latencies on H800, 128 tokens, 8 to 256 ranks, nothing fitted there",
    0.15,
    "deepseek-ai/DeepEP, docs/legacy.md (V1, low-latency kernels)",
)
BETWEEN: Final = "sglang 0.5.6.post2"
"""The version that was measured between nodes."""
FITTED_MACHINES: Final = ("h100_sxm", "b200_sxm", "gb200")
FITTED_SMS: Final = (4, 12, 24)
FITTED_LAYERS: Final = frozenset(
    {
        "2048-8-128", "2688-6-128", "4096-10-512", "4096-22-512", "4096-8-128",
        "5120-1-128", "6144-2-8", "6144-8-160", "7168-6-384", "7168-8-288",
    }
)  # fmt: skip
"""Hidden size, experts a token and experts of the layers that were fitted."""
FITTED_RANKS: Final = (2, 8, 32)
"""Of TensorRT-LLM's kernels."""
NODE_RANKS: Final = MappingProxyType({"gb200": 4, "gb300": 4})
"""Accelerators of one node, where not 8."""
FORMATS: Final = MappingProxyType({"bfloat16": "bf16", "fp8": "fp8", "nvfp4": "fp4"})
"""TensorRT-LLM's names of formats."""
SIDES: Final = MappingProxyType({"NVLinkTwoSided": "trtllm-two-sided", "NVLinkOneSided": "trtllm-one-sided"})


def tokens_to_experts(data: Path) -> list[Result]:
    """Compute N4."""
    frame = pd.read_csv(data_file(data, "network/moe_a2a_aic.csv.gz"))
    frame = pd.concat([_deepep(frame), _trtllm(frame)], ignore_index=True)
    frame = frame[frame.time_us > 0.0].dropna(subset=KEYS).reset_index(drop=True)
    began = time.process_time()
    predicted = _predict(frame)
    seconds = time.process_time() - began
    measured, held = frame.time_us.to_numpy(np.float64) * 1e-6, ~frame.fitted.to_numpy(bool)
    return [rate(N4, split, predicted[m], measured[m], seconds) for split, m in _splits(held)]


def authors(data: Path) -> list[Result]:
    """Compute the low-latency kernels against what their authors publish."""
    frame = pd.read_csv(data_file(data, "network/network_published.csv"))
    frame = frame[frame.system.str.contains("low-latency H800") & (frame.metric == "latency")]
    began, predicted = time.process_time(), []
    for row in cast("Any", frame.itertuples()):
        at = Exchange(7168, 8, 256, int(row.gpus), int(row.nodes))
        phase = "dispatch" if "dispatch" in str(row.op) else "combine"
        predicted.append(_phase_s("h800-sxm", ("deepep", "low_latency", phase), at, np.array([128.0])))
    seconds = time.process_time() - began
    measured = frame.value.to_numpy(np.float64) * 1e-6
    return [rate(AUTHORS, "held-out", np.concatenate(predicted), measured, seconds)] if predicted else []


def _splits(held: NDArray[np.bool_]) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    for split, mask in (("held-out", held), ("in-sample", ~held)):
        if mask.any():
            yield split, mask


KEYS: Final = [
    "machine", "library", "mode", "phase", "hidden", "topk", "experts", "ranks", "nodes", "sms", "format"
]  # fmt: skip


def _predict(frame: pd.DataFrame) -> Floats:
    predicted = np.zeros(len(frame))
    for keys, rows in frame.groupby(KEYS):
        at = dict(zip(KEYS, cast("tuple[Any, ...]", keys), strict=True))
        exchange = Exchange(
            *(int(at[name]) for name in ("hidden", "topk", "experts", "ranks", "nodes", "sms"))
        )
        what = (at["library"], at["mode"], at["phase"])
        tokens = rows.tokens.to_numpy(np.float64)
        predicted[rows.index] = _phase_s(at["machine"], what, exchange, tokens, at["format"])
    return predicted


def _phase_s(
    machine: str, what: tuple[str, str, str], at: Exchange, tokens: Floats, number_format: str = ""
) -> Floats:
    """Price a phase of a library's mode; rows go out as fp8 and come back at 16 bits unless told."""
    accelerator = load_card(Accelerator, "topologies/accelerators", machine)
    library, mode, phase = what
    phases = load_dispatch(library).phases(cast("Mode", mode), accelerator.generation)
    curve: DispatchCurve = getattr(phases, phase)
    usual = "fp8" if phase == "dispatch" else "bf16"
    row_bytes = at.hidden * ROW_BYTES[number_format or usual]
    return phase_s(curve, at, tokens, row_bytes, wires_of(accelerator))


def _deepep(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame.kind.isin(["deepep_ll", "deepep_normal"]) & frame.lib.str.startswith("sglang")]
    between = frame.nodes > 1
    frame = frame[(~between & (frame.lib != BETWEEN)) | (between & (frame.system == "h100_sxm"))]
    between, low = frame.nodes > 1, frame.kind == "deepep_ll"
    members = frame.system.map(NODE_RANKS).fillna(8).where(~between, 8).astype(int)
    mode = np.where(low, "low_latency", np.where(between, "between_nodes", "normal"))
    return frame.assign(
        machine=frame.system.map(ACCELERATORS),
        library="deepep",
        mode=mode,
        ranks=members * frame.nodes,
        sms=frame.sms.where(frame.sms > 0, 20),
        format=np.where(frame.phase == "dispatch", "fp8", "bf16"),
        fitted=_fitted(frame),
    )


def _fitted(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Mark the rows that DeepEP's curves were fitted on."""
    between, low = frame.nodes > 1, frame.kind == "deepep_ll"
    layer = frame.hidden.astype(str) + "-" + frame.topk.astype(str) + "-" + frame.experts.astype(str)
    one = layer.isin(FITTED_LAYERS) & frame.system.isin(FITTED_MACHINES) & (low | frame.sms.isin(FITTED_SMS))
    counts = np.log2(frame.tokens).round(3) % 2 < 1
    several = np.where(
        low, frame.nodes.isin([2, 8]) & (frame.experts == 256), frame.sms.isin(FITTED_SMS) & counts
    )
    return np.asarray(np.where(between, several, one), dtype=np.bool_)


def _trtllm(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame.phase.isin(["alltoall_dispatch", "alltoall_combine"])]
    parts = frame.kind.str.split("/")
    phase = frame.phase.str.removeprefix("alltoall_")
    return frame.assign(
        machine=frame.system.map(ACCELERATORS),
        library=parts.str[1].map(SIDES),
        mode="normal",
        phase=phase,
        ranks=frame.ep,
        nodes=1,
        sms=20,
        format=np.where(phase == "combine", "bf16", parts.str[2].map(FORMATS)),
        fitted=frame.ep.isin(FITTED_RANKS),
    )
