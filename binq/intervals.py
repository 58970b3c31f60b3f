"""Means over queries with intervals that equal queries do not narrow."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.metrics import Estimate

_QUANTILE: Final = 1.96


def equal_rows(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """Give equal rows of (n, dim) one number, counting from 0; as (n,) int64."""
    whole = np.ascontiguousarray(vectors)
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(row.data) for row in whole), np.uint64)
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


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


def share(values: NDArray[np.float64], groups: NDArray[np.int64]) -> Estimate:
    """Estimate a mean of shares as :func:`clustered` does, clipped to [0, 1]."""
    found = clustered(values, groups)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))
