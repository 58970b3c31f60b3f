"""Gaps: how much farther than its reach a search has to look."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from binq.structures.calibration import TARGETS, Calibration, Survey, calibrate, reach
from binq.types import MAX_DIM

GAPS = tuple(range(len(TARGETS)))
EDGES = {"hamming": {10: tuple(90 - place for place in GAPS)}}
KNOWN = Calibration(5, stand_ins=True, gaps={"hamming": {10: GAPS, 100: (0,) * len(TARGETS)}})
WIDENED = replace(KNOWN, edges=EDGES)


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


def test_edges_are_known_or_none_is() -> None:
    place = TARGETS.index(0.95)
    assert WIDENED.edge("hamming", 7, 0.95) == 90 - place
    assert WIDENED.edge("asymmetric", 7, 0.95) == 90 - place
    assert WIDENED.edge("hamming", 11, 0.95) == MAX_DIM
    assert WIDENED.edge("hamming", 10, 0.9999) == MAX_DIM
    assert KNOWN.edge("hamming", 10, 0.95) == MAX_DIM
    assert WIDENED.known("hamming", 0.95).tolist() == [[10, 100], [place, 0], [90 - place, MAX_DIM]]


def test_as_json_and_back() -> None:
    for known in (KNOWN, WIDENED):
        assert Calibration.from_json(known.to_json()) == known
    assert "edges" not in KNOWN.to_json()
    document = WIDENED.to_json()
    wrong: list[tuple[str, Any]] = [
        ("targets", []),
        ("queries", -1),
        ("queries", True),
        ("gaps", None),
        ("gaps", {"hamming": {"10": list(GAPS[::-1])}}),
        ("edges", None),
    ]
    for name in ("gaps", "edges"):
        wrong += [
            (name, {"hamming": 1}),
            (name, {"hamming": {"10": [0]}}),
            (name, {"hamming": {"10": [0.0] * len(TARGETS)}}),
            (name, {"hamming": {"10": [-1] * len(TARGETS)}}),
            (name, {"hamming": {"10": [MAX_DIM + 1] * len(TARGETS)}}),
        ]
    for name, value in wrong:
        with pytest.raises(ValueError, match=r"."):
            Calibration.from_json(copy.deepcopy(document) | {name: value})


def test_reach_counts_rows_from_the_nearest_list_on() -> None:
    distances = np.array([[5, 1, 3, 1], [0, 0, 0, 9]], np.int32)
    sizes = np.array([10, 2, 0, 3])
    found = reach(distances, sizes, [1, 5, 6, 10**6])
    assert found.tolist() == [[1, 1, 5, 5], [0, 0, 0, 9]]


def surveyed(seed: int, far: int = 0) -> Survey:
    """Two hundred queries, their reach for 10 rows, and where 10 rows lie, if they are known."""
    rng = np.random.default_rng(seed)
    reached = rng.integers(far, 20 + far, (200, 1)).astype(np.int32)
    away = rng.integers(0, 60 + 2 * far, (200, 10)).astype(np.int32)
    away[::7, 4:] = -1
    return Survey(reached, away)


def share_found(survey: Survey, gap: int, edge: int = MAX_DIM) -> float:
    limits = survey.reach + gap + np.maximum(survey.reach - edge, 0)
    return float((survey.away <= limits)[survey.away >= 0].mean())


def test_gaps_find_the_shares_they_were_made_for() -> None:
    survey = surveyed(0)
    gaps, edges = calibrate(survey, [], 0, 10, safety=1.0)
    assert list(gaps) == sorted(gaps)
    assert edges == (MAX_DIM,) * len(TARGETS)
    for target, gap in zip(TARGETS, gaps, strict=True):
        assert share_found(survey, gap) >= target
        assert gap == 0 or share_found(survey, gap - 1) < target
    safer = calibrate(survey, [], 0, 10, safety=0.5)[0]
    assert all(a >= b for a, b in zip(safer, gaps, strict=True))
    assert safer != gaps
    nothing = Survey(survey.reach, np.full((200, 10), -1, np.int32))
    for empty in (nothing, Survey(survey.reach[:0], survey.away[:0])):
        found = calibrate(empty, [empty], 0, 10, 1.0)
        assert found == ((0,) * len(TARGETS), (MAX_DIM,) * len(TARGETS))


def test_edges_find_them_for_queries_that_are_farther() -> None:
    survey, far = surveyed(0), [surveyed(1, far=40), surveyed(2, far=80)]
    gaps, edges = calibrate(survey, far, 0, 10, safety=1.0)
    assert gaps == calibrate(survey, [], 0, 10, safety=1.0)[0]
    looked = np.arange(200)[:, None]
    limits = looked + np.array(gaps) + np.maximum(looked - np.array(edges), 0)
    assert (np.diff(limits, axis=1) >= 0).all()
    for target, gap, edge in zip(TARGETS, gaps, edges, strict=True):
        shares = [share_found(group, gap, edge) for group in far]
        assert min(shares) >= target
        assert min(share_found(group, gap) for group in far) < target
        assert share_found(survey, gap, edge) >= target
    # As far as it must be and no farther: where the gaps alone suffice, there is no edge.
    assert calibrate(survey, [survey], 0, 10, 1.0)[1] == (MAX_DIM,) * len(TARGETS)
    first = min(share_found(group, gaps[0], edges[0] + 1) for group in far)
    assert first < TARGETS[0]
    # Nothing finds rows that lie farther than twice the reach and the gap: the edge is 0.
    beyond = Survey(survey.reach, np.full((200, 10), 500, np.int32))
    assert calibrate(survey, [beyond], 0, 10, 1.0)[1][0] == 0
