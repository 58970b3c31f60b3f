"""The lists whose centroids are near to a query (source; imported only to be compiled).

A query is compared with all centroids.  A histogram of the distances of near ones, which are small
numbers, says how far to look, and orders them by a counting sort.

Where bits are counted in registers, centroids come transposed, eight to a register, and four
queries run over them at once; else they come row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.counts import counts
from binq.kernels.source.registers import near16
from binq.kernels.source.rows import distances_of
from binq.kernels.source.scalars import int32s, jit, trailing_zeros
from binq.kernels.source.simd import vectors

# Queries that are compared with the centroids at once.
TOGETHER = 4
# Bytes of a few registers, whatever their width.
_SPARE = 128
# Bytes of scratch: these, so many for each distance that may occur, and for each list.
SCRATCH = _SPARE + 128
SCRATCH_PER_WORD = 2 * 8 * 64
SCRATCH_PER_LIST = 4 * (TOGETHER + 1)
# Distances of a query are made up to a multiple of so many.
LISTS = 16
_FAR = 0x7FFFFFFF


@jit
def many_near(away, n_lists, limit, sizes, met):
    """How many lists lie up to a limit; their numbers, ascending, are put into `met`."""
    count = np.intp(0)
    for first in range(0, n_lists, LISTS):
        near = near16(away, 4 * first, limit)
        while near != np.uint64(0):
            i = first + np.intp(trailing_zeros(near))
            near &= near - np.uint64(1)
            if sizes[i] > 0:
                met[count] = np.int32(i)
                count += 1
    return count


@jit
def reach(
    away, met, n_met, sizes, scratch, rows_at, starts, nearest, limit, least, enough, gap, edge
):  # fmt: skip
    """How far to look, and how many lists there are; -1 if it is farther than the limit.

    Of every distance from the nearest up to it, `starts` tells where its lists begin.
    """
    for i in range(nearest, limit + 1):
        scratch[rows_at + i] = np.uint64(0)
        scratch[starts + i] = np.uint64(0)
    for j in range(n_met):
        i = met[j]
        scratch[rows_at + away[i]] += np.uint64(sizes[i])
        scratch[starts + away[i]] += np.uint64(1)
    last = np.int64(-1)
    rows = np.int64(0)
    count = np.int64(0)
    for i in range(nearest, limit + 1):
        if last >= 0 and i > last:
            break
        those = np.int64(scratch[starts + i])
        rows += np.int64(scratch[rows_at + i])
        scratch[starts + i] = np.uint64(count)
        count += those
        if last < 0 and rows >= enough and count >= least:
            last = i + gap + max(np.int64(0), i - edge)
    return (last if last <= limit else np.int64(-1)), count


@njit(error_model="numpy", inline="never")
def choose(
    away, nearest, words, n_lists, sizes, least, enough, gap, edge, visits, line, met, scratch
):  # fmt: skip
    """Put the lists of a query into `visits`, from `line` on, and return how many there are."""
    bins = 64 * words + 1
    rows_at = _SPARE >> 3
    starts = rows_at + bins
    # Lists are met up to a distance that is guessed, and farther if it was too near.
    slack = np.int64(words)
    last = np.int64(-1)
    limit = np.int64(0)
    count = np.int64(0)
    n_met = np.intp(0)
    while last < 0:
        limit = min(np.int64(bins - 1), nearest + gap + slack)
        n_met = many_near(away, n_lists, limit, sizes, met)
        last, count = reach(
            away, met, n_met, sizes, scratch, rows_at, starts, nearest, limit, least, enough, gap,
            edge,
        )  # fmt: skip
        if limit == bins - 1 and last < 0:
            last = limit
        slack *= 4
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
    return count


@njit(error_model="numpy", inline="never")
def choose_allowed(
    away, nearest, words, n_lists, sizes, allowed, m, enough, total, known, n_known, visits, line,
    met, scratch,
):  # fmt: skip
    """Put the lists of a query into `visits`, from `line` on, and return how many there are."""
    bins = 64 * words + 1
    own = _SPARE >> 3
    every = own + bins
    for i in range(nearest, bins):
        scratch[own + i] = np.uint64(0)
        scratch[every + i] = np.uint64(0)
    for i in range(n_lists):
        scratch[own + away[i]] += np.uint64(allowed[i])
        scratch[every + away[i]] += np.uint64(sizes[i])
    held, rows = np.int64(0), np.int64(0)
    first, plain = np.int64(-1), np.int64(-1)
    share_of = np.int64(1)
    for i in range(nearest, bins):
        held += np.int64(scratch[own + i])
        rows += np.int64(scratch[every + i])
        scratch[own + i] = np.uint64(held)
        if plain < 0 and rows >= enough:
            plain = i
        if first < 0 and held >= enough:
            first = i
            share_of = rows
    some = np.int64(scratch[own + first])
    place = np.intp(0)
    while place < n_known - 1 and known[place] * some < m * share_of:
        place += 1
    wanted = min(max((known[place] * some + share_of - 1) // share_of, enough), total)
    reached = first
    while np.int64(scratch[own + reached]) < wanted:
        reached += 1
    own_place = np.intp(0)
    while own_place < n_known - 1 and known[own_place] < m:
        own_place += 1
    gap = max(known[n_known + place], known[n_known + own_place])
    beyond = max(np.int64(0), first - plain, reached - known[2 * n_known + place])
    limit = min(np.int64(bins - 1), reached + gap + beyond)
    n_met = many_near(away, n_lists, limit, allowed, met)
    for i in range(nearest, limit + 1):
        scratch[every + i] = np.uint64(0)
    for j in range(n_met):
        scratch[every + away[met[j]]] += np.uint64(1)
    count = np.uint64(0)
    for i in range(nearest, limit + 1):
        those = scratch[every + i]
        scratch[every + i] = count
        count += those
    for j in range(n_met):
        at = every + away[met[j]]
        visits[line + np.int64(scratch[at])] = met[j]
        scratch[at] += np.uint64(1)
    return n_met


@jit
def parts(words, n_lists, scratch):
    """Where the distances of queries begin, and the bytes of each query; what `choose` writes."""
    own = (_SPARE + 16 * (64 * words + 1) + 63) & -64
    pitch = 4 * ((n_lists + LISTS - 1) // LISTS * LISTS)
    return own, pitch, int32s(scratch, own + TOGETHER * pitch)


@jit
def filled_up(away, n_lists, pitch):
    """Make up the distances of a query to what `many_near` takes; the least of them."""
    for i in range(n_lists, pitch >> 2):
        away[i] = np.int32(_FAR)
    nearest = np.int32(_FAR)
    for i in range(pitch >> 2):
        nearest = min(nearest, away[i])
    return np.int64(nearest)


def _by_rows(lanes: int) -> Any:
    """Distances row by row."""
    v = vectors(lanes, None)
    load, store, splat8 = v.load, v.store, v.splat8
    distances = distances_of(v, vectors(16, None))[1]

    @njit(error_model="numpy", inline="never")
    def measure(centroids, words, n_lists, queries, first, last, scratch, own, pitch):
        store(scratch, 0, splat8(0))
        store(scratch, lanes, splat8(255))
        tail = load(scratch, words * 8 % lanes)
        final = n_lists - 1
        for query in range(first, last):
            for i in range(0, n_lists, 4):
                at = (
                    i * words,
                    min(i + 1, final) * words,
                    min(i + 2, final) * words,
                    min(i + 3, final) * words,
                )
                distances(centroids, at, queries, query * words, words, scratch, tail, own + 4 * i)
            own += pitch

    return measure


def _by_counts() -> Any:
    """Distances of eight centroids at once, which come transposed."""
    ops = counts()
    load, store32, broadcast = ops.load, ops.store32, ops.broadcast
    splat, ones, add, xor = ops.splat, ops.ones, ops.add, ops.xor

    @njit(error_model="numpy", inline="never")
    def measure(centroids, words, n_lists, queries, first, last, scratch, own, pitch):
        q0 = first * words * 8
        if last - first == 1:
            for i in range(0, n_lists, 8):
                at = i * words * 8
                s0 = splat(0)
                for word in range(0, words * 8, 8):
                    x = load(centroids, at + word * 8)
                    s0 = add(s0, ones(xor(x, broadcast(queries, q0 + word))))
                store32(scratch, own + 4 * i, s0)
            return
        q1 = q0 + words * 8
        q2 = min(first + 2, last - 1) * words * 8
        q3 = min(first + 3, last - 1) * words * 8
        for i in range(0, n_lists, 8):
            at = i * words * 8
            s0 = splat(0)
            s1 = s0
            s2 = s0
            s3 = s0
            for word in range(0, words * 8, 8):
                x = load(centroids, at + word * 8)
                s0 = add(s0, ones(xor(x, broadcast(queries, q0 + word))))
                s1 = add(s1, ones(xor(x, broadcast(queries, q1 + word))))
                s2 = add(s2, ones(xor(x, broadcast(queries, q2 + word))))
                s3 = add(s3, ones(xor(x, broadcast(queries, q3 + word))))
            to = own + 4 * i
            store32(scratch, to, s0)
            store32(scratch, to + pitch, s1)
            store32(scratch, to + 2 * pitch, s2)
            store32(scratch, to + 3 * pitch, s3)

    return measure


def measure_of(lanes: int, counted: bool) -> Any:
    """What measures distances, with registers of `lanes` bytes or by counting bits in registers."""
    return _by_counts() if counted else _by_rows(lanes)


def near_lists_of(measure: Any) -> Any:
    """`near_lists`, by what `measure_of` returns."""

    @njit(error_model="numpy")
    def near_lists(
        centroids, words, n_lists, sizes, queries, n_queries, least, enough, gap, edge, visits,
        counts, scratch,
    ):  # fmt: skip
        """The lists up to `gap` farther than those that hold enough, nearest first.

        Parameters
        ----------
        centroids : uint64*, (n_lists, words), or (ceil(n_lists / 8), words, 8), 64-byte aligned
            Transposed where bits are counted in registers; then the last group is filled up.
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
        own, pitch, met = parts(words, n_lists, scratch)
        for first in range(0, n_queries, TOGETHER):
            last = min(first + TOGETHER, n_queries)
            measure(centroids, words, n_lists, queries, first, last, scratch, own, pitch)
            for query in range(first, last):
                away = int32s(scratch, own + (query - first) * pitch)
                nearest = filled_up(away, n_lists, pitch)
                counts[query] = choose(
                    away, nearest, words, n_lists, sizes, least, enough, gap, edge,
                    visits, query * n_lists, met, scratch,
                )  # fmt: skip

    return near_lists


def near_allowed_of(measure: Any) -> Any:
    """`near_allowed`, by what `measure_of` returns."""

    def near_allowed(
        centroids, words, n_lists, sizes, allowed, queries, n_queries, m, enough, total, known,
        n_known, visits, counts, scratch,
    ):  # fmt: skip
        """The lists that are looked into for m rows, nearest first, where some rows are allowed.

        Parameters
        ----------
        centroids, queries, visits, counts, scratch
            As for `near_lists`.
        sizes, allowed : int64*, (n_lists,)
            The rows in each list, at least 0, and how many of them are allowed.
        m : int
        enough : int
            At least 1, at most m and `total`.
        total : int
            All allowed rows.
        known : int64*, (3, n_known)
            Numbers of candidates, ascending and at least 1, their gaps and edges, at least 0.
        """
        own, pitch, met = parts(words, n_lists, scratch)
        for first in range(0, n_queries, TOGETHER):
            last = min(first + TOGETHER, n_queries)
            measure(centroids, words, n_lists, queries, first, last, scratch, own, pitch)
            for query in range(first, last):
                away = int32s(scratch, own + (query - first) * pitch)
                nearest = filled_up(away, n_lists, pitch)
                counts[query] = choose_allowed(
                    away, nearest, words, n_lists, sizes, allowed, m, enough, total,
                    known, n_known, visits, query * n_lists, met, scratch,
                )  # fmt: skip

    return near_allowed
