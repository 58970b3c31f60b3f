"""Work timed in turns, and a row of the report: what one engine took for one task."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from binq.benchmark.conditions import Conditions
from binq.bits import bytes_for

_SCANS: Final = ("hamming", "asymmetric")


@dataclass(frozen=True)
class Timing:
    """What one engine took for one task.

    Attributes
    ----------
    engine, task : str
    n, bits, queries, k, threads : int
        ``queries`` is how many were timed at once.
    ms_per_query : dict
        ``median``, ``min`` and ``max`` over the rounds; of builds, milliseconds per 1,000 rows.
    ratio_to_binq : float
        Median over rounds of this engine's time over binq's in the same round.
    correct : bool
        Whether its answers were right.
    gb_per_s : float or None
        Gigabytes of codes that are compared with a query in a second, of scans: of one query what
        is read, of a batch many times that, since a code that was read meets all queries.
    """

    engine: str
    task: str
    n: int
    bits: int
    queries: int
    k: int
    threads: int
    ms_per_query: dict[str, float]
    ratio_to_binq: float
    correct: bool
    gb_per_s: float | None
    target: float | None = None
    recall: float | None = None
    effort: str | None = None


def seconds(work: Callable[[], object]) -> float:
    """Return the time that some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every work by round, each round begun by the next of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(works[name]))
    return times


def timings_of(
    task: str,
    conditions: Conditions,
    n: int,
    queries: Mapping[str, int],
    k: int,
    times: Mapping[str, list[float]],
    correct: Mapping[str, bool],
) -> list[Timing]:
    """Return a row for each engine in ``times``, milliseconds by round; binq is one of them.

    ``queries`` says of each how many it was timed with at once.
    """
    scanned = n * bytes_for(conditions.corpus.bits) if task.split("-")[0] in _SCANS else None
    return [
        Timing(
            engine,
            task,
            n,
            conditions.corpus.bits,
            queries[engine],
            k,
            conditions.threads,
            {
                "median": round(statistics.median(taken), 5),
                "min": round(min(taken), 5),
                "max": round(max(taken), 5),
            },
            round(ratio(taken, times["binq"]), 3),
            correct[engine],
            None if scanned is None else round(scanned / 1e6 / statistics.median(taken), 3),
        )
        for engine, taken in times.items()
    ]


def ratio(times: list[float], own: list[float]) -> float:
    """Return the median over rounds of ``times`` over ``own``."""
    return statistics.median(a / b for a, b in zip(times, own, strict=True))
