"""Parquet and Arrow files, streamed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from binq.bits import bytes_for
from binq.errors import EnvironmentFailure, InputError
from binq.io.fingerprint import fingerprint_file
from binq.io.objects import StoreObject
from binq.io.paths import opening
from binq.vectors.batch import Batch
from binq.vectors.columns import Columns, choose_columns, to_matrix
from binq.vectors.decoding import Decoder, ReadOptions, decoder_for
from binq.vectors.groups import DecodedGroups
from binq.vectors.id_columns import to_ids
from binq.vectors.ids import Ids, joined_ids
from binq.vectors.refusing import refuse, sift
from binq.vectors.source import VectorSource, rows_per_batch

_READ_BUFFER: Final = 1 << 20
_ROWS_LOOKED_AT: Final = 256
# Arrow's builders double as they grow and its pool keeps what it freed: with a quarter of the usual
# batch a pass over 300,000 x 768 in one row group peaks at 120 MB instead of 370 MB, and no slower.
_BATCHES_PER_USUAL: Final = 4


def open_columnar(
    path: str,
    kind: Literal["parquet", "arrow", "arrow-stream"],
    options: ReadOptions,
    groups: DecodedGroups,
) -> VectorSource:
    """Open a Parquet file, or an Arrow file or stream on disk.

    Raises
    ------
    InputError
        If the file is damaged, or holds no usable vector or id column.
    EnvironmentFailure
        If it cannot be read.
    """
    file = _ParquetFile(path) if kind == "parquet" else _ArrowFile(path, kind == "arrow-stream")
    with damage_named(path):
        columns = choose_columns(file.schema, path, options)
    return ColumnarSource(path, file, columns, groups, options.dims)


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a Parquet file such that pages are decoded as they are reached."""
    # With pre-buffering, or without a read buffer, whole row groups are held.
    source = path.open() if isinstance(path, StoreObject) else path
    return pq.ParquetFile(
        source, pre_buffer=False, buffer_size=_READ_BUFFER, page_checksum_verification=True
    )


def _open_arrow(path: str) -> Any:
    """Open a file for Arrow's own readers."""
    if isinstance(path, StoreObject):
        return pa.PythonFile(path.open(), "r")
    return pa.memory_map(path)


@contextmanager
def damage_named(path: str) -> Iterator[None]:
    """Turn what Arrow raises over a damaged file into ``InputError``."""
    try:
        with opening(path):
            try:
                yield
            except OSError as error:
                # Arrow reports broken compression and encodings as OSError without a number.
                if error.errno is not None or isinstance(error, EnvironmentFailure):
                    raise
                raise _damage(path, error) from error
    except (pa.ArrowException, MemoryError, UnicodeDecodeError, OverflowError) as error:
        raise _damage(path, error) from error


def _damage(path: str, error: BaseException) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError("file is damaged or not supported", path, got=reason)


class _Blocks:
    """A file as Arrow record batches, in groups that can be entered one by one."""

    schema: pa.Schema
    group_starts: NDArray[np.int64]

    @abstractmethod
    def read(self, columns: list[str], groups: range, rows: int) -> Generator[pa.RecordBatch]:
        """Yield record batches of some groups."""


class _ParquetFile(_Blocks):
    def __init__(self, path: str) -> None:
        self.path = path
        with damage_named(path), open_parquet(path) as file:
            self.schema = file.schema_arrow
            counts = [
                file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)
            ]
        self.group_starts = np.cumsum([0, *counts], dtype=np.int64)

    def read(self, columns: list[str], groups: range, rows: int) -> Generator[pa.RecordBatch]:
        with open_parquet(self.path) as file:
            yield from file.iter_batches(rows, list(groups), columns, use_threads=False)


class _ArrowFile(_Blocks):
    def __init__(self, path: str, stream: bool) -> None:
        self.path = path
        self.stream = stream
        self._open = pa.ipc.open_stream if stream else pa.ipc.open_file
        with damage_named(path), _open_arrow(path) as file:
            with self._open(file) as reader:
                self.schema = reader.schema
            options = pa.ipc.IpcReadOptions(included_fields=_cheapest(self.schema))
            file.seek(0)
            with self._open(file, options=options) as reader:
                counts = [batch.num_rows for batch in self._batches(reader, None)]
        if stream:
            counts = [sum(counts)]
        self.group_starts = np.cumsum([0, *counts], dtype=np.int64)

    def read(self, columns: list[str], groups: range, rows: int) -> Generator[pa.RecordBatch]:
        wanted = [self.schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=sorted(wanted), use_threads=False)
        with _open_arrow(self.path) as file, self._open(file, options=options) as reader:
            yield from _bounded(self._batches(reader, groups), rows)

    def _batches(self, reader: Any, groups: range | None) -> Iterator[pa.RecordBatch]:
        if self.stream:  # one group, read from its beginning
            return iter(reader)
        every = range(reader.num_record_batches)
        return (reader.get_batch(i) for i in (every if groups is None else groups))


def _cheapest(schema: pa.Schema) -> list[int]:
    """Return the field to read for counting rows: compressed vectors would be decompressed."""
    plain = (i for i, field in enumerate(schema) if not field.type.num_fields)
    return [next(plain, 0)] if len(schema) else []


def _bounded(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        # The reader trusts offsets and text as they stand in the file.
        batch.validate(full=True)
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


class ColumnarSource(VectorSource):
    """Rows of one vector column, with the ids of another.

    Anonymous memory is bounded by a few batches whatever the row groups: pages are decoded as
    they are reached. ``take`` decodes only the row groups that hold a wanted row; `DecodedGroups`,
    shared with the other files of the source, keeps what is wanted again.
    """

    def __init__(
        self,
        path: str,
        file: _Blocks,
        columns: Columns,
        groups: DecodedGroups,
        dims: tuple[int, ...],
    ) -> None:
        super().__init__(path)
        self._file = file
        self._columns = columns
        self._starts = file.group_starts
        self.rows: int = int(file.group_starts[-1])
        self.layout = columns.layout
        self.has_ids = columns.id is not None
        self.could_be_ids = columns.could_be_ids
        self.metadata = columns.metadata
        self._decoder: Decoder | None = None
        self._groups = groups
        width = columns.width
        if width is None and self.rows:
            width = self._first_width(() if self.packed else dims)
        if width is None and columns.bits is not None:
            width = bytes_for(columns.bits)
        if width is not None:
            self._decoder = decoder_for(width, self.layout, columns.bits, path)
            self.dim = self._decoder.dim

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``."""
        return self.read_from(0, max_rows)

    def read_from(self, first: int, max_rows: int | None = None) -> Generator[Batch]:
        """Yield the rows from the group on that holds ``first``; see ``VectorSource.read_from``."""
        group = max(0, int(np.searchsorted(self._starts, first, side="right")) - 1)
        last = len(self._starts) - 1
        return self._read(self._columns.names, range(min(group, last), last), max_rows)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fetch single rows; see ``VectorSource.take``."""
        self._check_take(rows)
        out = np.empty((len(rows), self.dim or 0), dtype=np.float32)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for group in np.unique(owners):
            mine = slice(*np.searchsorted(owners, (group, group + 1)))
            out[mine] = self._from_group(int(group), rows[mine])
        return out

    def _fingerprint(self) -> str:
        return fingerprint_file(self.name)

    def interrupt(self) -> None:
        """End a read that waits in another thread."""
        if isinstance(self.name, StoreObject):
            self.name.interrupt()

    def close(self) -> None:
        """Let go of everything."""
        self._groups.close()

    def _first_width(self, dims: tuple[int, ...]) -> int | None:
        """Return the length of the first row that can be used, or else of any; None of nulls."""
        any_length = None
        every = range(len(self._starts) - 1)
        with closing(self._records([self._columns.vector], every, _ROWS_LOOKED_AT)) as records:
            for _, record in records:
                with damage_named(self.name):
                    lengths = pc.list_value_length(record.column(0)).drop_null().to_numpy()
                fitting = lengths[np.isin(lengths, dims) if dims else lengths > 0]
                if fitting.size:
                    return int(fitting[0])
                if any_length is None and lengths.size:
                    any_length = int(lengths[0])
        return any_length

    def _read(self, names: list[str], groups: range, max_rows: int | None) -> Generator[Batch]:
        """Yield the rows of some groups."""
        for start, record in self._records(names, groups, max_rows):
            parts, refused = sift(partial(self._rows, record, start), record.num_rows)
            if len(parts) == 1:
                vectors, ids = parts[0]
            else:
                none = (
                    np.empty((0, 0), np.float32) if self._decoder is None else self._decoder.empty
                )
                vectors = np.concatenate([none, *(part for part, _ in parts)])
                ids = joined_ids([some for _, some in parts]) if self.has_ids else None
            found = tuple(
                refuse(row, self._id_of(record, row), error) for row, error in refused.items()
            )
            yield Batch(start, vectors, ids, found)

    def _rows(
        self, record: pa.RecordBatch, start: int, low: int, high: int
    ) -> tuple[NDArray[Any], Ids | None]:
        """Return the vectors and ids of some rows of a record batch."""
        part, start = record.slice(low, high - low), start + low
        ids = None
        if self._columns.id in part.schema.names:
            with damage_named(self.name):
                ids = to_ids(part.column(self._columns.id), self.locator(start))
        return self._vectors(part, start), ids

    def _id_of(self, record: pa.RecordBatch, row: int) -> str | int | None:
        """Return the id of a row that cannot be used, as far as it has one."""
        if self._columns.id in record.schema.names:
            with suppress(InputError), damage_named(self.name):
                one = to_ids(record.column(self._columns.id).slice(row, 1), self.locate)
                found: str | int = one[0].item() if isinstance(one, np.ndarray) else one[0]
                return found
        return None

    def _records(
        self, names: list[str], groups: range, max_rows: int | None
    ) -> Generator[tuple[int, pa.RecordBatch]]:
        """Yield row number and record batch; never an empty one."""
        row_bytes = 1 if self._decoder is None else self._decoder.row_bytes
        step = rows_per_batch(_BATCHES_PER_USUAL * row_bytes, max_rows)
        start, end = int(self._starts[groups.start]), int(self._starts[groups.stop])
        with closing(self._file.read(names, groups, step)) as blocks:
            while True:
                with damage_named(self.name):
                    record = next(blocks, None)
                if isinstance(self.name, StoreObject):
                    self.name.require_unchanged()
                if record is None:
                    break
                if record.num_rows:
                    yield start, record
                    start += record.num_rows
        if start != end:
            raise InputError("file is damaged", self.name, f"rows up to {end}", f"up to {start}")

    def _vectors(self, record: pa.RecordBatch, start: int) -> NDArray[Any]:
        locate = self.locator(start)
        width = None if self._decoder is None else self._decoder.width
        with damage_named(self.name):
            raw = to_matrix(record.column(self._columns.vector), width, self.layout, locate)
        if self._decoder is None:
            raise InputError("vectors of unknown length", self.name)
        return self._decoder.decode(raw, locate)

    def _from_group(self, group: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows of one group, decoded up to the last of them unless the group is kept."""
        start, end = self._starts[group : group + 2]
        column = [self._columns.vector]

        def blocks() -> Iterator[NDArray[np.float32]]:
            for batch in self._read(column, range(group, group + 1), None):
                if batch.refused:
                    # Not of use; whoever wants one of them nevertheless is told by what is below.
                    every = np.full((len(batch), self.dim or 0), np.nan, np.float32)
                    every[batch.offsets] = batch.vectors
                    yield every
                else:
                    yield batch.vectors

        kept = self._groups.get((self.name, group), (end - start, self.dim or 0), blocks)
        if kept is not None:
            taken: NDArray[np.float32] = kept[rows - start]
            if not np.isnan(taken[:, 0]).any():
                return taken
        found: list[NDArray[np.float32]] = []
        with closing(self._read(column, range(group, group + 1), None)) as batches:
            for batch in batches:
                low, high = np.searchsorted(rows, (batch.start, batch.start + len(batch)))
                if low < high:
                    found.append(batch.pick(rows[low:high]))
                if high == len(rows):
                    break
        return np.concatenate(found)
