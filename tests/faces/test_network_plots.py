"""The figures of the interconnect: what is drawn adds up to what is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import simpy

from clustersim.network.build import build
from clustersim.plots.network import MOST_MARKS, link_heatmap, topology, used_at
from clustersim.sim.fabric import Fluid
from clustersim.sim.links import LinkRecord
from clustersim.spec.base import card_files
from clustersim.spec.fabric import CARDS, load_fabric


def table(card: str, record: LinkRecord) -> tuple[Fluid, pd.DataFrame]:
    network = Fluid(simpy.Environment(), build(load_fabric(card)), record)
    for a, b in ((0, 9), (1, 300), (2, 300)):
        network.transfer(a, b, 1e9)
    network.env.run()
    return network, pd.DataFrame(network.links_table())


@pytest.mark.parametrize("card", card_files(CARDS))
def test_every_fabric_is_drawn_in_tiers_with_all_its_links(card: str) -> None:
    network = build(load_fabric(card))
    figure = topology(network)
    named = [trace.name for trace in figure.data if trace.name and "links" in trace.name]
    drawn = sum(float(name.split("(")[1].split()[0].replace(",", "")) for name in named)
    assert drawn == network.links / 2
    marks = [trace for trace in figure.data if trace.mode == "markers" and trace.showlegend is not False]
    assert len(marks) == len(network.layers)
    if len(network.layers) > 1:
        assert max(len(trace.x) for trace in marks) <= MOST_MARKS
        assert all(len(set(trace.y)) == 1 for trace in marks)


def test_equal_leaves_collapse_to_marks_that_say_how_many_they_are() -> None:
    figure = topology(build(load_fabric("rail-h100-1024")))
    names = [trace.name for trace in figure.data]
    assert "accelerator, 32 a mark" in names
    assert "leaf" in names
    assert "1,024 x accelerator" in figure.layout.yaxis.ticktext


def test_links_within_a_layer_are_arches_above_it() -> None:
    figure = topology(build(load_fabric("frontier")))
    arches = next(trace for trace in figure.data if (trace.name or "").startswith("global"))
    assert np.nanmax(arches.y) > 1.2
    assert np.nanmin(arches.y) >= 1.0


def test_a_torus_is_drawn_on_its_grid() -> None:
    figure = topology(build(load_fabric("tpu-v5e-pod")))
    marks = figure.data[-1]
    assert len(set(zip(marks.x, marks.y, strict=True))) == 256


def test_the_hot_path_is_coloured() -> None:
    network, links = table("fat-tree-k16", LinkRecord())
    share = used_at(links, 1e-3, network.topology.resources)
    assert share.max() == pytest.approx(1.0)
    names = [trace.name for trace in topology(network.topology, share).data]
    assert "80% to 100% used" in names
    assert "0% to 20% used" in names


@pytest.mark.parametrize("record", [LinkRecord(), LinkRecord(2e-3)])
def test_the_heat_map_integrates_to_the_bytes_carried(record: LinkRecord) -> None:
    network, links = table("fat-tree-k16", record)
    figure = link_heatmap(links, most=500, bins=50)
    heat = figure.data[0]
    width_s = heat.x[1] - heat.x[0]
    carried = np.asarray(heat.z).sum() * width_s * network.topology.capacity_bytes_per_s[0]
    assert carried == pytest.approx(links["bytes"].sum(), rel=1e-6)
    assert len(heat.y) == links["link"].nunique()
    assert list(heat.y) == sorted(heat.y, key=lambda name: name.split(":")[0])


def test_only_the_busiest_links_are_shown_and_no_table_gives_a_word() -> None:
    _, links = table("fat-tree-k16", LinkRecord())
    figure = link_heatmap(links, most=3)
    assert len(figure.data[0].y) == 3
    assert any("300" in name for name in figure.data[0].y)
    assert link_heatmap(links.iloc[:0]).layout.annotations[0].text == "no links were recorded"
