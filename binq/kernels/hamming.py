"""Exact Hamming search by XOR and popcount.

Results follow the total order (distance, row), whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint64]

_BLOCK_WORDS: Final = 1 << 15
_ROW_BITS: Final = 40


def distances(codes: Codes, queries: Codes, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the distances of chosen rows.

    Parameters
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    rows : (q, m) int64
        From 0 to n - 1.

    Returns
    -------
    (q, m) int32
    """
    found: NDArray[np.int32]
    found = np.bitwise_count(codes[rows] ^ queries[:, None, :]).sum(axis=2, dtype=np.int32)
    return found


def topk(
    codes: Codes, queries: Codes, k: int, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find the k nearest codes of every query.

    Parameters
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    k : int
        At least 1.
    threads : int

    Returns
    -------
    rows : (q, min(k, n)) int64
        Ordered by (distance, row).
    distances : (q, min(k, n)) int32
    """
    keys = np.empty((len(queries), min(k, len(codes))), np.int64)

    def one(number: int) -> None:
        best = np.empty(0, np.int64)
        for start, found in _scan(codes, queries[number]):
            merged = np.concatenate([best, _keys(found, start)])
            best = np.partition(merged, k - 1)[:k] if len(merged) > k else merged
        keys[number] = np.sort(best)

    _each(one, len(queries), threads)
    return _split(keys)


def count_within(
    codes: Codes, queries: Codes, radii: NDArray[np.int64], threads: int = 1
) -> NDArray[np.int64]:
    """Count the codes at distance at most ``radii[i]`` of every query i.

    Parameters
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    radii : (q,) int64
    threads : int

    Returns
    -------
    (q,) int64
    """
    counts = np.zeros(len(queries), np.int64)

    def one(number: int) -> None:
        for _, found in _scan(codes, queries[number]):
            counts[number] += np.count_nonzero(found <= radii[number])

    _each(one, len(queries), threads)
    return counts


def within(
    codes: Codes, queries: Codes, radii: NDArray[np.int64], threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Find all codes at distance at most ``radii[i]`` of every query i.

    Parameters
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    radii : (q,) int64
    threads : int

    Returns
    -------
    lims : (q + 1,) int64
        The hits of query i are ``[lims[i]:lims[i + 1]]`` of the flat arrays.
    rows : (hits,) int64
        Ordered by (distance, row) within a query.
    distances : (hits,) int32
    """
    hits: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(queries)

    def one(number: int) -> None:
        parts = [
            _keys(found, start)[found <= radii[number]]
            for start, found in _scan(codes, queries[number])
        ]
        hits[number] = np.sort(np.concatenate(parts)) if parts else hits[number]

    _each(one, len(queries), threads)
    lims = np.concatenate([[0], np.cumsum([len(part) for part in hits])]).astype(np.int64)
    return lims, *_split(np.concatenate([np.empty(0, np.int64), *hits]))


def _scan(codes: Codes, query: Codes) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield (first row, distances) of one block of codes after another."""
    step = max(1, _BLOCK_WORDS // codes.shape[1])
    for start in range(0, len(codes), step):
        block = codes[start : start + step]
        yield start, np.bitwise_count(block ^ query).sum(axis=1, dtype=np.int64)


def _keys(found: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Join distance and row into one integer that sorts by (distance, row)."""
    return (found << _ROW_BITS) | np.arange(start, start + len(found))


def _split(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return keys & ((1 << _ROW_BITS) - 1), (keys >> _ROW_BITS).astype(np.int32)


def _each(one: object, count: int, threads: int) -> None:
    """Call ``one(i)`` for every i below ``count``, on that many threads."""
    assert callable(one)
    if threads == 1 or count < 2:
        for number in range(count):
            one(number)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, range(count)):
            pass
