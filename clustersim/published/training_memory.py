"""T10: measured and published peaks of memory in training against the formulas of a plan's memory.

Peaks are what frameworks say they allocated: the driver's context and fragmentation are left out. All of
SimuMax's rows are in sample: ``clustersim.cost.training.memory.ADDED_BYTES`` was chosen with a look at them.
Of Zero Bubble's, no number was fitted, but that its attention is unfused, with dropout, was chosen of three
possibilities. Its first and last stages hold one layer less than the others (published, arXiv 2401.10241,
section 5).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost.training.memory import memory
from clustersim.cost.training.plans import Plans, broadcast
from clustersim.models.transformer import Transformer
from clustersim.published.tables import Claim, Result, Split, rate
from clustersim.published.training_rows import Setting, plans, read, transformer
from clustersim.spec.training import Plan
from clustersim.spec.training_stack import TrainingStack, load_training_stack

Floats = NDArray[np.float64]

T10: Final = Claim(
    "T10",
    "peaks of memory: SimuMax on B200, Zero Bubble's four schedules, ZeRO's stages",
    0.07,
    "MooreThreads/SimuMax@4dcaae5; arXiv 2401.10241, Tables 3 to 9; arXiv 1910.02054, Figure 1",
    "SimuMax 2 to 7 % (its own rows)",
)
ZERO_BYTES: Final = (120e9, 31.4e9, 16.6e9, 1.9e9)
"""States of 7.5 billion parameters on each of 64 ranks with ZeRO's stages 0 to 3 (published, Figure 1)."""


def peaks(data: Path) -> list[Result]:
    """Compute T10."""
    began = time.process_time()
    tables = [_simumax(data), _zero_bubble(data), _zero()]
    seconds = time.process_time() - began
    predicted, measured, fitted = (np.concatenate(column) for column in zip(*tables, strict=True))
    results: list[Result] = []
    splits: tuple[tuple[Split, NDArray[np.bool_]], ...] = (("held-out", ~fitted), ("in-sample", fitted))
    for split, mask in splits:
        if mask.any():
            results.append(rate(T10, split, predicted[mask], measured[mask], seconds))
    return results


def _simumax(data: Path) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    frame = read(data, "training_simumax_b200")
    frame = frame[frame.peak_mem_gib.notna()].reset_index(drop=True)
    predicted = _predict(frame, load_training_stack("megatron-core-b200"), even=True)
    return predicted, frame.peak_mem_gib.to_numpy(np.float64) * 2**30, np.ones(len(frame), dtype=bool)


def _zero_bubble(data: Path) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return Zero Bubble's peaks; the paper prints them as GB."""
    frame = read(data, "training_zero_bubble")
    frame = frame[frame.peak_mem_gib.notna()].reset_index(drop=True)
    predicted = _predict(frame, load_training_stack("megatron-2022"), even=False)
    return predicted, frame.peak_mem_gib.to_numpy(np.float64) * 1e9, np.zeros(len(frame), dtype=bool)


def _zero() -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the states of the example of ZeRO; neither activations nor what is gathered for a moment."""
    model = Transformer(38, 4096, 32, 32, 128, 16384, 256, 1024, gated=False, tied_embeddings=True)
    base = Plan(data_parallel=64, global_batch=64, sequence_tokens=1024)
    table = broadcast(base, model, sharding=np.arange(4.0), gradient_bytes=np.full(4, 2.0))
    found = memory(model, table, load_training_stack("megatron-2022"))
    states = found.parameters_bytes + found.gradients_bytes + found.optimizer_bytes
    return states * (7.5e9 / model.parameters), np.array(ZERO_BYTES), np.zeros(4, dtype=bool)


def _predict(frame: pd.DataFrame, stack: TrainingStack, *, even: bool) -> Floats:
    """Return the allocated peak of each row; layers are spread evenly, or thinner at both ends."""
    predicted = np.zeros(len(frame))
    keys = frame[["model", "layers", "hidden", "heads"]].fillna(-1)
    for rows in map(np.asarray, keys.groupby(list(keys.columns), sort=False).indices.values()):
        part = frame.iloc[rows]
        model = transformer(part.iloc[0])
        table = plans(part, model, Setting(stack))
        table = table if even else _thin_ends(table, model)
        predicted[rows] = memory(model, table, stack).allocated_bytes
    return predicted


def _thin_ends(table: Plans, model: Transformer) -> Plans:
    most = (model.layers + 2.0) / table.stages
    return replace(table, first_layers=most - 1.0, most_layers=most, last_layers=most - 1.0)
