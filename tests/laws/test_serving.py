"""Laws of the serving engine: nothing is lost, nothing is made up, causes come before effects."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.policies import BatchingPolicy, Step, blocks_for
from clustersim.policies.admission import QueueLimit
from clustersim.policies.batching import PrefillFirst
from clustersim.policies.registry import find
from clustersim.policies.routing import LeastOutstanding
from clustersim.record import intertoken
from clustersim.rng import Streams
from clustersim.sim.serving import drive, state
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from tests import fleets
from tests.serving_cases import (
    BATCHING,
    RULES,
    Arbitrary,
    Asked,
    Case,
    Served,
    asked,
    batching,
    cases,
    serve,
)

ROOT = Path(__file__).resolve().parents[2]
LAW = settings(max_examples=20, deadline=None, derandomize=True)
KINDS = (*BATCHING, "arbitrary")
EMPTY = (
    *(state.RUN, state.LIVE, state.PREF, state.WAIT, state.QUEUE, state.CTX, state.WIN, state.UNSAT),
    *(state.PENDING, state.SWAPPED, state.OUTSTANDING, state.PASSES, state.CHUNKS),
)


def policies(kind: str) -> st.SearchStrategy[BatchingPolicy]:
    """Draw a policy of a kind, or one that does anything that is allowed."""
    return st.builds(Arbitrary, seed=st.integers(0, 99)) if kind == "arbitrary" else batching(kind)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- requests and cache ------------------------------------------------------------------------------


def test_every_request_finishes_once_with_all_its_tokens(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        run = serve(case, policy, leap=leap)
        n = len(case.load)
        assert int(run.fleet.state.fleet[state.FINISHED]) == n
        assert sorted(run.fleet.state.finished.tolist()) == list(range(n))
        np.testing.assert_array_equal(run.of_requests(state.GENERATED), case.requests.output_tokens)
        assert (run.of_requests(state.STATUS) == state.FINISHED_STATUS).all()

    check()


@LAW
@given(cases(), batching("chunked"), st.integers(1, 3))
def test_a_request_is_either_answered_or_rejected_and_a_rejected_one_leaves_no_trace(case, policy, waiting):
    run = serve(case, policy, admission=QueueLimit(max_waiting=waiting))
    rejected = run.of_requests(state.STATUS) == state.REJECTED
    finished = run.of_requests(state.STATUS) == state.FINISHED_STATUS
    assert (rejected ^ finished).all()
    assert np.isnan(run.times(state.FINISH_S)[rejected]).all()
    assert (run.of_requests(state.GENERATED)[rejected] == 0).all()
    emptied(run)


def emptied(run: Served) -> None:
    """Assert that no replica holds anything."""
    s = run.fleet.state
    assert (s.ints[:, state.FREE] == run.fleet.plan.memory.blocks).all()
    assert (s.ints[:, EMPTY] == 0).all()
    assert (s.phase == 0).all()
    assert (s.ints[:, [state.RUN_HEAD, state.RUN_TAIL, state.PRE_HEAD, state.PRE_TAIL]] == -1).all()


def test_cache_blocks_are_never_overdrawn_and_all_come_back(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        run = serve(case, policy, leap=leap)
        assert (run.rows["kv_blocks"] <= case.memory.blocks).all()
        assert (run.rows["kv_blocks"] >= 0).all()
        emptied(run)

    check()


class Book(Asked):
    """Writes down, at each decision, what is seen; hands on the decision of another policy."""

    inner: BatchingPolicy
    _seen: list[dict[str, Any]]

    def model_post_init(self, context: Any) -> None:
        self._seen = []

    def next_step(self, view: Any) -> Step:
        lists = {name: [snapshot(s) for s in getattr(view, name)] for name in LISTS}
        self._seen.append({**lists, "replica": view.index, "free": view.free_kv_blocks})
        return self.inner.next_step(view)


class BookReserving(Book):
    reserves_limit: ClassVar[bool] = True


class BookHolding(BookReserving):
    holds_batch: ClassVar[bool] = True


LISTS = ("waiting", "prefilling", "running", "paused")


@dataclass(frozen=True)
class Sight:
    """A request as it was seen once."""

    id: int
    prompt: int
    left: int
    context: int
    generated: int
    reserved: int


def snapshot(seq: Any) -> Sight:
    whole = seq.prompt_tokens + seq.limit_tokens
    return Sight(seq.id, seq.prompt_tokens, seq.prefill_left, seq.context_tokens, seq.generated_tokens, whole)


def book(policy: BatchingPolicy) -> Book:
    if policy.holds_batch:
        return BookHolding(inner=policy)
    return BookReserving(inner=policy) if policy.reserves_limit else Book(inner=policy)


def test_blocks_in_use_are_those_of_the_sequences_that_hold_a_cache(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        seen = book(policy)
        serve(case, seen, leap=leap)
        size, total = case.block_tokens, case.memory.blocks
        for view in seen._seen:
            holders = [*view["prefilling"], *view["running"], *view["paused"]]
            tokens = [s.reserved if policy.reserves_limit else s.context + s.left for s in holders]
            assert total - view["free"] == sum(blocks_for(n, size) for n in tokens)

    check()


def test_what_a_policy_sees_of_a_request_only_grows_while_it_keeps_its_cache(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        seen, last = book(policy), {}
        serve(case, seen, leap=leap)
        for view in seen._seen:
            for sight in [*view["running"], *view["paused"]]:
                before = last.get(sight.id, sight)
                assert sight.generated >= before.generated
                padded = sight.context - (sight.prompt + sight.generated - 1)
                assert padded >= 0 if policy.holds_batch else padded == 0
                last[sight.id] = sight

    check()


# -- tokens ------------------------------------------------------------------------------------------


@dataclass
class Lost:
    """Work that preemptions threw away, as seen by comparing the views of consecutive decisions."""

    prefills: int = 0
    """Prefills that had to be repeated to their end, each of which made a token."""
    tokens: int = 0
    """Prompt tokens computed more than once, or for tokens already made."""
    last: dict[int, tuple[str, Sight]] = field(default_factory=dict)

    def see(self, view: dict[str, Any]) -> None:
        for name in LISTS:
            for sight in view[name]:
                where, before = self.last.get(sight.id, ("", sight))
                if name == "waiting" and where in ("running", "paused") and sight.left > 0:
                    self.prefills += 1
                    self.tokens += sight.left
                elif name == "waiting" and where == "prefilling":
                    self.tokens += before.context
                self.last[sight.id] = (name, sight)


def test_every_token_is_paid_for_by_a_pass(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        seen, lost = book(policy), Lost()
        run = serve(case, seen, leap=leap)
        for view in seen._seen:
            lost.see(view)
        requests = case.requests
        decoded = int(np.dot(run.rows["count"], run.rows["decode_sequences"]))
        assert decoded + len(requests) + lost.prefills == requests.output_tokens.sum()
        assert run.rows["prefill_tokens"].sum() == requests.prompt_tokens.sum() + lost.tokens

    check()


def test_whole_prompts_are_recomputed_once_for_each_preemption():
    @LAW
    @given(cases(), batching("prefill-first"))
    def check(case, policy):
        run = serve(case, policy)
        recomputed = np.count_nonzero(run.events["kind"] == "preempt")
        decoded = int(np.dot(run.rows["count"], run.rows["decode_sequences"]))
        assert decoded + len(case.load) + recomputed == case.requests.output_tokens.sum()
        swaps = np.count_nonzero(run.events["kind"] == "swap_out")
        assert np.count_nonzero(run.events["kind"] == "swap_in") == swaps
        assert run.of_requests(state.PREEMPTIONS).sum() == recomputed + swaps

    check()


# -- time --------------------------------------------------------------------------------------------


def test_causes_come_before_effects(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        run = serve(case, policy, leap=leap)
        arrival_s = case.requests.arrival_s
        admitted_s, first_s, finish_s = (
            run.times(column) for column in (state.ADMITTED_S, state.FIRST_S, state.FINISH_S)
        )
        assert (admitted_s >= arrival_s - 1e-12).all()
        assert (first_s > admitted_s).all()
        assert (finish_s >= first_s).all()
        several = case.requests.output_tokens > 1
        assert (finish_s[several] > first_s[several]).all()

    check()


def test_passes_of_a_replica_follow_one_another_and_their_parts_add_up(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        run = serve(case, policy, leap=leap)
        rows = run.rows
        pairs = 0.5 * rows["count"] * (rows["count"] - 1)
        np.testing.assert_allclose(
            rows["duration_s"], rows["count"] * rows["step_s"] + pairs * rows["growth_s"], rtol=1e-9
        )
        parts = sum(rows[name] for name in ("compute_s", "memory_s", "network_s", "overhead_s"))
        np.testing.assert_allclose(parts, rows["duration_s"], rtol=1e-9)
        np.testing.assert_allclose(energy_of(rows, run), rows["energy_j"], rtol=1e-9)
        for replica in range(case.replicas):
            mine = rows["replica"] == replica
            start_s, end_s = rows["start_s"][mine], (rows["start_s"] + rows["duration_s"])[mine]
            assert (start_s[1:] >= end_s[:-1] - 1e-12).all()
            assert end_s.max(initial=0.0) == pytest.approx(run.fleet.state.floats[replica, state.CLOCK])

    check()


def energy_of(rows: dict[str, np.ndarray], run: Served) -> np.ndarray:
    """Return the joules of each row by hand."""
    watts = run.fleet.plan.prices.power_w[1:]
    names = ("compute_s", "memory_s", "network_s", "overhead_s")
    return sum(rows[name] * w for name, w in zip(names, watts, strict=True))


def test_the_table_of_iterations_adds_up_as_recorded(kind):
    @settings(LAW, max_examples=10)
    @given(cases(), policies(kind))
    def check(case, policy):
        rows = serve(case, policy).fleet.log.iterations()
        parts = sum(rows[n].astype(float) for n in ("compute_s", "memory_s", "network_s", "overhead_s"))
        np.testing.assert_allclose(parts, rows["duration_s"], rtol=1e-5)

    check()


def test_inter_token_times_account_for_every_second_between_first_and_last_token(kind):
    @LAW
    @given(cases(), policies(kind), st.booleans())
    def check(case, policy, leap):
        run = serve(case, policy, leap=leap)
        data = intertoken.samples(run.rows, run.gaps)
        first_s, last_s = run.times(state.FIRST_S), run.times(state.FINISH_S)
        if policy.holds_batch:
            last_s = own_last_token_s(run, case)
        assert data.total == (case.requests.output_tokens - 1).sum()
        if data.total:
            assert data.mean_s * data.total == pytest.approx((last_s - first_s).sum(), rel=1e-9)

    check()


def own_last_token_s(run: Served, case: Case) -> np.ndarray:
    """Return when each sequence of a held batch had its own last token: its batch decodes without a break."""
    last_s = run.times(state.FIRST_S).copy()
    for replica in range(case.replicas):
        mine = (run.rows["replica"] == replica) & (run.rows["decode_sequences"] > 0)
        ends_s = np.concatenate([[], *(pass_ends_s(run.rows, row) for row in np.flatnonzero(mine))])
        for req in np.flatnonzero(run.of_requests(state.REPLICA) == replica):
            more = int(case.requests.output_tokens[req]) - 1
            if more:
                last_s[req] = ends_s[np.searchsorted(ends_s, last_s[req] + 1e-9) + more - 1]
    return last_s


def pass_ends_s(rows: dict[str, np.ndarray], row: int) -> np.ndarray:
    """Return the end of each pass of a row."""
    k = np.arange(1, rows["count"][row] + 1)
    return rows["start_s"][row] + k * rows["step_s"][row] + 0.5 * k * (k - 1) * rows["growth_s"][row]


# -- closed loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RULES)
def test_clients_send_their_next_request_when_they_have_thought_about_an_answer(kind):
    @LAW
    @given(cases(), batching(kind), st.integers(1, 6), st.sampled_from([0.0, 0.0317]), st.booleans())
    def check(case, policy, clients, think_s, leap):
        closed = replace(case, clients=clients, think_s=think_s)
        run = serve(closed, policy, leap=leap)
        arrival_s, finish_s = run.fleet.requests.arrival_s, run.times(state.FINISH_S)
        first = min(clients, len(case.load))
        assert (arrival_s[:first] == 0.0).all()
        answered_s = np.sort(finish_s)[: len(case.load) - first]
        np.testing.assert_allclose(np.sort(arrival_s[first:]), answered_s + think_s, rtol=1e-12)
        for now_s in arrival_s:
            assert np.count_nonzero((arrival_s <= now_s) & (finish_s > now_s + 1e-12)) <= clients
        emptied(run)
        other = serve(closed, policy, leap=not leap)
        np.testing.assert_allclose(other.times(state.FINISH_S), finish_s, rtol=1e-9)

    check()


# -- determinism -------------------------------------------------------------------------------------

DIGEST = """
import hashlib
from tests.serving_cases import BATCHING, RULES, asked, batching, serve
from tests.laws.test_serving import SOME_CASE, SOME_POLICIES
digest = hashlib.sha256()
for policy in SOME_POLICIES:
    run = serve(SOME_CASE, policy)
    for columns in (run.rows, run.gaps):
        for name in sorted(columns):
            digest.update(columns[name].tobytes())
    digest.update(run.fleet.state.req.tobytes() + run.fleet.state.req_t.tobytes())
    digest.update(repr(run.events["subject"].tolist()).encode())
print(digest.hexdigest())
"""
SOME_CASE = Case(
    load=tuple((0.003 * (i % 3), 7 + 31 * i % 90, 5 + 17 * i % 70, i % 4) for i in range(24)),
    replicas=2,
    spare_blocks=2,
    swap_blocks=4,
)
SOME_POLICIES = tuple(
    asked(policy) if wrapped else policy
    for kind in BATCHING
    for policy in [find(BatchingPolicy, kind)()]
    for wrapped in (False, True)
)


def test_the_same_run_gives_the_same_bytes_under_any_hash_seed():
    digests = set()
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout)
    assert len(digests) == 1


# -- cost of bookkeeping -----------------------------------------------------------------------------


def arrivals_cpu_s(waiting: int, arrivals: int = 2000) -> float:
    """Return the CPU time of *arrivals* at a busy replica where *waiting* requests wait already."""
    n = waiting + arrivals
    load = fleets.requests(1e-6 * np.arange(1, n + 1), np.full(n, 10), np.full(n, 10_000))
    plan = FleetPlan(
        1,
        fleets.prices(most=4000),
        Memory(10_000, 16),
        PrefillFirst(max_batch=1),
        LeastOutstanding(),
        QueueLimit(max_waiting=1 << 30),
    )
    fleet = Fleet(simpy.Environment(), plan, load, Streams(0))
    best_s, done = np.inf, play_to(fleet, 0, waiting)
    for last in range(waiting + arrivals // 10, n + 1, arrivals // 10):
        begin = time.process_time()
        done = play_to(fleet, done, last)
        best_s = min(best_s, time.process_time() - begin)
    assert int(fleet.state.ints[0, state.WAIT]) >= n - 1
    return best_s


def play_to(fleet: Fleet, first: int, last: int) -> int:
    """Deliver the requests before *last*."""
    while first < last:
        first = drive.play(fleet.state, fleet.requests.arrival_s, first, last)
        if first < last:
            fleet.make_space()
    return last


def test_an_arrival_costs_no_more_where_ten_thousand_wait_than_where_ten_do():
    arrivals_cpu_s(10)
    assert arrivals_cpu_s(10_000) < 20 * arrivals_cpu_s(10) + 1e-3
