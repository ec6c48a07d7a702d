"""What a training framework adds to its kernels: launches, fixed costs, which kernels and overlaps it has."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from clustersim.spec.base import Spec, load_card
from clustersim.spec.source import Source
from clustersim.units import Seconds

FOLDER: Final = "topologies/training-stacks"

Share = float


class Overlap(Spec):
    """Which share of each kind of communication runs beside computation, as far as there is some to hide it.

    Bounded: a collective never hides behind more seconds than the computation beside it takes.
    """

    tensor: Share = Field(0.0, ge=0, le=1)
    pipeline: Share = Field(0.0, ge=0, le=1)
    data: Share = Field(0.0, ge=0, le=1, description="Gradients behind the last backward pass.")
    shards: Share = Field(0.0, ge=0, le=1, description="Gathers of sharded weights, prefetched.")
    expert: Share = Field(0.0, ge=0, le=1)
    context: Share = Field(0.0, ge=0, le=1)


class TrainingStack(Spec):
    """A training framework, or one era of it."""

    name: str
    attention: Literal["unfused", "flash"] = "flash"
    """Whether the scores of all query-key pairs are written to memory."""
    dropout: bool = False
    fused_loss: bool = False
    """The softmax over the vocabulary and its loss are one kernel."""
    parallel_block: bool = False
    """Attention and feed-forward of a layer read one norm and reduce together (PaLM, MegaScale)."""
    sustained: float = Field(0.87, gt=0, le=1.2)
    """Clock under minutes of matrix products, as a share of that in short kernel measurements."""
    kernel_share: float = Field(1.0, gt=0, le=1.5)
    """Speed of this stack's products as a share of the efficiency card's: the one scalar of the stack."""
    generations: dict[str, float] = Field(default_factory=dict)
    """A factor on that for single generations of accelerators, such as ``hopper``."""
    attention_share: float = Field(1.0, gt=0, le=3)
    """The same for attention."""
    moves_share: float = Field(1.0, gt=0, le=3)
    """The same for elementwise kernels: above one where more of them are fused than a layer's list says."""
    expert_share: float = Field(1.0, gt=0, le=3)
    """The same for the grouped products of experts."""
    unaligned_share: float = Field(1.0, gt=0, le=1)
    """Speed of unfused attention products where 8 does not divide the head size: fewer matrix units fit."""
    layer_floor: Seconds = 0.0
    """A forward pass of one layer takes at least the time to launch its kernels; backward twice that."""
    expert_floor: Seconds = 0.0
    """What a mixture of experts adds to that: routing, permuting, counting and waiting for the counts."""
    dispatch_once: bool = False
    """A token travels to each node once, whatever the number of its experts there (DeepEP, HybridEP)."""
    kernel_launch: Seconds = 0.0
    """What every further collective of a layer adds to the launches."""
    launch_norm: float = Field(8.0, ge=1, le=20)
    """How launches and work overlap beside collectives: one adds them, a large number takes the longer."""
    microbatch: Seconds = 0.0
    """What a stage waits for at each microbatch: batches, schedules, point-to-point set-up."""
    iteration: Seconds = 0.0
    """What a step costs whatever its size: data, norms of gradients, logging, synchronisation."""
    jitter: float = Field(0.0, ge=0, le=0.2)
    """Relative spread of a rank's speed; a step waits for the slowest of its ranks."""
    collective_share: float = Field(0.77, gt=0, le=1.3)
    """Speed of collectives inside a node beside other work, as a share of that in isolation."""
    network_share: float = Field(0.8, gt=0, le=1)
    """Of the adapters' line rate that collectives between nodes reach."""
    gather_share: float = Field(0.8, gt=0, le=1)
    """The same for gathers and scatters of sharded weights."""
    gathers: int = Field(1, ge=1)
    """Messages in which the sharded weights of one layer are gathered: one a layer, or one a parameter."""
    hop: Seconds = 10e-6
    """Latency of one step between nodes."""
    overlap: Overlap = Overlap()
    sources: dict[str, Source] = Field(min_length=1)
    """By the name of the field, or ``all``."""


def load_training_stack(name: str) -> TrainingStack:
    """Return the catalogue's training stack *name*."""
    return load_card(TrainingStack, FOLDER, name)
