"""Which rows a scan may return: spans of the codes, a bitmap of allowed ones, row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Bitmap = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.uint32]

GATHER_SHARE = 0.02
"""Of the rows: below it, a scan of a copy, ``codes[rows]``, is faster than one with a bitmap.

As measured in docs/speed.md: from 1 % of a million rows on the bitmap is, and from 2 to 5 % of
100,000.
"""


class Chosen:
    """The rows of a matrix that a scan may return.

    Parameters
    ----------
    n : int
        Rows of the matrix.
    spans : (s, 2) int64, optional
        Ranges of rows [first, last), ascending and disjoint; all rows by default.
    allowed : (ceil(n / 64),) uint64, optional
        Bit ``r % 64`` of word ``r // 64`` says whether row r may be returned; all by default.
    numbers : (n,) uint32, optional
        What to return for every row in place of its place among the codes. Spans and bitmap are of
        places all the same. Of codes in several parts there is an array for each, and its numbers
        are counted from the first row of the part.

    Attributes
    ----------
    count : int
        How many rows are chosen.
    numbers : list of (n_i,) uint32, or None
        Of every part.

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or ranges do not fit.
    """

    def __init__(
        self,
        n: int,
        spans: Rows | None = None,
        allowed: Bitmap | None = None,
        numbers: Numbers | Sequence[Numbers] | None = None,
    ) -> None:
        self.n, self.spans, self.allowed, self.count = n, spans, allowed, n
        self.numbers: list[Numbers] | None = None
        if numbers is not None:
            parts = [numbers] if isinstance(numbers, np.ndarray) else numbers
            if sum(map(len, parts)) != n or any(part.ndim != 1 for part in parts):
                raise ValueError(f"numbers {[part.shape for part in parts]} for {n} rows")
            if any(part.dtype != np.uint32 for part in parts):
                raise TypeError(f"numbers are {parts[0].dtype}, not uint32")
            self.numbers = [np.ascontiguousarray(part) for part in parts]
        if spans is None and allowed is None:
            return
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
            if not allowed.flags.c_contiguous:
                self.allowed = np.ascontiguousarray(allowed)
        self.count = self._counted()

    def _counted(self) -> int:
        if self.allowed is None:
            return 0 if self.spans is None else int((self.spans[:, 1] - self.spans[:, 0]).sum())
        counts = np.bitwise_count(self.allowed)
        edges = np.array([[0, self.n]]) if self.spans is None else self.spans
        # How many rows before each edge are allowed: of whole words, and of the edge's own.
        before = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=before[1:])
        words = np.append(self.allowed, np.uint64(0))[edges >> 6]
        below = (np.uint64(1) << (edges & 63).astype(np.uint64)) - np.uint64(1)
        ranks = before[edges >> 6] + np.bitwise_count(words & below)
        return int((ranks[:, 1] - ranks[:, 0]).sum())

    def every_number(self, firsts: Sequence[int]) -> Rows | None:
        """The numbers of all rows, given the first row of each part; None for their places.

        Those that no row has stay in 32 bits, as kernels have them: callers refuse them.
        """
        if self.numbers is None:
            return None
        parts = zip(self.numbers, firsts, strict=False)
        numbers: Rows = np.concatenate([part.astype(np.int64) + first for part, first in parts])
        return np.minimum(numbers, 0xFFFFFFFF, out=numbers)

    def rows(self) -> Rows:
        """The rows, ascending."""
        if self.allowed is None:
            chosen = np.ones(self.n, np.bool_)
        else:
            parts = self.allowed.astype("<u8", copy=False).view(np.uint8)
            chosen = np.unpackbits(parts, count=self.n, bitorder="little").view(np.bool_)
        if self.spans is None:
            return np.flatnonzero(chosen)
        none = np.empty(0, np.int64)
        spans = self.spans.tolist()
        return np.concatenate([none, *(a + np.flatnonzero(chosen[a:b]) for a, b in spans)])
