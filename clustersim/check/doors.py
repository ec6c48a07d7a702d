"""Hold routers and admission policies to their rules, at the arrivals of small simulations."""

from __future__ import annotations

import numpy as np
from pydantic import PrivateAttr

from clustersim.check.rules import Findings
from clustersim.check.scenes import Scene
from clustersim.check.trial import Trial, compare
from clustersim.policies import Admission, FleetView, RequestView, Router, RuleRouter, Verdict
from clustersim.policies.admission import Always
from clustersim.policies.batching import Chunked
from clustersim.policies.routing import LeastOutstanding
from clustersim.sim.serving.fleet import Fleet


def check_router(policy: Router, scene: Scene, findings: Findings) -> None:
    """Run *scene* under *policy*, and add what it breaks to *findings*."""
    trial = Trial(policy, "route", findings, scene)
    watched = _WatchedRouter()
    watched._policy, watched._trial = policy, trial
    stepped = _run(scene, trial, (watched, Always()), leap=False)
    if stepped is not None and not findings:
        leaped = _run(scene, trial, (policy, Always()), leap=True)
        rule = "rules" if type(policy).route is RuleRouter.route else "leap"
        compare(rule, stepped, leaped, trial)


def check_admission(policy: Admission, scene: Scene, findings: Findings) -> None:
    """Run *scene* under *policy*, and add what it breaks to *findings*."""
    trial = Trial(policy, "admit", findings, scene)
    watched = _WatchedAdmission()
    watched._policy, watched._trial = policy, trial
    stepped = _run(scene, trial, (LeastOutstanding(), watched), leap=False)
    if stepped is not None and not findings:
        leaped = _run(scene, trial, (LeastOutstanding(), policy), leap=True)
        compare("leap", stepped, leaped, trial)


def _run(scene: Scene, trial: Trial, doors: tuple[Router, Admission], leap: bool) -> Fleet | None:
    return trial.run(lambda: scene.fleet(Chunked(max_batch=4, token_budget=64), *doors, leap))


class _WatchedRouter(Router):
    """Stands before the router on trial."""

    _policy: Router = PrivateAttr()
    _trial: Trial = PrivateAttr()

    def route(self, request: RequestView, replicas: FleetView) -> int:
        trial, where = self._trial, f"arrival of request {request.id} at {request.arrival_s:.4g} s"
        answer = trial.ask(lambda: self._policy.route(request, replicas), repr, where)
        if not isinstance(answer, (int, np.integer)) or not 0 <= answer < replicas.count:
            allowed = f"allowed: 0 to {replicas.count - 1}"
            raise trial.broken("answer", where, f"returned {answer!r}; {allowed}")
        return int(answer)


class _WatchedAdmission(Admission):
    """Stands before the admission policy on trial."""

    _policy: Admission = PrivateAttr()
    _trial: Trial = PrivateAttr()

    def admit(self, request: RequestView, replicas: FleetView, replica: int) -> Verdict:
        trial, where = self._trial, f"arrival of request {request.id} at {request.arrival_s:.4g} s"
        answer = trial.ask(lambda: self._policy.admit(request, replicas, replica), repr, where)
        if not isinstance(answer, Verdict):
            raise trial.broken("answer", where, f"returned {answer!r}, which is no Verdict")
        return answer
