"""S4: four measured vLLM runs replayed request by request, each from its arrival in the engine's queue.

What is compared is the latency from being queued to the last token. Nothing was fitted on these requests:
attention of the two cards comes from kernel tables of the same source, everything else from others.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
import simpy

from clustersim.errors import ClusterSimError
from clustersim.policies.batching import Chunked
from clustersim.published.tables import Claim, Result, rate
from clustersim.rng import Streams
from clustersim.sim.plan import plan
from clustersim.sim.serving.fleet import Fleet
from clustersim.sim.simulation import requests_table
from clustersim.spec.base import card_files
from clustersim.spec.experiment import Experiment
from clustersim.workload import Requests

S4: Final = Claim(
    "S4",
    "latency of each request of measured vLLM 0.19 runs",
    0.06,
    "LLMServingSim @ 5daddb2 (MIT): 300 requests a run, ten a second, on RTX 4090 and RTX PRO 6000",
    "mean latency 0.5 to 2.2 % off with tables measured on the same cards (LLMServingSim)",
)
RUNS: Final = "kernels/llmservingsim/bench_vllm"
MACHINES: Final = MappingProxyType({"RTX4090": "rtx-4090", "RTXPRO6000": "rtx-pro-6000"})
"""The card of each machine, by how the folders of the runs begin."""
LIMIT_SHARED: Final = 0.18
"""Where accelerators share a model over PCIe, the target differs from the general one."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run: how the engine was started, and what each request met."""

    name: str
    machine: str
    engine: Mapping[str, Any]
    blocks: int | None
    requests: pd.DataFrame

    @property
    def ranks(self) -> int:
        """Engines that split the batch, in lockstep."""
        return int(self.engine["data_parallel_size"])

    @property
    def shared(self) -> bool:
        """Whether several accelerators serve one model together."""
        return self.ranks * int(self.engine["tensor_parallel_size"]) > 1


def latencies(data: Path) -> list[Result]:
    """Compute S4; the target is met if it is met by each run."""
    folders = [folder for folder in sorted((data / RUNS).glob("*")) if (folder / "meta.json").is_file()]
    if not folders:
        raise ClusterSimError(
            f"no measured runs in {data / RUNS}; they are public: bench/examples of casys-kaist/LLMServingSim"
        )
    began = time.process_time()
    runs = {folder.name: replay(read_run(folder)) for folder in folders}
    seconds = time.process_time() - began
    return [_rated(runs, seconds)]


def read_run(folder: Path) -> Run:
    """Read a run's settings and requests, in the order in which the engine queued them."""
    meta = json.loads((folder / "meta.json").read_text())
    with gzip.open(folder / "requests.jsonl.gz", "rt") as lines:
        requests = pd.DataFrame([json.loads(line) for line in lines])
    machine = next((card for start, card in MACHINES.items() if folder.name.startswith(start)), None)
    if machine is None:
        raise ClusterSimError(f"{folder}: unknown machine; known: {', '.join(MACHINES)}")
    blocks = (meta.get("kv_cache") or {}).get("num_gpu_blocks")
    ordered = requests.sort_values("queued_ts", kind="stable").reset_index(drop=True)
    return Run(folder.name, machine, meta["engine_kwargs"], blocks, ordered)


def replay(run: Run) -> pd.DataFrame:
    """Return the requests of *run*, with measured and simulated latency and time to first token."""
    frame = run.requests
    queued_s = frame.queued_ts.to_numpy(np.float64)
    output = frame.output_toks.to_numpy(np.int64)
    requests = Requests(queued_s - queued_s[0], frame.input_toks.to_numpy(np.int64), output, output)
    streams, env = Streams(0), simpy.Environment()
    fleet = Fleet(env, plan(experiment(run), streams).fleet, requests, streams)
    env.process(fleet.serve())
    env.run()
    fleet.check_done()
    served = requests_table(fleet)
    return pd.DataFrame(
        {
            "latency_s": served["finish_s"] - requests.arrival_s,
            "ttft_s": served["first_token_s"] - requests.arrival_s,
            "measured_latency_s": frame.last_token_ts - frame.queued_ts,
            "measured_ttft_s": frame.first_token_ts - frame.queued_ts,
        }
    ).assign(shared=run.shared)


def experiment(run: Run) -> Experiment:
    """Return the run as an experiment, under as many requests that are all as long as the longest."""
    engine, ranks, longest = run.engine, run.ranks, run.requests.max(numeric_only=True)
    count = len(run.requests)
    batching = Chunked(
        max_batch=int(engine["max_num_seqs"]) * ranks,
        token_budget=int(engine["max_num_batched_tokens"]) * ranks,
    )
    serving = {
        "model": _model_card(engine["model"]),
        "tensor_parallel": engine["tensor_parallel_size"],
        "data_parallel": ranks,
        "expert_parallel": ranks if engine["enable_expert_parallel"] else 1,
        "stack": "vllm-0.19",
        "batching": batching,
        "router": "round-robin",
        "memory": {"blocks": run.blocks and run.blocks * ranks, "watermark": 0.0},
    }
    load = {
        "concurrency": count,
        "requests": count,
        "prompt": int(longest.input_toks),
        "output": int(longest.output_toks),
    }
    fields = {"name": "replay", "cluster": {"accelerator": run.machine}, "serving": serving, "workload": load}
    return Experiment.model_validate(fields)


def _model_card(model: str) -> str:
    """Return the catalogue's model whose name the checkpoint's name begins with, the longest of these."""
    name = model.rpartition("/")[2].lower()
    known = [card for card in card_files("workloads/models") if name.startswith(card)]
    if not known:
        raise ClusterSimError(f"no model card for {model!r}")
    return max(known, key=len)


def _rated(runs: Mapping[str, pd.DataFrame], seconds: float) -> Result:
    everything = pd.concat(runs.values(), ignore_index=True)
    predicted, measured = everything.latency_s.to_numpy(), everything.measured_latency_s.to_numpy()
    result = rate(S4, "held-out", predicted, measured, seconds)
    errors = {name: _error(frame) for name, frame in runs.items()}
    met = all(errors[name] <= (LIMIT_SHARED if frame.shared.any() else 0.06) for name, frame in runs.items())
    told = ", ".join(f"{name.replace('_', ' ')} {error:.1%}" for name, error in errors.items())
    return replace(result, title=f"{S4.title} ({told})", met=met)


def _error(frame: pd.DataFrame) -> float:
    return float(np.abs(frame.latency_s / frame.measured_latency_s - 1.0).mean())
