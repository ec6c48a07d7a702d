"""The published tables that are rerun: what a result is, which tables there are, where measurements lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import ClusterSimError, UnknownNameError

Split = Literal["held-out", "in-sample"]
VARIABLE: Final = "CLUSTERSIM_DATA"


@dataclass(frozen=True, slots=True)
class Result:
    """How well one published table is met; errors are fractions of the measured value."""

    id: str
    title: str
    rows: int
    mape: float
    median: float
    p90: float
    worst: float
    bias: float
    """Median of predicted / measured - 1."""
    split: Split
    target: float | None
    """The mean error that we are held to."""
    met: bool | None
    source: str
    peer: str
    """What the best peer reaches on the same rows."""
    seconds: float
    """Processor time that the prediction took."""

    def record(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a table is about, whatever its rows say."""

    id: str
    title: str
    target: float | None
    source: str
    peer: str = "none"


Table = Callable[[Path], list[Result]]

TABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "K1": "clustersim.published.kernels:products",
        "K2": "clustersim.published.kernels:layers",
        "K3": "clustersim.published.collectives:all_reduces",
        "N2": "clustersim.published.collectives:in_node",
        "N2-group": "clustersim.published.collectives:left_out_group",
        "N2-nodes": "clustersim.published.multinode:between_nodes",
        "N2-sites": "clustersim.published.collectives:other_sites",
        "N3": "clustersim.published.fidelity:empty_network",
        "N4": "clustersim.published.dispatch:tokens_to_experts",
        "N4-authors": "clustersim.published.dispatch:authors",
        "S1": "clustersim.published.serving:time_per_token",
        "S2": "clustersim.published.serving:offline_throughput",
        "S4": "clustersim.published.replay:latencies",
        "S8": "clustersim.published.vidur:replay",
        "T1": "clustersim.published.schedules:bubbles",
        "T2": "clustersim.published.training:sc21",
        "T3": "clustersim.published.training:korthikanti",
        "T4": "clustersim.published.training:megascale",
        "T5": "clustersim.published.training:vtrain_single",
        "T5-multi": "clustersim.published.training:vtrain_multi",
        "T6": "clustersim.published.training:bloom",
        "T7": "clustersim.published.training:llm_foundry",
        "T8": "clustersim.published.training:megatron_bridge",
        "T8-moe": "clustersim.published.training:megatron_bridge_experts",
        "T9": "clustersim.published.training:famous",
        "T10": "clustersim.published.training_memory:peaks",
        "T11": "clustersim.published.training:simumax",
        "J1": "clustersim.published.scheduling:helios",
        "J2": "clustersim.published.scheduling:philly",
        "J3": "clustersim.published.scheduling:rounds",
        "J4": "clustersim.published.scheduling:gavel",
        "J5": "clustersim.published.fragmentation:fragments",
    }
)
"""By id, the function that computes it: ``module:function``, imported when it is asked for."""


def table(name: str) -> Table:
    """Return the function of the table *name*; it takes the folder of the measurements."""
    if name not in TABLES:
        raise UnknownNameError("published table", name, TABLES)
    module, _, function = TABLES[name].partition(":")
    found: Table = getattr(import_module(module), function)
    return found


def run(names: Iterable[str], data: Path) -> list[Result]:
    """Compute the tables *names*, in their order, held-out rows first."""
    results = [result for name in names for result in table(name)(data)]
    return sorted(results, key=lambda r: (list(TABLES).index(r.id), r.split))


def find_data(option: str | Path | None = None) -> Path:
    """Return the folder of the measurements: *option*, else $CLUSTERSIM_DATA, else ../shared/data.

    Raises ClusterSimError, which says what is missing and where it is public.
    """
    given = option or os.environ.get(VARIABLE)
    folder = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    if folder.is_dir():
        return folder
    raise ClusterSimError(
        f"the measured tables are not in {folder}; name their folder with --data or ${VARIABLE}. "
        "They are public: Vidur's and LLMServingSim's profiles on GitHub, "
        "NVIDIA's in aiconfigurator-core on PyPI"
    )


def data_file(folder: Path, name: str, public: str = "") -> Path:
    """Return the measured file *name* in *folder*; raise ClusterSimError, which says where it is *public*."""
    if (folder / name).is_file():
        return folder / name
    where = f"; it is public: {public}" if public else ""
    raise ClusterSimError(f"{folder / name} is missing: this published table is measured against it{where}")


def rate(
    claim: Claim, split: Split, predicted: NDArray[np.float64], measured: NDArray[np.float64], seconds: float
) -> Result:
    """Compare *predicted* with *measured* values; *seconds* is what the prediction of the table took."""
    ratio = np.asarray(predicted, dtype=np.float64) / np.asarray(measured, dtype=np.float64)
    error = np.abs(ratio - 1.0)
    mape = float(error.mean())
    return Result(
        claim.id,
        claim.title,
        len(error),
        mape,
        float(np.median(error)),
        float(np.quantile(error, 0.9)),
        float(error.max()),
        float(np.median(ratio) - 1.0),
        split,
        claim.target,
        None if claim.target is None else mape <= claim.target,
        claim.source,
        claim.peer,
        seconds,
    )
