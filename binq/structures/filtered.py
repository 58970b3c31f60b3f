"""Which lists a filtered search looks into, so that it finds its share of the allowed rows.

A calibration knows of searches without a filter. Where one row of f about a query is allowed, its
m best allowed rows are some of its f times m best rows: it looks as far as a search for so many
does. How many are allowed is counted about every query, in the lists nearest to it that hold m
allowed rows, since a filter may agree with a query or oppose it. Where it opposes it, those lists
are farther than those that hold m rows of any kind, and it looks farther yet, by that distance: as
was enough on other corpora than those that docs/speed.md tells of.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from binq.kernels import hamming
from binq.structures.base import AllowedRows
from binq.structures.calibration import Calibration
from binq.types import Scoring

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


def filtered_visits(
    centroids: Codes,
    sizes: Numbers,
    allowed: Numbers,
    probes: Codes,
    m: int,
    calibration: Calibration,
    scoring: Scoring,
    target: float,
    threads: int,
) -> NDArray[np.int32]:
    """Return which lists each query looks into for m allowed rows.

    Parameters
    ----------
    centroids : (l, words) uint64
    sizes, allowed : (l,) int64
        Rows in every list, and how many of them are allowed.
    probes : (q, words) uint64
    m : int
        At least 1.
    calibration, scoring, target
        What says how far to look.
    threads : int

    Returns
    -------
    (q, p) int32
        List numbers, nearest first, -1 for none.
    """
    total = int(allowed.sum())
    if not total or not len(probes):
        return np.empty((len(probes), 0), np.int32)
    counts, gaps, edges = calibration.known(scoring, target)
    enough = min(m, total)
    size = min(len(centroids), 4 + 2 * enough * len(centroids) // total)
    while True:
        near, away = hamming.topk(centroids, probes, size, threads)
        own, every = (np.cumsum(rows[near], axis=1) for rows in (allowed, sizes))
        first = np.argmax(own >= enough, axis=1)[:, None]
        share = np.maximum(_at(own, first), 1) / np.maximum(_at(every, first), 1)
        place = np.minimum(np.searchsorted(counts, m / share), len(counts) - 1)
        # Of a search for as many candidates as are known of, if that is more.
        wanted = np.clip(np.ceil(counts[place] * share), enough, total)
        if size == len(centroids) or (own[:, -1] >= wanted).all():
            break
        size = min(len(centroids), 4 * size)
    met = np.argmax(own >= wanted[:, None], axis=1)[:, None]
    opposed = _at(away, first) - _at(away, np.argmax(every >= m, axis=1)[:, None])
    gap = np.maximum(gaps[place], gaps[min(int(np.searchsorted(counts, m)), len(counts) - 1)])
    reached = _at(away, met)
    limits = reached + gap + np.maximum(opposed, np.maximum(reached - edges[place], 0))
    filled = AllowedRows(allowed > 0).bitmap
    ends, lists, _ = hamming.within(centroids, probes, limits, threads, allowed=filled)
    found = np.diff(ends)
    visits = np.full((len(probes), int(found.max())), -1, np.int32)
    visits[np.arange(visits.shape[1]) < found[:, None]] = lists
    return visits


def _at(values: NDArray[np.int64] | NDArray[np.int32], places: Numbers) -> Numbers:
    return np.take_along_axis(values, places, axis=1)[:, 0].astype(np.int64)
