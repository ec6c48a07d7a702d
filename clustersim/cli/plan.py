"""plan: which parallelism trains a model fastest on so many accelerators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clustersim.cli.base import AsJson, app, note, out, say, show, show_json
from clustersim.errors import ClusterSimError

if TYPE_CHECKING:
    from clustersim.cost.training.search import Found


@app.command()
def plan(
    model: Annotated[str, typer.Argument(help="A model of the catalogue, or a config.json.")],
    on: Annotated[str, typer.Option("--on", help="The node of the cluster, such as dgx-h100.")],
    accelerators: Annotated[int, typer.Option("--accelerators", "-a", min=1)],
    batch: Annotated[int, typer.Option("--batch", min=1, help="Sequences of a step.")],
    sequence: Annotated[int, typer.Option("--sequence", min=1, help="Tokens of a sequence.")] = 4096,
    stack: Annotated[str, typer.Option(help="Training software: a card of training-stacks.")] = (
        "megatron-core-2025"
    ),
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many plans to print.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Price every plan of tensor, pipeline and data parallelism, and say which is best and why."""
    from clustersim.cost.training.machine import machine_of
    from clustersim.cost.training.search import Space, search
    from clustersim.spec.base import load_card
    from clustersim.spec.node import Node
    from clustersim.spec.training import Plan
    from clustersim.spec.training_stack import FOLDER, TrainingStack

    shape = _model(model).transformer
    machine = machine_of(load_card(Node, "topologies/nodes", on))
    base = Plan(tensor_parallel=2, sequence_parallel=True, global_batch=batch, sequence_tokens=sequence)
    found = search(shape, Space(accelerators, base), machine, load_card(TrainingStack, FOLDER, stack))
    rows = [_row(found, int(i)) for i in found.order if found.fits[i]]
    if not rows:
        least = float(found.needed_bytes.min()) / 2**30
        raise ClusterSimError(
            f"none of {len(found.fits):,} plans fits: the least that one needs is {least:.1f} GiB on each "
            f"accelerator, {machine.accelerator.name} has {machine.accelerator.memory / 2**30:.1f} GiB; "
            "use more accelerators or a smaller batch"
        )
    if as_json:
        show_json(rows[:top])
        return
    _answer(rows, len(found.fits))
    show(rows[:top] if out.is_terminal else rows)


def _model(name: str) -> Any:
    from clustersim.spec.base import load_card
    from clustersim.spec.load import load_spec
    from clustersim.spec.model import Model

    if name.endswith((".json", ".yaml", ".yml")):
        return load_spec(Model, Path(name))
    return load_card(Model, "workloads/models", name)


def _row(found: Found, i: int) -> dict[str, Any]:
    plans, parts = found.plans, found.steps.parts.of(i)
    names = {0: "none", 1: "selective", 2: "full"}
    return {
        "tensor": int(plans.tensor[i]),
        "stages": int(plans.stages[i]),
        "data": int(plans.data[i]),
        "chunks": int(plans.chunks[i]),
        "microbatch": int(plans.microbatch[i]),
        "recompute": names.get(int(plans.recompute[i]), "full"),
        "step_s": float(found.steps.seconds[i]),
        "mfu": float(found.steps.mfu[i]),
        "memory_gib": float(found.needed_bytes[i]) / 2**30,
        **{name: value for name, value in parts.items() if value > 0},
    }


def _answer(rows: list[dict[str, Any]], tried: int) -> None:
    """Say the best plan, what it spends its time on, and what memory could be had for how much time."""
    best = rows[0]
    say(
        f"Fastest of {tried:,} plans, {len(rows):,} of which fit: tensor {best['tensor']} x stages "
        f"{best['stages']} x data {best['data']}, {best['chunks']} chunks, microbatch {best['microbatch']}, "
        f"recompute {best['recompute']}: {best['step_s']:.3g} s a step, {best['mfu']:.1%} MFU, "
        f"{best['memory_gib']:.1f} GiB."
    )
    parts = sorted(
        ((v, k) for k, v in best.items() if k.endswith("_s") and k not in ("step_s", "compute_s")),
        reverse=True,
    )
    costs = ", ".join(f"{k.removesuffix('_s')} {v / best['step_s']:.0%}" for v, k in parts[:4])
    say(f"Beside computing it spends: {costs}.")
    slim = min(rows, key=lambda row: (row["memory_gib"], row["step_s"]))
    if slim is not best:
        note(
            f"least memory: {slim['memory_gib']:.1f} GiB with tensor {slim['tensor']} x stages "
            f"{slim['stages']}, recompute {slim['recompute']}, for {slim['step_s']:.3g} s a step"
        )
