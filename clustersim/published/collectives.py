"""K3 and N2: measured collectives inside a node, and at other sites, against the collective prices.

NCCL's protocols were fitted on groups of 2 and 8 with the newest version, at 16 bits; held out are groups
of 4, other versions and 8-bit buffers. Engines' kernels were fitted on the newest version of each; held out
are the others. Eager calls are left out: they take the time of the host's launches, which the serving
stack's overhead covers.
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

from clustersim.cost.collectives import collective_s, curve_of, wire_share
from clustersim.published.tables import Claim, Result, data_file, rate
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import Operation, efficiency_of

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
LEFT_OUT: Final = 4
"""The group size that no fit of NCCL has seen."""
NEW_SGLANG: Final = (0, 5, 14)
"""From this version on SGLang reduces with other kernels."""
OPERATIONS: Final[MappingProxyType[str, Operation]] = MappingProxyType(
    {
        "all_reduce": "all_reduce",
        "all_gather": "all_gather",
        "reduce_scatter": "reduce_scatter",
        "alltoall": "all_to_all",
    }
)
SITES: Final = MappingProxyType({"A100": "a100-80gb-sxm", "H200": "h200-sxm", "GB200": "gb200"})
"""Azure's machines."""
LARGE: Final = 2.0**20
"""Older libraries start more slowly: other sites are compared from this buffer size on."""
_AIC: Final = "nccl-tests in aiconfigurator-core 0.12 (Apache-2.0): A100 to GB300"
_PEERS: Final = "NCCL's own constants 4-43 %, ASTRA-sim 9.7-20.6 %"

K3: Final = Claim(
    "K3",
    "in-node all-reduce of 2 to 8 accelerators over NVLink, NCCL and engines' kernels in CUDA graphs",
    0.10,
    "nccl-tests and engine all-reduces in aiconfigurator-core 0.12 (Apache-2.0): A100 to GB300",
    "plain alpha-beta 19-27 %",
)
N2: Final = Claim("N2", "NCCL's collectives in a node over NVLink, 2 to 8 accelerators", 0.10, _AIC, _PEERS)
GROUP: Final = Claim(
    "N2-group", "the same for a group size left out: 4, from fits of 2 and 8", 0.14, _AIC, _PEERS
)
ELSEWHERE: Final = Claim(
    "N2-sites",
    "NCCL all-reduces of 1 MiB or more at other sites, 2 to 8 accelerators, nothing fitted there",
    None,
    "Azure AI benchmarking guide (A100, H200, GB200); VIA-Research/vTrain (A100, powers of two)",
)


def all_reduces(data: Path) -> list[Result]:
    """Compute K3."""
    frame = pd.concat([_nccl(data, ("all_reduce",)), _engines(data)], ignore_index=True)
    frame = frame[frame.system.isin(list(ACCELERATORS)) & (frame.num_gpus <= 8) & (frame.time_us > 0.0)]
    return _rated(K3, frame.reset_index(drop=True))


def in_node(data: Path) -> list[Result]:
    """Compute N2 inside a node."""
    frame = _nccl(data, tuple(OPERATIONS))
    return _rated(N2, frame[frame.system.isin(list(ACCELERATORS))].reset_index(drop=True))


def left_out_group(data: Path) -> list[Result]:
    """Compute N2 for groups of 4 alone, of versions and the format whose groups of 2 and 8 were fitted."""
    frame = _nccl(data, tuple(OPERATIONS))
    alike = frame.known & (frame.num_gpus == LEFT_OUT) & frame.system.isin(list(ACCELERATORS))
    return _rated(GROUP, frame[alike].reset_index(drop=True))


def other_sites(data: Path) -> list[Result]:
    """Compute N2 at sites that no fit has seen."""
    frame = pd.concat([_azure(data), _vtrain(data)], ignore_index=True)
    frame = frame[frame.bytes >= LARGE].assign(library="nccl", op="all_reduce", fitted=False)
    return _rated(ELSEWHERE, frame.reset_index(drop=True))


def _rated(claim: Claim, frame: pd.DataFrame) -> list[Result]:
    """Compare rows of system, library, operation, group and buffer size with their prices."""
    began = time.process_time()
    predicted = np.zeros(len(frame))
    for keys, rows in frame.groupby(["system", "library", "op", "num_gpus"]):
        system, library, op, ranks = cast("tuple[str, str, str, int]", keys)
        sizes = rows.bytes.to_numpy(np.float64)
        predicted[rows.index] = _price_s(system, library, (OPERATIONS[op], ranks), sizes)
    seconds = time.process_time() - began
    measured = frame.time_us.to_numpy(np.float64) * 1e-6
    held = ~frame.fitted.to_numpy(bool)
    return [rate(claim, split, predicted[m], measured[m], seconds) for split, m in _splits(held)]


def _splits(held: NDArray[np.bool_]) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    for split, mask in (("held-out", held), ("in-sample", ~held)):
        if mask.any():
            yield split, mask


def _price_s(system: str, library: str, what: tuple[Operation, int], size_bytes: Floats) -> Floats:
    operation, ranks = what
    accelerator = load_card(Accelerator, "topologies/accelerators", ACCELERATORS.get(system, system))
    curve = curve_of(efficiency_of(accelerator), library, operation)
    return collective_s(curve, operation, ranks, size_bytes, accelerator.link_bandwidth)


def _nccl(data: Path, operations: tuple[str, ...]) -> pd.DataFrame:
    """Return nccl-tests' rows; *known* are versions and formats that were fitted, *fitted* the rows."""
    frame = pd.read_csv(data_file(data, "network/nccl_aic.csv.gz"))
    frame = frame[frame.op.isin(operations) & (frame.time_us > 0.0)].assign(library="nccl")
    marked = _marked(frame, frame.dtype == "half")
    return marked.assign(known=marked.fitted, fitted=marked.fitted & (marked.num_gpus != LEFT_OUT))


def _engines(data: Path) -> pd.DataFrame:
    frame = pd.read_csv(data_file(data, "network/custom_allreduce_aic.csv.gz")).assign(op="all_reduce")
    frame = frame[~frame.backend.str.lower().str.contains("eager")]
    library = [_library(*pair) for pair in zip(frame.backend.str.lower(), frame.lib, strict=True)]
    return _marked(frame.assign(library=library), pd.Series(True, index=frame.index))


def _azure(data: Path) -> pd.DataFrame:
    """Return the times behind the bus bandwidths of Azure's guide."""
    frame = pd.read_csv(data_file(data, "network/network_published.csv"))
    frame = frame[frame.system.str.startswith("Azure ND") & (frame.metric == "busbw")]
    frame = frame.assign(ranks=frame.gpus.astype(float).astype(int), size=frame.size_bytes.astype(float))
    machine = [next(card for name, card in SITES.items() if name in system) for system in frame.system]
    share = np.array([wire_share("all_reduce", n) for n in frame.ranks])
    time_us = share * frame["size"] / (frame.value.astype(float) * 1e9) * 1e6
    return pd.DataFrame(
        {"system": machine, "num_gpus": frame.ranks, "bytes": frame["size"], "time_us": time_us}
    )


def _vtrain(data: Path) -> pd.DataFrame:
    frame = pd.read_csv(data_file(data, "training/training_allreduce_lut_vtrain.csv"))
    frame = frame[(frame.gpu == "a100") & (np.log2(frame.bytes) % 1 == 0)]
    names = {"n_gpus": "num_gpus", "time_us_outofplace": "time_us"}
    kept: pd.DataFrame = frame.rename(columns=names)[["num_gpus", "bytes", "time_us"]]
    return kept.assign(system="a100-80gb-sxm")


def _marked(frame: pd.DataFrame, sixteen_bits: Any) -> pd.DataFrame:
    """Mark the rows that the protocols were fitted on."""
    names = zip(frame.library, frame.lib, frame.system, strict=True)
    fitted = [lib in FITTED[of] or f"{system} {lib}" in FITTED[of] for of, lib, system in names]
    kept = ["system", "library", "op", "num_gpus", "bytes", "time_us"]
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
