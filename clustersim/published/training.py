"""T2 to T9 and T11: measured and published training steps against the price of a step.

Each table is priced by the stack of its framework and era, whose few numbers were fitted on the half of its
rows that a hash of the run's identity picks (``clustersim.published.training_rows``); the others are held
out. The title of a held-out result says what the same rows err by with nothing fitted, and with one factor a
stack alone. What sources leave open is assumed here, once for a whole table:

- SC'21 Table 2: eight tensor ranks; two chunks a stage for 175B, three for 530B.
- SC'21 Table 1: of microbatches of 1, 2, 4, 8 and of up to four chunks, the fastest, as its authors chose.
- Llama-3: four chunks a stage, microbatches of one sequence.
- vTrain: the vocabulary of GPT-2, unpadded on one tensor rank.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost.training.flop import model_flop
from clustersim.cost.training.machine import Machine
from clustersim.cost.training.step import iteration
from clustersim.models.transformer import Transformer
from clustersim.published.tables import Claim, Result, Split, rate
from clustersim.published.training_known import known
from clustersim.published.training_rows import Setting, predict, priced, read
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import efficiency_of
from clustersim.spec.training import Plan, Sharding
from clustersim.spec.training_stack import TrainingStack, load_training_stack

Floats = NDArray[np.float64]

UNTUNED: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "kernel_share": 1.0,
        "generations": {},
        "attention_share": 1.0,
        "expert_share": 1.0,
        "unaligned_share": 1.0,
        "layer_floor": 0.0,
        "expert_floor": 0.0,
        "launch_norm": 8.0,
        "microbatch": 0.0,
        "iteration": 0.0,
        "gather_share": 0.8,
        "collective_share": 0.95,
        "moves_share": 1.4,
    }
)
"""What a stack's fitted fields are before any fit."""

PALM: Final = Transformer(118, 18432, 48, 1, 256, 73728, 256000, 2048, tied_embeddings=True)
"""PaLM 540B (published, arXiv 2204.02311, Table 1; SwiGLU, one key-value head)."""

T2: Final = Claim(
    "T2",
    "Megatron SC'21 Table 2: PTD-P and ZeRO-3 on 384 to 2,240 A100, 175B and 530B",
    0.05,
    "Narayanan et al., arXiv 2104.04473, Table 2",
    "Calculon 10.7 % (PTD-P only)",
)
T3: Final = Claim(
    "T3",
    "Korthikanti Table 5, full to selective recomputation, 22B to 1T, and 530B with 8 data ranks",
    0.04,
    "Korthikanti et al., arXiv 2205.05198, Table 5 and section 6.3",
    "Calculon 3.7 % (its tuning set), 11.5 % on the row with 8 data ranks",
)
T4: Final = Claim(
    "T4",
    "MegaScale 175B on 256 to 12,288 accelerators, both columns",
    0.08,
    "Jiang et al., arXiv 2402.15627, Table 2",
    "Calculon 8.6 % (Megatron's column)",
)
T5: Final = Claim(
    "T5",
    "vTrain's steps on one node of A100, launch-bound small models",
    0.084,
    "VIA-Research/vTrain@f8dda84",
    "vTrain's own 8.4 %, Calculon 38.9 %",
)
T5_MULTI: Final = replace(
    T5,
    id="T5-multi",
    title="vTrain's steps on 64 to 512 A100",
    target=0.11,
    peer="vTrain's own 14.7 %, Calculon 19.6 %",
)
T6: Final = Claim(
    "T6",
    "BLOOM's sweep of shapes and plans on 8 to 384 A100",
    0.10,
    "bigscience-workshop/bigscience@9e64ede, prequel of the 176B model",
    "Calculon 27.6 %",
)
T7: Final = Claim(
    "T7",
    "llm-foundry FSDP, 125M to 70B, sequences of 512 to 65,536, A100 and H100",
    0.10,
    "mosaicml/llm-foundry@8c8dd48, scripts/train/benchmarking",
    "none models it",
)
T8: Final = Claim(
    "T8",
    "Megatron-Bridge and NeMo, dense models, H100 to GB300, bf16, fp8, fp4",
    0.12,
    "NVIDIA-NeMo/Megatron-Bridge@067f987 and NVIDIA/NeMo@e2de75c performance summaries",
)
T8_MOE: Final = replace(
    T8, id="T8-moe", title="Megatron-Bridge, mixtures of experts, H100 to GB300", target=0.20
)
T9: Final = Claim(
    "T9",
    "SC'21 Table 1 (1.7B to 1T), Llama-3 405B, MT-NLG, BLOOM, PaLM",
    0.10,
    "arXiv 2104.04473, 2407.21783, 2201.11990, 2204.02311, 2211.05100",
    "Calculon 10.8 % (SC'21 Table 1)",
)
T11: Final = Claim(
    "T11",
    "SimuMax's measured steps on eight B200, Llama-3 and DeepSeek cut to a few layers",
    0.06,
    "MooreThreads/SimuMax@4dcaae5, docs/b200",
    "SimuMax 5.6 % with its measured kernel tables",
)


@dataclass(frozen=True, slots=True)
class Priced:
    """Rows of a table with their stack; *predict* prices them with any variant of it."""

    frame: pd.DataFrame
    stack: TrainingStack
    predict: Callable[[pd.DataFrame, TrainingStack], Floats]

    @property
    def measured(self) -> Floats:
        """The measured seconds."""
        return self.frame.iter_time_s.to_numpy(np.float64)


def sc21(data: Path) -> list[Result]:
    """Compute T2."""
    frame = _papers(data, "sc21_t2_ptd")
    frame["vpp"] = np.where(frame.layers == 96, 2, 3)
    return _rated(
        T2, [_with("megatron-2021", frame), _with("deepspeed-zero3-2021", _papers(data, "sc21_t2_zero3"))]
    )


def korthikanti(data: Path) -> list[Result]:
    """Compute T3."""
    return _rated(T3, [_with("megatron-2022", _papers(data, "korthikanti_t5", "korthikanti_text"))])


def megascale(data: Path) -> list[Result]:
    """Compute T4."""
    frame = read(data, "training_megascale")
    frame = frame[(frame.set == "megascale_t2") & frame.iter_time_s.notna()]
    ours = frame.framework == "MegaScale"
    return _rated(T4, [_with("megatron-2022", frame[~ours]), _with("megascale", frame[ours])])


def vtrain_single(data: Path) -> list[Result]:
    """Compute T5."""
    return _rated(T5, [_with("vtrain-megatron", _vtrain(data, "vtrain_single"))])


def vtrain_multi(data: Path) -> list[Result]:
    """Compute T5-multi."""
    return _rated(T5_MULTI, [_with("vtrain-megatron", _vtrain(data, "vtrain_multi"))])


def bloom(data: Path) -> list[Result]:
    """Compute T6."""
    frame = read(data, "training_bigscience_a100")
    return _rated(T6, [_with("megatron-deepspeed-2022", frame[frame.iter_time_s.notna()])])


def llm_foundry(data: Path) -> list[Result]:
    """Compute T7."""
    frame = read(data, "training_llm_foundry")
    frame = frame[frame.iter_time_s.notna() & frame.layers.notna()]
    hopper = frame.gpu.astype(str).str.startswith("h100")
    return _rated(T7, [_with("fsdp-torch2", frame[~hopper]), _with("fsdp-torch2-hopper", frame[hopper])])


def megatron_bridge(data: Path) -> list[Result]:
    """Compute T8: dense models of Megatron-Bridge and NeMo."""
    frame = _bridge(data)
    nemo = _described(read(data, "training_nemo"))
    return _rated(T8, [_with("megatron-core-2025", f) for f in (frame[frame.experts.isna()], nemo)])


def megatron_bridge_experts(data: Path) -> list[Result]:
    """Compute T8-moe: mixtures of experts, by the container's era."""
    frame = _bridge(data)
    frame = frame[frame.experts.notna()]
    release = frame.source.astype(str).str.extract(r"(\d\d\.\d\d)[.\d]* NeMo")[0]
    new = release >= "26.06"
    return _rated(T8_MOE, [_with("megatron-core-2025", frame[~new]), _with("megatron-core-2026", frame[new])])


def famous(data: Path) -> list[Result]:
    """Compute T9."""
    rows, table = known(), _papers(data, "sc21_t1", "megatron_readme_175b")
    tuned = Priced(table, load_training_stack("megatron-2021"), _fastest)
    others = [_with(str(name), part) for name, part in rows.groupby("stack", sort=False)]
    return _rated(T9, [tuned, _llama3(data), _palm(), *others])


def simumax(data: Path) -> list[Result]:
    """Compute T11."""
    frame = read(data, "training_simumax_b200")
    return _rated(T11, [_with("megatron-core-b200", frame[frame.iter_time_s.notna()])])


def _rated(claim: Claim, parts: Iterable[Priced]) -> list[Result]:
    """Return the results of both halves; the title of the held-out one tells what fitting has changed."""
    parts = [replace(part, frame=part.frame.reset_index(drop=True)) for part in parts]
    parts = [part for part in parts if len(part.frame)]
    if not parts:
        return []
    began = time.process_time()
    predicted = np.concatenate([part.predict(part.frame, part.stack) for part in parts])
    seconds = time.process_time() - began
    measured = np.concatenate([part.measured for part in parts])
    fitted = np.concatenate([part.frame.fitted.to_numpy(bool) for part in parts])
    results = []
    for split, mask in _halves(fitted):
        said = replace(claim, title=claim.title + _without_fit(parts)) if split == "held-out" else claim
        results.append(rate(said, split, predicted[mask], measured[mask], seconds))
    return results


def _without_fit(parts: list[Priced]) -> str:
    """Say by how much held-out rows err with no number fitted, and with one factor for each stack."""
    raw: list[Floats] = []
    scaled: list[Floats] = []
    for part in parts:
        ratio = part.predict(part.frame, part.stack.model_copy(update=dict(UNTUNED))) / part.measured
        fitted = part.frame.fitted.to_numpy(bool)
        factor = float(np.median(ratio[fitted])) if fitted.any() else 1.0
        raw.append(np.abs(ratio[~fitted] - 1.0))
        scaled.append(np.abs(ratio[~fitted] / factor - 1.0))
    errors = [float(np.concatenate(errors).mean()) for errors in (raw, scaled)]
    return f" (unfitted {errors[0]:.1%}, one factor a stack {errors[1]:.1%})"


def _halves(fitted: NDArray[np.bool_]) -> Iterator[tuple[Split, NDArray[np.bool_]]]:
    for split, mask in (("held-out", ~fitted), ("in-sample", fitted)):
        if mask.any():
            yield cast("Split", split), mask


def _with(stack: str, frame: pd.DataFrame) -> Priced:
    return Priced(frame, load_training_stack(stack), _predict)


def _predict(frame: pd.DataFrame, stack: TrainingStack) -> Floats:
    return predict(frame, Setting(stack))


def _papers(data: Path, *names: str) -> pd.DataFrame:
    frame = read(data, "training_megatron_a100_papers")
    return frame[frame.set.isin(names) & frame.iter_time_s.notna()].reset_index(drop=True)


def _vtrain(data: Path, name: str) -> pd.DataFrame:
    frame = read(data, "training_vtrain")
    frame = frame[frame.set == name]
    return frame.assign(vocab=np.where(frame.tp == 1, 50257, 51200))


def _bridge(data: Path) -> pd.DataFrame:
    return _described(read(data, "training_megatron_bridge"))


def _described(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that say their model, their plan and their time."""
    return frame.dropna(subset=["iter_time_s", "layers", "hidden", "tp", "mbs", "gbs"])


def _llama3(data: Path) -> Priced:
    """Return Llama-3's rows, their seconds from their FLOP/s: no row was used to fit its stack."""
    frame = read(data, "training_llama3").assign(fitted=False, vpp=4)
    setting = Setting(load_training_stack("megatron-core-2025"))
    for rows, found in priced(frame, setting):
        rate_flop = frame.tflops_per_gpu.iloc[rows].to_numpy(np.float64) * 1e12
        frame.loc[rows, "iter_time_s"] = found.model_flop / found.ranks / rate_flop
    return Priced(frame, setting.stack, _predict)


def _fastest(frame: pd.DataFrame, stack: TrainingStack) -> Floats:
    """Return the seconds of the fastest microbatch and number of chunks where a row leaves them open."""
    best = np.full(len(frame), np.inf)
    interleaved = frame.pp_schedule.astype(str).str.contains("inter").to_numpy(bool)
    share = frame.gbs / (frame.n_gpus / (frame.tp * frame.pp))
    for microbatch in (1, 2, 4, 8):
        for chunks in (1, 2, 3, 4):
            tried = frame.assign(mbs=frame.mbs.fillna(microbatch), vpp=np.where(interleaved, chunks, 1))
            whole = (share % tried.mbs < 1e-9) & (frame.layers / frame.pp % tried.vpp < 1e-9)
            best = np.where(whole, np.minimum(best, _predict(tried, stack)), best)
    return best


def _palm() -> Priced:
    """Return PaLM on two pods of TPU v4, its seconds from its model FLOPs utilisation of 46.2 %.

    Twelve tensor ranks, weights fully sharded over the 256 others of a pod, two pods of data ranks, 2,048
    sequences a step, activations recomputed (published, arXiv 2204.02311, section 4).
    """
    chip = load_card(Accelerator, "topologies/accelerators", "tpu-v4")
    machine = Machine(chip, efficiency_of(chip), 3072, chip.link_bandwidth, chip.network_bandwidth)
    plan = Plan(
        data_parallel=512,
        tensor_parallel=12,
        sharding=Sharding(stage=3, group=256),
        microbatch=4,
        global_batch=2048,
        sequence_tokens=2048,
        recompute="full",
    )
    flop = float(model_flop(PALM, np.array([2048.0]))[0]) * plan.global_batch
    measured = flop / (0.462 * plan.accelerators * chip.flop_per_s("bf16"))
    frame = pd.DataFrame({"iter_time_s": [measured], "fitted": [False]})
    return Priced(
        frame,
        load_training_stack("pathways-2022"),
        lambda _, stack: np.array([iteration(PALM, plan, machine, stack).seconds]),
    )
