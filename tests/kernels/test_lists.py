"""Scans of inverted lists give what the lists' codes have to give, under their own numbers."""

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
from binq.kernels.scan import Engine

EngineOf = Callable[..., Engine]
FAR = np.iinfo(np.int32).max


class Case:
    """What a scan of ``n`` codes for ``count`` queries is given."""

    def __init__(self, data: st.DataObject, n: int, count: int, batched: bool = False) -> None:
        random = np.random.default_rng(data.draw(st.integers(0, 1 << 32), "seed"))
        lists = data.draw(st.sampled_from([0, 1, 2, 3] if batched else [0, 1, 5, 70]), "lists")
        per_query = data.draw(st.sampled_from([1, 3] if batched else [0, 1, 4, 90]), "visits")
        edges = np.sort(random.integers(0, n + 1, lists + 1))
        if data.draw(st.booleans(), "all codes on lists"):
            edges[0], edges[-1] = 0, n
        visits = random.integers(-1, lists, (count, per_query), np.int32)
        self.lists = Lists(edges, visits)
        self.keywords: dict[str, Any] = {"lists": self.lists}
        self.numbers = np.arange(n)
        kind = data.draw(st.sampled_from(["places", "shuffled", "falling", "equal"]), "numbers")
        if kind != "places":
            self.numbers = random.permutation(n) + (0 if n % 2 else (1 << 32) - n)
            if kind == "falling":
                self.numbers = self.numbers.max(initial=0) - np.arange(n)
            elif kind == "equal":
                self.numbers[:] = 7
            self.keywords["numbers"] = self.numbers.astype(np.uint32)
        self.allowed = set(range(n))
        if data.draw(st.booleans(), "filter"):
            share = data.draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
            self.allowed = set(np.flatnonzero(random.random(n) < share).tolist())
            self.keywords["allowed"] = naive.bitmap(self.allowed, n)
        self.k = data.draw(st.sampled_from([1, 10, 100, n]), "k")
        self.threads = data.draw(st.sampled_from([1, 3]), "threads")

    def check(self, values: Any, rows: Any, found: Any, missing: float) -> None:
        """Compare with the oracle, given the values of all codes, smaller being better."""
        k = min(self.k, len(self.allowed))
        assert rows.shape == found.shape == (len(values), k)
        for i, visited in enumerate(self.lists.visits.tolist()):
            want = naive.of_lists(
                values[i], self.lists.offsets, visited, self.allowed, self.numbers, k
            )
            want += [(missing, -1)] * (k - len(want))
            assert list(zip(found[i].tolist(), rows[i].tolist(), strict=True)) == want


SIZES = st.sampled_from([0, 1, 63, 129, 700, 3000])


@given(data=st.data())
def test_hamming(engine_of: EngineOf, data: st.DataObject) -> None:
    n, count = data.draw(SIZES, "n"), data.draw(st.sampled_from([1, 2, 5, 40]), "queries")
    words = data.draw(st.integers(1, 5), "words")
    spread = data.draw(st.sampled_from([0, 2, 64]), "bits of a word that differ")
    case = Case(data, n, count, data.draw(st.booleans(), "batched"))
    codes, queries = codes_of(n, words, 1, spread), codes_of(count, words, 2, spread)
    rows_per_block = data.draw(st.sampled_from([None, 50, 128]), "rows per block")
    engine = engine_of(hamming.FAMILY, rows_per_block=rows_per_block, queries_per_pass=33)
    rows, found = hamming.topk(codes, queries, case.k, case.threads, **case.keywords, engine=engine)
    assert (rows.dtype, found.dtype) == (np.int64, np.int32)
    distances = np.bitwise_count(codes[None] ^ queries[:, None]).sum(axis=2)
    case.check(distances, rows, found, FAR)


@given(data=st.data())
def test_asymmetric(engine_of: EngineOf, data: st.DataObject) -> None:
    n, count = data.draw(SIZES, "n"), data.draw(st.sampled_from([1, 2, 5, 40]), "queries")
    words = data.draw(st.integers(1, 5), "words")
    case = Case(data, n, count, data.draw(st.booleans(), "batched"))
    codes = codes_of(n, words, 1, data.draw(st.sampled_from([0, 2, 64])))
    random = np.random.default_rng(n + count)
    # Scores tie, at zero and at the least of all too.
    weights = random.integers(-7, 8, (count, 64 * words)).astype(np.float32)
    weights[:, 0] = 7
    if n and data.draw(st.booleans(), "opposed"):
        weights[:] = -7 * naive.signs(codes[:1])
    base = random.integers(-3, 4, count).astype(np.float32)
    mul = add = None
    if data.draw(st.booleans(), "factors"):
        mul, add = random.integers(-1, 2, (2, n)).astype(np.float32)
    rows_per_block = data.draw(st.sampled_from([None, 50, 128]), "rows per block")
    engine = engine_of(asymmetric.FAMILY, rows_per_block=rows_per_block, queries_per_pass=33)
    rows, found = asymmetric.topk(
        codes, weights, base, case.k, mul, add, case.threads, **case.keywords, engine=engine
    )
    assert (rows.dtype, found.dtype) == (np.int64, np.float32)
    units, steps = naive.units(weights)
    scores = (units @ naive.signs(codes).T).astype(np.float32) * steps[:, None] + base[:, None]
    if mul is not None:
        scores = scores * mul + add
    assert scores.dtype == np.float32
    case.check(-scores, rows, -found, np.inf)


@given(data=st.data())
def test_numbers_without_lists(engine_of: EngineOf, data: st.DataObject) -> None:
    n, count = data.draw(SIZES, "n"), data.draw(st.sampled_from([1, 2, 5]), "queries")
    case = Case(data, n, count)
    del case.keywords["lists"]
    case.lists = Lists(np.array([0, n]), np.zeros((count, 1), np.int32))
    spread = data.draw(st.sampled_from([0, 2, 64]), "bits of a word that differ")
    codes, queries = codes_of(n, 2, 1, spread), codes_of(count, 2, 2, spread)
    engine = engine_of(hamming.FAMILY, rows_per_block=data.draw(st.sampled_from([None, 300])))
    rows, found = hamming.topk(codes, queries, case.k, case.threads, **case.keywords, engine=engine)
    distances = np.bitwise_count(codes[None] ^ queries[:, None]).sum(axis=2)
    case.check(distances, rows, found, FAR)
    radii = np.full(count, data.draw(st.integers(-1, 2 * spread)))
    lims, near, values = hamming.within(
        codes, queries, radii, case.threads, **case.keywords, engine=engine
    )
    for i in range(count):
        inside = naive.of_lists(distances[i], [0, n], [0], case.allowed, case.numbers, n)
        part = slice(lims[i], lims[i + 1])
        want = [pair for pair in inside if pair[0] <= radii[i]]
        assert list(zip(values[part].tolist(), near[part].tolist(), strict=True)) == want


def test_ties_at_every_cut(engine_of: EngineOf) -> None:
    """Most rows tie, their numbers fall, and buffers are cut often."""
    n, random = 3000, np.random.default_rng(0)
    engine = engine_of(asymmetric.FAMILY)
    offsets = np.arange(0, n + 1, 250)
    lists = Lists(offsets, np.tile(np.arange(12, dtype=np.int32), (3, 1)))
    numbered = np.arange(n)[::-1], random.permutation(n)
    for codes, numbers in itertools.product((codes_of(n, 2, 1, 0), codes_of(n, 2, 1, 1)), numbered):
        for weights in (naive.signs(codes[:1]), -naive.signs(codes[:1]), naive.signs(codes[1:2])):
            units, steps = naive.units(weights)
            scores = (units @ naive.signs(codes).T).astype(np.float32) * steps[:, None]
            # Scores around zero, where floats change their sign, and others.
            for level in (0, float(scores.min()), float(scores.max())):
                base = np.full(3, -level, np.float32)
                for count, k in ((1, 1), (1, 10), (3, 10), (3, 200)):
                    some = Lists(offsets, lists.visits[:count])
                    rows, found = asymmetric.topk(
                        codes,
                        weights.repeat(count, axis=0).astype(np.float32),
                        base[:count],
                        k,
                        numbers=numbers.astype(np.uint32),
                        lists=some,
                        engine=engine,
                    )
                    values = scores[0] + base[0]
                    best = np.lexsort((numbers, -values))[:k]
                    for i in range(count):
                        np.testing.assert_array_equal(rows[i], numbers[best])
                        np.testing.assert_array_equal(found[i], values[best])


def test_many_queries_on_long_lists(engine_of: EngineOf) -> None:
    """Lists are cut, and queries are grouped, where there is work for several calls."""
    random = np.random.default_rng(0)
    codes, queries = codes_of(60_000, 2, 1, 5), codes_of(300, 2, 2, 5)
    offsets = np.array([0, 40_000, 40_000, 40_001, 45_000, 60_000])
    lists = Lists(offsets, random.permuted(np.tile(np.arange(5, dtype=np.int32), (300, 1)), axis=1))
    numbers = random.permutation(60_000).astype(np.uint32)
    order = np.argsort(numbers)
    engine = engine_of(hamming.FAMILY)
    want = hamming.topk(codes[order], queries, 20, engine=engine)
    for threads in (1, 2, 3):
        found = hamming.topk(
            codes, queries, 20, threads, numbers=numbers, lists=lists, engine=engine
        )
        np.testing.assert_array_equal(found[0], want[0])
        np.testing.assert_array_equal(found[1], want[1])


def test_what_does_not_fit_is_refused(engine_of: EngineOf) -> None:
    codes = codes_of(100, 1)
    good = np.array([0, 50, 100])
    visits = np.zeros((3, 2), np.int32)

    def refused(error: type[Exception], match: str, count: int = 3, **given: Any) -> None:
        engine = engine_of(hamming.FAMILY)
        with pytest.raises(error, match=match):
            hamming.topk(codes, codes[:count], 3, engine=engine, **given)
        if engine.library is not None:
            weights = np.ones((count, 64), np.float32)
            with pytest.raises(error, match=match):
                asymmetric.topk(codes, weights, np.zeros(count, np.float32), 3, **given)

    for count in (1, 3):
        for wrong in (-2, 2, 2**31 - 1, -(2**31)):
            bad = visits[:count].copy()
            bad[-1, 1] = wrong
            refused(ValueError, "lists", count, lists=Lists(good, bad))
        for offsets in ([-1, 50, 100], [60, 50, 100], [2**62, 2**62 + 1, 100], [0, 101, 100]):
            refused(ValueError, "ascending", count, lists=Lists(np.array(offsets), visits[:count]))
    refused(ValueError, "offsets", lists=Lists(good[:0], visits))
    refused(ValueError, "visits", lists=Lists(good, visits[:2]))
    refused(TypeError, "int32", lists=Lists(good, visits.astype(np.int64)))  # type: ignore[arg-type]
    refused(TypeError, "int32", lists=Lists(good.astype(np.int32), visits))  # type: ignore[arg-type]
    refused(ValueError, "spans", lists=Lists(good, visits), spans=np.array([[0, 5]]))
    refused(ValueError, "numbers", numbers=np.zeros(99, np.uint32))
    refused(TypeError, "numbers", numbers=np.zeros(100, np.int64))
