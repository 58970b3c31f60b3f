"""A graph over the codes: a query walks from neighbour to neighbour towards the codes near to it.

A node is a distinct code: equal codes would be each other's neighbours and no one else's. The walk
goes by Hamming distance. A search by asymmetric score looks at so many of the rows that are nearest
as were found, when the index was built, to hold the rows that score best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.errors import UsageError
from binq.kernels.graph import Found, Graph, Searcher
from binq.kernels.graph_making import NONE, reached
from binq.kernels.lists import Lists
from binq.storage.reader import IndexFile
from binq.storage.sections import row_terms
from binq.structures.base import EVERYTHING, AllowedRows, Candidates, Codes, Effort, Rows, Scope
from binq.structures.placed import Damaged, Placed, joined, stored_calibration
from binq.structures.pools import GraphCalibration
from binq.structures.queries import Queries
from binq.types import DEFAULT_TARGET_RECALL, Kind, Scoring

Distances = NDArray[np.int32]
_Far = tuple[int, dict[str, int] | None]
FEW = 65_536
"""So many allowed rows, and fewer, are scanned outright; as measured in docs/speed.md."""
SCAN_SHARE = 1 / 40
"""A walk that meets more than this share of the nodes takes longer than a scan of all codes; as
measured in docs/speed.md."""
# Where such a share of rows is allowed, in all and about a query, a pool is as if all were.
_MOSTLY = 0.9
# Rows whose codes are copied at once, for the pools of some queries.
_POOLED = 1 << 18


@dataclass(frozen=True, eq=False)
class StoredGraph:
    """What an index stores of its graph.

    Attributes
    ----------
    graph : Graph
    rows : (n,) uint32
        The row at every position; rows with equal codes lie next to each other, ascending.
    starts : (nodes + 1,) uint32 or None
        Where the positions of a node begin; None where all codes differ, and a node is a position.
    calibration : GraphCalibration
    damaged : callable
        Given what is wrong, what was expected and what was found, returns the error to raise.
    """

    graph: Graph
    rows: NDArray[np.uint32]
    starts: NDArray[np.uint32] | None
    calibration: GraphCalibration
    damaged: Damaged = lambda *said: ValueError(*said)


class _Nodes(NamedTuple):
    """What a search may return, by node.

    ``graph`` finds allowed nodes, and calls each by its first allowed row. Where codes repeat,
    node i has the positions ``positions[begins[i]:begins[i + 1]]`` that are allowed; without
    ``positions``, those from ``begins[i]`` to ``begins[i + 1]``.
    """

    graph: Searcher
    begins: Rows | NDArray[np.uint32] | None = None
    positions: Rows | None = None


class Hnsw(Placed):
    """Codes with a graph over them.

    Parameters
    ----------
    codes : (n, words) uint64
        Node by node.
    stored : StoredGraph
    terms : RowTerms or callable, optional
        What asymmetric scores take besides the codes, node by node, or what restores it.
    """

    kind: ClassVar[Kind] = "hnsw"
    exact: ClassVar[bool] = False

    def __init__(
        self,
        codes: Codes,
        stored: StoredGraph,
        terms: RowTerms | Callable[[], RowTerms] | None = None,
    ) -> None:
        super().__init__(codes, stored.rows, "hnsw.rows", stored.damaged, terms)
        self.stored = stored
        # Queries that come one by one ask the same again.
        self._last_far: tuple[tuple[Effort | None, int], AllowedRows | None, _Far] | None = None
        self._last_nodes: tuple[AllowedRows | None, _Nodes] | None = None

    @classmethod
    def restore(cls, file: IndexFile, binarizer: Binarizer | None) -> Hnsw:
        """Return the structure of an index file.

        Raises
        ------
        IndexFileError
            If a section is missing or of another shape, or the calibration is none.
        """
        n, words = file.header.rows, file.header.words
        neighbours = file.array("hnsw.neighbours", "uint32", (-1, -1))
        nodes, starts = len(neighbours), None
        if "hnsw.starts" in file.sections or nodes != n:
            starts = file.array("hnsw.starts", "uint32", (nodes + 1,))
        graph = Graph(neighbours, file.array("hnsw.entries", "uint32", (-1,)))
        return cls(
            file.array("codes", "uint64", (n, words)),
            StoredGraph(
                graph,
                file.array("hnsw.rows", "uint32", (n,)),
                starts,
                stored_calibration(file, GraphCalibration),
                file.corrupt,
            ),
            partial(row_terms, file, binarizer),
        )

    def check(self, effort: Effort) -> None:
        """Refuse a number of lists: there are none.

        Raises
        ------
        UsageError
        """
        if effort.nprobe is not None:
            raise UsageError(
                "an index with a graph has no lists",
                "`nprobe`",
                got=str(effort.nprobe),
                next_step="say how far to look with `ef` or `target_recall`",
            )

    def nearest(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows nearest to every query; see ``Structure``."""
        listed = self._listed(scope, FEW)
        if listed is not None:
            return self.part(listed).nearest(queries, m, Scope(threads=scope.threads)).of(listed)
        count, far = self._how_far(m, scope)
        if far is None:
            return self._nearest(queries, m, scope)
        found = self._walk(queries, count, far, scope)
        rows, distances = self._rows_of(found, m, scope)
        short = rows[:, -1:].min(axis=1, initial=0) < 0
        short |= self._beyond(found.distances, count, far)
        if short.any():
            # Walks that were given up, or went where they promise nothing; and in a damaged file
            # rows twice, or nodes without any.
            whole = self._nearest(queries.part(short), m, scope)
            assert whole.distances is not None
            rows[short], distances[short] = whole.rows, whole.distances
        return Candidates.by_distance(self.checked(rows), distances)

    def best(self, queries: Queries, m: int, scope: Scope = EVERYTHING) -> Candidates:
        """Return the min(m, allowed) rows that score best, of those that are near.

        With ``ef`` those are so many.
        """
        listed = self._listed(scope, FEW)
        if listed is not None:
            return self.part(listed).best(queries, m, Scope(threads=scope.threads)).of(listed)
        pool, near = self._pool(m, scope)
        if self._how_far(pool, near)[1] is None or not len(queries):
            return self._best(queries, m, scope)
        step = max(1, _POOLED // pool)
        parts = (queries.part(slice(at, at + step)) for at in range(0, len(queries), step))
        return joined([self._best_near(some, m, scope, pool, near) for some in parts])

    def _best_near(
        self, queries: Queries, m: int, scope: Scope, pool: int, near: Scope
    ) -> Candidates:
        """Return the rows that score best of so many of the nearest."""
        pooled = self.nearest(queries, pool, near)
        found = self._best_of(queries, pooled.rows, m, scope.threads)
        effort = scope.effort or Effort()
        if effort.ef is not None:
            return found
        short = self._beyond_pool(pooled, m, effort)
        if scope.allowed is not None:
            # Where a filter opposes a query, what scores best is not what is nearest.
            around = self.nearest(queries, pool, replace(near, allowed=None)).rows
            short |= scope.allowed.contains(around).mean(axis=1) < _MOSTLY
        if short.any():
            whole = self._best(queries.part(short), m, scope)
            found.rows[short], found.scores[short] = whole.rows, whole.scores
        return found

    def _beyond_pool(self, pooled: Candidates, m: int, effort: Effort) -> NDArray[np.bool_]:
        """Return for which queries the last row of a pool lies so far that it promises nothing."""
        target = effort.target_recall or DEFAULT_TARGET_RECALL
        edge = self.stored.calibration.pool_edge(math.ceil(m / _MOSTLY), target)
        assert pooled.distances is not None
        return pooled.distances[:, -1] > edge

    def _best_of(self, queries: Queries, rows: Rows, m: int, threads: int) -> Candidates:
        """Scan the rows (q, p) of each query alone, by the weights of a whole scan."""
        count, pool = rows.shape
        numbers = rows.ravel().astype(np.uint32)
        own = Lists(np.arange(count + 1) * pool, np.arange(count, dtype=np.int32)[:, None])
        flat = self.part(rows.ravel())
        return flat.scored(queries.weights, m, threads, numbers=numbers, lists=own)

    def compared(
        self, queries: Queries, m: int, scope: Scope = EVERYTHING, scoring: Scoring = "hamming"
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        listed = self._listed(scope, FEW)
        if listed is not None:
            return np.full(len(queries), len(listed))
        if scoring == "asymmetric":
            m, scope = self._pool(m, scope)
        count, far = self._how_far(m, scope)
        if far is None:
            return np.full(len(queries), len(self))
        found = self._walk(queries, count, far, scope)
        # A walk that is given up is followed by a scan.
        scanned = (found.nodes[:, -1:] < 0).any(axis=1)
        scanned |= self._beyond(found.distances, count, far)
        return found.compared + len(self) * scanned

    def describe(self) -> dict[str, Any]:
        """Return how many nodes there are, how linked, and how far searches look."""
        graph = self.stored.graph
        nodes, width = graph.neighbours.shape
        degrees = np.count_nonzero(graph.neighbours != NONE, axis=1) if nodes else np.zeros(1, int)
        return {
            "graph": {
                "nodes": nodes,
                "most_neighbours": width,
                "smallest_degree": int(degrees.min()),
                "mean_degree": round(float(degrees.mean()), 2),
                "largest_degree": int(degrees.max()),
                "entries": len(graph.entries),
                "unreachable": nodes - reached(graph),
                "walked": self.stored.calibration.walked(),
            },
            "calibration": self.stored.calibration.to_json(),
        }

    def _how_far(self, m: int, scope: Scope) -> _Far:
        """Return how many nodes a walk looks for, and until when; None to scan all positions."""
        if scope.exhaustive or m >= len(self):
            return m, None
        asked, last = (scope.effort, m), self._last_far
        if last is None or last[0] != asked or last[1] is not scope.allowed:
            last = self._last_far = asked, scope.allowed, self._looked_up(m, scope)
        return last[2]

    def _looked_up(self, m: int, scope: Scope) -> _Far:
        effort = scope.effort or Effort()
        if effort.ef is not None:
            return m, {"ef": max(effort.ef, m)}
        target = effort.target_recall or DEFAULT_TARGET_RECALL
        known, allowed = self.stored.calibration.gaps, scope.allowed
        count, gap = known.reach_and_gap("hamming", m, target)
        edge = known.edge("hamming", m, target)
        if allowed is not None:
            # As a search for so many rows of any kind, of which m are allowed.
            every = -(-m * len(self) // max(1, allowed.count))
            gap = max(gap, known.reach_and_gap("hamming", every, target)[1])
            edge = known.edge("hamming", every, target)
        return count, {"gap": gap, "edge": edge} if gap < 64 * self.words else None

    def _beyond(self, away: Distances, count: int, far: dict[str, int]) -> NDArray[np.bool_]:
        """Return of which queries the last candidate found (q, c) lies beyond the edge."""
        if "edge" not in far or away.shape[1] < count:
            return np.zeros(len(away), np.bool_)
        return away[:, -1] > far["edge"]

    def _pool(self, m: int, scope: Scope) -> tuple[int, Scope]:
        """Return how many of the nearest rows hold the m that score best, and how to find them.

        Nothing is known of that where a filter lets through what is far from a query: then it is
        all rows.
        """
        effort = scope.effort or Effort()
        if scope.exhaustive:
            return m, scope
        if effort.ef is not None:
            return max(effort.ef, m), scope
        if scope.allowed is not None and scope.allowed.count < _MOSTLY * len(self):
            return len(self), scope
        target = effort.target_recall or DEFAULT_TARGET_RECALL
        pool = self.stored.calibration.pool(math.ceil(m / _MOSTLY), target)
        # Half of what may be missing is missing there, and half is not found of it.
        return max(m, pool), replace(scope, effort=Effort((1 + target) / 2))

    def _walk(self, queries: Queries, count: int, far: dict[str, int], scope: Scope) -> Found:
        """Return the nodes (q, c) that walks find, by their first rows."""
        # Where a filter opposes a query, walks go on and on; what is told by ``ef`` is obeyed.
        limited = "gap" in far or scope.allowed is not None
        return self._nodes(scope).graph.search(
            queries.codes,
            count,
            ef=far.get("ef"),
            gap=far.get("gap"),
            most=self._most if limited else None,
            threads=scope.threads,
        )

    def _rows_of(self, found: Found, m: int, scope: Scope) -> tuple[Rows, Distances]:
        """Return the min(m, allowed) rows (q, m) of nodes that were found, and their distances."""
        # A damaged file may hold other rows than those that are allowed.
        here, nodes = self._allowed_positions(scope), self._nodes(scope)
        m = min(m, len(self) if here is None else here.count)
        own, away = found.nodes, found.distances
        if nodes.begins is None or not m:
            return found.names[:, :m], away[:, :m]
        first = nodes.begins[own].astype(np.int64)  # of none the last, which is not looked at
        sizes = np.minimum(nodes.begins[own + 1] - first, m)
        sizes[own < 0] = 0
        if m <= own.shape[1] and (sizes == 1).all():
            return found.names[:, :m], away[:, :m]
        # Nodes as far as the one that fills m rows: of those, the first rows count.
        met = np.cumsum(sizes, axis=1) >= m
        last = np.where(met.any(axis=1), np.argmax(met, axis=1), own.shape[1] - 1)
        sizes[away > np.take_along_axis(away, last[:, None], axis=1)] = 0
        counts = sizes.ravel()
        ends = np.cumsum(counts)
        places = np.arange(counts.sum()) + np.repeat(first.ravel() - (ends - counts), counts)
        positions = places if nodes.positions is None else nodes.positions[places]
        rows = self.stored.rows[positions].astype(np.int64)
        far = np.repeat(away.ravel(), counts)
        query = np.repeat(np.arange(len(own)), sizes.sum(axis=1))
        order = np.lexsort((rows, far, query))
        rank = np.arange(len(order)) - np.searchsorted(query, query)
        kept = rank < m
        rows_of = np.full((len(own), m), -1, np.int64)
        distances = np.full((len(own), m), np.iinfo(np.int32).max, np.int32)
        rows_of[query[kept], rank[kept]] = rows[order][kept]
        distances[query[kept], rank[kept]] = far[order][kept]
        return rows_of, distances

    def _nodes(self, scope: Scope) -> _Nodes:
        """Return what may be returned, by node; the last answer is kept."""
        here = self._allowed_positions(scope)
        if self._last_nodes is None or self._last_nodes[0] is not here:
            self._last_nodes = here, self._allowed_nodes(here)
        return self._last_nodes[1]

    def _allowed_nodes(self, here: AllowedRows | None) -> _Nodes:
        starts = self._starts
        if starts is None or here is None:
            return _Nodes(self._searcher(starts, None if here is None else here.bitmap), starts)
        before = np.zeros(len(self) + 1, np.int64)
        np.cumsum(here.mask, out=before[1:])
        begins = before[starts]
        some = begins[1:] > begins[:-1]
        first = starts[:-1].copy()
        first[some] = here.rows[begins[:-1][some]]
        return _Nodes(self._searcher(first, AllowedRows(some).bitmap), begins, here.rows)

    def _searcher(self, first: NDArray[np.uint32] | None, allowed: Codes | None) -> Searcher:
        """Return what finds nodes, given the first allowed position of each."""
        return Searcher(
            self.codes, self.stored.graph, allowed=allowed, starts=first, names=self.stored.rows
        )

    @cached_property
    def _most(self) -> int:
        """Walks that measure more nodes are given up."""
        return math.ceil(SCAN_SHARE * len(self.stored.graph.neighbours))

    @cached_property
    def _starts(self) -> NDArray[np.uint32] | None:
        """Where nodes begin: checked, since it comes out of a file."""
        starts = self.stored.starts
        if starts is None:
            return None
        if starts[0] != 0 or starts[-1] != len(self) or (starts[1:] <= starts[:-1]).any():
            raise self._damaged("hnsw.starts", f"ascending from 0 to {len(self)}", "others")
        return starts
