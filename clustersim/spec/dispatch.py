"""Kernels that send tokens to their experts and bring the results back, as DeepEP does, each with its error.

A card holds one library. Its modes are kernels for different needs: ``low_latency`` for decoding, ``normal``
for many tokens inside a scale-up domain, ``between_nodes`` for many tokens over a network.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from clustersim.errors import UnknownNameError
from clustersim.spec.base import Spec, load_card
from clustersim.spec.efficiency import Curve, Share
from clustersim.units import BytesPerSecond, Seconds

FOLDER: Final = "topologies/dispatch"
Mode = Literal["low_latency", "normal", "between_nodes"]
Phase = Literal["dispatch", "combine"]


class DispatchCurve(Curve):
    """``start + [work^norm + link^norm + network^norm]^(1/norm)``.

    *start* is ``launch + experts expert + row bytes / row_rate + log2(nodes) hop``. *work* is what the
    processors of the kernel do for each token and each of its copies; *link* and *network* are the bytes of
    the copies that leave an accelerator, and a node.
    """

    copies: Literal["each", "random", "balanced"]
    """A copy of a token for each of its experts; one for each rank, or node, that holds some of them, with
    experts drawn at random; or with experts spread as evenly as can be."""
    launch: Seconds
    expert: Seconds = 0.0
    row_rate: BytesPerSecond | None = None
    hop: Seconds = 0.0
    token: Seconds = 0.0
    """Work of one processor on a token, besides its bytes."""
    copy_time: Seconds = 0.0
    """The same on a copy."""
    read_rate: BytesPerSecond | None = None
    """Bytes of tokens that one processor reads."""
    write_rate: BytesPerSecond | None = None
    """Bytes of copies that one processor writes."""
    link_share: Share = 1.0
    network_share: dict[int, Share] = Field(default_factory=dict)
    """Of the network bandwidth of an accelerator, by nodes; for other numbers, the next lower one's."""
    norm: float = Field(ge=0.3, le=20)


class Phases(Spec):
    """Both ways of one kernel."""

    dispatch: DispatchCurve
    combine: DispatchCurve


class DispatchKernels(Spec):
    """One library: by mode and generation of accelerators; the first stands for those not measured."""

    name: str
    note: str = ""
    modes: dict[Mode, dict[str, Phases]] = Field(min_length=1)

    def phases(self, mode: Mode, generation: str) -> Phases:
        """Return the curves of *mode* on *generation*, or on the card's first one where it was not measured.

        Raises UnknownNameError if the library has no such mode.
        """
        if mode not in self.modes:
            raise UnknownNameError(f"mode of {self.name}", mode, self.modes)
        measured = self.modes[mode]
        return measured[
            next((name for name in measured if generation.startswith(name)), next(iter(measured)))
        ]


def load_dispatch(name: str) -> DispatchKernels:
    """Return the catalogue's dispatch card *name*."""
    return load_card(DispatchKernels, FOLDER, name)
