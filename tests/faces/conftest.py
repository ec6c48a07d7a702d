"""A small serving run, made by a few lines of first-come-first-served batching, as a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clustersim.record.tables import TABLES
from clustersim.results.metrics import summary

BLOCKS, BLOCK_TOKENS, IDLE_W, BUSY_W = 2000, 16, 120.0, 650.0
BASE_S, PROMPT_S, SEQUENCE_S, CONTEXT_S = 8e-3, 6e-5, 3e-5, 4e-8


@dataclass
class Sequence:
    """A request on its way through the little server."""

    request: int
    arrival_s: float
    prompt: int
    output: int
    made: int = 0
    last_s: float = 0.0
    times: dict[str, float] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        return -(-(self.prompt + self.made) // BLOCK_TOKENS)


class Server:
    """One replica: prefill everything that waits and fits, otherwise decode until something changes."""

    def __init__(self, index: int, queue: list[Sequence]):
        self.index, self.queue, self.running = index, queue, []
        self.now_s, self.rows, self.gaps, self.fresh = 0.0, [], [], set()

    def serve(self) -> None:
        while self.queue or self.running:
            if not self.running and self.queue[0].arrival_s > self.now_s:
                self.now_s = self.queue[0].arrival_s
            if not self._prefill():
                self._decode()

    def _prefill(self) -> bool:
        room = BLOCKS - sum(s.blocks for s in self.running) - 40
        chosen: list[Sequence] = []
        while self.queue and self.queue[0].arrival_s <= self.now_s and self.queue[0].blocks + 20 <= room:
            room -= self.queue[0].blocks + 20
            chosen.append(self.queue.pop(0))
        if not chosen:
            return False
        tokens = sum(s.prompt for s in chosen)
        end_s = self.now_s + BASE_S + PROMPT_S * tokens
        for s in chosen:
            s.times = {"admitted_s": self.now_s, "first_token_s": end_s}
            s.made, s.last_s = 1, end_s
        self.running += chosen
        self._row(1, BASE_S + PROMPT_S * tokens, 0.0, tokens, 0)
        self._finish()
        return True

    def _decode(self) -> None:
        n, context = len(self.running), sum(s.prompt + s.made for s in self.running)
        step_s, growth_s = BASE_S + SEQUENCE_S * n + CONTEXT_S * context, CONTEXT_S * n
        count = min(s.output - s.made for s in self.running)
        ends_s = self.now_s + np.cumsum(step_s + growth_s * np.arange(count))
        if self.queue and self.queue[0].arrival_s < ends_s[-1]:
            count = int(np.searchsorted(ends_s, self.queue[0].arrival_s)) + 1
        for s in self.running:
            if s.last_s < self.now_s - 1e-12:
                self.gaps.append((self.index, self.now_s + step_s, self.now_s + step_s - s.last_s, 1))
        fresh = sum(s.last_s >= self.now_s - 1e-12 for s in self.running)
        for s in self.running:
            s.made, s.last_s = s.made + count, float(ends_s[count - 1])
        self._row(count, step_s, growth_s, 0, fresh)
        self._finish()

    def _row(self, count: int, step_s: float, growth_s: float, prefill: int, fresh: int) -> None:
        duration_s = count * step_s + growth_s * count * (count - 1) / 2
        parts = np.array([0.75, 0.05, 0.1, 0.1] if prefill else [0.1, 0.6, 0.2, 0.1]) * duration_s
        decoding = 0 if prefill else len(self.running)
        waiting = sum(s.arrival_s <= self.now_s for s in self.queue)
        blocks = sum(s.blocks for s in self.running)
        row = [self.index, self.now_s, duration_s, count, step_s, growth_s, prefill, decoding, fresh]
        context = sum(s.prompt for s in self.running)
        self.rows.append([*row, context, waiting, blocks, *parts, BUSY_W * duration_s])
        self.now_s += duration_s

    def _finish(self) -> None:
        for s in self.running:
            if s.made >= s.output:
                s.times["finish_s"] = self.now_s
        self.running = [s for s in self.running if s.made < s.output]


def serve(requests: int, rate: float, replicas: int, seed: int) -> dict[str, pd.DataFrame]:
    """Serve random requests round robin and return the tables of the run."""
    random = np.random.default_rng(seed)
    arrivals_s = np.cumsum(random.exponential(1 / rate, requests))
    prompts = random.lognormal(6.3, 0.8, requests).astype(int).clip(8, 6000)
    outputs = random.lognormal(5.0, 0.7, requests).astype(int).clip(1, 1500)
    sequences = [
        Sequence(i, float(a), int(p), int(o))
        for i, (a, p, o) in enumerate(zip(arrivals_s, prompts, outputs, strict=True))
    ]
    servers = [Server(r, sequences[r::replicas]) for r in range(replicas)]
    for server in servers:
        server.serve()
    return {
        "requests": _requests(sequences, replicas),
        "iterations": _frame("iterations", [row for server in servers for row in server.rows]),
        "token_gaps": _frame("token_gaps", [row for server in servers for row in server.gaps]),
        "power": _power(servers),
        "events": _frame("events", [(float(arrivals_s[9]), "preempt", "request 9", "{}")]),
    }


def _frame(name: str, rows: list[Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(TABLES[name].names))
    return table.astype({c.name: "object" if c.dtype == "string" else c.dtype for c in TABLES[name].columns})


def _requests(sequences: list[Sequence], replicas: int) -> pd.DataFrame:
    rows = [
        [
            s.request,
            s.request % replicas,
            s.arrival_s,
            *s.times.values(),
            s.prompt,
            s.output,
            0,
            0,
            "",
            "finished",
        ]
        for s in sequences
    ]
    return _frame("requests", rows)


def _power(servers: list[Server]) -> pd.DataFrame:
    end_s = max(server.now_s for server in servers)
    edges_s = np.append(np.arange(0.0, end_s, 1.0), end_s)
    rows = []
    for server in servers:
        starts_s = np.array([row[1] for row in server.rows])
        stops_s = starts_s + np.array([row[2] for row in server.rows])
        knots = np.concatenate([[0.0], np.stack([starts_s, stops_s], axis=1).ravel()])
        busy_s = np.concatenate(
            [[0.0], np.stack([np.zeros_like(starts_s), stops_s - starts_s], axis=1).ravel()]
        )
        share = np.diff(np.interp(edges_s, knots, np.cumsum(busy_s))) / np.diff(edges_s)
        for start_s, length_s, x in zip(edges_s, np.diff(edges_s), share, strict=False):
            rows.append((f"replica {server.index}", start_s, length_s, IDLE_W + (BUSY_W - IDLE_W) * x))
    return _frame("power", rows)


def write_run(folder: Path, tables: dict[str, pd.DataFrame], **manifest: Any) -> Path:
    """Write a run folder; *manifest* overrides what the manifest says."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    said = {
        "name": "chat",
        "experiment": {"name": "chat", "serving": {"batching": {"kind": "prefill-first", "max_batch": 256}}},
        "seed": 1,
        "replication": 0,
        "point": {},
        "versions": {"clustersim": "0.1.0", "python": "3.11"},
        "commit": "0123abc",
        "wall_s": 0.5,
        "cpu_s": 0.5,
        "events": 1000,
        "status": "ok",
        "warnings": [],
        "slo": {"ttft_s": 1.0, "tpot_s": 0.03},
        "replicas": int(tables["iterations"]["replica"].nunique()),
        "accelerators": int(tables["iterations"]["replica"].nunique()),
        "idle_w": IDLE_W,
        "block_tokens": BLOCK_TOKENS,
        "kv_blocks_total": BLOCKS,
    } | manifest
    columns = {n: {c: t[c].to_numpy() for c in t.columns} for n, t in tables.items()}
    said.setdefault("summary", summary(columns, said))
    (folder / "manifest.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def sample_tables() -> dict[str, pd.DataFrame]:
    """Return the tables of a run of 300 requests on two replicas."""
    return serve(300, 6.0, 2, seed=3)


@pytest.fixture(scope="session")
def sample_run_folder(sample_tables: dict[str, pd.DataFrame], tmp_path_factory: Any) -> Path:
    """Return the folder of one finished run."""
    folder = tmp_path_factory.mktemp("runs") / "chat" / "base-1a2b3c"
    return write_run(
        folder, sample_tables, warnings=["mi999: no measured kernels; the generic curve is used"]
    )


POLICIES = ("chunked", "prefill-first")
RATES = (4.0, 8.0, 12.0)


def _points() -> Iterator[tuple[str, float, int]]:
    for policy in POLICIES:
        for rate in RATES:
            for replication in range(2):
                yield policy, rate, replication


@pytest.fixture(scope="session")
def sample_sweep_folder(tmp_path_factory: Any) -> Path:
    """Return the folder of a sweep: two policies, three rates, two replications, and a point that failed."""
    root, rows = tmp_path_factory.mktemp("runs") / "rates", []
    for policy, rate, replication in _points():
        point = {"serving.batching": policy, "workload.rate": rate}
        tables = serve(120, rate, 1 if policy == "chunked" else 2, seed=replication)
        slug = f"{policy}_rate-{rate:g}_r{replication}"
        experiment = {"name": "rates", "serving": {"batching": {"kind": policy}}, "workload": {"rate": rate}}
        extra = {"point": point, "replication": replication, "experiment": experiment, "name": "rates"}
        write_run(root / slug, tables, **extra)
        said = json.loads((root / slug / "manifest.json").read_text(encoding="utf-8"))
        row = point | {"replication": replication, "status": "ok", "stage": "", "message": "", "folder": slug}
        rows.append(row | said["summary"])
    failed = {"serving.batching": "mine.py:Mine", "workload.rate": 4.0, "replication": 0, "status": "failed"}
    rows.append(
        failed | {"stage": "simulate", "message": "the policy returned None", "folder": "mine_rate-4_r0"}
    )
    pd.DataFrame(rows).to_parquet(root / "index.parquet")
    return root


@pytest.fixture(scope="session")
def sample_serve() -> Any:
    """Return the function that serves random requests and returns the tables of the run."""
    return serve


@pytest.fixture(scope="session")
def sample_write() -> Any:
    """Return the function that writes a run folder."""
    return write_run
