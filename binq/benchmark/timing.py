"""A row of the report: what one engine took for one task."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from binq.benchmark.conditions import Conditions


@dataclass(frozen=True)
class Timing:
    """What one engine took for one task.

    Attributes
    ----------
    engine, task : str
    n, bits, queries, k, threads : int
        ``queries`` is how many were timed at once.
    ms_per_query : dict
        ``median``, ``min`` and ``max`` over the rounds; of ``build``, milliseconds per 1,000 rows.
    ratio_to_binq : float
        Median over rounds of this engine's time over binq's in the same round.
    correct : bool
        Whether its answers were right.
    roofline : float or None
        Share of a bound, for binq's Hamming scans. Single queries: of the bandwidth of a read-only
        sum over the same bytes. Batches: of the speed of counting bits alone, with no hit kept.
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
    roofline: float | None = None


def spread(times: list[float]) -> dict[str, float]:
    """Return the median, the least and the most of times in milliseconds, rounded."""
    return {
        "median": round(statistics.median(times), 5),
        "min": round(min(times), 5),
        "max": round(max(times), 5),
    }


def ratio(times: list[float], own: list[float]) -> float:
    """Return the median over rounds of ``times`` over binq's ``own``, rounded."""
    return round(statistics.median(a / b for a, b in zip(times, own, strict=True)), 3)


def timings_of(
    task: str,
    conditions: Conditions,
    n: int,
    queries: int,
    k: int,
    times: dict[str, list[float]],
    correct: dict[str, bool],
) -> list[Timing]:
    """Return a row for each engine in ``times``, milliseconds by round; binq is one of them."""
    return [
        Timing(
            engine,
            task,
            n,
            conditions.corpus.bits,
            queries,
            k,
            conditions.threads,
            spread(taken),
            ratio(taken, times["binq"]),
            correct[engine],
        )
        for engine, taken in times.items()
    ]
