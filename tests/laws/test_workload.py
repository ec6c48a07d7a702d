"""Laws of every load: common random numbers, nothing lost unsaid, limits kept, mistakes named."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from clustersim.errors import PolicyError, SpecError
from clustersim.policies.base import ArrivalShape
from clustersim.rng import Streams
from clustersim.spec.base import card_files
from clustersim.spec.workload import Synthetic, Trace, Workload, load_workload
from clustersim.workload import Blocks, Requests, draw

ADAPTER: TypeAdapter[Synthetic | Trace] = TypeAdapter(Workload)
BASE: dict[str, Any] = {
    "rate": "5 /s",
    "requests": 500,
    "prompt": {"kind": "lognormal", "mean": 900, "sigma": 0.8},
    "output": {"kind": "lognormal", "mean": 180, "sigma": 0.6},
}


def load(**changes: Any) -> Synthetic | Trace:
    fields = {key: value for key, value in (BASE | changes).items() if value is not None}
    return ADAPTER.validate_python(fields, context={"needs_units": True})


def drawn(seed: int = 1, max_context: int | None = None, **changes: Any) -> Requests:
    return draw(load(**changes), Streams(seed), max_context)


def columns(requests: Requests) -> list[bytes]:
    return [c.tobytes() for c in (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert columns(drawn(1)) == columns(drawn(1))
    assert not set(columns(drawn(1))) & set(columns(drawn(2)))


def test_changing_one_part_of_a_load_changes_no_other_part() -> None:
    base, other = drawn(), drawn(output={"kind": "uniform", "low": 5, "high": 500})
    assert columns(base)[:2] == columns(other)[:2]
    assert columns(base)[2] != columns(other)[2]
    assert columns(base)[1:] == columns(drawn(rate="50 /s"))[1:]
    assert columns(base)[::2] == columns(drawn(prompt=100))[::2]
    assert columns(base) == columns(drawn(tenants={"a": 1, "b": 2}))


def test_services_of_one_run_meet_different_requests() -> None:
    one, two = (draw(load(), Streams(1), service=name) for name in ("chat", "code"))
    assert not set(columns(one)) & set(columns(two))


@pytest.mark.parametrize(
    "arrivals",
    [
        {"rate": "5 /s"},
        {"process": "gamma", "cv": 4, "rate": "5 /s"},
        {"process": "weibull", "cv": 2, "rate": "5 /s"},
        {"process": "deterministic", "rate": "5 /s"},
        {"shape": {"kind": "diurnal", "low": "1 /s", "high": "9 /s", "period": "1 min", "peak": "10 s"}},
        {"shape": {"kind": "bursty", "base_rate": "1 /s", "burst_rate": "9 /s", "burst": "5 s", "gap": "5 s",
                   "lengths": "random"}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("output", [{"kind": "geometric", "mean": 9}, {"kind": "mixture", "parts": [
    {"share": 1, "length": 5}, {"share": 1, "length": {"kind": "exponential", "mean": 50}}]}])  # fmt: skip
def test_more_requests_begin_with_the_same_requests(arrivals: dict[str, Any], output: dict[str, Any]) -> None:
    few = drawn(rate=None, arrivals=arrivals, output=output, requests=300)
    many = drawn(rate=None, arrivals=arrivals, output=output, requests=900)
    assert many.arrival_s[:300].tolist() == few.arrival_s.tolist()
    assert many.output_tokens[:300].tolist() == few.output_tokens.tolist()
    assert many.prompt_tokens[:300].tolist() == few.prompt_tokens.tolist()


def drawn_or_none(seed: int, context: int, **changes: Any) -> Requests | None:
    """Return the requests, or None where the load rightly says that there are none."""
    try:
        return drawn(seed, context, **changes)
    except SpecError as error:
        if "no request is left" in str(error) or "leaves none" in str(error):
            return None
        raise


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rate=st.floats(0.01, 500),
    duration_s=st.floats(0.5, 500),
    requests=st.integers(1, 400),
    cv=st.floats(0.1, 20),
    context=st.integers(2, 5000),
    settle=st.sampled_from(["drop", "clip"]),
)
def test_whatever_is_drawn_is_in_order_and_within_its_limits(
    seed: int, rate: float, duration_s: float, requests: int, cv: float, context: int, settle: str
) -> None:
    arrivals = {"process": "gamma", "cv": cv, "rate": f"{rate} /s"}
    asked = {"arrivals": arrivals, "requests": requests, "duration": f"{duration_s} s", "too_long": settle}
    found = drawn_or_none(seed, context, rate=None, **asked)
    if found is None:
        return
    assert 0 < len(found) <= requests
    assert (np.diff(found.arrival_s, prepend=0.0) >= 0).all()
    assert found.arrival_s[-1] < duration_s
    assert min(found.prompt_tokens.min(), found.output_tokens.min()) >= 1
    assert (found.output_tokens <= found.limit_tokens).all()
    assert (found.prompt_tokens + found.limit_tokens <= context).all()


def test_a_request_longer_than_the_context_is_named_with_what_to_do() -> None:
    with pytest.raises(SpecError) as caught:
        drawn(max_context=4096, prompt=3000, output=2000)
    assert str(caught.value) == (
        "<spec>: workload: request 0 has 3,000 prompt and 2,000 output tokens, more than the model's context "
        "of 4,096; 500 of 500 requests are too long: shorten them, or set workload.too_long to drop or clip"
    )


def test_too_long_requests_are_dropped_or_clipped_and_counted() -> None:
    free = drawn()
    over = int((free.prompt_tokens + free.output_tokens > 1500).sum())
    dropped, clipped = (drawn(max_context=1500, too_long=settle) for settle in ("drop", "clip"))
    assert len(dropped) == 500 - over
    assert dropped.notes == (f"{over} of 500 requests exceed the context of 1,500 tokens and were dropped",)
    assert len(clipped) == 500
    assert clipped.output_tokens.tolist() == free.output_tokens.tolist()
    assert int((clipped.prompt_tokens < free.prompt_tokens).sum()) == over
    assert f"{over} of 500 requests exceed" in clipped.notes[0]


def test_a_limit_ends_answers_and_is_what_policies_see() -> None:
    free, found = drawn(), drawn(limit=200)
    assert found.output_tokens.tolist() == np.minimum(free.output_tokens, 200).tolist()
    assert set(found.limit_tokens.tolist()) == {200}
    assert "outputs end at the limit of 200 tokens" in found.notes[0]


def test_without_a_limit_a_client_allows_what_the_context_leaves_and_gives_no_length_away() -> None:
    found = drawn(max_context=100_000)
    assert (found.limit_tokens == 100_000 - found.prompt_tokens).all()
    assert len(set(drawn().limit_tokens.tolist())) == 1


def test_a_closed_loop_has_lengths_and_no_arrivals() -> None:
    found = drawn(rate=None, concurrency=8)
    assert not found.arrival_s.any()
    assert columns(found)[1:] == columns(drawn())[1:]


def test_tenants_come_in_their_shares() -> None:
    names = drawn(tenants={"free": 3, "paid": 1}, requests=20_000).tenant
    assert names is not None
    assert names.count("paid") / 20_000 == pytest.approx(0.25, abs=0.015)


def test_blocks_follow_their_requests() -> None:
    blocks = Blocks(np.arange(10, 16), np.array([0, 3, 3, 6]), 512)
    taken = blocks.take(np.array([2, 1, 0]))
    assert [taken.of(i).tolist() for i in range(3)] == [[13, 14, 15], [], [10, 11, 12]]
    assert [blocks.shorten(np.array([513, 1, 1536])).of(i).tolist() for i in range(3)] == [
        [10, 11], [], [13, 14, 15]
    ]  # fmt: skip
    assert blocks.take(np.array([True, False, True])).of(1).tolist() == [13, 14, 15]


def test_every_named_load_draws_and_survives_a_round_trip() -> None:
    for name in card_files("workloads/serving"):
        workload = load_workload(name)
        assert ADAPTER.validate_python(workload.model_dump()) == workload
        assert len(draw(workload, Streams(0))) >= 500, name


def test_a_named_load_may_be_changed_in_place() -> None:
    code = ADAPTER.validate_python(
        {"kind": "code", "rate": "4 /s", "limit": 64}, context={"needs_units": True}
    )
    assert isinstance(code, Synthetic)
    assert (code.rate, code.arrivals, code.limit) == (4.0, None, 64)
    assert code.prompt == load_workload("code").prompt  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"rate": None}, "", "give a rate (Poisson), arrivals, or concurrency"),
        ({"concurrency": 4}, "", "rate and concurrency exclude each other"),
        ({"requests": None}, "", "give requests, a duration, or both"),
        ({"rate": None, "concurrency": 4, "duration": "5 s"}, "", "ends by number"),
        ({"think": "5 s"}, "", "belongs to a closed loop"),
        ({"rate": 5}, "rate", "needs a unit, for example '4 /s'"),
        ({"prompt": {"mean": 5}}, "prompt", "needs a 'kind'; allowed: fixed, lognormal"),
        ({"prompt": {"kind": "lognorml"}}, "prompt", "did you mean 'lognormal'?"),
        ({"prompt": {"kind": "lognormal", "mean": 5}}, "prompt", "give either sigma or p99"),
        ({"prompt": {"kind": "lognormal", "mean": 5, "p99": 500}}, "prompt", "between 1 and 14.9 times 5"),
        ({"prompt": {"kind": "uniform", "low": 5, "high": 4}}, "prompt", "4 is below low, 5"),
        ({"prompt": {"kind": "empirical", "values": [5], "weights": [0]}}, "prompt", "needs 1 numbers"),
        ({"prompt": {"kind": "quantiles", "points": [[0, 5], [0.9, 9]]}}, "prompt", "rise from 0 to 1"),
        ({"prompt": "long"}, "prompt", "'long' is not a mapping with a 'kind'"),
        ({"rate": None, "arrivals": {"process": "gamma", "rate": "4 /s"}}, "arrivals", "need a cv"),
        ({"rate": None, "arrivals": {"cv": 2, "rate": "4 /s"}}, "arrivals", "poisson has 1"),
        ({"rate": None, "arrivals": {"process": "poisson"}}, "arrivals", "give either a rate or a shape"),
        ({"kind": "chats"}, "", "did you mean 'chat'?"),
        ({"kind": "trace", "file": "no.csv"}, "file", "no file 'no.csv'"),
    ],
)
def test_a_mistake_is_named_at_its_field(changes: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        load(**changes)
    found = {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}
    assert message in found[path]


def test_a_load_without_a_request_says_so() -> None:
    with pytest.raises(SpecError, match="no request is left; lengthen the duration"):
        drawn(requests=None, duration="1 ms", rate="1 /h")


def test_a_load_that_no_memory_holds_is_refused_before_it_is_drawn() -> None:
    with pytest.raises(SpecError, match=r"asks for 3.15e\+11 requests; at most 200,000,000"):
        drawn(requests=None, duration="3650 d", rate="1000 /s")


class Falling(ArrivalShape):
    """A mistake: a rate below zero."""

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        return 5 - t_s


class Short(ArrivalShape):
    """A mistake: one rate for many times."""

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        return np.array([5.0])


class Dying(ArrivalShape):
    """Nobody comes any more."""

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        return np.exp(-t_s)


def test_a_broken_shape_is_named() -> None:
    with pytest.raises(
        PolicyError, match=r"arrival shape Falling: the rate at 5.* rates are finite and not negative"
    ):
        drawn(rate=None, arrivals={"shape": Falling()})
    with pytest.raises(PolicyError, match=r"arrival shape Short: rate\(\) got .* returned \(1,\)"):
        drawn(rate=None, arrivals={"shape": Short()})
    with pytest.raises(SpecError, match=r"workload\.arrivals\.shape: expects only 1 requests in 114 days"):
        drawn(rate=None, arrivals={"shape": Dying()})


def test_a_shape_may_come_from_a_file_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom clustersim.policies.base import ArrivalShape\n\n\n"
        "class Steady(ArrivalShape):\n    at: float = 2.0\n\n"
        "    def rate(self, t_s):\n        return np.full(t_s.shape, self.at)\n"
    )
    arrivals = {"process": "deterministic", "shape": {"kind": "mine.py:Steady", "at": 4}}
    context = {"needs_units": True, "folder": tmp_path}
    fields = {key: value for key, value in BASE.items() if key != "rate"} | {
        "arrivals": arrivals,
        "requests": 5,
    }
    found = draw(ADAPTER.validate_python(fields, context=context), Streams(0))
    assert found.arrival_s.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


def test_a_random_shape_differs_between_seeds_of_the_run_unless_it_has_its_own() -> None:
    shape = {"kind": "bursty", "base_rate": "0 /s", "burst_rate": "9 /s", "burst": "5 s", "gap": "50 s",
             "lengths": "random"}  # fmt: skip
    first = [
        drawn(s, rate=None, arrivals={"process": "deterministic", "shape": shape}).arrival_s for s in (1, 2)
    ]
    own = [
        drawn(s, rate=None, arrivals={"process": "deterministic", "shape": shape | {"seed": 4}}).arrival_s
        for s in (1, 2)
    ]
    assert first[0].tolist() != first[1].tolist()
    assert own[0].tolist() == own[1].tolist()


def test_a_million_requests_are_drawn_in_less_than_a_second_of_cpu() -> None:
    drawn(requests=1000)
    before_s = time.process_time()
    assert len(drawn(requests=1_000_000)) == 1_000_000
    assert time.process_time() - before_s < 1.0


def test_every_example_of_the_manual_page_is_drawn() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "workloads.md").read_text(encoding="utf-8")
    examples = [yaml.safe_load(block.split("```")[0]) for block in text.split("```yaml")[1:]]
    assert len(examples) >= 5
    for example in examples:
        workload = ADAPTER.validate_python(example["workload"], context={"needs_units": True})
        assert len(draw(workload, Streams(0), 16_384)) >= 500
    assert not [name for name in card_files("workloads/serving") if f"`{name}`" not in text]
