"""Inverted lists: with all of them it is the whole scan; with some, a share of it, well counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import naive
import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from structures.beside_flat import rows_of, same_otherwise, same_search

from binq.binarizers import RowTerms
from binq.structures import coarse
from binq.structures import ivf as structures
from binq.structures.base import AllowedRows, Effort, Scope
from binq.structures.calibration import TARGETS, Calibration
from binq.structures.flat import Flat
from binq.structures.ivf import InvertedLists, Ivf
from binq.structures.queries import Queries


@pytest.fixture(autouse=True, scope="module")
def few_are_ten() -> Iterator[None]:
    """Rows that a filter allows are scanned outright only where they are fewer than here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structures, "FEW", 10)
        yield


NOTHING_KNOWN = Calibration(0, stand_ins=True, gaps={})


def listed(codes: np.ndarray, lists: int, terms: RowTerms | None = None) -> Ivf:
    """Lay codes into lists."""
    centroids = coarse.train(codes, lists, threads=1)
    own = coarse.assign(codes, centroids, threads=1)
    order = np.argsort(own, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=len(centroids)))])
    parts = InvertedLists(centroids, offsets, order.astype(np.uint32), NOTHING_KNOWN)
    return Ivf(codes[order], parts, None if terms is None else terms.take(order))


def knowing(ivf: Ivf, gap: int, edge: int) -> Ivf:
    """The same structure, calibrated to one gap and one edge."""
    gaps, edges = ({"hamming": {10: (known,) * len(TARGETS)}} for known in (gap, edge))
    lists = replace(ivf.lists, calibration=Calibration(1, True, gaps, edges))  # type: ignore[arg-type]
    return Ivf(ivf.codes, lists, ivf.terms)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 120),
    lists=st.integers(1, 150),
    m=st.integers(1, 150),
    share=st.sampled_from([None, 1.0, 0.5, 0.1, 0.0]),
    spread=st.sampled_from([1, 3, 64]),
    seed=st.integers(0, 5),
)
def test_all_lists_are_the_whole_scan(
    n: int, lists: int, m: int, share: float | None, spread: int, seed: int
) -> None:
    """Ties included: the same rows in the same order, whatever says that all are looked at."""
    rows = rows_of(n, share, spread, seed)
    ivf, every = listed(rows.codes, lists, rows.terms), Effort(nprobe=10**6)
    for effort, exhaustive in ((None, True), (every, False), (None, False), (every, True)):
        same_search(ivf, rows, m, effort, exhaustive=exhaustive)
    same_otherwise(ivf, rows, m)


def test_some_lists_hold_some_rows() -> None:
    """Of nprobe lists the best rows, by hand; by a gap, of all lists within it."""
    codes, queries = codes_of(600, 2), codes_of(5, 2, seed=1)
    ivf = listed(codes, 40)
    own = coarse.assign(codes, ivf.lists.centroids, threads=1)
    asked = Queries(codes=queries)
    away = np.bitwise_count(queries[:, None] ^ ivf.lists.centroids).sum(axis=2)
    for nprobe in (3, 11):
        scope = Scope(effort=Effort(nprobe=nprobe))
        found, compared = ivf.nearest(asked, 20, scope), ivf.compared(asked, 20, scope)
        for number, query in enumerate(queries):
            lists = np.argsort(away[number], kind="stable")[:nprobe]
            rows = np.flatnonzero(np.isin(own, lists))
            expected = naive.topk(codes[rows], query, 20)
            assert found.rows[number].tolist() == [rows[row] for _, row in expected]
            assert compared[number] == len(rows)
    for gap, edge in ((0, 128), (9, 128), (3, 45), (0, 0)):
        scope, known = Scope(effort=Effort(target_recall=0.9)), knowing(ivf, gap, edge)
        found, compared = known.nearest(asked, 5, scope), known.compared(asked, 5, scope)
        for number, query in enumerate(queries):
            order = np.argsort(away[number], kind="stable")
            met = np.cumsum(np.bincount(own, minlength=40)[order]) >= 10
            reach = int(away[number][order[np.argmax(met)]])
            far = reach + gap + max(0, reach - edge)
            rows = np.flatnonzero(away[number][own] <= far)
            expected = naive.topk(codes[rows], query, 5)
            assert found.rows[number].tolist() == [rows[row] for _, row in expected]
            assert compared[number] == len(rows)
            alone = known.nearest(asked.part(slice(number, number + 1)), 5, scope)
            assert alone.rows.tolist() == found.rows[number : number + 1].tolist()
    few = AllowedRows(np.arange(600) < 3)
    for scope, rows in ((Scope(exhaustive=True), 600), (Scope(few), 3)):
        assert ivf.compared(asked, 5, scope).tolist() == [rows] * 5
        assert Flat(codes).compared(asked, 5, scope).tolist() == [rows] * 5


def test_one_query_at_a_time() -> None:
    """As in a batch, whatever was asked for before."""
    codes, queries = codes_of(3000, 2), Queries(codes=codes_of(8, 2, seed=1))
    ivf = listed(codes, 60)
    gaps = {"hamming": {10: (0,) * 5 + (20,) * (len(TARGETS) - 5), 40: (5,) * len(TARGETS)}}
    lists = replace(ivf.lists, calibration=Calibration(1, True, gaps))  # type: ignore[arg-type]
    ivf = Ivf(ivf.codes, lists)
    efforts = [None, *(Effort(nprobe=n) for n in (1, 7)), *(Effort(t) for t in (0.5, 0.9))]
    looked = set()
    for effort in efforts * 2:
        for m in (10, 30, 150):
            scope = Scope(effort=effort)
            whole = ivf.nearest(queries, m, scope)
            looked.add(tuple(ivf.compared(queries, m, scope).tolist()))
            for i in range(8):
                alone = ivf.nearest(queries.part(slice(i, i + 1)), m, scope)
                assert np.array_equal(alone.rows[0], whole.rows[i])
                assert np.array_equal(alone.distances, whole.distances[i : i + 1])
                assert np.array_equal(alone.scores[0], whole.scores[i])
    assert len(looked) > 5


def test_as_many_rows_as_are_asked_for() -> None:
    """Where the lists that are probed hold too few allowed rows, more are looked into."""
    codes, queries = codes_of(500, 1), codes_of(4, 1, seed=1)
    ivf, rng = listed(codes, 100), np.random.default_rng(0)
    for share in (1.0, 0.3, 0.05):
        allowed = AllowedRows(rng.random(500) < share)
        for m in (1, 40, 600):
            found = ivf.nearest(Queries(codes=queries), m, Scope(allowed, Effort(nprobe=1)))
            assert found.rows.shape == (4, min(m, allowed.count))
            assert allowed.contains(found.rows).all()
            assert all(len(set(rows)) == len(rows) for rows in found.rows.tolist())
            compared = ivf.compared(Queries(codes=queries), m, Scope(allowed, Effort(nprobe=1)))
            assert (compared >= min(m, allowed.count)).all()
            assert m < 600 or share < 1 or (compared == 500).all()


def test_no_queries() -> None:
    ivf = listed(codes_of(50, 1), 5)
    found = ivf.nearest(Queries(codes=codes_of(0, 1)), 3)
    assert found.rows.shape == (0, 3)


def test_lists_of_a_damaged_file() -> None:
    """Offsets and rows that are none are refused where they are met; rows twice are found twice."""
    codes = codes_of(200, 1)
    ivf = listed(codes, 10)
    asked = Queries(codes=codes_of(3, 1, seed=1))
    whole = ivf.lists
    for offsets in (whole.offsets + 1, whole.offsets[::-1].copy(), whole.offsets * 2):
        with pytest.raises(ValueError, match="offsets"):
            Ivf(ivf.codes, replace(whole, offsets=offsets)).nearest(asked, 3)
    none = replace(whole, centroids=whole.centroids[:0], offsets=np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="offsets"):
        Ivf(ivf.codes, none).nearest(asked, 3)
    assert Ivf(ivf.codes[:0], replace(none, rows=whole.rows[:0])).nearest(asked, 3).rows.size == 0
    beyond = np.full(200, 200, np.uint32)
    broken = Ivf(ivf.codes, replace(whole, rows=beyond))
    for ask in (
        lambda: broken.nearest(asked, 3),
        lambda: broken.within(asked.codes, 64),
        lambda: broken.take(np.array([1])),
        lambda: broken.nearest(asked, 3, Scope(AllowedRows(np.ones(200, np.bool_)))),
    ):
        with pytest.raises(ValueError, match="rows"):
            ask()
    twice = Ivf(ivf.codes, replace(whole, rows=np.zeros(200, np.uint32)))
    assert (twice.nearest(asked, 3).rows == 0).all()
    assert twice.take(np.array([5])).shape == (1, 1)
