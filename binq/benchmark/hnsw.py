"""Graphs over codes, beside those of faiss and usearch: searches at equal recall, and builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.benchmark import efforts
from binq.benchmark.by_numpy import Answer
from binq.benchmark.conditions import Conditions
from binq.benchmark.efforts import Engine
from binq.benchmark.timing import Timing
from binq.building.build import build
from binq.building.graph import DEFAULT_EF_CONSTRUCTION, DEFAULT_M
from binq.index.index import Index
from binq.structures.base import Scope
from binq.structures.calibration import TARGETS, Calibration
from binq.structures.hnsw import Hnsw
from binq.structures.pools import GraphCalibration
from binq.structures.queries import Queries

Bytes = NDArray[np.uint8]

# More of it finds no more at shares that engines are compared at.
_MOST_EF = 4_096


def searches(task: str, conditions: Conditions) -> list[Timing]:
    """Time searches of graphs: one row per engine and share, binq's first."""
    return efforts.searches(task, conditions, _engines)


def builds(task: str, conditions: Conditions) -> list[Timing]:
    """Time the making of graphs from codes: binq's is a whole file, calibrated.

    ``hnsw-build-equal`` is of codes of which three in ten equal others.
    """
    bits, threads = conditions.corpus.bits, conditions.threads
    codes = packing.to_layout(conditions.corpus.codes[: efforts.BUILT_ROWS], bits, "lsb")
    if task.endswith("-equal"):
        random = np.random.default_rng(conditions.seed)
        again = random.random(len(codes)) < 0.3
        codes = codes.copy()
        codes[again] = codes[random.integers(0, len(codes), int(again.sum()))]
    n, output = len(codes), conditions.place / "built-graph.binq"

    def by_binq() -> int:
        return build(codes, output, packed="lsb", bits=bits, kind="hnsw", threads=threads).rows

    works: dict[str, Callable[[], int]] = {"binq": by_binq}
    if "faiss" in conditions.peers:
        works["faiss"] = lambda: int(_by_faiss(codes, threads).ntotal)
    if "usearch" in conditions.peers:
        works["usearch"] = lambda: len(_by_usearch(codes, threads))
    return efforts.builds(task, conditions, n, works)


def _engines(conditions: Conditions, single: bool) -> dict[str, Engine]:
    corpus, k, threads = conditions.corpus, conditions.k, conditions.threads
    file = conditions.place / "graph.binq"
    codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
    if not file.exists():
        build(codes, file, packed="lsb", bits=corpus.bits, kind="hnsw", threads=threads)
    index = Index(file)
    structure = index.structure
    assert isinstance(structure, Hnsw)
    stored = structure.stored

    def looking(gap: int) -> Hnsw:
        gaps = Calibration(0, True, {"hamming": {k: (gap,) * len(TARGETS)}})
        return Hnsw(structure.codes, replace(stored, calibration=GraphCalibration(gaps)))

    known: dict[int, Hnsw] = {}
    scope = Scope(threads=threads)

    def by_binq(first: int, last: int, gap: int) -> Answer:
        if gap not in known:
            known[gap] = looking(gap)
        found = known[gap].nearest(Queries(codes=corpus.queries[first:last]), k, scope)
        assert found.distances is not None
        return found.rows, found.distances

    engines = {"binq": Engine("gap", corpus.bits, by_binq)}
    asked = packing.to_layout(corpus.queries, corpus.bits, "lsb")
    if single:

        def by_index(first: int, last: int, ef: int) -> Answer:
            hits = index.search(asked[first:last], k, packed="lsb", ef=ef, threads=threads)
            assert hits.distances is not None
            return hits.rows, hits.distances

        engines["binq-index"] = Engine("ef", _MOST_EF, by_index)
    if "faiss" in conditions.peers:
        engines["faiss"] = _faiss(conditions, codes, asked)
    if "usearch" in conditions.peers:
        engines["usearch"] = _usearch(conditions, codes, asked)
    return engines


def _faiss(conditions: Conditions, codes: Bytes, asked: Bytes) -> Engine:
    made = _by_faiss(codes, conditions.threads)

    def search(first: int, last: int, ef: int) -> Answer:
        made.hnsw.efSearch = ef
        distances, rows = made.search(asked[first:last], conditions.k)
        return rows, np.where(rows < 0, np.iinfo(np.int32).max, distances)

    return Engine("ef", _MOST_EF, search)


def _by_faiss(codes: Bytes, threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(threads)
    made = faiss.IndexBinaryHNSW(8 * codes.shape[1], DEFAULT_M)
    made.hnsw.efConstruction = DEFAULT_EF_CONSTRUCTION
    made.add(codes)
    return made


def _usearch(conditions: Conditions, codes: Bytes, asked: Bytes) -> Engine:
    made, k, threads = _by_usearch(codes, conditions.threads), conditions.k, conditions.threads

    def search(first: int, last: int, ef: int) -> Answer:
        made.expansion_search = ef
        found = made.search(asked[first:last], k, threads=threads)
        shape = (last - first, k)
        return np.reshape(found.keys, shape), np.reshape(found.distances, shape)

    return Engine("ef", _MOST_EF, search)


def _by_usearch(codes: Bytes, threads: int) -> Any:
    from usearch.index import Index as Graph

    made = Graph(
        ndim=8 * codes.shape[1],
        metric="hamming",
        dtype="b1",
        connectivity=DEFAULT_M,
        expansion_add=DEFAULT_EF_CONSTRUCTION,
    )
    made.add(np.arange(len(codes)), codes, threads=threads)
    return made
