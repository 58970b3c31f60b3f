"""The scoring ladder: a scan finds survivors, and vectors that say more than bits sort them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.binarizers.affine import unit_rows
from binq.errors import BinqWarning, InputError, UsageError
from binq.hits import Hits, RadiusHits
from binq.index import FlatIndex
from binq.rescore import VectorStore
from binq.rescore import rescore as sort_survivors
from binq.similarity import Metric
from binq.storage.format import Header
from binq.storage.reader import StoredIds
from binq.vectors import VectorSource


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries as an index compares them.

    Attributes
    ----------
    codes : (q, words) uint64
    vectors : (q, dim) float32 or None
        Normalised under cosine; None for queries that came as bits.
    truncated : bool
        They came with the truncated dimension only.
    """

    codes: NDArray[np.uint64]
    vectors: NDArray[np.float32] | None = None
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, chosen: slice | NDArray[Any]) -> Queries:
        """Return some of the queries."""
        vectors = None if self.vectors is None else self.vectors[chosen]
        return Queries(self.codes[chosen], vectors, self.truncated)


@dataclass(frozen=True, eq=False)
class Ladder:
    """How an index is searched: a scan, and what sorts its survivors.

    Attributes
    ----------
    codes : FlatIndex
    ids : StoredIds or None
    metric : {"cosine", "ip", "l2"}
    store : VectorStore or None
        The vectors to rescore with; None where the scan's order stands.
    oversample : float
    threads : int
    """

    codes: FlatIndex
    ids: StoredIds | None
    metric: Metric
    store: VectorStore | None
    oversample: float
    threads: int
    _source: VectorSource | None = None

    def __enter__(self) -> Ladder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._source is not None:
            self._source.close()

    def depth(self, k: int) -> int:
        """Return how many survivors a search for k hits rescores; n bounds it yet.

        Raises
        ------
        UsageError
            If k is below 1.
        """
        if k < 1:
            raise UsageError("too few hits wanted", "-k", "at least 1", str(k))
        if self.store is None:
            return k
        if max(k, self.oversample) >= len(self.codes):
            return max(k, len(self.codes))  # the product may be too large for a float
        # The product of a decimal fraction may come out a hair above the whole number meant.
        return math.ceil(round(k * self.oversample, 6))

    def search(self, queries: Queries, k: int) -> Hits:
        """Return the best min(k, n) rows of every query."""
        rows, distances = self.survivors(queries, self.depth(k))
        return self.rank(queries, rows, distances, k)

    def survivors(
        self, queries: Queries, depth: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return rows and distances (q, min(depth, n)) of the scan, ordered by (distance, row)."""
        return self.codes.nearest(queries.codes, min(depth, len(self.codes)), self.threads)

    def rank(
        self,
        queries: Queries,
        rows: NDArray[np.int64],
        distances: NDArray[np.int32],
        k: int,
    ) -> Hits:
        """Sort survivors, (q, m) each, and return the best k."""
        ids = self.ids
        if self.store is None:
            rows, distances = rows[:, :k], distances[:, :k]
            return Hits(rows, distances, np.subtract(0.0, distances, dtype=np.float64), ids)
        if queries.truncated or queries.vectors is None:
            raise InputError(
                "truncated queries cannot be compared with whole vectors",
                "queries",
                "all dimensions",
                "the truncated dimension",
                "use --rescore none, or queries of all dimensions",
            )
        order, values = sort_survivors(queries.vectors, rows, self.store, self.metric, k)
        return Hits(
            np.take_along_axis(rows, order, axis=1),
            np.take_along_axis(distances, order, axis=1),
            values,
            ids,
        )

    def radius_search(self, queries: Queries, radius: int, k: int | None = None) -> RadiusHits:
        """Return all rows within ``radius``, or the best k of them."""
        if radius < 0:
            raise UsageError("the radius is negative", "--radius", "at least 0", str(radius))
        if k is not None and k < 1:
            raise UsageError("too few hits wanted", "-k", "at least 1", str(k))
        radius = min(radius, 64 * self.codes.words)
        lims, rows, distances = self.codes.within(queries.codes, radius, self.threads)
        found = [
            self.rank(
                queries.part(slice(i, i + 1)),
                rows[None, lims[i] : lims[i + 1]],
                distances[None, lims[i] : lims[i + 1]],
                max(1, int(lims[i + 1] - lims[i])) if k is None else k,
            )
            for i in range(len(queries))
        ]
        ends = np.cumsum([0] + [hits.rows.size for hits in found])
        return RadiusHits(
            ends.astype(np.int64),
            _flat([hits.rows for hits in found], np.int64),
            _flat([hits.distances for hits in found], np.int32),
            _flat([hits.scores for hits in found], np.float64),
            self.ids,
        )


class Originals:
    """The vectors that an index was built from, fetched row by row; a ``VectorStore``."""

    def __init__(self, source: VectorSource, header: Header) -> None:
        self._source = source
        self._unit = header.metric == "cosine"
        found = (source.rows, source.dim)
        if source.packed or found != (header.rows, header.dim):
            raise InputError(
                "--rescore-from is not what the index was built from",
                source.name,
                f"{header.rows} rows of dimension {header.dim}",
                "packed bits" if source.packed else f"{found[0]} rows of dimension {found[1]}",
            )
        if source.describe() != header.sources:
            warnings.warn(
                f"{source.name} is not byte for byte what the index was built from; "
                "its rows are trusted to be the same vectors in the same order",
                BinqWarning,
                stacklevel=4,
            )

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,)."""
        vectors = self._source.take(rows)
        if not self._unit:
            return vectors
        return unit_rows(vectors, lambda row: self._source.locate(int(rows[row])))


def _flat(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(part.ravel() for part in parts)])
