"""Every kernel against the oracle: ties, all widths, all k, threads, nothing at all."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given
from hypothesis import strategies as st

from binq import bits as packing
from binq.kernels import hamming


def check_topk(codes: np.ndarray, queries: np.ndarray, k: int, threads: int) -> None:
    rows, distances = hamming.topk(codes, queries, k, threads)
    assert (rows.dtype, distances.dtype) == (np.int64, np.int32)
    assert rows.shape == distances.shape == (len(queries), min(k, len(codes)))
    for number, query in enumerate(queries):
        expected = naive.topk(codes, query, k)
        found = list(zip(distances[number].tolist(), rows[number].tolist(), strict=True))
        assert found == expected


def check_within(codes: np.ndarray, queries: np.ndarray, radii: list[int], threads: int) -> None:
    bounds = np.array(radii, np.int64)
    lims, rows, distances = hamming.within(codes, queries, bounds, threads)
    assert (lims.dtype, rows.dtype, distances.dtype) == (np.int64, np.int64, np.int32)
    assert lims.shape == (len(queries) + 1,)
    assert lims[0] == 0
    assert lims[-1] == len(rows) == len(distances)
    counts = hamming.count_within(codes, queries, bounds, threads)
    assert counts.dtype == np.int64
    for number, query in enumerate(queries):
        expected = naive.within(codes, query, radii[number])
        part = slice(lims[number], lims[number + 1])
        assert list(zip(distances[part].tolist(), rows[part].tolist(), strict=True)) == expected
        assert counts[number] == len(expected)


@given(st.data())
def test_against_the_oracle(data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, 300), "dim")
    n, q = data.draw(st.integers(0, 40), "n"), data.draw(st.integers(0, 4), "q")
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32), "seed"))
    share = data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]), "share of ones")
    codes = packing.pack(rng.random((n, dim)) < share)
    queries = packing.pack(rng.random((q, dim)) < share)
    threads = data.draw(st.sampled_from([1, 2]), "threads")
    check_topk(codes, queries, data.draw(st.integers(1, n + 1), "k"), threads)
    radii = data.draw(st.lists(st.integers(0, dim), min_size=q, max_size=q), "radii")
    check_within(codes, queries, radii, threads)


@pytest.mark.parametrize("dim", range(1, 301))
def test_every_dim(dim: int) -> None:
    rng = np.random.default_rng(dim)
    codes = packing.pack(rng.random((23, dim)) < 0.5)
    queries = packing.pack(rng.random((2, dim)) < 0.5)
    check_topk(codes, queries, 5, 1)
    check_within(codes, queries, [dim // 2, dim], 1)
    rows = rng.integers(0, 23, (2, 7))
    found = hamming.distances(codes, queries, rows)
    assert found.dtype == np.int32
    assert found.tolist() == [
        [naive.hamming(codes[row], query) for row in line]
        for line, query in zip(rows, queries, strict=True)
    ]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("words", [1, 2, 6, 7, 12])
@pytest.mark.parametrize("spread", [1, 3, 64])
def test_ties(words: int, spread: int, threads: int) -> None:
    codes = codes_of(200, words, spread=spread)
    queries = codes_of(3, words, seed=1, spread=spread)
    for k in (1, 2, 17, 199, 200, 201):
        check_topk(codes, queries, k, threads)
    check_within(codes, queries, [0, words * spread // 2, words * 64], threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_all_codes_equal(threads: int) -> None:
    codes = np.full((150, 3), 0xF0F0F0F0F0F0F0F0, np.uint64)
    queries = np.array([[0, 0, 0], [0xF0F0F0F0F0F0F0F0] * 3, [2**64 - 1] * 3], np.uint64)
    rows, distances = hamming.topk(codes, queries, 40, threads)
    assert rows.tolist() == [list(range(40))] * 3
    assert distances.tolist() == [[96] * 40, [0] * 40, [96] * 40]
    check_within(codes, queries, [95, 0, 96], threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("n", "q"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_nothing_at_all(n: int, q: int, threads: int) -> None:
    codes, queries = codes_of(n, 2), codes_of(q, 2, seed=1)
    for k in (1, 5):
        check_topk(codes, queries, k, threads)
    check_within(codes, queries, [128] * q, threads)
    none = np.empty((q, 0), np.int64)
    assert hamming.distances(codes, queries, none).shape == (q, 0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("q", [1, 2, 5, 33])
def test_more_codes_than_a_block(q: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than the oracle can do: numpy is the oracle here."""
    monkeypatch.setattr(hamming, "_WORK_WORTH_A_THREAD", 1)
    codes, queries = codes_of(70_001, 2, spread=3), codes_of(q, 2, seed=1, spread=3)
    rows, distances = hamming.topk(codes, queries, 300, threads)
    radii = np.full(q, 2, np.int64)
    lims, near, _ = hamming.within(codes, queries, radii, threads)
    for number, query in enumerate(queries):
        found = np.bitwise_count(codes ^ query).sum(axis=1)
        order = np.argsort(found, kind="stable")
        assert np.array_equal(rows[number], order[:300])
        assert np.array_equal(distances[number], found[order[:300]])
        inside = order[found[order] <= 2]
        assert np.array_equal(near[lims[number] : lims[number + 1]], inside)


def test_order_of_rows_does_not_help_or_hurt() -> None:
    """Codes that come nearer and nearer, and farther and farther."""
    ramp = np.array([[(1 << j) - 1] for j in range(64)], np.uint64)
    query = np.zeros((1, 1), np.uint64)
    for codes in (ramp, ramp[::-1].copy(), np.repeat(ramp, 3, axis=0)):
        for k in (1, 10, len(codes)):
            check_topk(codes, query, k, 1)


def test_codes_of_a_read_only_map(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "codes.npy"  # type: ignore[operator]
    np.save(path, codes_of(90, 3))
    mapped = np.load(path, mmap_mode="r")
    check_topk(mapped, codes_of(2, 3, seed=1), 9, 2)
