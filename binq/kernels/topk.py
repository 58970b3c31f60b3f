"""What the scans share: aligned memory, passes over queries, and the keys that hits are kept as.

A key is ``(value << 32) | row``, see `source.select`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_ROWS = 1 << 32
"""Rows of one call: a key has 32 bits for the row."""
QUERIES_PER_PASS = 4096
"""Fewer than 2**16, so that `tables` finds a mask; few enough to keep the look-up tables small."""
_KEY_BYTES_PER_PASS = 256 << 20
_MERGED_KEYS = 1 << 20
_NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)

Keys = npt.NDArray[np.uint64]


def aligned(count: int, dtype: Any) -> npt.NDArray[Any]:
    """An uninitialised array at a multiple of 64 bytes: unaligned loads would cross cache lines."""
    size = count * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


def passes(count: int, keys_per_query: int) -> Iterator[slice]:
    """Split queries so that look-up tables stay small and the keys of a pass fit memory."""
    size = max(4, min(QUERIES_PER_PASS, _KEY_BYTES_PER_PASS // (8 * max(1, keys_per_query))))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def smallest(keys: Keys, k: int) -> Keys:
    """The k smallest keys along the last axis, in order."""
    if keys.shape[-1] > 4 * k:
        keys = np.partition(keys, k - 1, axis=-1)[..., :k]
    return np.sort(keys, axis=-1)[..., :k]


def merged(keys: list[Keys], found: list[npt.NDArray[np.int64]], count: int, k: int) -> Keys:
    """The k smallest of what several workers found for each query, in order.

    Parameters
    ----------
    keys : list of (queries, capacity) uint64
        Of each worker.
    found : list of (queries,) int64
        How many of a query's keys are filled; together at least k.
    count : int
        Queries to answer; any beyond only fill up a group.
    k : int
        At least 1.

    Returns
    -------
    (count, k) uint64
    """
    result = np.empty((count, k), np.uint64)
    most = [int(own[:count].max()) for own in found]
    size = max(1, _MERGED_KEYS // sum(most))
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        together = np.concatenate(
            [own[part, :n] for own, n in zip(keys, most, strict=True)], axis=1
        )
        filled = [np.arange(n) < own[part, None] for own, n in zip(found, most, strict=True)]
        together[~np.concatenate(filled, axis=1)] = _NO_KEY
        result[part] = smallest(together, k)
    return result
