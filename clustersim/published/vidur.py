"""S8: Vidur's own answers, request by request, from our engine and our Sarathi policy at Vidur's prices.

Vidur is a simulator: agreeing with it shows that both schedule alike, not that either is right. Its
prices are tables of operators (milliseconds a layer) looked up by rounded shapes, and therefore not
affine in the context; they take the place of ours for this one table. Vidur spends no processor time.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import simpy
from numpy.typing import NDArray

from clustersim.cost.passes import PassShape
from clustersim.cost.step import Parallel, Sizes, StepPrices, compile_prices
from clustersim.errors import ClusterSimError
from clustersim.policies.admission import Always
from clustersim.policies.batching import Chunked
from clustersim.policies.routing import RoundRobin
from clustersim.published.tables import Claim, Result, data_file, rate
from clustersim.rng import Streams
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import efficiency_of
from clustersim.spec.model import Model
from clustersim.spec.precision import Precision
from clustersim.spec.stack import load_stack
from clustersim.workload import Requests

Floats = NDArray[np.float64]

S8: Final = Claim(
    "S8",
    "Vidur's TTFT and end-to-end time of each request, from its own operator tables; errors in seconds",
    1e-6,
    "Vidur (MIT) @ 7d47513: Llama-2-7B on one A100, Sarathi with chunks of 512 and batches of 128",
    "an independent loop over the same tables agrees to Vidur's last printed digit",
)
TABLES: Final = "peers/vidur_optables/llama2-7b_a100_tp1__{}.csv.gz"
ANSWERS: Final = "vidur_realattn_7b_tp1_sarathi_*.csv.gz"
LAYERS: Final = 32
KV_STEP: Final = 64
"""Cached tokens are rounded up to a multiple of this."""
MEMORY: Final = Memory(blocks=7424, block_tokens=16, watermark_blocks=74)
"""As Vidur derives it for this model on 80 GB (published: its log); it keeps 1 % free on admission."""
BY_TOKENS: Final = (
    "attn_pre_proj",
    "attn_rope",
    "attn_post_proj",
    "input_layernorm",
    "mlp_up_proj",
    "mlp_act",
    "mlp_down_proj",
    "post_attention_layernorm",
    "add",
)
"""Operators that are priced by the tokens of the pass, rounded up to a multiple of 8."""


class OperatorTables:
    """Prices a pass as Vidur does: a sum of operators, each looked up by a rounded shape of the pass.

    Decodes count the tokens processed, the one whose key and value this pass writes included; several
    chunks of prompts stand in for one whose square is the sum of theirs.
    """

    def __init__(self, data: Path):
        self.by_tokens_s = sum((_column(data, name) for name in BY_TOKENS), start=np.zeros(1))
        self.cache_save_s = _column(data, "attn_kv_cache_save")
        self.decode_s = _grid(data, "attn_decode", kv_axis=1)
        self.prefill_s = _grid(data, "attn_prefill", kv_axis=0)

    def seconds(self, shape: PassShape) -> float:
        """Return the seconds of a pass."""
        tokens = shape.tokens
        layer_s = self.by_tokens_s[-(-tokens // 8) * 8] + self.cache_save_s[tokens]
        if shape.decodes:
            mean = int((shape.context_tokens + shape.decodes) / shape.decodes)
            layer_s += self.decode_s[shape.decodes, -(-mean // KV_STEP)]
        if shape.chunks:
            past = sum(-(-computed // KV_STEP) for computed, _ in shape.chunks)
            layer_s += self.prefill_s[past, round(sum(new * new for _, new in shape.chunks) ** 0.5)]
        return float(layer_s) * LAYERS


def replay(data: Path) -> list[Result]:
    """Compute S8: serve the requests of each of Vidur's answers and compare both times of every one."""
    files = sorted((data / "peers" / "serving").glob(ANSWERS))
    if not files:
        raise ClusterSimError(
            f"no {ANSWERS} in {data / 'peers' / 'serving'}: these are per-request answers of Vidur, "
            "which is public at github.com/microsoft/vidur (commit 7d47513)"
        )
    price, began = OperatorTables(data), time.process_time()
    pairs = [compare(file, price) for file in files]
    seconds = time.process_time() - began
    ours, theirs = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return [rate_seconds(ours, theirs, seconds)]


def compare(file: Path, price: OperatorTables) -> tuple[Floats, Floats]:
    """Return our and Vidur's times of the requests in *file*: first tokens, then ends, from arrival on."""
    answers = pd.read_csv(file)
    served = serve(answers, price).state.req_t
    arrival_s = answers.arrived_at.to_numpy(np.float64)
    ours = served[:, [state.FIRST_S, state.FINISH_S]] - arrival_s[:, None]
    return ours.T.ravel(), answers[["ttft_s", "e2e_s"]].to_numpy(np.float64).T.ravel()


def serve(answers: pd.DataFrame, price: OperatorTables) -> Fleet:
    """Serve the requests that Vidur answered with one replica at its prices."""
    output = answers.num_decode_tokens.to_numpy(np.int64)
    requests = Requests(
        answers.arrived_at.to_numpy(np.float64), answers.num_prefill_tokens.to_numpy(np.int64), output, output
    )
    batching = Chunked(max_batch=128, token_budget=512)
    plan = FleetPlan(1, _bounds(), MEMORY, batching, RoundRobin(), Always(), leap=False, price=price)
    env = simpy.Environment()
    fleet = Fleet(env, plan, requests, Streams(0))
    env.process(fleet.serve())
    env.run()
    fleet.check_done()
    return fleet


def rate_seconds(ours: Floats, theirs: Floats, seconds: float) -> Result:
    """Rate differences in seconds: the last digit that Vidur prints is a fixed time, not a share of one."""
    result = rate(S8, "held-out", 1.0 + ours - theirs, np.ones_like(theirs), seconds)
    return replace(result, met=result.worst <= 1e-6)


def _bounds() -> StepPrices:
    """Return our own prices of the model, which only say by what a pass is bound."""
    model = load_card(Model, "workloads/models", "llama-2-7b").transformer
    accelerator = load_card(Accelerator, "topologies/accelerators", "a100-80gb-sxm")
    curves, stack = efficiency_of(accelerator), load_stack("generic")
    return compile_prices(model, accelerator, curves, stack, Parallel(), Precision(), Sizes(512, 129))


def _column(data: Path, name: str) -> Floats:
    """Return the seconds of an operator by number of tokens; none of them takes none."""
    frame = _read(data, name)
    times_s = np.zeros(int(frame.num_tokens.max()) + 1)
    times_s[frame.num_tokens.astype(int)] = frame.prediction * 1e-3
    return times_s


def _grid(data: Path, name: str, kv_axis: int) -> Floats:
    """Return the seconds of an attention kernel by cached tokens / KV_STEP and by its other argument."""
    frame = _read(data, name)
    if "prefill_chunk_size_squared" in frame:
        frame["prefill_chunk_size_squared"] **= 0.5
    keys = [frame.iloc[:, axis].to_numpy() / (KV_STEP if axis == kv_axis else 1) for axis in (0, 1)]
    rows, columns = (np.rint(key).astype(int) for key in keys)
    times_s = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    times_s[rows, columns] = frame.prediction * 1e-3
    return times_s


def _read(data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(data_file(data, TABLES.format(name), S8.source))
