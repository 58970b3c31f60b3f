"""Engines that look farther with more effort, compared at equal recall; and their builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.benchmark.by_numpy import Answer
from binq.benchmark.conditions import Conditions
from binq.benchmark.timing import Timing, in_turns, timings_of
from binq.building.build import build
from binq.index.index import Index
from binq.kernels import hamming
from binq.structures.base import Scope, Structure
from binq.structures.calibration import TARGETS, Calibration
from binq.structures.queries import Queries
from binq.types import Kind

RECALLS: Final = (0.95, 0.99)
"""Shares of the whole scan's hits, at which engines are compared."""

BUILT_ROWS: Final = 100_000
"""Codes of a build, at most."""

_SINGLE_QUERIES: Final = 200
# Builds take long, and vary little.
_BUILD_ROUNDS: Final = 2

Search = Callable[[int, int, int], Answer]


@dataclass(frozen=True)
class Engine:
    """An engine that looks farther with more effort.

    ``search(first, last, effort)`` answers those queries; ``most`` is the largest effort that is
    of any use.
    """

    unit: str
    most: int
    search: Search


def index_of(conditions: Conditions, kind: Kind) -> Index:
    """Return an index of the corpus, built where there is none yet."""
    corpus, file = conditions.corpus, conditions.place / f"{kind}.binq"
    if not file.exists():
        codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
        build(codes, file, packed="lsb", bits=corpus.bits, kind=kind, threads=conditions.threads)
    return Index(file)


def by_structure(
    conditions: Conditions, structure_of: Callable[[Calibration], Structure]
) -> Engine:
    """Return binq's engine on codes as they are; its effort is the gap that is calibrated to."""
    queries, k, scope = conditions.corpus.queries, conditions.k, Scope(threads=conditions.threads)

    @cache
    def calibrated(gap: int) -> Structure:
        return structure_of(Calibration(0, True, {"hamming": {k: (gap,) * len(TARGETS)}}))

    def search(first: int, last: int, gap: int) -> Answer:
        found = calibrated(gap).nearest(Queries(codes=queries[first:last]), k, scope)
        assert found.distances is not None
        return found.rows, found.distances

    return Engine("gap", conditions.corpus.bits, search)


def by_index(conditions: Conditions, index: Index, unit: str, most: int) -> Engine:
    """Return binq's engine with all that a search of an index does; its effort is a setting."""
    corpus = conditions.corpus
    asked = packing.to_layout(corpus.queries, corpus.bits, "lsb")

    def search(first: int, last: int, effort: int) -> Answer:
        settings: Any = {"packed": "lsb", "threads": conditions.threads, unit: effort}
        hits = index.search(asked[first:last], conditions.k, **settings)
        assert hits.distances is not None
        return hits.rows, hits.distances

    return Engine(unit, most, search)


def of_faiss(distances: NDArray[Any], rows: NDArray[Any]) -> Answer:
    """Return what faiss found; where that is nothing, it is farther than any row."""
    return rows, np.where(rows < 0, np.iinfo(np.int32).max, distances)


def searches(
    task: str, conditions: Conditions, engines_of: Callable[[Conditions, bool], dict[str, Engine]]
) -> list[Timing]:
    """Time searches with the least effort that finds a share of what the whole scan finds.

    Parameters
    ----------
    task : str
        Queries are asked one by one if it ends with ``-single``, else in a batch.
    conditions : Conditions
    engines_of : callable
        Returns engines by name, binq's first, given whether queries are asked one by one.

    Returns
    -------
    list of Timing
        One per engine and share, binq's first.
    """
    corpus, k = conditions.corpus, conditions.k
    count, single = len(corpus.queries), task.endswith("-single")
    truth = hamming.topk(corpus.codes, corpus.queries, k, conditions.threads)[1][:, -1:]
    engines = engines_of(conditions, single)
    efforts: dict[str, int] = {}
    timings = []
    for target in RECALLS:
        recalls, correct = {}, {}
        for name, engine in engines.items():
            efforts[name] = least_effort(engine, count, truth, target)
            rows, distances = engine.search(0, count, efforts[name])
            recalls[name] = float((distances <= truth).mean())
            correct[name] = recalls[name] >= target and are_true(conditions, rows, distances)
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


def builds(
    task: str, conditions: Conditions, n: int, works: dict[str, Callable[[], int]]
) -> list[Timing]:
    """Time the making of indexes of n codes; each work returns how many codes its own holds."""
    counted: dict[str, list[int]] = {name: [] for name in works}

    def counting(name: str) -> Callable[[], None]:
        return lambda: counted[name].append(works[name]())

    taken = in_turns(
        {name: counting(name) for name in works}, min(conditions.rounds, _BUILD_ROUNDS)
    )
    correct = {name: set(rows) == {n} for name, rows in counted.items()}
    times = {name: [1e6 * seconds / n for seconds in some] for name, some in taken.items()}
    return timings_of(task, conditions, n, dict.fromkeys(times, 0), 0, times, correct)


def least_effort(engine: Engine, count: int, truth: NDArray[Any], target: float) -> int:
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


def are_true(conditions: Conditions, rows: NDArray[Any], distances: NDArray[Any]) -> bool:
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
