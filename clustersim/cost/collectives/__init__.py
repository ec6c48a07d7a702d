"""The time of collectives: inside one domain, between domains over several levels, by algorithm. No clock."""

from clustersim.cost.collectives.algorithms import ALGORITHMS, Algorithm, Shape, shape, torus_shape
from clustersim.cost.collectives.domain import (
    BARRIER_BYTES,
    collective_s,
    curve_of,
    steps,
    torus_s,
    wire_share,
)
from clustersim.cost.collectives.levels import Group, Inside, Outside, chosen, group_of, group_s
from clustersim.cost.collectives.routing import Uplinks, fullest, slowdown

__all__ = [
    "ALGORITHMS",
    "BARRIER_BYTES",
    "Algorithm",
    "Group",
    "Inside",
    "Outside",
    "Shape",
    "Uplinks",
    "chosen",
    "collective_s",
    "curve_of",
    "fullest",
    "group_of",
    "group_s",
    "shape",
    "slowdown",
    "steps",
    "torus_s",
    "torus_shape",
    "wire_share",
]
