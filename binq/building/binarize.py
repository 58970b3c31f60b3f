"""Vectors in, codes out, as files that others read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, BinaryIO, Final, Literal, Unpack

from numpy.typing import NDArray

from binq import bits as packing
from binq.building.choose import choose_binarizer, keep_binarizer, look, needs_fit, watched
from binq.building.options import BinarizerOptions, BinarizerSettings
from binq.errors import InputError, UsageError
from binq.io.atomic import atomic_write
from binq.io.outputs import Content, by_suffix
from binq.threads import limited
from binq.types import LAYOUTS, Layout, Progress, Vectors
from binq.vectors import VectorSource, open_vectors
from binq.vectors.id_columns import IdColumn
from binq.vectors.ids import Ids, note_of
from binq.vectors.npy import NpyWriter
from binq.vectors.sample import started


def binarize(
    vectors: Vectors,
    output: str | os.PathLike[str],
    *,
    layout: Layout = "ubinary",
    column: str | None = None,
    id_column: str | None = None,
    packed: Literal["none"] | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
    **settings: Unpack[BinarizerSettings],
) -> int:
    """Turn float vectors into packed codes.

    Parameters
    ----------
    vectors : path, list of paths, "-" or (n, dim) array
    output : path
        ``.npy`` gets an (n, ceil(bits / 8)) array; ``.parquet`` gets the columns ``id`` (where
        there are ids; integers or strings, as they were) and ``code``, and the layout in its
        metadata.
    layout : {"ubinary", "binary", "lsb"}
        See :mod:`binq.bits`.
    column, id_column : str, optional
        Columns to read, where they are not found by themselves.
    packed : {"none"}, optional
        Says that 8-bit input is numbers.
    overwrite : bool
        Replace files of another kind than what is written.
    threads : int, optional
        Default: as many as the process may use.
    progress : callable, optional
        Called with (rows done, rows in all or None).
    notice : callable, optional
        Called with what auto picked and why, and with which columns could hold ids.
    method, bits, truncate_dim, metric, seed, sample, binarizer, save_binarizer, scoring
        See :class:`binq.building.options.BinarizerOptions`.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    UsageError, InputError, EnvironmentFailure
    """
    if layout not in LAYOUTS:
        raise UsageError("unknown layout", "`layout`", ", ".join(LAYOUTS), str(layout))
    kind = by_suffix(output, _SUFFIXES)
    options = BinarizerOptions(**settings)
    options.refuse_overwrites(output, kind, vectors, overwrite=overwrite)
    with ExitStack() as stack:
        count = stack.enter_context(limited(threads))
        source = stack.enter_context(
            open_vectors(vectors, column=column, id_column=id_column, packed=packed)
        )
        if source.packed:
            raise InputError("these are bits already", source.name, "float vectors", "packed bits")
        sample = None
        if needs_fit(options):
            source, sample = look(source, output, options, stack)
        dim, batches = started(source, stack)
        fitted = choose_binarizer(options, dim, sample, count)
        if notice is not None and fitted.chosen_by is not None and options.method == "auto":
            notice(fitted.chosen_by)
        file = stack.enter_context(atomic_write(output))
        writer = _WRITERS[kind](file, fitted.bits, layout, source, stack)
        done = 0
        for batch in watched(batches, fitted):
            codes = fitted.encode(batch.vectors, source.locator(batch.start), count)
            writer.append(packing.to_layout(codes, fitted.bits, layout), batch.ids)
            done += len(codes)
            if progress is not None:
                progress(done, source.rows)
        writer.finish()
        keep_binarizer(options, fitted)
        if notice is not None and kind == "parquet" and source.could_be_ids is not None:
            notice(note_of(source.could_be_ids))
    return done


class _NpyWriter(NpyWriter):
    """Writes the codes as an array."""

    def __init__(
        self, file: BinaryIO, width: int, layout: Layout, source: VectorSource, stack: ExitStack
    ) -> None:
        del source, stack  # an array has no place for ids and metadata
        super().__init__(file, packing.layout_dtype(layout), packing.bytes_for(width))


class _ParquetWriter:
    """Writes the columns ``id`` and ``code``."""

    def __init__(
        self, file: BinaryIO, width: int, layout: Layout, source: VectorSource, stack: ExitStack
    ) -> None:
        import pyarrow as pa

        element = pa.from_numpy_dtype(packing.layout_dtype(layout))
        self._file = file
        self._width = packing.bytes_for(width)
        self._code = pa.field("code", pa.list_(element, self._width), nullable=False)
        self._has_ids = bool(source.has_ids)
        self._metadata = source.metadata | {"binq.layout": layout, "binq.bits": str(width)}
        self._ids = IdColumn(source.name)
        self._writer: Any = None
        self._stack = stack

    def append(self, packed: NDArray[Any], ids: Ids | None) -> None:
        import pyarrow as pa

        codes = pa.FixedSizeListArray.from_arrays(pa.array(packed.reshape(-1)), self._width)
        columns = [codes] if ids is None else [self._ids.array(ids), codes]
        self._open().write_table(pa.Table.from_arrays(columns, schema=self._writer.schema))

    def finish(self) -> None:
        self._open().close()

    def _open(self) -> Any:
        """Return the writer, which is there as soon as it is known what the ids are."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            named = [pa.field("id", self._ids.type, nullable=False)] if self._has_ids else []
            schema = pa.schema([*named, self._code], metadata=self._metadata)
            # Closed before the file is, whatever happens: else it complains where nobody hears it.
            self._writer = self._stack.enter_context(
                pq.ParquetWriter(self._file, schema, compression="none")
            )
        return self._writer


_SUFFIXES: Final[dict[str, Content]] = {".npy": "npy", ".parquet": "parquet"}
_WRITERS: Final[dict[Content, type[_NpyWriter] | type[_ParquetWriter]]] = {
    "npy": _NpyWriter,
    "parquet": _ParquetWriter,
}
