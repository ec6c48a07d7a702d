"""Which batching policy holds its promise longest as the load grows?

For each policy, finds by bisection the highest rate at which 90 % of the requests still get their first
token within a second and every further one within 40 ms, and draws attainment against rate.
"""

import os
from pathlib import Path

import clustersim as cs
from clustersim import plots

HERE = Path(__file__).parent
REQUESTS = int(os.environ.get("CLUSTERSIM_REQUESTS", "3000"))
RUNS = os.environ.get("CLUSTERSIM_RUNS", "runs")
POLICIES = ["orca", "prefill-first", "decode-first", "chunked", "shortest-first"]


def attainment(policy: str, rate: float) -> float:
    """Return the share of requests within the SLO at *rate* requests a second."""
    changes = {
        "name": "compare-batching",
        "sweep": {},
        "serving.replicas": 1,
        "serving.batching": policy,
        "serving.slo": {"ttft": "1 s", "tpot": "40 ms"},
        "workload.rate": f"{rate} /s",
        "workload.requests": REQUESTS,
    }
    return cs.run(cs.load(HERE / "quickstart.yaml", changes), RUNS).summary["slo_attainment_share"]


def capacity(policy: str, low: float = 1.0, high: float = 40.0) -> float:
    """Return the highest rate at which 90 % of the requests are served well, to 0.5 a second."""
    while high - low > 0.5:
        middle = round((low + high) / 2, 2)
        low, high = (middle, high) if attainment(policy, middle) >= 0.9 else (low, middle)
    return low


def main() -> None:
    found = {policy: capacity(policy) for policy in POLICIES}
    for policy, rate in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{policy:<16} holds the SLO up to {rate:5.1f} requests/s")
    index = cs.Sweep(Path(RUNS) / "compare-batching").index
    print(f"{len(index)} runs in {RUNS}/compare-batching; {plots.__name__} draws them")


if __name__ == "__main__":
    main()
