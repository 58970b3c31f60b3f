"""Linking codes into a graph, once all are written, and saying how far walks have to go."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers import Binarizer, RowTerms
from binq.building.lists import StandIns
from binq.kernels import graph as walks
from binq.kernels import hamming
from binq.kernels.asymmetric import max_words
from binq.kernels.graph import Graph
from binq.kernels.graph_making import NONE, make
from binq.storage.writer import IndexWriter
from binq.structures.base import AllowedRows, Scope
from binq.structures.calibration import COUNTS, TARGETS, Calibration
from binq.structures.flat import Flat
from binq.structures.hnsw import SCAN_SHARE
from binq.structures.pools import MAX_POOL, GraphCalibration
from binq.structures.queries import Queries
from binq.types import MAX_DIM, Kind, Metric

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

DEFAULT_M: Final = 16
DEFAULT_EF_CONSTRUCTION: Final = 100

# Gaps that are tried, in bits.
_GAPS: Final = (*range(8), *range(8, 16, 2), *range(16, 64, 4), *range(64, 257, 16))
# Queries that a gap is found with: so many, or more, as have so many best rows together.
_FEWEST: Final = 100
_ANSWERS: Final = 16_000
# Pools are looked for among so many of the nearest rows.
_DEEPEST: Final = 40_000
_POOL_QUERIES: Final = 200
# Rows that stand in for queries are taken out of the graph meanwhile, at most one of so many.
_HELD_OF: Final = 25
# What rows promise for queries that are none: of what is missing from a target, so much may be.
# On the embeddings that docs/speed.md names 0.6 was enough; the rest is for those that are harder.
_SAFETY: Final = 0.5
# Of other queries, which are far from all rows: rows with so many of their bits flipped.
_FLIPPED: Final = 0.2
_POOL_SAFETY: Final = 0.65
_BLOCK: Final = 65_536


@dataclass(frozen=True, eq=False)
class GraphMaker:
    """Makes the graph of an index of which all codes and terms are written.

    Attributes
    ----------
    writer : IndexWriter
        Its codes are spooled.
    binarizer : Binarizer or None
        Of a method whose codes carry a Hamming distance.
    metric : {"cosine", "ip", "l2"}
    threads : int
    m : int or None
        A node has up to 2 m neighbours; by default ``DEFAULT_M``.
    ef_construction : int or None
        How many of the nearest nodes neighbours are chosen from; by default
        ``DEFAULT_EF_CONSTRUCTION``.
    """

    kind: ClassVar[Kind] = "hnsw"

    writer: IndexWriter
    binarizer: Binarizer | None
    metric: Metric
    threads: int
    m: int | None = None
    ef_construction: int | None = None

    def make(
        self, stand_ins: StandIns, queries: Queries | None, dead: NDArray[np.bool_]
    ) -> GraphCalibration:
        """Put codes and terms in the order of nodes, and write the graph.

        Parameters
        ----------
        stand_ins : StandIns
            Calibrated with where there are no ``queries``.
        queries : Queries or None
        dead : (n,) bool
            Rows that no search finds.

        Returns
        -------
        GraphCalibration
        """
        writer = self.writer
        codes: Codes = writer.written("codes")
        order, starts = equal_codes(codes)
        nodes = codes[order[starts[:-1]]]
        m, ef = self.m or DEFAULT_M, self.ef_construction or DEFAULT_EF_CONSTRUCTION
        graph, placed, _ = make(nodes, m, ef, self.threads)
        nodes = nodes[placed]
        sizes = np.diff(starts)[placed]
        order = order[_spans(starts[:-1][placed], sizes)]
        starts = np.concatenate([[0], np.cumsum(sizes)])

        own = queries is None
        if queries is None:
            queries = stand_ins.queries(self.metric, self.binarizer, codes.__getitem__)
        alive = np.logical_or.reduceat(~dead[order], starts[:-1]) if len(dead) else ~dead
        if own:
            places = np.empty(len(order), np.int64)
            places[order] = np.arange(len(order))
            held = np.unique(np.searchsorted(starts, places[stand_ins.rows], side="right") - 1)
            held = held[:: max(1, len(held) * _HELD_OF // max(1, len(nodes)))]
            alive[held] = False
            with _held_out(graph, held):
                far = _disturbed(nodes[held], nodes)
                known = _gaps(nodes, graph, nodes[held], far, alive, _SAFETY, self.threads)
        else:
            known = _gaps(nodes, graph, queries.codes, None, alive, 1.0, self.threads)
        pools = self._pools(codes, queries, dead, own)
        writer.reorder(("codes", "codes.factor", "codes.addend"), order.astype(np.uint32))
        writer.add("hnsw.neighbours", graph.neighbours)
        writer.add("hnsw.entries", graph.entries)
        writer.add("hnsw.rows", order.astype(np.uint32))
        if len(nodes) < len(codes):
            writer.add("hnsw.starts", starts.astype(np.uint32))
        return GraphCalibration(Calibration(len(queries), own, {"hamming": known}), pools)

    def _pools(
        self, codes: Codes, queries: Queries, dead: NDArray[np.bool_], own: bool
    ) -> dict[int, tuple[int, ...]]:
        """Return how many of the nearest rows hold the candidates that score best.

        For numbers of candidates, one for each of ``TARGETS``; nothing where there are no
        asymmetric scores.
        """
        writer, binarizer = self.writer, self.binarizer
        terms = {
            name: writer.written(f"codes.{name}").astype(np.float32)
            for name in ("factor", "addend")
            if writer.holds(f"codes.{name}")
        }
        if binarizer is None or queries.vectors is None or codes.shape[1] > max_words():
            return {}
        if binarizer.needs_terms and not terms:
            return {}
        flat, some = Flat(codes, RowTerms(**terms)), queries.part(slice(0, _POOL_QUERIES))
        scope = Scope(AllowedRows(~dead) if dead.any() else None, threads=self.threads)
        best = flat.best(some, min(COUNTS[-1], len(codes)) + own, scope).rows
        near = flat.nearest(some, _DEEPEST, scope).distances
        assert near is not None
        away = hamming.distances(codes, some.codes, best)
        ranks = np.empty(best.shape, np.int64)
        for one, (sorted_near, far) in enumerate(zip(near, away, strict=True)):
            equal = int(np.searchsorted(sorted_near, 0, side="right")) if own else 0
            ranks[one] = np.searchsorted(sorted_near, far, side="right") - equal
            ranks[one][far > sorted_near[-1:].max(initial=0)] = MAX_POOL
            # A row that stands in for a query does not count, nor any that equals it.
            ranks[one][(far == 0) & own] = -1
        if near.shape[1] == (len(codes) if scope.allowed is None else scope.allowed.count):
            ranks[ranks == MAX_POOL] = len(codes)
        found = {}
        for count in COUNTS:
            if count <= max(len(codes), COUNTS[0]):
                known = np.sort(ranks[:, : count + own][ranks[:, : count + own] >= 0])
                shares = [1 - _POOL_SAFETY * (1 - target) / 2 for target in TARGETS]
                places = [max(0, int(np.ceil(share * len(known))) - 1) for share in shares]
                found[count] = tuple(int(known[place]) if len(known) else 0 for place in places)
        return found


@contextmanager
def _held_out(graph: Graph, nodes: Numbers) -> Iterator[None]:
    """Inside the block, take nodes out of a graph, in which no walk then meets them."""
    lines, entries = graph
    gone = np.zeros(len(lines) + 1, np.bool_)
    gone[nodes] = True
    touched = []
    for first in range(0, len(lines), _BLOCK):
        part = lines[first : first + _BLOCK]
        touched.append(first + np.flatnonzero(gone[np.minimum(part, len(lines))].any(axis=1)))
    places = np.concatenate([np.empty(0, np.int64), *touched])
    kept, starts = lines[places], entries.copy()
    left = np.where(gone[np.minimum(kept, len(lines))], NONE, kept)
    order = np.argsort(left == NONE, axis=1, kind="stable")
    lines[places] = np.take_along_axis(left, order, axis=1)
    entries[gone[np.minimum(entries, len(lines))]] = NONE
    try:
        yield
    finally:
        lines[places], entries[:] = kept, starts


def _disturbed(queries: Codes, codes: Codes) -> Codes:
    """Return queries (q, words) with some of the bits flipped that are set in any code."""
    every = packing.unpack(np.bitwise_or.reduce(codes, axis=0)[None], 64 * codes.shape[1])
    flips = np.random.default_rng(0).random((len(queries), every.shape[1])) < _FLIPPED
    return queries ^ packing.pack(flips & every)


def _gaps(
    codes: Codes,
    graph: Graph,
    queries: Codes,
    far: Codes | None,
    alive: NDArray[np.bool_],
    safety: float,
    threads: int,
) -> dict[int, tuple[int, ...]]:
    """Return, for numbers of candidates, the gap for each of ``TARGETS``; ``MAX_DIM`` to scan all.

    Parameters
    ----------
    codes : (nodes, words) uint64
    graph : Graph
    queries : (q, words) uint64
    far : (q, words) uint64 or None
        Others, which are far from all rows, and find their shares too.
    alive : (nodes,) bool
        The nodes that count.
    safety : float
        What may be missing is multiplied by it, of ``queries``.
    threads : int
    """
    allowed, most = AllowedRows(alive), math.ceil(SCAN_SHARE * len(codes))
    wanted = [count for count in COUNTS if count <= max(len(codes), COUNTS[0])]
    found = dict.fromkeys(wanted, (MAX_DIM,) * len(TARGETS))

    def walk(queries: Codes, count: int, gap: int, most: int | None) -> walks.Found:
        return walks.search(
            codes, graph, queries, count, gap=gap, allowed=allowed.bitmap, most=most,
            threads=threads,
        )  # fmt: skip

    # Of more candidates than these, all codes are scanned: no walk is as fast.
    walked = []
    for count in wanted if allowed.count and len(queries) else ():
        if walk(queries[:_FEWEST], count, 0, None).compared.mean() > most:
            break
        walked.append(count)
    for asked in (queries, far):
        if asked is None or not walked:
            continue
        scope = Scope(allowed, threads=threads)
        truth = Flat(codes).nearest(Queries(codes=asked), walked[-1], scope).distances
        assert truth is not None
        part = safety if asked is queries else 1.0
        needed = [1 - part * (1 - target) for target in TARGETS]
        for count in walked:
            some = max(_FEWEST, _ANSWERS // count)
            gaps = [MAX_DIM] * len(TARGETS)
            farthest = truth[:some, :count][:, -1:]
            for gap in _GAPS:
                # As a search has it, far ones are given up and scanned for, where they take long.
                step = walk(asked[:some], count, gap, None if asked is queries else most)
                if asked is queries and step.compared.mean() > most:
                    break
                share = float((step.distances <= farthest).mean())
                for place, least in enumerate(needed):
                    if share >= least:
                        gaps[place] = min(gaps[place], gap)
                if share >= needed[-1]:
                    break
            first = found[count] if asked is far else (0,) * len(TARGETS)
            found[count] = tuple(map(max, first, gaps))
    return found


def equal_codes(codes: Codes) -> tuple[Numbers, Numbers]:
    """Return rows with equal codes side by side, and where those of each code begin.

    Parameters
    ----------
    codes : (n, words) uint64

    Returns
    -------
    order : (n,) int64
        Rows; those with equal codes ascending, and codes in the order of their first rows.
    starts : (distinct codes + 1,) int64
    """
    n, words = codes.shape
    odd = np.random.default_rng(0).integers(1 << 63, size=words, dtype=np.uint64) * 2 + 1
    hashes = np.empty(n, np.uint64)
    for first in range(0, n, _BLOCK):
        part = codes[first : first + _BLOCK]
        mixed = (part ^ (part >> np.uint64(29))) * odd
        hashes[first : first + _BLOCK] = (mixed ^ (mixed >> np.uint64(32))).sum(
            axis=1, dtype=np.uint64
        )
    order = np.argsort(hashes, kind="stable")
    alike = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    equal = np.zeros(max(n - 1, 0), np.bool_)
    equal[alike] = (codes[order[alike]] == codes[order[alike + 1]]).all(axis=1)
    if not equal[alike].all():
        # Of one hash, and yet of several codes.
        order = np.lexsort(codes.T[::-1])
        equal = (codes[order[1:]] == codes[order[:-1]]).all(axis=1)
    heads = np.flatnonzero(np.concatenate([np.ones(min(n, 1), np.bool_), ~equal]))
    sizes = np.diff(np.append(heads, n))
    ranked = np.argsort(order[heads])
    return order[_spans(heads[ranked], sizes[ranked])], np.concatenate(
        [[0], np.cumsum(sizes[ranked])]
    )


def _spans(starts: Numbers, sizes: Numbers) -> Numbers:
    """Return the numbers of all spans, some ``sizes`` from ``starts`` on, end to end."""
    before = np.cumsum(sizes) - sizes
    found: Numbers = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return found
