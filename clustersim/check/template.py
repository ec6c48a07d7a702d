"""Write a policy of one's own to start from, and its test. Writes files; runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clustersim.errors import ClusterSimError, UnknownNameError

BATCHING: Final = '''"""{title}: a batching policy."""

from clustersim.policies import ALL, BatchingPolicy, Step, blocks_for


class {name}(BatchingPolicy):
    """Admit the shortest waiting prompts that fit, whole; decode everything that runs."""

    max_batch: int = 64

    def next_step(self, view):
        step, free = Step(decode=ALL), view.free_kv_tokens // view.block_tokens
        for seq in sorted(view.waiting, key=lambda seq: (seq.prompt_tokens, seq.id)):
            need = blocks_for(seq.prefill_left or seq.context_tokens + 1, view.block_tokens)
            if need > free or len(view.running) + len(step.prefill) >= self.max_batch:
                break
            step.prefill[seq] = seq.prefill_left
            free -= need
        return step
'''
ROUTER: Final = '''"""{title}: a router."""

from clustersim.policies import Router


class {name}(Router):
    """Take the replica with the least work, where a request counts as much as so many prompt tokens."""

    request_tokens: int = 500

    def route(self, request, replicas):
        work = replicas.pending_tokens + self.request_tokens * replicas.outstanding
        return int(work.argmin())
'''
ADMISSION: Final = '''"""{title}: an admission policy."""

from clustersim.policies import Admission, Verdict


class {name}(Admission):
    """Reject a request whose replica has too many prompt tokens to compute."""

    max_pending_tokens: int = 100_000

    def admit(self, request, replicas, replica):
        tokens = replicas.pending_tokens[replica] + request.prompt_tokens
        return Verdict.ADMIT if tokens <= self.max_pending_tokens else Verdict.REJECT
'''
ARRIVAL: Final = '''"""{title}: a shape of arrivals."""

from clustersim.policies import ArrivalShape
from clustersim.units import PerSecond, Seconds


class {name}(ArrivalShape):
    """Grow from nothing to *high* within *ramp*, then stay there."""

    high: PerSecond = 4.0
    ramp: Seconds = 60.0

    def rate(self, t_s):
        return self.high * (t_s / self.ramp).clip(0.0, 1.0)
'''
TEST: Final = '''"""{title} keeps the rules of its sort."""

from pathlib import Path

from clustersim.check import check, report
from clustersim.policies import {base}
from clustersim.policies.registry import find


def test_{module}_keeps_every_rule():
    policy = find({base}, "{file}:{name}", Path(__file__).parent)()
    assert not (findings := check(policy)), report(findings)
'''


@dataclass(frozen=True, slots=True)
class Template:
    """The text of a policy, and the name of its base class."""

    text: str
    base: str


TEMPLATES: Final = {
    "batching": Template(BATCHING, "BatchingPolicy"),
    "router": Template(ROUTER, "Router"),
    "admission": Template(ADMISSION, "Admission"),
    "arrival": Template(ARRIVAL, "ArrivalShape"),
}


def write(sort: str, path: Path) -> list[Path]:
    """Write a policy of *sort* into *path* and a test beside it, and return both paths.

    Raises ClusterSimError where a file is there already, or its name cannot name a class.
    """
    if sort not in TEMPLATES:
        raise UnknownNameError("sort of policy", sort, TEMPLATES)
    words = {
        "title": path.stem.replace("_", " ").capitalize(),
        "name": class_name(path),
        "base": TEMPLATES[sort].base,
        "module": path.stem,
        "file": path.name,
    }
    test = path.with_name(f"test_{path.name}")
    for target in (path, test):
        if target.exists():
            raise ClusterSimError(f"{target} is there already; choose another name, or move it away")
    _write(path, TEMPLATES[sort].text.format(**words))
    _write(test, TEST.format(**words))
    return [path, test]


def class_name(path: Path) -> str:
    """Return the name of the class in a policy file.

    >>> class_name(Path("my_shortest_first.py"))
    'MyShortestFirst'
    """
    name = "".join(word[:1].upper() + word[1:] for word in path.stem.split("_"))
    if path.suffix != ".py" or not path.stem.isidentifier() or not name.isidentifier():
        raise ClusterSimError(
            f"{path.name!r} cannot hold a policy; allowed: a Python file of letters, digits and _, "
            "such as my_policy.py"
        )
    return name


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClusterSimError(f"{path}: cannot be written: {error.strerror}") from None
