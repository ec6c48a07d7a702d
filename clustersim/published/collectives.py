"""K3: measured all-reduces inside a node against the collective prices.

The protocols were fitted on the newest version of each library, at 16 bits; held out are its other
versions and 8-bit buffers, which share the machines and the group sizes. Eager calls are left out: they
take the time of the host's launches, which the serving stack's overhead covers.
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

from clustersim.cost.collectives import collective_s, curve_of
from clustersim.published.tables import Claim, Result, data_file, rate
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import efficiency_of

Floats = NDArray[np.float64]

ACCELERATORS: Final = MappingProxyType(
    {
        "a100_sxm": "a100-80gb-sxm",
        "h100_sxm": "h100-sxm",
        "h200_sxm": "h200-sxm",
        "b200_sxm": "b200-sxm",
        "b300_sxm": "b300-sxm",
        "gb200": "gb200",
        "gb300": "gb300",
    }
)
FITTED: Final = MappingProxyType(
    {
        "nccl": ("nccl 2.29.2", "a100_sxm nccl 2.27.3"),
        "vllm": (
            "a100_sxm vllm 0.14.0",
            "b200_sxm vllm 0.24.0",
            "b300_sxm vllm 0.24.0",
            "gb200 vllm 0.24.0",
            "gb300 vllm 0.27.0",
            "h100_sxm vllm 0.24.0",
            "h200_sxm vllm 0.24.0",
        ),
        "tensorrt-llm": ("trtllm 1.3.0rc20", "a100_sxm trtllm 1.0.0"),
        "sglang": ("sglang 0.5.14",),
        "sglang-0.5.9": ("sglang 0.5.10",),
    }
)
"""By library, the versions that were fitted, on all machines or on the one named before."""
NEW_SGLANG: Final = (0, 5, 14)
"""From this version on SGLang reduces with other kernels."""

K3: Final = Claim(
    "K3",
    "in-node all-reduce of 2 to 8 accelerators over NVLink, NCCL and engines' kernels in CUDA graphs",
    0.10,
    "nccl-tests and engine all-reduces in aiconfigurator-core 0.12 (Apache-2.0): A100 to GB300",
    "plain alpha-beta 19-27 %",
)


def all_reduces(data: Path) -> list[Result]:
    """Compute K3: held out are other versions of each library than the one that was fitted, and 8 bits."""
    frame = pd.concat([_nccl(data), _engines(data)], ignore_index=True)
    frame = frame[frame.system.isin(list(ACCELERATORS)) & (frame.num_gpus <= 8) & (frame.time_us > 0.0)]
    frame = frame.reset_index(drop=True)
    began = time.process_time()
    predicted = np.zeros(len(frame))
    for keys, rows in frame.groupby(["system", "library", "num_gpus"]):
        system, library, ranks = cast("tuple[str, str, int]", keys)
        predicted[rows.index] = _all_reduce_s(system, library, ranks, rows.bytes.to_numpy(np.float64))
    seconds = time.process_time() - began
    measured = frame.time_us.to_numpy(np.float64) * 1e-6
    held = ~frame.fitted.to_numpy(bool)
    return [rate(K3, split, predicted[m], measured[m], seconds) for split, m in _splits(held)]


def _splits(held: NDArray[np.bool_]) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    for split, mask in (("held-out", held), ("in-sample", ~held)):
        if mask.any():
            yield split, mask


def _all_reduce_s(system: str, library: str, ranks: int, size_bytes: Floats) -> Floats:
    accelerator = load_card(Accelerator, "topologies/accelerators", ACCELERATORS[system])
    curve = curve_of(efficiency_of(accelerator), library, "all_reduce")
    return collective_s(curve, "all_reduce", ranks, size_bytes, accelerator.link_bandwidth)


def _nccl(data: Path) -> pd.DataFrame:
    frame = pd.read_csv(data_file(data, "network/nccl_aic.csv.gz"))
    frame = frame[frame.op == "all_reduce"].assign(library="nccl")
    return _marked(frame, frame.dtype == "half")


def _engines(data: Path) -> pd.DataFrame:
    frame = pd.read_csv(data_file(data, "network/custom_allreduce_aic.csv.gz"))
    frame = frame[~frame.backend.str.lower().str.contains("eager")]
    library = [_library(*pair) for pair in zip(frame.backend.str.lower(), frame.lib, strict=True)]
    return _marked(frame.assign(library=library), pd.Series(True, index=frame.index))


def _marked(frame: pd.DataFrame, sixteen_bits: Any) -> pd.DataFrame:
    """Mark the rows that the protocols were fitted on."""
    names = zip(frame.library, frame.lib, frame.system, strict=True)
    fitted = [lib in FITTED[of] or f"{system} {lib}" in FITTED[of] for of, lib, system in names]
    kept = ["system", "library", "num_gpus", "bytes", "time_us"]
    return frame[kept].assign(fitted=np.array(fitted, dtype=bool) & sixteen_bits.to_numpy(bool))


def _library(backend: str, version: str) -> str:
    """Return the library of the efficiency cards that an engine's backend is."""
    if backend == "trtllm":
        return "tensorrt-llm"
    engine = backend.removesuffix("_graph")
    if engine == "sglang" and _numbers(version) < NEW_SGLANG:
        return "sglang-0.5.9"
    return engine


def _numbers(version: str) -> tuple[int, ...]:
    digits = version.rpartition(" ")[2].split(".")[:3]
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in digits)
