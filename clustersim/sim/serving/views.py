"""What policies written in Python are shown: thin read-only windows on the arrays of the core."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np

from clustersim.sim.serving import drive, state
from clustersim.sim.serving.state import State
from clustersim.workload import Requests

_HAS_PROMPT_LEFT = (state.WAITING, state.PREFILLING)
_DECODES = (state.RUNNING, state.HELD)
_KEEPS_CACHE = (state.PREFILLING, state.PAUSED, state.SWAPPED_OUT)


class Owner(Protocol):
    """Whoever holds the arrays that a request stands in."""

    @property
    def state(self) -> State: ...
    @property
    def requests(self) -> Requests: ...


class Request:
    """A request as policies see it; equal to another only if it is the same."""

    __slots__ = ("_owner", "id")

    def __init__(self, owner: Owner, request: int):
        self._owner, self.id = owner, request

    def __repr__(self) -> str:
        return f"request {self.id}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    @property
    def _row(self) -> Any:
        return self._owner.state.req[self.id]

    @property
    def _passes(self) -> int:
        return int(self._owner.state.ints[self._row[state.REPLICA], state.IT])

    @property
    def arrival_s(self) -> float:
        return float(self._owner.requests.arrival_s[self.id])

    @property
    def prompt_tokens(self) -> int:
        return int(self._owner.state.req[self.id, state.PROMPT])

    @property
    def limit_tokens(self) -> int:
        return int(self._owner.state.req[self.id, state.LIMIT])

    @property
    def prefill_left(self) -> int:
        row = self._row
        if row[state.STATUS] == state.NEW:
            return self.prompt_tokens
        return int(row[state.TARGET] - row[state.DONE]) if row[state.STATUS] in _HAS_PROMPT_LEFT else 0

    @property
    def generated_tokens(self) -> int:
        row = self._row
        if row[state.STATUS] == state.RUNNING:
            return int(row[state.OUTPUT] - row[state.ALIVE] + self._passes)
        return int(row[state.GENERATED])

    @property
    def context_tokens(self) -> int:
        row = self._row
        if row[state.STATUS] in _DECODES:
            return int(row[state.OFFSET] + self._passes)
        return int(row[state.DONE]) if row[state.STATUS] in _KEEPS_CACHE else 0

    @property
    def last_token_s(self) -> float:
        if self._row[state.STATUS] == state.RUNNING:
            return float(self._owner.state.floats[self._row[state.REPLICA], state.SYNC])
        last_s = float(self._owner.state.req_t[self.id, state.LAST_S])
        return self.arrival_s if math.isnan(last_s) else last_s

    @property
    def tenant(self) -> str:
        names = self._owner.requests.tenant
        return names[self.id] if names is not None else ""

    @property
    def random(self) -> tuple[float, float]:
        first, second = self._owner.state.req_t[self.id, state.COIN : state.COIN + 2].tolist()
        return first, second


class Listed(Sequence[Request]):
    """Requests in one of a replica's lists; its length is known without a walk through it."""

    __slots__ = ("_head", "_owner", "_replica", "_size")

    def __init__(self, owner: Owner, replica: int, head: int, size: int):
        self._owner, self._replica, self._head, self._size = owner, replica, head, size

    def __len__(self) -> int:
        return int(self._owner.state.ints[self._replica, self._size])

    def __iter__(self) -> Iterator[Request]:
        fleet_state = self._owner.state
        req = int(fleet_state.ints[self._replica, self._head])
        while req >= 0:
            after = int(fleet_state.req[req, state.AFTER])
            yield Request(self._owner, req)
            req = after

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        return list(self)[index]

    def __repr__(self) -> str:
        return repr(list(self))


class Columns:
    """The replicas of a fleet as columns, for routers and admission policies written in Python."""

    def __init__(self, fleet_state: State):
        self.state = fleet_state
        self.now_s = 0.0

    @property
    def count(self) -> int:
        return int(self.state.ints.shape[0])

    @property
    def outstanding(self) -> np.ndarray[Any, Any]:
        return self.state.ints[:, state.OUTSTANDING].copy()

    @property
    def waiting(self) -> np.ndarray[Any, Any]:
        return self.state.ints[:, state.WAIT].copy()

    @property
    def pending_tokens(self) -> np.ndarray[Any, Any]:
        return self.state.ints[:, state.PENDING].copy()

    @property
    def kv_blocks(self) -> np.ndarray[Any, Any]:
        return np.array([drive.look(self.state, r, -1, self.now_s) for r in range(self.count)])
