"""What each section of an index means: how it is written, and how it is restored.

=================  ==========================  ========================
sections           written by                  restored by
=================  ==========================  ========================
binarizer.*        its arrays, one by one      restore_binarizer
codes.factor, ...  TermWriter                  row_terms
rescore.*          VectorWriter                StoredVectorReader
tombstones         write_tombstones            IndexFile.alive
ids.*              ids.IdWriter                IndexFile.ids
codes              rows, as they are encoded   the structure of the kind
=================  ==========================  ========================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.errors import InputError
from binq.storage.directory import Stored
from binq.storage.reader import IndexFile
from binq.storage.writer import IndexWriter
from binq.types import MAX_NORM, Locate, Metric, StoredVectors


def restore_binarizer(file: IndexFile) -> Binarizer | None:
    """Rebuild the binarizer of an index from its header and sections.

    Returns
    -------
    Binarizer or None
        None for an index built from bits of unknown origin.

    Raises
    ------
    IndexFileError
        If it is missing, or its settings and arrays do not fit each other or the header.
    """
    header = file.header
    if header.binarizer is None:
        if header.packed is None:
            raise file.corrupt("binarizer", "present", "absent")
        return None
    arrays = {
        name.removeprefix("binarizer."): file.array(name, section.dtype, section.shape)
        for name, section in file.sections.items()
        if name.startswith("binarizer.")
    }
    try:
        binarizer = Binarizer.restore(header.binarizer, arrays)
    except ValueError as error:
        raise file.corrupt("binarizer", "settings and arrays that fit", error) from error
    if (binarizer.dim, binarizer.bits, binarizer.metric) != (
        header.dim,
        header.bits,
        header.metric,
    ):
        raise file.corrupt("binarizer", "the dim, bits and metric of the header", "others")
    return binarizer


def row_terms(file: IndexFile, binarizer: Binarizer | None) -> RowTerms:
    """Restore the terms of the rows for asymmetric scores; numbers that are none become zero.

    All of them are read and converted: once for an open index is enough.

    Parameters
    ----------
    file : IndexFile
    binarizer : Binarizer or None
        As :func:`restore_binarizer` gives it.

    Returns
    -------
    RowTerms
        Each (n,) float32, or None where the index stores none.

    Raises
    ------
    InputError
        If there is no binarizer, or the index does not store what its binarizer needs.
    IndexFileError
        If a section is of another dtype or shape than its name says.
    """
    if binarizer is None:
        raise InputError(
            "this index was built from bits, and nothing says how they came about",
            str(file.path),
            "hamming",
            "asymmetric",
            "build with `method=sign` or `binarizer`",
        )
    terms: dict[str, NDArray[np.float32]] = {}
    for name in ("factor", "addend"):
        section = file.sections.get(f"codes.{name}")
        if section is not None:
            dtype = "float16" if section.dtype == "float16" else "float32"
            stored = file.array(f"codes.{name}", dtype, (file.header.rows,))
            with np.errstate(invalid="ignore"):
                terms[name] = np.nan_to_num(stored.astype(np.float32), copy=False)
    if binarizer.needs_terms and "factor" not in terms and file.header.rows:
        raise InputError(
            "this index stores nothing for asymmetric scores",
            str(file.path),
            "an index built for them",
            f"one built for {file.header.scoring}",
            "build it with `scoring=asymmetric`",
        )
    return RowTerms(**terms)


class TermWriter:
    """Writes the terms of rows, ``codes.factor`` and ``codes.addend``, where there are any."""

    def __init__(self, writer: IndexWriter, metric: Metric) -> None:
        self._writer = writer
        # A factor is near 1 under cosine, and may be anything otherwise.
        self._dtypes = {"factor": np.float16 if metric == "cosine" else np.float32}
        self._begun: set[str] = set()

    def append(self, terms: RowTerms) -> None:
        """Append the terms of some rows."""
        for name, values in (("factor", terms.factor), ("addend", terms.addend)):
            if values is None:
                continue
            dtype = self._dtypes.get(name, np.float32)
            if name not in self._begun:
                self._begun.add(name)
                self._writer.section(f"codes.{name}", dtype)
            values = np.minimum(values, np.finfo(dtype).max)
            self._writer.append(f"codes.{name}", values.astype(dtype))


@dataclass(frozen=True, eq=False)
class Int8Range:
    """The calibrated range of every dimension: value = low + step * (stored + 128).

    Attributes
    ----------
    low, step : (dim,) float32
        ``step`` is the width of the range / 255, and zero where a dimension is constant.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]

    @classmethod
    def spanning(cls, low: NDArray[np.float32], high: NDArray[np.float32]) -> Int8Range:
        """Return the range from ``low`` to ``high``, both (dim,) float32."""
        step = (high.astype(np.float64) - low) / 255
        return cls(low, step.astype(np.float32))

    def quantize(self, vectors: NDArray[np.float32]) -> NDArray[np.int8]:
        """Round vectors (n, dim) to int8; what lies outside the range is put at its end."""
        step = np.where(self.step == 0, np.float32(1), self.step)
        levels = np.rint((vectors - self.low) / step)
        return (np.clip(levels, 0, 255) - 128).astype(np.int8)

    def restore(self, stored: NDArray[np.int8]) -> NDArray[np.float32]:
        """Return the vectors (n, dim) float32 that int8 (n, dim) stands for."""
        return self.low + self.step * (stored.astype(np.float32) + np.float32(128))


class VectorWriter:
    """Writes the vectors of a corpus into an index, as int8, float16 or float32.

    Parameters
    ----------
    writer : IndexWriter
    stored : {"int8", "float16", "float32"}
    dim : int
    int8_range : Int8Range, optional
        Needed for int8.
    """

    def __init__(
        self, writer: IndexWriter, stored: StoredVectors, dim: int, int8_range: Int8Range | None
    ) -> None:
        self._writer = writer
        self._stored = stored
        self._range = int8_range
        if int8_range is not None:
            writer.add("rescore.low", int8_range.low)
            writer.add("rescore.step", int8_range.step)
        writer.section("rescore.vectors", stored, (dim,))

    def append(self, vectors: NDArray[np.float32], locate: Locate) -> None:
        """Append vectors (n, dim) float32; ``locate`` names one of their rows in messages.

        Raises
        ------
        InputError
            If a value is too large for float16.
        """
        stored: NDArray[Any]
        if self._range is not None:
            stored = self._range.quantize(vectors)
        elif self._stored == "float16":
            stored = to_float16(vectors, locate)
        else:
            stored = vectors
        self._writer.append("rescore.vectors", stored)


def to_float16(vectors: NDArray[np.float32], locate: Locate) -> NDArray[np.float16]:
    """Return vectors (n, dim) as float16; ``locate`` names one of their rows in messages.

    Raises
    ------
    InputError
        If a value is too large for it.
    """
    with np.errstate(over="ignore"):
        stored = vectors.astype(np.float16)
    finite = np.isfinite(stored)
    if not finite.all():
        raise InputError(
            "a value is too large to be stored as float16",
            locate(int(np.argmin(finite.all(axis=1)))),
            "at most 65504",
            next_step="use `rescore=float32`",
        )
    return stored


class StoredVectorReader:
    """The stored vectors of an index, for rescoring."""

    def __init__(self, file: IndexFile) -> None:
        header = file.header
        shape = (header.rows, header.dim)
        self._file = file
        self._vectors = file.array("rescore.vectors", header.rescore, shape)
        self._range = None
        if header.rescore == "int8":
            low, step = (
                file.array(f"rescore.{name}", "float32", (header.dim,)) for name in ("low", "step")
            )
            for name, values in (("low", low), ("step", step)):
                if not (np.abs(values) <= 2 * MAX_NORM).all():
                    raise file.corrupt(f"section rescore.{name}", "finite numbers", "others")
            self._range = Int8Range(low, step)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,).

        Raises
        ------
        IndexFileError
            If one of their numbers is none, as may be in a damaged file.
        """
        stored = self._vectors[rows]
        if self._range is not None:
            return self._range.restore(stored)
        vectors = stored.astype(np.float32)
        # A sum is NaN or infinite wherever a number is.
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = not np.isfinite(vectors.sum())
        if suspect:
            wrong = ~np.isfinite(vectors).all(axis=1)
            if wrong.any():
                row = int(rows[np.argmax(wrong)])
                raise self._file.corrupt(
                    f"section rescore.vectors row {row}", "finite numbers", "others"
                )
        return vectors


class JoinedVectors:
    """The stored vectors of several shards, one after the other, for rescoring."""

    def __init__(self, shards: Sequence[IndexFile]) -> None:
        self._parts = [StoredVectorReader(shard) for shard in shards]
        self._ends = np.cumsum([shard.header.rows for shard in shards])

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,), ascending.

        Raises
        ------
        IndexFileError
            As :meth:`StoredVectorReader.take`.
        """
        cuts = [0, *np.searchsorted(rows, self._ends).tolist()]
        firsts = [0, *self._ends.tolist()]
        found = [
            part.take(rows[low:high] - first)
            for part, first, low, high in zip(self._parts, firsts, cuts, cuts[1:], strict=False)
            if low < high
        ]
        return np.concatenate(found) if found else self._parts[0].take(rows[:0])


def stored_vectors(stored: Stored) -> StoredVectorReader | JoinedVectors:
    """Return what an index holds to rescore by, of a file or of all its shards."""
    if isinstance(stored, IndexFile):
        return StoredVectorReader(stored)
    return JoinedVectors(stored.shards)


def write_tombstones(writer: IndexWriter, dead: NDArray[np.bool_]) -> None:
    """Write which rows (n,) are dead; nothing where none is, so that the file needs no feature."""
    if dead.any():
        bits = np.packbits(dead, bitorder="little")
        words = np.zeros(-(-len(dead) // 64), "<u8")
        words.view(np.uint8)[: len(bits)] = bits
        writer.add("tombstones", words.astype(np.uint64))
