"""Which random stream a load's parts draw from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustersim.rng import Streams


@dataclass(frozen=True, slots=True)
class Purposes:
    """The named streams of one service: arrivals, prompts, outputs and the rest never share one."""

    streams: Streams
    service: str = ""

    def rng(self, *purpose: str | int) -> np.random.Generator:
        """Return the generator of *purpose*, at its start."""
        return self.streams.get(*purpose, *([self.service] if self.service else []))
