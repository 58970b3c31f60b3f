"""The scoring ladder: a scan finds survivors, and vectors that say more than bits sort them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.bits import unpack
from binq.errors import BinqWarning, InputError, UsageError
from binq.search.adaptive import (
    CALIBRATION_ROWS,
    DEFAULT_TARGET,
    Calibration,
    calibrate,
    rank_to_target,
    widest,
)
from binq.search.hits import Hits, RadiusHits
from binq.search.queries import Queries
from binq.search.rescore import VectorStore, exact_scores
from binq.similarity import best_first, normalize, unit_rows
from binq.storage.format import Header
from binq.storage.ids import StoredIds
from binq.structures.flat import FlatIndex
from binq.types import Metric, Scoring
from binq.vectors import VectorSource


@dataclass(frozen=True, eq=False)
class Survivors:
    """What a scan returns, ordered by (score descending, row ascending).

    Attributes
    ----------
    rows : (q, m) int64
    distances : (q, m) int32 or None
        Hamming distances; None after an asymmetric scan.
    scores : (q, m) float64
        Minus the distance, or the estimate of the asymmetric scan.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.int32] | None
    scores: NDArray[np.float64]

    def chosen(self, positions: NDArray[np.intp]) -> Survivors:
        """Return those at positions (q, k)."""
        rows = np.take_along_axis(self.rows, positions, axis=1)
        scores = np.take_along_axis(self.scores, positions, axis=1)
        if self.distances is None:
            return Survivors(rows, None, scores)
        return Survivors(rows, np.take_along_axis(self.distances, positions, axis=1), scores)


@dataclass(frozen=True, eq=False)
class Ladder:
    """How an index is searched: a scan, and what sorts its survivors.

    Attributes
    ----------
    codes : FlatIndex
    ids : StoredIds or None
    metric : {"cosine", "ip", "l2"}
    scoring : {"hamming", "asymmetric"}
        The scan.
    by_codes : bool
        Sort the survivors by their codes and the whole weights of the query.
    store : VectorStore or None
        Sort the survivors by these vectors. With neither, the scan's order stands.
    terms : RowTerms
        Of the rows, for asymmetric scores.
    oversample : float or None
        None rescores every query as deep as ``target`` asks, see :mod:`binq.search.adaptive`.
    threads : int
    target : float
        Expected share of the scan's best that rescoring keeps, where ``oversample`` is None.
    binarizer : Binarizer or None
    """

    codes: FlatIndex
    ids: StoredIds | None
    metric: Metric
    scoring: Scoring
    by_codes: bool
    store: VectorStore | None
    terms: RowTerms
    oversample: float | None
    threads: int
    target: float = DEFAULT_TARGET
    binarizer: Binarizer | None = None
    _source: VectorSource | None = None

    def __enter__(self) -> Ladder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._source is not None:
            self._source.close()

    @property
    def rescored(self) -> bool:
        """Whether the survivors are sorted anew."""
        return self.by_codes or self.store is not None

    def depth(self, k: int) -> int:
        """Return how many survivors a search for k hits rescores; n bounds it yet.

        Raises
        ------
        UsageError
            If k is below 1.
        """
        if k < 1:
            raise UsageError("too few hits wanted", "`k`", "at least 1", str(k))
        if not self.rescored:
            return k
        if self.oversample is None:
            return widest(k, len(self.codes))
        if max(k, self.oversample) >= len(self.codes):
            return max(k, len(self.codes))  # the product may be too large for a float
        # The product of a decimal fraction may come out a hair above the whole number meant.
        return math.ceil(round(k * self.oversample, 6))

    def search(self, queries: Queries, k: int) -> Hits:
        """Return the best min(k, n) rows of every query."""
        return self.rank(queries, self.survivors(queries, self.depth(k)), k)

    def survivors(self, queries: Queries, depth: int) -> Survivors:
        """Return the best min(depth, n) rows of the scan."""
        depth = min(depth, len(self.codes))
        if self.scoring == "hamming":
            rows, distances = self.codes.nearest(queries.codes, depth, self.threads)
            return Survivors(rows, distances, np.subtract(0.0, distances, dtype=np.float64))
        rows, scores = self.codes.best(queries.weights, self.terms, depth, self.threads)
        return Survivors(rows, None, scores)

    def rank(self, queries: Queries, survivors: Survivors, k: int) -> Hits:
        """Sort survivors and return the best k."""
        if not self.rescored:
            part = slice(0, k)
            distances = None if survivors.distances is None else survivors.distances[:, part]
            return Hits(survivors.rows[:, part], distances, survivors.scores[:, part], self.ids)
        depths = None
        if self.oversample is None and survivors.rows.size:
            order, scores, depths = rank_to_target(
                survivors.rows,
                survivors.scores,
                lambda chosen, rows: self.scores(queries.part(chosen), rows),
                k,
                self.target,
                self._calibration,
            )
        else:
            found = self.scores(queries, survivors.rows)
            order = best_first(survivors.rows, found, k)
            scores = np.take_along_axis(found, order, axis=1)
        best = survivors.chosen(order)
        return Hits(best.rows, best.distances, scores, self.ids, depths)

    def scores(self, queries: Queries, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the rescored scores (q, m) of chosen rows (q, m)."""
        if self.store is None:
            return self.codes.scores(queries.weights, rows, self.terms)
        if queries.truncated or queries.vectors is None:
            raise InputError(
                "truncated queries cannot be compared with whole vectors",
                "queries",
                "all dimensions",
                "the truncated dimension",
                "use `rescore=none` or codes, or queries of all dimensions",
            )
        return exact_scores(queries.vectors, rows, self.store, self.metric)

    @cached_property
    def _calibration(self) -> Calibration:
        """How the scan foretells rescored scores, from rows that stand in for queries."""
        n = len(self.codes)
        picked = np.sort(np.random.default_rng(0).permutation(n)[:CALIBRATION_ROWS])
        assert self.binarizer is not None
        if self.store is not None:
            vectors = self.store.take(picked)
        else:
            bits = unpack(self.codes.codes[picked], self.binarizer.bits)
            vectors = self.binarizer.affine.reconstruct(bits)
        if self.metric == "cosine":
            vectors = normalize(vectors)[0]
        queries = Queries(vectors, binarizer=self.binarizer)
        near = self.survivors(queries, min(n, 2 * CALIBRATION_ROWS))
        others = np.argsort(near.rows == picked[:, None], axis=1, kind="stable")
        near = near.chosen(others[:, : max(1, near.rows.shape[1] - 1)])
        if near.rows.shape[1] < 2:
            return Calibration(0.0, np.inf)
        return calibrate(near.scores, self.scores(queries, near.rows))

    def radius_search(self, queries: Queries, radius: int, k: int | None = None) -> RadiusHits:
        """Return all rows within ``radius``, or the best k of them."""
        if radius < 0:
            raise UsageError("the radius is negative", "`radius`", "at least 0", str(radius))
        if k is not None and k < 1:
            raise UsageError("too few hits wanted", "`k`", "at least 1", str(k))
        radius = min(radius, 64 * self.codes.words)
        lims, rows, distances = self.codes.within(queries.codes, radius, self.threads)
        found = [
            self.rank(
                queries.part(slice(i, i + 1)),
                _near(rows[lims[i] : lims[i + 1]], distances[lims[i] : lims[i + 1]]),
                max(1, int(lims[i + 1] - lims[i])) if k is None else k,
            )
            for i in range(len(queries))
        ]
        ends = np.cumsum([0] + [hits.rows.size for hits in found])
        return RadiusHits(
            ends.astype(np.int64),
            _flat([hits.rows for hits in found], np.int64),
            _flat([hits.distances for hits in found if hits.distances is not None], np.int32),
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
                "`rescore_from` is not what the index was built from",
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


def _near(rows: NDArray[np.int64], distances: NDArray[np.int32]) -> Survivors:
    """Return the survivors of one query of a radius search."""
    scores = np.subtract(0.0, distances, dtype=np.float64)
    return Survivors(rows[None], distances[None], scores[None])


def _flat(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(part.ravel() for part in parts)])
