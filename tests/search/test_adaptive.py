"""Rescoring to a target: the rule against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from binq.search import adaptive as depth
from binq.search.adaptive import Calibration


def test_normal_distribution_function() -> None:
    x = np.linspace(-6, 6, 121)
    expected = [0.5 * math.erfc(-value / math.sqrt(2)) for value in x]
    np.testing.assert_allclose(depth._normal_cdf(x), expected, atol=2e-7)


def test_calibration_finds_slope_and_error() -> None:
    rng = np.random.default_rng(0)
    scanned = rng.standard_normal((50, 100))
    intercepts = rng.standard_normal((50, 1)) * 10
    rescored = intercepts + 0.7 * scanned + 0.2 * rng.standard_normal((50, 100))
    found = depth.calibrate(scanned, rescored)
    assert found.slope == pytest.approx(0.7, abs=0.02)
    assert found.error == pytest.approx(0.2, abs=0.02)


def test_equal_scores_of_the_scan_give_no_slope() -> None:
    found = depth.calibrate(np.ones((3, 4)), np.arange(12.0).reshape(3, 4))
    assert found.slope == 0
    assert np.isfinite(found.error)


@pytest.mark.parametrize("target", [0.8, 0.95, 0.99])
def test_expected_recall_is_reached(target: float) -> None:
    rng = np.random.default_rng(1)
    queries, width, k = 400, 640, 10
    scanned = -np.sort(-rng.standard_normal((queries, width)), axis=1)
    exact = scanned + 0.3 * rng.standard_normal((queries, width))
    rows = np.argsort(rng.random((queries, width)), axis=1).astype(np.int64)
    by_row = np.zeros_like(exact)
    np.put_along_axis(by_row, rows, exact, axis=1)

    def score(chosen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return by_row[chosen[:, None], wanted]

    order, values, depths = depth.rank_to_target(
        rows, scanned, score, k, target, Calibration(1.0, 0.3)
    )
    truth = np.argsort(-exact, axis=1)[:, :k]
    hits = [len(set(a) & set(b)) / k for a, b in zip(order, truth, strict=True)]
    assert np.mean(hits) >= target - 0.01
    assert np.all(np.diff(values, axis=1) <= 0)
    assert np.all(depths >= k)
    assert depths.mean() < width
    shallow = depth.rank_to_target(rows, scanned, score, k, 0.5, Calibration(1.0, 0.3))[2]
    assert shallow.mean() <= depths.mean()


def test_a_scan_that_foretells_everything_needs_the_least_depth() -> None:
    scanned = -np.tile(np.arange(200.0), (3, 1))
    rows = np.tile(np.arange(200), (3, 1))
    depths = depth.rank_to_target(
        rows, scanned, lambda _, wanted: -wanted.astype(float), 5, 0.99, Calibration(1.0, 0.0)
    )[2]
    assert depths.tolist() == [32, 32, 32]


def test_a_scan_that_foretells_nothing_needs_all() -> None:
    rng = np.random.default_rng(2)
    scanned = -np.tile(np.arange(100.0), (2, 1))
    exact = rng.standard_normal(100)
    rows = np.tile(np.arange(100), (2, 1))
    order, _, depths = depth.rank_to_target(
        rows, scanned, lambda _, wanted: exact[wanted], 3, 0.999, Calibration(0.0, 1.0)
    )
    assert depths.tolist() == [100, 100]
    np.testing.assert_array_equal(order[0], np.argsort(-exact)[:3])
