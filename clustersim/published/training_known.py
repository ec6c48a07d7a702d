"""Training runs that papers report with one number each, in the measured tables' columns. No prices."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from clustersim.published.training_rows import COLUMNS

KNOWN: Final[tuple[dict[str, Any], ...]] = (
    *(
        {
            "model": "MT-NLG 530B",
            "stack": "megatron-deepspeed-2022",
            "layers": 105,
            "hidden": 20480,
            "heads": 128,
            "seq": 2048,
            "vocab": 51200,
            "gpu": "a100_80gb",
            "n_gpus": 280 * data,
            "tp": 8,
            "pp": 35,
            "mbs": 1,
            "gbs": 1920,
            "recompute": "full",
            "precision": "fp16",
            "zero_stage": 0,
            "iter_time_s": seconds,
            "source": "Smith et al., arXiv 2201.11990, section 4.1",
        }
        for data, seconds in ((8, 60.1), (10, 50.2), (12, 44.4))
    ),
    {
        "model": "BLOOM 176B",
        "stack": "megatron-deepspeed-2022",
        "layers": 70,
        "hidden": 14336,
        "heads": 112,
        "seq": 2048,
        "vocab": 250880,
        "gpu": "a100_80gb",
        "inter_node_Gbps_per_gpu": 50.0,
        "n_gpus": 384,
        "tp": 4,
        "pp": 12,
        "mbs": 2,
        "gbs": 2048,
        "recompute": "full",
        "precision": "bf16",
        "zero_stage": 1,
        "iter_time_s": 104.7,
        "source": "BigScience, arXiv 2211.05100, and its chronicles: 384 A100, 149.8 TFLOP/s",
    },
)
"""Held out: none was used to fit a stack. Parallel ranks as published, data ranks what is left."""


def known() -> pd.DataFrame:
    """Return the rows as a frame with all columns of the measured tables."""
    frame = pd.DataFrame(list(KNOWN)).assign(fitted=False)
    return frame.reindex(columns=[*COLUMNS, "stack", "fitted", "iter_time_s"])
