"""Small fleets with round prices, for tests of the engine."""

import numpy as np
import simpy

from clustersim.cost import attention
from clustersim.cost.step import StepPrices
from clustersim.policies.admission import Always
from clustersim.policies.batching import Chunked
from clustersim.policies.routing import LeastOutstanding
from clustersim.rng import Streams
from clustersim.sim.serving.fleet import Fleet, FleetPlan, Memory
from clustersim.workload import Requests


def prices(*, window=0, base_s=5e-3, token_s=5e-5, context_s=1.6e-8, swap_s=1e-7, most=40_000):
    """Affine prices: base + tokens + context, with the parts spread over the four places."""
    tokens = np.arange(most + 1)
    parts = np.zeros((most + 1, 4))
    parts[1:, 0] = token_s * tokens[1:]
    parts[1:, 3] = base_s
    decode = np.zeros((4, 4))
    decode[0, 3], decode[1, 1], decode[2, 1], decode[3, 1] = 1e-4, 1e-6, context_s, context_s
    prefill = np.zeros(attention.SIZE)
    prefill[attention.LAUNCH_S] = 1e-5
    prefill[attention.PAIR_S] = 1e-10
    prefill[attention.ITEMS] = 10.0
    prefill[attention.CONTEXT_S] = 1e-9
    prefill[attention.NORM] = 1.5
    prefill[attention.WINDOW_TOKENS] = window
    output = np.zeros((8193, 4))
    output[1:, 3] = 1e-5 + 1e-7 * np.arange(1, 8193)
    power = np.array([100.0, 700.0, 500.0, 400.0, 200.0])
    return StepPrices(parts, output, decode, window, prefill, power, swap_s)


def requests(arrival_s, prompt, output, limit=None):
    arrival_s = np.asarray(arrival_s, float)
    prompt, output = (np.asarray(x, np.int64) for x in (prompt, output))
    limit = output if limit is None else np.asarray(limit, np.int64)
    return Requests(arrival_s, prompt, output, limit)


def random_requests(n, rate, seed=0, prompt=1000, output=250, longest=8000):
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(1 / rate, n))
    lengths = [np.clip(rng.lognormal(np.log(mean) - 0.5, 1.0, n), 1, longest) for mean in (prompt, output)]
    return requests(arrival_s, lengths[0].astype(int), lengths[1].astype(int))


def fleet(load, *, batching=None, router=None, admission=None, replicas=1, blocks=25_000, **more):
    """Return a fleet that has served *load*; further names go to the plan, the memory or the prices."""
    memory = {k: more.pop(k) for k in ("watermark_blocks", "swap_blocks") if k in more}
    leap, clients = more.pop("leap", True), more.pop("clients", 0)
    plan = FleetPlan(
        replicas,
        more.pop("cost", None) or prices(**more),
        Memory(blocks, 16, **memory),
        batching or Chunked(max_batch=128, token_budget=512),
        router or LeastOutstanding(),
        admission or Always(),
        leap,
    )
    env = simpy.Environment()
    made = Fleet(env, plan, load, Streams(0))
    env.process(made.serve_clients(clients, 0.0) if clients else made.serve())
    env.run()
    made.log.flush()
    made.check_done()
    return made
