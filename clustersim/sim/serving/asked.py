"""A replica whose batching policy is written in Python: a SimPy process that asks, checks and spends."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from clustersim.cost.passes import PassShape
from clustersim.errors import ClusterSimError, PolicyError
from clustersim.policies import ALL, Policy, RequestView, Step
from clustersim.sim.serving import batch, core, drive, state
from clustersim.sim.serving.state import State
from clustersim.sim.serving.views import Listed, Request

if TYPE_CHECKING:
    from clustersim.sim.serving.fleet import Fleet

Process = Generator[simpy.Event, Any, None]

_BY_ID = attrgetter("id")


def _malformed(step: Step) -> str:
    """Say what in a step is not of the type that its contract asks for; nothing if all is."""
    if not isinstance(step.prefill, dict):
        return f"whose prefill is {step.prefill!r}, not a dict of requests and tokens"
    for request, tokens in step.prefill.items():
        if not isinstance(tokens, (int, np.integer)):
            return f"that prefills {tokens!r} tokens of {request!r}; tokens are whole numbers"
    decode = () if step.decode is ALL else step.decode
    for name, named in (("prefill", step.prefill), ("decode", decode), ("preempt", step.preempt)):
        if not isinstance(named, Collection):
            return f"whose {name} is {named!r}, not requests of the view"
        for request in named:
            if not hasattr(request, "id"):
                return f"whose {name} names {request!r}, which is no request of the view"
    return ""


@contextmanager
def policy_errors(policy: Policy, method: str) -> Iterator[None]:
    """Turn whatever a policy raises into one PolicyError that says where in its file."""
    try:
        yield
    except ClusterSimError:
        raise
    except Exception as error:
        trace, place = error.__traceback__, ""
        while trace is not None:
            code = trace.tb_frame.f_code
            if policy.source is not None and code.co_filename == str(policy.source):
                place = f"{policy.source.name}:{trace.tb_lineno}: "
            trace = trace.tb_next
        raise PolicyError(
            f"{place}{type(policy).__name__}.{method} raised {type(error).__name__}: {error}"
        ) from error


class AskedReplica:
    """Asks its policy for a step, checks it, lets the core carry it out, and sleeps until its end."""

    def __init__(self, env: simpy.Environment, index: int, fleet: Fleet):
        self.env, self.index, self.fleet = env, index, fleet
        self.policy = fleet.plan.batching
        self.waiting: list[Request] = []
        self._paused: dict[int, Request] = {}
        self._just_preempted: set[RequestView] = set()
        self._alarm = 0
        self._wake = env.event()
        env.process(self._serve())

    # -- the view ------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return float(self.env.now)

    @property
    def prefilling(self) -> Listed:
        return Listed(self.fleet, self.index, state.PRE_HEAD, state.PREF)

    @property
    def running(self) -> Listed:
        return Listed(self.fleet, self.index, state.RUN_HEAD, state.RUN)

    @property
    def paused(self) -> list[Request]:
        return list(self._paused.values())

    @property
    def free_kv_blocks(self) -> int:
        return self._int(state.FREE)

    @property
    def total_kv_blocks(self) -> int:
        return self.fleet.plan.memory.blocks

    @property
    def block_tokens(self) -> int:
        return self.fleet.plan.memory.block_tokens

    @property
    def watermark_blocks(self) -> int:
        return self.fleet.plan.memory.watermark_blocks

    @property
    def decode_blocks(self) -> int:
        return int(batch.growth_blocks(self._s, self.index, 1))

    @property
    def free_kv_tokens(self) -> int:
        free = self.free_kv_blocks - self.watermark_blocks - self.decode_blocks
        return max(0, free) * self.block_tokens

    # -- the process ---------------------------------------------------------------------------

    def receive(self, req: int) -> None:
        """Take a request into the queue; wake the replica, or end its leap with the pass in flight."""
        drive.take(self._s, self.index, req)
        insort(self.waiting, Request(self.fleet, req), key=_BY_ID)
        if self._int(state.PASSES) == 0:
            self._ring(0.0)
        elif self._int(state.PASSES) > 1:
            drive.truncate(self._s, self.index, self.env.now)
            self._ring(self._s.floats[self.index, state.END] - self.env.now)

    def _serve(self) -> Process:
        while True:
            self._wake = self.env.event()
            yield self._wake
            yield self.env.timeout(0)  # whatever else arrives at this instant is seen
            self._s.floats[self.index, state.CLOCK] = self.env.now
            while self._step():
                self._wake = self.env.event()
                self._ring(self._s.floats[self.index, state.END] - self.env.now)
                yield self._wake
                self._s.floats[self.index, state.END] = self.env.now
                core.apply(self._s, self.index)
                self._s.ints[self.index, state.READY] = 0
                yield self.env.timeout(0)

    def _step(self) -> bool:
        """Ask for a step and begin it; False if there is nothing to do."""
        if not drive.room(self._s):
            self.fleet.make_space()
        with policy_errors(self.policy, "next_step"):
            step = self.policy.next_step(self)
        if not isinstance(step, Step):
            raise self._broken(f"returned {step!r}, which is no Step")
        if wrong := _malformed(step):
            raise self._broken(f"returned a Step {wrong}")
        if not step:
            return False
        self._just_preempted.clear()
        for seq in step.preempt:
            self._preempt(seq)
        for seq in step.prefill:
            if self._s.req[seq.id, state.STATUS] == state.SWAPPED_OUT:
                self._swap_in(seq)
        decodes = self._choose_batch(step)
        if decodes:
            self._make_room()
        self._choose_chunks(step, self.decode_blocks if decodes else 0)
        if not decodes and self._int(state.CHUNKS) == 0:
            return False
        self._begin(step, decodes)
        return True

    def _begin(self, step: Step, decodes: bool) -> None:
        price = self.fleet.plan.price
        if price is not None:
            self._s.floats[self.index, state.GIVEN] = price.seconds(self._shape(decodes))
        alone = price is not None or self.policy.every_iteration or not self.fleet.plan.leap
        leap = 1 if alone else step.passes or 1 << 40
        core.begin(self._s, self.index, decodes, 1 if self._just_preempted else leap)

    def _shape(self, decodes: bool) -> PassShape:
        """Return the chosen pass as a price sees it."""
        lanes, count = self._s.lanes[self.index], self._int(state.CHUNKS)
        past = self._s.req[lanes[state.CHUNK_REQ, :count], state.DONE].tolist()
        new = lanes[state.CHUNK_TOKENS, :count].tolist()
        batch_size, context = (self._int(state.RUN), self._int(state.CTX)) if decodes else (0, 0)
        return PassShape(batch_size, context, tuple(zip(past, new, strict=True)))

    def _choose_batch(self, step: Step) -> bool:
        """Pause and resume sequences so that the chosen ones decode; say whether any does."""
        if step.decode is ALL:
            for seq in self.paused:
                self._resume(seq.id)
            return self._int(state.RUN) > 0
        chosen = {seq.id for seq in step.decode}
        if len(chosen) != len(step.decode):
            raise self._broken("decodes a sequence twice")
        if chosen or not any(step.prefill.values()):
            chosen |= {seq.id for seq, tokens in step.prefill.items() if tokens == 0}
        if not chosen:
            return False
        for seq in list(self.running):
            if seq.id not in chosen and self._is_here(seq.id, (state.RUNNING,)):
                drive.pause(self._s, self.index, seq.id)
                self._paused[seq.id] = seq
        for req in sorted(chosen):
            if not self._is_here(req, (state.RUNNING, state.PAUSED, state.HELD)):
                raise self._broken(f"decodes request {req}, which does not run")
            if req in self._paused:
                self._resume(req)
        return True

    def _resume(self, req: int) -> None:
        drive.resume(self._s, self.index, req)
        del self._paused[req]

    def _choose_chunks(self, step: Step, kept_blocks: int) -> None:
        """Add the chunks of *step*; *kept_blocks* of the free blocks are for the next tokens of the batch."""
        self._s.ints[self.index, state.CHUNKS] = 0
        for seq, tokens in step.prefill.items():
            status = self._s.req[seq.id, state.STATUS]
            if seq in self._just_preempted or (status == state.RUNNING and tokens == 0):
                continue
            if not self._is_here(seq.id, (state.WAITING, state.PREFILLING)):
                raise self._broken(f"prefills request {seq.id}, which does not wait")
            if not 0 < tokens <= seq.prefill_left:
                raise self._broken(
                    f"prefills {tokens} tokens of request {seq.id}, {seq.prefill_left} are left"
                )
            if status == state.WAITING:
                self._admit(seq, kept_blocks)
            core.add_chunk(self._s, self.index, seq.id, tokens)

    def _admit(self, seq: RequestView, kept_blocks: int) -> None:
        need, free = int(batch.needed_blocks(self._s, seq.id)), self.free_kv_blocks - kept_blocks
        if need > free:
            raise self._broken(f"admits request {seq.id}, which needs {need} cache blocks; {free} are free")
        limit = int(self._s.rules[state.MAX_BATCH])
        if self._int(state.RUN) + self._int(state.CHUNKS) >= limit:
            raise self._broken(f"admits request {seq.id} to a pass of {limit} sequences, the engine's most")
        self._forget(seq)
        batch.admit(self._s, self.index, seq.id)

    def _swap_in(self, seq: RequestView) -> None:
        if int(batch.needed_blocks(self._s, seq.id)) > self.free_kv_blocks:
            raise self._broken(f"swaps request {seq.id} in without free cache blocks")
        self._forget(seq)
        batch.swap_in(self._s, self.index, seq.id)

    def _forget(self, seq: RequestView) -> None:
        del self.waiting[bisect_left(self.waiting, seq.id, key=_BY_ID)]
        self._s.ints[self.index, state.WAIT] -= 1

    def _preempt(self, seq: RequestView) -> None:
        if not self._is_here(seq.id, (state.RUNNING, state.PREFILLING, state.PAUSED)):
            raise self._broken(f"preempts request {seq.id}, which holds no cache")
        drive.evict(self._s, self.index, seq.id)
        self._paused.pop(seq.id, None)
        insort(self.waiting, Request(self.fleet, seq.id), key=_BY_ID)

    def _make_room(self) -> None:
        """Preempt the newest while the chosen batch lacks a block for its next token."""
        while (victim := int(drive.newest(self._s, self.index))) >= 0:
            if self._paused:
                victim = next(reversed(self._paused))
            elif self._int(state.RUN) + self._int(state.PREF) <= 1:
                raise self._broken("leaves one sequence without a cache block for its next token")
            seq = Request(self.fleet, victim)
            self._just_preempted.add(seq)
            self._preempt(seq)

    # -- helpers -------------------------------------------------------------------------------

    @property
    def _s(self) -> State:
        return self.fleet.state

    def _int(self, column: int) -> int:
        return int(self._s.ints[self.index, column])

    def _is_here(self, req: int, statuses: tuple[int, ...]) -> bool:
        row = self._s.req[req]
        return bool(row[state.REPLICA] == self.index and row[state.STATUS] in statuses)

    def _ring(self, delay_s: float) -> None:
        """Wake the process after *delay_s*, unless it is rung again before."""
        self._alarm += 1
        alarm = self._alarm

        def wake(_: simpy.Event) -> None:
            if alarm == self._alarm and not self._wake.triggered:
                self._wake.succeed()

        self.env.timeout(max(0.0, delay_s)).callbacks.append(wake)

    def _broken(self, what: str) -> PolicyError:
        place = f"{self.policy.source.name}: " if self.policy.source else ""
        return PolicyError(
            f"{place}{type(self.policy).__name__} {what} (replica {self.index}, {self.env.now:.6g} s)"
        )
