"""What a search lost, as pure arrays: metrics of every query, and means with their intervals.

Truth and hits are row numbers, best first, one line per query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

_QUANTILE: Final = 1.96


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with its 95 % interval: mean ± 1.96 · standard error."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float64], groups: NDArray[np.int64]) -> Estimate:
        """Estimate a mean of shares as :func:`clustered` does, the interval clipped to [0, 1]."""
        found = clustered(values, groups)
        return cls(found.value, max(0.0, found.low), min(1.0, found.high))


def found_of(rows: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which true rows are among the returned ones.

    Parameters
    ----------
    rows : (q, m) int64
    truth : (q, k) int64

    Returns
    -------
    (q, k) bool
    """
    found = np.zeros(truth.shape, np.bool_)
    for number, (returned, wanted) in enumerate(zip(rows, truth, strict=True)):
        found[number] = np.isin(wanted, returned)
    return found


def recall(rows: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return |returned ∩ true| / |true| of every query.

    Parameters
    ----------
    rows : (q, m) int64
        Returned rows.
    truth : (q, k) int64
        True rows; k is min(k, n).

    Returns
    -------
    (q,) float64
        1 where there is nothing to be found.
    """
    if not truth.shape[1]:
        return np.ones(len(truth))
    shares: NDArray[np.float64] = found_of(rows, truth).mean(axis=1)
    return shares


def expected_recall(
    truth_distances: NDArray[np.int32],
    cut: NDArray[np.int32],
    closer: NDArray[np.int64],
    tied: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of recall where ties at the cut are broken at random.

    Of the ``tied`` rows at the distance of the k-th hit, k - ``closer`` are drawn without
    replacement, so that the number of true rows among them is hypergeometric.

    Parameters
    ----------
    truth_distances : (q, k) int32
        Hamming distances of the true rows.
    cut : (q,) int32
        Distance of the k-th hit.
    closer : (q,) int64
        Rows closer than the cut.
    tied : (q,) int64
        Rows at the cut.
    k : int
        min(k, n).

    Returns
    -------
    mean, variance : (q,) float64
    """
    inside = (truth_distances < cut[:, None]).sum(axis=1)
    at_cut = (truth_distances == cut[:, None]).sum(axis=1)
    drawn = k - closer
    share = at_cut / tied
    mean = (inside + drawn * share) / k
    spread = np.where(tied > 1, (tied - drawn) / np.maximum(tied - 1, 1), 0.0)
    variance = drawn * share * (1 - share) * spread / k**2
    return mean, variance


def row_hashes(vectors: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of every row of (n, dim); as (n,) uint64."""
    whole = np.ascontiguousarray(vectors)
    return np.fromiter((xxhash.xxh3_64_intdigest(row.data) for row in whole), np.uint64)


def equal_rows(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """Give equal rows of (n, dim) one number, counting from 0; as (n,) int64."""
    return np.unique(row_hashes(vectors), return_inverse=True)[1].astype(np.int64)


def hold_out(
    groups: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw groups of equal rows; return the rows outside them, and the first row of each.

    Parameters
    ----------
    groups : (n,) int64
        As from :func:`equal_rows`.
    count, seed : int
        Groups to draw, and what draws them.
    """
    names, first = np.unique(groups, return_index=True)
    out = np.zeros(len(names), np.bool_)
    out[np.random.default_rng(seed).choice(len(names), count, replace=False)] = True
    return np.flatnonzero(~out[groups]), np.sort(first[out])


def clustered(values: NDArray[np.float64], groups: NDArray[np.int64]) -> Estimate:
    """Estimate a mean whose values come in groups, such as one per distinct query.

    The standard error is the cluster-robust one of a mean (Liang & Zeger, "Longitudinal data
    analysis using generalized linear models", Biometrika 1986, for an intercept alone), with
    G / (G - 1) for G groups; groups of one give the ordinary standard error. A query that stands
    twice thus counts as one draw.

    Parameters
    ----------
    values : (q,) float64
        Any range: a difference may be negative, so that nothing is clipped.
    groups : (q,) int64
        As from :func:`equal_rows`.

    Returns
    -------
    Estimate
        mean ± 1.96 · standard error; of a single group the error is unknown and the interval
        infinite.
    """
    mean = float(values.mean())
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], values - mean)
    if len(sums) < 2:
        return Estimate(mean, -math.inf, math.inf)
    error = math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1)) / len(values)
    return Estimate(mean, mean - _QUANTILE * error, mean + _QUANTILE * error)
