"""calibrate and collectives on the command line: what nccl-tests printed becomes a card, cards a table."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from clustersim import plots
from clustersim.cli import main
from clustersim.cost.collectives import Group, Inside, Outside, collective_s, group_s, wire_share
from clustersim.cost.collectives.busbw import sizes, table
from clustersim.cost.collectives.calibrate import domain_card, network_card
from clustersim.cost.collectives.nccltests import read
from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import Efficiency, load_efficiency
from clustersim.spec.fabric import LeafSpine, LinkClass, ScaleUp, Torus
from clustersim.spec.load import load_spec
from clustersim.spec.transport import Transport, load_transport

SIZES = 2.0 ** np.arange(10, 32)
HEAD = """# nThread 1 nGpus 8 minBytes 1024 maxBytes 2147483648 step: 2(factor) warmup iters: 5 iters: 20
#
# Using devices
"""
COLUMNS = """#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
"""  # noqa: E501


def ranks_text(ranks: int, hosts: int) -> str:
    members = ranks // hosts
    return "".join(
        f"#  Rank {r:2d} Group  0 Pid {9000 + r} on host-{r // members} device {r % members:2d} [0x1b] H100\n"
        for r in range(ranks)
    )


def printed(times_s: np.ndarray, ranks: int, hosts: int = 1, program: str = "all_reduce_perf") -> str:
    """Return what nccl-tests prints for times by size, in its own rounding."""
    share = wire_share("all_reduce" if program.startswith("all_reduce") else "all_gather", ranks)
    rows = []
    for size, time_s in zip(SIZES, times_s, strict=True):
        alg = size / time_s / 1e9
        cells = f"{time_s * 1e6:8.2f} {alg:7.2f} {alg * share:7.2f}      0"
        rows.append(f"{int(size):12d} {int(size) // 4:13d}     float     sum      -1 {cells} {cells}\n")
    start = f"# Collective test starting: {program}\n" if program else ""
    return (
        start + HEAD + ranks_text(ranks, hosts) + COLUMNS + "".join(rows) + "# Out of bounds values : 0 OK\n"
    )


def clustersim(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["clustersim", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def slow_h100() -> np.ndarray:
    """Times of eight H100 whose NVLink gives three quarters of what the catalogue says, started later."""
    curve = load_efficiency("nvidia-hopper").collectives["nccl"]["all_reduce"]
    slow = [
        p.model_copy(update={"launch": p.launch * 1.5, "link_share": p.link_share * 0.75})
        for p in curve.protocols
    ]
    return collective_s(curve.model_copy(update={"protocols": tuple(slow)}), "all_reduce", 8, SIZES, 450e9)


# Reading


def test_a_run_tells_its_operation_its_ranks_and_its_hosts(slow_h100):
    run = read(printed(slow_h100, 8))
    assert (run.operation, run.ranks, run.hosts) == ("all_reduce", 8, 1)
    assert run.size_bytes == pytest.approx(SIZES)
    assert run.time_s == pytest.approx(slow_h100, rel=1e-3)
    two = read(printed(slow_h100, 16, 2, "all_gather_perf"))
    assert (two.operation, two.ranks, two.hosts) == ("all_gather", 16, 2)


def test_lines_that_a_launcher_marked_are_read_as_well(slow_h100):
    marked = "".join(f"[1,0]<stdout>:{line}\n" for line in printed(slow_h100, 8).splitlines())
    assert read(marked).time_s == pytest.approx(slow_h100, rel=1e-3)


def test_without_a_list_of_ranks_the_ratio_of_bandwidths_tells_them(slow_h100):
    bare = "\n".join(line for line in printed(slow_h100, 8).splitlines() if " Rank " not in line)
    assert read(bare).ranks == 8
    assert read(bare, ranks=4).ranks == 4


def test_older_versions_leave_columns_out():
    """all_gather before version 2.10: neither reduction nor root."""
    text = """# all_gather_perf
#       size         count    type    time   algbw   busbw  error     time   algbw   busbw  error
    1048576         65536   float   38.12   27.51   24.07  0e+00    37.90   27.67   24.21  0e+00
    2097152        131072   float   52.40   40.02   35.02  0e+00    52.10   40.25   35.22  0e+00
"""
    run = read(text)
    assert run.operation == "all_gather"
    assert run.ranks == 8
    assert run.time_s == pytest.approx([38.12e-6, 52.40e-6])


def test_what_cannot_be_read_is_told():
    with pytest.raises(ClusterSimError, match="no line of results"):
        read("hello")
    with pytest.raises(ClusterSimError, match="--op"):
        read(printed(SIZES * 1e-9, 8, program=""))
    with pytest.raises(UnknownNameError, match="hypercube_perf"):
        read(printed(SIZES * 1e-9, 8, program="hypercube_perf"))
    broken = printed(SIZES * 1e-9, 8).replace(
        "     float     sum      -1     1.02", "     float     sum      -1      N/A"
    )
    with pytest.raises(ClusterSimError, match="'N/A' stands where"):
        read(broken)


# Fitting


def test_a_calibrated_domain_meets_the_sizes_that_it_was_not_fitted_on(slow_h100):
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    made = domain_card([read(printed(slow_h100, 8))], h100, "mine", "2026-11-24")
    assert made.before > 0.15
    assert made.error.mape < 0.05
    assert made.error.rows == len(SIZES) // 2
    card = yaml.safe_load(made.text)
    assert card["inherits"] == "nvidia-hopper"
    assert card["collectives"]["nccl"]["all_reduce"]["source"]["kind"] == "fitted"
    assert "8 ranks on 1 host, 22 rows" in card["collectives"]["nccl"]["all_reduce"]["source"]["source"]


def test_a_calibrated_network_finds_the_share_of_its_adapters():
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    start = load_transport("infiniband")
    ring = start.ring.model_copy(
        update={
            "protocols": tuple(
                p.model_copy(update={"link_share": p.link_share * 0.8}) for p in start.ring.protocols
            )
        }
    )
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    truth = start.model_copy(update={"ring": ring})
    group = Group(Inside(8, 450e9, curves), (Outside(4, 400e9, truth),))
    times = group_s(group, "all_gather", SIZES)
    made = network_card([read(printed(times, 32, 4, "all_gather_perf"))], h100, start, "mine", "2026-11-24")
    assert made.before > 0.05
    assert made.error.mape < 0.03
    card = yaml.safe_load(made.text)
    assert card["ring"]["protocols"][2]["link_share"] == pytest.approx(0.96 * 0.8, rel=0.05)
    back = Transport.model_validate(card, context={"needs_units": True})
    assert back.ring.protocols[0].launch == pytest.approx(start.ring.protocols[0].launch)


def test_too_few_sizes_and_mixed_runs_are_refused(slow_h100):
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    reduce_run, gather = read(printed(slow_h100, 8)), read(printed(slow_h100, 8, program="all_gather_perf"))
    with pytest.raises(ClusterSimError, match="one operation at a time"):
        domain_card([reduce_run, gather], h100, "mine", "2026-11-24")
    short = "\n".join(printed(slow_h100, 8).splitlines()[:-18])
    with pytest.raises(ClusterSimError, match="too few"):
        domain_card([read(short)], h100, "mine", "2026-11-24")
    text = printed(slow_h100, 16, 2).replace("on host-1 device  7", "on host-2 device  7")
    lopsided = read(text)
    assert lopsided.hosts == 3
    with pytest.raises(ClusterSimError, match="as many on each"):
        network_card([lopsided], h100, load_transport("roce"), "mine", "2026-11-24")


# The command line


def test_calibrate_writes_a_card_that_collectives_prices_with(monkeypatch, capsys, tmp_path, slow_h100):
    (tmp_path / "run.txt").write_text(printed(slow_h100, 8))
    card = tmp_path / "mine.yaml"
    assert clustersim(monkeypatch, "calibrate", tmp_path / "run.txt", "-o", card, "--name", "mine") == 0
    said = capsys.readouterr()
    assert "left out of the fit" in said.err
    loaded = load_spec(Efficiency, card)
    assert loaded.gemm == load_efficiency("nvidia-hopper").gemm
    words = ("collectives", "--card", card, "--node", "dgx-h100", "-b", "1 MiB", "-e", "1 GiB", "--json")
    assert clustersim(monkeypatch, *words) == 0
    rows = json.loads(capsys.readouterr().out)
    expected = slow_h100[(SIZES >= 2**20) & (SIZES <= 2**30)]
    assert [row["time_s"] for row in rows] == pytest.approx(expected, rel=0.1)


def test_calibrate_prints_a_network_card_for_several_hosts(monkeypatch, capsys, tmp_path):
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    group = Group(Inside(8, 450e9, curves), (Outside(2, 400e9, load_transport("infiniband")),))
    (tmp_path / "run.txt").write_text(printed(group_s(group, "all_reduce", SIZES), 16, 2))
    assert clustersim(monkeypatch, "calibrate", tmp_path / "run.txt") == 0
    card = yaml.safe_load(capsys.readouterr().out)
    assert set(card) >= {"name", "ring", "tree", "exchange", "send"}
    start = load_transport("infiniband").ring.protocols
    assert card["ring"]["protocols"][1]["link_share"] == pytest.approx(start[1].link_share, rel=0.03)


def test_collectives_prints_csv_for_programs(monkeypatch, capsys):
    words = (
        "collectives",
        "--op",
        "all_gather",
        "--node",
        "dgx-h100",
        "--ranks",
        64,
        "-b",
        "1 MiB",
        "-e",
        "4 MiB",
    )
    assert clustersim(monkeypatch, *words) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["size_bytes"]) for row in rows] == [2**20, 2**21, 2**22]
    assert {row["algorithm"] for row in rows} == {"ring"}
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    group = Group(Inside(8, 450e9, curves), (Outside(8, 400e9, load_transport("infiniband")),))
    expected = group_s(group, "all_gather", np.array([2.0**20]))[0]
    assert float(rows[0]["time_s"]) == pytest.approx(expected)
    assert float(rows[0]["busbw_bytes_per_s"]) == pytest.approx(2**20 * 63 / 64 / expected)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--op", "all_reduc"), "did you mean 'all_reduce'"),
        (("--node", "dgx-h100", "--ranks", "13"), "choose a multiple of 2"),
        (("--fabric", "rail", "--node", "dgx-h100"), "either --fabric or --node"),
        (("--min", "12"), "--min: '12' is not a size"),
        (("--ranks", "16", "--algorithm", "rign"), "did you mean 'ring'"),
        (("--ranks", "16", "--transport", "token-ring"), "unknown transport"),
    ],
)
def test_mistakes_end_in_one_line(monkeypatch, capsys, words, says):
    assert clustersim(monkeypatch, "collectives", *words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


LINKS = {
    "host": LinkClass(bandwidth=50e9),
    "leaf": LinkClass(bandwidth=50e9),
    "scale_up": LinkClass(bandwidth=450e9),
}
LEAVES = LeafSpine(
    name="leaves",
    leaves=4,
    hosts_per_leaf=8,
    spines=2,
    links=LINKS,
    scale_up=ScaleUp(size=8),
    routing="ideal",
)
CUBE = Torus(name="cube", dimensions=(4, 4, 4), links={"ici": LinkClass(bandwidth=100e9)})


def test_a_fabric_prices_its_oversubscription(monkeypatch, capsys):
    monkeypatch.setattr("clustersim.spec.fabric.load_fabric", lambda name: LEAVES)
    sizes_ = ("-b", "8 GiB", "-e", "8 GiB", "--json")
    words = ("collectives", "--fabric", "leaves", "--op", "all_gather", *sizes_)
    assert clustersim(monkeypatch, *words, "--ranks", 32) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["busbw_bytes_per_s"] == pytest.approx(2 * 50e9, rel=0.01)  # two uplinks for eight adapters
    assert clustersim(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)[0]["busbw_bytes_per_s"] > 250e9
    assert clustersim(monkeypatch, *words, "--ranks", 12) == 2
    assert "domains of 8" in capsys.readouterr().err


def test_a_torus_reduces_along_all_its_dimensions(monkeypatch, capsys):
    monkeypatch.setattr("clustersim.spec.fabric.load_fabric", lambda name: CUBE)
    words = ("collectives", "--fabric", "cube", "-b", "8 GiB", "-e", "8 GiB", "--json")
    assert clustersim(monkeypatch, *words, "--accelerator", "tpu-v5p") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["algorithm"] == "torus"
    best = 2 * 63 / 64 / 6 * 2**33 / 100e9
    assert best < row["time_s"] < 2 * best


def test_calibrate_says_which_file_it_cannot_read(monkeypatch, capsys, tmp_path):
    assert clustersim(monkeypatch, "calibrate", tmp_path / "none.txt") == 2
    assert "none.txt" in capsys.readouterr().err


def test_bus_bandwidth_of_a_lone_rank_is_zero_and_sizes_are_powers_of_two():
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    rows = table(Group(Inside(1, 450e9, curves)), "all_reduce", sizes(1000, 5000))
    assert [row["size_bytes"] for row in rows] == [1024, 2048, 4096]
    assert {row["busbw_bytes_per_s"] for row in rows} == {0.0}


def test_the_figure_shows_measured_points_beside_predicted_curves():
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    predicted = pd.DataFrame(table(Group(Inside(8, 450e9, curves)), "all_reduce", SIZES))
    measured = predicted.drop(columns="algorithm").iloc[::3]
    figure = plots.busbw({"predicted": predicted, "measured": measured}, 450e9)
    lines, points = figure.data
    assert (lines.mode, points.mode) == ("lines", "markers")
    assert lines.y == pytest.approx(predicted.busbw_bytes_per_s / 1e9)
    assert figure.layout.yaxis.title.text == "bus bandwidth (GB/s)"
    assert figure.layout.xaxis.ticktext[0] == "1 KiB"
    assert plots.busbw({}).layout.annotations[0].text == "no sizes"


def test_the_command_draws_without_a_network(monkeypatch, capsys, tmp_path):
    file = tmp_path / "bandwidth.html"
    assert clustersim(monkeypatch, "collectives", "-b", "1 MiB", "-e", "1 GiB", "--figure", file) == 0
    text = file.read_text()
    assert "all_reduce of 8" in text
    assert 'src="http' not in text
    assert str(file) in capsys.readouterr().err.replace("\n", "")
