"""The rules that every policy keeps, and how a broken one is told. Knows no engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SCENES: Final = 60
"""Random scenes of a check, unless it is asked for another number."""

RULES: Final = {
    "raises": "raises nothing",
    "answer": "returns what its contract says",
    "prefill": "prefills only what waits or is partly prefilled",
    "prompt": "prefills at least one token and at most what is left of a prompt; 0 for one swapped out",
    "decode": "decodes only what runs or is paused, each once",
    "preempt": "preempts only what holds a cache, each once",
    "memory": "needs no more cache than is free",
    "idle": "never idles while something could run",
    "same": "gives the same view the same answer",
    "read-only": "changes nothing that it was shown",
    "hidden": "ignores what it may not see",
    "engine": "decides nothing that the engine refuses",
    "ends": "gets every load done",
    "leap": "gives the same times with leaps and with single steps",
    "rules": "decides in Python what its rules decide compiled",
    "shape": "returns one rate for each time",
    "rate": "returns finite rates that are not negative",
    "pointwise": "returns rates that depend on their own time only",
}
"""What a policy is held to, by the name of the rule."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a policy broke, and the first scene that shows it."""

    rule: str
    scene: str
    detail: str

    def __str__(self) -> str:
        return f"broken  {self.rule}: a policy {RULES[self.rule]}; here it {self.detail} ({self.scene})"


_OF_CHANCE: Final = ("hidden", "leap", "rules", "pointwise")
"""Rules that a policy of chance seems to break as well."""


class Findings:
    """What was found so far: of each rule the first finding only."""

    def __init__(self) -> None:
        self._first: dict[str, Finding] = {}

    def __len__(self) -> int:
        return len(self._first)

    def __contains__(self, rule: str) -> bool:
        return rule in self._first

    def add(self, rule: str, scene: object, detail: str) -> None:
        """Note that *rule* was broken."""
        self._first.setdefault(rule, Finding(rule, str(scene), detail))

    def sorted(self) -> list[Finding]:
        """Return the findings in the order of ``RULES``, without those that follow from chance alone."""
        hidden = _OF_CHANCE if "same" in self._first else ()
        return [self._first[rule] for rule in RULES if rule in self._first and rule not in hidden]


def report(findings: Iterable[Finding], scenes: int = SCENES) -> str:
    """Return one line for each finding, or one that says that there is none.

    >>> report([], 20)
    'ok  keeps every rule (20 scenes)'
    """
    lines = [str(finding) for finding in findings]
    return "\n".join(lines) or f"ok  keeps every rule ({scenes} scenes)"
