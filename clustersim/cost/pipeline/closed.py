"""What an iteration takes in closed form, where all stages are equal and hand-overs are free. No orders.

These are the literature's formulas, with the conditions under which they agree with the exact time lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from clustersim.cost.pipeline.orders import Size
from clustersim.cost.pipeline.schedules import find

Passes = tuple[float, float, float]


class Form(NamedTuple):
    """A formula for the idle time of a stage, and where it holds."""

    bubble_s: Callable[[Size, Passes], float]
    holds: Callable[[Size, Passes], bool]


def period_s(schedule: str, size: Size, passes_s: Passes) -> float | None:
    """Return the period of a pipeline, None where no closed form holds.

    *passes_s*: forward, backward for the input and for the weights, of one microbatch and chunk.
    """
    name = find(schedule).name
    form = FORMS.get(name)
    if form is None or not form.holds(size, passes_s):
        return None
    passed = size.microbatches * (1 if name == "dualpipe" else size.chunks)
    return passed * sum(passes_s) + form.bubble_s(size, passes_s)


def _fill(size: Size, passes_s: Passes) -> float:
    """Every other stage passes one microbatch on, and back."""
    return (size.stages - 1) * sum(passes_s)


def _h1(size: Size, passes_s: Passes) -> float:
    forward_s, input_s, weight_s = passes_s
    return (size.stages - 1) * (forward_s + input_s - weight_s)


def _h2(size: Size, passes_s: Passes) -> float:
    forward_s, input_s, weight_s = passes_s
    return (size.stages - 1) * (forward_s + input_s - 2.0 * weight_s)


def _folded(folds: int, passes_s: Passes) -> float:
    """DeepSeek's (F&B + B - 3W) for every stage but the one at the fold, without a gain from overlap."""
    forward_s, input_s, weight_s = passes_s
    return (folds - 1) * (forward_s + 2.0 * (input_s + weight_s) - 3.0 * weight_s)


def _always(size: Size, passes_s: Passes) -> bool:
    return True


def _is_full(size: Size, passes_s: Passes) -> bool:
    return size.microbatches >= size.stages


def _is_short(size: Size, passes_s: Passes) -> bool:
    """Gradients of weights take no longer than forwards, so that they fit where they are put."""
    return size.microbatches >= size.stages and passes_s[2] <= passes_s[0]


def _is_doubly_full(size: Size, passes_s: Passes) -> bool:
    return size.microbatches >= 2 * size.stages - 1 and passes_s[2] <= min(passes_s[:2])


def _is_even(size: Size, passes_s: Passes) -> bool:
    """All passes take the same."""
    return size.microbatches >= 2 * size.stages - 1 and min(passes_s) == max(passes_s)


FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "gpipe": Form(_fill, _always),
        "1f1b": Form(_fill, _always),
        "interleaved": Form(_fill, _always),
        "interleaved-lenient": Form(_fill, _always),
        "breadth-first": Form(_fill, _is_full),
        "zb-h1": Form(_h1, _is_short),
        "zb-h2": Form(_h2, _is_doubly_full),
        "zb-v": Form(lambda size, passes_s: 0.0, _is_even),
        "dualpipe": Form(lambda size, passes_s: _folded(size.stages // 2, passes_s), _is_even),
        "dualpipev": Form(lambda size, passes_s: _folded(size.stages, passes_s), _is_even),
    }
)
"""By schedule. GPipe, PipeDream-Flush, SC'21, Lamy-Poirier; Zero Bubble section 2; DeepSeek-V3 Table 2."""
