"""A leap is an optimisation that nobody may see: it, single steps and a policy asked in Python agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost import attention
from clustersim.cost.step import StepPrices
from clustersim.policies import BatchingPolicy, Router, RuleRouter, Step
from clustersim.policies.admission import Always, QueueLimit
from clustersim.policies.registry import find, names
from clustersim.policies.routing import LeastOutstanding
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import FleetPlan
from tests import fleets
from tests.serving_cases import BATCHING, RULES, Case, Served, asked, batching, cases, serve, serve_plan

EXACT = 1e-9
TIMES = (state.ADMITTED_S, state.FIRST_S, state.FINISH_S)
LAW = settings(max_examples=40, deadline=None, derandomize=True)


def assert_same(one: Served, other: Served) -> None:
    """Compare requests, joules, tokens and seconds of two runs."""
    for column in TIMES:
        np.testing.assert_allclose(one.times(column), other.times(column), rtol=EXACT, equal_nan=True)
    for column in (state.PREEMPTIONS, state.REPLICA, state.STATUS, state.GENERATED):
        np.testing.assert_array_equal(one.of_requests(column), other.of_requests(column))
    for name in ("energy_j", "duration_s", "compute_s", "memory_s", "network_s", "overhead_s"):
        assert one.rows[name].sum() == pytest.approx(other.rows[name].sum(), rel=EXACT)
    for name in ("prefill_tokens", "count"):
        assert one.rows[name].sum() == other.rows[name].sum()
    assert decoded(one) == decoded(other)
    assert one.events["kind"].tolist() == other.events["kind"].tolist()
    assert one.events["subject"].tolist() == other.events["subject"].tolist()


def decoded(run: Served) -> float:
    """Return the tokens that decode passes made."""
    return float(np.dot(run.rows["count"], run.rows["decode_sequences"]))


def asked_router(router: RuleRouter) -> Router:
    """Return *router* as one that the engine asks in Python at each arrival."""

    class Python(type(router)):
        def route(self, request, replicas):
            return super().route(request, replicas)

    return Python(**router.model_dump())


@pytest.mark.parametrize("kind", BATCHING)
def test_leaps_and_single_steps_give_the_same_times_and_joules(kind):
    @LAW
    @given(cases(), batching(kind))
    def check(case, policy):
        stepping = serve(case, policy, leap=False)
        assert (stepping.rows["count"] == 1).all()
        assert_same(serve(case, policy), stepping)

    check()


@pytest.mark.parametrize("kind", RULES)
def test_rules_run_compiled_as_they_read_in_python(kind):
    @LAW
    @given(cases(), batching(kind), st.booleans())
    def check(case, policy, leap):
        assert_same(serve(case, policy), serve(case, asked(policy), leap=leap))

    check()


@pytest.mark.parametrize("kind", names(Router))
def test_routers_run_compiled_as_they_read_in_python(kind):
    router = find(Router, kind)()

    @LAW
    @given(cases(replicas=4), batching("chunked"), st.booleans(), st.booleans())
    def check(case, policy, leap, python_batching):
        other = asked(policy) if python_batching else policy
        assert_same(serve(case, policy, router), serve(case, other, asked_router(router), leap=leap))

    check()


@LAW
@given(cases(), batching("chunked"), st.integers(1, 4), st.sampled_from([None, 60, 300]), st.booleans())
def test_a_queue_limit_rejects_the_same_compiled_and_in_python(case, policy, waiting, tokens, leap):
    limit = QueueLimit(max_waiting=waiting, max_pending_tokens=tokens)

    class Python(QueueLimit):
        def admit(self, request, replicas, replica):
            return super().admit(request, replicas, replica)

    compiled = serve(case, policy, admission=limit)
    assert_same(compiled, serve(case, policy, admission=Python(**limit.model_dump()), leap=leap))
    rejected = compiled.of_requests(state.STATUS) == state.REJECTED
    assert np.count_nonzero(compiled.events["kind"] == "reject") == rejected.sum()
    assert np.isnan(compiled.times(state.ADMITTED_S)[rejected]).all()


@dataclass(frozen=True)
class Repeated:
    """The compiled prices of a fleet without logits, said again in Python."""

    prices: StepPrices

    def seconds(self, shape):
        once, sequence, token, _ = self.prices.decode_s.sum(axis=1)
        total_s = self.prices.pass_s[shape.tokens].sum()
        if shape.decodes:
            total_s += once + sequence * shape.decodes + token * shape.context_tokens
        if shape.chunks:
            work = [attention.prefill_work(self.prices.prefill, new, past) for past, new in shape.chunks]
            total_s += sum(attention.prefill_parts(self.prices.prefill, *np.sum(work, axis=0)))
        return float(total_s)


@pytest.mark.parametrize("kind", RULES)
def test_prices_said_again_in_python_give_the_same_run(kind):
    @LAW
    @given(cases(), batching(kind))
    def check(case, policy):
        cost = fleets.prices(base_s=5.0321e-3, token_s=5.1097e-5, most=4000)
        cost.output_s[:] = 0.0
        doors = (LeastOutstanding(), Always())
        plan = FleetPlan(case.replicas, cost, case.memory, policy, *doors)
        assert_same(serve_plan(case, plan), serve_plan(case, replace(plan, price=Repeated(cost))))

    check()


class Alternating(BatchingPolicy):
    """Prefills whole prompts, then decodes one sequence at a time, *period_passes* passes each."""

    period_passes: int = 3

    def next_step(self, view):
        everyone = [*view.running, *view.paused]
        if view.waiting:
            return Step(prefill={view.waiting[0]: view.waiting[0].prefill_left})
        if not everyone:
            return Step()
        chosen = min(everyone, key=lambda seq: (seq.generated_tokens // self.period_passes, seq.id))
        passes = self.period_passes - chosen.generated_tokens % self.period_passes
        return Step(decode=[chosen], passes=passes)


class Forgetful(Alternating):
    """Says nothing of when its answer changes."""

    def next_step(self, view):
        step = super().next_step(view)
        step.passes = 0
        return step


class Watchful(Forgetful):
    """Asks to be asked at every pass instead."""

    every_iteration = True


PAIR = Case(load=((0.0, 20, 30, 0), (0.0, 30, 40, 0)))


def test_a_step_holds_no_longer_than_the_passes_it_names():
    leaping, stepping = (serve(PAIR, Alternating(), leap=leap) for leap in (True, False))
    assert_same(leaping, stepping)
    assert leaping.rows["count"].max() == 3
    assert stepping.rows["count"].max() == 1


def test_a_policy_that_asks_for_every_iteration_is_asked_at_every_iteration():
    leaping, stepping = (serve(PAIR, Watchful(), leap=leap) for leap in (True, False))
    assert_same(leaping, stepping)
    assert leaping.rows["count"].max() == 1


def test_a_policy_that_hides_when_its_answer_changes_is_told_from_one_that_does_not():
    leaping, stepping = (serve(PAIR, Forgetful(), leap=leap) for leap in (True, False))
    assert not np.allclose(leaping.times(state.FINISH_S), stepping.times(state.FINISH_S), rtol=1e-3)


def test_a_pure_decode_holds_until_something_changes_however_long_it_takes():
    run = serve(Case(load=((0.0, 10, 5001, 0),)), find(BatchingPolicy, "chunked")())
    assert run.rows["count"].tolist() == [1, 5000]
    asked_run = serve(Case(load=((0.0, 10, 5001, 0),)), asked(find(BatchingPolicy, "chunked")()))
    assert asked_run.rows["count"].tolist() == [1, 5000]
