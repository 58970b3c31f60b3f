"""K-means over bits: majorities, and the nearest of them."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
from corpora import codes_of

from binq.structures import coarse


def test_centroids_find_what_is_there() -> None:
    """Of codes around well separated centres, every centre gets a list of its own."""
    rng = np.random.default_rng(0)
    centres = rng.random((8, 128)) < 0.5
    own = rng.integers(0, 8, 1000)
    codes = naive.pack(centres[own] ^ (rng.random((1000, 128)) < 0.05))
    centroids = coarse.train(codes, 24, threads=2)
    lists = coarse.assign(codes, centroids, threads=2)
    for number in range(len(centroids)):
        assert len(set(own[lists == number])) <= 1
    away = np.bitwise_count(codes[:, None] ^ centroids).sum(axis=2)
    assert np.array_equal(lists, away.argmin(axis=1))


def test_the_same_at_any_number_of_threads() -> None:
    codes = codes_of(3000, 3)
    assert np.array_equal(coarse.train(codes, 40, 1), coarse.train(codes, 40, 3))


def test_a_centroid_is_the_majority_of_its_codes() -> None:
    codes = codes_of(128, 2)
    check_majorities(codes, np.zeros(128, int), coarse.train(codes, 1, threads=1)[:1])
    # Lists longer than a byte counts, empty ones, lists of one code and of two.
    sizes = [700, 0, 1, 2, 255, 256, 0, 510, 511, 9]
    lists = np.random.default_rng(5).permutation(np.repeat(np.arange(10), sizes))
    codes, before = codes_of(len(lists), 3), codes_of(10, 3, seed=1)
    found = coarse._majorities(codes, lists, before)
    check_majorities(codes, lists, found, before)


def check_majorities(
    codes: coarse.Codes, lists: coarse.Numbers, found: coarse.Codes, before: Any = None
) -> None:
    bits = np.unpackbits(codes.view(np.uint8), axis=1)
    for number, centroid in enumerate(np.unpackbits(found.view(np.uint8), axis=1)):
        own = bits[lists == number]
        twice = 2 * own.sum(axis=0, dtype=int)
        assert (centroid[twice > len(own)] == 1).all()
        assert (centroid[twice < len(own)] == 0).all()
        if before is not None:
            kept = np.unpackbits(before[number].view(np.uint8))
            assert np.array_equal(centroid[twice == len(own)], kept[twice == len(own)])


def test_fewer_codes_than_lists() -> None:
    none = np.empty((0, 2), np.uint64)
    assert coarse.train(none, 7, threads=1).shape == (1, 2)
    equal = np.tile(codes_of(1, 2), (50, 1))
    assert np.array_equal(coarse.train(equal, 7, threads=1), equal[:1])
    few = codes_of(3, 2)[np.random.default_rng(0).integers(0, 3, 90)]
    centroids = coarse.train(few, 7, threads=1)
    assert len(centroids) == 3
    assert np.array_equal(np.unique(centroids, axis=0), np.unique(few, axis=0))


def test_lengths_of_lists() -> None:
    found = coarse.lengths(np.array([4, 0, 2, 2]))
    assert found == {
        "number": 4,
        "smallest": 0,
        "median": 2.0,
        "largest": 4,
        "empty": 1,
        "imbalance": 1.5,  # (16 + 4 + 4) * 4 / 64
    }
    assert coarse.lengths(np.full(3, 7))["imbalance"] == 1
    assert coarse.lengths(np.zeros(1, np.int64))["imbalance"] == 0
    assert coarse.lengths(np.zeros(0, np.int64))["number"] == 0
