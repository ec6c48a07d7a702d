"""What each built-in policy promises, and what the engine lets a policy of one's own do."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import PolicyError, StalledError
from clustersim.policies import ALL, BatchingPolicy, Router, Step
from clustersim.policies.admission import QueueLimit
from clustersim.policies.batching import (
    Chunked,
    DecodeFirst,
    PrefillFirst,
    ShortestFirst,
)
from clustersim.policies.mlfq import SkipJoinMLFQ
from clustersim.policies.registry import find, names
from clustersim.policies.routing import (
    KvAware,
    LeastOutstanding,
    LeastPendingTokens,
    PowerOfTwo,
    Random,
    RoundRobin,
    RuleRouter,
)
from clustersim.sim.serving import state
from tests.broken_policies import BATCHING as BROKEN
from tests.broken_policies import Sound, TakesTheLastBlock
from tests.serving_cases import (
    RULES,
    Asked,
    AskedHolding,
    Case,
    alone,
    asked,
    batching,
    cases,
    serve,
)

LAW = settings(max_examples=30, deadline=None, derandomize=True)


def plenty(case: Case) -> Case:
    """Return the same load with more cache than it needs."""
    return replace(case, spare_blocks=5000)


# -- batching ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RULES)
def test_no_pass_exceeds_the_batch_or_the_budget_of_tokens(kind):
    @LAW
    @given(cases(), batching(kind))
    def check(case, policy):
        rows, rules = serve(case, policy).rows, policy.rules()
        assert (rows["decode_sequences"] <= rules.max_batch).all()
        longest = int((case.requests.prompt_tokens + case.requests.output_tokens).max())
        whole = 0 if rules.chunked else longest + rules.max_batch  # one long prompt may go over
        tokens = rows["prefill_tokens"] + rows["decode_sequences"] * rules.mixed
        assert (tokens[rows["prefill_tokens"] > 0] <= max(rules.token_budget, whole)).all()

    check()


@LAW
@given(cases(), batching("static"))
def test_a_static_batch_ends_together_and_starts_when_the_last_one_has_ended(case, policy):
    run = serve(alone(case), policy)
    admitted_s, finish_s = run.times(state.ADMITTED_S), run.times(state.FINISH_S)
    starts_s = np.unique(admitted_s)
    for start_s, next_s in zip(starts_s, [*starts_s[1:], np.inf], strict=True):
        batch = admitted_s == start_s
        assert batch.sum() <= policy.max_batch
        assert len(set(finish_s[batch])) <= 2  # those whose prefill was all of their answer end before
        assert finish_s[batch].max() <= next_s


@LAW
@given(cases(), batching("orca"))
def test_reserved_memory_preempts_nobody(case, policy):
    run = serve(case, policy)
    assert (run.of_requests(state.PREEMPTIONS) == 0).all()


@pytest.mark.parametrize("kind", ["static", "prefill-first", "decode-first"])
def test_prefills_and_decodes_share_no_pass(kind):
    @LAW
    @given(cases(), batching(kind))
    def check(case, policy):
        rows = serve(case, policy).rows
        assert not ((rows["prefill_tokens"] > 0) & (rows["decode_sequences"] > 0)).any()

    check()


@LAW
@given(cases(), batching("chunked"))
def test_chunked_prefills_stall_no_decode(case, policy):
    run = serve(plenty(case), policy)
    assert run.gaps["sequences"].sum() == 0


def test_whole_prefills_stall_decodes():
    case = Case(load=((0.0, 20, 50, 0), (0.05, 3000, 5, 0)), spare_blocks=500)
    longest_s = {type(p): serve(case, p).gaps["gap_s"].max(initial=0.0) for p in (PrefillFirst(), Chunked())}
    assert longest_s[PrefillFirst] > 3000 * 5e-5
    assert longest_s[Chunked] == 0.0


@LAW
@given(cases(), st.integers(1, 6))
def test_decode_first_admits_only_when_nothing_runs(case, size):
    run = serve(alone(plenty(case)), DecodeFirst(max_batch=size))
    admitted_s, finish_s = run.times(state.ADMITTED_S), run.times(state.FINISH_S)
    for start_s in np.unique(admitted_s):
        assert not ((admitted_s < start_s) & (finish_s > start_s + 1e-12)).any()


@pytest.mark.parametrize("kind", ["orca", "prefill-first", "chunked", "decode-first"])
def test_first_come_is_first_admitted(kind):
    @LAW
    @given(cases(), batching(kind))
    def check(case, policy):
        run = serve(alone(plenty(case)), policy)
        assert (np.diff(run.times(state.ADMITTED_S)) >= 0).all()

    check()


@LAW
@given(cases(), st.integers(1, 3))
def test_shortest_first_admits_the_shortest_of_those_that_wait(case, size):
    run = serve(alone(plenty(case)), ShortestFirst(max_batch=size))
    admitted_s, arrival_s = run.times(state.ADMITTED_S), case.requests.arrival_s
    prompt = case.requests.prompt_tokens
    for req, start_s in enumerate(admitted_s):
        waits = (arrival_s <= start_s) & (admitted_s > start_s + 1e-12)
        assert (prompt[waits] >= prompt[req]).all()


LONG_THEN_SHORT = Case(load=((0.0, 30, 900, 0), (0.5, 30, 5, 0)), spare_blocks=500)


@pytest.mark.parametrize("max_batch", [1, 2])
def test_a_feedback_queue_lets_the_short_overtake_the_long(max_batch):
    fair = serve(LONG_THEN_SHORT, SkipJoinMLFQ(max_batch=max_batch)).times(state.FINISH_S)
    assert fair[1] < 0.6
    assert fair[0] > 900 * 5e-3
    in_order = serve(LONG_THEN_SHORT, Chunked(max_batch=1)).times(state.FINISH_S)
    assert in_order[1] > in_order[0]


def test_a_feedback_queue_leaves_nobody_without_a_token_for_long():
    load = ((0.0, 30, 60, 0), *((0.04, 10, 8, 0) for _ in range(60)))
    longest_s = {}
    for starvation in (1000.0, 0.2):
        policy = SkipJoinMLFQ(max_batch=1, quantum_passes=16, starvation=starvation)
        longest_s[starvation] = serve(Case(load, spare_blocks=500), policy).gaps["gap_s"].max()
    assert longest_s[1000.0] > 2.0
    assert longest_s[0.2] < 0.3


def test_a_feedback_queue_lets_a_long_prompt_skip_the_first_levels():
    policy = SkipJoinMLFQ(prompt_tokens_per_pass=100.0, quantum_passes=8)
    case = Case(load=((0.0, 100, 1, 0), (0.0, 3000, 1, 0)), spare_blocks=500)
    levels = []

    class Watch(Asked):
        def next_step(self, view):
            levels.append([policy._level(seq, view.now_s)[0] for seq in view.waiting])
            return super().next_step(view)

    serve(case, Watch(inner=policy))
    assert levels[0] == [0, 2]  # 3000 tokens are 30 passes, more than the quanta of 8 and 16


# -- routing -----------------------------------------------------------------------------------------

STREAM = Case(load=((0.004, 40, 30, 0),) * 600, replicas=4, spare_blocks=2000)


def shares(router: Router, seed: int = 0) -> np.ndarray:
    """Return how many requests each replica of a busy fleet got."""
    run = serve(replace(STREAM, seed=seed), Chunked(), router)
    return np.bincount(run.of_requests(state.REPLICA), minlength=4)


def test_round_robin_takes_turns():
    assert serve(STREAM, Chunked(), RoundRobin()).of_requests(state.REPLICA).tolist() == [0, 1, 2, 3] * 150


def test_two_choices_balance_better_than_one_and_all_better_than_two():
    one, two, everyone = (np.ptp(shares(router)) for router in (Random(), PowerOfTwo(), LeastOutstanding()))
    assert one > two >= everyone


def test_a_random_router_favours_nobody():
    sent = sum(shares(Random(), seed) for seed in range(10))
    chi_square = ((sent - sent.mean()) ** 2 / sent.mean()).sum()
    assert chi_square < 11.3  # 99 % of a chi-square with three degrees of freedom


class FewestWaiting(RuleRouter):
    """The trap: forgets the requests that run."""

    column = "waiting"


class FewestOutstandingInPython(LeastOutstanding):
    """The same as its base, asked in Python."""

    def route(self, request, replicas):
        return int(np.argmin(replicas.outstanding))


ONE_LONG_ONE_SHORT = Case(load=((0.0, 10, 1000, 0), (1.0, 10, 5, 0)), replicas=2)


@pytest.mark.parametrize("router", [LeastOutstanding(), FewestOutstandingInPython()])
@pytest.mark.parametrize("policy", [Chunked(), asked(Chunked())])
def test_a_running_request_counts_as_outstanding(router, policy):
    assert serve(ONE_LONG_ONE_SHORT, policy, router).of_requests(state.REPLICA).tolist() == [0, 1]
    forgetful = serve(ONE_LONG_ONE_SHORT, policy, FewestWaiting())
    assert forgetful.of_requests(state.REPLICA).tolist() == [0, 0]


def test_routers_by_load_look_at_their_own_column():
    long_prompt_then_long_answer = ((0.0, 3000, 1, 0), (0.001, 100, 500, 0), (0.08, 10, 1, 0))
    case = Case(load=long_prompt_then_long_answer, replicas=2, spare_blocks=500)
    chosen = {
        type(router): serve(case, Chunked(token_budget=64), router).of_requests(state.REPLICA)[2]
        for router in (LeastPendingTokens(), KvAware())
    }
    assert chosen == {LeastPendingTokens: 1, KvAware: 1}
    later = Case(load=(*long_prompt_then_long_answer[:2], (1.2, 10, 1, 0)), replicas=2, spare_blocks=500)
    run = serve(later, Chunked(token_budget=4096), KvAware())
    assert run.of_requests(state.REPLICA)[2] == 0  # the long prompt was answered and holds nothing any more


@pytest.mark.parametrize("kind", names(Router))
def test_every_router_serves_a_single_replica(kind):
    run = serve(alone(STREAM), Chunked(), find(Router, kind)())
    assert (run.of_requests(state.REPLICA) == 0).all()


@LAW
@given(cases(replicas=1), st.integers(1, 3))
def test_a_queue_limit_is_never_exceeded(case, most):
    run = serve(case, PrefillFirst(max_batch=1), admission=QueueLimit(max_waiting=most))
    assert (run.rows["waiting"] <= most).all()


# -- policies of one's own ---------------------------------------------------------------------------


def test_a_policy_cannot_admit_into_the_blocks_that_running_sequences_take_next():
    case = Case(load=((0.0, 16, 10, 0), (0.001, 16, 4, 0)), spare_blocks=-1)
    assert case.memory.blocks == 2
    with pytest.raises(
        PolicyError, match="TakesTheLastBlock admits request 1, which needs 1 cache blocks; 0 "
    ):
        serve(case, TakesTheLastBlock())


CROWD = Case(load=((0.0, 40, 30, 0),) * 8, spare_blocks=1)
REFUSED = {
    "ReturnsNothing": "returned None, which is no Step",
    "PrefillsWhatRuns": "prefills request 0, which does not wait",
    "PrefillsNothing": "prefills 0 tokens of request 0, 40 are left",
    "DecodesOneTwice": "decodes a sequence twice",
    "DecodesWhatWaits": "which does not run",
    "PreemptsWhatWaits": "which holds no cache",
    "OverAllocates": "which needs 3 cache blocks",
    "Raises": "Raises.next_step raised IndexError: list index out of range",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_engine_refuses_what_a_contract_forbids_and_says_who_and_when(name):
    (broken,) = (cls for cls in BROKEN if cls.__name__ == name)
    with pytest.raises(PolicyError, match=REFUSED[name]) as caught:
        serve(CROWD, broken())
    assert name in str(caught.value)
    if name != "Raises":
        assert "(replica 0, " in str(caught.value)


def test_a_policy_that_leaves_work_undone_stalls_loudly():
    class Sleeps(Sound):
        def next_step(self, view):
            return super().next_step(view) if view.now_s < 0.02 else Step()

    with pytest.raises(
        StalledError, match=r"replica 0 stands still at 0\.0\d+ s with 8 requests .* Sleeps chose"
    ):
        serve(CROWD, Sleeps())


class HoldsAndNamesAll(AskedHolding):
    """Names every sequence that runs instead of saying ALL."""

    def next_step(self, view):
        step = super().next_step(view)
        if step.decode is ALL:
            step.decode = list(view.running)
        return step


@LAW
@given(cases(), batching("static"))
def test_a_held_batch_may_be_decoded_by_name(case, policy):
    named, all_of_them = (serve(case, kind(inner=policy)) for kind in (HoldsAndNamesAll, AskedHolding))
    np.testing.assert_array_equal(named.times(state.FINISH_S), all_of_them.times(state.FINISH_S))


class HoldsWithoutReserving(Asked):
    holds_batch = True


def test_a_policy_that_holds_its_batch_must_reserve_its_cache():
    with pytest.raises(PolicyError, match="HoldsWithoutReserving holds its batch, so it must set"):
        serve(ONE_LONG_ONE_SHORT, HoldsWithoutReserving(inner=Chunked()))


class OneByOne(BatchingPolicy):
    """Serves the first of the queue, and looks at nobody else."""

    def next_step(self, view):
        if view.running:
            return Step(decode=ALL)
        return Step({view.waiting[0]: view.waiting[0].prefill_left}) if view.waiting else Step()


def cpu_s_of(waiting: int, served: int = 400) -> float:
    """Return the CPU time, from the first decision on, to answer *served* requests while others wait."""
    load = ((0.0, 4, 2, 0),) * (served + waiting)
    asked_at_s = []

    class Stops(OneByOne):
        def next_step(self, view):
            asked_at_s.append(time.process_time())
            if len(view.waiting) == waiting:
                raise PolicyError("enough")
            return super().next_step(view)

    with pytest.raises(PolicyError, match="enough"):
        serve(Case(load=load, spare_blocks=500), Stops())
    return asked_at_s[-1] - asked_at_s[0]


def test_a_policy_in_python_pays_for_what_it_looks_at_only():
    cpu_s_of(10)
    few_s, many_s = (min(cpu_s_of(waiting) for _ in range(4)) for waiting in (10, 20_000))
    assert many_s < 5 * few_s
