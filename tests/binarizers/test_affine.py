"""Applying a binarizer: signs, truncation, normalisation, restoring."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
from corpora import gaussian
from hypothesis import given
from hypothesis import strategies as st

from binq.binarizers import Binarizer
from binq.binarizers.affine import unit_rows
from binq.errors import InputError


@given(st.integers(1, 300), st.sampled_from(["cosine", "ip", "l2"]))
def test_sign_of_every_dim(dim: int, metric: Any) -> None:
    vectors = gaussian(3, dim)
    codes = Binarizer("sign", dim, metric).encode(vectors)
    assert np.array_equal(codes, naive.pack(vectors > 0))


def test_zero_and_minus_zero_are_not_above_zero() -> None:
    vectors = np.array([[0.0, -0.0, 1e-45, -1e-45, 1.0]], np.float32)
    assert Binarizer("sign", 5, "ip").encode(vectors).tolist() == [[0b10100]]


def test_threshold_is_strict() -> None:
    binarizer = Binarizer("mean", 3, "l2", threshold=np.array([1, 2, 3], np.float32))
    assert binarizer.encode(np.array([[1, 2.5, 4]], np.float32)).tolist() == [[0b110]]


def test_truncation_then_normalisation() -> None:
    # (3, 4, 100) cut to (3, 4) is (0.6, 0.8).
    threshold = np.array([0.59, 0.81], np.float32)
    binarizer = Binarizer("mean", 3, "cosine", truncate_dim=2, threshold=threshold)
    assert (binarizer.input_dim, binarizer.bits) == (2, 2)
    whole = np.array([[3, 4, 100]], np.float32)
    assert np.allclose(binarizer.prepare(whole), [[0.6, 0.8]])
    assert binarizer.encode(whole).tolist() == [[0b01]]
    assert binarizer.encode(whole[:, :2]).tolist() == [[0b01]]
    with pytest.raises(InputError, match="dimension"):
        binarizer.encode(gaussian(1, 4))


def test_zero_rows_under_cosine_only() -> None:
    vectors = gaussian(4, 3)
    vectors[2] = 0
    with pytest.raises(InputError, match="norm zero: corpus row 12"):
        Binarizer("sign", 3, "cosine").encode(vectors, lambda row: f"corpus row {10 + row}")
    assert Binarizer("sign", 3, "ip").encode(vectors)[2] == 0
    with pytest.raises(InputError, match="norm zero: 2"):
        unit_rows(vectors)


SETTINGS = {
    "method": "mean",
    "dim": 4,
    "metric": "ip",
    "truncate_dim": 3,
    "seed": 5,
    "sample": 10,
}


def test_settings_and_arrays_round_trip() -> None:
    threshold = gaussian(1, 3)[0]
    binarizer = Binarizer.restore(SETTINGS, {"threshold": threshold})
    assert binarizer.settings() == SETTINGS
    assert np.array_equal(binarizer.arrays()["threshold"], threshold)
    assert Binarizer("sign", 4, "ip").arrays() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"method": None},
        {"method": 3},
        {"metric": "hamming"},
        {"metric": []},
        {"dim": 0},
        {"dim": -1},
        {"dim": 2},
        {"dim": True},
        {"dim": 1.0},
        {"dim": None},
        {"dim": 1 << 62},
        {"truncate_dim": 5},
        {"truncate_dim": -3},
        {"truncate_dim": "3"},
        {"seed": -1},
        {"sample": 2.5},
    ],
)
def test_settings_that_lie(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Binarizer.restore(SETTINGS | change, {"threshold": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    "threshold",
    [
        np.zeros(4, np.float32),
        np.zeros((1, 3), np.float32),
        np.zeros(3, np.float64),
        np.array([0, np.nan, 0], np.float32),
        np.array([0, np.inf, 0], np.float32),
    ],
)
def test_thresholds_that_do_not_fit(threshold: np.ndarray) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Binarizer.restore(SETTINGS, {"threshold": threshold})
