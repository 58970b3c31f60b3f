"""Scans over spans and allowed rows give what is left of a whole scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given
from hypothesis import strategies as st

from binq.kernels import asymmetric, hamming
from binq.kernels.parts import Parts
from binq.kernels.scan import Engine


@st.composite
def filters(draw: st.DrawFn, n: int) -> tuple[dict[str, Any], list[int]]:
    """Draw what to pass to a scan of ``n`` rows, and the rows that it leaves."""
    rows = set(range(n))
    keywords: dict[str, Any] = {}
    if draw(st.booleans(), "spans"):
        count = draw(st.integers(0, 4))
        edges = sorted(draw(st.lists(st.integers(0, n), min_size=2 * count, max_size=2 * count)))
        spans = np.array(edges, np.int64).reshape(-1, 2)
        rows &= {row for first, last in spans.tolist() for row in range(first, last)}
        keywords["spans"] = spans
    if draw(st.booleans(), "allowed"):
        share = draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]), "share allowed")
        random = np.random.default_rng(draw(st.integers(0, 99)))
        allowed = set(np.flatnonzero(random.random(n) < share).tolist())
        # Whole words, empty and full ones.
        if n > 192 and draw(st.booleans()):
            allowed = (allowed - set(range(64, 128))) | set(range(128, 192))
        rows &= allowed
        keywords["allowed"] = naive.bitmap(allowed, n)
    return keywords, sorted(rows)


@given(st.data())
def test_hamming(engine_of: Callable[..., Engine], data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([0, 1, 63, 64, 129, 400, 700]), "n")
    words, count = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 2, 5]))
    spread = data.draw(st.sampled_from([2, 64]), "bits of a word that differ")
    codes, queries = codes_of(n, words, 1, spread), codes_of(count, words, 2, spread)
    keywords, rows = data.draw(filters(n))
    threads, k = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([0, 1, 10, n]))
    size = data.draw(st.sampled_from([None, 128, 200]), "rows per block")
    keywords["engine"] = engine_of(hamming.FAMILY, rows_per_block=size)
    every = [[pair for pair in naive.topk(codes, query, n) if pair[1] in rows] for query in queries]
    found, distances = hamming.topk(codes, queries, k, threads, **keywords)
    assert found.shape == distances.shape == (count, min(k, len(rows)))
    assert (found.dtype, distances.dtype) == (np.int64, np.int32)
    radii = np.full(count, data.draw(st.integers(-1, words * spread)))
    lims, near, values = hamming.within(codes, queries, radii, threads, **keywords)
    counts = hamming.count_within(codes, queries, radii, threads, **keywords)
    for i, pairs in enumerate(every):
        assert list(zip(distances[i].tolist(), found[i].tolist(), strict=True)) == pairs[:k]
        inside = [pair for pair in pairs if pair[0] <= radii[i]]
        part = slice(lims[i], lims[i + 1])
        assert list(zip(values[part].tolist(), near[part].tolist(), strict=True)) == inside
        assert counts[i] == len(inside)


@given(st.data())
def test_asymmetric(engine_of: Callable[..., Engine], data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([0, 1, 63, 64, 129, 400, 700]), "n")
    words, count = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 2, 5]))
    codes = codes_of(n, words, 1, data.draw(st.sampled_from([2, 64])))
    random = np.random.default_rng(3)
    case: dict[str, Any] = {
        "weights": random.standard_normal((count, 64 * words)).astype(np.float32),
        "base": random.standard_normal(count).astype(np.float32),
    }
    for name in ("mul", "add"):
        if data.draw(st.booleans(), name):
            case[name] = random.random(n).astype(np.float32)
    keywords, rows = data.draw(filters(n))
    threads, k = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([0, 1, 10, n]))
    size = data.draw(st.sampled_from([None, 128, 200]), "rows per block")
    keywords["engine"] = engine_of(asymmetric.FAMILY, rows_per_block=size)
    every, scores = asymmetric.topk(codes, k=n, threads=1, **case)
    found, values = asymmetric.topk(codes, k=k, threads=threads, **case, **keywords)
    assert found.shape == values.shape == (count, min(k, len(rows)))
    for i in range(count):
        pairs = [p for p in zip(every[i].tolist(), scores[i].tolist(), strict=True) if p[0] in rows]
        assert list(zip(found[i].tolist(), values[i].tolist(), strict=True)) == pairs[:k]


def test_what_does_not_fit_is_refused() -> None:
    codes, weights = codes_of(100, 1), np.ones((1, 64), np.float32)
    for keywords, error in (
        ({"spans": np.array([[0, 101]])}, ValueError),
        ({"spans": np.array([[-1, 5]])}, ValueError),
        ({"spans": np.array([[5, 3]])}, ValueError),
        ({"spans": np.array([[5, 8], [7, 9]])}, ValueError),
        ({"spans": np.array([5, 8])}, ValueError),
        ({"spans": np.array([[5, 8]], np.int32)}, TypeError),
        ({"allowed": np.zeros(1, np.uint64)}, ValueError),
        ({"allowed": np.zeros(2, np.int64)}, TypeError),
    ):
        with pytest.raises(error):
            hamming.topk(codes, codes[:1], 3, **keywords)
        with pytest.raises(error):
            hamming.within(codes, codes[:1], np.ones(1, int), **keywords)
        with pytest.raises(error):
            hamming.count_within(codes, codes[:1], np.ones(1, int), **keywords)
        with pytest.raises(error):
            asymmetric.topk(codes, weights, np.zeros(1, np.float32), 3, **keywords)


def test_numbers_that_no_row_has_stay_beyond_all_rows(engine_of: Callable[..., Engine]) -> None:
    """As those of a damaged file: the first row of a part makes no number of another row of it."""
    codes = Parts([codes_of(3, 1), codes_of(4, 1, seed=1)])
    numbers = [np.arange(3, dtype=np.uint32), np.full(4, 2**32 - 1, np.uint32)]
    engine = engine_of(hamming.FAMILY)
    rows, _ = hamming.topk(codes, codes_of(2, 1, seed=2), 7, numbers=numbers, engine=engine)
    assert np.sort(rows).tolist() == [[0, 1, 2, *[2**32 - 1] * 4]] * 2
