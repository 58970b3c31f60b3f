"""Which rows a scan may return: spans of rows, and a bitmap of allowed ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Bitmap = npt.NDArray[np.uint64]


def check(n: int, spans: Rows | None, allowed: Bitmap | None) -> None:
    """Raise where `spans` or `allowed` do not fit `n` rows.

    Parameters
    ----------
    n : int
    spans : (s, 2) int64, optional
        Ranges of rows [first, last), ascending and disjoint.
    allowed : (ceil(n / 64),) uint64, optional
        Bit ``r % 64`` of word ``r // 64`` says whether row r may be returned.

    Raises
    ------
    ValueError, TypeError
    """
    if spans is not None:
        if spans.ndim != 2 or spans.shape[1] != 2:
            raise ValueError(f"spans {spans.shape} are not (s, 2)")
        if spans.dtype != np.int64:
            raise TypeError(f"spans are {spans.dtype}, not int64")
        edges = spans.ravel()
        if len(edges) and (edges[0] < 0 or edges[-1] > n or (edges[1:] < edges[:-1]).any()):
            raise ValueError(f"spans are not ascending and disjoint ranges of {n} rows")
    if allowed is not None:
        if allowed.shape != (-(-n // 64),):
            raise ValueError(f"allowed {allowed.shape} for {n} rows")
        if allowed.dtype != np.uint64:
            raise TypeError(f"allowed is {allowed.dtype}, not uint64")


def rows_of(n: int, spans: Rows | None, allowed: Bitmap | None) -> Rows:
    """The rows that a scan may return, ascending, as int64."""
    if allowed is None:
        chosen = np.ones(n, np.bool_)
    else:
        octets = np.ascontiguousarray(allowed).astype("<u8", copy=False).view(np.uint8)
        chosen = np.unpackbits(octets, count=n, bitorder="little").view(np.bool_)
    if spans is None:
        return np.flatnonzero(chosen)
    none = np.empty(0, np.int64)
    return np.concatenate([none, *(a + np.flatnonzero(chosen[a:b]) for a, b in spans.tolist())])
