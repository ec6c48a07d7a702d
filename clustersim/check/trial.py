"""Ask a policy more than once, and watch what it does to what it was shown.

Each decision is asked for three times: twice as it is, and once with other futures: other output
lengths and other later arrivals behind the same view. A policy that answers differently has seen what
it may not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from clustersim.check.rules import Findings
from clustersim.check.scenes import run
from clustersim.errors import ClusterSimError, PolicyError, StalledError
from clustersim.policies import Policy
from clustersim.sim.serving import state
from clustersim.sim.serving.fleet import Fleet

T = TypeVar("T")

SAME: Final = 1e-9
"""Relative difference up to which two times are the same."""


class BrokenRuleError(ClusterSimError):
    """Ends a scene whose policy was found to break a rule."""


class Trial:
    """One policy on trial in one scene."""

    def __init__(self, policy: Policy, method: str, findings: Findings, scene: object):
        self.policy, self.method, self.findings, self.scene = policy, method, findings, scene
        self.fleet: Fleet | None = None
        self.asked = 0

    def ask(self, call: Callable[[], T], key: Callable[[T], object], where: str) -> T:
        """Return the answer of *call*; what makes two answers equal is their *key*.

        Raises BrokenRuleError if the policy raised, or changed anything.
        """
        self.asked += 1
        before = self._shown()
        answer = self._call(call, where)
        if self._shown() != before:
            raise self.broken("read-only", where, "changed a request, a queue or one of its own fields")
        told = key(answer)
        if key(self._call(call, where)) != told:
            self.note("same", where, f"first answered {told} and then something else")
        elif self.fleet is not None and "same" not in self.findings:
            with _other_future(self.fleet, self.asked % 2):
                other = key(self._call(call, where))
            if other != told:
                self.note("hidden", where, f"answered {told}, and {other} where only the future differed")
        return answer

    def run(self, build: Callable[[], Fleet]) -> Fleet | None:
        """Return a fleet that has served its load; None if a rule was broken on the way."""
        try:
            self.fleet = fleet = build()
            run(fleet)
        except BrokenRuleError:
            return None
        except StalledError as error:
            self.findings.add("ends", self.scene, f"left work undone: {error}")
            return None
        except PolicyError as error:
            self.findings.add("engine", self.scene, f"was refused: {error}")
            return None
        return fleet

    def note(self, rule: str, where: str, detail: str) -> None:
        """Note a broken rule."""
        self.findings.add(rule, f"{self.scene}, {where}", detail)

    def broken(self, rule: str, where: str, detail: str) -> BrokenRuleError:
        """Note a broken rule and return the error that ends the scene."""
        self.note(rule, where, detail)
        return BrokenRuleError(detail)

    def _call(self, call: Callable[[], T], where: str) -> T:
        try:
            return call()
        except Exception as error:
            line = place_of(self.policy, self.method, error)
            raise self.broken("raises", where, f"raised {type(error).__name__}: {error} at {line}") from None

    def _shown(self) -> tuple[object, ...]:
        """Return all that a policy could change, to be compared."""
        own = self.policy.model_dump()
        if self.fleet is None:
            return (own,)
        s, requests = self.fleet.state, self.fleet.requests
        arrays = (s.req, s.req_t, s.ints, s.floats, s.phase, s.rules, s.queue_req)
        loads = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens, requests.limit_tokens)
        queues = [[seq.id for seq in replica.waiting] for replica in self.fleet.asked]
        return own, queues, *(array.tobytes() for array in (*arrays, *loads))


def compare(rule: str, one: Fleet | None, other: Fleet | None, trial: Trial) -> None:
    """Note *rule* as broken if two runs gave a request different times."""
    if one is None or other is None:
        return
    columns = {
        "was admitted": state.ADMITTED_S,
        "got its first token": state.FIRST_S,
        "finished": state.FINISH_S,
    }
    for what, column in columns.items():
        a_s, b_s = one.state.req_t[:, column], other.state.req_t[:, column]
        different = np.flatnonzero(~np.isclose(a_s, b_s, rtol=SAME, atol=SAME, equal_nan=True))
        if len(different):
            req = int(different[0])
            pair = f"request {req} {what} at {a_s[req]:.6g} s, and at {b_s[req]:.6g} s"
            trial.findings.add(rule, trial.scene, _WHY[rule].format(pair))
            return


_TIMES: Final = {
    "was admitted": state.ADMITTED_S,
    "got its first token": state.FIRST_S,
    "finished": state.FINISH_S,
}
_WHY: Final = {
    "leap": "changed its answer unseen: {} with leaps; set Step.passes, or every_iteration = True",
    "rules": "decided otherwise than its rules: {} compiled",
}


def place_of(policy: Policy, method: str, error: BaseException) -> str:
    """Return the file and line of the policy's own file that *error* came through last."""
    code = getattr(type(policy), method).__code__
    path, line = str(policy.source or code.co_filename), code.co_firstlineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{Path(path).name}:{line}"


@contextmanager
def _other_future(fleet: Fleet, parity: int) -> Iterator[None]:
    """Change what no policy may see: how long outputs become, and who arrives later."""
    s, requests = fleet.state, fleet.requests
    hidden: tuple[np.ndarray[Any, Any], ...] = (
        s.req,
        requests.arrival_s,
        requests.prompt_tokens,
        requests.output_tokens,
    )
    kept = [array.copy() for array in hidden]
    for req, row in enumerate(s.req):
        if row[state.STATUS] == state.NEW and requests.arrival_s[req] > fleet.env.now + SAME:
            requests.arrival_s[req] += 1000.0
            requests.prompt_tokens[req] = row[state.PROMPT] = 1
        _give_other_output(fleet, req, parity)
    try:
        yield
    finally:
        for array, copy in zip(hidden, kept, strict=True):
            array[...] = copy


def _give_other_output(fleet: Fleet, req: int, parity: int) -> None:
    """Let a request end with its next token or, every second one, at its client's limit."""
    row = fleet.state.req[req]
    if row[state.STATUS] in (state.FINISHED_STATUS, state.REJECTED, state.HELD):
        return
    made = row[state.GENERATED]
    if row[state.STATUS] == state.RUNNING:
        made = row[state.OUTPUT] - row[state.ALIVE] + fleet.state.ints[row[state.REPLICA], state.IT]
    output = made + 1 if req % 2 == parity else max(made + 1, row[state.LIMIT])
    if row[state.STATUS] == state.RUNNING:
        row[state.ALIVE] += output - row[state.OUTPUT]
    row[state.OUTPUT] = fleet.requests.output_tokens[req] = output
