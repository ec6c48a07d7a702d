"""Hold a shape of arrivals to its rules, at random times. Needs no engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from clustersim.check.rules import Findings
from clustersim.check.scenes import Scene
from clustersim.check.trial import BrokenRuleError, Trial
from clustersim.policies import ArrivalShape
from clustersim.rng import Streams

_SHAPES = ((), (1,), (7,), (0,), (3, 4), (200,))


def check_arrival(policy: ArrivalShape, scene: Scene, findings: Findings) -> None:
    """Ask *policy* for rates at the times that go with *scene*, and add what it breaks to *findings*."""
    rng = Streams(scene.number).get("check", "times")
    shape = _SHAPES[scene.number % len(_SHAPES)]
    t_s = np.asarray(rng.uniform(0.0, rng.choice([1.0, 600.0, 200_000.0]), shape))
    where = f"{t_s.size} times in shape {shape}, up to {t_s.max(initial=0.0):.6g} s"
    trial = Trial(policy, "rate", findings, f"scene {scene.number}")
    kept = t_s.copy()
    try:
        rate = trial.ask(lambda: policy.rate(t_s), _key, where)
        if not np.array_equal(kept, t_s):
            raise trial.broken("read-only", where, "changed the times that it was given")
        for rule, detail in _broken(rate, t_s):
            raise trial.broken(rule, where, detail)
        _check_each_time(policy, trial, (t_s, np.asarray(rate)), where)
    except BrokenRuleError:
        return


def _key(rate: Any) -> object:
    array = np.asarray(rate)
    if array.dtype.kind not in "fiu":
        return repr(rate)
    return f"{array.ravel()[:4].tolist()} ... (sum {array.sum()!r})"


def _broken(rate: Any, t_s: np.ndarray) -> Iterator[tuple[str, str]]:
    array = np.asarray(rate)
    if array.shape != t_s.shape:
        yield "shape", f"returned shape {array.shape} for times of shape {t_s.shape}"
    elif array.dtype.kind not in "fiu":
        yield "rate", f"returned {array.dtype} where numbers are due"
    elif not (np.isfinite(array).all() and (array >= 0).all()):
        worst = int(np.argmin(np.where(np.isfinite(array), array, -np.inf)))
        yield "rate", f"returned {array.ravel()[worst]} /s at {t_s.ravel()[worst]:.6g} s"


def _check_each_time(
    policy: ArrivalShape, trial: Trial, asked: tuple[np.ndarray, np.ndarray], where: str
) -> None:
    """Ask for a single time: its rate must be what it was among the others."""
    t_s, rate = asked
    if t_s.size < 2:
        return
    index = int(np.argmin(t_s))
    alone = np.asarray(policy.rate(t_s.ravel()[index : index + 1])).ravel()
    if not np.allclose(alone, rate.ravel()[index], rtol=1e-9):
        told = f"{rate.ravel()[index]} /s at {t_s.ravel()[index]:.6g} s among others, {alone[0]} /s alone"
        trial.note("pointwise", where, f"returned {told}")
