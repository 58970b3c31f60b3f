"""Saying how far searches of lists have to look: by queries, or by rows that stand in for them.

Rows promise too much for queries that are farther from all rows than rows are from each other. So
some of them are disturbed, more and more, and what these miss says from where on a search has to
look farther; see :mod:`binq.structures.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers import Binarizer
from binq.kernels.asymmetric import max_words
from binq.similarity import normalize
from binq.structures.base import AllowedRows, Candidates, Scope, Structure
from binq.structures.calibration import COUNTS, Calibration, Survey, calibrate, reach, to_centroids
from binq.structures.queries import Queries
from binq.types import MAX_DIM, MAX_NORM, Metric, Scoring

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Groups = Callable[[NDArray[Any]], Iterator[NDArray[Any]]]
"""Makes groups of queries of rows, (s, dim) float32 or bool."""

# What rows promise for queries that are none: of what is missing from a target, so much may be.
# With these, every target was reached on the corpora that docs/speed.md names; that 0.01 less is
# promised is for those that are harder, and for chance in the choice of the rows.
_SAFETY: Final[dict[Scoring, float]] = {"hamming": 0.8, "asymmetric": 0.65}
# How far rows are disturbed, and how many of them.
_STRENGTHS: Final = (0.35, 1.0)
_DISTURBED: Final = 200
# Queries whose distances to all lists, and whose best rows, are held at once.
_AT_ONCE: Final = 100


@dataclass(frozen=True, eq=False)
class Calibrator:
    """Knows the lists of an index of which all codes and terms are written.

    Attributes
    ----------
    structure : Structure
        Finds rows by looking at all of them.
    factors : bool
        Whether it has factors for asymmetric scores.
    binarizer : Binarizer or None
    metric : {"cosine", "ip", "l2"}
    centroids : (l, words) uint64
    lists : (n,) uint16
        In which list every row lies.
    sizes : (l,) int64
        Rows in every list that are not dead.
    allowed : AllowedRows or None
        Rows that are not dead; None for all.
    threads : int
    """

    structure: Structure
    factors: bool
    binarizer: Binarizer | None
    metric: Metric
    centroids: Codes
    lists: NDArray[np.uint16]
    sizes: Numbers
    allowed: AllowedRows | None
    threads: int

    def calibration(self, queries: Queries, own: Numbers | None) -> Calibration:
        """Find the gaps for all scans that are possible, and, of stand-ins, the edges.

        Parameters
        ----------
        queries : Queries
        own : (q,) int64 or None
            The rows that stand in for queries.
        """
        counts = [count for count in COUNTS if count <= max(len(self.structure), COUNTS[0])]
        groups = (
            []
            if own is None
            else list(disturbed_queries(queries, self.metric, self.binarizer, disturbed))
        )
        gaps: dict[Scoring, dict[int, tuple[int, ...]]] = {}
        edges: dict[Scoring, dict[int, tuple[int, ...]]] = {}
        for scan in self._scans(queries):
            safety = 1.0 if own is None else _SAFETY[scan]
            expected = self._survey(scan, queries, own, counts)
            far = [self._survey(scan, group, None, counts) for group in groups]
            found = {
                count: calibrate(expected, far, place, count, safety)
                for place, count in enumerate(counts)
            }
            gaps[scan] = {count: pair[0] for count, pair in found.items()}
            widened = {count: pair[1] for count, pair in found.items() if pair[1][-1] < MAX_DIM}
            if widened:
                edges[scan] = widened
        return Calibration(len(queries), own is not None, gaps, edges)

    def _scans(self, queries: Queries) -> Iterator[Scoring]:
        yield "hamming"
        binarizer = self.binarizer
        if binarizer is None or queries.vectors is None or self.structure.words > max_words():
            return
        if self.factors or not binarizer.needs_terms:
            yield "asymmetric"

    def _survey(
        self, scan: Scoring, queries: Queries, own: Numbers | None, counts: list[int]
    ) -> Survey:
        """Look up in which lists the best rows of queries lie.

        A row that stands in for a query does not count, and neither does any that equals it:
        queries are no rows.
        """
        everything = Scope(self.allowed, threads=self.threads, exhaustive=True)
        scanned = self.structure.nearest if scan == "hamming" else self.structure.best
        most = min(counts[-1], len(self.structure)) + (own is not None)
        reaches = [np.empty((0, len(counts)), np.int32)]
        aways = [np.empty((0, 0), np.int32)] if not len(queries) else []
        for first in range(0, len(queries), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            asked = queries.part(part)
            best = scanned(asked, most, everything)
            rows = best.rows if own is None else _others(best, own[part, None])
            distances = to_centroids(self.centroids, self._probes(asked))
            lists = self.lists[np.maximum(rows, 0)].astype(np.intp)
            away = np.take_along_axis(distances, lists, axis=1)
            aways.append(np.where(rows < 0, np.int32(-1), away))
            reaches.append(reach(distances, self.sizes, counts))
        return Survey(np.concatenate(reaches), np.concatenate(aways))

    def _probes(self, queries: Queries) -> Codes:
        """Return the codes that centroids are compared with."""
        if self.binarizer is None or self.binarizer.spec.hamming:
            return queries.codes
        assert queries.vectors is not None
        return self.binarizer.signs(queries.vectors, ready=queries.vectors)


def disturbed_queries(
    queries: Queries, metric: Metric, binarizer: Binarizer | None, groups: Groups
) -> Iterator[Queries]:
    """Yield the groups that are made of rows, as queries."""
    if queries.vectors is None:
        flags = packing.unpack(queries.codes, 64 * queries.codes.shape[1])
        for drawn in groups(flags):
            yield Queries(codes=packing.pack(drawn))
        return
    for drawn in groups(queries.vectors):
        norms = np.linalg.norm(drawn.astype(np.float64), axis=1)
        usable = drawn[(norms > 0) & (norms <= MAX_NORM)]
        ready = normalize(usable)[0] if metric == "cosine" else usable
        yield Queries(ready, binarizer=binarizer)


def disturbed(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield rows that were disturbed, more and more.

    To a row the difference of two others is added, as far as a strength says; of bits, that share
    of those in which the two differ is turned. So what disturbs varies as the rows do. At last
    every value comes from another row, and nothing is left of how values vary together.

    Parameters
    ----------
    rows : (s, dim) float32 or bool
    """
    rng, count = np.random.default_rng(1), len(rows)
    some = rows[:_DISTURBED]
    for strength in _STRENGTHS:
        one, other = (rows[rng.permutation(count)[:_DISTURBED]] for _ in range(2))
        if rows.dtype == np.bool_:
            yield some ^ ((one ^ other) & (rng.random(some.shape) < strength))
        else:
            yield some + np.float32(strength) * (one - other)
    yield rows[rng.integers(max(1, count), size=some.shape), np.arange(rows.shape[1])]


def _others(best: Candidates, own: NDArray[Any]) -> Numbers:
    """Return rows (q, m) without those that equal a query's own (q, 1), which end as -1."""
    itself = np.where(best.rows == own, best.scores, -np.inf).max(1, initial=-np.inf)
    if best.distances is not None:
        itself = np.zeros(len(own))
    found = np.where((best.rows == own) | (best.scores == itself[:, None]), -1, best.rows)
    order = np.argsort(found < 0, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)
