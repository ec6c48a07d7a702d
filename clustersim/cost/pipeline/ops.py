"""The operations of a pipeline stage: what they are called, and where their numbers stand. Pure data.

An order is an array of operations, one row each, all of stage 0 first. A backward pass may be one
operation, or be split into the gradient of the input, which the stage before waits for, and the
gradient of the weights, which nobody waits for.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

FORWARD: Final = 0
INPUT: Final = 1  # backward for the input alone
WEIGHT: Final = 2  # backward for the weights alone
BACKWARD: Final = 3  # both, in one
PAIR: Final = 4  # a forward and a whole backward that overlap
KIND_COUNT: Final = 5
KINDS: Final = ("F", "B", "W", "BW", "F+BW")
"""By kind, how the literature writes it."""

# Columns of an operation.
KIND: Final = 0
MICROBATCH: Final = 1  # of the forward, where there are two
CHUNK: Final = 2
BACK_MICROBATCH: Final = 3  # of the backward of a pair; -1 elsewhere
BACK_CHUNK: Final = 4
WIDTH: Final = 5
