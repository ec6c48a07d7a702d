"""The published kernel and collective tables, on the measurements where they are at hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.published import collectives, kernels
from clustersim.published.tables import (
    TABLES,
    VARIABLE,
    Claim,
    Result,
    data_file,
    find_data,
    rate,
    run,
    table,
)

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


def measured(*files: str) -> Path:
    for file in files:
        if not (DATA / file).is_file():
            pytest.skip(f"the measurements {file} are not beside this checkout")
    return DATA


GEMM, VIDUR = "kernels/aiconfigurator/gemm.parquet", "kernels/vidur/mlp_all.parquet"
NCCL, ENGINES = "network/nccl_aic.csv.gz", "network/custom_allreduce_aic.csv.gz"


def held_out(results: list[Result]) -> Result:
    assert [result.split for result in results] == ["held-out", "in-sample"]
    return results[0]


def test_generic_constants_price_products_of_four_accelerators():
    result = held_out(kernels.products(measured(GEMM, VIDUR)))
    assert result.met
    assert result.mape <= 0.12
    assert result.rows > 10_000
    assert abs(result.bias) < 0.05
    assert all(name in result.title for name in ("A100", "H100", "H200", "B200"))


def test_layers_of_models_that_were_not_fitted_are_within_six_percent():
    result = held_out(kernels.layers(measured(VIDUR)))
    assert result.met
    assert result.mape <= 0.06
    assert result.p90 <= 0.10


def test_layers_are_priced_without_the_fitted_models_rows_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(measured(VIDUR) / VIDUR)
    (tmp_path / "kernels/vidur").mkdir(parents=True)
    frame[~frame.model.isin(kernels.FITTED_MODELS)].to_parquet(tmp_path / VIDUR)
    (result,) = kernels.layers(tmp_path)
    assert result.split == "held-out"
    assert result.mape <= 0.06


def test_all_reduces_of_versions_that_were_not_fitted_are_within_ten_percent():
    result = held_out(collectives.all_reduces(measured(NCCL, ENGINES)))
    assert result.met
    assert result.mape <= 0.10
    assert result.rows > 1_000


def test_results_come_by_id_with_the_held_out_rows_first():
    results = run(["K3", "K2"], measured(VIDUR, NCCL, ENGINES))
    assert [(r.id, r.split) for r in results] == [
        ("K2", "held-out"),
        ("K2", "in-sample"),
        ("K3", "held-out"),
        ("K3", "in-sample"),
    ]


def test_every_registered_table_can_be_found():
    for name in TABLES:
        assert callable(table(name))
    with pytest.raises(UnknownNameError, match="published table"):
        table("K99")


def test_errors_are_fractions_of_the_measured_values():
    claim = Claim("X", "a table", 0.2, "by hand")
    result = rate(
        claim, "held-out", np.array([1.1, 0.8, 1.0]), np.array([1.0, 1.0, 1.0]), time.process_time()
    )
    assert result.mape == pytest.approx(0.1)
    assert (result.median, result.worst) == (pytest.approx(0.1), pytest.approx(0.2))
    assert result.bias == pytest.approx(0.0)
    assert result.met
    assert rate(claim, "held-out", np.array([1.3]), np.array([1.0]), 0.0).met is False


def test_measurements_are_looked_for_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert find_data() == tmp_path
    assert find_data(tmp_path / ".") == tmp_path
    with pytest.raises(ClusterSimError, match="--data or"):
        find_data(tmp_path / "none")
    with pytest.raises(ClusterSimError, match="is missing"):
        data_file(tmp_path, "none.csv")
