"""Inverted lists, beside faiss's: searches at equal recall, and builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.benchmark.by_numpy import Answer
from binq.benchmark.conditions import Conditions
from binq.benchmark.timing import Timing, in_turns, timings_of
from binq.building.build import build
from binq.building.lists import lists_for
from binq.index.index import Index
from binq.kernels import hamming
from binq.structures.base import Scope
from binq.structures.calibration import TARGETS, Calibration
from binq.structures.ivf import Ivf
from binq.structures.queries import Queries

RECALLS: Final = (0.95, 0.99)
"""Shares of the whole scan's hits, at which engines are compared."""

_SINGLE_QUERIES: Final = 200
_BUILT_ROWS: Final = 100_000
# Builds take long, and vary little.
_BUILD_ROUNDS: Final = 2

Search = Callable[[int, int, int], Answer]


@dataclass(frozen=True)
class _Engine:
    """An engine that looks farther with more effort.

    ``search(first, last, effort)`` answers those queries; ``most`` is the largest effort that is
    of any use.
    """

    unit: str
    most: int
    search: Search


def searches(task: str, conditions: Conditions) -> list[Timing]:
    """Time searches with the least effort that finds a share of what the whole scan finds.

    Parameters
    ----------
    task : {"ivf-batch", "ivf-single"}
    conditions : Conditions

    Returns
    -------
    list of Timing
        One per engine and share, binq's first.
    """
    corpus, k = conditions.corpus, conditions.k
    count, single = len(corpus.queries), task == "ivf-single"
    truth = hamming.topk(corpus.codes, corpus.queries, k, conditions.threads)[1][:, -1:]
    engines = _engines(conditions, single)
    efforts: dict[str, int] = {}
    timings = []
    for target in RECALLS:
        recalls, correct = {}, {}
        for name, engine in engines.items():
            efforts[name] = _least_effort(engine, count, truth, target)
            rows, distances = engine.search(0, count, efforts[name])
            recalls[name] = float((distances <= truth).mean())
            correct[name] = recalls[name] >= target and _are_true(conditions, rows, distances)
        asked = min(count, _SINGLE_QUERIES) if single else count
        works = {
            name: _work(engine.search, asked, 1 if single else asked, efforts[name])
            for name, engine in engines.items()
        }
        for work in works.values():
            work()
        times = {
            name: [1000 * taken / asked for taken in rounds]
            for name, rounds in in_turns(works, conditions.rounds).items()
        }
        of_each = dict.fromkeys(times, 1 if single else asked)
        n = len(corpus.codes)
        timings += [
            replace(
                row,
                target=target,
                recall=round(recalls[row.engine], 4),
                effort=f"{engines[row.engine].unit} {efforts[row.engine]}",
            )
            for row in timings_of(task, conditions, n, of_each, k, times, correct)
        ]
    return timings


def builds(conditions: Conditions) -> list[Timing]:
    """Time the making of inverted lists from codes: all of a file, beside training and adding."""
    bits, threads = conditions.corpus.bits, conditions.threads
    codes = packing.to_layout(conditions.corpus.codes[:_BUILT_ROWS], bits, "lsb")
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
    counted: dict[str, list[int]] = {name: [] for name in works}

    def counting(name: str) -> Callable[[], None]:
        return lambda: counted[name].append(works[name]())

    taken = in_turns(
        {name: counting(name) for name in works}, min(conditions.rounds, _BUILD_ROUNDS)
    )
    correct = {name: set(rows) == {n} for name, rows in counted.items()}
    times = {name: [1e6 * seconds / n for seconds in some] for name, some in taken.items()}
    return timings_of("ivf-build", conditions, n, dict.fromkeys(times, 0), 0, times, correct)


def _engines(conditions: Conditions, single: bool) -> dict[str, _Engine]:
    corpus, k, threads = conditions.corpus, conditions.k, conditions.threads
    file = conditions.place / "lists.binq"
    if not file.exists():
        codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
        build(codes, file, packed="lsb", bits=corpus.bits, kind="ivf", threads=threads)
    index = Index(file)
    structure = index.structure
    assert isinstance(structure, Ivf)
    lists = structure.lists

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

    engines = {"binq": _Engine("gap", corpus.bits, by_binq)}
    asked = packing.to_layout(corpus.queries, corpus.bits, "lsb")
    if single:

        def by_index(first: int, last: int, nprobe: int) -> Answer:
            hits = index.search(asked[first:last], k, packed="lsb", nprobe=nprobe, threads=threads)
            assert hits.distances is not None
            return hits.rows, hits.distances

        engines["binq-index"] = _Engine("nprobe", len(lists.centroids), by_index)
    if "faiss" in conditions.peers:
        engines["faiss"] = _faiss(conditions, structure, asked)
    return engines


def _faiss(conditions: Conditions, structure: Ivf, asked: NDArray[np.uint8]) -> _Engine:
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

    return _Engine("nprobe", len(places), search)


def _least_effort(engine: _Engine, count: int, truth: NDArray[Any], target: float) -> int:
    """Return the least effort that finds the share, or the most there is."""

    def enough(effort: int) -> bool:
        found = engine.search(0, count, effort)[1]
        return float((found <= truth).mean()) >= target

    # From little effort on, which takes little time.
    least, most = 1, 1
    while most < engine.most and not enough(most):
        least, most = most + 1, min(2 * most, engine.most)
    while least < most:
        middle = (least + most) // 2
        if enough(middle):
            most = middle
        else:
            least = middle + 1
    return least


def _are_true(conditions: Conditions, rows: NDArray[Any], distances: NDArray[Any]) -> bool:
    """Say whether hits are as far as they are said to be; where there is none, nothing is."""
    corpus = conditions.corpus
    there = rows >= 0
    away = np.bitwise_count(corpus.codes[rows] ^ corpus.queries[:, None]).sum(axis=2)
    return bool((away == distances)[there].all())


def _work(search: Search, count: int, size: int, effort: int) -> Callable[[], None]:
    """Return what answers so many queries, a number of them at a time."""

    def work() -> None:
        for first in range(0, count, size):
            search(first, first + size, effort)

    return work
