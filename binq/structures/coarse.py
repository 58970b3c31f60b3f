"""Which list a code belongs to: k-means over bits, where a centroid is the majority of its codes.

Distances are Hamming distances: training, assignment and probing run on the kernels that search
codes, and mean the same. docs/speed.md compares it with k-means on floats, and every code with all
centroids with two levels of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.kernels.nearest import nearest

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

ROUNDS = 8
SAMPLE_PER_LIST = 64
# Codes whose bits are unpacked at once, a byte each.
_UNPACKED_BYTES = 1 << 26


def train(
    sample: Codes, lists: int, threads: int, tick: Callable[[], None] = lambda: None
) -> Codes:
    """Find centroids for lists of codes.

    Parameters
    ----------
    sample : (m, words) uint64
        In an order that says nothing of the codes.
    lists : int
        How many, at least 1; fewer are made where the sample holds fewer distinct codes.
    threads : int
    tick : callable
        Called now and then.

    Returns
    -------
    (lists, words) uint64
        The centroids, all different at first; the same at any number of threads.
    """
    if not len(sample):
        return np.zeros((1, sample.shape[1]), np.uint64)
    # The first codes of the sample that differ: its order says nothing of the codes.
    firsts = _distinct(sample[: 4 * lists])
    if len(firsts) < lists:
        firsts = _distinct(sample)
    centroids = sample[firsts[:lists]]
    for _ in range(ROUNDS):
        centroids = _majorities(sample, assign(sample, centroids, threads), centroids)
        tick()
    return centroids


def assign(codes: Codes, centroids: Codes, threads: int) -> Numbers:
    """Return the nearest list (n,) of every code (n, words); of several, the first."""
    return nearest(codes, centroids, threads)[0]


def _distinct(codes: Codes) -> Numbers:
    """Return the first places, ascending, of codes that differ, told apart by a hash of 64 bits."""
    odd = np.random.default_rng(0).integers(1 << 63, size=codes.shape[1], dtype=np.uint64) * 2 + 1
    mixed = codes ^ (codes >> np.uint64(29))
    firsts = np.unique((mixed * odd).sum(axis=1, dtype=np.uint64), return_index=True)[1]
    return np.sort(firsts)


def _majorities(codes: Codes, lists: Numbers, centroids: Codes) -> Codes:
    """Return the majority of the codes of every list; a bit that is in doubt stays as it was."""
    sizes = np.bincount(lists, minlength=len(centroids))
    order = np.argsort(lists, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    found = centroids.copy()
    bits = 64 * codes.shape[1]
    # Lists in runs of about so many codes.
    runs = np.unique(starts[:-1] // max(1, _UNPACKED_BYTES // bits), return_index=True)[1]
    for first, last in zip(runs, [*runs[1:], len(sizes)], strict=True):
        own = np.flatnonzero(sizes[first:last]) + first
        if not len(own):
            continue
        part = order[starts[first] : starts[last]]
        unpacked = packing.unpack(codes[part], bits).view(np.uint8)
        sums = np.add.reduceat(unpacked, starts[own] - starts[first], axis=0, dtype=np.int32)
        twice, all_of = 2 * sums, sizes[own, None]
        kept = packing.unpack(centroids[own], bits)
        found[own] = packing.pack(np.where(twice == all_of, kept, twice > all_of))
    return found


def lengths(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Tell how many lists there are, and how long.

    Parameters
    ----------
    sizes : (l,) int64

    Returns
    -------
    dict
        ``number``, ``smallest``, ``median``, ``largest``, ``empty`` and ``imbalance``: the sum of
        the squares of the sizes, times the number of lists, by the square of all rows. It is 1
        where all lists are equally long; a list that is picked by the rows in it is so many
        times as long as the mean.
    """
    some = sizes if len(sizes) else np.zeros(1, np.int64)
    total = max(1, int(sizes.sum()))
    return {
        "number": len(sizes),
        "smallest": int(some.min()),
        "median": float(np.median(some)),
        "largest": int(some.max()),
        "empty": int((sizes == 0).sum()),
        "imbalance": round(float(np.square(sizes / total).sum()) * len(sizes), 4),
    }
