"""What a serving engine adds to its kernels: overheads an iteration, launches, and which kernels it fuses."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from clustersim.spec.base import Spec, load_card
from clustersim.spec.source import Source
from clustersim.units import Seconds

FOLDER: Final = "topologies/stacks"


class Stack(Spec):
    """A serving engine, or one version of it."""

    name: str
    kernels: tuple[str, ...] = ()
    """Under which names efficiency cards hold this engine's own curves, first choice first."""
    all_reduce: str = "nccl"
    """Whose kernels reduce between tensor-parallel ranks inside a node: a library of the efficiency card."""
    iteration: Seconds = 0.0
    """Scheduling, sampling and detokenisation that the accelerator waits for, seconds a pass."""
    sequence: Seconds = 0.0
    """The same, seconds a sequence of the pass that emits a token."""
    layer_floor: Seconds = 0.0
    """Without CUDA graphs a layer takes at least the time to launch its kernels; 0 with graphs."""
    fuses_quantisation: bool = True
    """Activations are quantised inside the kernel before the product, at no cost of their own."""
    fuses_norms: bool = False
    """The all-reduce and the normalisation after it are one kernel when tensor parallel."""
    sources: dict[str, Source] = Field(min_length=1)
    """By the name of the field, or ``all``."""


def load_stack(name: str) -> Stack:
    """Return the catalogue's stack card *name*."""
    return load_card(Stack, FOLDER, name)
