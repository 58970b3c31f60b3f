"""Hamming distances row by row, for one query (source; imported only to be compiled).

One query is bound by memory, and a plain loop does not reach that bound: a core fetches ahead of
one sequential stream only to the end of a page, and waits at the start of every next one.  So the
codes are read as four streams, `STREAM` rows apart, one row of each in turn: the misses of one
stream overlap with the work on the others.

Rows are reported in ascending order all the same: the distances of all four streams are kept, with
the least of every `GROUP` rows, and looked through stream by stream when one of them is a hit.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.columns import is_allowed, many, next_row, pick, row_at
from binq.kernels.source.scalars import jit, popcount, prefetch, uint32s
from binq.kernels.source.select import append, lower_limit
from binq.kernels.source.simd import vectors

# Allowed rows are picked before a scan where they are few; else hits are tested.
PICKED, TESTED = 1, 2
STREAM = 1024
GROUP = 64
# Bytes of a few registers, whatever their width.
SPARE = 128
SCRATCH = 16 * STREAM + 16 * (STREAM // GROUP) + SPARE + 4 * 4 * STREAM


@jit
def number(scratch, i):
    # 32 bits of it.
    return np.int64((scratch[i >> 1] >> np.uint64(32 * (i & 1))) & np.uint64(0xFFFFFFFF))


@njit(error_model="numpy", inline="never")
def report(
    begin, low, high, row, allowed, mode, picked, numbers, numbered, query, limits, found, keys,
    capacity, k, scratch, stream,
):  # fmt: skip
    # The hits at the positions [low, high) of a stream that begins at position `begin`.
    for group in range((low - begin) // GROUP, (high - begin + GROUP - 1) // GROUP):
        if number(scratch, 4 * (STREAM + group) + stream) < limits[query]:
            first = max(low - begin, group * GROUP)
            for i in range(first, min(high - begin, (group + 1) * GROUP)):
                away = number(scratch, 4 * i + stream)
                at = row_at(begin + i, row, mode == PICKED, picked)
                if away < limits[query] and (mode != TESTED or is_allowed(allowed, at)):
                    lower_limit(keys, found, limits, query, capacity, k, 1, numbered)
                    append(keys, found, query, capacity, k, away, at, numbers, numbered)


def distances_of(v: SimpleNamespace, four: SimpleNamespace) -> Any:
    """The functions for the distance of one row, and of four."""
    load, set_bits, total8, totals = v.load, v.set_bits, v.total8, v.totals
    add8, both, differ, splat8, lanes = v.add8, v.both, v.differ, v.splat8, v.lanes
    add_four = v.add_four
    store4, add4, splat4 = four.store, four.add32, four.splat32

    @jit
    def distance(codes, at, queries, start, words):
        end = words * 8
        code = at * 8
        query = start * 8
        total = np.uint64(0)
        i = 0
        while i + lanes <= end:
            # 8 set bits per byte and step: 31 steps fit 8 bits.
            stop = min(end, i + 31 * lanes)
            counts = splat8(0)
            while i + lanes <= stop:
                x = differ(load(codes, code + i), load(queries, query + i))
                counts = add8(counts, set_bits(x))
                i += lanes
            total += total8(counts)
        while i < end:
            total += popcount(codes[at + (i >> 3)] ^ queries[start + (i >> 3)])
            i += 8
        return np.int64(total)

    @jit
    def differing(codes, rows, i, asked):
        return (
            differ(load(codes, rows[0] * 8 + i), asked),
            differ(load(codes, rows[1] * 8 + i), asked),
            differ(load(codes, rows[2] * 8 + i), asked),
            differ(load(codes, rows[3] * 8 + i), asked),
        )

    @jit
    def set_bits_of(x):
        return set_bits(x[0]), set_bits(x[1]), set_bits(x[2]), set_bits(x[3])

    @jit
    def distances(codes, rows, queries, start, words, scratch, tail, at):
        # To the words `rows` of the codes, four at once; stored in `scratch` at byte `at`.
        end = words * 8
        query = start * 8
        r0, r1, r2, r3 = rows
        if end < lanes:
            word0 = np.uint64(0)
            word1 = word0
            for i in range(words):
                asked = queries[start + i]
                word0 += popcount(codes[r0 + i] ^ asked)
                word0 += popcount(codes[r1 + i] ^ asked) << np.uint64(32)
                word1 += popcount(codes[r2 + i] ^ asked)
                word1 += popcount(codes[r3 + i] ^ asked) << np.uint64(32)
            scratch[at >> 3] = word0
            scratch[(at >> 3) + 1] = word1
            return
        total = splat4(0)
        i = np.intp(0)
        while i < end:
            # 8 set bits per byte and step: 30 steps, and the last, fit 8 bits.
            stop = min(end, i + 30 * lanes)
            zero = splat8(0)
            counts = (zero, zero, zero, zero)
            while i + lanes <= stop:
                x = differing(codes, rows, i, load(queries, query + i))
                counts = add_four(counts, set_bits_of(x))
                i += lanes
            if stop == end:
                if i < end:
                    # The rest of the row: its last register, less what was counted.
                    i = end - lanes
                    x = differing(codes, rows, i, load(queries, query + i))
                    x = both(x[0], tail), both(x[1], tail), both(x[2], tail), both(x[3], tail)
                    counts = add_four(counts, set_bits_of(x))
                i = end
            total = add4(total, totals(counts[0], counts[1], counts[2], counts[3]))
        store4(scratch, at, total)

    return distance, distances


def task_scan(lanes: int, v: SimpleNamespace, four: SimpleNamespace, distances: Any) -> Any:
    """`scan_tasks`: some of the tasks of `scan_rows`, also for other kernels."""
    load, store, splat8 = v.load, v.store, v.splat8
    load4, store4, least4, splat4 = four.load, four.store, four.least32, four.splat32

    @njit(error_model="numpy", inline="never")
    def scan_tasks(
        codes, words, n, tasks, begin, end, n_tasks, allowed, filtered, numbers, numbered, queries,
        members, limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        least = 16 * STREAM
        spare = least + 16 * (STREAM // GROUP)
        picked = uint32s(scratch, spare + SPARE)
        store(scratch, spare, splat8(0))
        store(scratch, spare + lanes, splat8(255))
        tail = load(scratch, spare + words * 8 % lanes)
        for task in range(begin, end):
            start = tasks[4 * task]
            last = tasks[4 * task + 1]
            while start < last:
                count = min(4 * STREAM, last - start)
                following = start + count
                mode = filtered
                if filtered:
                    if many(allowed, start, following):
                        mode = TESTED
                    else:
                        count, following = pick(allowed, start, last, 4 * STREAM, picked)
                each = (count + 3) // 4
                # A core fetches ahead by itself, but not from task to task.
                fetch = next_row(tasks, task, n_tasks, following, last) * words * 8
                ahead = words * 32
                if mode == PICKED or following < last or task + 1 == n_tasks:
                    ahead = 0
                # The last streams start early where rows are few, and measure some a second time.
                final = count - each
                p1 = min(each, final)
                p2 = min(2 * each, final)
                for member in range(tasks[4 * task + 2], tasks[4 * task + 3]):
                    query = members[member]
                    if query < 0:
                        continue
                    at0 = start * words
                    at1 = (start + p1) * words
                    at2 = (start + p2) * words
                    at3 = (start + final) * words
                    nearest = splat4(0x7FFFFFFF)
                    for group in range((each + GROUP - 1) // GROUP):
                        near = splat4(0x7FFFFFFF)
                        for i in range(group * GROUP, min(each, (group + 1) * GROUP)):
                            if mode == PICKED:
                                at0 = np.intp(picked[i]) * words
                                at1 = np.intp(picked[p1 + i]) * words
                                at2 = np.intp(picked[p2 + i]) * words
                                at3 = np.intp(picked[final + i]) * words
                            for line in range(fetch, fetch + ahead, 64):
                                prefetch(codes, line)
                            fetch += ahead
                            distances(
                                codes, (at0, at1, at2, at3), queries, query * words, words, scratch,
                                tail, 16 * i,
                            )  # fmt: skip
                            near = least4(near, load4(scratch, 16 * i))
                            at0 += words
                            at1 += words
                            at2 += words
                            at3 += words
                        store4(scratch, least + 16 * group, near)
                        nearest = least4(nearest, near)
                    ahead = 0
                    store4(scratch, spare, nearest)
                    for stream in range(4):
                        if number(scratch, (spare >> 2) + stream) < limits[query]:
                            report(
                                min(stream * each, final),
                                min(stream * each, count),
                                min((stream + 1) * each, count),
                                start, allowed, mode, picked, numbers, numbered, query, limits,
                                found, keys, capacity, k, scratch, stream,
                            )  # fmt: skip
                start = following

    return scan_tasks


def row_kernels(lanes: int) -> tuple[Any, Any, Any]:
    """`scan_rows`, `scan_tasks` and `measure` for registers of `lanes` bytes; see `simd.vectors`.

    `scan_tasks` does some of the tasks, for other kernels.
    """
    v = vectors(lanes, None)
    # Four distances of 32 bits.
    four = vectors(16, None)
    distance, distances = distances_of(v, four)
    scan_tasks = task_scan(lanes, v, four, distances)

    def scan_rows(
        codes, words, n, tasks, n_tasks, allowed, filtered, numbers, numbered, queries, members,
        limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        """Append the allowed rows whose distance is below a query's limit, task by task.

        Parameters
        ----------
        codes : uint64*, (n, words)
        tasks : int64*, (n_tasks, 4)
            First and last position of the codes to scan, for which of the members: from one, to
            one, which is not among them. Positions ascend from task to task, or are `numbered`.
        allowed : uint64*, bitmap of positions
            Read only if `filtered` is 1.
        numbers : uint32*, (n,)
            The row at every position, counted from row ``numbered - 1``; read only if `numbered` is
            not 0, else the row is the position.
        queries : uint64*, (queries, words)
        members : int64*
            The numbers of the queries to answer; those below 0 only fill up a group.
        limits : int32*, (queries,)
        found : int64*, (queries,)
        keys : uint64*, (queries, capacity)
            See `select`; with k of 0, limits stay as they are.
        scratch : uint64*, 64-byte aligned
            Distances of the streams, the least of each group, a few registers, allowed rows.
        """
        scan_tasks(
            codes, words, n, tasks, 0, n_tasks, n_tasks, allowed, filtered, numbers, numbered,
            queries, members, limits, found, keys, capacity, k, scratch,
        )  # fmt: skip

    def measure(codes, words, queries, n_queries, rows, per_query, distances):
        """``distances[q, j]``: the distance of query q to row ``rows[q, j]``."""
        for query in range(n_queries):
            for j in range(query * per_query, (query + 1) * per_query):
                away = distance(codes, rows[j] * words, queries, query * words, words)
                distances[j] = np.int32(away)

    return scan_rows, scan_tasks, measure
