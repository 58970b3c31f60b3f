"""The lists whose centroids are near to a query (source; imported only to be compiled).

A query is compared with all centroids. A histogram of the distances of near ones, which are small
numbers, says how far to look, and orders them by a counting sort.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from binq.kernels.source.rows import distances_of
from binq.kernels.source.scalars import int32s, jit
from binq.kernels.source.simd import vectors

# Bytes of a few registers, whatever their width.
_SPARE = 128
# Bytes of scratch: these, so many for each distance that may occur, and for each list.
SCRATCH = _SPARE + 128
SCRATCH_PER_WORD = 2 * 8 * 64
SCRATCH_PER_LIST = 8


@jit
def many_near(away, n_lists, limit, sizes, met):
    """How many lists lie up to a limit; their numbers, ascending, are put into `met`."""
    count = np.intp(0)
    for first in range(0, n_lists, 16):
        last = min(first + 16, n_lists)
        least = limit + np.int32(1)
        for i in range(first, last):
            least = away[i] if away[i] < least else least
        if least <= limit:
            for i in range(first, last):
                if away[i] <= limit and sizes[i] > 0:
                    met[count] = np.int32(i)
                    count += 1
    return count


@jit
def reach(away, met, n_met, sizes, scratch, rows_at, starts, limit, least, enough, gap, edge):
    """How far to look, and how many lists there are; -1 if it is farther than the limit.

    Of every distance up to it, `starts` tells where its lists begin.
    """
    for i in range(limit + 1):
        scratch[rows_at + i] = np.uint64(0)
        scratch[starts + i] = np.uint64(0)
    for j in range(n_met):
        i = met[j]
        scratch[rows_at + away[i]] += np.uint64(sizes[i])
        scratch[starts + away[i]] += np.uint64(1)
    last = np.int64(-1)
    rows = np.int64(0)
    count = np.int64(0)
    for i in range(limit + 1):
        if last >= 0 and i > last:
            break
        those = np.int64(scratch[starts + i])
        rows += np.int64(scratch[rows_at + i])
        scratch[starts + i] = np.uint64(count)
        count += those
        if last < 0 and rows >= enough and count >= least:
            last = i + gap + max(np.int64(0), i - edge)
    return (last if last <= limit else np.int64(-1)), count


def near_lists_kernel(lanes: int) -> Any:
    """`near_lists` for registers of `lanes` bytes."""
    v = vectors(lanes, None)
    load, store, splat8 = v.load, v.store, v.splat8
    distances = distances_of(v, vectors(16, None))[1]

    def near_lists(
        centroids, words, n_lists, sizes, queries, n_queries, least, enough, gap, edge, visits,
        counts, scratch,
    ):  # fmt: skip
        """The lists up to `gap` farther than those that hold enough, nearest first.

        Parameters
        ----------
        centroids : uint64*, (n_lists, words)
        sizes : int64*, (n_lists,)
            The rows that count in each list; lists without any are left out.
        queries : uint64*, (n_queries, words)
        least, enough : int
            How many lists are to be reached, and how many rows; all where there are fewer. If
            `least` is not 0, no more lists than that are taken, unless they hold too few rows.
        gap, edge : int
            The gap is widened by what the lists that hold enough are farther than the edge.
        visits : int32*, (n_queries, n_lists)
            The numbers of the lists by ascending distance, then number.
        counts : int64*, (n_queries,)
            How many lists there are of each query.
        scratch : uint64*, 64-byte aligned
        """
        bins = 64 * words + 1
        rows_at = _SPARE >> 3
        starts = rows_at + bins
        own = (8 * (starts + bins) + 15) // 16 * 16
        away = int32s(scratch, own)
        met = int32s(scratch, own + 4 * (n_lists + 4))
        store(scratch, 0, splat8(0))
        store(scratch, lanes, splat8(255))
        tail = load(scratch, words * 8 % lanes)
        final = n_lists - 1
        for query in range(n_queries):
            for i in range(0, n_lists, 4):
                at = (
                    i * words,
                    min(i + 1, final) * words,
                    min(i + 2, final) * words,
                    min(i + 3, final) * words,
                )
                distances(centroids, at, queries, query * words, words, scratch, tail, own + 4 * i)
            nearest = np.int32(bins)
            for i in range(n_lists):
                nearest = away[i] if away[i] < nearest else nearest
            # Lists are met up to a distance that is guessed, and farther if it was too near.
            slack = np.int64(words)
            last = np.int64(-1)
            limit = np.int64(0)
            count = np.int64(0)
            while last < 0:
                limit = min(np.int64(bins - 1), np.int64(nearest) + gap + slack)
                n_met = many_near(away, n_lists, np.int32(limit), sizes, met)
                last, count = reach(
                    away, met, n_met, sizes, scratch, rows_at, starts, limit, least, enough, gap,
                    edge,
                )  # fmt: skip
                if limit == bins - 1 and last < 0:
                    last = limit
                slack *= 4
            line = query * n_lists
            for j in range(n_met):
                i = np.intp(met[j])
                if away[i] <= last:
                    place = np.int64(scratch[starts + away[i]])
                    scratch[starts + away[i]] = np.uint64(place + 1)
                    visits[line + place] = np.int32(i)
            if least > 0:
                held = np.int64(0)
                for j in range(line, line + min(least, count)):
                    held += sizes[visits[j]]
                if held >= enough:
                    count = min(least, count)
            counts[query] = count

    return near_lists
