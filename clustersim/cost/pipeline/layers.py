"""How a model's layers are shared out among the chunks of a pipeline. Pure arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.pipeline.schedules import Schedule, ScheduleError, find, place


def split_layers(schedule: str | Schedule, layers: int, stages: int, chunks: int) -> NDArray[np.int64]:
    """Return the number of layers of every (stage, chunk), as even as can be.

    What is left over goes to the middle of the model: its ends also hold the embedding and the logits.
    Raises ScheduleError where a chunk would hold no layer.
    """
    found = find(schedule)
    depth = place(found.shape, stages, chunks)
    depths = int(depth.max()) + 1
    if layers < depths:
        raise ScheduleError(
            f"{found.name}: {layers} layers leave chunks of {stages} stages x {chunks} empty; "
            f"use {_nearest(found, layers, stages)}"
        )
    each, left = divmod(layers, depths)
    first = (depths - left) // 2
    by_depth = np.full(depths, each)
    by_depth[first : first + left] += 1
    return np.asarray(by_depth[depth])


def _nearest(schedule: Schedule, layers: int, stages: int) -> str:
    """Say how many chunks or stages the layers can fill."""
    if schedule.chunks is None and layers >= stages:
        fit = layers // stages
        return f"{fit} chunk{'s' * (fit != 1)} a stage"
    most = layers // 2 if schedule.shape == "fold" else layers
    return f"at most {most} stages"
