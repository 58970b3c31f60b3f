"""Linking codes into a graph, once all are written, and saying how far walks have to go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, RowTerms
from binq.building.calibrating import disturbed_queries
from binq.building.lists import StandIns
from binq.building.pooling import pools
from binq.building.reaching import Known, Walker, far_groups
from binq.kernels.asymmetric import max_words
from binq.kernels.graph import Graph
from binq.kernels.graph_making import NONE, make
from binq.storage.writer import IndexWriter
from binq.structures.base import AllowedRows
from binq.structures.calibration import Calibration
from binq.structures.flat import Flat
from binq.structures.pools import GraphCalibration
from binq.structures.queries import Queries
from binq.types import Kind, Metric

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

DEFAULT_M: Final = 16
DEFAULT_EF_CONSTRUCTION: Final = 100

# Queries that pools are found with; of groups that are far from all rows.
_POOL_QUERIES: Final = 200
_POOL_FAR: Final = 100
# Rows that stand in for queries are taken out of the graph meanwhile, at most one of so many.
_HELD_OF: Final = 25
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
        """Put codes and terms in the order of nodes, and write the graph; see `ListMaker.make`."""
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

        own, far = queries is None, []
        if queries is None:
            queries = stand_ins.queries(self.metric, self.binarizer, codes.__getitem__)
        alive = np.logical_or.reduceat(~dead[order], starts[:-1]) if len(dead) else ~dead
        if own:
            places = np.empty(len(order), np.int64)
            places[order] = np.arange(len(order))
            held = np.unique(np.searchsorted(starts, places[stand_ins.rows], side="right") - 1)
            held = held[:: max(1, len(held) * _HELD_OF // max(1, len(nodes)))]
            alive[held] = False
            far = list(disturbed_queries(queries, self.metric, self.binarizer, far_groups))
            asked = [group.codes for group in far]
            with _held_out(graph, held):
                gaps, edges = Walker(nodes, graph, alive, self.threads).by_rows(nodes[held], asked)
        else:
            gaps, edges = Walker(nodes, graph, alive, self.threads).by_queries(queries.codes)
        pooled = self._pools(codes, queries, far, dead, own)
        writer.reorder(("codes", "codes.factor", "codes.addend"), order.astype(np.uint32))
        writer.add("hnsw.neighbours", graph.neighbours)
        writer.add("hnsw.entries", graph.entries)
        writer.add("hnsw.rows", order.astype(np.uint32))
        if len(nodes) < len(codes):
            writer.add("hnsw.starts", starts.astype(np.uint32))
        known = Calibration(
            len(queries), own, {"hamming": gaps}, {"hamming": edges} if edges else {}
        )
        return GraphCalibration(known, *pooled)

    def _pools(
        self, codes: Codes, queries: Queries, far: list[Queries], dead: NDArray[np.bool_], own: bool
    ) -> tuple[Known, Known]:
        """Return how many of the nearest rows hold the candidates that score best, and edges.

        Nothing where there are no asymmetric scores.
        """
        writer, binarizer = self.writer, self.binarizer
        terms = {
            name: writer.written(f"codes.{name}").astype(np.float32)
            for name in ("factor", "addend")
            if writer.holds(f"codes.{name}")
        }
        if binarizer is None or queries.vectors is None or codes.shape[1] > max_words():
            return {}, {}
        if binarizer.needs_terms and not terms:
            return {}, {}
        flat, some = Flat(codes, RowTerms(**terms)), queries.part(slice(0, _POOL_QUERIES))
        groups = [some, *[group.part(slice(0, _POOL_FAR)) for group in far]]
        return pools(flat, groups, AllowedRows(~dead) if dead.any() else None, own, self.threads)


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
