"""How fast an index answers: single queries, and a batch of them."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from binq.search.pipeline import Pipeline
from binq.structures.queries import Queries

_SINGLE: Final = 100
_BATCH: Final = 1000
_RUNS: Final = 5
_SECONDS: Final = 1.0


def latency(pipeline: Pipeline, queries: Queries, k: int) -> dict[str, Any]:
    """Time single queries, spread evenly over all, after one that is not counted.

    Returns
    -------
    dict
        ``median`` and ``p95`` in milliseconds, ``k``, and how many ``queries`` were timed.
    """
    numbers = _spread(len(queries), _SINGLE)
    times = []
    for number in [numbers[0], *numbers]:
        one = queries.part(slice(number, number + 1))
        begun = time.perf_counter()
        pipeline.search(one, k)
        times.append(1000 * (time.perf_counter() - begun))
    taken = np.array(times[1:])
    return {
        "median": round(float(np.median(taken)), 4),
        "p95": round(float(np.percentile(taken, 95)), 4),
        "k": k,
        "queries": len(taken),
    }


def throughput(pipeline: Pipeline, queries: Queries, k: int) -> float:
    """Return how many queries a second are answered in a batch of up to 1,000.

    The median of up to five runs, as far as these take no more than about a second.
    """
    some = queries.part(np.array(_spread(len(queries), _BATCH)))
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _SECONDS:
        begun = time.perf_counter()
        pipeline.search(some, k)
        times.append(time.perf_counter() - begun)
    return round(len(some) / float(np.median(times)), 1)


def _spread(total: int, most: int) -> list[int]:
    """Return up to so many numbers below ``total``, spread evenly."""
    found: list[int] = np.linspace(0, total - 1, min(total, most)).astype(int).tolist()
    return found
