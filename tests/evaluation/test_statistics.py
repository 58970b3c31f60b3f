"""Metrics by hand, and expected recall against every way of breaking ties."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binq.evaluation.statistics import Estimate, expected_recall, found_of, recall


def test_recall_by_hand() -> None:
    rows = np.array([[5, 1, 2], [7, 8, 9]])
    truth = np.array([[1, 2, 3, 4], [9, 0, 1, 2]])
    assert recall(rows, truth).tolist() == [0.5, 0.25]
    assert found_of(rows, truth).tolist() == [[True, True, False, False], [True] + [False] * 3]


def test_recall_of_nothing_is_whole() -> None:
    nothing = np.empty((3, 0), np.int64)
    assert recall(nothing, nothing).tolist() == [1.0] * 3


def test_interval_by_hand() -> None:
    # Mean 0.5; the sample's standard deviation of (0, 1, 0, 1) is sqrt(1/3).
    found = Estimate.of(np.array([0.0, 1.0, 0.0, 1.0]), np.arange(4))
    half = 1.96 * math.sqrt(1 / 3) / 2
    assert found.value == 0.5
    assert found.low == 0.0  # clipped: 0.5 - 0.5658
    assert found.high == 1.0
    assert half > 0.5
    wide = Estimate.of(np.array([0.4, 0.6] * 50), np.arange(100))
    half = 1.96 * math.sqrt(100 * 0.01 / 99) / 10
    assert wide.low == pytest.approx(0.5 - half)
    assert wide.high == pytest.approx(0.5 + half)
    one = Estimate.of(np.array([0.25, 0.25]), np.zeros(2, np.int64))
    assert (one.value, one.low, one.high) == (0.25, 0.0, 1.0)


def test_what_stands_twice_counts_as_one_draw() -> None:
    values = np.random.default_rng(0).random(50)
    once = Estimate.of(values, np.arange(50))
    many = Estimate.of(np.tile(values, 20), np.tile(np.arange(50), 20))
    assert vars(many) == pytest.approx(vars(once))


@given(st.data())
def test_expected_recall_by_enumeration(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 9), "n")
    k = data.draw(st.integers(1, n), "k")
    distances = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n), "distances")
    true = data.draw(st.permutations(range(n)), "true")[:k]
    ordered = sorted(distances)
    cut = ordered[k - 1]
    mean, variance = expected_recall(
        np.array([[distances[row] for row in true]], np.int32),
        np.array([cut], np.int32),
        np.array([sum(d < cut for d in distances)]),
        np.array([sum(d == cut for d in distances)]),
        k,
    )
    expected = naive.expected_recall(distances, set(true), k)
    assert mean[0] == pytest.approx(expected[0], abs=1e-12)
    assert variance[0] == pytest.approx(expected[1], abs=1e-12)
