"""Hamming distances row by row, for one query (source; imported only to be compiled).

One query is bound by memory, and a plain loop does not reach that bound: a core fetches ahead of
one sequential stream only to the end of a page, and waits at the start of every next one.  So the
codes are read as four streams, `STREAM` rows apart, one row of each in turn: the misses of one
stream overlap with the work on the others.  On a Zen 3 core, 1 M x 768 bits in 4 KiB pages, median
ms: a plain loop with scalar POPCNT 7.5, with look-ups 7.1, with look-ups and prefetches 6.2; four
streams 4.3; a read-only sum of the same bytes 5.3 as one stream and 3.6 as four.  Streams of 64
rows take 6.7, of 256 rows 4.9, of 1,024 rows and more 4.3.

Rows are reported in ascending order all the same: the distances of all four streams are kept, with
the least of every `GROUP` rows, and looked through stream by stream when one of them is a hit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.scalars import jit, popcount
from binq.kernels.source.select import append, lower_limit
from binq.kernels.source.simd import vectors

STREAM = 1024
GROUP = 64


def row_kernels(lanes: int) -> tuple[Any, Any]:
    """`scan_rows` and `measure` for registers of `lanes` bytes; see `simd.vectors`."""
    v = vectors(lanes, None)
    load, store, set_bits, total8, totals = v.load, v.store, v.set_bits, v.total8, v.totals
    add8, both, differ, splat8 = v.add8, v.both, v.differ, v.splat8
    # Four distances of 32 bits.
    four = vectors(16, None)
    load4, store4, add4, least4, splat4 = (
        four.load, four.store, four.add32, four.least32, four.splat32
    )  # fmt: skip

    @jit
    def number(scratch, i):
        # 32 bits of it.
        return np.int64((scratch[i >> 1] >> np.uint64(32 * (i & 1))) & np.uint64(0xFFFFFFFF))

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
            c0 = splat8(0)
            c1 = c0
            c2 = c0
            c3 = c0
            while i + lanes <= stop:
                asked = load(queries, query + i)
                c0 = add8(c0, set_bits(differ(load(codes, r0 * 8 + i), asked)))
                c1 = add8(c1, set_bits(differ(load(codes, r1 * 8 + i), asked)))
                c2 = add8(c2, set_bits(differ(load(codes, r2 * 8 + i), asked)))
                c3 = add8(c3, set_bits(differ(load(codes, r3 * 8 + i), asked)))
                i += lanes
            if stop == end:
                if i < end:
                    # The rest of the row: its last register, less what was counted.
                    i = end - lanes
                    asked = load(queries, query + i)
                    x0 = both(differ(load(codes, r0 * 8 + i), asked), tail)
                    x1 = both(differ(load(codes, r1 * 8 + i), asked), tail)
                    x2 = both(differ(load(codes, r2 * 8 + i), asked), tail)
                    x3 = both(differ(load(codes, r3 * 8 + i), asked), tail)
                    c0 = add8(c0, set_bits(x0))
                    c1 = add8(c1, set_bits(x1))
                    c2 = add8(c2, set_bits(x2))
                    c3 = add8(c3, set_bits(x3))
                i = end
            total = add4(total, totals(c0, c1, c2, c3))
        store4(scratch, at, total)

    @njit(error_model="numpy", inline="never")
    def report(start, first, last, query, limits, found, keys, capacity, k, scratch, least, stream):
        # The hits among the rows [first, last) of a stream that starts at row `start`.
        for group in range((first - start) // GROUP, (last - start + GROUP - 1) // GROUP):
            if number(scratch, least + 4 * group + stream) < limits[query]:
                begin = max(first - start, group * GROUP)
                for i in range(begin, min(last - start, (group + 1) * GROUP)):
                    away = number(scratch, 4 * i + stream)
                    if away < limits[query]:
                        lower_limit(keys, found, limits, query, capacity, k, 1)
                        append(keys, found, query, capacity, away, start + i)

    def scan_rows(
        codes, words, first, last, queries, n_queries, limits, found, keys, capacity, k, scratch
    ):
        """Append every row in ``[first, last)`` whose distance is below the query's limit.

        `scratch` has 2 words per row of a stream, 2 per group of rows, and 16.
        """
        least = 4 * STREAM
        spare = 4 * least + 16 * (STREAM // GROUP)
        store(scratch, spare, splat8(0))
        store(scratch, spare + lanes, splat8(255))
        tail = load(scratch, spare + words * 8 % lanes)
        for start in range(first, last, 4 * STREAM):
            count = min(4 * STREAM, last - start)
            each = (count + 3) // 4
            # The last streams start early where rows are few, and measure some a second time.
            final = count - each
            for query in range(n_queries):
                at0 = start * words
                at1 = (start + min(each, final)) * words
                at2 = (start + min(2 * each, final)) * words
                at3 = (start + final) * words
                nearest = splat4(0x7FFFFFFF)
                for group in range((each + GROUP - 1) // GROUP):
                    near = splat4(0x7FFFFFFF)
                    for i in range(group * GROUP, min(each, (group + 1) * GROUP)):
                        distances(
                            codes, (at0, at1, at2, at3), queries, query * words, words, scratch,
                            tail, 16 * i,
                        )  # fmt: skip
                        near = least4(near, load4(scratch, 16 * i))
                        at0 += words
                        at1 += words
                        at2 += words
                        at3 += words
                    store4(scratch, 4 * least + 16 * group, near)
                    nearest = least4(nearest, near)
                store4(scratch, spare, nearest)
                for stream in range(4):
                    if number(scratch, (spare >> 2) + stream) < limits[query]:
                        report(
                            start + min(stream * each, final),
                            start + min(stream * each, count),
                            start + min((stream + 1) * each, count),
                            query, limits, found, keys, capacity, k, scratch, least, stream,
                        )  # fmt: skip

    def measure(codes, words, queries, n_queries, rows, per_query, distances):
        """``distances[q, j]``: the distance of query q to row ``rows[q, j]``."""
        for query in range(n_queries):
            for j in range(query * per_query, (query + 1) * per_query):
                away = distance(codes, rows[j] * words, queries, query * words, words)
                distances[j] = np.int32(away)

    return scan_rows, measure
