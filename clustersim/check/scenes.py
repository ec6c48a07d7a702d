"""Scenes: small random loads on small fleets that run short of cache, with round prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import simpy

from clustersim.cost import attention
from clustersim.cost.step import StepPrices
from clustersim.policies import Admission, BatchingPolicy, Router, blocks_for
from clustersim.rng import Streams
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from clustersim.workload import Requests

_TOKENS, _SEQUENCES = 512, 64
BASE_S: Final = 5.0321e-3
"""Seconds of any pass (assumed: a round price, made odd so that no two events fall together)."""
TOKEN_S: Final = 5.1097e-5
"""Seconds of a token (assumed, like all prices of a scene: only their order of magnitude is real)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A load and the fleet that serves it; made anew for each run."""

    number: int
    replicas: int
    memory: Memory
    window: int
    columns: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] = field(repr=False)
    """Arrival, prompt, output and limit of each request."""

    def __str__(self) -> str:
        fleet = "1 replica" if self.replicas == 1 else f"{self.replicas} replicas"
        return (
            f"scene {self.number}: {len(self.columns[0])} requests, {fleet} with {self.memory.blocks} "
            f"blocks of {self.memory.block_tokens} tokens"
        )

    @property
    def tokens(self) -> int:
        """All tokens of prompts and outputs."""
        return int(self.columns[1].sum() + self.columns[2].sum())

    def fleet(self, batching: BatchingPolicy, router: Router, admission: Admission, leap: bool) -> Fleet:
        """Return the fleet of the scene under these policies, before anything arrived."""
        plan = FleetPlan(self.replicas, prices(self.window), self.memory, batching, router, admission, leap)
        arrival_s, prompt, output, limit = (column.copy() for column in self.columns)
        requests = Requests(arrival_s, prompt, output, limit)
        return Fleet(simpy.Environment(), plan, requests, Streams(self.number))


def run(fleet: Fleet) -> None:
    """Let *fleet* serve its load to the end."""
    fleet.env.process(fleet.serve())
    fleet.env.run()
    fleet.log.flush()
    fleet.check_done()


def scenes(count: int, seed: int) -> Iterator[Scene]:
    """Make *count* scenes out of *seed*; the first ones are small."""
    for number in range(count):
        yield _scene(number, Streams(seed).get("check", number))


def _scene(number: int, rng: np.random.Generator) -> Scene:
    n = 2 + number % 13
    arrival_s = np.cumsum(rng.exponential(rng.choice([0.0, 2e-3, 2e-2, 0.2]), n))
    prompt = rng.integers(1, rng.choice([20, 100, 300]), n, endpoint=True)
    output = rng.integers(1, rng.choice([4, 30, 90]), n, endpoint=True)
    limit = output + rng.integers(0, 30, n)
    size, watermark = int(rng.choice([1, 4, 16])), int(rng.choice([0, 1]))
    longest = max(blocks_for(int(tokens) + 1, size) for tokens in prompt + limit)
    blocks = longest + watermark + int(rng.choice([0, 1, 3, 10, 200]))
    memory = Memory(blocks, size, watermark, int(rng.choice([0, 3, 1000])))
    return Scene(
        number,
        int(rng.integers(1, 4)),
        memory,
        int(rng.choice([0, 0, 40])),
        (arrival_s, prompt, output, limit),
    )


def prices(window: int) -> StepPrices:
    """Return affine prices, spread over the four parts."""
    pass_s, output_s, decode_s = np.zeros((_TOKENS, 4)), np.zeros((_SEQUENCES, 4)), np.zeros((4, 4))
    pass_s[1:, 0], pass_s[1:, 3] = TOKEN_S * np.arange(1, _TOKENS), BASE_S
    output_s[1:, 3] = 1e-5 + 1e-7 * np.arange(1, _SEQUENCES)
    decode_s[0, 3], decode_s[1:, 1] = 1e-4, (1e-6, 1.6e-8, 1.6e-8)
    prefill = np.zeros(attention.SIZE)
    prefill[attention.LAUNCH_S], prefill[attention.PAIR_S], prefill[attention.CONTEXT_S] = 1e-5, 1e-10, 1e-9
    prefill[attention.ITEMS], prefill[attention.NORM] = 10.0, 1.5
    prefill[attention.WINDOW_TOKENS] = window
    power_w = np.array([100.0, 700.0, 500.0, 400.0, 200.0])
    return StepPrices(pass_s, output_s, decode_s, window, prefill, power_w, 1e-7)
