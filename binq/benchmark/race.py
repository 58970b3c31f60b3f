"""Engines timed in turns, round by round."""

from __future__ import annotations

import statistics
import time
from typing import Final

import numpy as np

from binq.benchmark.conditions import Conditions
from binq.benchmark.engines import CHECKED, Engine, asymmetric_engines, hamming_engines
from binq.benchmark.timing import Timing, ratio, spread
from binq.kernels import hamming
from binq.kernels.blocks import run_blocks

_SINGLE_QUERIES: Final = 16
_ROUND_SECONDS: Final = 2.0


def race(task: str, conditions: Conditions) -> list[Timing]:
    """Let engines answer in turns.

    Parameters
    ----------
    task : str
        ``hamming`` or ``asymmetric``, then ``-batch`` or ``-single``.
    conditions : Conditions

    Returns
    -------
    list of Timing
        One per engine, binq's first.
    """
    scan, size = task.split("-")
    engines = (hamming_engines if scan == "hamming" else asymmetric_engines)(conditions)
    single = size == "single"
    corpus = conditions.corpus
    asked = min(_SINGLE_QUERIES, len(corpus.queries)) if single else len(corpus.queries)
    given, correct = {}, {}
    for engine in engines:
        first = min(CHECKED, asked)
        found = engine.search(0, first)
        correct[engine.name] = engine.check(found, 0, first)
        # As many queries as a round has time for: more at once take less time each.
        while 2 * _seconds(engine, first, single) < _ROUND_SECONDS and first < asked:
            first = min(2 * first, asked)
        given[engine.name] = first
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    bounds = []
    for turn in range(conditions.rounds):
        for engine in engines[turn % len(engines) :] + engines[: turn % len(engines)]:
            count = given[engine.name]
            times[engine.name].append(1000 * _seconds(engine, count, single) / count)
        bounds.append(_bound(single, conditions))
    own = times[engines[0].name]
    reached = statistics.median(bound / taken for bound, taken in zip(bounds, own, strict=True))
    return [
        Timing(
            engine.name,
            task,
            len(corpus.codes),
            corpus.bits,
            1 if single else given[engine.name],
            conditions.k,
            conditions.threads,
            spread(times[engine.name]),
            ratio(times[engine.name], own),
            correct[engine.name],
            round(reached, 3) if engine is engines[0] and scan == "hamming" else None,
        )
        for engine in engines
    ]


def _seconds(engine: Engine, count: int, single: bool) -> float:
    """Return the time that so many queries take, one by one or all at once."""
    begun = time.perf_counter()
    if single:
        for number in range(count):
            engine.search(number, number + 1)
    else:
        engine.search(0, count)
    return time.perf_counter() - begun


def _bound(single: bool, conditions: Conditions) -> float:
    """Return the milliseconds per query that the hardware allows."""
    codes, queries, threads = conditions.corpus.codes, conditions.corpus.queries, conditions.threads
    if single:
        parts = np.array_split(codes, threads)
        begun = time.perf_counter()
        run_blocks(threads, threads, lambda _, block: parts[block].sum())
        return 1000 * (time.perf_counter() - begun)
    begun = time.perf_counter()
    hamming.count_within(codes, queries, np.full(len(queries), -1, np.int64), threads)
    return 1000 * (time.perf_counter() - begun) / len(queries)
