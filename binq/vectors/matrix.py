"""A source whose rows are a mapped file or an array in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.io.fingerprint import fingerprint_array, fingerprint_file
from binq.io.objects import StoreObject
from binq.io.paths import opening
from binq.kernels.aot import bus
from binq.types import Locate
from binq.vectors.batch import Batch, sifted
from binq.vectors.decoding import Decoder
from binq.vectors.ranges import RangedRows
from binq.vectors.source import VectorSource, rows_per_batch


class MatrixSource(VectorSource):
    """Rows that can be indexed.

    Parameters
    ----------
    name : str
        What messages call it.
    rows : int
    decoder : Decoder
    load : callable
        Returns the (rows, width) array: a map of the file, or the array itself, or the rows of an
        object in a store.
    path : str or None
        The file that the rows come from, for its fingerprint.
    """

    def __init__(
        self,
        name: str,
        rows: int,
        decoder: Decoder,
        load: Callable[[], NDArray[Any] | RangedRows],
        path: str | None,
    ) -> None:
        super().__init__(name)
        self.rows: int = rows
        self.dim: int = decoder.dim
        self.layout = decoder.layout
        self._decoder = decoder
        self._load = load
        self._path = path
        self._loaded: NDArray[Any] | RangedRows | None = None
        self._seen = _state(path)

    @classmethod
    def of_file(
        cls,
        path: str,
        decoder: Decoder,
        dtype: np.dtype[Any],
        offset: int,
        shape: tuple[int, ...],
        order: Literal["C", "F"] = "C",
    ) -> Self:
        """Map an array that stands in a file, or in C order in an object of a store."""

        def load() -> NDArray[Any] | RangedRows:
            if isinstance(path, StoreObject):
                return RangedRows(path, dtype, offset, shape)
            bus.prepare()
            try:
                with opening(path):
                    return np.asarray(np.memmap(path, dtype, "r", offset, shape, order))
            except ValueError as error:
                raise InputError("the file was cut short since it was opened", path) from error

        return cls(path, shape[0], decoder, load, path)

    @property
    def _array(self) -> NDArray[Any] | RangedRows:
        # Mapped when first read: a thousand shards are a thousand open files otherwise.
        if self._loaded is None:
            loaded = self._load()
            self._require_unchanged()
            self._loaded = loaded
        return self._loaded

    def _require_unchanged(self) -> None:
        """Refuse to go on where the file was written to since it was opened.

        One that is replaced by a rename while it is mapped is not changed: the map stays whole.

        Raises
        ------
        InputError
        """
        if isinstance(self._path, StoreObject):
            self._path.require_unchanged()
        now, seen = _state(self._path), self._seen
        if now is None or seen is None or now == seen:
            return
        if self._loaded is None or now[:2] == seen[:2]:
            raise InputError(
                "the file was changed while it was read",
                self.name,
                next_step="replace files by a rename, as mv does, not by cp",
            )

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``."""
        return self.read_from(0, max_rows)

    def read_from(self, first: int, max_rows: int | None = None) -> Generator[Batch]:
        """Yield the rows from the batch on that holds ``first``; see ``VectorSource.read_from``."""
        step = rows_per_batch(self._decoder.row_bytes, max_rows)
        for start in range(first - first % step, self.rows, step):
            rows = min(step, self.rows - start)
            _ = self._array  # what is wrong with the file is not wrong with each of its rows
            batch = sifted(start, rows, partial(self._decoded, start), self._decoder.empty)
            self._require_unchanged()
            yield batch

    def _decoded(self, start: int, low: int, high: int) -> NDArray[Any]:
        locate = self.locator(start + low)
        raw = self._elements(self._array[start + low : start + high], locate)
        return self._decoder.decode(raw, locate)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fetch single rows; see ``VectorSource.take``."""
        self._check_take(rows)
        if not rows.size:
            return np.empty((0, self.dim), dtype=np.float32)

        def locate(row: int) -> str:
            return self.locate(int(rows[row]))

        found = self._decoder.decode(self._elements(self._array[rows], locate), locate)
        self._require_unchanged()
        return found

    def _fingerprint(self) -> str:
        if self._path is not None:
            return fingerprint_file(self._path)
        return fingerprint_array(cast("NDArray[Any]", self._array))

    def interrupt(self) -> None:
        """End a read that waits in another thread."""
        if isinstance(self._path, StoreObject):
            self._path.interrupt()

    def release(self) -> None:
        """Let go of what can be opened again."""
        if self._path is not None:
            self._loaded = None

    def _elements(self, raw: NDArray[Any], locate: Locate) -> NDArray[Any]:  # noqa: ARG002
        """Return the elements of raw rows, where a format stores more than those."""
        return raw


def _state(path: str | None) -> tuple[int, int, int, int] | None:
    """Return which file stands there, its size and when it was last written to."""
    try:
        found = None if path is None else os.stat(path)
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
