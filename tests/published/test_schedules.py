"""The Zero Bubble paper's tables (arXiv 2401.10241), rerun where its printed numbers are at hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clustersim.published import schedules
from clustersim.published.tables import run

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def data() -> Path:
    for file in (schedules.RATES, schedules.PEAKS):
        if not (DATA / file).is_file():
            pytest.skip(f"the published rows {file} are not beside this checkout")
    return DATA


def test_bubble_rates_are_exact_to_four_digits(data):
    (result,) = run(["T1"], data)
    assert result.rows == 36
    assert result.worst == 0.0
    assert result.met


def test_bubble_rates_of_other_rows_are_read_from_another_folder(data, tmp_path):
    frame = pd.read_csv(data / schedules.RATES)
    (tmp_path / schedules.RATES).parent.mkdir()
    frame[frame.schedule == "ZB-H1"].assign(bubble_rate_paper=0.5).to_csv(tmp_path / schedules.RATES)
    (result,) = schedules.bubbles(tmp_path)
    assert result.rows == 12
    assert not result.met


@pytest.mark.parametrize("schedule", ["ZB-H2", "ZB-1p", "ZB-2p"])
def test_the_other_zero_bubble_schedules_are_exact_too(data, schedule):
    shapes = pd.read_csv(data / schedules.PEAKS).drop_duplicates("model").set_index("model")
    rates = pd.read_csv(data / schedules.RATES)
    rows = rates[rates.schedule == schedule].to_dict("records")
    assert len(rows) == 12
    for row in rows:
        kept_share = schedules.kept_share(shapes.loc[row["model"]].to_dict())
        share = schedules.bubble_share(row, kept_share)
        assert round(share, schedules.DIGITS) == row["bubble_rate_paper"], row["id"]


def test_a_row_without_the_data_beside_the_checkout_is_exact():
    """GPT 14.6B on 16 stages, 128 microbatches: 12.51 %, 4.45 %, 5.76 % (Table 5)."""
    row = {"p": 16, "m": 128, "vpp": 1, "TF_ms": 11.325, "TB_ms": 11.308, "TW_ms": 8.109, "Tcomm_ms": 0.378}
    found = [
        schedules.bubble_share(row | changes)
        for changes in ({"schedule": "1F1B"}, {"schedule": "1F1B-I", "vpp": 3}, {"schedule": "ZB-H1"})
    ]
    assert [round(share, 4) for share in found] == [0.1251, 0.0445, 0.0576]


def test_memory_peaks_are_within_seven_percent(data):
    (result,) = schedules.peaks(data)
    assert result.rows == 64
    assert result.met
    assert result.p90 < 0.10
