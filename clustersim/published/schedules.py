"""T1: the Zero Bubble paper's bubble rates, from its own profiled times; and the memory peaks it measured.

Nothing is fitted. The paper reckons 1F1B and the zero-bubble schedules as their dependencies have it; of
interleaved 1F1B it lets only the first microbatch of a group wait for the hand-over from the last stage to
the first, which is ``interleaved-lenient``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost import pipeline
from clustersim.published.tables import Claim, Result, data_file, rate

Row = Mapping[Any, Any]

RATES: Final = "training/training_pp_schedule_golden.csv"
PEAKS: Final = "training/training_zero_bubble.csv"
PAPER: Final = "Qi et al., Zero Bubble Pipeline Parallelism, arXiv 2401.10241"

SCHEDULES: Final = MappingProxyType(
    {
        "1F1B": "1f1b",
        "1F1B-I": "interleaved-lenient",
        "ZB-H1": "zb-h1",
        "ZB-H2": "zb-h2",
        "ZB-1p": "zb-1p",
        "ZB-2p": "zb-2p",
    }
)
"""Our names by the paper's."""
CLAIMED: Final = ("1F1B", "1F1B-I", "ZB-H1")
DIGITS: Final = 4
"""To which the paper prints its rates."""

PARAMETER_BYTES: Final = 18
"""Weights in half precision, gradients, master weights and two moments in single (published: Megatron-LM)."""
VOCABULARY: Final = 51_200
"""GPT-2's 50,257 tokens, padded as Megatron-LM does (assumed: the paper does not say)."""
GIB: Final = 2.0**30

T1: Final = Claim(
    "T1",
    "Zero Bubble bubble rates of 1F1B, interleaved 1F1B and ZB-H1, to 4 digits",
    0.0,
    f"{PAPER}, Table 5, and the profiled times printed with it",
)
T10: Final = Claim(
    "T10",
    "peak memory of GPT 1.5B to 28.3B under 1F1B, interleaved 1F1B, ZB-1p and ZB-2p, A100",
    0.07,
    f"{PAPER}, tables of throughput and memory (Tables 4 to 9)",
    "SimuMax 2-7 % (its own cases)",
)


def bubbles(data: Path) -> list[Result]:
    """Compute T1, with rates rounded as the paper prints them."""
    frame = pd.read_csv(data_file(data, RATES))
    rows = frame[frame.schedule.isin(CLAIMED)].to_dict("records")
    began = time.process_time()
    shares = np.array([bubble_share(row) for row in rows])
    seconds = time.process_time() - began
    paper = np.array([row["bubble_rate_paper"] for row in rows], dtype=np.float64)
    return [rate(T1, "held-out", shares.round(DIGITS), paper, seconds)]


def bubble_share(row: Row, kept_share: float = 1.0) -> float:
    """Return the bubble rate of a row of the profiled times."""
    times = _times(row, int(row["vpp"]))
    name = SCHEDULES[row["schedule"]]
    return pipeline.timeline(name, times, int(row["m"]), kept_share).bubble_share


def peaks(data: Path) -> list[Result]:
    """Compare measured peaks with weights, optimizer and the activations that each order holds."""
    profiled = pd.read_csv(data_file(data, RATES)).drop_duplicates("model").set_index("model")
    frame = pd.read_csv(data_file(data, PEAKS))
    frame = frame[frame.peak_mem_gib.notna() & frame.model.isin(profiled.index)]
    began = time.process_time()
    predicted = [peak_bytes(row, profiled.loc[row["model"]].to_dict()) for row in frame.to_dict("records")]
    seconds = time.process_time() - began
    return [rate(T10, "held-out", np.array(predicted) / GIB, frame.peak_mem_gib.to_numpy(), seconds)]


def peak_bytes(row: Row, profiled: Row) -> float:
    """Return the memory of the fullest stage of a measured job; *profiled* has the times of its model."""
    name = SCHEDULES[row["pp_schedule"]]
    layers = _layers(row, is_interleaved=name == "interleaved-lenient")
    times = _times(profiled, layers.shape[1])
    found = pipeline.order_for(name, times, int(row["n_microbatches"]), kept_share(row))
    held_bytes = pipeline.peak_units(found, layers * layer_bytes(row), kept_share(row))
    hidden = float(row["hidden"])
    parameters = layers.sum(axis=1) * 12.0 * hidden**2
    parameters[[0, -1]] += VOCABULARY * hidden
    return float((held_bytes + PARAMETER_BYTES * parameters).max())


def layer_bytes(row: Row) -> float:
    """Return the activations of one layer and microbatch: sbh (34 + 5 as/h), arXiv 2205.05198."""
    hidden, length = float(row["hidden"]), float(row["seq"])
    return length * float(row["mbs"]) * (34.0 * hidden + 5.0 * float(row["heads"]) * length)


def kept_share(row: Row) -> float:
    """Return the share that gradients of weights need: 32 sbh of the above (Zero Bubble, Table 1)."""
    hidden, length = float(row["hidden"]), float(row["seq"])
    return 32.0 * hidden / (34.0 * hidden + 5.0 * float(row["heads"]) * length)


def _layers(row: Row, *, is_interleaved: bool) -> NDArray[np.float64]:
    """Return the layers of every (stage, chunk): one a chunk if interleaved; the two ends have one less."""
    stages, all_layers = int(row["pp"]), int(row["layers"]) + 2
    chunks = all_layers // stages if is_interleaved else 1
    layers = np.full((stages, chunks), all_layers / (stages * chunks))
    layers[0, 0] -= 1.0
    layers[-1, -1] -= 1.0
    return layers


def _times(row: Row, chunks: int) -> pipeline.StageTimes:
    """Return the profiled times of a stage, shared among its chunks."""
    forward_s, input_s, weight_s, hop_s = (
        float(row[name]) * 1e-3 for name in ("TF_ms", "TB_ms", "TW_ms", "Tcomm_ms")
    )
    passes_s = (forward_s / chunks, input_s / chunks, weight_s / chunks)
    return pipeline.StageTimes.equal(int(row["p"]), chunks, passes_s, hop_s)
