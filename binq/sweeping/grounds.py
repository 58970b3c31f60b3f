"""Sets of rows on which ways of storing them are measured: all rows, and parts of a sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import RowTerms
from binq.evaluation.statistics import recall, row_hashes
from binq.similarity import best_first, comparable, exact_neighbours, scores
from binq.storage.sections import Int8Range
from binq.structures.flat import Flat
from binq.structures.queries import Queries
from binq.sweeping.measure import Setting, encoded, restored, searched
from binq.sweeping.results import Rescoring, Row
from binq.types import DEFAULT_OVERSAMPLE

_BLOCK_BYTES: Final = 32 << 20
_HALVINGS: Final = 3
_KEPT_CODES: Final = 8
# Of fewer rows, what is found among so many candidates says nothing about more rows.
_ROWS_PER_CANDIDATE: Final = 2

Block = tuple[int, NDArray[np.float32], NDArray[np.float32]]
"""Number of the first row; rows as they came; the same as they are compared."""
Codes = tuple[NDArray[np.uint64], RowTerms]


@dataclass(frozen=True, eq=False)
class Way:
    """A row of the table, with or without something better to sort its candidates by.

    Attributes
    ----------
    row : Row
    by : {"none", "file", "int8", "float16"}
    oversample : float or None
        None where nothing is rescored.
    bytes : int
        Per vector, stored vectors included.
    bound : (q,) float64
        Recall of every query on the rows swept over, or what it cannot exceed.
    """

    row: Row
    by: Rescoring
    oversample: float | None
    bytes: int
    bound: NDArray[np.float64]


class Ground:
    """A set of rows on which ways are measured.

    Parameters
    ----------
    setting : Setting
    blocks : callable
        Yields the rows in order, as often as it is called.
    encode : callable
        Returns the codes of all of them, given a row of the table.
    """

    _keeps: ClassVar[int] = 1
    """Rows of the table whose candidates are kept."""

    def __init__(
        self,
        setting: Setting,
        blocks: Callable[[], Iterator[Block]],
        encode: Callable[[Row], Codes],
    ) -> None:
        self._setting = setting
        self._blocks = blocks
        self._encode = encode
        self._kept: dict[Row, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    @cached_property
    def _looked(self) -> tuple[NDArray[np.int64], Int8Range]:
        """The exact neighbours (q, k), and the range of every dimension."""
        setting = self._setting
        dim = setting.data.raw.shape[1]
        low, high = np.full(dim, np.inf, np.float32), np.full(dim, -np.inf, np.float32)

        def units() -> Iterator[tuple[int, NDArray[np.float32]]]:
            for start, _, unit in self._blocks():
                np.minimum(low, unit.min(axis=0), out=low)
                np.maximum(high, unit.max(axis=0), out=high)
                yield start, unit

        truth = exact_neighbours(setting.data.queries, units(), setting.k, setting.metric)[0]
        return truth, Int8Range.spanning(low, high)

    def recall(self, way: Way) -> NDArray[np.float64]:
        """Return the recall of every query, (q,)."""
        truth, spread = self._looked
        candidates, hits = self._searched(way.row)
        if way.oversample is None:
            return recall(hits, truth)
        near = candidates[:, : self._setting.candidate_count(way.oversample)]
        if way.by == "file":  # the exact vectors put every true neighbour that is there first
            return recall(near, truth)
        units = ((start, unit) for start, _, unit in self._blocks())
        return recall(rescored(near, units, way.by, spread, self._setting), truth)

    def _searched(self, row: Row) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return candidates and hits."""
        if row not in self._kept:
            if len(self._kept) >= self._keeps:
                self._kept.clear()
            queries = Queries(self._setting.data.queries, binarizer=row.fitted)
            index = Flat(*self._encode(row))
            self._kept[row] = searched(index, queries, row.scoring, self._setting)
        return self._kept[row]


class AllRows(Ground):
    """Every row of the corpus, read again as ``binq build`` reads it; queries held out are not.

    Parameters
    ----------
    setting : Setting
    seconds : float
        What measuring on them may take.

    Attributes
    ----------
    rows : int
        How many there are.
    """

    _keeps = 64

    def __init__(self, setting: Setting, seconds: float) -> None:
        super().__init__(setting, self._read, self._encoded)
        data = setting.data
        self.rows = data.total - (int(data.reported.sum()) if data.held_out else 0)
        self._held = np.unique(row_hashes(data.queries)) if data.held_out else None
        self._left = seconds

    def recall(self, way: Way) -> NDArray[np.float64]:
        """Return the recall of every query, (q,), and take the time off what is left."""
        begun = time.perf_counter()
        try:
            return super().recall(way)
        finally:
            self._left -= time.perf_counter() - begun

    def affords(self, seconds: float) -> bool:
        """Return whether so many seconds are left."""
        return seconds <= self._left

    def seconds(self, way: Way, rescoring: float) -> float:
        """Estimate how long it takes to measure a way, from what its parts took on the sample.

        Parameters
        ----------
        way : Way
        rescoring : float
            Seconds that sorting its candidates took.
        """
        setting, row = self._setting, way.row
        data = setting.data
        total = rescoring
        passes = int(way.by in ("int8", "float16"))
        if "_looked" not in self.__dict__:
            total += setting.truth_seconds * self.rows / len(data.raw)
            passes += 1
        if row not in self._kept:
            total += self.rows / (row.encode_per_second or 1)
            total += (row.scan_ms or 0) / 1000 * len(data.queries) * self.rows / 1e6
            passes += 1
        return total + passes * data.read_seconds

    def _read(self) -> Iterator[Block]:
        data, start = self._setting.data, 0
        for batch in data.source.batches():
            raw = batch.vectors
            unit = comparable(raw, self._setting.metric, data.source.locator(batch.start))
            if self._held is not None:
                kept = ~np.isin(row_hashes(unit), self._held)
                raw, unit = raw[kept], unit[kept]
            if len(raw):
                yield start, raw, unit
                start += len(raw)
        self.rows = start

    def _encoded(self, row: Row) -> Codes:
        assert row.fitted is not None
        codes, factors, addends = [], [], []
        for _, raw, _ in self._read():
            some, terms = encoded(row.fitted, raw, row.scoring, self._setting.threads)
            codes.append(some)
            factors += [] if terms.factor is None else [terms.factor]
            addends += [] if terms.addend is None else [terms.addend]
        return np.concatenate(codes), RowTerms(
            np.concatenate(factors) if factors else None,
            np.concatenate(addends) if addends else None,
        )


class Halves:
    """The sample, halved again and again, to see what more rows do to recall.

    Parameters
    ----------
    setting : Setting
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._codes: dict[Row, Codes] = {}
        rows = len(setting.data.raw)
        order = np.random.default_rng(setting.seed).permutation(rows)
        self._levels = [
            [self._ground(np.sort(order[first :: 1 << level])) for first in range(1 << level)]
            for level in range(1, _HALVINGS + 1)
        ]

    def recalls(self, way: Way) -> list[NDArray[np.float64]]:
        """Return the recall of every query (q,), on half of the sample, a quarter, and so on.

        Each is the mean over all parts of that size. What is too small to say anything is left out.
        """
        setting = self._setting
        candidates = setting.candidate_count(way.oversample or DEFAULT_OVERSAMPLE)
        found = []
        for level, grounds in enumerate(self._levels, start=1):
            if len(setting.data.raw) >> level < _ROWS_PER_CANDIDATE * candidates:
                break
            found.append(np.mean([ground.recall(way) for ground in grounds], axis=0))
        return found

    def _ground(self, rows: NDArray[np.int64]) -> Ground:
        data = self._setting.data

        def blocks() -> Iterator[Block]:
            yield 0, data.raw[rows], data.corpus[rows]

        def encode(row: Row) -> Codes:
            if row not in self._codes:
                if len(self._codes) >= _KEPT_CODES:
                    self._codes.clear()
                assert row.fitted is not None
                threads = self._setting.threads
                self._codes[row] = encoded(row.fitted, data.raw, row.scoring, threads)
            codes, terms = self._codes[row]
            return codes[rows], terms.take(rows)

        return Ground(self._setting, blocks, encode)


def rescored(
    near: NDArray[np.int64],
    blocks: Iterable[tuple[int, NDArray[np.float32]]],
    by: Rescoring,
    spread: Int8Range,
    setting: Setting,
) -> NDArray[np.int64]:
    """Return the best k (q, k) of rows (q, m) by vectors as an index stores them.

    Parameters
    ----------
    near : (q, m) int64
    blocks : iterable of (first row, (b, dim) float32)
        All rows, as they are compared.
    by : {"int8", "float16"}
    spread : Int8Range
    setting : Setting
    """
    queries = setting.data.queries
    found = np.full(near.shape, -np.inf)
    step = max(1, _BLOCK_BYTES // (8 * queries.shape[1]))
    for start, vectors in blocks:
        lines, columns = np.nonzero((near >= start) & (near < start + len(vectors)))
        for first in range(0, len(lines), step):
            line, column = lines[first : first + step], columns[first : first + step]
            stored = vectors[near[line, column] - start]
            if by == "int8" or by == "float16":
                stored = restored(stored, by, spread)
            found[line, column] = scores(queries[line], stored[:, None], setting.metric)[:, 0]
    order = best_first(near, found, setting.k)
    return np.take_along_axis(near, order, axis=1)
