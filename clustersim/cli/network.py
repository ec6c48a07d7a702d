"""collectives and calibrate: what a fabric's collectives take, and cards from measurements of one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clustersim.cli.base import AsJson, app, note, out, say, show, show_json
from clustersim.errors import ClusterSimError, UnknownNameError

if TYPE_CHECKING:
    from clustersim.cost.collectives import Group
    from clustersim.spec.accelerator import Accelerator
    from clustersim.spec.efficiency import Operation

OPERATIONS: Final = (
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "send_recv", "barrier"
)  # fmt: skip
USUAL: Final = "dgx-h100"
Op = Annotated[str, typer.Option("--op", help="all_reduce, all_gather, reduce_scatter, all_to_all ...")]
Chip = Annotated[str | None, typer.Option("--accelerator", help="Whose protocols; a card of the catalogue.")]
Network = Annotated[str, typer.Option("--transport", help="The library's constants between nodes.")]


@app.command()
def collectives(
    op: Op = "all_reduce",
    fabric: Annotated[str | None, typer.Option("--fabric", help="An interconnect of the catalogue.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="A node instead, as many as are needed.")] = None,
    ranks: Annotated[int | None, typer.Option("--ranks", "-n", min=1, help="Default: one domain.")] = None,
    accelerator: Chip = None,
    transport: Network = "infiniband",
    algorithm: Annotated[str, typer.Option(help="auto, ring, tree, hierarchical ...")] = "auto",
    card: Annotated[Path | None, typer.Option(help="A calibrated efficiency card.")] = None,
    least: Annotated[str, typer.Option("--min", "-b", help="The smallest buffer.")] = "1 KiB",
    most: Annotated[str, typer.Option("--max", "-e", help="The largest buffer.")] = "8 GiB",
    figure: Annotated[Path | None, typer.Option(help="An HTML file to draw bus bandwidths in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Price a collective by size on a fabric or between nodes, as nccl-tests would print it."""
    from clustersim.cost.collectives.busbw import sizes

    if fabric is not None and node is not None:
        raise ClusterSimError("give either --fabric or --node")
    place = _OnFabric(fabric, accelerator) if fabric else _OnNodes(node or USUAL, accelerator)
    span = sizes(_bytes(least, "--min"), _bytes(most, "--max"))
    asked = _Asked(_operation(op), ranks, transport, algorithm, _curves(place.accelerator, card))
    priced = place.priced(asked, span)
    title = f"{op} of {priced.ranks} x {place.accelerator.name}"
    if figure is not None:
        _draw(figure, title, priced)
    if as_json:
        show_json(priced.rows)
        return
    say(f"{title}, {priced.layout}: {place.title}")
    show([_printed(row) for row in priced.rows] if out.is_terminal else priced.rows)


@app.command()
def calibrate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What nccl-tests printed.")],
    accelerator: Annotated[str, typer.Option("--accelerator", help="A card of the catalogue.")] = "h100-sxm",
    op: Annotated[str | None, typer.Option("--op", help="Only where the text does not tell.")] = None,
    ranks: Annotated[int | None, typer.Option("--ranks", min=2, help="Only where it does not.")] = None,
    transport: Network = "infiniband",
    name: Annotated[str, typer.Option(help="What the card is called.")] = "measured",
    to: Annotated[Path | None, typer.Option("--out", "-o", help="File to write the card to.")] = None,
) -> None:
    """Fit a card to runs of nccl-tests: a domain's protocols or, of several hosts, the network."""
    from datetime import date

    from clustersim.cost.collectives.calibrate import domain_card, network_card
    from clustersim.cost.collectives.nccltests import read
    from clustersim.spec.accelerator import Accelerator
    from clustersim.spec.base import load_card
    from clustersim.spec.transport import load_transport

    kind = load_card(Accelerator, "topologies/accelerators", accelerator)
    operation, day = _operation(op) if op else None, date.today().isoformat()
    runs = [read(_text(file), operation, ranks) for file in files]
    if all(run.hosts == 1 for run in runs):
        made = domain_card(runs, kind, name, day)
    elif any(run.hosts == 1 for run in runs):
        raise ClusterSimError("some of the runs are of one host and some of several; calibrate them apart")
    else:
        made = network_card(runs, kind, load_transport(transport), name, day)
    if to is None:
        typer.echo(made.text, nl=False)
    else:
        to.write_text(made.text, encoding="utf-8")
        say(f"wrote {to}")
    error = made.error
    note(f"mean error {error.mape:.1%} on {error.rows} sizes left out of the fit; before {made.before:.1%}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be priced, and with whose constants."""

    operation: Operation
    ranks: int | None
    transport: str
    algorithm: str
    curves: Any


@dataclass(frozen=True, slots=True)
class _Priced:
    """The table, for how many ranks it is, how they lie, and the rate of one of their links."""

    rows: list[dict[str, Any]]
    ranks: int
    layout: str
    link_bytes_per_s: float


def _draw(file: Path, title: str, priced: _Priced) -> None:
    import pandas as pd

    from clustersim.plots import CONFIG, busbw

    drawn = busbw({title: pd.DataFrame(priced.rows)}, priced.link_bytes_per_s)
    drawn.write_html(file, config=CONFIG, include_plotlyjs=True)
    note(f"figure: {file}")


def _of_group(group: Group, asked: _Asked, span: Any) -> _Priced:
    from clustersim.cost.collectives.busbw import table

    rows = table(group, asked.operation, span, asked.algorithm)
    layout = f"{group.domains} domain{'s' * (group.domains > 1)}"
    return _Priced(rows, group.ranks, layout, group.inside.bytes_per_s)


class _OnNodes:
    """As many equal nodes as are needed, on a network without oversubscription."""

    def __init__(self, name: str, accelerator: str | None):
        from clustersim.spec.base import load_card
        from clustersim.spec.node import Node

        self.node = load_card(Node, "topologies/nodes", name)
        self.title = self.node.name
        self.accelerator = _chip(accelerator) if accelerator else self.node.accelerator

    def priced(self, asked: _Asked, span: Any) -> _Priced:
        from clustersim.cost.collectives import Inside, group_of
        from clustersim.spec.transport import load_transport

        node, count = self.node, asked.ranks or self.node.accelerators
        link = node.link.bandwidth or node.host_bandwidth
        inside = Inside(min(node.accelerators, count), link, asked.curves)
        if count > node.accelerators and not node.network_bandwidth:
            raise ClusterSimError(f"{node.name} has no adapters: at most {node.accelerators} ranks")
        each = node.network_bandwidth / node.accelerators
        return _of_group(group_of(inside, count, each, load_transport(asked.transport)), asked, span)


class _OnFabric:
    """Accelerators on an interconnect of the catalogue, from the first on."""

    def __init__(self, name: str, accelerator: str | None):
        from clustersim.network.build import build
        from clustersim.spec.fabric import load_fabric

        self.fabric = load_fabric(name)
        self.topology = build(self.fabric)
        self.title = self.fabric.name
        self.accelerator = _chip(accelerator or "h100-sxm")

    def priced(self, asked: _Asked, span: Any) -> _Priced:
        from clustersim.spec.fabric import Torus

        if isinstance(self.fabric, Torus) and asked.ranks in (None, self.fabric.size):
            return self._on_torus(self.fabric.dimensions, asked, span)
        return _of_group(self._group(asked), asked, span)

    def _on_torus(self, sides: tuple[int, ...], asked: _Asked, span: Any) -> _Priced:
        """Price rings along all dimensions at once, the way of machines that are tori."""
        from clustersim.cost.collectives import torus_s
        from clustersim.cost.collectives.busbw import rows

        rate, count = self._rate("ici"), math.prod(sides)
        time_s = torus_s(
            asked.curves.get(asked.operation, asked.curves["all_reduce"]), asked.operation, sides, span, rate
        )
        table = rows((asked.operation, count), span, time_s, ["torus"] * len(span))
        shape = "x".join(map(str, sides))
        return _Priced(table, count, f"torus of {shape}", rate)

    def _group(self, asked: _Asked) -> Group:
        from clustersim.cost.collectives import Group, Inside
        from clustersim.cost.collectives.fabric import Placed, group_on
        from clustersim.spec.transport import load_transport

        domain = self._domain()
        count = asked.ranks or (domain if domain > 1 else min(8, self.topology.endpoints))
        if count > domain and count % domain:
            raise ClusterSimError(f"{count} ranks do not fill domains of {domain}; choose a multiple")
        inside = Inside(min(count, domain), self._rate("scale_up"), asked.curves)
        if count <= domain:
            return Group(inside)
        endpoints, transport = self.topology.group(count), load_transport(asked.transport)
        return group_on(
            Placed(self.topology, endpoints, inside, self._rate("host"), transport), asked.operation
        )

    def _domain(self) -> int:
        if self.fabric.scale_up is not None:
            return self.fabric.scale_up.size
        return self.topology.endpoints if "scale_up" in self.fabric.links else 1

    def _rate(self, tier: str) -> float:
        """Return the line rate of a tier, or of the slowest there is."""
        links = self.fabric.links
        if tier in links:
            return float(links[tier].bandwidth)
        return float(min(link.bandwidth for link in links.values()))


def _chip(name: str) -> Accelerator:
    from clustersim.spec.accelerator import Accelerator
    from clustersim.spec.base import load_card

    return load_card(Accelerator, "topologies/accelerators", name)


def _curves(accelerator: Accelerator, card: Path | None) -> Any:
    """Return the protocols of NCCL inside a domain: the card's own laid over the generation's."""
    from clustersim.spec.efficiency import Efficiency, efficiency_of

    peers = accelerator.link not in ("pcie", "none")
    found = efficiency_of(accelerator).collectives["nccl" if peers else "pcie"]
    if card is None:
        return found
    from clustersim.spec.load import load_spec

    return {**found, **load_spec(Efficiency, card).collectives["nccl"]}


def _operation(name: str) -> Operation:
    if name not in OPERATIONS:
        raise UnknownNameError("collective operation", name, OPERATIONS)
    found: Operation = name  # type: ignore[assignment]
    return found


def _bytes(text: str, option: str) -> float:
    from clustersim.units import parse

    try:
        found = parse(text, "size")
    except ValueError as error:
        raise ClusterSimError(f"{option}: {error}") from None
    if found < 1.0:
        raise ClusterSimError(f"{option}: {text!r} is less than a byte")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ClusterSimError(f"cannot read {file}: {error.strerror}") from None


def _printed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in the units of nccl-tests, for people."""
    return {
        "size (B)": f"{row['size_bytes']:,.0f}",
        "algorithm": row["algorithm"],
        "time (us)": row["time_s"] * 1e6,
        "algbw (GB/s)": row["algbw_bytes_per_s"] / 1e9,
        "busbw (GB/s)": row["busbw_bytes_per_s"] / 1e9,
    }
