"""K1 and K2: measured matrix products and decoder layers against the kernel prices.

K1 prices products of all accelerators with the one generic set of constants, which was chosen on half of
the (n, k) pairs; the other half is held out. K2 prices whole layers (four products and the elementwise
kernels) with curves fitted on three models of Vidur's tables, and their measured products laid over them
where they are at hand, as a user's own table would be; the other models are held out.
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

from clustersim.cost import compute
from clustersim.cost.compute import Formats
from clustersim.cost.measured import product_ratios
from clustersim.cost.table import MeasuredTable, Row
from clustersim.models.operators import Elementwise, Gemm
from clustersim.published.tables import Claim, Result, Split, data_file, rate
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import Efficiency, efficiency_of, load_efficiency

Floats = NDArray[np.float64]

ACCELERATORS: Final = MappingProxyType(
    {
        "a100_sxm": "a100-80gb-sxm",
        "h100_sxm": "h100-sxm",
        "h200_sxm": "h200-sxm",
        "b200_sxm": "b200-sxm",
        "a100": "a100-80gb-sxm",
        "h100": "h100-sxm",
        "a40": "a40",
    }
)
"""The card of each machine in the measured tables."""
FITTED_MODELS: Final = (
    "meta-llama/Llama-2-7b-hf",
    "internlm/internlm-20b",
    "codellama/CodeLlama-34b-Instruct-hf",
)
SMALLEST: Final = 512
"""Products with a smaller n or k are launches more than products, and no model of size has them."""
LIMITS: Final = MappingProxyType({"A100 SXM 80GB": 0.16})
"""Where the target of K1 differs from its general one."""

K1: Final = Claim(
    "K1",
    "bf16 GEMM times with one generic set of constants",
    0.12,
    "Vidur operator tables (MIT) and aiconfigurator-core 0.12 (Apache-2.0): A100, H100, H200, B200",
    "constant-efficiency roofline 10-19 %, random forest on shapes 13-25 %",
)
K2: Final = Claim(
    "K2",
    "a whole decoder layer of models that were not fitted",
    0.06,
    "Vidur operator tables (MIT): A40, A100, H100, tensor parallel 1-8; attention excluded",
)


def products(data: Path) -> list[Result]:
    """Compute K1: held out are half of the (n, k) pairs."""
    frame = pd.concat([_aiconfigurator(data), _vidur_products(_vidur(data))], ignore_index=True)
    frame = frame[(frame.n >= SMALLEST) & (frame.k >= SMALLEST) & (frame.time_s > 0.0)].reset_index(drop=True)
    generic = load_efficiency("generic")
    began = time.process_time()
    predicted = np.zeros(len(frame))
    for keys, rows in frame.groupby(["machine", "n", "k"]):
        machine, n, k = cast("tuple[str, int, int]", keys)
        tokens = rows.m.to_numpy(np.float64)
        predicted[rows.index] = _product_s(generic, _accelerator(machine), (n, k), tokens)
    seconds = time.process_time() - began
    held = _half(frame.n.to_numpy(), frame.k.to_numpy())
    return [
        _by_machine(K1, split, frame[mask], predicted[mask], seconds)
        for split, mask in (("held-out", held), ("in-sample", ~held))
        if mask.any()
    ]


def layers(data: Path) -> list[Result]:
    """Compute K2: held out are all models but the three that were fitted."""
    frame = _vidur(data)
    began = time.process_time()
    predicted = np.zeros(len(frame))
    tables = {gpu: _table(frame[frame.gpu == gpu]) for gpu in frame.gpu.unique()}
    for _, rows in frame.groupby(["gpu", "model", "num_tensor_parallel_workers"]):
        fitted = rows.model.iloc[0] in FITTED_MODELS
        predicted[rows.index] = _layer_s(rows, None if fitted else tables[rows.gpu.iloc[0]])
    seconds = time.process_time() - began
    measured = frame[[*_PRODUCTS, *_MOVES]].fillna(0.0).to_numpy().sum(axis=1) * 1e-3
    held = ~frame.model.isin(FITTED_MODELS).to_numpy()
    splits: tuple[tuple[Split, Any], ...] = (("held-out", held), ("in-sample", ~held))
    return [rate(K2, split, predicted[mask], measured[mask], seconds) for split, mask in splits if mask.any()]


def _by_machine(claim: Claim, split: Any, frame: pd.DataFrame, predicted: Floats, seconds: float) -> Result:
    """Rate all rows; the target is met if it is met on each accelerator."""
    measured = frame.time_s.to_numpy()
    result = rate(claim, split, predicted, measured, seconds)
    names = frame.machine.map({machine: _name(machine) for machine in frame.machine.unique()}).to_numpy()
    errors = pd.Series(np.abs(predicted / measured - 1.0)).groupby(names).mean()
    met = all(error <= LIMITS.get(str(name), 0.12) for name, error in errors.items())
    told = ", ".join(f"{name} {error:.1%}" for name, error in errors.items())
    return Result(**{**_fields(result), "title": f"{claim.title} ({told})", "met": met})


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in Result.__slots__}


def _aiconfigurator(data: Path) -> pd.DataFrame:
    """Return the bf16 products; the runs that loop to sample power are throttled and left out."""
    columns = ["system", "gemm_dtype", "m", "n", "k", "latency_ms", "power_w"]
    frame = pd.read_parquet(data_file(data, "kernels/aiconfigurator/gemm.parquet"), columns=columns)
    known = frame.system.isin([name for name in ACCELERATORS if "_" in name])
    frame = frame[known & (frame.gemm_dtype == "bfloat16") & frame.power_w.isna()]
    return pd.DataFrame(
        {
            "machine": frame.system,
            "m": frame.m,
            "n": frame.n,
            "k": frame.k,
            "time_s": frame.latency_ms.astype(np.float64) * 1e-3,
        }
    )


_PRODUCTS: Final = ("attn_pre_proj_ms", "attn_post_proj_ms", "mlp_up_proj_ms", "mlp_down_proj_ms")
_MOVES: Final = (
    "input_layernorm_ms",
    "attn_rope_ms",
    "post_attention_layernorm_ms",
    "mlp_act_ms",
    "add_ms",
)


def _vidur(data: Path) -> pd.DataFrame:
    """Return Vidur's layer table, one row a point; repeated measurements become their median."""
    frame = pd.read_parquet(data_file(data, "kernels/vidur/mlp_all.parquet"))
    frame = frame[frame.num_tokens > 0]
    keys = ["gpu", "model", "num_tensor_parallel_workers", "num_tokens", "use_gated_mlp"]
    return frame.groupby(keys, as_index=False).median(numeric_only=True)


def _vidur_products(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the four products of each row of Vidur's table on the accelerators of K1."""
    frame = frame[frame.gpu != "a40"]
    parts = []
    for _, rows in frame.groupby(["gpu", "model", "num_tensor_parallel_workers"]):
        for column, (n, k) in _shapes(rows).items():
            part = {"machine": rows.gpu, "m": rows.num_tokens, "n": n, "k": k, "time_s": rows[column] * 1e-3}
            parts.append(pd.DataFrame(part))
    return pd.concat(parts) if parts else pd.DataFrame(columns=["machine", "m", "n", "k", "time_s"])


def _shapes(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return (n, k) of the four products of a layer."""
    first, tensor = rows.iloc[0], int(rows.num_tensor_parallel_workers.iloc[0])
    hidden, ffn, head = int(first.n_embd), int(first.n_expanded_embd), int(first.n_embd // first.n_head)
    qkv = int(first.n_head + 2 * first.n_kv_head) * head // tensor
    up = (2 if first.use_gated_mlp else 1) * ffn // tensor
    shapes = (
        (qkv, hidden),
        (hidden, int(first.n_head) * head // tensor),
        (up, hidden),
        (hidden, ffn // tensor),
    )
    return dict(zip(_PRODUCTS, shapes, strict=True))


def _moves(rows: pd.DataFrame) -> Iterator[tuple[str, Elementwise]]:
    """Yield the elementwise kernels of a layer with their column."""
    first, tensor = rows.iloc[0], int(rows.num_tensor_parallel_workers.iloc[0])
    heads = (first.n_head + first.n_kv_head) * (first.n_embd // first.n_head) / tensor
    ffn = first.n_expanded_embd * (3 if first.use_gated_mlp else 2) / tensor
    sizes = (2 * first.n_embd, 2 * heads, 2 * first.n_embd, ffn, 3 * first.n_embd)
    for column, size in zip(_MOVES, sizes, strict=True):
        yield column, Elementwise(column, 1, float(size))


def _table(frame: pd.DataFrame) -> MeasuredTable:
    """Return the products of the fitted models as a measured table."""
    rows = []
    for _, part in frame[frame.model.isin(FITTED_MODELS)].groupby(["model", "num_tensor_parallel_workers"]):
        for column, (n, k) in _shapes(part).items():
            times = part[["num_tokens", column]].dropna()
            points = zip(times.num_tokens, times[column], strict=True)
            rows += [Row("gemm", (float(m), n, k), "bf16", ms * 1e-3, 0) for m, ms in points if ms > 0.0]
    return MeasuredTable("the fitted models", "", tuple(rows))


def _layer_s(rows: pd.DataFrame, table: MeasuredTable | None) -> Floats:
    """Return the predicted time of a layer for each row; kernels that were not measured do not count."""
    accelerator = _accelerator(str(rows.gpu.iloc[0]))
    curves = efficiency_of(accelerator).for_stack("vidur")
    tokens = rows.num_tokens.to_numpy(np.float64)
    total = np.zeros(len(rows))

    def predict(like: Gemm, sizes: Floats) -> Floats:
        return _product_s(curves, accelerator, (like.n, like.k), sizes)

    for column, shape in _shapes(rows).items():
        product_s = _product_s(curves, accelerator, shape, tokens)
        if table:
            like = Gemm(column, 1, *shape)
            product_s *= product_ratios(table, like, tokens, "bf16", predict)
        total += product_s * rows[column].notna().to_numpy()
    for column, operator in _moves(rows):
        price = compute.elementwise(operator, tokens, curves.elementwise, accelerator)
        total += price.total_s * rows[column].notna().to_numpy()
    return total


def _product_s(
    curves: Efficiency, accelerator: Accelerator, shape: tuple[int, int], tokens: Floats
) -> Floats:
    operator = Gemm("product", 1, *shape)
    return compute.gemm(operator, tokens, curves.gemm["bf16"], accelerator, Formats()).total_s


def _accelerator(machine: str) -> Accelerator:
    return load_card(Accelerator, "topologies/accelerators", ACCELERATORS[machine])


def _name(machine: str) -> str:
    return _accelerator(machine).name


def _half(n: NDArray[Any], k: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which (n, k) pairs are held out: about half, by a fixed hash of the pair."""
    mixed = (n.astype(np.int64) * 73856093) ^ (k.astype(np.int64) * 19349663)
    return np.asarray(mixed % 1009 % 2 == 0)
