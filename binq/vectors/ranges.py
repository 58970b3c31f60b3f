"""Rows of an object in a store, fetched by ranges as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.io.objects import ObjectFile, StoreObject

# Rows that lie so near are fetched by one request: what lies between costs less than another.
_NEAR: Final = 1 << 16
_AT_ONCE_BYTES: Final = 32 << 20


class RangedRows:
    """Rows one after the other in an object, indexed as an array is by a slice or by numbers.

    Parameters
    ----------
    source : StoreObject
    dtype : dtype
        Of an element, or of a whole row where ``shape`` has one axis.
    offset : int
        Of the first row, in bytes.
    shape : (rows, width) or (rows,)
    """

    def __init__(
        self, source: StoreObject, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]
    ) -> None:
        self._source = source
        self._file: ObjectFile = source.open()
        self._dtype = dtype
        self._offset = offset
        self._shape = shape
        self._row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._held: tuple[int, int, NDArray[Any]] | None = None

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        if isinstance(rows, slice):
            start, end, _ = rows.indices(self._shape[0])
            return self._between(start, max(start, end))
        return self._picked(rows)

    def _between(self, start: int, end: int) -> NDArray[Any]:
        """Return rows in order; who reads parts of the last ones again is not made to wait."""
        if self._held is None or not self._held[0] <= start <= end <= self._held[1]:
            self._held = None  # two of them would be held meanwhile
            self._held = (start, end, self._fetched([(start, end)]))
        first, _, held = self._held
        return held[start - first : end - first]

    def _picked(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows by their numbers, ascending."""
        found = np.empty((len(rows), *self._shape[1:]), self._dtype)
        done = 0
        for spans in self._spans(rows):
            fetched = self._fetched(spans)
            begin = 0
            for start, end in spans:
                upto = done + int(np.searchsorted(rows[done:], end))
                found[done:upto] = fetched[rows[done:upto] - start + begin]
                done, begin = upto, begin + end - start
        return found

    def _spans(self, rows: NDArray[np.int64]) -> Iterator[list[tuple[int, int]]]:
        """Yield spans of rows (start, end) that hold the wanted ones, some megabytes at a time."""
        gap = max(1, _NEAR // max(1, self._row_bytes))
        most = max(1, _AT_ONCE_BYTES // max(1, self._row_bytes))
        spans: list[tuple[int, int]] = []
        count = 0
        for row in rows.tolist():
            near = bool(spans) and row - spans[-1][1] < gap
            added = row + 1 - spans[-1][1] if near else 1
            if spans and count + added > most:
                yield spans
                spans, count, near, added = [], 0, False, 1
            if near:
                spans[-1] = (spans[-1][0], row + 1)
            else:
                spans.append((row, row + 1))
            count += added
        if spans:
            yield spans

    def _fetched(self, spans: list[tuple[int, int]]) -> NDArray[Any]:
        """Return the rows of spans, one after the other."""
        size = self._row_bytes
        places = [(self._offset + start * size, (end - start) * size) for start, end in spans]
        data = self._file.ranges(places)
        whole = data[0] if len(data) == 1 else b"".join(data)
        rows = sum(end - start for start, end in spans)
        flat = np.frombuffer(whole, self._dtype, rows * (size // max(1, self._dtype.itemsize)))
        return flat.reshape(rows, *self._shape[1:])
