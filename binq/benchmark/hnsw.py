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
from binq.structures.calibration import Calibration
from binq.structures.hnsw import Hnsw
from binq.structures.pools import GraphCalibration

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
    index = efforts.index_of(conditions, "hnsw")
    structure = index.structure
    assert isinstance(structure, Hnsw)

    def calibrated(gaps: Calibration) -> Hnsw:
        stored = replace(structure.stored, calibration=GraphCalibration(gaps))
        return Hnsw(structure.codes, stored)

    engines = {"binq": efforts.by_structure(conditions, calibrated)}
    if single:
        engines["binq-index"] = efforts.by_index(conditions, index, "ef", _MOST_EF)
    corpus = conditions.corpus
    codes, asked = (
        packing.to_layout(own, corpus.bits, "lsb") for own in (corpus.codes, corpus.queries)
    )
    if "faiss" in conditions.peers:
        engines["faiss"] = _faiss(conditions, codes, asked)
    if "usearch" in conditions.peers:
        engines["usearch"] = _usearch(conditions, codes, asked)
    return engines


def _faiss(conditions: Conditions, codes: Bytes, asked: Bytes) -> Engine:
    made = _by_faiss(codes, conditions.threads)

    def search(first: int, last: int, ef: int) -> Answer:
        made.hnsw.efSearch = ef
        return efforts.of_faiss(*made.search(asked[first:last], conditions.k))

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
