"""One request alone: its latency is a sum that can be written down."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clustersim.cost import attention
from clustersim.cost.step import Parallel, Sizes, StepPrices, compile_prices
from clustersim.models.transformer import Transformer
from clustersim.policies import BatchingPolicy
from clustersim.policies.batching import Chunked, DecodeFirst, Orca, PrefillFirst, ShortestFirst, Static
from clustersim.policies.mlfq import SkipJoinMLFQ
from clustersim.sim.serving import state
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import efficiency_of
from clustersim.spec.precision import Precision
from clustersim.spec.stack import load_stack
from tests import fleets

PROMPT, OUTPUT = 1000, 300
WHOLE = (
    Static(),
    Orca(),
    PrefillFirst(),
    DecodeFirst(),
    Chunked(token_budget=4096),
    ShortestFirst(token_budget=4096),
    SkipJoinMLFQ(),
)
EXACT = 1e-12


def attention_s(p: np.ndarray, chunk: int, past: int) -> float:
    """Price the attention of one chunk by the formula of ``clustersim.cost.attention``."""
    context, window = chunk + past, p[attention.WINDOW_TOKENS]
    seen = [past + i + 1 for i in range(chunk)]
    near = [min(n, window) for n in seen] if window else [0]
    pairs_s = p[attention.PAIR_S] * sum(seen) + p[attention.WINDOW_PAIR_S] * sum(near)
    items = p[attention.ITEMS] * math.ceil(chunk / 128)
    compute_s = pairs_s * (context + p[attention.HALF_TOKENS]) / context
    compute_s /= min(1.0, items ** p[attention.FILL_POWER])
    memory_s = p[attention.TOKEN_S] * chunk + p[attention.CONTEXT_S] * context
    memory_s += p[attention.WINDOW_CONTEXT_S] * min(context, window + chunk) if window else 0.0
    q = p[attention.NORM]
    return float((compute_s**q + memory_s**q) ** (1 / q) + p[attention.LAUNCH_S])


def prefill_s(prices: StepPrices, chunk: int, past: int = 0, last: bool = True) -> float:
    """Price a pass over one chunk of a prompt; the *last* one emits a token."""
    token_s = prices.output_s[1].sum() if last else 0.0
    return float(prices.pass_s[chunk].sum() + token_s + attention_s(prices.prefill, chunk, past))


def decodes_s(prices: StepPrices, context: int, passes: int) -> float:
    """Price *passes* decodes of one sequence, the first over *context* tokens: an arithmetic series."""
    once, sequence, token, near = prices.decode_s.sum(axis=1)
    fixed_s = prices.pass_s[1].sum() + prices.output_s[1].sum() + once + sequence
    window = prices.window_tokens
    inside = sum(min(context + j, window) for j in range(passes)) if window else 0
    return float(passes * fixed_s + token * (passes * context + passes * (passes - 1) / 2) + near * inside)


def assert_latency(prices: StepPrices, policy: BatchingPolicy, first_s: float, prompt: int = PROMPT) -> None:
    """Serve one request, and compare its two latencies with sums."""
    load = fleets.requests([1.5], [prompt], [OUTPUT])
    run = fleets.fleet(load, batching=policy, cost=prices)
    ttft_s = run.state.req_t[0, state.FIRST_S] - 1.5
    assert ttft_s == pytest.approx(first_s, rel=EXACT)
    decode_s = run.state.req_t[0, state.FINISH_S] - 1.5 - ttft_s
    assert decode_s == pytest.approx(decodes_s(prices, prompt, OUTPUT - 1), rel=1e-11)


@pytest.mark.parametrize("window", [0, 400, 1150])
@pytest.mark.parametrize("policy", WHOLE, ids=lambda policy: type(policy).__name__)
def test_a_lone_request_takes_its_prefill_and_its_decodes(policy, window):
    prices = fleets.prices(window=window)
    assert_latency(prices, policy, prefill_s(prices, PROMPT))


@pytest.mark.parametrize("budget", [1000, 512, 128, 7])
def test_a_prompt_in_chunks_takes_the_sum_of_its_chunks(budget):
    prices = fleets.prices()
    starts = range(0, PROMPT, budget)
    chunks = [(min(budget, PROMPT - past), past) for past in starts]
    first_s = sum(prefill_s(prices, n, past, last=past + n == PROMPT) for n, past in chunks)
    assert_latency(prices, Chunked(token_budget=budget), first_s)


def test_round_prices_give_round_times():
    """5 ms a pass, 0.05 ms a token, and nothing else: 55 ms to the first token, 5.05 ms a token after."""
    prices = fleets.prices(context_s=0.0)
    prices.decode_s[:] = 0.0
    prices.output_s[:] = 0.0
    prices.prefill[:] = 0.0
    prices.prefill[attention.NORM] = 1.0
    run = fleets.fleet(fleets.requests([0.0], [PROMPT], [OUTPUT]), cost=prices, batching=PrefillFirst())
    assert run.state.req_t[0, state.FIRST_S] == pytest.approx(0.055, rel=EXACT)
    assert run.state.req_t[0, state.FINISH_S] == pytest.approx(0.055 + 299 * 5.05e-3, rel=EXACT)


MODELS = {
    "llama-3-8b": Transformer(32, 4096, 32, 8, 128, 14336, 128256, 131072),
    "windowed": Transformer(
        32, 4096, 32, 8, 128, 14336, 128256, 131072, window_tokens=1024, window_layers=16
    ),
}


@pytest.fixture(params=sorted(MODELS))
def compiled(request: pytest.FixtureRequest) -> StepPrices:
    """Prices of a replica of two accelerators, as a run compiles them."""
    card = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    parts = (efficiency_of(card), load_stack("vllm"), Parallel(2), Precision())
    return compile_prices(MODELS[request.param], card, *parts, Sizes(4096, 64))


@pytest.mark.parametrize("prompt", [1, 1000, 3000])
def test_compiled_prices_add_up_to_the_latency_of_a_lone_request(compiled, prompt):
    assert_latency(compiled, PrefillFirst(), prefill_s(compiled, prompt), prompt)


def test_compiled_prices_add_up_over_chunks(compiled):
    first_s = prefill_s(compiled, 2048, last=False) + prefill_s(compiled, 952, 2048)
    assert_latency(compiled, Chunked(token_budget=2048, max_batch=64), first_s, 3000)


def test_a_lone_request_draws_the_power_of_what_binds_it(compiled):
    run = fleets.fleet(fleets.requests([0.0], [PROMPT], [OUTPUT]), cost=compiled, batching=PrefillFirst())
    rows = run.log.iterations()
    _, compute_w, memory_w, _, _ = compiled.power_w
    assert rows["memory_s"].sum() > rows["compute_s"].sum()  # long answers are bound by memory
    mean_w = rows["energy_j"].sum() / rows["duration_s"].sum()
    assert min(compiled.power_w[1:]) <= mean_w <= max(compute_w, memory_w)
