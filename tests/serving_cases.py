"""Random small serving runs for the laws of the engine, with prices on which no two times coincide."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import simpy
from hypothesis import strategies as st

from clustersim.policies import ALL, Admission, BatchingPolicy, Router, Step, blocks_for
from clustersim.policies.admission import Always
from clustersim.policies.batching import (
    Chunked,
    DecodeFirst,
    Orca,
    PrefillFirst,
    ShortestFirst,
    Static,
)
from clustersim.policies.mlfq import SkipJoinMLFQ
from clustersim.policies.routing import LeastOutstanding
from clustersim.record.tables import ITERATIONS
from clustersim.rng import Streams
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from clustersim.sim.serving.log import Log
from clustersim.workload import Requests
from tests import fleets

RULES = ("static", "orca", "prefill-first", "chunked", "decode-first", "shortest-first")
BATCHING = (*RULES, "mlfq")


@dataclass(frozen=True)
class Case:
    """A load and the fleet that serves it."""

    load: tuple[tuple[float, int, int, int], ...]
    """Gap to the request before, prompt, output, and how much longer its client would allow."""
    replicas: int = 1
    spare_blocks: int = 100
    block_tokens: int = 16
    swap_blocks: int = 0
    watermark_blocks: int = 0
    window: int = 0
    seed: int = 0
    """Of the coins that routers toss."""
    clients: int = 0
    """In a closed loop, how many; each sends its next request *think_s* after an answer."""
    think_s: float = 0.0

    @property
    def requests(self) -> Requests:
        """The load, made anew: a run must not share arrays with another."""
        gap_s, prompt, output, slack = (np.array(column) for column in zip(*self.load, strict=True))
        arrival_s = np.zeros(len(self.load)) if self.clients else np.cumsum(gap_s)
        return fleets.requests(arrival_s, prompt, output, output + slack)

    @property
    def memory(self) -> Memory:
        """A cache that holds the longest request alone, and *spare_blocks*."""
        longest = max(prompt + output + slack for _, prompt, output, slack in self.load)
        blocks = -(-longest // self.block_tokens) + 1 + self.watermark_blocks + self.spare_blocks
        return Memory(blocks, self.block_tokens, self.watermark_blocks, self.swap_blocks)


REQUEST = st.tuples(
    st.one_of(st.just(0.0), st.integers(1, 30_000).map(lambda us: us * 1.0000717e-6)),
    st.one_of(st.integers(1, 40), st.integers(1, 200)),
    st.one_of(st.integers(1, 3), st.integers(1, 60), st.integers(20, 90)),
    st.sampled_from([0, 0, 5, 30]),
)


def cases(most: int = 16, replicas: int = 3) -> st.SearchStrategy[Case]:
    """Draw loads of 4 to *most* requests on fleets that are often short of cache."""
    return st.builds(
        Case,
        load=st.lists(REQUEST, min_size=4, max_size=most).map(tuple),
        replicas=st.integers(1, replicas),
        spare_blocks=st.sampled_from([0, 0, 1, 3, 8, 300]),
        block_tokens=st.sampled_from([1, 4, 16, 16]),
        swap_blocks=st.sampled_from([0, 0, 4, 1000]),
        watermark_blocks=st.sampled_from([0, 0, 1]),
        window=st.sampled_from([0, 0, 7, 50]),
    )


def batching(kind: str) -> st.SearchStrategy[BatchingPolicy]:
    """Draw a built-in policy with small limits, so that they are met."""
    size, budget = st.integers(1, 8), st.sampled_from([1, 9, 30, 500])
    rules = {"orca": Orca, "prefill-first": PrefillFirst, "chunked": Chunked, "shortest-first": ShortestFirst}
    if kind in rules:
        return st.builds(rules[kind], max_batch=size, token_budget=budget)
    if kind == "static":
        return st.builds(Static, max_batch=size)
    if kind == "decode-first":
        share = st.sampled_from([0.0, 0.5, 0.9])
        return st.builds(DecodeFirst, max_batch=size, token_budget=budget, refill_share=share)
    return st.builds(
        SkipJoinMLFQ,
        max_batch=size,
        token_budget=st.sampled_from([9, 30, 500]),
        quantum_passes=st.integers(1, 5),
        levels=st.integers(1, 4),
        prompt_tokens_per_pass=st.sampled_from([5.0, 50.0]),
        starvation=st.sampled_from([0.0503, 1.0, 30.0]),
    )


class Asked(BatchingPolicy):
    """Asks another policy, so that the engine asks this one in Python at each decision."""

    inner: BatchingPolicy

    def next_step(self, view: Any) -> Step:
        return self.inner.next_step(view)


class AskedReserving(Asked):
    reserves_limit: ClassVar[bool] = True


class AskedHolding(AskedReserving):
    holds_batch: ClassVar[bool] = True


def asked(policy: BatchingPolicy) -> BatchingPolicy:
    """Return *policy* in a wrapper that keeps it from being run compiled."""
    if policy.holds_batch:
        return AskedHolding(inner=policy)
    return AskedReserving(inner=policy) if policy.reserves_limit else Asked(inner=policy)


class Arbitrary(BatchingPolicy):
    """Does anything that the contract allows: partial chunks, pauses, preemptions, short promises."""

    seed: int = 0

    def next_step(self, view: Any) -> Step:
        luck = random.Random(f"{self.seed} {view.index} {view.now_s!r}")
        holders = [*view.running, *view.paused]
        step = Step(passes=luck.choice([0, 1, 4]))
        free = view.free_kv_blocks - len(holders)
        for seq in [*view.prefilling, *view.waiting]:
            fresh = seq.context_tokens == 0 or seq.prefill_left == 0
            need = blocks_for(seq.prefill_left or seq.context_tokens + 1, view.block_tokens) if fresh else 0
            if luck.random() < 0.6 and need <= free:
                step.prefill[seq] = luck.randint(min(1, seq.prefill_left), seq.prefill_left)
                free -= need
        back = any(tokens == 0 for tokens in step.prefill.values())
        if holders and not back and luck.random() < 0.2:
            step.preempt = [holders.pop(luck.randrange(len(holders)))]
        chosen = [seq for seq in holders if luck.random() < 0.7]
        step.decode = luck.choice([ALL, chosen]) if holders and not step.preempt else chosen
        return step if step else self._something(view)

    @staticmethod
    def _something(view: Any) -> Step:
        """Return the plainest step that gets on."""
        if view.running or view.paused:
            return Step(decode=ALL)
        first = next(iter([*view.prefilling, *view.waiting]), None)
        return Step(prefill={first: first.prefill_left}, decode=ALL) if first is not None else Step()


class RawLog(Log):
    """Keeps the rows as the engine wrote them, before they are rounded to the columns of the result table."""

    def __init__(self, fleet_state: state.State):
        super().__init__(fleet_state)
        self.raw: list[np.ndarray] = []

    def flush(self) -> None:
        self.raw.append(self.state.rows[: self.state.fleet[state.ROWS]].copy())
        super().flush()


@dataclass(frozen=True)
class Served:
    """What a run did, as arrays."""

    fleet: Fleet
    rows: dict[str, np.ndarray]
    gaps: dict[str, np.ndarray]
    events: dict[str, np.ndarray] = field(repr=False)

    def of_requests(self, column: int) -> np.ndarray:
        """Return a column of the requests, whole numbers."""
        return self.fleet.state.req[:, column]

    def times(self, column: int) -> np.ndarray:
        """Return a column of the requests, seconds."""
        return self.fleet.state.req_t[:, column]


def serve(
    case: Case,
    policy: BatchingPolicy,
    router: Router | None = None,
    admission: Admission | None = None,
    leap: bool = True,
) -> Served:
    """Run *case* to its end."""
    cost = fleets.prices(window=case.window, base_s=5.0321e-3, token_s=5.1097e-5, most=4000)
    door = (router or LeastOutstanding(), admission or Always())
    return serve_plan(case, FleetPlan(case.replicas, cost, case.memory, policy, *door, leap))


def serve_plan(case: Case, plan: FleetPlan) -> Served:
    """Run the load of *case* to its end on the fleet of *plan*."""
    env = simpy.Environment()
    fleet = Fleet(env, plan, case.requests, Streams(case.seed))
    fleet.log = log = RawLog(fleet.state)
    closed = case.clients > 0
    env.process(fleet.serve_clients(case.clients, case.think_s) if closed else fleet.serve())
    env.run()
    log.flush()
    fleet.check_done()
    rows = np.concatenate(log.raw)
    columns = {name: rows[:, j] for j, name in enumerate(ITERATIONS.names)}
    return Served(fleet, columns, log.token_gaps(), log.events())


def alone(case: Case) -> Case:
    """Return the same load on one replica."""
    return replace(case, replicas=1)
