"""Policies that break their contract, each in one way, and the rule that each must be caught by."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from clustersim.policies import (
    ALL,
    Admission,
    ArrivalShape,
    BatchingPolicy,
    Router,
    RuleRouter,
    Step,
    Verdict,
    blocks_for,
)
from clustersim.policies.batching import Chunked, PrefillFirst
from clustersim.sim.serving import state


class Sound(BatchingPolicy):
    """Whole prompts as long as they fit, and everything decodes: keeps every rule."""

    def order(self, view: Any) -> list[Any]:
        return list(view.waiting)

    def next_step(self, view: Any) -> Step:
        step, free = Step(decode=ALL), view.free_kv_blocks - view.decode_blocks
        for seq in self.order(view):
            need = blocks_for(seq.prefill_left or seq.context_tokens + 1, view.block_tokens)
            if need > free:
                break
            step.prefill[seq] = seq.prefill_left
            free -= need
        return step


class ReturnsNothing(Sound):
    breaks: ClassVar[str] = "answer"

    def next_step(self, view: Any) -> Any:
        return None if view.running else super().next_step(view)


class CountsInFloats(Sound):
    breaks: ClassVar[str] = "answer"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        return Step({seq: tokens / 1 for seq, tokens in step.prefill.items()}, step.decode)


class Raises(Sound):
    breaks: ClassVar[str] = "raises"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        oldest = view.waiting[0]
        return step if oldest else Step()


class PrefillsWhatRuns(Sound):
    breaks: ClassVar[str] = "prefill"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        for seq in view.running:
            step.prefill[seq] = seq.prompt_tokens
        return step


class PrefillsTooMuch(Sound):
    """Forgets that a recomputed or swapped prompt has another length left than its own."""

    breaks: ClassVar[str] = "prompt"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        return Step({seq: seq.prompt_tokens + seq.generated_tokens for seq in step.prefill}, step.decode)


class PrefillsNothing(Sound):
    breaks: ClassVar[str] = "prompt"

    def next_step(self, view: Any) -> Step:
        return Step(dict.fromkeys(super().next_step(view).prefill, 0), ALL)


class DecodesOneTwice(Sound):
    breaks: ClassVar[str] = "decode"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        everyone = [*view.running, *view.paused]
        step.decode = [*everyone, *everyone[:1]]
        return step


class DecodesWhatWaits(Sound):
    breaks: ClassVar[str] = "decode"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        step.decode = [*view.running, *view.waiting]
        return step


class PreemptsWhatWaits(Sound):
    breaks: ClassVar[str] = "preempt"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        step.preempt = list(view.waiting)
        return step


class OverAllocates(Sound):
    """Admits everything that waits, whatever is free."""

    breaks: ClassVar[str] = "memory"

    def next_step(self, view: Any) -> Step:
        return Step({seq: seq.prefill_left for seq in view.waiting}, ALL)


class TakesTheLastBlock(Sound):
    """Forgets the blocks that the batch takes in this very pass."""

    breaks: ClassVar[str] = "memory"

    def next_step(self, view: Any) -> Step:
        step, free = Step(decode=ALL), view.free_kv_blocks
        for seq in view.waiting:
            need = blocks_for(seq.prefill_left or seq.context_tokens + 1, view.block_tokens)
            if need <= free:
                step.prefill[seq] = seq.prefill_left
                free -= need
        return step


class Idles(Sound):
    """Waits for a second request before it starts the first."""

    breaks: ClassVar[str] = "idle"

    def next_step(self, view: Any) -> Step:
        return super().next_step(view) if view.running or len(view.waiting) > 1 else Step()


class ForgetsThePrefilled(Sound):
    """Starts prompts in halves and never comes back to them."""

    breaks: ClassVar[str] = "idle"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        return Step({seq: -(-tokens // 2) for seq, tokens in step.prefill.items()}, ALL)


class TossesCoins(Sound):
    breaks: ClassVar[str] = "same"
    _luck: Any = PrivateAttr(default_factory=lambda: np.random.default_rng(0))

    def order(self, view: Any) -> list[Any]:
        return sorted(view.waiting, key=lambda seq: self._luck.random())


class TakesFromTheQueue(Sound):
    breaks: ClassVar[str] = "read-only"

    def next_step(self, view: Any) -> Step:
        step = super().next_step(view)
        for seq in step.prefill:
            view.waiting.remove(seq)
        return step


class HelpsItselfToBlocks(Sound):
    breaks: ClassVar[str] = "read-only"

    def next_step(self, view: Any) -> Step:
        view.fleet.state.ints[view.index, state.FREE] += 1
        return super().next_step(view)


class Remembers(Sound):
    """Keeps what it saw in a field of its own."""

    breaks: ClassVar[str] = "read-only"
    seen: list[int] = Field([])

    def next_step(self, view: Any) -> Step:
        self.seen.extend(seq.id for seq in view.waiting)
        return super().next_step(view)


class PeeksAtOutputs(Sound):
    """Shortest answer first: nobody knows that."""

    breaks: ClassVar[str] = "hidden"

    def order(self, view: Any) -> list[Any]:
        return sorted(view.waiting, key=lambda seq: seq._owner.state.req[seq.id, state.OUTPUT])


class PeeksAtTheLoad(Sound):
    """The same through the load, by which engines of other policies were fooled before."""

    breaks: ClassVar[str] = "hidden"

    def order(self, view: Any) -> list[Any]:
        return sorted(view.waiting, key=lambda seq: view.fleet.requests.output_tokens[seq.id])


class PeeksAtArrivals(Sound):
    """Waits with long prompts while another request is about to arrive."""

    breaks: ClassVar[str] = "hidden"

    def order(self, view: Any) -> list[Any]:
        arrival_s = view.fleet.requests.arrival_s
        soon = np.count_nonzero((arrival_s > view.now_s) & (arrival_s < view.now_s + 0.1))
        return sorted(view.waiting, key=lambda seq: seq.prompt_tokens if soon else -seq.prompt_tokens)


class ThinksOfTheTime(Sound):
    """Preempts at a time of its own, and says nothing of it."""

    breaks: ClassVar[str] = "leap"

    def next_step(self, view: Any) -> Step:
        oldest = min([*view.running, *view.paused], key=lambda seq: seq.id, default=None)
        if oldest is None or oldest.generated_tokens % 7 != 3:
            return super().next_step(view)
        return Step(decode=[oldest])


class RunsInCircles(Sound):
    """Begins one prompt, drops it for another, and so on."""

    breaks: ClassVar[str] = "ends"

    def next_step(self, view: Any) -> Step:
        if view.prefilling:
            other = view.waiting[0] if view.waiting else view.prefilling[0]
            return Step({other: 1}, (), list(view.prefilling))
        if view.waiting and view.waiting[0].prefill_left > 1 and not view.running:
            return Step({view.waiting[0]: 1})
        return super().next_step(view)


class HoldsUnreserved(Sound):
    breaks: ClassVar[str] = "engine"
    holds_batch: ClassVar[bool] = True


class KeyThatMoves(Chunked):
    """Sends the preempted to the end of the queue; compiled, keys are asked once, on arrival."""

    breaks: ClassVar[str] = "rules"

    def key(self, request: Any) -> float:
        return float(request.id) + 1000.0 * (request.generated_tokens > 0)


class NoBudget(PrefillFirst):
    """Cannot admit anybody."""

    breaks: ClassVar[str] = "idle"

    def rules(self) -> Any:
        rules = super().rules()
        return type(rules)(0, rules.token_budget, rules.mixed, rules.chunked, rules.refill_below)


BATCHING = (
    ReturnsNothing,
    CountsInFloats,
    Raises,
    PrefillsWhatRuns,
    PrefillsTooMuch,
    PrefillsNothing,
    DecodesOneTwice,
    DecodesWhatWaits,
    PreemptsWhatWaits,
    OverAllocates,
    TakesTheLastBlock,
    Idles,
    ForgetsThePrefilled,
    TossesCoins,
    TakesFromTheQueue,
    HelpsItselfToBlocks,
    Remembers,
    PeeksAtOutputs,
    PeeksAtTheLoad,
    PeeksAtArrivals,
    ThinksOfTheTime,
    RunsInCircles,
    HoldsUnreserved,
    KeyThatMoves,
    NoBudget,
)
"""Broken batching policies."""


class RoutesTooFar(Router):
    breaks: ClassVar[str] = "answer"

    def route(self, request: Any, replicas: Any) -> int:
        return int(request.id % (replicas.count + 1))


class RoutesByName(Router):
    breaks: ClassVar[str] = "answer"

    def route(self, request: Any, replicas: Any) -> Any:
        return "replica 0"


class RoutesInTurns(Router):
    """Counts for itself: two runs, or two questions, and the turn has moved on."""

    breaks: ClassVar[str] = "same"
    _next: int = 0

    def route(self, request: Any, replicas: Any) -> int:
        self._next += 1
        return self._next % (replicas.count + 1) % replicas.count


class RoutesByOutput(Router):
    breaks: ClassVar[str] = "hidden"

    def route(self, request: Any, replicas: Any) -> int:
        return int(request._owner.requests.output_tokens[request.id] % replicas.count)


class RoutesAndCounts(Router):
    breaks: ClassVar[str] = "read-only"

    def route(self, request: Any, replicas: Any) -> int:
        replicas.state.ints[0, state.OUTSTANDING] += 1
        return 0


class RoutesNobody(RuleRouter):
    breaks: ClassVar[str] = "raises"
    column: ClassVar[Any] = "length"


class AdmitsByNumber(Admission):
    breaks: ClassVar[str] = "answer"

    def admit(self, request: Any, replicas: Any, replica: int) -> Any:
        return True


class AdmitsTheShort(Admission):
    breaks: ClassVar[str] = "hidden"

    def admit(self, request: Any, replicas: Any, replica: int) -> Verdict:
        long = request._owner.state.req[request.id, state.OUTPUT] > 10
        return Verdict.REJECT if long else Verdict.ADMIT


class AdmitsByLuck(Admission):
    breaks: ClassVar[str] = "same"
    _luck: Any = PrivateAttr(default_factory=lambda: np.random.default_rng(0))

    def admit(self, request: Any, replicas: Any, replica: int) -> Verdict:
        return Verdict.ADMIT if self._luck.random() < 0.5 else Verdict.REJECT


class OneRateForAll(ArrivalShape):
    breaks: ClassVar[str] = "shape"

    def rate(self, t_s: Any) -> Any:
        return 4.0


class NegativeAtNight(ArrivalShape):
    breaks: ClassVar[str] = "rate"

    def rate(self, t_s: Any) -> Any:
        return np.sin(t_s)


class ScaledToTheLast(ArrivalShape):
    breaks: ClassVar[str] = "pointwise"

    def rate(self, t_s: Any) -> Any:
        return t_s / t_s.max(initial=1e-9)


class MovesTheTimes(ArrivalShape):
    breaks: ClassVar[str] = "read-only"

    def rate(self, t_s: Any) -> Any:
        t_s -= 1.0
        return np.ones_like(t_s)


class DrawsItsRates(ArrivalShape):
    breaks: ClassVar[str] = "same"
    _luck: Any = PrivateAttr(default_factory=lambda: np.random.default_rng(0))

    def rate(self, t_s: Any) -> Any:
        return self._luck.random(np.shape(t_s))


DOORS = (
    RoutesTooFar,
    RoutesByName,
    RoutesInTurns,
    RoutesByOutput,
    RoutesAndCounts,
    RoutesNobody,
    AdmitsByNumber,
    AdmitsTheShort,
    AdmitsByLuck,
)
"""Broken routers and admission policies."""
SHAPES = (OneRateForAll, NegativeAtNight, ScaledToTheLast, MovesTheTimes, DrawsItsRates)
"""Broken shapes of arrivals."""
