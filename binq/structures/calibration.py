"""How far a search has to look for a share of what the whole scan would find.

A query's lists are told apart by the distance of their centroids. The *reach* of a query is the
distance at which lists with as many allowed rows as it wants candidates have been met; the *gap* is
how much farther it looks. Gaps are calibrated when an index is built: for a sample of queries the
whole scan says in which lists the best rows lie, and hence which gap would have found them.

A gap carries over from one kind of query to another where a number of lists does not: a query far
from all rows has many lists at about the same distance, and looks into all of them. Where rows are
much nearer to each other than queries are to them, it does not carry over far enough: beyond an
*edge* of its reach, a query looks farther by as much as its reach lies beyond. Edges are calibrated
with rows that were disturbed, until they were far from all others.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.kernels import hamming
from binq.types import MAX_DIM, SCORINGS, Scoring

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

TARGETS: Final = (
    0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999
)  # fmt: skip
"""The shares for which a gap is kept; in between, that of the next larger serves."""

COUNTS: Final = (10, 20, 40, 100, 200, 400, 1_000, 2_000, 4_000, 10_000)
"""The numbers of candidates for which gaps are kept; in between, the next larger serves."""


@dataclass(frozen=True)
class Calibration:
    """The gaps of an index.

    Attributes
    ----------
    queries : int
        How many it was made with.
    stand_ins : bool
        Whether rows stood in for queries.
    gaps : mapping
        For each scan, for each number of candidates, a gap for each of ``TARGETS``, ascending.
    edges : mapping
        As many edges, where they are known: so far a query may reach before its gap is widened.
    """

    queries: int
    stand_ins: bool
    gaps: Mapping[Scoring, Mapping[int, tuple[int, ...]]]
    edges: Mapping[Scoring, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)

    def reach_and_gap(self, scoring: Scoring, candidates: int, target: float) -> tuple[int, int]:
        """Return how many rows to reach, and the gap, to find a share of so many candidates."""
        # In plain numbers: one query is found in less time than numpy takes for these.
        counts, gaps = self._known(scoring, target)
        place = min(bisect_left(counts, candidates), len(counts) - 1)
        return max(counts[place], candidates), gaps[place]

    def edge(self, scoring: Scoring, candidates: int, target: float) -> int:
        """Return how far a query may reach before its gap is widened, for so many candidates."""
        counts = self._known(scoring, target)[0]
        place = min(bisect_left(counts, candidates), len(counts) - 1)
        return self._edges(scoring, counts, target)[place]

    def known(self, scoring: Scoring, target: float) -> Numbers:
        """Return the numbers of candidates that are known of, ascending, their gaps and edges.

        Returns
        -------
        (3, c) int64
        """
        counts, gaps = self._known(scoring, target)
        return np.array([counts, gaps, self._edges(scoring, counts, target)], np.int64)

    def _known(self, scoring: Scoring, target: float) -> tuple[list[int], list[int]]:
        known = self.gaps.get(scoring) or next(iter(self.gaps.values()), {})
        if target > TARGETS[-1] or not known:
            return [1], [MAX_DIM]
        place = bisect_left(TARGETS, target)
        counts = sorted(known)
        return counts, [known[count][place] for count in counts]

    def _edges(self, scoring: Scoring, counts: list[int], target: float) -> list[int]:
        known = self.edges.get(scoring if scoring in self.gaps else next(iter(self.gaps), scoring))
        if target > TARGETS[-1] or not known:
            return [MAX_DIM] * len(counts)
        place = bisect_left(TARGETS, target)
        return [known[count][place] if count in known else MAX_DIM for count in counts]

    def to_json(self) -> dict[str, Any]:
        """Return what the header of a file says of it."""
        document: dict[str, Any] = {
            "queries": self.queries,
            "from": "rows" if self.stand_ins else "queries",
            "targets": list(TARGETS),
            "gaps": _told(self.gaps),
        }
        return document | ({"edges": _told(self.edges)} if self.edges else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_json` returned.

        Raises
        ------
        ValueError
            If it is something else.
        """
        if document.get("targets") != list(TARGETS):
            raise ValueError("other targets")
        queries, gaps = document.get("queries"), document.get("gaps")
        if type(queries) is not int or queries < 0:
            raise ValueError("no queries")
        stand_ins = document.get("from") != "queries"
        found = cls(queries, stand_ins, _read(gaps), _read(document.get("edges", {})))
        if any(list(row) != sorted(row) for known in found.gaps.values() for row in known.values()):
            raise ValueError("gaps do not ascend")
        return found


_Numbers = dict[Scoring, dict[int, tuple[int, ...]]]


def _told(numbers: Mapping[Scoring, Mapping[int, tuple[int, ...]]]) -> dict[str, Any]:
    return {
        scoring: {str(count): list(row) for count, row in known.items()}
        for scoring, known in numbers.items()
    }


def _read(numbers: object) -> _Numbers:
    """Return distances, one for each target, of every scan and number of candidates."""
    if not isinstance(numbers, dict):
        raise ValueError("gaps or edges are no object")
    found: _Numbers = {}
    for scoring in SCORINGS:
        known = numbers.get(scoring, {})
        if not isinstance(known, dict):
            raise ValueError(f"gaps or edges of {scoring} are no object")
        rows = {count: known[str(count)] for count in COUNTS if known.get(str(count)) is not None}
        for row in rows.values():
            if not isinstance(row, list) or len(row) != len(TARGETS):
                raise ValueError("gaps or edges are not one for each target")
            if not all(type(one) is int and 0 <= one <= MAX_DIM for one in row):
                raise ValueError("gaps or edges are no distances")
        if rows:
            found[scoring] = {count: tuple(row) for count, row in rows.items()}
    return found


@dataclass(frozen=True, eq=False)
class Survey:
    """Where the best rows of some queries lie.

    Attributes
    ----------
    reach : (q, c) int32
        Of every query, for each of some numbers of rows.
    away : (q, m) int32
        How far the lists are that hold its best rows, the best first; -1 for none.
    """

    reach: NDArray[np.int32]
    away: NDArray[np.int32]

    def found(self, place: int, count: int) -> NDArray[np.int64]:
        """Return how many of the ``count`` best rows each query finds with a gap, (q, gaps)."""
        away = self.away[:, :count]
        beyond = np.maximum(away - self.reach[:, place : place + 1], 0)
        gaps = 1 + int(beyond.max(initial=0))
        cells = np.arange(len(away))[:, None] * gaps + beyond
        table = np.bincount(cells[away >= 0], minlength=len(away) * gaps)
        return table.reshape(len(away), gaps).cumsum(axis=1)


def calibrate(
    survey: Survey, far: Sequence[Survey], place: int, count: int, safety: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the gap and the edge for each of ``TARGETS``.

    Parameters
    ----------
    survey : Survey
        Of queries as they are expected.
    far : sequence of Survey
        Of groups of queries that are farther from the rows: each of them finds its share too, if
        need be because gaps beyond an edge are widened.
    place : int
        Which reach of the surveys is that of a search for so many candidates.
    count : int
        The number of candidates.
    safety : float
        What is missing at most from a target is multiplied by it: below 1, more is found here than
        the target says.
    """
    shares = [1 - safety * (1 - target) for target in TARGETS]
    found = survey.found(place, count).sum(axis=0)
    gaps = [int(np.searchsorted(found, math.ceil(share * found[-1]))) for share in shares]
    edges = [MAX_DIM] * len(TARGETS)
    for group in far:
        met, reached = group.found(place, count), group.reach[:, place]
        least = [_edge(met, reached, *pair) for pair in zip(gaps, shares, strict=True)]
        edges = [min(pair) for pair in zip(edges, least, strict=True)]
    for i in range(1, len(edges)):
        # A search for more looks into no fewer lists, however far it reaches.
        edges[i] = min(edges[i], edges[i - 1] + gaps[i] - gaps[i - 1])
    return tuple(gaps), tuple(edges)


def _edge(found: NDArray[np.int64], reached: NDArray[np.int32], gap: int, share: float) -> int:
    """Return the farthest edge with which so large a share of the best rows is found; 0 if none."""
    lines, last = np.arange(len(found)), found.shape[1] - 1
    wanted = math.ceil(share * int(found[:, -1].sum()))

    def enough(edge: int) -> bool:
        widened = gap + np.maximum(reached.astype(np.int64) - edge, 0)
        return int(found[lines, np.minimum(widened, last)].sum()) >= wanted

    if enough(MAX_DIM):
        return MAX_DIM
    low, high = 0, int(reached.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if enough(middle) else (low, middle - 1)
    return low


def reach(distances: NDArray[np.int32], sizes: Numbers, counts: Sequence[int]) -> NDArray[np.int32]:
    """Return within which distance lists with so many rows lie, or all of them.

    Parameters
    ----------
    distances : (q, l) int32
        From every query to every centroid.
    sizes : (l,) int64
        Rows in every list.
    counts : sequence of int

    Returns
    -------
    (q, c) int32
    """
    order = np.argsort(distances, axis=1, kind="stable")
    rows, total = np.cumsum(sizes[order], axis=1), int(sizes.sum())
    firsts = [np.argmax(rows >= min(count, total), axis=1) for count in counts]
    nearest = np.take_along_axis(order, np.stack(firsts, axis=1), axis=1)
    return np.take_along_axis(distances, nearest, axis=1)


def to_centroids(centroids: Codes, probes: Codes) -> NDArray[np.int32]:
    """Return the distances (q, l) of probes (q, words) to all centroids (l, words)."""
    every = np.broadcast_to(np.arange(len(centroids)), (len(probes), len(centroids)))
    return hamming.distances(centroids, probes, np.ascontiguousarray(every))
