"""Inverted lists, beside faiss's: searches at equal recall, and builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from binq import bits as packing
from binq.benchmark import efforts
from binq.benchmark.by_numpy import Answer
from binq.benchmark.conditions import Conditions
from binq.benchmark.efforts import Engine
from binq.benchmark.timing import Timing
from binq.building.build import build
from binq.building.lists import lists_for
from binq.kernels.aot import compile as aot
from binq.kernels.near_lists import FAMILY
from binq.structures.calibration import Calibration
from binq.structures.ivf import Ivf


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
    index = efforts.index_of(conditions, "ivf")
    structure = index.structure
    assert isinstance(structure, Ivf)
    aot.load(FAMILY)  # measured compiled, however few the queries are

    def calibrated(gaps: Calibration) -> Ivf:
        return Ivf(structure.codes, replace(structure.lists, calibration=gaps))

    engines = {"binq": efforts.by_structure(conditions, calibrated)}
    if single:
        lists = len(structure.lists.centroids)
        engines["binq-index"] = efforts.by_index(conditions, index, "nprobe", lists)
    if "faiss" in conditions.peers:
        engines["faiss"] = _faiss(conditions, structure)
    return engines


def _faiss(conditions: Conditions, structure: Ivf) -> Engine:
    """Return faiss's engine on binq's lists: to train as many itself takes it very long."""
    import faiss

    corpus, lists = conditions.corpus, structure.lists
    codes, asked, places = (
        packing.to_layout(own, corpus.bits, "lsb")
        for own in (corpus.codes, corpus.queries, lists.centroids)
    )
    bits = 8 * codes.shape[1]
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
        return efforts.of_faiss(*made.search(asked[first:last], conditions.k))

    return Engine("nprobe", len(places), search)
