"""Building an index: vectors stream in, codes and stored vectors stream out, one file appears."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from binq import binarizers
from binq import bits as packing
from binq.binarizers import Binarizer, default_scoring
from binq.building.choose import choose_binarizer, keep_binarizer, look, needs_fit
from binq.building.options import BinarizerOptions, BinarizerSettings
from binq.errors import InputError, UsageError
from binq.similarity import comparable
from binq.storage.format import Header
from binq.storage.ids import IdWriter
from binq.storage.sections import Int8Range, TermWriter, VectorWriter
from binq.storage.writer import IndexWriter, creation_time, writing_index
from binq.structures.flat import refuse_wide
from binq.threads import limited
from binq.types import (
    LAYOUTS,
    STORED_VECTORS,
    Metric,
    Packed,
    Progress,
    Scoring,
    StoredVectors,
    Vectors,
)
from binq.vectors import Batch, VectorSource, open_vectors
from binq.vectors.ids import IdType, note_of
from binq.vectors.sample import Sample, started
from binq.version import __version__


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes
    ----------
    rows, dim, bits : int
    method : str or None
        None for bits of unknown origin.
    rescore : str
        The stored vectors.
    size : int
        Of the file, in bytes.
    chosen_by : str or None
        What ``method="auto"`` picked and why.
    ids : {"rows", "strings", "int64", "uint64"}
        What the ids of the index are; ``rows`` where row numbers serve.
    id_note : str or None
        Which columns could hold ids, where none was found.
    """

    rows: int
    dim: int
    bits: int
    method: str | None
    rescore: StoredVectors
    size: int
    chosen_by: str | None = None
    ids: IdType = "rows"
    id_note: str | None = None


def build(
    vectors: Vectors,
    output: str | os.PathLike[str],
    *,
    rescore: StoredVectors = "none",
    packed: Packed | None = None,
    column: str | None = None,
    id_column: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    **settings: Unpack[BinarizerSettings],
) -> BuildReport:
    """Build an index file; it appears whole under its name, or not at all.

    Parameters
    ----------
    vectors : path, list of paths, "-" or (n, dim) array
        Floats or packed bits.
    output : path
    rescore : {"none", "int8", "float16", "float32"}
        Vectors to store for rescoring, with all their dimensions.
    packed : {"none", "ubinary", "binary", "lsb"}, optional
        What 8-bit input is.
    column, id_column : str, optional
        Columns to read, where they are not found by themselves.
    overwrite : bool
        Replace files of another kind than what is written.
    threads : int, optional
        Default: as many as the process may use.
    progress : callable, optional
        Called with (rows done, rows in all or None).
    method, bits, truncate_dim, metric, seed, sample, binarizer, save_binarizer, scoring
        See :class:`binq.building.options.BinarizerOptions`. For packed input ``method`` says how
        the bits came about, so that the index takes float queries; only sign can be said, anything
        else needs ``binarizer``.

    Returns
    -------
    BuildReport

    Raises
    ------
    UsageError, InputError, EnvironmentFailure

    Warns
    -----
    BinqWarning
        If an id stands on more than one row.
    """
    if rescore not in STORED_VECTORS:
        raise UsageError(
            "unknown kind of vectors", "`rescore`", ", ".join(STORED_VECTORS), str(rescore)
        )
    options = BinarizerOptions(**settings)
    options.refuse_overwrites(output, "index", vectors, overwrite)
    # What is entered last ends first: the output, then reading ahead, then the source it reads.
    with ExitStack() as stack:
        count = stack.enter_context(limited(threads))
        source = stack.enter_context(_open(vectors, column, id_column, packed, options.bits))
        sample = None
        if source.packed:
            _refuse_for_packed(options, rescore, source)
        elif needs_fit(options) or rescore == "int8":
            source, sample = look(source, output, options, stack)
        dim, batches = started(source, stack)
        binarizer = _binarizer_for(options, source, dim, sample, count)
        scan = options.scoring or default_scoring(binarizer.method if binarizer else None)
        if scan == "asymmetric" and source.packed:
            _refuse_asymmetric(binarizer)
        if scan == "asymmetric":
            refuse_wide(binarizer.bits if binarizer else dim)
        writer = stack.enter_context(writing_index(output))
        rows = _RowWriter(writer, dim, options.metric, binarizer, scan, rescore, sample, count)
        for batch in batches:
            rows.append(batch, source)
            if progress is not None:
                progress(rows.count, source.rows)
        rows.ids.warn_of_duplicates()
        header = rows.finish(source)
        keep_binarizer(options, binarizer)
    return BuildReport(
        header.rows,
        header.dim,
        header.bits,
        binarizer.method if binarizer else None,
        rescore,
        os.stat(output).st_size,
        binarizer.chosen_by if binarizer and options.method == "auto" else None,
        header.id_type,
        None if source.could_be_ids is None else note_of(source.could_be_ids),
    )


@dataclass(eq=False)
class _RowWriter:
    """Writes the rows of an index: codes and terms, stored vectors, ids.

    Attributes
    ----------
    writer : IndexWriter
    dim : int
        Of the vectors as they come in; of packed input the width of its codes.
    metric : str
    binarizer : Binarizer or None
        None for bits of unknown origin.
    scan : str
        Terms are written for an asymmetric one.
    rescore : str
        The vectors to store.
    sample : Sample or None
        Needed to store int8.
    threads : int
    count : int
        Rows written.
    """

    writer: IndexWriter
    dim: int
    metric: Metric
    binarizer: Binarizer | None
    scan: Scoring
    rescore: StoredVectors
    sample: Sample | None
    threads: int
    count: int = 0

    def __post_init__(self) -> None:
        binarizer = self.binarizer
        self._dim = binarizer.dim if binarizer else self.dim
        self._bits = binarizer.bits if binarizer else self.dim
        self.writer.section("codes", np.uint64, (packing.words_for(self._bits),))
        self._terms = TermWriter(self.writer, self.metric)
        self._stored = None
        if self.rescore != "none":
            needed = self.sample if self.rescore == "int8" else None
            spread = Int8Range.spanning(needed.low, needed.high) if needed else None
            self._stored = VectorWriter(self.writer, self.rescore, self.dim, spread)
        self.ids = IdWriter(self.writer)

    def append(self, batch: Batch, source: VectorSource) -> None:
        """Append the rows of a batch."""
        vectors, locate = batch.vectors, source.locator(batch.start)
        ready = None
        if self._stored is not None:
            ready = comparable(vectors, self.metric, locate)
            self._stored.append(ready, locate)
        if self.binarizer is None or source.packed:
            codes = vectors
        elif self.scan == "hamming":
            codes = self.binarizer.encode(vectors, locate, self.threads, ready)
        else:
            codes, terms = self.binarizer.encode_with_terms(vectors, locate, self.threads, ready)
            self._terms.append(terms)
        self.writer.append("codes", codes)
        self.ids.append(batch.ids)
        self.count += len(vectors)

    def finish(self, source: VectorSource) -> Header:
        """Write ids, the binarizer and the header, once all rows are there."""
        ids = self.ids.finish()
        binarizer = self.binarizer
        if binarizer is not None:
            for name, array in binarizer.arrays().items():
                self.writer.add(f"binarizer.{name}", array)
        header = Header(
            rows=self.count,
            dim=self._dim,
            bits=self._bits,
            words=packing.words_for(self._bits),
            metric=self.metric,
            binarizer=binarizer.settings() if binarizer else None,
            created=creation_time(),
            binq=__version__,
            scoring=self.scan,
            rescore=self.rescore,
            ids=ids,
            packed=source.layout,
            sources=source.describe(),
            model=source.metadata,
        )
        self.writer.finish(header)
        return header


def _open(
    vectors: Vectors,
    column: str | None,
    id_column: str | None,
    packed: Packed | None,
    bits: int | None,
) -> VectorSource:
    """Open the input; ``bits`` is the true width of codes, and not said of floats."""
    packed_bits = bits if packed in LAYOUTS else None
    source = open_vectors(
        vectors, column=column, id_column=id_column, packed=packed, bits=packed_bits
    )
    if source.packed and bits not in (None, source.dim):
        # Fixed-size binary is bits without being said to be.
        source.close()
        source = open_vectors(vectors, column=column, id_column=id_column, bits=bits)
    return source


def _refuse_for_packed(
    options: BinarizerOptions, rescore: StoredVectors, source: VectorSource
) -> None:
    """Refuse what needs floats, where the input is bits."""
    if rescore != "none":
        raise UsageError(
            "an index built from bits stores no vectors",
            "`rescore`",
            "none",
            rescore,
            "build from the float vectors",
        )
    if options.truncate_dim is not None:
        raise UsageError("bits cannot be truncated", "`truncate_dim`", "float vectors", source.name)
    if needs_fit(options):
        raise UsageError(
            f"method {options.method} cannot be fitted on bits",
            "`method`",
            "sign",
            str(options.method),
            "give the fitted binarizer with `binarizer`",
        )
    if options.save_binarizer is not None and options.binarizer is None and options.method is None:
        raise UsageError("there is no binarizer to save", "`save_binarizer`", "float vectors")


def _refuse_asymmetric(binarizer: Binarizer | None) -> None:
    """Refuse an asymmetric scan of bits whose floats are not there to say more of them."""
    if binarizer is None or binarizer.needs_terms:
        raise UsageError(
            "an index built from bits has nothing for an asymmetric scan",
            "`scoring`",
            "hamming",
            "asymmetric",
            "build from the float vectors, or say `method=sign` under cosine",
        )


def _binarizer_for(
    options: BinarizerOptions, source: VectorSource, dim: int, sample: Sample | None, threads: int
) -> Binarizer | None:
    """Return the binarizer of the index, or None for bits of unknown origin."""
    if not source.packed:
        return choose_binarizer(options, dim, sample, threads)
    if options.binarizer is None:
        return choose_binarizer(options, dim, None, threads) if options.method else None
    binarizer = binarizers.load(options.binarizer)
    if binarizer.bits != dim:
        raise InputError(
            "the binarizer gives codes of another width",
            str(options.binarizer),
            f"{dim} bits",
            f"{binarizer.bits} bits",
        )
    return binarizer
