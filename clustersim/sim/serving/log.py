"""What a fleet did, gathered from the core's buffers into the columns of the result tables."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from clustersim.record.tables import EVENTS, ITERATIONS, TOKEN_GAPS, Table
from clustersim.sim.serving import state
from clustersim.sim.serving.state import State

Columns = dict[str, np.ndarray[Any, Any]]

_EVENT_KINDS: Final = np.array(["preempt", "swap_out", "swap_in", "reject"], dtype=object)


class Log:
    """Empties the buffers of a fleet and returns them as columns at the end."""

    def __init__(self, fleet_state: State):
        self.state = fleet_state
        self._chunks: dict[str, list[Columns]] = {"iterations": [], "token_gaps": []}
        self._events: list[np.ndarray[Any, Any]] = []

    def flush(self) -> None:
        """Empty the buffers."""
        s = self.state
        for table, buffer, count in (
            (ITERATIONS, s.rows, state.ROWS),
            (TOKEN_GAPS, s.gaps, state.GAPS),
        ):
            if s.fleet[count]:
                self._chunks[table.name].append(_typed(table, buffer[: s.fleet[count]]))
                s.fleet[count] = 0
        if s.fleet[state.EVENTS]:
            self._events.append(s.events[: s.fleet[state.EVENTS]].copy())
            s.fleet[state.EVENTS] = 0

    def iterations(self) -> Columns:
        """Return the table of iterations, by replica and time of their end."""
        return self._joined(ITERATIONS)

    def token_gaps(self) -> Columns:
        """Return the table of token gaps."""
        return self._joined(TOKEN_GAPS)

    def events(self) -> Columns:
        """Return the table of events, by time."""
        rows = np.concatenate(self._events) if self._events else np.zeros((0, state.EVENT_SIZE))
        rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
        subjects = [f"request {int(req)}" for req in rows[:, 2]]
        details = [f'{{"replica": {int(r)}}}' for r in rows[:, 3]]
        columns = (_EVENT_KINDS[rows[:, 1].astype(int)], subjects, details)
        named = dict(zip(EVENTS.names[1:], (np.asarray(c, dtype=object) for c in columns), strict=True))
        return {"t_s": rows[:, 0], **named}

    def _joined(self, table: Table) -> Columns:
        chunks = self._chunks[table.name]
        if not chunks:
            return {c.name: np.zeros(0, c.dtype) for c in table.columns}
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in table.names}


def _typed(table: Table, rows: np.ndarray[Any, Any]) -> Columns:
    return {column.name: rows[:, j].astype(column.dtype) for j, column in enumerate(table.columns)}
