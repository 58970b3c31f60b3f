"""How far a search has to look for a share of what the whole scan would find.

A query's lists are told apart by the distance of their centroids. The *reach* of a query is the
distance at which lists with as many allowed rows as it wants candidates have been met; the *gap* is
how much farther it looks. Gaps are calibrated when an index is built: for a sample of queries the
whole scan says in which lists the best rows lie, and hence which gap would have found them.

A gap carries over from one kind of query to another where a number of lists does not: a query far
from all rows has many lists at about the same distance, and looks into all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    queries: int
    stand_ins: bool
    gaps: Mapping[Scoring, Mapping[int, tuple[int, ...]]]

    def reach_and_gap(self, scoring: Scoring, candidates: int, target: float) -> tuple[int, int]:
        """Return how many rows to reach, and the gap, to find a share of so many candidates."""
        # In plain numbers: one query is found in less time than numpy takes for these.
        counts, gaps = self._known(scoring, target)
        place = min(bisect_left(counts, candidates), len(counts) - 1)
        return max(counts[place], candidates), gaps[place]

    def known(self, scoring: Scoring, target: float) -> tuple[Numbers, Numbers]:
        """Return the numbers of candidates that are known of, ascending, and their gaps."""
        counts, gaps = self._known(scoring, target)
        return np.array(counts), np.array(gaps)

    def _known(self, scoring: Scoring, target: float) -> tuple[list[int], list[int]]:
        known = self.gaps.get(scoring) or next(iter(self.gaps.values()), {})
        if target > TARGETS[-1] or not known:
            return [1], [MAX_DIM]
        place = bisect_left(TARGETS, target)
        counts = sorted(known)
        return counts, [known[count][place] for count in counts]

    def to_json(self) -> dict[str, Any]:
        """Return what the header of a file says of it."""
        gaps = {
            scoring: {str(count): list(row) for count, row in known.items()}
            for scoring, known in self.gaps.items()
        }
        origin = "rows" if self.stand_ins else "queries"
        return {"queries": self.queries, "from": origin, "targets": list(TARGETS), "gaps": gaps}

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
        if type(queries) is not int or queries < 0 or not isinstance(gaps, dict):
            raise ValueError("no queries or no gaps")
        found: dict[Scoring, dict[int, tuple[int, ...]]] = {}
        for scoring in SCORINGS:
            known = gaps.get(scoring, {})
            if not isinstance(known, dict):
                raise ValueError(f"gaps of {scoring} are no object")
            rows = {}
            for count in COUNTS:
                row = known.get(str(count))
                if row is not None:
                    rows[count] = _checked(row)
            if rows:
                found[scoring] = rows
        return cls(queries, document.get("from") != "queries", found)


def _checked(row: object) -> tuple[int, ...]:
    if not isinstance(row, list) or len(row) != len(TARGETS):
        raise ValueError("gaps are not one for each target")
    if not all(type(gap) is int and 0 <= gap <= MAX_DIM for gap in row) or row != sorted(row):
        raise ValueError("gaps do not ascend from 0 on")
    return tuple(row)


def calibrate(
    distances: NDArray[np.int32],
    sizes: Numbers,
    lists: Numbers,
    count: int,
    safety: float,
) -> tuple[int, ...]:
    """Return the gap for each of ``TARGETS``.

    Parameters
    ----------
    distances : (q, l) int32
        From every query to every centroid.
    sizes : (l,) int64
        Rows in every list.
    lists : (q, m) int64
        In which list the best rows of every query lie; -1 for none.
    count : int
        The number of candidates that a search would ask for.
    safety : float
        What is missing at most from a target is multiplied by it: below 1, more is found here than
        the target says.
    """
    reached = reach(distances, sizes, count)
    known = lists >= 0
    own = np.take_along_axis(distances, np.maximum(lists, 0), axis=1)
    needed = np.sort(np.maximum(own - reached[:, None], 0)[known])
    if not len(needed):
        return (0,) * len(TARGETS)
    places = [np.ceil((1 - safety * (1 - target)) * len(needed)) - 1 for target in TARGETS]
    return tuple(int(needed[max(0, int(place))]) for place in places)


def reach(distances: NDArray[np.int32], sizes: Numbers, count: int) -> NDArray[np.int32]:
    """Return the distance (q,) within which lists with ``count`` rows lie, or all of them."""
    order = np.argsort(distances, axis=1, kind="stable")
    met = np.cumsum(sizes[order], axis=1) >= min(count, int(sizes.sum()))
    nearest = np.take_along_axis(order, np.argmax(met, axis=1)[:, None], axis=1)
    return np.take_along_axis(distances, nearest, axis=1)[:, 0]


def to_centroids(centroids: Codes, probes: Codes) -> NDArray[np.int32]:
    """Return the distances (q, l) of probes (q, words) to all centroids (l, words)."""
    every = np.broadcast_to(np.arange(len(centroids)), (len(probes), len(centroids)))
    return hamming.distances(centroids, probes, np.ascontiguousarray(every))
