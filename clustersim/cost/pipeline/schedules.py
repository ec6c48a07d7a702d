"""Which schedules there are, where their chunks lie, and what they ask of a job. No times.

Chunks lie along the stages in one of three shapes: in *loops* (chunk c of stage i is at depth c p + i), in
a *fold* (down the stages and up again, so that the last stage holds two neighbours), or *two-way* (two
copies of the model that meet half-way, each for half of the microbatches).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.pipeline import fill
from clustersim.cost.pipeline.ops import Array
from clustersim.errors import ClusterSimError, UnknownNameError

Shape = Literal["loop", "fold", "two-way"]
Fill = Callable[[Array, int, int, int, int], int]

ZERO_BUBBLE: Final = "Qi et al., Zero Bubble Pipeline Parallelism, arXiv 2401.10241"
DEEPSEEK: Final = "DeepSeek-V3 Technical Report, arXiv 2412.19437; DualPipe, github.com/deepseek-ai/DualPipe"


class ScheduleError(ClusterSimError, ValueError):
    """A pipeline that a schedule cannot run."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a pipeline orders its work."""

    name: str
    title: str
    source: str
    fill: Fill | None
    """Writes the order of a stage; none: it is found for given times."""
    shape: Shape = "loop"
    chunks: int | None = 1
    """Chunks that a stage must hold; none: any number."""
    is_grouped: bool = False
    """Microbatches come in groups of as many as there are stages."""
    rounds: int = 0
    """At least so many microbatches for each stage."""
    limit_share: float = 0.0
    """Activations that a stage may hold, by the number of stages (automatic orders)."""
    is_lenient: bool = False
    """Only the first microbatch of a group waits for the hand-over from the last stage to the first."""

    def check(self, stages: int, chunks: int, microbatches: int) -> None:
        """Raise ScheduleError, which names the nearest numbers that work, where these do not."""
        for name, value in (("stages", stages), ("chunks", chunks), ("microbatches", microbatches)):
            if value < 1:
                raise ScheduleError(f"{self.name}: a pipeline needs at least 1 of its {name}, not {value}")
        for found in (self._chunks(chunks), self._stages(stages), self._microbatches(stages, microbatches)):
            if found:
                raise ScheduleError(f"{self.name} {found}")

    def _chunks(self, chunks: int) -> str:
        if self.chunks in (None, chunks):
            return ""
        other = "; interleaved and breadth-first take any number" if self.chunks == 1 else ""
        return f"runs {self.chunks} chunk{'s' * (self.chunks != 1)} a stage, not {chunks}{other}"

    def _stages(self, stages: int) -> str:
        if self.shape != "two-way" or stages % 2 == 0:
            return ""
        return f"needs an even number of stages, not {stages}; use {stages - 1 or 2} or {stages + 1}"

    def _microbatches(self, stages: int, microbatches: int) -> str:
        if self.is_grouped and microbatches % stages:
            below = microbatches - microbatches % stages
            use = f"{below} or {below + stages}" if below else str(stages)
            return f"takes microbatches in groups of the {stages} stages, not {microbatches}; use {use}"
        if self.shape == "two-way" and microbatches % 2:
            return f"shares microbatches between two directions, not {microbatches}; use {microbatches + 1}"
        least = self.rounds * stages
        if microbatches < least:
            return f"needs at least {least} microbatches for {stages} stages, not {microbatches}"
        return ""


def _table(*schedules: Schedule) -> Mapping[str, Schedule]:
    return MappingProxyType({schedule.name: schedule for schedule in schedules})


SCHEDULES: Final = _table(
    Schedule(
        "gpipe",
        "all forwards, then all backwards",
        "Huang et al., GPipe, arXiv 1811.06965",
        fill.breadth_first,
    ),
    Schedule(
        "1f1b",
        "one forward, one backward, so that a stage holds no more microbatches than stages follow",
        "Narayanan et al., PipeDream-Flush, arXiv 2006.09503",
        fill.one_forward_one_backward,
    ),
    Schedule(
        "interleaved",
        "1F1B over several chunks a stage, in Megatron-LM's order",
        "Narayanan et al., arXiv 2104.04473",
        fill.interleaved,
        chunks=None,
        is_grouped=True,
    ),
    Schedule(
        "interleaved-lenient",
        "the same as the Zero Bubble paper reckons it: only the first microbatch of a group waits for the "
        "hand-over from the last stage to the first, one traversal of hops less; for its tables, not for use",
        ZERO_BUBBLE + ", Table 5",
        fill.interleaved,
        chunks=None,
        is_grouped=True,
        is_lenient=True,
    ),
    Schedule(
        "breadth-first",
        "every chunk takes all microbatches before the next chunk begins",
        "Lamy-Poirier, Breadth-First Pipeline Parallelism, arXiv 2211.05953",
        fill.breadth_first,
        chunks=None,
    ),
    Schedule(
        "zb-h1",
        "1F1B with the gradients of weights put off to fill the bubble, at 1F1B's memory",
        ZERO_BUBBLE,
        fill.zero_bubble_h1,
    ),
    Schedule(
        "zb-h2",
        "no bubble where the passes take equal times, at nearly twice 1F1B's memory",
        ZERO_BUBBLE,
        fill.zero_bubble_h2,
    ),
    Schedule(
        "zb-1p",
        "the automatic order for given times, at 1F1B's memory",
        ZERO_BUBBLE + ", section 3.1",
        None,
        limit_share=1.0,
    ),
    Schedule(
        "zb-2p",
        "the automatic order for given times, at twice 1F1B's memory",
        ZERO_BUBBLE + ", section 3.1",
        None,
        limit_share=2.0,
    ),
    Schedule(
        "zb-v",
        "two chunks a stage, folded, no bubble where the passes take equal times, at 1F1B's memory",
        ZERO_BUBBLE + ", section 6",
        fill.zero_bubble_v,
        shape="fold",
        chunks=2,
    ),
    Schedule(
        "dualpipe",
        "two copies of the model, microbatches from both ends, forwards overlapped with backwards",
        DEEPSEEK,
        fill.dual_pipe,
        shape="two-way",
        chunks=2,
        rounds=2,
    ),
    Schedule(
        "dualpipev",
        "DualPipe folded in the middle: one copy of the model, two chunks a stage",
        DEEPSEEK,
        fill.dual_pipe_v,
        shape="fold",
        chunks=2,
        rounds=2,
    ),
)


def find(schedule: str | Schedule) -> Schedule:
    """Return the schedule of a name; raise UnknownNameError for an unknown one."""
    if isinstance(schedule, Schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise UnknownNameError("pipeline schedule", schedule, SCHEDULES)
    return SCHEDULES[schedule]


def place(shape: Shape, stages: int, chunks: int) -> NDArray[np.int64]:
    """Return the depth in the model of every (stage, chunk)."""
    stage, chunk = np.arange(stages)[:, None], np.arange(chunks)[None, :]
    if shape == "loop":
        return np.asarray(chunk * stages + stage)
    behind = np.where(chunk % 2 == 0, stage, stages - 1 - stage)
    return np.asarray(behind if shape == "two-way" else behind + chunk * stages)
