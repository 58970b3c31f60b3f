"""Gaps: how much farther than its reach a search has to look."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from binq.structures.calibration import TARGETS, Calibration, calibrate, reach
from binq.types import MAX_DIM

GAPS = tuple(range(len(TARGETS)))
KNOWN = Calibration(5, stand_ins=True, gaps={"hamming": {10: GAPS, 100: (0,) * len(TARGETS)}})


def test_the_next_larger_count_and_target_serve() -> None:
    place = TARGETS.index(0.95)
    assert KNOWN.reach_and_gap("hamming", 10, 0.95) == (10, place)
    assert KNOWN.reach_and_gap("hamming", 1, 0.951) == (10, place + 1)
    assert KNOWN.reach_and_gap("hamming", 11, 0.95) == (100, 0)
    assert KNOWN.reach_and_gap("hamming", 10**9, 0.95) == (10**9, 0)
    assert KNOWN.reach_and_gap("asymmetric", 10, 0.95) == (10, place)
    assert KNOWN.reach_and_gap("hamming", 10, 0.9999) == (10, MAX_DIM)
    nothing = Calibration(0, stand_ins=True, gaps={})
    assert nothing.reach_and_gap("hamming", 7, 0.5) == (7, MAX_DIM)


def test_as_json_and_back() -> None:
    document = KNOWN.to_json()
    assert Calibration.from_json(document) == KNOWN
    wrong: list[tuple[str, Any]] = [
        ("targets", []),
        ("queries", -1),
        ("queries", True),
        ("gaps", None),
        ("gaps", {"hamming": 1}),
        ("gaps", {"hamming": {"10": [0]}}),
        ("gaps", {"hamming": {"10": list(GAPS[::-1])}}),
        ("gaps", {"hamming": {"10": [0.0] * len(TARGETS)}}),
        ("gaps", {"hamming": {"10": [MAX_DIM + 1] * len(TARGETS)}}),
    ]
    for name, value in wrong:
        with pytest.raises(ValueError, match=r"."):
            Calibration.from_json(copy.deepcopy(document) | {name: value})


def test_reach_counts_rows_from_the_nearest_list_on() -> None:
    distances = np.array([[5, 1, 3, 1], [0, 0, 0, 9]], np.int32)
    sizes = np.array([10, 2, 0, 3])
    assert reach(distances, sizes, 1).tolist() == [1, 0]
    assert reach(distances, sizes, 5).tolist() == [1, 0]
    assert reach(distances, sizes, 6).tolist() == [5, 0]
    assert reach(distances, sizes, 10**6).tolist() == [5, 9]


def test_gaps_find_the_shares_they_were_made_for() -> None:
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 60, (200, 30)).astype(np.int32)
    sizes = rng.integers(0, 20, 30)
    lists = rng.integers(0, 30, (200, 10))
    lists[::7, 4:] = -1
    found = calibrate(distances, sizes, lists, 10, safety=1.0)
    assert list(found) == sorted(found)
    own = np.take_along_axis(distances, np.maximum(lists, 0), axis=1)
    beyond = (own - reach(distances, sizes, 10)[:, None])[lists >= 0]
    for target, gap in zip(TARGETS, found, strict=True):
        assert (beyond <= gap).mean() >= target
        assert gap == 0 or (beyond <= gap - 1).mean() < target
    safer = calibrate(distances, sizes, lists, 10, safety=0.5)
    assert all(a >= b for a, b in zip(safer, found, strict=True))
    assert safer != found
    assert calibrate(distances, sizes, np.full((200, 10), -1), 10, 1.0) == (0,) * len(TARGETS)
