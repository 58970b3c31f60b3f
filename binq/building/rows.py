"""The rows of an index as they are written: codes, terms, stored vectors and ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers import Binarizer
from binq.building.choose import usable
from binq.building.kinds import Maker
from binq.building.lists import SIGNS, StandIns
from binq.errors import BinqWarning, InputError
from binq.similarity import comparable
from binq.storage.format import Header
from binq.storage.ids import IdWriter
from binq.storage.sections import Int8Range, TermWriter, VectorWriter, write_tombstones
from binq.storage.writer import IndexWriter, creation_time
from binq.structures.queries import Queries
from binq.types import Locate, Metric, Scoring, StoredVectors
from binq.vectors import Batch, VectorSource
from binq.version import __version__

LISTED: Final = 5
"""Rows that cannot be used, of which it is told what is wrong."""


@dataclass(eq=False)
class RowWriter:
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
    spread : Int8Range or None
        Needed to store int8.
    threads : int
    maker : ListMaker, GraphMaker or None
        Puts the codes into another order; None for a flat index.
    checked : Queries or None
        What searches are calibrated with; rows, where there are none.
    stand_ins : StandIns or None
        Rows that may stand in for queries, where codes lie in another order, or are to.
    first : int
        The number of the first row in the source: not 0 of a shard that follows others.
    count, skipped : int
        Rows written, and how many of them are dead.
    skipped_rows : list of str
        The first few of those, and what is wrong with them.
    """

    writer: IndexWriter
    dim: int
    metric: Metric
    binarizer: Binarizer | None
    scan: Scoring
    rescore: StoredVectors
    spread: Int8Range | None
    threads: int
    maker: Maker | None = None
    checked: Queries | None = None
    stand_ins: StandIns | None = None
    first: int = 0
    count: int = 0
    skipped: int = 0
    skipped_rows: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        binarizer = self.binarizer
        self._dim = binarizer.dim if binarizer else self.dim
        self._bits = binarizer.bits if binarizer else self.dim
        self._words = packing.words_for(self._bits)
        self._dead: list[NDArray[np.int64]] = []
        self.writer.section("codes", np.uint64, (self._words,), spooled=self.maker is not None)
        laid = self.maker is not None or self.stand_ins is not None
        self._signs = laid and binarizer is not None and not binarizer.spec.hamming
        if self._signs and binarizer is not None:
            self.writer.section(SIGNS, np.uint64, (packing.words_for(binarizer.input_dim),))
        self._terms = TermWriter(self.writer, self.metric)
        self._stored = None
        if self.rescore != "none":
            self._stored = VectorWriter(self.writer, self.rescore, self.dim, self.spread)
        self.ids = IdWriter(self.writer)

    def append(self, batch: Batch, source: VectorSource) -> None:
        """Append the rows of a batch; those that are refused are dead."""
        if source.on_error == "skip" and not source.packed:
            assert self.binarizer is not None
            truncate_dim = self.binarizer.truncate_dim
            batch = usable(batch, source, self.metric, truncate_dim, self.rescore)
        if not batch.refused:
            self._write(batch.vectors, source.locator(batch.start), source.packed)
            self.ids.append(batch.ids)
        else:
            places = batch.offsets
            vectors = batch.vectors
            if not len(vectors):
                # Of a width of their own, as long as no row has told another.
                dtype, width = (np.uint64, self._words) if source.packed else (np.float32, self.dim)
                vectors = np.empty((0, width), dtype)
            with self.writer.scattered(places, len(batch)):
                self._write(vectors, source.locating(batch), source.packed)
            self.ids.append(batch.ids, places, len(batch))
            self._bury(batch)
        if self.stand_ins is not None:
            # By what orders the codes they are known by their numbers in the file.
            at = self.count + (self.first if self.maker is None else 0)
            self.stand_ins.see(at, len(batch), batch.offsets, batch.vectors)
        self.count += len(batch)

    def _write(self, vectors: NDArray[Any], locate: Locate, packed: bool) -> None:
        ready = None
        if self._stored is not None:
            ready = comparable(vectors, self.metric, locate)
            self._stored.append(ready, locate)
        if self.binarizer is None or packed:
            codes = vectors
        elif self.scan == "hamming":
            codes = self.binarizer.encode(vectors, locate, self.threads, ready)
        else:
            codes, terms = self.binarizer.encode_with_terms(vectors, locate, self.threads, ready)
            self._terms.append(terms)
        self.writer.append("codes", codes)
        if self._signs and self.binarizer is not None:
            signs = self.binarizer.signs(vectors, locate, self.threads, ready)
            self.writer.append(SIGNS, signs)

    def _bury(self, batch: Batch) -> None:
        """Take note of the rows of a batch that are refused."""
        start = batch.start - self.first
        self._dead.append(np.array([start + refusal.offset for refusal in batch.refused], np.int64))
        self.skipped += len(batch.refused)
        for refusal in batch.refused[: LISTED - len(self.skipped_rows)]:
            if refusal.error is not None:
                self.skipped_rows.append(f"{refusal.error.where}: {refusal.error.what}")

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which rows are dead, (count,)."""
        dead = np.zeros(self.count, np.bool_)
        for rows in self._dead:
            dead[rows] = True
        return dead

    def write(self, batches: Iterator[Batch], source: VectorSource) -> Header:
        """Write a file of all rows.

        Raises
        ------
        InputError
            If there are rows, and none can be used: what is there is worth more than that.
        """
        for batch in batches:
            self.append(batch, source)
        refuse_unusable(self, source)
        self.ids.warn_of_duplicates(self.dead if self.skipped else None)
        return self.close(source)

    def publish(self) -> int:
        """Return the bytes of the file, which appears when its writer ends."""
        return self.writer.written_as.file_length

    def close(self, source: VectorSource, shared: str | None = None) -> Header:
        """Write ids, the binarizer and the header, once all rows are there.

        Parameters
        ----------
        source : VectorSource
            What the rows came from.
        shared : str, optional
            Of a shard: the fingerprint of what it has in common with others. It says nothing of
            files that it holds a part of; the manifest does.
        """
        dead = self.dead
        ids = self.ids.finish()
        calibration = None
        if self.maker is not None:
            calibration = self.maker.make(self.stand_ins or StandIns(), self.checked, dead)
        write_tombstones(self.writer, dead)
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
            sources=source.describe() if shared is None else [],
            model=source.metadata,
            kind="flat" if self.maker is None else self.maker.kind,
            calibration=None if calibration is None else calibration.to_json(),
            shard=None if shared is None else {"first": self.first, "shared": shared},
        )
        self.writer.finish(header)
        return header


class Skipping(Protocol):
    """What counts rows that cannot be used.

    Attributes
    ----------
    count, skipped : int
    skipped_rows : list of str
    """

    count: int
    skipped: int
    skipped_rows: list[str]


def refuse_unusable(rows: Skipping, source: VectorSource) -> None:
    """Raise an ``InputError`` if there are rows, and none of them can be used."""
    if rows.skipped and rows.skipped == rows.count:
        first = rows.skipped_rows[0]
        raise InputError("no row can be used", source.name, got=f"{rows.count:,} rows; {first}")


def warn_of_skipped(rows: Skipping) -> None:
    """Say which rows are dead because they could not be used."""
    if rows.skipped:
        listed = "; ".join(rows.skipped_rows + ["…"] * (rows.skipped > len(rows.skipped_rows)))
        warnings.warn(
            f"{rows.skipped:,} rows cannot be used and are dead: {listed}",
            BinqWarning,
            stacklevel=3,
        )
