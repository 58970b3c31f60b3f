"""What a source of vectors is, and several files read as one source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError, UsageError, stopping
from binq.types import Layout, Locate, OnError
from binq.vectors.batch import Batch

BATCH_BYTES: Final = 32 << 20
BATCH_ROWS: Final = 65_536
_OPEN_FILES: Final = 64


class VectorSource(ABC):
    """Rows of floats or of packed bits, read batch by batch in bounded memory.

    Attributes
    ----------
    name : str
        What messages call it.
    dim : int or None
        Length of a vector, or number of bits of a packed code; None where it is unknown: a stream
        not yet read, or no rows at all in a format that records no dim.
    rows : int or None
        Number of rows; None where it is unknown before a full pass.
    layout : {"ubinary", "binary", "lsb"} or None
        Layout in which packed bits came; None for numbers.
    has_ids : bool or None
        None where it is unknown before reading.
    could_be_ids : list of str or None
        Columns that could hold ids, where none was found; None where that needs no saying.
    metadata : dict of str to str
        Entries of a Parquet or Arrow schema whose key starts with ``binq.``.
    rewindable : bool
        Whether ``batches`` may be called again.
    on_error : {"stop", "skip"} or None
        What ``batches`` does at a row that cannot be used; None: stop, and there is no choice.
    """

    name: str
    dim: int | None = None
    rows: int | None = None
    layout: Layout | None = None
    has_ids: bool | None = False
    could_be_ids: list[str] | None = None
    rewindable: bool = True
    on_error: OnError | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata: dict[str, str] = {}

    @property
    def packed(self) -> bool:
        """Whether batches carry codes, not floats."""
        return self.layout is not None

    @abstractmethod
    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order, those that cannot be used as refused.

        Parameters
        ----------
        max_rows : int, optional
            Most rows in one batch. A batch never exceeds about 32 MB or 65,536 rows either way.

        Yields
        ------
        Batch
            Never empty.

        Raises
        ------
        InputError
            If the source as a whole cannot be used, or not from some place on.
        """

    def read_from(self, first: int, max_rows: int | None = None) -> Generator[Batch]:
        """As :meth:`read`, but may leave out batches that end before row ``first``."""
        del first
        return self.read(max_rows)

    def batches(self, max_rows: int | None = None, first: int = 0) -> Generator[Batch]:
        """Yield all rows in order, as :meth:`read_from` does; by default none is refused.

        Raises
        ------
        InputError
            As :meth:`read`, and unless ``on_error`` is skip at the first row that cannot be used,
            naming file and row; what comes before it has been yielded.
        """
        with closing(self.read_from(first, max_rows)) as batches:
            for batch in batches:
                wrong = None if self.on_error == "skip" else batch.wrong
                if wrong is None:
                    yield batch
                    continue
                if wrong.offset:
                    yield batch.before(wrong.offset)
                assert wrong.error is not None
                raise stopping(wrong.error) if self.on_error == "stop" else wrong.error

    def between(self, first: int, end: int) -> Generator[Batch]:
        """Yield the rows from ``first`` up to ``end``, by the numbers that they have in all.

        Raises
        ------
        InputError
            As :meth:`batches`.
        """
        return self._between(first, end)

    def _between(self, first: int, end: int, max_rows: int | None = None) -> Generator[Batch]:
        """As :meth:`between`, of batches with at most so many rows."""
        with closing(self.batches(max_rows, first)) as batches:
            for batch in batches:
                low, high = max(first, batch.start), min(end, batch.start + len(batch))
                if low < high:
                    yield batch.part(low - batch.start, high - batch.start)
                if batch.start + len(batch) >= end:
                    return

    def describe(self) -> list[dict[str, Any]]:
        """Return one ``{"rows", "fingerprint"}`` per file: no path and no time.

        Both are final after a full pass.
        """
        return [{"rows": self.rows, "fingerprint": self._fingerprint()}]

    def _fingerprint(self) -> str | None:
        """Return that of a file, or of what was read of a stream; None where there is none."""
        return None

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fetch single rows.

        Parameters
        ----------
        rows : (n,) int64
            Row numbers, ascending, none twice.

        Returns
        -------
        (n, dim) float32

        Raises
        ------
        InputError
            If the source is packed, cannot be read again, has no such row, or a fetched row cannot
            be used.
        """
        self._check_take(rows)
        taken: list[NDArray[np.float32]] = []
        seen = 0
        if rows.size:
            with closing(self.read()) as batches:
                for batch in batches:
                    upto = int(np.searchsorted(rows, batch.start + len(batch)))
                    if upto > seen:
                        taken.append(batch.pick(rows[seen:upto]))
                        seen = upto
                    if seen == len(rows):
                        break
        if seen < len(rows):
            raise self._no_such_row(int(rows[seen]))
        if not taken:
            return np.empty((0, self.dim or 0), dtype=np.float32)
        return np.concatenate(taken)

    def locate(self, row: int) -> str:
        """Return where a row of the whole source stands: file, and row (from 0) inside it."""
        return f"{self.name} row {row}"

    def locator(self, start: int) -> Locate:
        """Return what names rows that are counted from row ``start``, as those of a batch are."""
        return lambda row: self.locate(start + row)

    def locating(self, batch: Batch) -> Locate:
        """Return what names the rows of ``batch.vectors``, given their numbers there."""
        if not batch.refused:
            return self.locator(batch.start)
        numbers = batch.start + batch.offsets
        return lambda row: self.locate(int(numbers[row]))

    def interrupt(self) -> None:  # noqa: B027
        """End a read that waits in another thread; a stream is not read further afterwards."""

    def release(self) -> None:  # noqa: B027
        """Let go of maps and open files; they are opened again when needed."""

    def close(self) -> None:
        """Let go of everything; the source is not used afterwards."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_take(self, rows: NDArray[np.int64]) -> None:
        if self.packed:
            raise InputError(
                "packed bits hold no floats to fetch",
                self.name,
                "float vectors",
                f"packed bits ({self.layout})",
            )
        if not self.rewindable:
            raise InputError(
                "single rows cannot be fetched from a stream", self.name, next_step="give a file"
            )
        if rows.size and int(rows[0]) < 0:
            raise self._no_such_row(int(rows[0]))
        if rows.size and self.rows is not None and int(rows[-1]) >= self.rows:
            raise self._no_such_row(int(rows[-1]))

    def _no_such_row(self, row: int) -> InputError:
        held = "fewer rows" if self.rows is None else f"{self.rows} rows"
        return InputError("no such row", self.name, f"row {row}", held)


def rows_per_batch(row_bytes: int, max_rows: int | None) -> int:
    """Return how many rows of ``row_bytes`` bytes make a batch.

    Raises
    ------
    UsageError
        If ``max_rows`` is below 1.
    """
    if max_rows is not None and max_rows < 1:
        raise UsageError(
            "a batch needs at least one row", expected="max_rows >= 1", got=f"{max_rows}"
        )
    rows = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, row_bytes)))
    return rows if max_rows is None else min(rows, max_rows)


class ShardedSource(VectorSource):
    """Several sources of one shape, read one after the other as one.

    Raises
    ------
    InputError
        If they disagree in dim, in being packed, in layout, in having ids, or in an entry of
        ``metadata`` that both carry.
    """

    def __init__(self, shards: Sequence[VectorSource]) -> None:
        super().__init__(f"{shards[0].name} and {len(shards) - 1} more")
        self.shards = list(shards)
        self.rewindable = all(shard.rewindable for shard in shards)
        self.layout = shards[0].layout
        self.has_ids = None
        for shard in shards:
            self._agree(shard)
            for key, value in shard.metadata.items():
                if self.metadata.setdefault(key, value) != value:
                    raise InputError(
                        f"files disagree in their metadata {key}",
                        shard.name,
                        self.metadata[key],
                        value,
                    )
        for key in list(self.metadata):
            if any(key not in shard.metadata for shard in shards):
                del self.metadata[key]
        self._starts: list[int] = [0]
        self._count_known()

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``."""
        return self.read_from(0, max_rows)

    def read_from(self, first: int, max_rows: int | None = None) -> Generator[Batch]:
        """Yield rows, of the files that hold ``first`` and those behind it."""
        start = 0
        for position, shard in enumerate(self.shards):
            if shard.rows is not None and start + shard.rows <= first:
                start += shard.rows
                continue
            for batch in shard.read_from(max(0, first - start), max_rows):
                self._agree(shard)
                ids = batch.ids
                if ids is None and self.has_ids:
                    ids = []  # of a file in which no row can be used
                yield replace(batch, start=start + batch.start, ids=ids)
            self._agree(shard)
            shard.release()
            self._count_known()
            start = self._starts[position + 1]

    def between(self, first: int, end: int) -> Generator[Batch]:
        """Yield some rows, of the files that hold them; see ``VectorSource.between``."""
        if self.rows is None:
            yield from self._between(first, end, max(1, end - first))
            return
        for shard, start, stop in zip(self.shards, self._starts, self._starts[1:], strict=False):
            if start < end and first < stop:
                shard.on_error = self.on_error
                for batch in shard.between(first - start, end - start):
                    self._agree(shard)
                    yield replace(batch, start=start + batch.start)
                shard.release()

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fetch single rows; see ``VectorSource.take``."""
        if self.rows is None:
            return super().take(rows)
        self._check_take(rows)
        out = np.empty((len(rows), self.dim or 0), dtype=np.float32)
        cuts = np.searchsorted(rows, self._starts)
        for position, shard in enumerate(self.shards):
            low, high = int(cuts[position]), int(cuts[position + 1])
            if low < high:
                out[low:high] = shard.take(rows[low:high] - self._starts[position])
                if len(self.shards) > _OPEN_FILES:
                    shard.release()
        return out

    def locate(self, row: int) -> str:
        """Return where a row stands; see ``VectorSource.locate``."""
        position = int(np.searchsorted(self._starts, row, side="right")) - 1
        position = min(position, len(self.shards) - 1)
        # An empty shard starts where the next one does; searchsorted already stepped past it.
        return self.shards[position].locate(row - self._starts[position])

    def describe(self) -> list[dict[str, Any]]:
        """Return rows and fingerprint per file; see ``VectorSource.describe``."""
        return [entry for shard in self.shards for entry in shard.describe()]

    def interrupt(self) -> None:
        """End a read that waits in another thread."""
        for shard in self.shards:
            shard.interrupt()

    def release(self) -> None:
        """Let go of what can be opened again."""
        for shard in self.shards:
            shard.release()

    def close(self) -> None:
        """Let go of everything."""
        for shard in self.shards:
            shard.close()

    def _agree(self, shard: VectorSource) -> None:
        if shard.layout != self.layout:
            raise InputError(
                "files disagree in what they hold",
                shard.name,
                _kind(self.layout),
                _kind(shard.layout),
            )
        if shard.dim is not None:
            if self.dim is None:
                self.dim = shard.dim
            elif shard.dim != self.dim:
                raise InputError(
                    "files disagree in dimension", shard.name, f"dim {self.dim}", f"dim {shard.dim}"
                )
        if shard.has_ids is not None and shard.rows != 0:
            if self.has_ids is None:
                self.has_ids = shard.has_ids
                self.could_be_ids = shard.could_be_ids
            elif shard.has_ids != self.has_ids:
                raise InputError(
                    "some files have ids and others have none",
                    shard.name,
                    "ids" if self.has_ids else "no ids",
                    "ids" if shard.has_ids else "no ids",
                    "choose them with `id_column` (empty: row numbers)",
                )

    def _count_known(self) -> None:
        for shard in self.shards[len(self._starts) - 1 :]:
            if shard.rows is None:
                return
            self._starts.append(self._starts[-1] + shard.rows)
        self.rows = self._starts[-1]
        if self.rows == 0 and self.has_ids is None:
            self.has_ids = False


def _kind(layout: Layout | None) -> str:
    return "numbers" if layout is None else f"packed bits ({layout})"
