"""Queues with textbook answers: one server is one replica that holds one request at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import simpy

from clustersim.cost import attention
from clustersim.cost.step import StepPrices
from clustersim.policies import BatchingPolicy, Router
from clustersim.policies.admission import Always, QueueLimit
from clustersim.policies.batching import Chunked, PrefillFirst, Static
from clustersim.policies.routing import LeastOutstanding, Random, RoundRobin
from clustersim.rng import Streams
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from clustersim.workload import Requests
from tests import fleets

TOKEN_S = 1e-3
"""Seconds of a prompt token; a pass costs nothing else, or PASS_S."""
PASS_S = 0.05
REPLICATIONS, CUSTOMERS, WARM_UP = 20, 40_000, 4_000
T_99 = 2.861
"""Two-sided 99 % point of Student's t with 19 degrees of freedom."""


def by_token() -> StepPrices:
    """Return prices by which a pass takes as long as its tokens, and attention nothing."""
    return _only(TOKEN_S * np.arange(8001), overhead_s=0.0)


def by_pass() -> StepPrices:
    """Return prices by which every pass takes the same time, whatever it computes."""
    return _only(np.zeros(8001), overhead_s=PASS_S)


def _only(token_s: np.ndarray, overhead_s: float) -> StepPrices:
    pass_s, output_s = np.zeros((len(token_s), 4)), np.zeros((4200, 4))
    pass_s[:, 0], pass_s[1:, 3] = token_s, overhead_s
    prefill = np.zeros(attention.SIZE)
    prefill[attention.NORM] = 1.0
    return StepPrices(pass_s, output_s, np.zeros((4, 4)), 0, prefill, np.ones(5), 0.0)


@dataclass(frozen=True)
class Station:
    """Servers that hold one request each, under a policy for whom to send where."""

    prices: StepPrices
    policy: BatchingPolicy
    router: Router = field(default_factory=LeastOutstanding)
    replicas: int = 1

    def waits_s(self, load: Requests) -> np.ndarray:
        """Return how long each request of *load* waited before its service began."""
        memory = Memory(blocks=40_000, block_tokens=16)
        plan = FleetPlan(self.replicas, self.prices, memory, self.policy, self.router, Always())
        env = simpy.Environment()
        fleet = Fleet(env, plan, load, Streams(5))
        env.process(fleet.serve())
        env.run()
        fleet.check_done()
        return fleet.state.req_t[:, state.ADMITTED_S] - load.arrival_s


def interval(station: Station, rate: float, prompt: object, output: int = 1) -> tuple[float, float]:
    """Return the mean wait over replications with Poisson arrivals, and half its 99 % confidence interval."""
    means = []
    for replication in range(REPLICATIONS):
        rng = Streams(11, replication).get("queue")
        arrival_s = np.cumsum(rng.exponential(1 / rate, CUSTOMERS))
        tokens = prompt(rng) if callable(prompt) else np.full(CUSTOMERS, prompt)
        load = fleets.requests(arrival_s, tokens, np.full(CUSTOMERS, output))
        means.append(station.waits_s(load)[WARM_UP:].mean())
    return float(np.mean(means)), T_99 * float(np.std(means, ddof=1)) / REPLICATIONS**0.5


def assert_mean(found: tuple[float, float], expected: float) -> None:
    """Assert that *expected* lies in a confidence interval that is narrow enough to tell."""
    mean, half = found
    assert half < 0.06 * expected
    assert abs(mean - expected) < half


def exponential_prompts(mean_tokens: float):
    """Return a draw of exponential prompt lengths, to the next whole token."""
    return lambda rng: np.ceil(rng.exponential(mean_tokens, CUSTOMERS)).astype(int)


SINGLE = Chunked(max_batch=1, token_budget=1 << 20)


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("policy", [SINGLE, PrefillFirst(max_batch=1), Static(max_batch=1)])
def test_a_server_of_constant_service_is_md1(load, policy):
    service_s = 100 * TOKEN_S
    found = interval(Station(by_token(), policy), load / service_s, 100)
    assert_mean(found, load * service_s / (2 * (1 - load)))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_service_of_many_passes_is_md1_too(load):
    service_s = 10 * PASS_S  # a prefill and nine decodes
    found = interval(Station(by_pass(), SINGLE), load / service_s, 100, output=10)
    assert_mean(found, load * service_s / (2 * (1 - load)))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_server_of_exponential_service_is_mm1(load):
    mean_tokens = 1000.0
    service_s = (mean_tokens + 0.5) * TOKEN_S  # rounding up adds half a token
    found = interval(Station(by_token(), SINGLE), load / service_s, exponential_prompts(mean_tokens))
    assert_mean(found, load * service_s / (1 - load))


def test_random_routing_splits_a_stream_into_mm1_queues():
    load, service_s = 0.8, 1000.5 * TOKEN_S
    station = Station(by_token(), SINGLE, Random(), replicas=4)
    found = interval(station, 4 * load / service_s, exponential_prompts(1000.0))
    assert_mean(found, load * service_s / (1 - load))


def test_taking_turns_waits_less_than_chance():
    """Each replica then sees Erlang-4 arrivals: E4/M/1, whose root is found by iteration."""
    load, service_s = 0.8, 1000.5 * TOKEN_S
    root = 0.5
    for _ in range(200):
        root = (4 * load / (4 * load + 1 - root)) ** 4
    station = Station(by_token(), SINGLE, RoundRobin(), replicas=4)
    found = interval(station, 4 * load / service_s, exponential_prompts(1000.0))
    assert_mean(found, root * service_s / (1 - root))


def test_a_full_queue_turns_away_as_erlang_says():
    """M/M/1 with room for three in all: the share lost is rho^3 (1 - rho) / (1 - rho^4)."""
    load, service_s = 0.8, 1000.5 * TOKEN_S
    lost = []
    for replication in range(REPLICATIONS):
        rng = Streams(12, replication).get("queue")
        arrival_s = np.cumsum(rng.exponential(service_s / load, CUSTOMERS))
        requests = fleets.requests(arrival_s, exponential_prompts(1000.0)(rng), np.ones(CUSTOMERS))
        memory = Memory(blocks=40_000, block_tokens=16)
        plan = FleetPlan(1, by_token(), memory, SINGLE, LeastOutstanding(), QueueLimit(max_waiting=2))
        env = simpy.Environment()
        fleet = Fleet(env, plan, requests, Streams(0))
        env.process(fleet.serve())
        env.run()
        lost.append(np.mean(fleet.state.req[WARM_UP:, state.STATUS] == state.REJECTED))
    found = float(np.mean(lost)), T_99 * float(np.std(lost, ddof=1)) / REPLICATIONS**0.5
    assert_mean(found, load**3 * (1 - load) / (1 - load**4))


def test_an_unlimited_batch_makes_nobody_wait_and_holds_as_many_as_little_says():
    """M/D/inf: passes of one length whoever is in them; the batch is rate times service on average."""
    rate, output = 20.0, 40
    rng = np.random.default_rng(3)
    arrival_s = np.cumsum(rng.exponential(1 / rate, CUSTOMERS))
    load = fleets.requests(arrival_s, np.full(CUSTOMERS, 5), np.full(CUSTOMERS, output))
    run = fleets.fleet(load, batching=Chunked(max_batch=4000, token_budget=1 << 20), cost=by_pass())
    wait_s = run.state.req_t[:, state.ADMITTED_S] - arrival_s
    assert wait_s.max() <= PASS_S * (1 + 1e-9)
    assert wait_s.mean() == pytest.approx(PASS_S / 2, rel=0.01)
    rows = run.log.iterations()
    decoding = np.dot(rows["duration_s"], rows["decode_sequences"]) / (arrival_s[-1] - arrival_s[0])
    assert decoding == pytest.approx(rate * (output - 1) * PASS_S, rel=0.02)
