"""S1 and S2: measured time per output token and offline throughput of whole engines, simulated.

Every row is one run of the simulator: the engine's own batching policy and cache, the benchmark's own
protocol. How the engines were started is published beside the measurements: InferenceX's scripts of
October 2025 (SemiAnalysisAI/InferenceX@24ea7def4), TensorRT-LLM's performance overview of 0.17 and 1.0 and
the rules by which its benchmark sizes an engine (tensorrt_llm/bench/build/tuning.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
import simpy
from numpy.typing import NDArray

from clustersim.cost.memory import DRIVER_SHARE, kv_bytes, weights_bytes
from clustersim.cost.replica import Parallel
from clustersim.models.transformer import Transformer
from clustersim.policies.batching import Chunked, Orca
from clustersim.published.tables import Claim, Result, Split, data_file, rate
from clustersim.rng import Streams
from clustersim.sim.plan import plan
from clustersim.sim.serving.fleet import Fleet
from clustersim.sim.simulation import Columns, requests_table
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.experiment import Experiment
from clustersim.spec.model import Model
from clustersim.spec.precision import Precision
from clustersim.spec.stack import Stack, load_stack

Floats = NDArray[np.float64]
Fields = dict[str, Any]

S1: Final = Claim(
    "S1",
    "Llama-3.1-70B time per output token in closed loop",
    0.10,
    "InferenceX rows of aiconfigurator's silicon samples (Apache-2.0): H100, H200, B200; vLLM, TensorRT-LLM",
    "NVIDIA aiconfigurator 23 % (199 of the rows), datasheet roofline 57 %",
)
S2: Final = Claim(
    "S2",
    "TensorRT-LLM offline throughput of dense models and Mixtral",
    0.12,
    "TensorRT-LLM performance overview 0.17 and 1.0 (Apache-2.0): A100 to GB200, L40S, RTX PRO 6000",
)
MACHINES: Final = MappingProxyType(
    {
        "h100_sxm": "h100-sxm",
        "h200_sxm": "h200-sxm",
        "b200_sxm": "b200-sxm",
        "b300_sxm": "b300-sxm",
        "gb200": "gb200",
        "gb300": "gb300",
        "A100 SXM 80GB": "a100-80gb-sxm",
        "H100 SXM 80GB": "h100-sxm",
        "H200 SXM 141GB": "h200-sxm",
        "GH200 480GB": "gh200",
        "B200 SXM 180GB": "b200-sxm",
        "GB200 192GB": "gb200",
        "L40S": "l40s",
        "RTX PRO 6000 BSE": "rtx-pro-6000",
    }
)
"""The card of each machine in the measured tables."""
FAMILY: Final = r"(Llama-3\.[13]-\d+B)"
"""The models of S1 within the names of their checkpoints."""
OFFLINE_FAMILIES: Final = r"^(?:Llama-3\.[13]-\d+B|Mistral-7B|Mixtral-8x\d+B)$"


class InFlight(Chunked):
    """TensorRT-LLM's "guaranteed no evict": who is admitted surely fits until its end; prompts may be cut."""

    reserves_limit: ClassVar[bool] = True


@dataclass(frozen=True)
class Setup:
    """One engine on its accelerators, as a measured row names them."""

    model: str
    machine: str
    precision: Precision
    tensor: int
    pipeline: int = 1

    @cached_property
    def parts(self) -> tuple[Transformer, Accelerator, Parallel]:
        """Return the model, the accelerator and how the one is laid out on the other."""
        return (
            load_card(Model, "workloads/models", self.model.lower()).transformer,
            load_card(Accelerator, "topologies/accelerators", MACHINES[self.machine]),
            Parallel(self.tensor, self.pipeline),
        )

    @property
    def weights_bytes(self) -> float:
        """Bytes of the weights on one accelerator."""
        model, _, parallel = self.parts
        return weights_bytes(model, parallel, self.precision)

    def memory_share(self, of_free: float) -> float:
        """Return the share of the memory in use where the cache gets *of_free* of what the weights leave."""
        weights = self.weights_bytes / (self.parts[1].memory * DRIVER_SHARE)
        return weights + of_free * (1.0 - weights)

    def experiment(self, serving: Fields, workload: Fields) -> Experiment:
        """Return the run of one replica under *workload*; *serving* adds to what the setup says."""
        service = {
            "model": self.model.lower(),
            "tensor_parallel": self.tensor,
            "pipeline_parallel": self.pipeline,
            "precision": self.precision,
            "router": "round-robin",
        }
        if self.parts[0].experts and self.parts[1].generation == "hopper" and self.precision.weights == "fp8":
            service["efficiency"] = "nvidia-hopper-per-tensor"
        cluster = {"accelerator": MACHINES[self.machine]}
        fields = {"name": "row", "cluster": cluster, "serving": service | serving, "workload": workload}
        return Experiment.model_validate(fields)


def serve(experiment: Experiment) -> Columns:
    """Return the requests of a closed loop whose clients ask for exactly the tokens that they get."""
    streams = Streams(experiment.seed)
    service = plan(experiment, streams)
    requests = replace(service.requests, limit_tokens=service.requests.output_tokens)
    env = simpy.Environment()
    fleet = Fleet(env, service.fleet, requests, streams)
    env.process(fleet.serve_clients(experiment.workload.concurrency or len(requests), 0.0))
    env.run()
    fleet.check_done()
    return requests_table(fleet)


# -- S1 ---------------------------------------------------------------------------------------------

WAVES: Final = 10
"""Requests of a run over its concurrency (published: InferenceX's --num-prompts)."""
SHORTEST: Final = 0.8
"""Lengths are uniform from this share of the nominal one to it (published: its random range ratio)."""


def time_per_token(data: Path) -> list[Result]:
    """Compute S1: in-sample are the rows that constants of the engines' stack cards were fitted on."""
    frame = closed_loop_rows(data)
    began = time.process_time()
    predicted = np.array([closed_loop(row)[1] for row in frame.itertuples()])
    seconds = time.process_time() - began
    measured = frame.tpot_ms.to_numpy(np.float64) * 1e-3
    return list(_by_split(S1, was_fitted(frame), (predicted, measured), seconds))


def closed_loop_rows(data: Path) -> pd.DataFrame:
    """Return the measured rows of S1: aggregated engines on machines that the catalogue knows."""
    frame = pd.read_csv(data_file(data, "serving/inferencex_aic.csv.gz", S1.source))
    frame["model"] = frame.model_path.str.extract(FAMILY, expand=False)
    known = frame.system.isin(list(MACHINES)) & frame.model.notna()
    measured = (frame["mode"] == "agg") & frame.backend.isin(["vllm", "trtllm"]) & frame.tpot_ms.notna()
    return frame[known & measured].reset_index(drop=True)


def was_fitted(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Say on which rows constants of the cards of engines were fitted; the cards name them as sources."""
    hopper = (frame.system == "h100_sxm") | (frame.system == "h200_sxm") & (frame.concurrency == 4)
    vllm = (frame.backend == "vllm") & hopper
    trtllm = (frame.backend == "trtllm") & (frame.system == "b200_sxm") & (frame.precision == "fp8")
    return np.asarray(vllm | trtllm)


def closed_loop(row: Any) -> tuple[float, float]:
    """Return the mean time to the first token and the mean time per further token of a row's run."""
    clients = int(row.concurrency)
    prompt, output = (
        {"kind": "uniform", "low": int(nominal * SHORTEST), "high": int(nominal)}
        for nominal in (row.isl, row.osl)
    )
    load = {"concurrency": clients, "requests": WAVES * clients, "prompt": prompt, "output": output}
    setup = Setup(row.model, row.system, _inferencex_precision(row), int(row.tp_size))
    engine = _vllm(row) if row.backend == "vllm" else _trtllm(setup)
    served = serve(setup.experiment(engine, load))
    decode_s = served["finish_s"] - served["first_token_s"]
    first_s = served["first_token_s"] - served["arrival_s"]
    return float(np.mean(first_s)), float(np.mean(decode_s / (served["output_tokens"] - 1)))


def _inferencex_precision(row: Any) -> Precision:
    """Return a row's formats: the cache has 8 bits, but 16 on H100.

    There the scripts ask for 8 bits too, yet requests queue as if a cache of 16 were in use: three rows of
    tensor parallel 2 wait 59, 31 and 7 s for their first tokens, which 8 bits would serve at once.
    """
    cache = "bf16" if row.system == "h100_sxm" else "fp8"
    return Precision.model_validate({"weights": row.precision, "activations": row.precision, "kv": cache})


def _vllm(row: Any) -> Fields:
    """Return how InferenceX starts vLLM 0.10: on Blackwell with FlashInfer's fused all-reduce and norms."""
    stack: Stack = load_stack("vllm")
    most = int(row.concurrency)
    if row.system not in ("h100_sxm", "h200_sxm"):
        stack = stack.model_copy(update={"all_reduce": "tensorrt-llm", "fuses_norms": True})
        most = 512
    return {"stack": stack, "batching": Chunked(max_batch=most, token_budget=8192)}


def _trtllm(setup: Setup) -> Fields:
    """Return how InferenceX starts TensorRT-LLM 1.1: whole prompts, room for the longest answers kept."""
    batching = Orca(max_batch=2048, token_budget=16384)
    return {
        "stack": "tensorrt-llm",
        "batching": batching,
        "memory": {"share": setup.memory_share(0.9), "watermark": 0.0},
    }


# -- S2 ---------------------------------------------------------------------------------------------

REQUESTS: Final[Mapping[tuple[int, int], int]] = MappingProxyType(
    {
        (128, 128): 30000,
        (128, 2048): 3000,
        (128, 4096): 1500,
        (500, 2000): 3000,
        (1000, 1000): 3000,
        (1000, 2000): 1500,
        (2048, 128): 3000,
        (2048, 2048): 1500,
        (5000, 500): 1500,
        (20000, 2000): 1000,
    }
)
"""Requests of a run by prompt and output tokens (published: TensorRT-LLM's performance overview)."""
CACHE_OF_FREE: Final = 0.95
"""What the cache gets of the memory that the weights leave (published there: "in many cases" .95)."""


def offline_throughput(data: Path) -> list[Result]:
    """Compute S2: nothing was fitted on these rows."""
    frame = offline_rows(data)
    began = time.process_time()
    predicted = np.array([offline(row) for row in frame.itertuples()])
    seconds = time.process_time() - began
    return [rate(S2, "held-out", predicted, frame.output_tokens_per_s.to_numpy(np.float64), seconds)]


def offline_rows(data: Path) -> pd.DataFrame:
    """Return the measured rows of S2: dense models and Mixtral on machines that the catalogue knows."""
    frame = pd.read_csv(data_file(data, "serving/trtllm_offline.csv", S2.source))
    known = frame.gpu.isin(list(MACHINES)) & frame.model.str.contains(OFFLINE_FAMILIES)
    return frame[known & (frame.output_tokens_per_s > 0.0)].reset_index(drop=True)


def offline(row: Any) -> float:
    """Return the output tokens per second of a row's run, from its first prompt to its last token."""
    word = row.precision.lower()
    precision = Precision(weights=word, activations=word, kv="fp16" if word == "fp16" else "fp8")
    setup = Setup(row.model, row.gpu, precision, int(row.tp), int(row.pp))
    prompt, output = int(row.isl), int(row.osl)
    count = REQUESTS.get((prompt, output), max(1000, min(30000, 4_000_000 // (prompt + output))))
    engine = {
        "stack": "tensorrt-llm",
        "batching": sized(setup, prompt, output),
        "memory": {"share": setup.memory_share(CACHE_OF_FREE), "watermark": 0.0},
    }
    load = {"concurrency": count, "requests": count, "prompt": prompt, "output": output}
    served = serve(setup.experiment(engine, load))
    return float(served["output_tokens"].sum() / served["finish_s"].max())


def sized(setup: Setup, prompt: int, output: int) -> InFlight:
    """Return the batching of an engine as trtllm-bench sizes it for requests of one length."""
    model, accelerator, parallel = setup.parts
    free = (accelerator.memory - setup.weights_bytes) * parallel.ranks * 0.95
    token_bytes = kv_bytes(model, parallel, setup.precision).per_token * parallel.ranks
    sequences = min(free / (token_bytes * (prompt + output)), 4096.0) / parallel.pipeline
    tokens = min(sequences * (1.0 + prompt / output), 32768.0)
    batch = max(64, _rounded(sequences, ((256, 32), (1024, 128), (np.inf, 256))))
    budget = max(2048, _rounded(tokens, ((4096, 256), (8192, 512), (np.inf, 1024))))
    return InFlight(max_batch=batch * parallel.pipeline, token_budget=budget)


def _rounded(value: float, steps: tuple[tuple[float, int], ...]) -> int:
    """Round *value* up to a multiple of the step of the first limit that it lies below."""
    step = next(step for limit, step in steps if value < limit)
    return step * ceil(value / step)


def _by_split(
    claim: Claim, fitted: NDArray[np.bool_], values: tuple[Floats, Floats], seconds: float
) -> Iterator[Result]:
    """Yield the result of the rows that nothing was fitted on, then of the others."""
    predicted, measured = values
    splits: tuple[tuple[Split, NDArray[np.bool_]], ...] = (("held-out", ~fitted), ("in-sample", fitted))
    for split, rows in splits:
        if rows.any():
            yield rate(claim, split, predicted[rows], measured[rows], seconds)
