"""Inverted lists, beside faiss's: searches at equal recall, and builds."""

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
from binq.building.lists import lists_for
from binq.index.index import Index
from binq.kernels.aot import compile as aot
from binq.kernels.near_lists import FAMILY
from binq.structures.base import Scope
from binq.structures.calibration import TARGETS, Calibration
from binq.structures.ivf import Ivf
from binq.structures.queries import Queries


def searches(task: str, conditions: Conditions) -> list[Timing]:
    """Time searches of lists: one row per engine and share, binq's first."""
    return efforts.searches(task, conditions, _engines)


def builds(task: str, conditions: Conditions) -> list[Timing]:
    """Time the making of inverted lists from codes: all of a file, beside training and adding."""
    bits, threads = conditions.corpus.bits, conditions.threads
    codes = packing.to_layout(conditions.corpus.codes[: efforts.BUILT_ROWS], bits, "lsb")
    n, output = len(codes), conditions.place / "built-lists.binq"

    def by_binq() -> int:
        return build(codes, output, packed="lsb", bits=bits, kind="ivf", threads=threads).rows

    def by_faiss() -> int:
        import faiss

        faiss.omp_set_num_threads(threads)
        made = faiss.IndexBinaryIVF(
            faiss.IndexBinaryFlat(8 * codes.shape[1]), 8 * codes.shape[1], lists_for(n)
        )
        made.train(codes)
        made.add(codes)
        total: int = made.ntotal
        return total

    works: dict[str, Callable[[], int]] = {"binq": by_binq}
    if "faiss" in conditions.peers:
        works["faiss"] = by_faiss
    return efforts.builds(task, conditions, n, works)


def _engines(conditions: Conditions, single: bool) -> dict[str, Engine]:
    corpus, k, threads = conditions.corpus, conditions.k, conditions.threads
    file = conditions.place / "lists.binq"
    if not file.exists():
        codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
        build(codes, file, packed="lsb", bits=corpus.bits, kind="ivf", threads=threads)
    index = Index(file)
    structure = index.structure
    assert isinstance(structure, Ivf)
    lists = structure.lists
    aot.load(FAMILY)  # measured compiled, however few the queries are

    def looking(gap: int) -> Ivf:
        gaps = {"hamming": {k: (gap,) * len(TARGETS)}}
        return Ivf(structure.codes, replace(lists, calibration=Calibration(0, True, gaps)))  # type: ignore[arg-type]

    known: dict[int, Ivf] = {}
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

        def by_index(first: int, last: int, nprobe: int) -> Answer:
            hits = index.search(asked[first:last], k, packed="lsb", nprobe=nprobe, threads=threads)
            assert hits.distances is not None
            return hits.rows, hits.distances

        engines["binq-index"] = Engine("nprobe", len(lists.centroids), by_index)
    if "faiss" in conditions.peers:
        engines["faiss"] = _faiss(conditions, structure, asked)
    return engines


def _faiss(conditions: Conditions, structure: Ivf, asked: NDArray[np.uint8]) -> Engine:
    """Return faiss's engine on binq's lists: to train as many itself takes it very long."""
    import faiss

    corpus, lists = conditions.corpus, structure.lists
    bits = 8 * asked.shape[1]
    codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
    places = packing.to_layout(lists.centroids, corpus.bits, "lsb")
    faiss.omp_set_num_threads(conditions.threads)
    quantizer = faiss.IndexBinaryFlat(bits)
    quantizer.add(places)
    made: Any = faiss.IndexBinaryIVF(quantizer, bits, len(places))
    made.is_trained = True
    own = np.empty(len(codes), np.int64)
    own[lists.rows] = np.repeat(np.arange(len(places)), np.diff(lists.offsets))
    made.add_core(len(codes), faiss.swig_ptr(codes), None, faiss.swig_ptr(own))

    def search(first: int, last: int, nprobe: int) -> Answer:
        made.nprobe = nprobe
        distances, rows = made.search(asked[first:last], conditions.k)
        return rows, np.where(rows < 0, np.iinfo(np.int32).max, distances)

    return Engine("nprobe", len(places), search)
