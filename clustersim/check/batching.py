"""Hold a batching policy to its rules, at the decisions of small simulations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from pydantic import PrivateAttr

from clustersim.check.rules import Findings
from clustersim.check.scenes import Scene
from clustersim.check.trial import Trial, compare
from clustersim.policies import ALL, BatchingPolicy, ReplicaView, RequestView, Step, blocks_for
from clustersim.policies.admission import Always
from clustersim.policies.routing import LeastOutstanding
from clustersim.sim.serving.fleet import Fleet, is_compiled

ASKS_PER_TOKEN: Final = 10
"""A load of so many tokens is given up after so many times as many decisions."""

Broken = tuple[str, str]


def check_batching(policy: BatchingPolicy, scene: Scene, findings: Findings) -> None:
    """Run *scene* under *policy*, and add what it breaks to *findings*."""
    trial = Trial(policy, "next_step", findings, scene)
    most = ASKS_PER_TOKEN * scene.tokens + 100
    stepped = _run(scene, _in_place_of(policy, _Audited, trial, most), trial, leap=False)
    if stepped is None or findings:
        return
    if is_compiled(policy):
        single = _run(scene, policy, trial, leap=False)
        compare("leap", single, _run(scene, policy, trial, leap=True), trial)
        compare("rules", stepped, single, trial)
        return
    again = Trial(policy, "next_step", findings, scene)
    leaped = _run(scene, _in_place_of(policy, _Watched, again, most), again, leap=True)
    compare("leap", stepped, leaped, trial)


def _run(scene: Scene, policy: BatchingPolicy, trial: Trial, leap: bool) -> Fleet | None:
    return trial.run(lambda: scene.fleet(policy, LeastOutstanding(), Always(), leap))


# -- a policy that is watched ------------------------------------------------------------------------


class _Watched(BatchingPolicy):
    """Stands before the policy on trial: asks it, and hands on its answer."""

    _policy: BatchingPolicy = PrivateAttr()
    _trial: Trial = PrivateAttr()
    _most: int = PrivateAttr()

    def next_step(self, view: ReplicaView) -> Step:
        self._trial.asked += 1
        self._give_up(view)
        return self._policy.next_step(view)

    def _give_up(self, view: ReplicaView) -> None:
        if self._trial.asked > self._most:
            raise self._trial.broken("ends", _where(view), f"decided {self._most} times in vain")


class _Audited(_Watched):
    """Checks each answer before the engine acts on it."""

    def next_step(self, view: ReplicaView) -> Step:
        self._give_up(view)
        where = _where(view)
        step: Step = self._trial.ask(lambda: self._policy.next_step(view), _key, where)
        for rule, detail in broken(step, view, self.reserves_limit):
            raise self._trial.broken(rule, where, detail)
        return step


def _in_place_of(policy: BatchingPolicy, watched: type[_Watched], trial: Trial, most: int) -> _Watched:
    """Return a *watched* policy that bears the name of *policy* and the attributes that the engine reads."""
    made: _Watched = type(type(policy).__name__, (watched,), {"__module__": __name__})()
    made._policy, made._trial, made._most = policy, trial, most
    for name in ("every_iteration", "reserves_limit", "holds_batch"):
        object.__setattr__(made, name, getattr(policy, name))
    return made


def _where(view: ReplicaView) -> str:
    queues = [f"{len(getattr(view, name))} {name}" for name in ("waiting", "prefilling", "running", "paused")]
    return (
        f"replica {view.index} at {view.now_s:.4g} s: {', '.join(queues)}, "
        f"{view.free_kv_blocks} of {view.total_kv_blocks} blocks free"
    )


def _key(step: Any) -> object:
    """Return what makes two steps equal, readable."""
    if not isinstance(step, Step):
        return repr(step)
    prefill = {getattr(seq, "id", seq): tokens for seq, tokens in step.prefill.items()}
    decode = "ALL" if step.decode is ALL else [getattr(seq, "id", seq) for seq in step.decode]
    told = f"prefill {prefill}, decode {decode}"
    told += f", preempt {[getattr(seq, 'id', seq) for seq in step.preempt]}" if step.preempt else ""
    return told + (f", passes {step.passes}" if step.passes else "")


# -- the rules of a step -----------------------------------------------------------------------------


def broken(step: Any, view: ReplicaView, reserves: bool) -> Iterator[Broken]:
    """Yield the rules that *step* breaks in answer to *view*, with what is wrong."""
    if not isinstance(step, Step):
        yield "answer", f"returned {step!r}, which is no Step"
        return
    if not isinstance(step.passes, int) or step.passes < 0:
        yield "answer", f"returned passes = {step.passes!r}; allowed: whole numbers from 0"
    try:
        yield from _of_prefill(step, view)
        yield from _of_decode(step, view)
        yield from _of_preempt(step, view)
        yield from _of_memory(step, view, reserves)
        yield from _of_idling(step, view)
    except (AttributeError, TypeError) as error:
        yield "answer", f"returned a Step that cannot be read: {error}"


def _of_prefill(step: Step, view: ReplicaView) -> Iterator[Broken]:
    here = {seq.id for seq in (*view.waiting, *view.prefilling)}
    for seq, tokens in step.prefill.items():
        if seq.id not in here:
            yield "prefill", f"prefilled request {seq.id}, which does not wait"
        elif not min(1, seq.prefill_left) <= tokens <= seq.prefill_left:
            yield "prompt", f"prefilled {tokens} tokens of request {seq.id}, {seq.prefill_left} are left"
        elif not isinstance(tokens, (int, np.integer)):
            yield "answer", f"prefilled {tokens!r} tokens of request {seq.id}, which is no whole number"


def _of_decode(step: Step, view: ReplicaView) -> Iterator[Broken]:
    if step.decode is ALL:
        return
    back = [seq.id for seq, tokens in step.prefill.items() if tokens == 0]
    here = {seq.id for seq in (*view.running, *view.paused)}.union(back)
    seen: set[int] = set()
    for seq in step.decode:
        if seq.id not in here:
            yield "decode", f"decoded request {seq.id}, which does not run"
        if seq.id in seen:
            yield "decode", f"decoded request {seq.id} twice"
        seen.add(seq.id)


def _of_preempt(step: Step, view: ReplicaView) -> Iterator[Broken]:
    holders = {seq.id for seq in (*view.running, *view.prefilling, *view.paused)}
    for seq in step.preempt:
        if seq.id not in holders:
            yield "preempt", f"preempted request {seq.id}, which holds no cache or was preempted already"
        holders.discard(seq.id)


def _of_memory(step: Step, view: ReplicaView, reserves: bool) -> Iterator[Broken]:
    """Add up blocks as the engine does: preempt, swap in, keep the batch's next tokens, admit."""
    gone = {seq.id for seq in step.preempt}
    started = gone.union(seq.id for seq in view.prefilling)
    new = [seq for seq in step.prefill if seq.id not in started]
    free = view.free_kv_blocks + sum(_blocks(seq, view, reserves) for seq in step.preempt)
    for seq in new:
        if seq.prefill_left == 0:
            need = _blocks(seq, view, reserves, and_token=1)
            if need > free:
                yield "memory", f"brought back request {seq.id}, which needs {need} blocks; {free} are free"
            free -= _blocks(seq, view, reserves)
    batch = [seq for seq in _batch(step, view) if seq.id not in gone]
    free -= 0 if reserves else sum(seq.context_tokens % view.block_tokens == 0 for seq in batch)
    for seq in new:
        if seq.prefill_left > 0:
            need = _blocks(seq, view, reserves)
            if need > free:
                left = f"{max(0, free)} are free and not for the batch's next tokens"
                yield "memory", f"admitted request {seq.id}, which needs {need} blocks; {left}"
            free -= need


def _blocks(seq: RequestView, view: ReplicaView, reserves: bool, and_token: int = 0) -> int:
    """Return the blocks that *seq* holds, or takes when it is admitted."""
    if reserves:
        return blocks_for(seq.prompt_tokens + seq.limit_tokens, view.block_tokens)
    return blocks_for(seq.context_tokens + seq.prefill_left + and_token, view.block_tokens)


def _batch(step: Step, view: ReplicaView) -> list[RequestView]:
    """Return who decodes."""
    back = [seq for seq, tokens in step.prefill.items() if tokens == 0]
    if step.decode is ALL:
        return [*view.running, *view.paused, *back]
    named = list(step.decode)
    if not named and any(step.prefill.values()):
        return []
    return list({seq.id: seq for seq in (*named, *back)}.values())


def _of_idling(step: Step, view: ReplicaView) -> Iterator[Broken]:
    if any(step.prefill.values()) or _batch(step, view):
        return
    for name in ("running", "paused", "prefilling", "waiting"):
        if (count := len(getattr(view, name))) > 0:
            yield "idle", f"computed nothing while {count} {'was' if count == 1 else 'were'} {name}"
            return
