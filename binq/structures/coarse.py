"""Which list a code belongs to: k-means over bits, where a centroid is the majority of its codes.

Distances are Hamming distances: training, assignment and probing run on the kernels that search
codes, and mean the same. docs/speed.md compares it with k-means on floats, and every code with all
centroids with two levels of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.kernels.nearest import nearest

Codes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

ROUNDS = ((16, 8), (32, 6), (64, 4), (128, 3))
"""Codes of the sample for each list, and how many rounds with so many.

Few at first: what is then noise in the centroids lets lists find their places, as heat does in
annealing. Rounds with all codes alone take longer and end worse, see docs/speed.md.
"""
SAMPLE_PER_LIST = ROUNDS[-1][0]
# Codes whose bits are summed at once.
_RUN = 8192
# The lowest bit of every byte of a word, and how often it can be added up.
_LOW_BITS = np.uint64(0x0101010101010101)
_MOST = 255


def train(sample: Codes, lists: int, threads: int) -> Codes:
    """Find centroids for lists of codes.

    Parameters
    ----------
    sample : (m, words) uint64
        In an order that says nothing of the codes.
    lists : int
        How many, at least 1; fewer are made where the sample holds fewer distinct codes.
    threads : int

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
    for per_list, rounds in ROUNDS:
        some = sample[: per_list * lists]
        for _ in range(rounds):
            centroids = _majorities(some, assign(some, centroids, threads), centroids)
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
    # Lists in runs of about so many codes.
    runs = np.unique(starts[:-1] // _RUN, return_index=True)[1]
    for first, last in zip(runs, [*runs[1:], len(sizes)], strict=True):
        own = np.flatnonzero(sizes[first:last]) + first
        if len(own):
            part = codes[order[starts[first] : starts[last]]]
            sums = _set_bits(part, starts[own] - starts[first], sizes[own])
            twice, all_of = 2 * sums, sizes[own, None]
            kept = packing.unpack(centroids[own], sums.shape[1])
            found[own] = packing.pack(np.where(twice == all_of, kept, twice > all_of))
    return found


def _set_bits(codes: Codes, starts: Numbers, sizes: Numbers) -> NDArray[np.int32]:
    """Return how many of the codes of every list, some ``sizes`` from ``starts`` on, set each bit.

    Bytes of a word are added up eight at a time, over no more codes than a byte can count.
    """
    pieces = -(-sizes // _MOST)
    heads = np.cumsum(pieces) - pieces
    cuts = np.repeat(starts - _MOST * heads, pieces) + _MOST * np.arange(pieces.sum())
    words = codes.shape[1]
    sums = np.empty((len(starts), words * 8, 8), np.int32)
    for bit in range(8):
        lanes = np.add.reduceat((codes >> np.uint64(bit)) & _LOW_BITS, cuts, axis=0)
        counts = lanes.astype("<u8", copy=False).view(np.uint8)
        sums[:, :, bit] = np.add.reduceat(counts, heads, axis=0, dtype=np.int32)
    return sums.reshape(len(starts), -1)


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
