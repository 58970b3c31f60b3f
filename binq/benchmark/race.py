"""Engines timed in turns, round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from binq.benchmark.conditions import Conditions
from binq.benchmark.engines import CHECKED, Engine, asymmetric_engines, hamming_engines
from binq.benchmark.timing import Timing, in_turns, ratio, seconds, timings_of
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
    works: dict[str, Callable[[], object]] = {}
    for engine in engines:
        first = min(CHECKED, asked)
        correct[engine.name] = engine.check(engine.search(0, first), 0, first)
        # As many queries as a round has time for: more at once take less time each.
        answer = partial(_answer, engine, single)
        while 2 * seconds(partial(answer, first)) < _ROUND_SECONDS and first < asked:
            first = min(2 * first, asked)
        given[engine.name] = first
        works[engine.name] = partial(answer, first)
    works["bound"] = _bound(single, conditions)
    given["bound"] = 1 if single else len(corpus.queries)
    times = {
        name: [1000 * taken / given[name] for taken in rounds]
        for name, rounds in in_turns(works, conditions.rounds).items()
    }
    bound = times.pop("bound")
    queries = dict.fromkeys(given, 1) if single else given
    rows = timings_of(task, conditions, len(corpus.codes), queries, conditions.k, times, correct)
    if scan == "hamming":
        rows[0] = replace(rows[0], roofline=round(ratio(bound, times["binq"]), 3))
    return rows


def _answer(engine: Engine, single: bool, count: int) -> None:
    """Answer so many queries, one by one or all at once."""
    for number in range(0, count, 1 if single else count):
        engine.search(number, number + 1 if single else count)


def _bound(single: bool, conditions: Conditions) -> Callable[[], object]:
    """Return work that takes as long as the hardware needs for one query, or for all at once."""
    codes, queries, threads = conditions.corpus.codes, conditions.corpus.queries, conditions.threads
    if single:
        parts = np.array_split(codes, threads)
        return lambda: run_blocks(threads, threads, lambda _, block: parts[block].sum())
    radii = np.full(len(queries), -1, np.int64)
    return lambda: hamming.count_within(codes, queries, radii, threads)
