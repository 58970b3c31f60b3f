"""Applying a binarizer: codes, truncation, normalisation, restoring, what lies in files."""

from __future__ import annotations

import itertools
from typing import Any

import naive
import numpy as np
import pytest
from corpora import gaussian
from hypothesis import given
from hypothesis import strategies as st

from binq import binarizers
from binq.binarizers import Binarizer
from binq.binarizers.affine import Affine
from binq.errors import InputError
from binq.similarity import unit_rows


def sign(dim: int, metric: Any) -> Binarizer:
    return binarizers.fit("sign", dim, metric)


def centred(dim: int, metric: Any, center: list[float], **settings: Any) -> Binarizer:
    """Return a binarizer with thresholds at ``center``."""
    width = len(center)
    scale = np.ones(width, np.float32)
    affine = Affine(width, width, center=np.array(center, np.float32), scale=scale)
    return Binarizer("mean", dim, metric, affine, **settings)


@given(st.integers(1, 300), st.sampled_from(["cosine", "ip", "l2"]))
def test_sign_of_every_dim(dim: int, metric: Any) -> None:
    vectors = gaussian(3, dim)
    codes = sign(dim, metric).encode(vectors)
    assert np.array_equal(codes, naive.pack(vectors > 0))


def test_zero_and_minus_zero_are_not_above_zero() -> None:
    vectors = np.array([[0.0, -0.0, 1e-45, -1e-45, 1.0]], np.float32)
    assert sign(5, "ip").encode(vectors).tolist() == [[0b10100]]


def test_threshold_is_strict() -> None:
    binarizer = centred(3, "l2", [1, 2, 3])
    assert binarizer.encode(np.array([[1, 2.5, 4]], np.float32)).tolist() == [[0b110]]


def test_truncation_then_normalisation() -> None:
    # (3, 4, 100) cut to (3, 4) is (0.6, 0.8).
    binarizer = centred(3, "cosine", [0.59, 0.81], truncate_dim=2)
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
        sign(3, "cosine").encode(vectors, lambda row: f"corpus row {10 + row}")
    assert sign(3, "ip").encode(vectors)[2] == 0
    with pytest.raises(InputError, match="norm zero: 2"):
        unit_rows(vectors)


SETTINGS = {
    "method": "mean",
    "dim": 4,
    "bits": 3,
    "metric": "ip",
    "truncate_dim": 3,
    "seed": 5,
    "sample": 10,
}


def arrays(**change: Any) -> dict[str, np.ndarray]:
    found = {"center": np.array([1, 2, 3], np.float32), "scale": np.ones(3, np.float32)} | change
    return {name: array for name, array in found.items() if array is not None}


def test_settings_and_arrays_round_trip() -> None:
    binarizer = Binarizer.restore(SETTINGS, arrays())
    assert binarizer.settings() == SETTINGS
    assert {name: a.tolist() for name, a in binarizer.arrays().items()} == {
        "center": [1, 2, 3],
        "scale": [1, 1, 1],
    }
    assert sign(4, "ip").arrays() == {}
    assert Binarizer.restore(sign(4, "ip").settings(), {}).settings() == sign(4, "ip").settings()


def test_settings_that_lie() -> None:
    for change in (
        {"method": None},
        {"method": 3},
        {"method": "sign"},
        {"method": "pca"},
        {"method": "itq", "truncate_dim": 2},
        {"metric": "hamming"},
        {"metric": []},
        {"dim": 0},
        {"dim": -1},
        {"dim": 2},
        {"dim": True},
        {"dim": 1.0},
        {"dim": None},
        {"dim": 1 << 62},
        {"bits": 0},
        {"bits": 4},
        {"bits": True},
        {"bits": "3"},
        {"bits": 1 << 61},
        {"truncate_dim": 5},
        {"truncate_dim": -3},
        {"truncate_dim": "3"},
        {"seed": -1},
        {"sample": 2.5},
    ):
        with pytest.raises(ValueError, match=r".+"):
            Binarizer.restore(SETTINGS | change, arrays())


def test_arrays_that_do_not_fit() -> None:
    for name, array in itertools.product(
        ("center", "scale", "threshold"),
        (
            np.zeros(4, np.float32),
            np.zeros((1, 3), np.float32),
            np.zeros(3, np.float64),
            np.array([0, np.nan, 0], np.float32),
            np.array([0, np.inf, 0], np.float32),
        ),
    ):
        with pytest.raises(ValueError, match=name):
            Binarizer.restore(SETTINGS, arrays(**{name: array}))


def test_arrays_that_make_no_binarizer() -> None:
    cases: list[dict[str, Any]] = [
        {"scale": None},
        {"nonsense": np.zeros(3, np.float32)},
        {"dim": np.zeros(3, np.float32)},
        {"bits": np.zeros(3, np.float32)},
        {"projection": np.zeros((3, 3), np.float32)},
        {"projection": np.zeros((3, 2), np.float32), "decoder": np.zeros((3, 3), np.float32)},
        {"decoder": np.zeros((3, 2), np.float32)},
        {"signs": np.zeros((1, 3, 3), np.float32)},
        {"signs": np.zeros((2, 3, 3), np.uint8)},
        {"signs": np.zeros((1, 0, 3), np.uint8)},
        {"signs": np.zeros((1, 3, 4), np.uint8)},
        {"signs": np.zeros((3, 3), np.uint8)},
    ]
    for change in cases:
        with pytest.raises(ValueError, match=r".+"):
            Binarizer.restore(SETTINGS, arrays(**change))
