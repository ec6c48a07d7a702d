"""Which accelerator serves a chat model for the least money and the least energy?

Runs accelerator_choice.yaml and adds what a token costs: dollars by the hourly price of the cards that
know one, joules by the power of the boards.
"""

import os
from pathlib import Path

import clustersim as cs

HERE = Path(__file__).parent


def main() -> None:
    changes = {"workload.requests": int(os.environ.get("CLUSTERSIM_REQUESTS", "2000"))}
    experiment = cs.load(HERE / "accelerator_choice.yaml", changes)
    runs = cs.Sweep(cs.sweep(experiment, os.environ.get("CLUSTERSIM_RUNS", "runs"))).runs
    print(f"{'accelerator':<28}{'tokens/s':>10}{'TPOT p50 ms':>13}{'J/token':>10}{'$/M tokens':>12}")
    for run in sorted(runs.values(), key=lambda run: run.summary["energy_j_per_token"]):
        found, price = run.summary, run.manifest["price_per_hour"]
        dollars = price / 3600 / found["throughput_tokens_per_s"] * 1e6 if price else float("nan")
        print(
            f"{run.manifest['accelerator']:<28}{found['throughput_tokens_per_s']:>10.0f}"
            f"{1e3 * found['tpot_p50_s']:>13.1f}{found['energy_j_per_token']:>10.3f}{dollars:>12.3f}"
        )


if __name__ == "__main__":
    main()
