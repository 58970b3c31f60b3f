"""What the scans share: aligned memory, passes over queries, and the keys that hits are kept as.

A key is ``(value << 32) | row``, see `nearest_source`.
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


def smallest(parts: list[Keys], k: int) -> Keys:
    """The k smallest of the keys that the workers found, in order."""
    keys = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(keys) > 4 * k:
        keys = np.partition(keys, k - 1)[:k]
    return np.sort(keys)[:k]
