"""A trace is valid JSON that Perfetto can draw: slices do not overlap within a track, and spans pair up."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from clustersim.errors import ClusterSimError
from clustersim.record.perfetto import Window, write_trace
from clustersim.results import Run


@pytest.fixture(scope="module")
def tables(sample_run_folder: Path) -> dict[str, dict[str, Any]]:
    return Run(sample_run_folder).columns()


def read(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file, parse_constant=pytest.fail)  # NaN and Infinity are not JSON


def test_slices_of_a_track_never_overlap_and_none_is_lost(tables, tmp_path):
    written = write_trace(tables, tmp_path / "trace.json.gz")
    events = read(written.path)["traceEvents"]
    assert written.events == len(events)
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], event["dur"]))
    assert sum(map(len, tracks.values())) == len(tables["iterations"]["start_s"])
    for slices in tracks.values():
        slices.sort()
        for (ts, dur), (following, _) in pairwise(slices):
            assert round((ts + dur) * 1e3) <= round(following * 1e3)
    busy_us = sum(dur for slices in tracks.values() for _, dur in slices)
    assert busy_us == pytest.approx(tables["iterations"]["duration_s"].sum() * 1e6, rel=1e-6)


def test_every_span_of_a_request_begins_and_ends_once(tables, tmp_path):
    events = read(write_trace(tables, tmp_path / "trace.json.gz").path)["traceEvents"]
    spans = defaultdict(dict)
    for event in events:
        if event["ph"] in "be":
            spans[event["id"], event["name"]].setdefault(event["ph"], []).append(event["ts"])
    assert len(spans) == 4 * len(tables["requests"]["request"])
    for moments in spans.values():
        (begin,), (end,) = moments["b"], moments["e"]
        assert begin <= end


def test_a_request_without_times_is_a_span_of_no_length(tables, tmp_path):
    requests = {name: column[:1].copy() for name, column in tables["requests"].items()}
    requests["status"][:] = "rejected"
    requests["replica"][:] = -1
    for column in ("admitted_s", "first_token_s", "finish_s"):
        requests[column][:] = float("nan")
    events = read(write_trace({**tables, "requests": requests}, tmp_path / "t.json.gz").path)["traceEvents"]
    spans = [event for event in events if event["ph"] in "be"]
    assert [event["pid"] for event in spans] == [0, 0]
    assert spans[0]["ts"] == spans[1]["ts"]


def test_what_the_limit_leaves_out_is_said(tables, tmp_path):
    written = write_trace(tables, tmp_path / "trace.json.gz", Window(limit=500))
    trace = read(written.path)
    assert written.events <= 520
    assert "cut at" in written.note
    assert trace["otherData"]["note"] == written.note


def test_a_window_holds_only_what_begins_in_it(tables, tmp_path):
    written = write_trace(tables, tmp_path / "trace.json.gz", Window(start_s=10.0, end_s=20.0))
    slices = [event for event in read(written.path)["traceEvents"] if event["ph"] == "X"]
    start_s = tables["iterations"]["start_s"]
    assert len(slices) == ((start_s >= 10.0) & (start_s < 20.0)).sum()
    assert not written.note
    with pytest.raises(ClusterSimError, match="empty"):
        write_trace(tables, tmp_path / "trace.json.gz", Window(start_s=2.0, end_s=1.0))
