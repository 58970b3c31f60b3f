"""Adaptive oversampling: rescore until the recall that is expected reaches a target.

The scan's score s of a row foretells its score e after rescoring: e is about ``a + b s``, with an
error of standard deviation c. The slope b and a first value of c are calibrated on rows of the
index that stand in for queries, each with itself left out; the intercept a and the final c follow
from the candidates of a query that are already rescored. While the best k of those have at least
the score t, a candidate that is not yet rescored belongs among them with probability
``Phi((a + b s - t) / c)``: a query is done when these sum up to at most (1 - target) k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.similarity import best_first

TARGET: Final = 0.99
"""The share of the best that rescoring is expected to keep."""
CALIBRATION_ROWS: Final = 64
_LEAST: Final = 32
_MOST: Final = 64
_PRIOR: Final = 16.0

Scorer = Callable[[NDArray[np.intp], NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Calibration:
    """How scores of the scan foretell scores after rescoring.

    Attributes
    ----------
    slope : float
        b, at least 0.
    error : float
        c, the standard deviation of what the line leaves.
    """

    slope: float
    error: float


def calibrate(scanned: NDArray[np.float64], rescored: NDArray[np.float64]) -> Calibration:
    """Fit one slope to all queries, each with an intercept of its own.

    Parameters
    ----------
    scanned, rescored : (q, m) float64
        Scores of the same rows; m is at least 2.
    """
    x = scanned - scanned.mean(axis=1, keepdims=True)
    y = rescored - rescored.mean(axis=1, keepdims=True)
    spread = float((x * x).sum())
    slope = max(0.0, float((x * y).sum()) / spread) if spread > 0 else 0.0
    rest = y - slope * x
    freedom = max(1, rest.size - len(rest) - 1)
    return Calibration(slope, float(np.sqrt((rest * rest).sum() / freedom)))


def most_candidates(k: int, rows: int) -> int:
    """Return how many candidates are scanned for, of which as many as needed are rescored."""
    return min(rows, max(_MOST * k, 16 * _LEAST))


def rank_to_target(
    rows: NDArray[np.int64],
    scanned: NDArray[np.float64],
    score: Scorer,
    k: int,
    target: float,
    known: Calibration,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
    """Rescore the candidates of every query as far as the target asks, and sort them.

    Parameters
    ----------
    rows : (q, m) int64
        Candidates, ordered by the scan's score.
    scanned : (q, m) float64
        Those scores.
    score : callable
        Given query numbers (p,) and rows (p, d), returns their rescored scores (p, d).
    k : int
    target : float
        Expected recall@k among the candidates, below 1.
    known : Calibration

    Returns
    -------
    order : (q, min(k, m)) intp
        Positions in ``rows``, by (score descending, row ascending).
    values : (q, min(k, m)) float64
    depths : (q,) int64
        How many candidates were rescored.
    """
    count, width = rows.shape
    exact = np.full((count, width), -np.inf)
    depths = np.zeros(count, np.int64)
    active = np.arange(count)
    done, upto = 0, min(width, max(2 * k, _LEAST))
    while active.size and done < width:
        exact[active, done:upto] = score(active, rows[active, done:upto])
        depths[active] = upto
        missed = _expected_misses(scanned[active], exact[active, :upto], k, known)
        active = active[missed > (1 - target) * k]
        done, upto = upto, min(width, upto + max(upto // 2, k))
    order = best_first(rows, exact, min(k, width))
    return order, np.take_along_axis(exact, order, axis=1), depths


def _expected_misses(
    scanned: NDArray[np.float64], exact: NDArray[np.float64], k: int, known: Calibration
) -> NDArray[np.float64]:
    """Return how many of the k best are expected among the candidates not yet rescored, (q,)."""
    seen = exact.shape[1]
    if seen < k:
        return np.full(len(exact), np.inf)
    rest = exact - known.slope * scanned[:, :seen]
    intercept = rest.mean(axis=1, keepdims=True)
    squares = ((rest - intercept) ** 2).sum(axis=1)
    error = np.sqrt((_PRIOR * known.error**2 + squares) / (_PRIOR + seen))
    cut = np.partition(exact, seen - k, axis=1)[:, seen - k]
    above = intercept + known.slope * scanned[:, seen:] - cut[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = np.nan_to_num(above / error[:, None], nan=0.0)
    misses: NDArray[np.float64] = _normal_cdf(deviations).sum(axis=1)
    return misses


def _normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal distribution function to 1e-7 (Abramowitz & Stegun 1964, 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    series = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    upper = np.exp(-0.5 * np.minimum(np.abs(x), 38.0) ** 2) / np.sqrt(2 * np.pi) * series
    below: NDArray[np.float64] = np.where(x > 0, 1 - upper, upper)
    return below
