"""The interconnect on the clock: transfers and collectives are events that succeed when all has arrived.

Three fidelities behind one class: ``Analytic`` (each alone, by a closed form), ``Fluid`` (every transfer or
collective is one activity on the shared links), ``Flow`` (every queue pair of every sender is one). The tail
of a message arrives its latency after it was sent, so an activity loads its links from its start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
import simpy

from clustersim.errors import ClusterSimError, StalledError, choices
from clustersim.network.route import (
    LinkLoad,
    Traffic,
    link_load,
    path_latency_s,
    queue_pairs,
    routes,
)
from clustersim.network.share import EQUAL, FlowSet, Terms
from clustersim.network.state import NEVER
from clustersim.network.topology import Array, Topology
from clustersim.sim.links import Columns, LinkLog, LinkRecord, by_tier

Fidelity = Literal["analytic", "fluid", "flow"]

_HASHED: Final = ("ecmp", "valiant")
_VARIANTS: Final = 16
_MOST_LOADS: Final = 1 << 18


class Fabric:
    """Carries messages between the endpoints of a topology."""

    def __init__(self, env: simpy.Environment, topology: Topology):
        self.env, self.topology = env, topology
        self._sent = 0
        self._loads: dict[tuple[int, int, int], LinkLoad] = {}

    def transfer(self, source: int, target: int, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        """Send *size_bytes* between two endpoints; the event succeeds when the last byte has arrived."""
        raise NotImplementedError

    def collective(self, load: LinkLoad, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        """Run a collective on a message of *size_bytes* that loads links as *load* says."""
        raise NotImplementedError

    def moved_bytes(self) -> Array:
        """Return what every link and bundle has carried so far."""
        raise NotImplementedError

    def by_tier(self, until_s: float | None = None) -> Columns:
        """Return bytes and utilisation of every tier from time 0 until now, or a time that has passed."""
        return by_tier(self.topology, self.moved_bytes(), self.env.now if until_s is None else until_s)

    def load_between(self, source: int, target: int) -> LinkLoad:
        """Return what the next transfer between two endpoints puts on which links.

        Transfers are numbered; a hash takes the number modulo 16, so that paths are found once.
        """
        if len(self._loads) > _MOST_LOADS:
            self._loads.clear()
        variant = self._sent % _VARIANTS if self.topology.routing.paths in _HASHED else 0
        self._sent += 1
        key = (source, target, variant)
        if key not in self._loads:
            flow = variant * queue_pairs(self.topology)
            self._loads[key] = link_load(self.topology, Traffic.of(source, target), flow=flow)
        return self._loads[key]

    def _later(self, delay_s: float, action: Callable[[simpy.Event], None]) -> None:
        """Call *action* after a delay."""
        simpy.Timeout(self.env, max(0.0, delay_s)).callbacks.append(action)

    def _arrive(self, event: simpy.Event, latency_s: float) -> None:
        """Let *event* succeed when the tail has arrived."""

        def succeed(_: simpy.Event) -> None:
            event.succeed()

        if latency_s > 0.0:
            self._later(latency_s, succeed)
        else:
            event.succeed()


class Analytic(Fabric):
    """Every message has the network for itself."""

    def __init__(self, env: simpy.Environment, topology: Topology):
        super().__init__(env, topology)
        self._moved_bytes = np.zeros(topology.resources)

    def transfer(self, source: int, target: int, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        return self.collective(self.load_between(source, target), size_bytes, terms)

    def collective(self, load: LinkLoad, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        event = self.env.event()
        self._moved_bytes[load.links] += load.weights * size_bytes
        rate = min(load.alone_bytes_per_s(self.topology), terms.cap_bytes_per_s)
        self._arrive(event, load.latency_s + size_bytes / rate)
        return event

    def moved_bytes(self) -> Array:
        """Return what every link and bundle has been given to carry so far."""
        return self._moved_bytes.copy()


@dataclass(slots=True, eq=False)
class _Message:
    """A message under way: its event, what is left of it, and when its tail arrives after that."""

    event: simpy.Event
    latency_s: float
    left: int = 1
    """Activities of it that have not ended."""


class Fluid(Fabric):
    """Messages share links: each is one activity, as long as any of its bytes are on the way."""

    def __init__(
        self,
        env: simpy.Environment,
        topology: Topology,
        record: LinkRecord | None = None,
        tolerance: float = 0.0,
    ):
        super().__init__(env, topology)
        self._flows = FlowSet(topology.capacity_bytes_per_s, metered=record is not None, tolerance=tolerance)
        self._log = LinkLog(self._flows, record) if record is not None else None
        self._messages: dict[int, _Message] = {}
        self._asked = False
        self._timer, self._timer_s = 0, NEVER

    def __len__(self) -> int:
        """Activities under way."""
        return len(self._flows)

    def transfer(self, source: int, target: int, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        return self.collective(self.load_between(source, target), size_bytes, terms)

    def collective(self, load: LinkLoad, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        message = _Message(self.env.event(), load.latency_s)
        cap = min(load.cap_bytes_per_s, terms.cap_bytes_per_s)
        if not len(load.links) and cap == np.inf:
            self._arrive(message.event, load.latency_s)
            return message.event
        terms = Terms(terms.weight, cap, terms.priority)
        self._enter(message, self._flows.add(load.links, load.weights, size_bytes, terms))
        return message.event

    def check_done(self) -> None:
        """Raise StalledError if messages are under way that will never arrive."""
        stuck = len({id(message) for message in self._messages.values()})
        if stuck and self._flows.next_s >= NEVER and not self._asked:
            raise StalledError(f"{stuck} messages never arrive: links on their way carry nothing")

    def cancel(self, event: simpy.Event) -> float:
        """Stop the message of *event*, which will never succeed; return the bytes that were left of it."""
        parts = [number for number, message in self._messages.items() if message.event is event]
        if not parts:
            raise ClusterSimError("the event belongs to no message under way")
        left = sum(self._flows.left_bytes(number, self.env.now) for number in parts)
        for number in parts:
            del self._messages[number]
            self._flows.remove(number)
        self._ask()
        return left

    def set_capacity(self, link: int, bytes_per_s: float) -> None:
        """Change what a link carries from now on; 0 stops everything on it."""
        self._flows.set_capacity(link, bytes_per_s)
        self._ask()

    def moved_bytes(self) -> Array:
        """Return what every link has carried: until now if links are recorded, else by finished messages."""
        return self._flows.moved_bytes(self.env.now)

    def links_table(self) -> Columns:
        """Return the table of links until now; raise ClusterSimError if links are not recorded."""
        if self._log is None:
            raise ClusterSimError("links are not recorded; give the fabric a LinkRecord")
        return self._log.table(self.topology, self.env.now)

    def _enter(self, message: _Message, number: int) -> None:
        self._messages[number] = message
        self._ask()

    def _ask(self) -> None:
        """Have everything that happens at this instant solved together."""
        if not self._asked:
            self._asked = True
            self._later(0.0, self._flush)

    def _flush(self, _: simpy.Event) -> None:
        self._asked = False
        self._update(self.env.now)

    def _update(self, now_s: float) -> None:
        if self._log is not None:
            self._log.before(now_s)
        ended = self._flows.update(now_s)
        if self._log is not None:
            self._log.after(now_s)
        for number in ended:
            message = self._messages.pop(number)
            message.left -= 1
            if message.left == 0:
                self._arrive(message.event, message.latency_s)
        self._set_timer()

    def _set_timer(self) -> None:
        """Keep one timer pending; one that comes too early is set anew when it does."""
        next_s = self._flows.next_s
        if next_s < min(self._timer_s, NEVER):
            self._timer += 1
            self._timer_s = next_s
            self._later(next_s - self.env.now, partial(self._tick, self._timer))

    def _tick(self, number: int, _: simpy.Event) -> None:
        if number != self._timer:
            return
        due_s, self._timer_s = self._timer_s, NEVER
        if self._flows.next_s <= due_s:
            self._update(max(self.env.now, due_s))
        else:
            self._set_timer()


class Flow(Fluid):
    """Messages share links, and every queue pair between two endpoints is a flow with a path of its own.

    Where a flow is spread over paths that no bundles stand for, a message stays one activity.
    """

    def transfer(self, source: int, target: int, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        """Send over every queue pair; the event succeeds when the last of them is done."""
        if not self._splits:
            return super().transfer(source, target, size_bytes, terms)
        paths, shares = self._paths(Traffic.of(source, target))
        latency_s = float(path_latency_s(self.topology, paths).max())
        message = _Message(self.env.event(), latency_s)
        return self._start(paths, shares, message, (size_bytes, terms))

    def collective(self, load: LinkLoad, size_bytes: float, terms: Terms = EQUAL) -> simpy.Event:
        """Start a flow for every queue pair of every pair of endpoints; a load without pairs is one."""
        if load.traffic is None or not self._splits:
            return super().collective(load, size_bytes, terms)
        paths, shares = self._paths(load.traffic)
        terms = Terms(terms.weight, min(terms.cap_bytes_per_s, load.cap_bytes_per_s), terms.priority)
        message = _Message(self.env.event(), load.latency_s)
        return self._start(paths, shares, message, (size_bytes, terms))

    @property
    def _splits(self) -> bool:
        return self.topology.routing.paths in self.topology.wiring.modes

    def _paths(self, traffic: Traffic) -> tuple[Array, Array]:
        """Return the paths of all queue pairs that leave their endpoint, and the share of bytes of each."""
        pairs = queue_pairs(self.topology)
        owner, number = np.divmod(np.arange(len(traffic.source) * pairs), pairs)
        paths = routes(self.topology, traffic.source[owner], traffic.target[owner], self._sent + number)
        self._sent += pairs
        moving = (paths >= 0).any(axis=1)
        return paths[moving], (traffic.share[owner] / pairs)[moving]

    def _start(self, paths: Array, shares: Array, message: _Message, job: tuple[float, Terms]) -> simpy.Event:
        """Start the flows of a message, each with its share of the bytes and of the highest speed."""
        size_bytes, terms = job
        message.left = len(paths)
        if not len(paths):
            self._arrive(message.event, message.latency_s)
            return message.event
        caps = shares * terms.cap_bytes_per_s
        for number in self._flows.add_paths(paths, shares * size_bytes, terms, caps).tolist():
            self._enter(message, number)
        return message.event


_KINDS: Final = {"analytic": Analytic, "fluid": Fluid, "flow": Flow}


def fabric(env: simpy.Environment, topology: Topology, fidelity: Fidelity = "fluid") -> Fabric:
    """Return the fabric of a topology at a fidelity: analytic, fluid or flow."""
    if fidelity not in _KINDS:
        raise ClusterSimError(f"unknown fidelity {fidelity!r}; {choices(fidelity, _KINDS)}")
    made: Fabric = _KINDS[fidelity](env, topology)
    return made
