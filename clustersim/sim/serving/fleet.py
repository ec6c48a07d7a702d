"""A fleet of equal serving replicas: built from a plan, driven on the clock of a SimPy environment.

Where policies are rules, everything between two events that others can see is one compiled call.
A router, an admission or a batching policy written in Python is asked at each of its decisions.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import simpy

from clustersim.cost.passes import PassPrice
from clustersim.cost.step import StepPrices
from clustersim.errors import PolicyError, StalledError
from clustersim.policies import Admission, BatchingPolicy, Router, RuleBatching, RuleRouter, Verdict
from clustersim.policies.admission import Always, QueueLimit
from clustersim.rng import Streams
from clustersim.sim.serving import drive, state
from clustersim.sim.serving.asked import AskedReplica, policy_errors
from clustersim.sim.serving.log import Log
from clustersim.sim.serving.state import State
from clustersim.sim.serving.views import Columns, Request
from clustersim.workload import Requests

Process = Generator[simpy.Event, Any, None]

_UNLIMITED: Final = 1 << 40
_ROUTERS: Final = {"turn": 0, "one": 1, "two": 2, "all": 3}
_COLUMNS: Final = {
    "outstanding": state.OUTSTANDING,
    "waiting": state.WAIT,
    "pending_tokens": state.PENDING,
    "kv_blocks": -1,
}
_ASKED_BATCH: Final = 4096
"""Most sequences in a pass of a replica whose policy is asked in Python."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The key-value cache of one replica, in blocks."""

    blocks: int
    block_tokens: int
    watermark_blocks: int = 0
    swap_blocks: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FleetPlan:
    """Everything that a fleet is made of."""

    replicas: int
    prices: StepPrices
    memory: Memory
    batching: BatchingPolicy
    router: Router
    admission: Admission
    leap: bool = True
    price: PassPrice | None = None
    """Says in Python how long each pass takes; *prices* then only say what it is bound by."""


class Fleet:
    """Serves requests with equal replicas behind one router."""

    def __init__(self, env: simpy.Environment, plan: FleetPlan, requests: Requests, streams: Streams):
        self.env, self.plan, self.requests = env, plan, requests
        self.state = build_state(plan, requests, streams)
        self.log = Log(self.state)
        self.columns = Columns(self.state)
        self.load_kernels()
        self.asked: list[AskedReplica] = []
        if plan.price is not None or not is_compiled(plan.batching):
            self.asked = [AskedReplica(env, r, self) for r in range(plan.replicas)]

    def serve(self) -> Process:
        """Let the requests arrive at their times, and end when the last is answered."""
        self.state.fleet[state.SENT] = len(self.requests)
        if self.asked or not self._compiled_door():
            yield from self._deliver_each()
        else:
            yield from self._play()
        yield from self._drain()

    def serve_clients(self, clients: int, think_s: float) -> Process:
        """Keep *clients* requests going: each answer is followed by that client's next request."""
        first = min(clients, len(self.requests))
        self.requests.arrival_s[:first] = self.env.now
        self.state.fleet[state.SENT] = first
        if self.asked or not self._compiled_door():
            raise PolicyError("closed-loop load needs built-in kinds of batching, router and admission")
        while not drive.play_closed(self.state, self.requests.arrival_s, len(self.requests), think_s):
            self.make_space()
        yield self.env.timeout(max(0.0, self.end_s - self.env.now))

    def load_kernels(self) -> None:
        """Have the compiled loops ready, so that their time is not taken for the simulation's."""
        drive.play(self.state, self.requests.arrival_s, 0, 0)
        drive.settle_all(self.state, -np.inf)

    @property
    def end_s(self) -> float:
        """When the last pass so far ended."""
        return float(np.max(self.state.floats[:, state.CLOCK], initial=0.0))

    def make_space(self) -> None:
        """Empty the buffers of records and enlarge queues, so that the core can go on."""
        if self.state.fleet[state.ERROR] > 0:
            r = int(self.state.fleet[state.ERROR]) - 1
            raise StalledError(f"replica {r} has one sequence left and no cache block for its next token")
        self.log.flush()
        longest = int(np.max(self.state.ints[:, state.OUTSTANDING]))
        if 2 * longest + 8 > self.state.queue_req.shape[1]:
            self.state = enlarge_queues(self.state)
            self.log.state = self.columns.state = self.state

    def _compiled_door(self) -> bool:
        admission = type(self.plan.admission)
        route = type(self.plan.router).route
        return route is RuleRouter.route and admission in (Always, QueueLimit)

    def _play(self) -> Process:
        """Hand the core all arrivals up to the next event of anybody else, and jump there."""
        arrival_s, n, req = self.requests.arrival_s, len(self.requests), 0
        while req < n:
            horizon = max(self.env.peek(), arrival_s[req])
            last = int(np.searchsorted(arrival_s, horizon, side="right"))
            while req < last:
                req = drive.play(self.state, arrival_s, req, last)
                if req < last:
                    self.make_space()
            yield self.env.timeout(max(0.0, arrival_s[req - 1] - self.env.now))

    def _deliver_each(self) -> Process:
        """Let every request arrive as an event, and ask the policies that are written in Python."""
        before_s = -np.inf
        for req, arrival_s in enumerate(self.requests.arrival_s.tolist()):
            if arrival_s > max(before_s, self.env.now):
                yield self.env.timeout(arrival_s - self.env.now)
            before_s = arrival_s
            self._deliver(req, arrival_s)

    def _deliver(self, req: int, now: float) -> None:
        if not self.asked:
            while not drive.settle_all(self.state, now):
                self.make_space()
        self.columns.now_s = now
        request = Request(self, req)
        r = self._route(request, now)
        with policy_errors(self.plan.admission, "admit"):
            verdict = self.plan.admission.admit(request, self.columns, r)
        if not isinstance(verdict, Verdict):
            raise PolicyError(
                f"admission {type(self.plan.admission).__name__} returned {verdict!r} for request {req} at "
                f"{now:.6g} s; allowed: Verdict.ADMIT, Verdict.REJECT"
            )
        if verdict is Verdict.REJECT:
            self.make_space()
            drive.reject(self.state, r, req, now)
        elif self.asked:
            self.asked[r].receive(req)
        else:
            self.make_space()
            drive.deliver(self.state, r, req, now)

    def _route(self, request: Request, now: float) -> int:
        router = self.plan.router
        with policy_errors(router, "route"):
            r = router.route(request, self.columns)
        if not isinstance(r, (int, np.integer)) or not 0 <= r < self.plan.replicas:
            raise PolicyError(
                f"router {type(router).__name__} returned {r!r} for request {request.id} at {now:.6g} s; "
                f"allowed: 0 to {self.plan.replicas - 1}"
            )
        return int(r)

    def _drain(self) -> Process:
        if self.asked:
            return
        while not drive.settle_all(self.state, np.inf):
            self.make_space()
        yield self.env.timeout(max(0.0, self.end_s - self.env.now))

    def check_done(self) -> None:
        """Raise StalledError, saying who stands still and why, if a request was never answered."""
        status = self.state.req[:, state.STATUS]
        left = np.flatnonzero((status != state.FINISHED_STATUS) & (status != state.REJECTED))
        if not len(left):
            return
        req = int(left[0])
        r = int(self.state.req[req, state.REPLICA])
        if r < 0:
            raise StalledError(f"{len(left)} requests never arrived, the first is request {req}")
        ints = self.state.ints[r]
        raise StalledError(
            f"replica {r} stands still at {self.env.now:.6g} s with {len(left)} requests unanswered in all: "
            f"{ints[state.WAIT]} waiting (first: request {req}, "
            f"{self.state.req[req, state.PROMPT]} prompt tokens), "
            f"{ints[state.RUN] + ints[state.PREF]} started, {ints[state.FREE]} of {self.plan.memory.blocks} "
            f"cache blocks free: {type(self.plan.batching).__name__} chose none of them"
        )


def is_compiled(batching: BatchingPolicy) -> bool:
    """Say whether the core can run the policy itself: it is made of rules and decides nothing else."""
    return isinstance(batching, RuleBatching) and type(batching).next_step is RuleBatching.next_step


def most_sequences(batching: BatchingPolicy) -> int:
    """Return the most sequences that a pass under *batching* can have."""
    if isinstance(batching, RuleBatching) and is_compiled(batching):
        return batching.rules().max_batch
    return max(_ASKED_BATCH, int(getattr(batching, "max_batch", 0)))


def build_state(plan: FleetPlan, requests: Requests, streams: Streams) -> State:
    """Return the arrays of a fleet at rest."""
    if plan.batching.holds_batch and not plan.batching.reserves_limit:
        raise PolicyError(
            f"{type(plan.batching).__name__} holds its batch, so it must set reserves_limit = True"
        )
    batch = most_sequences(plan.batching)
    n = len(requests)
    coin = streams.get("router").random((n, 2))
    prices = plan.prices
    built = State(
        **state.request_arrays(requests.prompt_tokens, requests.output_tokens, requests.limit_tokens, coin),
        **state.replica_arrays(plan.replicas, batch, plan.memory.blocks, plan.memory.block_tokens),
        **state.buffers(batch),
        rules=_rules(plan, batch),
        pass_s=prices.pass_s,
        output_s=prices.output_s,
        cost=np.concatenate(
            [prices.decode_s.ravel(), prices.power_w, [prices.swap_s_per_token], prices.prefill]
        ),
    )
    _fill_keys(built, plan.batching, requests)
    return built


def enlarge_queues(old: State) -> State:
    """Return the same fleet with twice as much room in its queues."""
    return old._replace(
        queue_key=np.hstack([old.queue_key, np.zeros_like(old.queue_key)]),
        queue_req=np.hstack([old.queue_req, np.zeros_like(old.queue_req)]),
    )


def _rules(plan: FleetPlan, batch: int) -> np.ndarray[Any, Any]:
    rules = np.zeros(state.RULES, np.int64)
    policy, memory = plan.batching, plan.memory
    rules[state.MAX_BATCH] = batch
    if isinstance(policy, RuleBatching):
        own = policy.rules()
        rules[state.TOKEN_BUDGET] = own.token_budget
        rules[state.MIXED] = own.mixed
        rules[state.CHUNKED] = own.chunked
        rules[state.REFILL] = own.refill_below
    rules[state.RESERVES] = policy.reserves_limit
    rules[state.HOLDS] = policy.holds_batch
    rules[state.WATERMARK] = memory.watermark_blocks
    rules[state.BLOCKS] = memory.blocks
    rules[state.BLOCK_TOKENS] = memory.block_tokens
    rules[state.SWAP_BLOCKS] = memory.swap_blocks
    rules[state.MAX_LEAP] = _UNLIMITED if plan.leap else 1
    rules[state.WINDOW] = plan.prices.window_tokens
    if isinstance(plan.router, RuleRouter):
        rules[state.ROUTER] = _ROUTERS[plan.router.candidates]
        rules[state.COLUMN] = _COLUMNS[plan.router.column]
    limit = plan.admission if isinstance(plan.admission, QueueLimit) else None
    rules[state.MAX_WAITING] = limit.max_waiting if limit else _UNLIMITED
    rules[state.MAX_PENDING] = (limit.max_pending_tokens if limit else None) or _UNLIMITED
    return rules


def _fill_keys(built: State, policy: BatchingPolicy, requests: Requests) -> None:
    """Ask a policy of rules for the place of each request, unless it keeps the order of arrival."""
    if not isinstance(policy, RuleBatching) or type(policy).key is RuleBatching.key:
        return
    owner = _Owner(built, requests)
    with policy_errors(policy, "key"):
        for req in range(len(requests)):
            built.req_t[req, state.KEY] = policy.key(Request(owner, req))


@dataclass(frozen=True, slots=True)
class _Owner:
    state: State
    requests: Requests
