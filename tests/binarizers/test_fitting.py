"""Fitting by name: widths, refusals, seeds; thresholds are means and medians."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
from corpora import gaussian

from binq import binarizers
from binq.errors import InputError, UsageError


def test_sign_needs_nothing() -> None:
    assert not binarizers.needs_sample("sign")
    found = binarizers.fit("sign", 5, "cosine")
    assert (found.affine.center, found.seed, found.sample) == (None, None, None)


@pytest.mark.parametrize("method", ["mean", "median"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("cut", [None, 1, 19])
def test_thresholds(method: Any, metric: Any, cut: int | None) -> None:
    sample = gaussian(101, 40) + np.float32(0.5)
    assert binarizers.needs_sample(method)
    found = binarizers.fit(method, 40, metric, sample, truncate_dim=cut, seed=3)
    prepared = sample[:, :cut].astype(np.float64)
    if metric == "cosine":
        prepared = naive.unit(prepared)
    expected = prepared.mean(axis=0) if method == "mean" else np.sort(prepared, axis=0)[50]
    assert found.affine.center is not None
    assert found.affine.center.dtype == np.float32
    assert np.allclose(found.affine.center, expected, atol=1e-6)
    assert found.affine.scale is not None
    distance = np.abs(prepared - expected).mean(axis=0)
    assert np.allclose(found.affine.scale, distance, atol=1e-6)
    assert (found.seed, found.sample, found.bits) == (3, 101, cut or 40)


def test_median_splits_in_halves() -> None:
    sample = gaussian(1000, 30) + 7
    codes = binarizers.fit("median", 30, "l2", sample).encode(sample)
    ones = np.unpackbits(codes.view(np.uint8), axis=1, bitorder="little")[:, :30].sum(axis=0)
    assert (ones == 500).all()


def test_refusals() -> None:
    for bad in (0, -1, 41):
        with pytest.raises(UsageError, match="truncat"):
            binarizers.fit("sign", 40, "ip", truncate_dim=bad)
    with pytest.raises(UsageError, match="method"):
        binarizers.fit("pca", 40, "ip")  # type: ignore[arg-type]
    for sample in (None, np.empty((0, 40), np.float32)):
        with pytest.raises(InputError, match="no rows"):
            binarizers.fit("mean", 40, "ip", sample)


def test_a_row_that_truncation_makes_zero_is_named() -> None:
    sample = gaussian(5, 4)
    sample[3, :2] = 0
    with pytest.raises(InputError, match="sample row 3"):
        binarizers.fit(
            "mean", 4, "cosine", sample, truncate_dim=2, locate=lambda row: f"sample row {row}"
        )
