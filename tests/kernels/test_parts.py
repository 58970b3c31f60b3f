"""Codes in several arrays: what a scan of them finds is what it finds in one array of the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given
from hypothesis import strategies as st

from binq.kernels import asymmetric, hamming
from binq.kernels.lists import Lists
from binq.kernels.near_lists import FAMILY, Centroids
from binq.kernels.one_query import OneQuery
from binq.kernels.parts import Parts
from binq.kernels.scan import Engine

EngineOf = Callable[..., Engine]


class Case:
    """Codes in parts, maybe in lists that have some codes in every part, and the same in one."""

    def __init__(self, data: st.DataObject) -> None:
        self.words = data.draw(st.integers(1, 5), "words")
        self.spread = data.draw(st.sampled_from([0, 2, 64]), "bits of a word that differ")
        sizes = st.lists(st.sampled_from([0, 1, 63, 130, 700]), min_size=1, max_size=5)
        held = data.draw(sizes, "rows of each part")
        self.edges = [0, *itertools.accumulate(held)]
        self.n = n = self.edges[-1]
        self.codes = codes = codes_of(n, self.words, 1, self.spread)
        # Arrays of their own: between them lies nothing that might be read.
        self.parts = Parts([codes[a:b].copy() for a, b in itertools.pairwise(self.edges)])
        self.one: dict[str, Any] = {}
        self.many: dict[str, Any] = {}
        random = np.random.default_rng(n)
        if data.draw(st.booleans(), "filter"):
            some = np.flatnonzero(random.random(n) < data.draw(st.sampled_from([0.03, 0.6])))
            self.one["allowed"] = self.many["allowed"] = naive.bitmap(set(some.tolist()), n)
        self.k = data.draw(st.sampled_from([1, 10, 100]), "k")
        self.threads = data.draw(st.sampled_from([1, 3]), "threads")
        self.rows_per_block = data.draw(st.sampled_from([None, 50, 128]), "rows per block")
        self.random = random

    def number(self) -> None:
        """Number the rows of every part."""
        own = [self.random.permutation(len(a)).astype(np.uint32) for a in self.parts.arrays]
        self.many["numbers"] = own
        shifted = [rows + first for rows, first in zip(own, self.edges, strict=False)]
        self.one["numbers"] = np.concatenate(shifted).astype(np.uint32)

    def look_into_lists(self, queries: int) -> None:
        """Let every query look into some lists, of which each part holds some codes."""
        self.number()
        count, lists = 6, self.random.integers(0, 6, self.n)
        own, order = [], np.argsort(lists, kind="stable")
        for first, end in itertools.pairwise(self.edges):
            lists[first:end].sort()  # a part lies list by list
            own.append(np.searchsorted(lists[first:end], np.arange(count + 1)))
        order = np.argsort(lists, kind="stable")
        every = np.searchsorted(lists[order], np.arange(count + 1))
        visits = np.array([self.random.permutation(count)[:3] for _ in range(queries)], np.int32)
        visits[:, 1:][self.random.random((queries, 2)) < 0.2] = -1
        self.many["lists"] = Lists(every, visits, own)
        # In one array all codes lie list by list.
        self.one["lists"], self.order = Lists(every, visits), order
        self.codes = self.codes[order]
        self.one["numbers"] = self.one["numbers"][order]
        if "allowed" in self.one:
            mask = np.zeros(self.n, np.bool_)
            bits = np.unpackbits(self.many["allowed"].view(np.uint8), bitorder="little")
            mask[:] = bits[: self.n][order]
            self.one["allowed"] = naive.bitmap(set(np.flatnonzero(mask).tolist()), self.n)


def agree(one: Any, many: Any) -> None:
    for first, second in zip(one, many, strict=True):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


@given(data=st.data())
def test_hamming(engine_of: EngineOf, data: st.DataObject) -> None:
    case, count = Case(data), data.draw(st.sampled_from([1, 2, 5, 40]), "queries")
    queries = codes_of(count, case.words, 2, case.spread)
    kind = data.draw(st.sampled_from(["rows", "numbers", "lists"]), "kind")
    if kind == "numbers":
        case.number()
    elif kind == "lists":
        case.look_into_lists(count)
    engine = engine_of(hamming.FAMILY, rows_per_block=case.rows_per_block, queries_per_pass=33)
    agree(
        hamming.topk(case.codes, queries, case.k, case.threads, **case.one, engine=engine),
        hamming.topk(case.parts, queries, case.k, case.threads, **case.many, engine=engine),
    )
    if kind == "lists":
        return
    radii = data.draw(st.sampled_from([0, 20, 32 * case.words, 64 * case.words]), "radius")
    within = np.full(count, radii)
    agree(
        hamming.within(case.codes, queries, within, case.threads, **case.one, engine=engine),
        hamming.within(case.parts, queries, within, case.threads, **case.many, engine=engine),
    )
    if kind == "rows":
        found = hamming.count_within(case.parts, queries, within, 2, **case.many, engine=engine)
        want = hamming.count_within(case.codes, queries, within, 2, **case.one, engine=engine)
        np.testing.assert_array_equal(found, want)
        if case.n:
            rows = case.random.integers(0, case.n, (count, 9))
            away = hamming.distances(case.parts, queries, rows, engine=engine)
            want = hamming.distances(case.codes, queries, rows, engine=engine)
            np.testing.assert_array_equal(away, want)


@given(data=st.data())
def test_asymmetric(engine_of: EngineOf, data: st.DataObject) -> None:
    case, count = Case(data), data.draw(st.sampled_from([1, 2, 5, 40]), "queries")
    weights = case.random.integers(-7, 8, (count, 64 * case.words)).astype(np.float32)
    base = case.random.integers(-3, 4, count).astype(np.float32)
    factors: list[Any] = [None, None]
    if data.draw(st.booleans(), "factors"):
        factors = list(case.random.integers(-1, 2, (2, case.n)).astype(np.float32))
    own = factors
    if data.draw(st.booleans(), "lists"):
        case.look_into_lists(count)
        own = [None if values is None else values[case.order] for values in factors]
    engine = engine_of(asymmetric.FAMILY, rows_per_block=case.rows_per_block, queries_per_pass=33)
    told = case.k, case.threads
    agree(
        asymmetric.topk(
            case.codes, weights, base, told[0], *own, told[1], **case.one, engine=engine
        ),
        asymmetric.topk(
            case.parts, weights, base, told[0], *factors, told[1], **case.many, engine=engine
        ),
    )
    if case.n and "lists" not in case.one:
        rows = case.random.integers(0, case.n, (count, 9))
        found = asymmetric.exact(case.parts, weights, base, rows, *factors)
        np.testing.assert_array_equal(
            found, asymmetric.exact(case.codes, weights, base, rows, *factors)
        )


@given(data=st.data())
def test_one_query(engine_of: EngineOf, data: st.DataObject) -> None:
    library = engine_of(FAMILY).library
    if library is None:
        pytest.skip("numpy has no kernel for it")
    case = Case(data)
    case.look_into_lists(1)
    if not case.n:
        return
    lists, k = case.many["lists"], min(case.k, case.n)
    centroids, sizes = codes_of(6, case.words, 3, case.spread), np.diff(lists.offsets)
    given_ = Centroids(centroids), lists.offsets, sizes
    one = OneQuery(library, case.codes, case.one["numbers"], *given_)
    many = OneQuery(library, case.parts, case.many["numbers"], given_[0], lists.parts, sizes)
    for seed in range(5):
        query = codes_of(1, case.words, seed, case.spread)
        for enough, gap in ((1, 0), (k, 3), (case.n, 64 * case.words)):
            want, found = (search.topk(query, k, enough, gap=gap) for search in (one, many))
            assert want is not None
            assert found is not None
            agree(want, found)
    case.many["numbers"][0][:] = 1 << 31  # of a damaged file
    if case.edges[1] and k == case.n:
        assert many.topk(query, k, case.n) is None


def test_what_does_not_fit_is_refused(engine_of: EngineOf) -> None:
    codes, queries = codes_of(100, 2, 1, 64), codes_of(3, 2, 2, 64)
    for wrong, error in (
        ([codes, codes[:, :1].copy()], ValueError),
        ([codes[0]], ValueError),
        ([codes[:, ::-1]], ValueError),
        ([codes.astype(np.int64)], TypeError),
    ):
        with pytest.raises(error):
            Parts(wrong)
    parts = Parts([codes[:60].copy(), codes[60:].copy()])
    assert (len(parts), parts.size) == (100, 200)
    rows = np.array([99, 0, 60, 59, 60])
    np.testing.assert_array_equal(parts[rows], codes[rows])
    engine = engine_of(hamming.FAMILY)
    numbers = [np.arange(60, dtype=np.uint32), np.arange(40, dtype=np.uint32)]
    visits = np.zeros((3, 1), np.int32)

    def refused(match: str, **how: Any) -> None:
        with pytest.raises(ValueError, match=match):
            hamming.topk(parts, queries, 5, engine=engine, **how)

    every = np.array([0, 100])
    refused("numbers", numbers=numbers[:1])
    refused("spans", spans=np.array([[0, 50]]), numbers=numbers) if engine.library else None
    if engine.library is not None:
        own = [np.array([0, 60]), np.array([0, 41])]
        refused("ascending", lists=Lists(every, visits, own), numbers=numbers)
        refused("not numbered", lists=Lists(every, visits, [every, every]))
    refused("part", lists=Lists(every, visits, [every[:1]]), numbers=numbers)
