"""The pipeline of every search: a structure finds candidates, a rescorer sorts them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer
from binq.errors import UsageError
from binq.search import adaptive
from binq.search.hits import Hits, RadiusHits
from binq.search.rescore import ByCodes, Rescorer
from binq.similarity import best_first
from binq.storage.ids import StoredIds
from binq.structures.base import Candidates, Scope, Structure
from binq.structures.queries import Queries
from binq.types import Scoring


@dataclass(frozen=True, eq=False)
class Pipeline:
    """How an index is searched, decided once for any number of queries.

    Attributes
    ----------
    structure : Structure
    ids : StoredIds or None
    scoring : {"hamming", "asymmetric"}
        The scan.
    rescorer : Rescorer or None
        Sorts the candidates; without one the order of the scan stands.
    oversample : float or None
        None rescores as many candidates as each query needs, see :mod:`binq.search.adaptive`.
    scope : Scope
        The rows that may be returned, how far the structure looks, on how many threads.
    binarizer : Binarizer or None
    require_unchanged : callable
        Raises where the file under the structure has been written to; asked around every scan,
        since what was read meanwhile may be neither the old nor the new.
    resources : ExitStack or None
        What was opened for it, closed with it.
    """

    structure: Structure
    ids: StoredIds | None
    scoring: Scoring
    rescorer: Rescorer | None
    oversample: float | None
    scope: Scope
    binarizer: Binarizer | None
    require_unchanged: Callable[[], None]
    resources: ExitStack | None = None

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        if self.resources is not None:
            self.resources.close()

    @property
    def rows(self) -> int:
        """How many rows may be returned."""
        allowed = self.scope.allowed
        return len(self.structure) if allowed is None else allowed.count

    @property
    def weighs(self) -> bool:
        """Whether queries are compared with codes by their weights."""
        return self.scoring == "asymmetric" or isinstance(self.rescorer, ByCodes)

    def search(self, queries: Queries, k: int) -> Hits:
        """Return the best min(k, rows) rows of every query."""
        return self.rescore(queries, self.candidates(queries, self.candidate_count(k)), k)

    def candidate_count(self, k: int) -> int:
        """Return how many candidates a search for k hits asks the structure for.

        Raises
        ------
        UsageError
            If k is below 1.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise UsageError(
                "no such number of hits", "`k`", "a whole number of at least 1", str(k)
            )
        if self.rescorer is None:
            return int(k)
        if self.oversample is None:
            return adaptive.most_candidates(k, self.rows)
        if max(k, self.oversample) >= self.rows:
            return max(k, self.rows)  # the product may be too large for a float
        # The product of a decimal fraction may come out a hair above the whole number meant.
        return math.ceil(round(k * self.oversample, 6))

    def candidates(self, queries: Queries, count: int) -> Candidates:
        """Return the best min(count, rows) rows of the scan."""
        self.require_unchanged()
        count = min(count, self.rows)
        if self.scoring == "hamming":
            return self.structure.nearest(queries, count, self.scope)
        return self.structure.best(queries, count, self.scope)

    def rescore(self, queries: Queries, found: Candidates, k: int) -> Hits:
        """Sort candidates and return the best k."""
        hits = self._sorted(queries, found, k)
        self.require_unchanged()
        return hits

    def _sorted(self, queries: Queries, found: Candidates, k: int) -> Hits:
        if self.rescorer is None:
            part = slice(0, k)
            distances = None if found.distances is None else found.distances[:, part]
            return Hits(found.rows[:, part], distances, found.scores[:, part], self.ids)
        rescored = None
        if self.oversample is None and found.rows.size:
            rescorer = self.rescorer
            order, scores, rescored = adaptive.rank_to_target(
                found.rows,
                found.scores,
                lambda chosen, rows: rescorer.scores(queries.part(chosen), rows),
                k,
                adaptive.TARGET,
                self._calibration,
            )
        else:
            values = self.rescorer.scores(queries, found.rows)
            order = best_first(found.rows, values, k)
            scores = np.take_along_axis(values, order, axis=1)
        best = found.at(order)
        return Hits(best.rows, best.distances, scores, self.ids, rescored)

    @cached_property
    def _calibration(self) -> adaptive.Calibration:
        """How the scan foretells rescored scores, from rows that stand in for queries."""
        assert self.rescorer is not None
        allowed = self.scope.allowed
        pool = np.arange(len(self.structure)) if allowed is None else allowed.rows
        picked = np.random.default_rng(0).permutation(len(pool))[: adaptive.CALIBRATION_ROWS]
        chosen = pool[np.sort(picked)]
        queries = Queries(self.rescorer.stand_ins(chosen), binarizer=self.binarizer)
        near = self.candidates(queries, 2 * adaptive.CALIBRATION_ROWS)
        others = np.argsort(near.rows == chosen[:, None], axis=1, kind="stable")
        near = near.at(others[:, : max(1, near.rows.shape[1] - 1)])
        if near.rows.shape[1] < 2:
            return adaptive.Calibration(0.0, np.inf)
        return adaptive.calibrate(near.scores, self.rescorer.scores(queries, near.rows))

    def radius_search(self, queries: Queries, radius: int, k: int | None = None) -> RadiusHits:
        """Return all rows within ``radius``, or the best k of them."""
        if not isinstance(radius, int | np.integer) or radius < 0:
            raise UsageError(
                "no such radius", "`radius`", "a whole number of at least 0", str(radius)
            )
        if k is not None:
            self.candidate_count(k)
        self.require_unchanged()
        lims, rows, distances = self.structure.within(queries.codes, radius, self.scope)
        found = []
        for query in range(len(queries)):
            part = slice(lims[query], lims[query + 1])
            near = Candidates.by_distance(rows[None, part], distances[None, part])
            wanted = max(1, near.rows.shape[1]) if k is None else k
            found.append(self.rescore(queries.part(slice(query, query + 1)), near, wanted))
        ends = np.cumsum([0] + [hits.rows.size for hits in found])
        return RadiusHits(
            ends.astype(np.int64),
            _flat([hits.rows for hits in found], np.int64),
            _flat([hits.distances for hits in found if hits.distances is not None], np.int32),
            _flat([hits.scores for hits in found], np.float64),
            self.ids,
        )


def _flat(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(part.ravel() for part in parts)])
