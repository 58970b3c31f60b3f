"""Vectors that Python yields array by array, again for each pass: generated, or read by others."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.errors import InputError, UsageError
from binq.vectors.batch import Batch, sifted
from binq.vectors.decoding import Decoder, ReadOptions, decoder_for, settle_layout
from binq.vectors.source import VectorSource, rows_per_batch


def open_arrays(given: Iterable[Any], options: ReadOptions) -> VectorSource | None:
    """Open an iterable of 2-D arrays; None where it yields something else.

    Its first array is asked for, and thrown away.

    Raises
    ------
    UsageError
        If it is a generator or another iterator, which can be gone through only once.
    InputError
        If the arrays hold no real numbers, or no bits where bits are wanted.
    """
    arrays = iter(given)
    if arrays is given:
        raise UsageError(
            "vectors are read more than once, and this can be gone through only once",
            "",
            "an object whose iter() begins again with",
            type(given).__qualname__,
            "give an object of a class with a method __iter__ that yields the arrays, or a list "
            "of them made into one by numpy.concatenate",
        )
    try:
        first = next(arrays, None)
    finally:
        _close(arrays)
    if not isinstance(first, np.ndarray) or first.ndim != 2:
        return None
    return ArraysSource(given, first, options)


class ArraysSource(VectorSource):
    """Arrays that an iterable yields, one after the other, as one source.

    Parameters
    ----------
    arrays : iterable of (m, dim) arrays
        ``iter`` begins again, and the same arrays come. A ``shape`` that it has, (rows, dim), says
        how many rows there will be, so that they need not be counted.
    first : (m, dim) array
        The first of them.
    options : ReadOptions

    Raises
    ------
    InputError
        As :func:`open_arrays`.
    """

    def __init__(
        self, arrays: Iterable[NDArray[Any]], first: NDArray[Any], options: ReadOptions
    ) -> None:
        super().__init__("arrays")
        self._arrays = arrays
        self._options = options
        self._hash: str | None = None
        self._decoder = self._decoder_of(first, 0)
        self.dim: int = self._decoder.dim
        self.layout = self._decoder.layout
        shape = getattr(arrays, "shape", None)
        self.rows = int(shape[0]) if isinstance(shape, tuple) and len(shape) == 2 else None

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``.

        Raises
        ------
        InputError
            If arrays differ in dimension or type, or there are not as many rows as the time before.
        """
        most = rows_per_batch(self._decoder.row_bytes, max_rows)
        arrays = iter(self._arrays)
        start = 0
        content = xxhash.xxh3_128()
        try:
            for array in arrays:
                self._require_alike(array, start)
                if self.rows is not None and start + len(array) > self.rows:
                    raise self._changed(f"at least {start + len(array):,}")
                content.update(np.ascontiguousarray(array).data)
                for first in range(0, len(array), most):
                    part = array[first : first + most]
                    decode = partial(self._decoded, part, start)
                    yield sifted(start, len(part), decode, self._decoder.empty)
                    start += len(part)
        finally:
            _close(arrays)
        if self.rows not in (None, start):
            raise self._changed(f"{start:,}")
        self.rows = start
        self._hash = str(content.hexdigest())

    def count(self) -> None:
        """Go through all arrays, if it is not yet known how many rows there are."""
        if self.rows is None:
            self.rows = sum(map(len, self._arrays))

    def _fingerprint(self) -> str | None:
        """Return the xxh3_128 of all bytes of the last pass that came to its end."""
        return self._hash

    def _decoded(self, part: NDArray[Any], start: int, low: int, high: int) -> NDArray[Any]:
        return self._decoder.decode(part[low:high], self.locator(start + low))

    def _decoder_of(self, array: NDArray[Any], start: int) -> Decoder:
        where = self.locate(start)
        layout = settle_layout(array.dtype, self._options.packed, self._options.bits, where)
        return decoder_for(array.shape[1], layout, self._options.bits, where)

    def _require_alike(self, array: Any, start: int) -> None:
        if not isinstance(array, np.ndarray) or array.ndim != 2:
            got = f"{array.ndim}-D" if isinstance(array, np.ndarray) else type(array).__qualname__
            raise InputError("not a 2-D array", self.locate(start), "(m, dim) arrays", got)
        if self._decoder_of(array, start) != self._decoder:
            width = self._decoder.width
            where = self.locate(start)
            raise InputError(
                "arrays disagree in dimension", where, f"dim {width}", f"dim {array.shape[1]}"
            )

    def _changed(self, rows: str) -> InputError:
        return InputError(
            "the number of rows changed between passes",
            self.name,
            f"{self.rows:,}",
            rows,
            "yield the same arrays each time",
        )


def _close(arrays: Iterator[Any]) -> None:
    """End a generator that is not gone through to its end, and the threads that it may have."""
    close = getattr(arrays, "close", None)
    if close is not None:
        close()
