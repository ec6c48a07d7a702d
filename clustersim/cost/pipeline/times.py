"""How long the operations of each stage take. Pure numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import ClusterSimError

Floats = NDArray[np.float64]


_PARTS: Final = ("forward_s", "input_s", "weight_s", "hop_s", "optimizer_s", "pair_s")
_BY_STAGE: Final = ("hop_s", "optimizer_s")


def _nothing() -> Floats:
    return np.zeros(1)


def _shaped(name: str, value: Floats, shape: tuple[int, ...]) -> Floats:
    """Return times in a shape; raise ClusterSimError for those that are no times, or too few."""
    value = np.asarray(value, dtype=np.float64)
    if value.size not in (1, math.prod(shape)):
        raise ClusterSimError(f"{name} has the shape {value.shape}, but the pipeline needs {shape}")
    if not 0.0 <= value.min() <= value.max() < math.inf:
        raise ClusterSimError(f"{name} must be finite and not negative, but it is {value.tolist()}")
    return np.full(shape, value) if value.size == 1 else value.reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class StageTimes:
    """Seconds of one microbatch's passes by (stage, chunk), and of the hand-overs between stages.

    Values of shape (stages,) mean one chunk a stage; a single link or optimizer step means all alike.
    """

    forward_s: Floats
    input_s: Floats
    """Backward for the input: what the stage before waits for."""
    weight_s: Floats
    """Backward for the weights."""
    hop_s: Floats = field(default_factory=_nothing)
    """By link: between stages i and i + 1, either way; the last one between the last stage and the first.

    Two stages have one link, the first.
    """
    optimizer_s: Floats = field(default_factory=_nothing)
    """By stage: the step that follows its last operation."""
    pair_s: Floats = field(default_factory=_nothing)
    """A forward of the chunk together with a whole backward (DualPipe); zero: one after the other."""

    def __post_init__(self) -> None:
        forward_s = np.asarray(self.forward_s, dtype=np.float64)
        shape = (len(forward_s), forward_s.size // max(len(forward_s), 1))
        for name in _PARTS:
            wanted = shape[:1] if name in _BY_STAGE else shape
            object.__setattr__(self, name, _shaped(name, getattr(self, name), wanted))
        if not self.pair_s.any():
            object.__setattr__(self, "pair_s", self.forward_s + self.input_s + self.weight_s)

    @classmethod
    def equal(
        cls, stages: int, chunks: int, passes_s: tuple[float, float, float], hop_s: float = 0.0
    ) -> Self:
        """Return the same times everywhere: *passes_s* are those of one chunk, forward, input, weight."""
        forward_s, input_s, weight_s = np.array(passes_s, dtype=np.float64)
        return cls(np.full((stages, chunks), forward_s), input_s, weight_s, np.array(hop_s, dtype=np.float64))

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return len(self.forward_s)

    @property
    def chunks(self) -> int:
        """How many chunks a stage holds."""
        return int(self.forward_s.shape[1])

    def prices(self) -> Floats:
        """Return the vector that programs point into: by kind, stage and chunk, then by link, then zero."""
        backward_s = self.input_s + self.weight_s
        parts = (self.forward_s, self.input_s, self.weight_s, backward_s, self.pair_s, self.hop_s)
        return np.concatenate([*[part.ravel() for part in parts], _nothing()])
