"""How fast the serving engine is; run with ``pytest tests/speed --benchmark-only``.

No absolute time is asserted: within one run, leaping must beat stepping, and rules must beat asking.
"""

from time import process_time

import pytest

from clustersim.policies import BatchingPolicy
from clustersim.policies.batching import Chunked, PrefillFirst
from clustersim.policies.routing import LeastOutstanding, RoundRobin
from tests.fleets import fleet, random_requests

LOAD = random_requests(10_000, 3.0, seed=1, prompt=1231, output=218)


class Asked(BatchingPolicy):
    """Decides as chunked does, but in Python."""

    max_batch: int = 128

    def next_step(self, view):
        return Chunked(max_batch=self.max_batch, token_budget=512).next_step(view)


@pytest.mark.parametrize("policy", [Chunked(max_batch=128, token_budget=512), PrefillFirst(max_batch=128)])
@pytest.mark.benchmark(group="10,000 requests, one replica")
def test_replay_by_rules(benchmark, policy):
    served = benchmark(fleet, LOAD, batching=policy)
    assert served.state.fleet[3] == len(LOAD)


@pytest.mark.benchmark(group="10,000 requests, one replica")
def test_replay_without_leaps(benchmark):
    benchmark(fleet, LOAD, leap=False)


@pytest.mark.benchmark(group="1,000 requests, one replica")
def test_replay_with_a_policy_in_python(benchmark):
    benchmark(fleet, random_requests(1000, 3.0, seed=1), batching=Asked())


@pytest.mark.parametrize("router", [RoundRobin(), LeastOutstanding()])
@pytest.mark.benchmark(group="50,000 requests, 64 replicas")
def test_routing_over_many_replicas(benchmark, router):
    benchmark(fleet, random_requests(50_000, 192.0, seed=2), router=router, replicas=64)


def test_leaping_beats_stepping_and_rules_beat_asking():
    load = random_requests(1000, 1.0, seed=3)
    fleet(load), fleet(load, batching=Asked())

    def cpu_s(**how):
        start = process_time()
        fleet(load, **how)
        return process_time() - start

    leap, step, asked = (
        min(cpu_s(**how) for _ in range(3)) for how in ({}, {"leap": False}, {"batching": Asked()})
    )
    assert step > 2 * leap
    assert asked > 2 * leap
