"""How collectives cross a scale-out network: what each dependent step costs and how much of a link is used.

A card holds one kind of network under one library, such as NCCL over InfiniBand. Its algorithms are priced
between domains (nodes, racks); what happens inside a domain is the efficiency card's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from clustersim.errors import UnknownNameError
from clustersim.spec.base import Spec, load_card
from clustersim.spec.efficiency import Curve, Share
from clustersim.units import Seconds

FOLDER: Final = "topologies/transports"
Crossing = Literal["ring", "tree", "exchange", "send", "in_network"]


class Hop(Spec):
    """One protocol of an algorithm: ``launch + inner steps step + outer steps cross``, and bytes."""

    launch: Seconds
    step: Seconds = 0.0
    """A dependent step between two accelerators of one domain."""
    cross: Seconds
    """A dependent step between two domains."""
    link_share: Share
    """Of the bandwidth with which a domain reaches the others."""
    inner_share: Share = 0.82
    """Of the link of an accelerator to its peers in the domain; NCCL counts on 20.6 of 25 GB/s."""


class Hops(Curve):
    """An algorithm takes the time of the fastest of its protocols."""

    protocols: tuple[Hop, ...] = Field(min_length=1)


class Transport(Spec):
    """The algorithms of one library on one kind of scale-out network."""

    name: str
    note: str = ""
    ring: Hops
    tree: Hops
    exchange: Hops
    """Direct transfers between all pairs."""
    send: Hops
    """From one accelerator to another."""
    in_network: Hops | None = None
    """Switches of the network that add up, as SHARP does."""

    def hops(self, crossing: Crossing) -> Hops:
        """Return the protocols of one algorithm; raise UnknownNameError if the network lacks it."""
        found: Hops | None = getattr(self, crossing)
        if found is None:
            known = [name for name, _ in self.curves()]
            raise UnknownNameError(f"algorithm of transport {self.name}", crossing, known)
        return found

    def curves(self) -> Iterator[tuple[str, Hops]]:
        """Yield every algorithm by name."""
        for name in ("ring", "tree", "exchange", "send", "in_network"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)


def load_transport(name: str) -> Transport:
    """Return the catalogue's transport card *name*."""
    return load_card(Transport, FOLDER, name)
