"""Hamming scans against the oracle, by every kernel and by numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given
from hypothesis import strategies as st

from binq.kernels import hamming, tables
from binq.kernels.scan import Engine

EngineOf = Callable[..., Engine]


def distances_of(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return all distances, (q, n), by numpy; `test_the_oracle` holds them to bits counted."""
    return np.bitwise_count(codes[None] ^ queries[:, None]).sum(axis=2).astype(np.int32)


def data_of(seed: int, n: int, words: int, count: int) -> tuple[Any, Any]:
    """Codes and queries: random, few distances, all equal, all bits set, in turn."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**64, (n, words), dtype=np.uint64)
    queries = random.integers(0, 2**64, (count, words), dtype=np.uint64)
    if seed % 4 == 1:
        codes &= np.uint64(3)
    elif seed % 4 == 2:
        codes[:] = codes[:1]
    elif seed % 4 == 3:
        queries[:] = np.uint64(2**64 - 1)
    return codes, queries


def check_topk(codes: Any, queries: Any, k: int, engine: Engine, threads: int = 1) -> None:
    rows, found = hamming.topk(codes, queries, k, threads, engine=engine)
    want_rows, want = naive.smallest(distances_of(codes, queries), k)
    np.testing.assert_array_equal(rows, want_rows)
    np.testing.assert_array_equal(found, want)
    assert (rows.dtype, found.dtype) == (np.int64, np.int32)


def check_within(codes: Any, queries: Any, radii: Any, engine: Engine, threads: int = 1) -> None:
    lims, rows, found = hamming.within(codes, queries, radii, threads, engine=engine)
    counts = hamming.count_within(codes, queries, radii, threads, engine=engine)
    assert (lims.dtype, rows.dtype, found.dtype) == (np.int64, np.int64, np.int32)
    places, ordered = naive.smallest(distances_of(codes, queries), len(codes))
    assert (lims[0], lims[-1]) == (0, len(rows))
    for i, radius in enumerate(radii):
        inside = ordered[i] <= radius
        part = slice(lims[i], lims[i + 1])
        np.testing.assert_array_equal(rows[part], places[i][inside])
        np.testing.assert_array_equal(found[part], ordered[i][inside])
        assert counts[i] == inside.sum()


def test_the_oracle() -> None:
    codes, queries = codes_of(9, 3), codes_of(2, 3, seed=1)
    counted = [[naive.hamming(code, query) for code in codes] for query in queries]
    assert distances_of(codes, queries).tolist() == counted


@given(seed=st.integers(0, 1 << 32), data=st.data())
def test_any_shape(engine_of: EngineOf, seed: int, data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([0, 1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 257, 700]), "n")
    count = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 33]), "queries")
    codes, queries = data_of(seed, n, data.draw(st.integers(1, 20), "words"), count)
    threads = data.draw(st.sampled_from([1, 3]), "threads")
    rows = data.draw(st.sampled_from([None, 128, 256]), "rows per block")
    engine = engine_of(hamming.FAMILY, rows_per_block=rows)
    k = data.draw(st.sampled_from([0, 1, 10, n, n + 1]), "k")
    check_topk(codes, queries, k, engine, threads)
    middle = int(np.median(distances_of(codes, queries))) if n and count else 0
    radii = np.random.default_rng(seed).choice([-5, 0, middle, middle - 9, 10**9], count)
    check_within(codes, queries, radii, engine, threads)


@pytest.mark.slow
def test_every_width(engine_of: EngineOf) -> None:
    engine = engine_of(hamming.FAMILY)
    for words in (*range(1, 42), 60, 61, 123, 124, 125, 241, 255, 256, 300):
        for n, count in ((1 + words % 9, 1), (261, 1), (261, 2 + words % 3), (129, 6)):
            codes, queries = data_of(words + n, n, words, count)
            for k in (1, 10, n):
                check_topk(codes, queries, k, engine)
            radii = np.median(distances_of(codes, queries), axis=1).astype(np.int64)
            check_within(codes, queries, radii, engine)


def test_one_query_over_whole_streams(engine_of: EngineOf) -> None:
    """Few distances, so that ties meet at every border of a stream."""
    engine = engine_of(hamming.FAMILY, rows_per_block=8192)
    for n in (4095, 4096, 4097, 4100, 5119, 8191, 8192, 8197, 12_300):
        codes, queries = data_of(n, n, 2 + n % 5, 1)
        for kept in (0, 3, 0xFFFF):
            for k, threads in ((1, 1), (10, 2), (1000, 1), (n, 3)):
                check_topk(codes & np.uint64(kept), queries, k, engine, threads)


def test_blocks_passes_and_threads_agree(engine_of: EngineOf) -> None:
    engine = engine_of(hamming.FAMILY, rows_per_block=256, queries_per_pass=4)
    for count in (1, 9):
        codes, queries = data_of(4, 20_000, 2, count)
        codes &= np.uint64(0xF0F0)
        for threads in (1, 2, 5):
            for k in (1, 33, 700):
                check_topk(codes, queries, k, engine, threads)
        check_within(codes, queries, np.arange(20, 20 + count), engine, threads)


def test_rows_that_come_nearer_and_nearer(engine_of: EngineOf) -> None:
    # Each one is a hit: the buffer is cut often.
    engine = engine_of(hamming.FAMILY)
    ramp = np.packbits(np.tri(3000, 3840, -1, np.uint8)[::-1], axis=1, bitorder="little")
    codes = np.ascontiguousarray(ramp).view(np.uint64)
    queries = np.zeros((4, 60), np.uint64)
    for k in (1, 10, 100):
        for some in (queries, queries[:1]):
            check_topk(codes, some, k, engine)
            check_topk(codes[::-1].copy(), some, k, engine)


def test_a_read_only_map(engine_of: EngineOf, tmp_path: Path) -> None:
    codes, queries = data_of(0, 200, 5, 3)
    codes.tofile(tmp_path / "codes")
    mapped = np.memmap(tmp_path / "codes", np.uint64, "r", shape=codes.shape)
    check_topk(mapped, queries, 9, engine_of(hamming.FAMILY))


def test_distances_of_rows(engine_of: EngineOf) -> None:
    engine = engine_of(hamming.FAMILY)
    for words in (1, 3, 13, 40, 125):
        codes, queries = data_of(0, 90, words, 4)
        rows = np.random.default_rng(0).integers(0, 90, (4, 30))
        want = np.take_along_axis(distances_of(codes, queries), rows, axis=1)
        found = hamming.distances(codes, queries, rows, engine=engine)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, want)
    assert hamming.distances(codes, queries, rows[:, :0], engine=engine).shape == (4, 0)
    for wrong in (-1, 90):
        with pytest.raises(IndexError):
            hamming.distances(codes, queries, np.full((4, 1), wrong))


def test_masks_and_sections() -> None:
    queries = codes_of(70, 40)
    queries[::3] = np.uint64(2**64 - 1)
    ends, mask = tables.sections(queries)
    parts = np.bitwise_count((queries ^ mask).astype("<u8").view("<u2")).astype(int)
    assert parts.max() <= 15
    starts = np.concatenate(([0], ends[:-1]))
    assert ends[-1] == 160
    assert all(parts[:, a:b].sum(axis=1).max() <= 255 for a, b in zip(starts, ends, strict=True))


def test_what_does_not_fit_is_refused() -> None:
    codes, queries = data_of(0, 10, 2, 3)
    with pytest.raises(ValueError, match="differ in words"):
        hamming.topk(codes, queries[:, :1], 1)
    with pytest.raises(ValueError, match="no words"):
        hamming.topk(codes[:, :0], queries[:, :0], 1)
    with pytest.raises(TypeError):
        hamming.topk(codes.view(np.int64), queries, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        hamming.topk(codes[::2], queries, 1)
    with pytest.raises(ValueError, match="k is -1"):
        hamming.topk(codes, queries, -1)
    with pytest.raises(ValueError, match="radii"):
        hamming.within(codes, queries, np.zeros(2, int))
    with pytest.raises(ValueError, match="rows"):
        hamming.distances(codes, queries, np.zeros((2, 1), np.int64))
