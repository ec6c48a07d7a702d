"""Pipelines obey their dependencies: causes before effects, everything once, one thing at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost import pipeline
from clustersim.cost.pipeline import Order, Plan, ScheduleError, StageTimes, Timeline
from clustersim.cost.pipeline.ops import CHUNK, KIND, KINDS, MICROBATCH
from clustersim.cost.pipeline.schedules import place
from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.plots.pipeline import BARS
from clustersim.plots.pipeline import pipeline as draw

REAL = [name for name, schedule in pipeline.SCHEDULES.items() if not schedule.is_lenient]
SPLIT = ("zb-h1", "zb-h2", "zb-1p", "zb-2p", "zb-v")
Depths = dict[tuple[str, int, int], tuple[int, float, float]]


@st.composite
def sizes(draw, name: str) -> tuple[int, int, int]:
    """Draw stages, chunks and microbatches that a schedule can run."""
    schedule = pipeline.find(name)
    stages = draw(st.integers(1, 6))
    chunks = schedule.chunks or draw(st.integers(1, 3))
    if schedule.shape == "two-way":
        stages += stages % 2
        return stages, chunks, 2 * draw(st.integers(stages, stages + 4))
    if schedule.is_grouped:
        return stages, chunks, stages * draw(st.integers(1, 3))
    return stages, chunks, schedule.rounds * stages + draw(st.integers(1, 14))


@st.composite
def pipelines(draw, names: list[str] = REAL) -> Timeline:
    """Draw the time line of a schedule with uneven stages and links."""
    name = draw(st.sampled_from(names))
    stages, chunks, microbatches = draw(sizes(name))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    passes = rng.uniform(0.2, 2.0, (4, stages, chunks))
    passes[2] *= draw(st.sampled_from([0.0, 0.3, 1.0]))
    hop_s = rng.uniform(0.0, draw(st.sampled_from([0.0, 0.1, 3.0])), stages)
    times = StageTimes(passes[0], passes[1], passes[2], hop_s, pair_s=passes[:3].sum(axis=0) * passes[3] / 2)
    return pipeline.timeline(name, times, microbatches, draw(st.sampled_from([0.5, 0.9, 1.0])))


def by_depth(line: Timeline) -> Depths:
    """Return stage, start and end of every pass by kind (F, B or W), microbatch and depth in the model."""
    table, size = line.table(), line.order.size
    depth = place(line.order.schedule.shape, size.stages, size.chunks)
    found: Depths = {}
    columns = ("kind", "microbatch", "chunk", "stage", "start_s", "duration_s")
    for kind, microbatch, chunk, stage, start_s, took_s in zip(*(table[c] for c in columns), strict=True):
        for part in kind:
            key = (part, int(microbatch), int(depth[stage, chunk]))
            assert key not in found, f"{key} comes twice"
            found[key] = (int(stage), start_s, start_s + took_s)
    return found


def needs(line: Timeline, key: tuple[str, int, int]) -> tuple[str, int, int] | None:
    """Return the pass that another one waits for."""
    kind, microbatch, depth = key
    last = int(place(line.order.schedule.shape, *line.order.size[:2]).max())
    if kind == "F":
        return ("F", microbatch, depth - 1) if depth else None
    if kind == "B":
        return ("B", microbatch, depth + 1) if depth < last else ("F", microbatch, last)
    return ("B", microbatch, depth)


def hop_s(line: Timeline, here: int, there: int) -> float:
    """Return the time between two stages, of the link that joins them."""
    if here == there:
        return 0.0
    return float(line.times.hop_s[min(here, there) if abs(here - there) == 1 else len(line.times.hop_s) - 1])


@settings(deadline=None)
@given(pipelines())
def test_no_pass_starts_before_its_input_has_arrived(line):
    found = by_depth(line)
    for key, (stage, start_s, _) in found.items():
        before = needs(line, key)
        if before is None or (key[0] == "W" and found[before][1] == start_s):  # a backward in one piece
            continue
        other, _, end_s = found[before]
        assert start_s >= end_s + hop_s(line, stage, other) - 1e-9, (key, before)


@settings(deadline=None)
@given(pipelines())
def test_every_microbatch_passes_every_chunk_once_in_every_way(line):
    size = line.order.size
    depths = int(place(line.order.schedule.shape, *size[:2]).max()) + 1
    assert len(by_depth(line)) == 3 * size.microbatches * depths


@settings(deadline=None)
@given(pipelines())
def test_a_stage_does_one_thing_at_a_time_and_keeps_its_order(line):
    for stage in range(line.order.size.stages):
        rows = line.order.rows(stage)
        assert (line.start_s[rows][1:] >= line.end_s[rows][:-1] - 1e-12).all()


@settings(deadline=None)
@given(pipelines())
def test_every_operation_starts_as_soon_as_it_can(line):
    """A second evaluation, by longest paths without a program: every start is one of its bounds."""
    found = by_depth(line)
    free_s: dict[tuple[int, float], float] = {}
    for stage in range(line.order.size.stages):
        rows, end_s = line.order.rows(stage), 0.0
        for start_s, next_s in zip(line.start_s[rows], line.end_s[rows], strict=True):
            free_s.setdefault((stage, start_s), end_s)
            end_s = next_s
    bounds: dict[tuple[int, float], float] = {}
    for key, (stage, start_s, _) in found.items():
        before = needs(line, key)
        if before is None or (key[0] == "W" and found[before][1] == start_s):
            continue
        other, _, end_s = found[before]
        arrival_s = end_s + hop_s(line, stage, other)
        bounds[stage, start_s] = max(bounds.get((stage, start_s), 0.0), arrival_s)
    for at, stage_s in free_s.items():
        assert at[1] == pytest.approx(max(stage_s, bounds.get(at, 0.0)), abs=1e-9)


@settings(deadline=None)
@given(pipelines())
def test_no_pipeline_beats_its_busiest_stage_or_its_longest_path(line):
    found = by_depth(line)
    busy_s = line.spans[:, 2]
    chain_s: dict[int, float] = {}
    for kind, microbatch, depth in found:
        stage, start_s, end_s = found[kind, microbatch, depth]
        took_s = 0.0 if kind == "W" and found["B", microbatch, depth][1] == start_s else end_s - start_s
        before = needs(line, (kind, microbatch, depth))
        if kind != "W":
            wait_s = hop_s(line, stage, found[before][0]) if before else 0.0
            chain_s[microbatch] = chain_s.get(microbatch, 0.0) + took_s + wait_s
    assert line.makespan_s >= max(chain_s.values()) - 1e-9
    assert line.period_s >= busy_s.max() - 1e-9
    assert ((line.bubble_shares >= -1e-12) & (line.bubble_shares < 1.0)).all()


@settings(deadline=None)
@given(pipelines(), st.integers(0, 10**6))
def test_a_slower_pass_or_link_never_shortens_the_same_order(line, seed):
    rng = np.random.default_rng(seed)
    names = ("forward_s", "input_s", "weight_s", "hop_s", "pair_s")
    slower = {
        name: getattr(line.times, name) * rng.uniform(1.0, 1.5, getattr(line.times, name).shape)
        for name in names
    }
    again = pipeline.run(line.order, replace(line.times, **slower))
    assert (again.end_s >= line.end_s - 1e-9).all()
    assert again.makespan_s >= line.makespan_s - 1e-9


@settings(deadline=None)
@given(pipelines(), st.integers(0, 10**6))
def test_relabelling_microbatches_changes_nothing(line, seed):
    if np.isin(line.kind, [KINDS.index("F+BW")]).any():
        return
    labels = np.random.default_rng(seed).permutation(line.order.size.microbatches)
    rows = [line.order.ops[line.order.rows(stage)] for stage in range(line.order.size.stages)]
    named = [
        [(KINDS[row[KIND]], int(labels[row[MICROBATCH]]), int(row[CHUNK])) for row in stage] for stage in rows
    ]
    again = pipeline.run(pipeline.custom(named, line.order.schedule.shape), line.times)
    np.testing.assert_array_equal(again.start_s, line.start_s)
    np.testing.assert_array_equal(again.end_s, line.end_s)


@settings(deadline=None)
@given(st.lists(pipelines(), min_size=1, max_size=6))
def test_many_plans_at_once_give_what_each_gives(lines):
    plans = [Plan(r.order.schedule.name, r.times, r.order.size.microbatches, r.kept_share) for r in lines]
    together = pipeline.evaluate([*plans, *plans])
    for column, name in zip(together, ("makespan_s", "period_s", "bubble_share"), strict=True):
        alone = [getattr(line, name) for line in lines]
        np.testing.assert_allclose(column, alone * 2, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 10**6))
def test_more_microbatches_never_raise_the_bubble_share_of_gpipe(stages, microbatches, seed):
    passes = np.random.default_rng(seed).uniform(0.1, 2.0, (3, stages, 1))
    times = StageTimes(*passes, np.full(stages, 0.05))
    shares = [pipeline.timeline("gpipe", times, m).bubble_share for m in (microbatches, microbatches + 1)]
    assert shares[1] <= shares[0] + 1e-12


@settings(deadline=None)
@given(st.sampled_from(["1f1b", "zb-h1", "zb-h2", "interleaved"]), st.integers(1, 8), st.integers(2, 4))
def test_more_microbatches_never_raise_the_bubble_share_of_equal_stages(name, stages, rounds):
    times = StageTimes.equal(stages, 1, (1.0, 1.2, 0.9))
    shares = [pipeline.timeline(name, times, m * stages).bubble_share for m in (rounds, rounds + 1)]
    assert shares[1] <= shares[0] + 1e-12


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 20))
def test_1f1b_holds_as_many_microbatches_as_stages_follow(stages, microbatches):
    held = pipeline.peak_activations(pipeline.order("1f1b", stages, 1, microbatches))
    assert held.tolist() == [min(stages - i, microbatches) for i in range(stages)]


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 20), st.floats(0.0, 1.0))
def test_zb_h1_never_holds_more_than_1f1b(stages, microbatches, kept_share):
    held = pipeline.peak_activations(pipeline.order("zb-h1", stages, 1, microbatches), kept_share)
    assert held.max() == pytest.approx(min(stages, microbatches))


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 12), st.floats(0.0, 1.0))
def test_zb_h2_holds_up_to_twice_as_many_less_one(stages, more, kept_share):
    order = pipeline.order("zb-h2", stages, 1, 2 * stages - 1 + more)
    assert pipeline.peak_activations(order, kept_share).max() == pytest.approx(2 * stages - 1)


@settings(deadline=None)
@given(pipelines(["zb-1p", "zb-2p"]))
def test_automatic_orders_keep_to_their_memory(line):
    limit = line.order.schedule.limit_share * line.order.size.stages
    assert line.peak_activations.max() <= limit + 1e-6


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 24))
def test_zb_v_holds_no_more_than_1f1b_of_both_halves(stages, microbatches):
    held = pipeline.peak_activations(pipeline.order("zb-v", stages, 2, microbatches))
    assert held.max() <= min(2 * stages, 2 * microbatches)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 6))
def test_dual_pipes_hold_one_more_than_there_are_chunks_in_line(half, more):
    two_way = pipeline.order("dualpipe", 2 * half, 2, 4 * half + 2 * more)
    folded = pipeline.order("dualpipev", half, 2, 2 * half + more)
    assert set(pipeline.peak_activations(two_way)) == set(pipeline.peak_activations(folded)) == {2 * half + 1}


@settings(deadline=None)
@given(pipelines(), st.floats(0.5, 4.0))
def test_peaks_scale_with_what_a_chunk_stores(line, scale):
    size = line.order.size
    units = pipeline.peak_units(line.order, np.full((size.stages, size.chunks), scale), line.kept_share)
    np.testing.assert_allclose(units, scale * line.peak_activations)


def test_the_lenient_variant_skips_one_traversal_of_hops():
    times = StageTimes.equal(4, 2, (1.0, 1.0, 1.0), 1e-3)
    strict, lenient = (
        pipeline.timeline(name, times, 8).period_s for name in ("interleaved", "interleaved-lenient")
    )
    assert strict - lenient == pytest.approx(4 * 1e-3)


def test_each_stage_takes_its_optimizer_step_on_its_own():
    times = replace(StageTimes.equal(4, 1, (1.0, 1.0, 1.0)), optimizer_s=np.array([0.0, 0.0, 0.0, 9.0]))
    line = pipeline.timeline("1f1b", times, 8)
    assert line.makespan_s == pytest.approx(line.spans[3, 1] + 9.0)
    assert pipeline.evaluate([Plan("1f1b", times, 8)]).makespan_s[0] == line.makespan_s
    assert line.period_s == pytest.approx(33.0)


WRONG = [
    (
        ("interleaved", 4, 2, 10),
        "interleaved takes microbatches in groups of the 4 stages, not 10; use 8 or 12",
    ),
    (("interleaved", 4, 2, 3), "use 4"),
    (("1f1b", 4, 2, 8), "1f1b runs 1 chunk a stage, not 2; interleaved and breadth-first take any number"),
    (("zb-v", 4, 1, 8), "zb-v runs 2 chunks a stage, not 1"),
    (("dualpipe", 5, 2, 20), "needs an even number of stages, not 5; use 4 or 6"),
    (("dualpipe", 4, 2, 9), "shares microbatches between two directions, not 9; use 10"),
    (("dualpipe", 4, 2, 6), "needs at least 8 microbatches for 4 stages, not 6"),
    (("1f1b", 0, 1, 8), "needs at least 1 of its stages, not 0"),
    (("1f1b", 4, 1, 0), "needs at least 1 of its microbatches, not 0"),
]


@pytest.mark.parametrize(("asked", "said"), WRONG)
def test_a_pipeline_that_cannot_run_is_told_the_nearest_that_can(asked, said):
    with pytest.raises(ScheduleError) as error:
        pipeline.order(*asked)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_schedule_is_told_what_was_meant():
    with pytest.raises(UnknownNameError, match="did you mean 'interleaved'"):
        pipeline.order("interleavd", 4, 2, 8)


def test_chunks_without_layers_are_refused_with_the_number_that_fits():
    assert pipeline.split_layers("interleaved", 22, 4, 2).sum() == 22
    with pytest.raises(
        ScheduleError, match="10 layers leave chunks of 4 stages x 3 empty; use 2 chunks a stage"
    ):
        pipeline.split_layers("interleaved", 10, 4, 3)
    with pytest.raises(ScheduleError, match="use at most 3 stages"):
        pipeline.split_layers("1f1b", 3, 4, 1)
    with pytest.raises(ScheduleError, match="use at most 3 stages"):
        pipeline.split_layers("zb-v", 7, 4, 2)


@given(st.sampled_from(REAL), st.integers(1, 100))
def test_layers_are_shared_out_evenly_and_all_of_them(name, layers):
    chunks = pipeline.find(name).chunks or 2
    try:
        shared = pipeline.split_layers(name, layers, 4, chunks)
    except ScheduleError:
        assert layers < (4 if pipeline.find(name).shape == "two-way" else 4 * chunks)
        return
    copies = 2 if pipeline.find(name).shape == "two-way" else 1
    assert shared.sum() == copies * layers
    assert shared.max() - shared.min() <= 1


@pytest.mark.parametrize(("name", "chunks", "microbatches"), [("zb-h1", 1, 96), ("dualpipe", 2, 1200)])
def test_a_figure_shows_all_the_time_of_every_pass(name, chunks, microbatches):
    line = pipeline.timeline(name, StageTimes.equal(8, chunks, (1.0, 1.1, 0.9), 0.1), microbatches)
    passes = pd.DataFrame(line.table())
    figure = draw(passes)
    assert sum(len(trace.x) for trace in figure.data) <= BARS
    for kind, rows in passes.groupby("kind"):
        drawn_s = sum(np.sum(trace.x) for trace in figure.data if trace.name.endswith(f"({kind})"))
        assert drawn_s == pytest.approx(rows["duration_s"].sum())
    assert "(s)" in figure.layout.xaxis.title.text


def test_many_passes_are_merged_into_few_bars_that_stay_in_their_place():
    line = pipeline.timeline("zb-h1", StageTimes.equal(32, 1, (1.0, 1.1, 0.9), 0.1), 400)
    passes = pd.DataFrame(line.table())
    bars = draw(passes).data
    assert len(passes) > BARS > sum(len(trace.x) for trace in bars) > 1000
    for trace in bars[1:]:
        assert np.min(trace.base) >= 0.0
        assert np.max(np.asarray(trace.base) + np.asarray(trace.x)) <= line.makespan_s + 1e-6


def test_a_figure_of_nothing_says_so():
    assert "no passes" in draw(pd.DataFrame({"stage": []})).layout.annotations[0].text


F, B = "F", "BW"


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([[(F, 0, 0), (F, 0, 0), (B, 0, 0)]], "F of microbatch 0, chunk 0, on stage 0 comes twice"),
        ([[(F, 0, 0)]], "microbatch 0 has no backward for the input at depth 0"),
        (
            [[(F, 0, 0), ("W", 0, 0), ("B", 0, 0)]],
            "W of microbatch 0, chunk 0, on stage 0 comes twice, or before",
        ),
        ([[(B, 0, 0), (F, 0, 0)]], "waits for itself"),
        ([[(F, 0, 0), (B, 0, 0)], [(B, 0, 0), (F, 0, 0)]], "waits for itself, through other stages"),
        ([[(F, -1, 0), (B, 0, 0)]], "numbered from 0"),
        ([[]], "numbered from 0"),
    ],
)
def test_an_order_of_ones_own_that_is_no_order_is_refused(operations, said):
    with pytest.raises(ScheduleError, match=said):
        pipeline.custom(operations)


def test_an_unknown_kind_of_pass_is_refused():
    with pytest.raises(UnknownNameError, match="kind of pass"):
        pipeline.custom([[("X", 0, 0)]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"forward_s": np.array([1.0, -1.0])},
        {"input_s": np.array([np.nan, 1.0])},
        {"weight_s": np.array([np.inf, 1.0])},
        {"weight_s": np.ones(3)},
        {"hop_s": np.ones(3)},
    ],
)
def test_times_that_are_no_times_are_refused(wrong):
    right = {"forward_s": np.ones(2), "input_s": np.ones(2), "weight_s": np.ones(2)}
    with pytest.raises(ClusterSimError, match=next(iter(wrong))):
        StageTimes(**(right | wrong))


def test_too_little_memory_for_an_automatic_order_is_said():
    tight = replace(pipeline.find("zb-1p"), name="tight", limit_share=0.1)
    with pytest.raises(ScheduleError, match=r"tight: a stage must hold a microbatch.*use 0.25 or more"):
        pipeline.timeline(tight, StageTimes.equal(4, 1, (1.0, 1.0, 1.0)), 8)


def test_orders_read_as_the_literature_writes_them():
    order: Order = pipeline.order("1f1b", 2, 1, 2)
    assert order.words(0) == ["F0.0", "F1.0", "BW0.0", "BW1.0"]
    assert order.words(1) == ["F0.0", "BW0.0", "F1.0", "BW1.0"]
    assert "F3.1+BW0.0" in pipeline.order("dualpipe", 2, 2, 4).words(0)
