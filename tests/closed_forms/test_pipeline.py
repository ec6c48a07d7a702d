"""Pipelines of equal stages against what the literature works out by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost import pipeline
from clustersim.cost.pipeline import Size, StageTimes
from clustersim.cost.pipeline.closed import FORMS

PASSES = st.tuples(*[st.floats(0.1, 3.0)] * 3)
EVEN = st.floats(0.1, 3.0).map(lambda passed_s: (passed_s,) * 3)


def exact(
    name: str, size: Size, passes_s: tuple[float, float, float], hop_s: float = 0.0
) -> pipeline.Timeline:
    return pipeline.timeline(name, StageTimes.equal(*size[:2], passes_s, hop_s), size.microbatches)


@settings(deadline=None, max_examples=400)
@given(st.data(), st.sampled_from(sorted(FORMS)), st.integers(1, 8), st.integers(1, 3), st.integers(0, 20))
def test_every_closed_form_that_holds_is_exact(data, name, stages, rounds, more):
    schedule = pipeline.find(name)
    stages += stages % 2 if schedule.shape == "two-way" else 0
    chunks = schedule.chunks or data.draw(st.integers(1, 3))
    microbatches = rounds * stages if schedule.is_grouped else schedule.rounds * stages + 1 + more
    microbatches += microbatches % 2 if schedule.shape == "two-way" else 0
    size, passes_s = Size(stages, chunks, microbatches), data.draw(PASSES | EVEN)
    closed_s = pipeline.period_s(name, size, passes_s)
    line = exact(name, size, passes_s)
    if closed_s is not None:
        assert line.period_s == pytest.approx(closed_s, rel=1e-12)
        assert line.makespan_s >= closed_s - 1e-9


@pytest.mark.parametrize("name", sorted(FORMS))
def test_no_closed_form_is_empty(name):
    schedule = pipeline.find(name)
    size = Size(4, schedule.chunks or 2, 16)
    assert pipeline.period_s(name, size, (1.0, 1.0, 1.0)) == pytest.approx(
        exact(name, size, (1.0,) * 3).period_s
    )


def test_there_is_no_closed_form_where_none_holds():
    assert pipeline.period_s("zb-2p", Size(4, 1, 16), (1.0, 1.0, 1.0)) is None
    assert pipeline.period_s("zb-h1", Size(4, 1, 16), (1.0, 1.0, 2.0)) is None
    assert exact("zb-h1", Size(4, 1, 16), (1.0, 1.0, 2.0)).period_s > 16 * 4 + 3 * (1 + 1 - 2)


def test_the_textbook_bubble_of_1f1b_is_a_share_of_stages_less_one():
    """(p - 1) / (m + p - 1), arXiv 2006.09503 and 2104.04473."""
    assert exact("1f1b", Size(8, 1, 64), (1.0, 1.0, 1.0)).bubble_share == pytest.approx(7 / 71)
    assert exact("gpipe", Size(8, 1, 64), (1.0, 1.0, 1.0)).bubble_share == pytest.approx(7 / 71)


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 4))
def test_interleaving_divides_the_bubble_by_the_chunks(stages, chunks, rounds):
    """Bubble time of arXiv 2104.04473, section 2.2: (p - 1) (t_f + t_b) / v."""
    whole = exact("1f1b", Size(stages, 1, rounds * stages), (1.0, 1.0, 1.0))
    parts = exact("interleaved", Size(stages, chunks, rounds * stages), (1 / chunks,) * 3)
    bubbles_s = [line.period_s - line.spans[0, 2] for line in (whole, parts)]
    assert bubbles_s[1] == pytest.approx(bubbles_s[0] / chunks)


@given(st.integers(1, 8), st.integers(1, 20), PASSES, st.floats(0.0, 1.0))
@settings(deadline=None)
def test_gpipe_adds_a_hop_for_each_stage_there_and_back(stages, microbatches, passes_s, hop_s):
    line = exact("gpipe", Size(stages, 1, microbatches), passes_s, hop_s)
    work_s = (microbatches + stages - 1) * sum(passes_s)
    assert line.makespan_s == pytest.approx(work_s + 2 * (stages - 1) * hop_s)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None)
def test_interleaving_adds_one_walk_through_the_model_and_back(stages, chunks, rounds):
    """The walk has p v - 1 hops each way; the Zero Bubble paper counts p less."""
    hop_s, size = 1e-4, Size(stages, chunks + 1, rounds * stages)
    free_s = exact("interleaved", size, (1.0, 1.0, 1.0)).period_s
    walk = 2 * (stages * size.chunks - 1)
    assert exact("interleaved", size, (1.0, 1.0, 1.0), hop_s).period_s == pytest.approx(free_s + walk * hop_s)
    lenient = exact("interleaved-lenient", size, (1.0, 1.0, 1.0), hop_s)
    assert lenient.period_s == pytest.approx(free_s + (walk - stages) * hop_s)


def test_gpipe_is_paced_by_its_slowest_stage():
    """A line of machines: the first microbatch passes all, the others queue at the slowest."""
    forward_s, backward_s = np.array([1.0, 3.0, 2.0]), np.array([2.0, 1.0, 4.0])
    line = pipeline.timeline("gpipe", StageTimes(forward_s, backward_s, np.zeros(3)), 5)
    assert line.makespan_s == pytest.approx(6.0 + 4 * 3.0 + 7.0 + 4 * 4.0)


def test_zero_bubble_schedules_have_none_where_passes_take_the_same():
    for name, chunks in (("zb-h2", 1), ("zb-v", 2), ("zb-2p", 1)):
        line = exact(name, Size(6, chunks, 24), (1.0, 1.0, 1.0))
        np.testing.assert_allclose(line.bubble_shares, 0.0, atol=1e-12)


@pytest.mark.parametrize("half", [1, 2, 4, 8])
@pytest.mark.parametrize("gain", [0.7, 0.9, 1.0])
def test_dual_pipe_has_the_bubble_that_deepseek_gives(half, gain):
    """(PP/2 - 1) (F&B + B - 3W) on the stages at the fold, activations PP + 1, arXiv 2412.19437, Table 2."""
    stages = 2 * half
    pair_s = np.full((stages, 2), 3.0 * gain)
    times = StageTimes(*np.ones((3, stages, 2)), np.zeros(stages), pair_s=pair_s)
    line = pipeline.timeline("dualpipe", times, 4 * stages)
    bubbles_s = line.period_s - line.spans[:, 2]
    assert bubbles_s.max() == pytest.approx((half - 1) * (3.0 * gain + 2.0 - 3.0))
    assert bubbles_s[half - 1] == pytest.approx(bubbles_s.max())
    assert set(line.peak_activations) == {stages + 1}


def test_bubbles_and_memory_rank_as_the_zero_bubble_paper_says():
    """(p-1)(F+B+W), (p-1)(F+B-W), (p-1)(F+B-2W) at p, p and 2p - 1 activations, arXiv 2401.10241, Table 2."""
    passes_s = (1.0, 1.1, 0.8)
    bubbles_s = []
    for name in ("1f1b", "zb-h1", "zb-h2"):
        line = exact(name, Size(8, 1, 32), passes_s)
        bubbles_s.append(line.period_s - line.spans[0, 2])
    assert bubbles_s == pytest.approx([7 * 2.9, 7 * 1.3, 7 * 0.5])
    peaks = [
        exact(name, Size(8, 1, 32), passes_s).peak_activations.max() for name in ("1f1b", "zb-h1", "zb-h2")
    ]
    assert peaks == [8, 8, 15]


@given(st.integers(2, 8), st.integers(2, 4), st.integers(2, 4))
@settings(deadline=None)
def test_interleaving_holds_the_activations_that_megatron_gives(stages, chunks, rounds):
    """First stage: 1 + (p - 1) / (p v) times 1F1B's, arXiv 2205.05198, section 4.2.3."""
    held = pipeline.peak_activations(pipeline.order("interleaved", stages, chunks, rounds * stages))[0]
    assert held / chunks == pytest.approx(stages * (1 + (stages - 1) / (stages * chunks)))


def test_the_example_of_the_manual_prints_what_it_says(capsys):
    manual = (Path(__file__).resolve().parents[2] / "docs" / "pipeline.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)\n# (.*?)\n```", manual, re.DOTALL)
    assert found
    exec(found[1], {})
    assert capsys.readouterr().out.strip() == found[2]
