"""Streams copied to disk, so that they can be read twice."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from binq.bits import words_for
from binq.errors import EnvironmentFailure
from binq.vectors.batch import Batch
from binq.vectors.refusing import Refusal
from binq.vectors.source import VectorSource, rows_per_batch


def spool(source: VectorSource, directory: str | os.PathLike[str]) -> VectorSource:
    """Make a source that can be read again and whose number of rows is known.

    Parameters
    ----------
    source : VectorSource
        Returned as it is where it can be read again and knows its number of rows; else read to
        its end.
    directory : path
        Where the copy lives, in files without a name that vanish when the source is closed or the
        process ends.

    Returns
    -------
    VectorSource

    Raises
    ------
    InputError
        At the first row that cannot be used.
    EnvironmentFailure
        If the copy cannot be written.
    """
    if source.rewindable and source.rows is not None:
        return source
    return SpooledSource(source, os.fspath(directory))


class SpooledSource(VectorSource):
    """The copy of a source in unnamed temporary files: rows as they are in batches, and ids.

    Closing it leaves the original open, which still says where rows stand.
    """

    def __init__(self, source: VectorSource, directory: str) -> None:
        super().__init__(source.name)
        self._source = source
        self.on_error = source.on_error
        self._directory = directory
        self._files: list[IO[bytes]] = []
        self._array: NDArray[Any] | None = None
        self._offsets: NDArray[np.uint64] | None = None
        self._refused: list[Refusal] = []  # with the number of the row in place of an offset
        self.rows: int = 0
        try:
            self._copy()
        except BaseException:
            self.close()
            raise

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``."""
        held = 0 if self._array is None else len(self._array)
        vectors = np.empty((0, 0), np.float32) if self._array is None else self._array
        # How many of the rows that are held stand before each of those that are refused.
        numbers = np.array([refusal.offset for refusal in self._refused], np.int64)
        before = numbers - np.arange(len(numbers))
        step = rows_per_batch(max(1, vectors[:1].nbytes), max_rows)
        start = low = 0
        for first in range(0, max(held, min(1, self.rows)), step):
            last = min(first + step, held)
            high = len(numbers) if last == held else int(np.searchsorted(before, last, "right"))
            refused = tuple(
                replace(refusal, offset=refusal.offset - start)
                for refusal in self._refused[low:high]
            )
            yield Batch(start, vectors[first:last], self._ids(first, last), refused)
            start, low = last + high, high

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fetch single rows; see ``VectorSource.take``."""
        self._check_take(rows)
        if self._array is None or self._refused:
            return super().take(rows)
        return np.asarray(self._array[rows], dtype=np.float32)

    def locate(self, row: int) -> str:
        """Return where a row stands; see ``VectorSource.locate``."""
        return self._source.locate(row)

    def describe(self) -> list[dict[str, Any]]:
        """Return rows and fingerprint per file; see ``VectorSource.describe``."""
        return self._source.describe()

    def close(self) -> None:
        """Let go of everything."""
        self._array = None
        self._offsets = None
        for file in self._files:
            file.close()
        self._files = []

    def _copy(self) -> None:
        rows = 0
        held = 0
        end = 0
        with self._disk():
            vectors, text, offsets = (self._temporary() for _ in range(3))
            offsets.write(bytes(8))
        for batch in self._source.batches():
            self._refused += (
                replace(refusal, offset=batch.start + refusal.offset) for refusal in batch.refused
            )
            rows += len(batch)
            held += len(batch.vectors)
            with self._disk():
                vectors.write(batch.vectors.data)
                if batch.ids is not None and len(batch.ids):
                    encoded = [_encoded(row_id) for row_id in batch.id_list or ()]
                    ends = end + np.cumsum([len(row_id) for row_id in encoded], dtype="<u8")
                    end = int(ends[-1])
                    text.write(b"".join(encoded))
                    offsets.write(ends.data)
        self.rows = rows
        self.dim = self._source.dim
        self.layout = self._source.layout
        self.has_ids = bool(self._source.has_ids)
        self.could_be_ids = self._source.could_be_ids
        self.metadata = self._source.metadata
        self._text = text
        if held and self.dim is not None:
            with self._disk():
                for file in self._files:
                    file.flush()
            width = words_for(self.dim) if self.packed else self.dim
            element = np.uint64 if self.packed else np.float32
            self._array = np.asarray(np.memmap(vectors, element, "r", 0, (held, width)))
            self._offsets = np.asarray(np.memmap(offsets, "<u8", "r")) if self.has_ids else None

    def _ids(self, start: int, end: int) -> list[str | int] | None:
        if self._offsets is None:
            return None
        ends = self._offsets[start : end + 1].tolist()
        self._text.seek(ends[0])
        data = self._text.read(ends[-1] - ends[0])
        first = ends[0]
        return [_decoded(data[low - first : high - first]) for low, high in pairwise(ends)]

    def _temporary(self) -> IO[bytes]:
        file: IO[bytes] = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
        self._files.append(file)
        return file

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name what failed where the copy cannot be written."""
        try:
            yield
        except OSError as error:
            raise EnvironmentFailure(
                f"cannot copy {self.name} to disk",
                self._directory,
                got=(error.strerror or str(error)).lower(),
                next_step="give the vectors as a file, or another directory",
            ) from error


def _encoded(row_id: str | int) -> bytes:
    """Return an id as bytes that tell an integer from its digits."""
    return (f"i{row_id}" if isinstance(row_id, int) else f"s{row_id}").encode()


def _decoded(data: bytes) -> str | int:
    text = data[1:].decode()
    return int(text) if data[:1] == b"i" else text
