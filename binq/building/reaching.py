"""Saying how far walks through a graph have to go: by queries, or by rows that stand in for them.

Rows promise too much for queries that are farther from all rows than rows are from each other, and
for those that lie where there are no rows, to which few links lead. So rows are disturbed in
several ways, and it is looked up what these find: with a fifth of their bits flipped, as a fair
guess of what queries are like, and beyond that *far* groups. For these the *edge* is set: a query
whose last candidate lies beyond it is answered by a scan. Of all gaps and edges with which every
group finds its share, those are kept that cost the rows least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.building.calibrating import disturbed
from binq.kernels import graph as walks
from binq.kernels.graph import Graph
from binq.structures.base import AllowedRows, Scope
from binq.structures.calibration import COUNTS, TARGETS
from binq.structures.flat import Flat
from binq.structures.hnsw import SCAN_SHARE
from binq.structures.queries import Queries
from binq.types import MAX_DIM

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Shares = NDArray[np.float64]
Known = dict[int, tuple[int, ...]]
"""For numbers of candidates, a number for each of ``TARGETS``."""

# Gaps that are tried, in bits.
_GAPS: Final = (*range(8), *range(8, 32, 2), *range(32, 64, 4), *range(64, 257, 16))
# Queries that a gap is found with: so many, or more, as have so many best rows together.
_FEWEST: Final = 100
_ANSWERS: Final = 16_000
# Of what is missing from a target, so much may be of rows, and of far groups.
_SAFETY: Final = 0.5
_FAR_SAFETY: Final = 0.4
_FLIPPED: Final = 0.2
# Queries of a far group.
_FAR: Final = 200
_SCANNED: Final = 1 << 40


class Reached(NamedTuple):
    """What a search for some candidates finds for a group of queries.

    Attributes
    ----------
    shares : (2, q) float64
        Of the fewest and of the most candidates that such a search serves, the share found.
    away : (q,) int64
        How far the last one lies; beyond all edges where the query is scanned for anyhow.
    compared : (q,) int64
        With how many codes each query was compared.
    """

    shares: Shares
    away: Numbers
    compared: Numbers

    @property
    def farthest(self) -> int:
        """How far the last one lies at most, of queries that are not scanned for."""
        return int(self.away[self.away < _SCANNED].max(initial=0))

    def enough(self, share: float) -> bool:
        """Tell whether so large a share is found without any edge."""
        return bool((self.shares.mean(axis=1) >= share).all())

    def edge(self, share: float) -> int:
        """Return the farthest edge with which so large a share is found; 0 if none is.

        A query whose last candidate lies beyond it finds all.
        """
        if not len(self.away) or self.enough(share):
            return MAX_DIM
        order = np.argsort(self.away, kind="stable")
        away, edges = self.away[order], np.unique(self.away)
        found = np.cumsum(self.shares[:, order], axis=1)
        last = np.searchsorted(away, edges, side="right")
        kept = (found[:, last - 1] + len(away) - last) / len(away) >= share
        good = np.flatnonzero(kept.all(axis=0))
        return int(min(edges[good[-1]], MAX_DIM)) if len(good) else 0

    def beyond(self, edge: int) -> float:
        """Return which share of the queries lies beyond an edge."""
        return float((self.away > edge).mean()) if len(self.away) else 0.0


@dataclass(frozen=True, eq=False)
class Walker:
    """Walks through the graph of an index that is being built.

    Attributes
    ----------
    codes : (nodes, words) uint64
    graph : Graph
    alive : (nodes,) bool
        The nodes that count.
    threads : int
    """

    codes: Codes
    graph: Graph
    alive: NDArray[np.bool_]
    threads: int

    def by_queries(self, queries: Codes) -> tuple[Known, Known]:
        """Return gaps with which queries (q, words) find their shares; and no edges."""
        return self._known([queries], [TARGETS])

    def by_rows(self, rows: Codes, far: list[Codes]) -> tuple[Known, Known]:
        """Return gaps and edges for queries that rows (q, words), held out, stand in for.

        Groups of other queries, far ones, find their shares too.
        """
        safeties = (_SAFETY, 1.0, *[_FAR_SAFETY] * len(far))
        shares = [tuple(1 - part * (1 - target) for target in TARGETS) for part in safeties]
        rows = np.random.default_rng(3).permutation(rows)
        return self._known([rows, _flipped(rows[:_FAR], self.codes), *far], shares)

    def _known(
        self, groups: list[Codes], shares: Sequence[tuple[float, ...]]
    ) -> tuple[Known, Known]:
        """Return gaps and edges with which groups of queries find shares, one for each of TARGETS.

        The first two groups find theirs without edges. A gap of ``MAX_DIM`` means that all codes
        are scanned: no walk is as fast.
        """
        counts = [count for count in COUNTS if count <= max(len(self.codes), COUNTS[0])]
        gaps: Known = dict.fromkeys(counts, (MAX_DIM,) * len(TARGETS))
        edges: Known = {}
        walked = []
        for count in counts if self.alive.any() and len(groups[0]) else ():
            if self._search(groups[0][:_FEWEST], count, 0).compared.mean() > self._scan:
                break
            walked.append(count)
        if not walked:
            return gaps, edges
        truth = [self._truth(group, walked[-1]) for group in groups]
        for fewest, count in zip([0, *walked], walked, strict=False):
            far = max(_FEWEST // 2, _FAR * COUNTS[0] // count)
            sizes = [max(_FEWEST, _ANSWERS // count), *[far] * (len(groups) - 1)]
            asked = [
                _Asked(group[:size], away[:size], fewest + 1, count, group is groups[0])
                for group, away, size in zip(groups, truth, sizes, strict=False)
            ]
            gaps[count], found = self._choose(asked, shares)
            if len(groups) > 1:
                edges[count] = found
        return gaps, edges

    @cached_property
    def _allowed(self) -> AllowedRows:
        return AllowedRows(self.alive)

    @property
    def _scan(self) -> float:
        """How many codes a walk meets in the time of a scan."""
        return SCAN_SHARE * len(self.codes)

    def _choose(
        self, groups: list[_Asked], shares: Sequence[tuple[float, ...]]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the gap and the edge for each of ``TARGETS`` that cost the first group least."""
        cheapest = [self._scan] * len(TARGETS)
        gaps, edges = [MAX_DIM] * len(TARGETS), [MAX_DIM] * len(TARGETS)
        for gap in _GAPS:
            found = [group.walked(self, gap) for group in groups]
            cost = float(found[0].compared[groups[0].costed].mean())
            if cost >= max(cheapest):
                break
            outermost = max(group.farthest for group in found)
            for i in range(len(TARGETS)):
                wanted = [share[i] for share in shares]
                if not all(map(Reached.enough, found[:2], wanted[:2])):
                    break
                edge = min([outermost, *map(Reached.edge, found[2:], wanted[2:])])
                beyond = sum(group.beyond(edge) for group in found[:2]) / len(found[:2])
                if cost + self._scan * beyond < cheapest[i]:
                    cheapest[i] = cost + self._scan * beyond
                    gaps[i], edges[i] = gap, edge
        for i in range(1, len(TARGETS)):
            # A search for more goes no less far.
            gaps[i] = max(gaps[i], gaps[i - 1])
            edges[i] = min(edges[i], edges[i - 1])
        return tuple(gaps), tuple(edges)

    def _search(self, queries: Codes, count: int, gap: int, most: int | None = None) -> walks.Found:
        return walks.search(
            self.codes, self.graph, queries, count, gap=gap,
            allowed=self._allowed.bitmap, most=most, threads=self.threads,
        )  # fmt: skip

    def _truth(self, queries: Codes, count: int) -> NDArray[np.int32]:
        scope = Scope(self._allowed, threads=self.threads)
        away = Flat(self.codes).nearest(Queries(codes=queries), count, scope).distances
        assert away is not None
        return away


class _Asked:
    """Queries of a group, searched with one gap after the other.

    Parameters
    ----------
    queries : (q, words) uint64
    truth : (q, m) int32
        The distances of the nearest.
    fewest, most : int
        Candidates that the search serves.
    costs : bool
        Whether it matters with how many codes they are compared; some of them tell.
    """

    def __init__(
        self, queries: Codes, truth: NDArray[np.int32], fewest: int, most: int, costs: bool
    ) -> None:
        self.queries, self.most, width = queries, most, truth.shape[1]
        self.ends = min(fewest, width), min(most, width)
        self.truth = truth
        asked = len(queries)
        self.found = Reached(
            np.zeros((2, asked)), np.zeros(asked, np.int64), np.zeros(asked, np.int64)
        )
        self.open = np.ones(asked, np.bool_)
        self.costed = np.arange(asked) < (_FEWEST if costs else 0)

    def walked(self, walker: Walker, gap: int) -> Reached:
        """Return what is found with a gap, no smaller than those before."""
        shares, away, compared = self.found
        # Of the others nothing changes any more.
        left = np.flatnonzero((self.open | self.costed) & (away < _SCANNED))
        if not len(left):
            return self.found
        limit = math.ceil(walker._scan)
        step = walker._search(self.queries[left], self.most, gap, limit)
        for place, end in enumerate(self.ends):
            far = self.truth[left, end - 1 : end]
            near = (step.distances[:, :end] <= far) & (step.distances[:, :end] >= 0)
            shares[place, left] = near.mean(axis=1)
        away[left], compared[left] = step.distances[:, -1], step.compared
        # As a search has it: those are scanned for.
        over = left[step.distances[:, -1] < 0]
        shares[:, over], away[over], compared[over] = 1.0, _SCANNED, 2 * limit
        self.open = shares.min(axis=0) < 1
        return self.found


def far_groups(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield queries that are no rows, group by group: :func:`calibrating.disturbed`, and more.

    Between two rows, and opposite to all.

    Parameters
    ----------
    rows : (s, dim) float32 or bool
    """
    rng, some = np.random.default_rng(2), rows[:_FAR]
    other = some[rng.permutation(len(some))]
    if rows.dtype == np.bool_:
        yield np.where(rng.random(some.shape) < 0.5, some, other)
    else:
        yield (some + other) / np.float32(2)
    yield from disturbed(rows)
    yield some ^ rows.any(axis=0) if rows.dtype == np.bool_ else -some


def _flipped(rows: Codes, codes: Codes) -> Codes:
    """Return rows (q, words) with a fifth of those bits flipped that are set in any code."""
    every = packing.unpack(np.bitwise_or.reduce(codes, axis=0)[None], 64 * codes.shape[1])
    flips = np.random.default_rng(0).random((len(rows), every.shape[1])) < _FLIPPED
    return rows ^ packing.pack(flips & every)
