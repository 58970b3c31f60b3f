"""Hamming kernels of this CPU and of others, as far as this one runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest

from binq.kernels import hamming, tables
from binq.kernels import topk as keys
from binq.kernels.aot import compile as aot

ENGINES: dict[str, dict[str, Any]] = {
    "native": {},
    "counts": {"counts_bits": lambda _: True},
    "narrow": {"byte_shuffle": lambda _: (16, "llvm.x86.ssse3.pshuf.b.128")},
    "portable": {"byte_shuffle": lambda _: (16, None)},
}
ROWS = (0, 1, 7, 8, 65, 127, 128, 129, 300)


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The kernels of this CPU, and those of others as LLVM makes them run here."""
    from binq.kernels.source import hamming as hamming_source

    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # the workers share what they compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "_NUMPY_WORK", -1)
        if request.param == "narrow" and not aot.host_target().triple.startswith("x86_64"):
            pytest.skip("an instruction of x86")
        if request.param != "native":
            for name, value in ENGINES[request.param].items():
                patch.setattr(hamming_source, name, value)
            family = replace(hamming.FAMILY, name=f"hamming-{request.param}")
            patch.setattr(hamming, "FAMILY", family)
            patch.setenv("BINQ_CACHE_DIR", str(place / "engines"))
        hamming._kernels.cache_clear()
        yield request.param
    hamming._kernels.cache_clear()


def distances_of(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return all distances, (q, n), by numpy."""
    return np.bitwise_count(codes[None] ^ queries[:, None]).sum(axis=2).astype(np.int32)


def inside(values: np.ndarray, radii: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return per row of values the places and values up to the radius, by (value, place)."""
    places, ordered = naive.smallest(values, values.shape[1])
    return [
        (line[near <= radius], near[near <= radius])
        for line, near, radius in zip(places, ordered, radii, strict=True)
    ]


def _data(seed: int, n: int, words: int, count: int) -> tuple[Any, Any]:
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


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("words", [*range(1, 10), 12, 13, 16, 17, 40])
def test_topk_is_the_oracle(words: int) -> None:
    for n in ROWS:
        for count in (1, 6):
            codes, queries = _data(words + n + count, n, words, count)
            expected = distances_of(codes, queries)
            for k in {0, 1, 10, n - 1, n, n + 1} - {-1}:
                rows, found = hamming.topk(codes, queries, k, threads=1 + k % 3)
                want_rows, want = naive.smallest(expected, k)
                np.testing.assert_array_equal(rows, want_rows)
                np.testing.assert_array_equal(found, want)
                assert rows.dtype == np.int64
                assert found.dtype == np.int32


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("words", [1, 2, 3, 12, 17, 40, 255, 256])
def test_radius_is_the_oracle(words: int) -> None:
    for n in (0, 1, 127, 128, 129, 300):
        codes, queries = _data(words + n, n, words, 5)
        expected = distances_of(codes, queries)
        radii = np.array([-5, 0, 32 * words, 32 * words - 9, 10**9])
        want = inside(expected, radii)
        for threads in (1, 3):
            lims, rows, found = hamming.within(codes, queries, radii, threads)
            counts = hamming.count_within(codes, queries, radii, threads)
            np.testing.assert_array_equal(counts, [len(hits) for hits, _ in want])
            np.testing.assert_array_equal(np.diff(lims), counts)
            for i, (hits, values) in enumerate(want):
                np.testing.assert_array_equal(rows[lims[i] : lims[i + 1]], hits)
                np.testing.assert_array_equal(found[lims[i] : lims[i + 1]], values)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("words", [*range(1, 41), 60, 61, 123, 124, 125, 241, 300])
def test_few_queries_at_every_width(words: int) -> None:
    """Rows in every stream and at every edge of one, all of them hits or only a few."""
    for n in (*range(1, 10), 63, 64, 65, 255, 256, 257, 261, 700):
        codes, queries = _data(words + n, n, words, 1 + n % 4)
        expected = distances_of(codes, queries)
        for k in {1, 10, n - 1, n} - {0}:
            rows, found = hamming.topk(codes, queries, k)
            want_rows, want = naive.smallest(expected, k)
            np.testing.assert_array_equal(rows, want_rows)
            np.testing.assert_array_equal(found, want)
        radii = np.median(expected, axis=1).astype(np.int64)
        lims, rows, found = hamming.within(codes, queries, radii)
        want_hits = inside(expected, radii)
        assert lims.tolist() == [0, *np.cumsum([len(hits) for hits, _ in want_hits])]
        np.testing.assert_array_equal(rows, np.concatenate([hits for hits, _ in want_hits]))
        np.testing.assert_array_equal(found, np.concatenate([line for _, line in want_hits]))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("words", [2, 6, 12])
@pytest.mark.parametrize("n", [4095, 4096, 4097, 4100, 5119, 8191, 8192, 8197, 12_300])
def test_one_query_over_whole_streams(n: int, words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few distances, so that ties meet at every border of a stream."""
    monkeypatch.setattr(hamming, "_WORK_WORTH_A_THREAD", 1)
    codes, queries = _data(n, n, words, 1)
    for kept in (0, 3, 0xFFFF):
        expected = distances_of(codes & np.uint64(kept), queries)
        for k, threads in ((1, 1), (10, 2), (1000, 1), (n, 3)):
            rows, found = hamming.topk(codes & np.uint64(kept), queries, k, threads)
            want_rows, want = naive.smallest(expected, k)
            np.testing.assert_array_equal(rows, want_rows)
            np.testing.assert_array_equal(found, want)


@pytest.mark.usefixtures("engine")
def test_many_blocks_and_threads_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_WORK_PER_BLOCK", 1)
    monkeypatch.setattr(hamming, "_WORK_WORTH_A_THREAD", 1)
    codes, queries = _data(4, 20_000, 2, 9)
    codes &= np.uint64(0xF0F0)
    want_rows, want = naive.smallest(distances_of(codes, queries), 700)
    for threads in (1, 2, 3, 5):
        for k in (1, 33, 700):
            rows, found = hamming.topk(codes, queries, k, threads)
            np.testing.assert_array_equal(rows, want_rows[:, :k])
            np.testing.assert_array_equal(found, want[:, :k])


@pytest.mark.usefixtures("engine")
def test_descending_distances_cut_the_buffer_often() -> None:
    # Every row is nearer than all before it: each one is a hit.
    codes = np.zeros((3000, 60), np.uint64)
    bits = np.arange(60 * 64)
    for row in range(3000):
        word, bit = divmod(bits[: 3000 - row], 64)
        np.bitwise_or.at(codes[row], word, np.uint64(1) << bit.astype(np.uint64))
    queries = np.zeros((4, 60), np.uint64)
    for k in (1, 10, 100):
        rows, found = hamming.topk(codes, queries, k)
        np.testing.assert_array_equal(rows[3], 2999 - np.arange(k))
        np.testing.assert_array_equal(found[3], 1 + np.arange(k))


@pytest.mark.usefixtures("engine")
def test_queries_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "QUERIES_PER_PASS", 8)
    codes, queries = _data(0, 500, 3, 21)
    rows, found = hamming.topk(codes, queries, 5)
    want_rows, want = naive.smallest(distances_of(codes, queries), 5)
    np.testing.assert_array_equal(rows, want_rows)
    np.testing.assert_array_equal(found, want)
    counts = hamming.count_within(codes, queries, np.full(21, 90))
    np.testing.assert_array_equal(counts, (distances_of(codes, queries) <= 90).sum(axis=1))


@pytest.mark.usefixtures("engine")
def test_read_only_map(tmp_path: Path) -> None:
    codes, queries = _data(0, 200, 5, 3)
    codes.tofile(tmp_path / "codes")
    mapped = np.memmap(tmp_path / "codes", np.uint64, "r", shape=codes.shape)
    rows, _ = hamming.topk(mapped, queries, 9)
    np.testing.assert_array_equal(rows, naive.smallest(distances_of(codes, queries), 9)[0])


@pytest.mark.usefixtures("engine")
def test_distances_of_rows() -> None:
    codes, queries = _data(0, 90, 13, 4)
    rows = np.random.default_rng(0).integers(0, 90, (4, 30))
    want = np.take_along_axis(distances_of(codes, queries), rows, axis=1)
    np.testing.assert_array_equal(hamming.distances(codes, queries, rows), want)
    for wrong in (-1, 90):
        with pytest.raises(IndexError):
            hamming.distances(codes, queries, np.full((4, 1), wrong))


def test_masks_and_sections() -> None:
    random = np.random.default_rng(0)
    queries = random.integers(0, 2**64, (70, 40), dtype=np.uint64)
    queries[::3] = np.uint64(2**64 - 1)
    ends, mask = tables.sections(queries)
    parts = np.bitwise_count((queries ^ mask).astype("<u8").view("<u2")).astype(int)
    assert parts.max() <= 15
    starts = np.concatenate(([0], ends[:-1]))
    assert ends[-1] == 160
    assert all(parts[:, a:b].sum(axis=1).max() <= 255 for a, b in zip(starts, ends, strict=True))


def test_numpy_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aot, "is_ready", lambda _: False)
    monkeypatch.setattr(hamming, "_kernels", None)
    monkeypatch.setattr(hamming, "_NUMPY_WORK", 1 << 29)
    codes, queries = _data(1, 300, 3, 4)
    expected = distances_of(codes, queries)
    for k in (1, 10, 300):
        rows, found = hamming.topk(codes, queries, k)
        want_rows, want = naive.smallest(expected, k)
        np.testing.assert_array_equal(rows, want_rows)
        np.testing.assert_array_equal(found, want)
    radii = np.array([-1, 90, 95, 192])
    lims, rows, _ = hamming.within(codes, queries, radii)
    np.testing.assert_array_equal(rows, np.concatenate([r for r, _ in inside(expected, radii)]))
    np.testing.assert_array_equal(np.diff(lims), hamming.count_within(codes, queries, radii))
    some = np.array([[0, 5]] * 4)
    np.testing.assert_array_equal(hamming.distances(codes, queries, some), expected[:, [0, 5]])


def test_what_does_not_fit_is_refused() -> None:
    codes, queries = _data(0, 10, 2, 3)
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
    assert hamming.topk(codes, queries[:0], 3)[0].shape == (0, 3)
    assert hamming.within(codes, queries[:0], np.zeros(0, int))[0].tolist() == [0]
