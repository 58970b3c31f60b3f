"""Engines timed in turns, round by round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from binq.benchmark.conditions import Conditions
from binq.benchmark.engines import CHECKED, Engine, asymmetric_engines, hamming_engines
from binq.benchmark.timing import Timing, in_turns, seconds, timings_of

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
    times = {
        name: [1000 * taken / given[name] for taken in rounds]
        for name, rounds in in_turns(works, conditions.rounds).items()
    }
    queries = dict.fromkeys(given, 1) if single else given
    return timings_of(task, conditions, len(corpus.codes), queries, conditions.k, times, correct)


def _answer(engine: Engine, single: bool, count: int) -> None:
    """Answer so many queries, one by one or all at once."""
    for number in range(0, count, 1 if single else count):
        engine.search(number, number + 1 if single else count)
