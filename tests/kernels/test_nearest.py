"""The nearest centroid of every code, by every kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from corpora import codes_of

from binq.kernels.nearest import FAMILY, nearest
from binq.kernels.scan import Engine


def test_the_first_of_the_nearest(engine_of: Callable[..., Engine]) -> None:
    """Of codes in whole and in partial blocks, wide and narrow, and of ties."""
    engine = engine_of(FAMILY)
    for words, n, count in ((1, 1, 1), (1, 300, 7), (2, 129, 4), (3, 400, 130), (12, 260, 33)):
        for spread in (2, 64):
            codes = codes_of(n, words, spread=spread)
            centroids = codes_of(count, words, seed=1, spread=spread)
            away = np.bitwise_count(codes[:, None] ^ centroids).sum(axis=2, dtype=np.int64)
            for threads in (1, 3):
                numbers, distances = nearest(codes, centroids, threads, engine=engine)
                assert np.array_equal(numbers, away.argmin(axis=1))
                assert np.array_equal(distances, away.min(axis=1))


def test_extreme_codes(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(FAMILY)
    full, none = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
    codes = np.array([[full] * 5, [none] * 5, [full, none, full, none, full]])
    numbers, distances = nearest(codes, codes[::-1].copy(), engine=engine)
    assert numbers.tolist() == [2, 1, 0]
    assert distances.tolist() == [0, 0, 0]


def test_more_centroids_than_a_pass_takes(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(FAMILY)
    codes, centroids = codes_of(5, 1), codes_of(5000, 1, seed=1)
    centroids[4500] = codes[2]
    centroids[4999] = codes[2]
    numbers, distances = nearest(codes, centroids, engine=engine)
    assert (numbers[2], distances[2]) == (4500, 0)


def test_what_is_no_question() -> None:
    codes = codes_of(3, 2)
    with pytest.raises(ValueError, match="no centroids"):
        nearest(codes, codes[:0])
    for wrong in (codes[:, :1], codes[0]):
        with pytest.raises(ValueError, match=r"words|codes"):
            nearest(codes, wrong)
