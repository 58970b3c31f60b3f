"""The batch scan by byte shuffles, AVX2, SSSE3 or NEON (source; imported only to be compiled).

A query's half-byte q and a code's half-byte c share ``popcount(q & c)`` set bits, a table of 16
entries per half-byte of the query; one shuffle looks up 32 codes.  An entry is at most 4, so that
*two* queries share a table: one in the low, one in the high half of each byte.  Four look-ups are
added before a half could overflow (16 set bits need all 16 bits of the query set, see below), then

- s (mod 256) accumulates the whole bytes, ``A + 16 B``, and b the high halves, B;
- at the end of a section, A is ``s - 16 b`` (mod 256), exact while A and B are below 256.

That is 11 vector operations per 4 half-bytes x 2 queries x 32 codes, 8.25 per pair of 768 bits,
where XOR and the shuffle-based bit count LLVM emits for AVX2 take 30, and scalar POPCNT 36.
The distance is ``popcount(code) + popcount(query) - 2 shared``.

Two preconditions are arranged by the caller, for any input: XOR-ing codes and queries with one
*mask* keeps all distances, and a mask exists for which no query has 16 set bits in a row of 4
half-bytes (a call has fewer than 65,536 queries); *sections* end before any query has 256 set bits
in one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.columns import block_of, half_byte_columns, next_row, row_at
from binq.kernels.source.scalars import jit, offset_by, prefetch, trailing_zeros, uint32s
from binq.kernels.source.select import append, limit_of, lower_limit
from binq.kernels.source.simd import vectors

# Distances of wider codes do not fit the signed 16-bit lanes.
MAX_WORDS = 255
GROUP = 2


def scratch_sizes(lanes: int) -> tuple[int, int]:
    """Bytes of `scratch`, and more of them per word of a code.

    A register's distances, bit counts of the block, sums, rows; half-bytes, a copy of the codes.
    """
    tile = 4 * lanes
    return 128 + 6 * tile + 4 * tile, 16 * tile + 8 * tile


def shared_counts_of(v: SimpleNamespace) -> Any:
    """The function that counts the bits which two queries share with the codes of a block."""
    load, store, table, load_four = v.load, v.store, v.table, v.load_four
    shuffle_four, add_four = v.shuffle_four, v.add_four
    sub8, add16, both = v.sub8, v.add16, v.both
    left16, right16, splat8, splat16, lanes = v.left16, v.right16, v.splat8, v.splat16, v.lanes

    @jit
    def widen(s, b, scratch, at):
        # The shared bits of a section, both queries, added to their 16-bit sums in memory.
        low = splat16(255)
        a = sub8(s, both(left16(b, 4), splat8(240)))
        store(scratch, at, add16(load(scratch, at), both(a, low)))
        store(scratch, at + lanes, add16(load(scratch, at + lanes), right16(a, 8)))
        store(scratch, at + 2 * lanes, add16(load(scratch, at + 2 * lanes), both(b, low)))
        store(scratch, at + 3 * lanes, add16(load(scratch, at + 3 * lanes), right16(b, 8)))

    @jit
    def high_halves(c):
        low = splat8(15)
        return (
            both(right16(c[0], 4), low),
            both(right16(c[1], 4), low),
            both(right16(c[2], 4), low),
            both(right16(c[3], 4), low),
        )

    @jit
    def shared_counts(tables, t, scratch, x, sums, ends, sections, codes, fetch, ahead, fetched):
        """The set bits that two queries share with the codes of a block, at byte `sums`.

        t : byte of the queries' tables; x : of the half-bytes. In every section, `ahead` bytes of
        the codes are fetched, from `fetch` to `fetched`.
        """
        zero = splat8(0)
        for i in range(sums, sums + 16 * lanes, lanes):
            store(scratch, i, zero)
        group = np.int64(0)
        for section in range(sections):
            whole = (zero, zero, zero, zero)
            high = whole
            for line in range(fetch, min(fetch + ahead, fetched), 64):
                prefetch(codes, line)
            fetch += ahead
            while group < ends[section]:
                c = shuffle_four(table(tables, t), load_four(scratch, x))
                found = shuffle_four(table(tables, t + 16), load_four(scratch, x + 4 * lanes))
                c = add_four(c, found)
                found = shuffle_four(table(tables, t + 32), load_four(scratch, x + 8 * lanes))
                c = add_four(c, found)
                found = shuffle_four(table(tables, t + 48), load_four(scratch, x + 12 * lanes))
                c = add_four(c, found)
                whole = add_four(whole, c)
                high = add_four(high, high_halves(c))
                t += 64
                x += 16 * lanes
                group += 1
            widen(whole[0], high[0], scratch, sums)
            widen(whole[1], high[1], scratch, sums + 4 * lanes)
            widen(whole[2], high[2], scratch, sums + 8 * lanes)
            widen(whole[3], high[3], scratch, sums + 12 * lanes)

    return shared_counts


def table_scan(lanes: int, shuffle_name: str | None) -> Any:
    """`scan_tables`; of its parameters, these differ from those of `rows.scan_rows`.

    mask : uint64*, (words,); tables : 16 bytes per pair of queries and half-byte; weights : int32*,
    set bits per query; ends : int64*, the groups of 4 half-bytes at which the `sections` end.
    `members` are pairs of queries that share a table; see `select.limit_of`.
    """
    v = vectors(lanes, shuffle_name)
    load, store, add16, sub16, either = v.load, v.store, v.add16, v.sub16, v.either
    splat8, splat16, greater16, nonzero, mask16 = (
        v.splat8, v.splat16, v.greater16, v.nonzero, v.mask16
    )  # fmt: skip
    transpose = half_byte_columns(v, counted=True)
    shared_counts = shared_counts_of(v)
    tile = 4 * lanes
    reserve = lanes

    @jit
    def above(scratch, sums, ones, threshold):
        # Lanes with 2 shared - popcount(code) > popcount(query) - limit: distance < limit.
        shared = load(scratch, sums)
        return greater16(sub16(add16(shared, shared), load(scratch, ones)), threshold)

    @jit
    def below(scratch, sums, ones, threshold):
        # A bit for every code of a group: even codes in the low half, odd ones in the high half.
        even = mask16(above(scratch, sums, ones, threshold))
        odd = mask16(above(scratch, sums + lanes, ones + lanes, threshold))
        return even | (odd << np.uint64(32))

    @jit
    def threshold(weights, limits, member):
        own = member ^ (member >> 63)
        return splat16(max(np.intp(-32768), np.intp(weights[own]) - limit_of(limits, member)))

    @njit(error_model="numpy", inline="never")
    def report(
        hits, lane, have, row, filtered, picked, numbers, numbered, query, weight, limits, found,
        keys, capacity, k, scratch, sums, ones,
    ):  # fmt: skip
        lower_limit(keys, found, limits, query, capacity, k, reserve, numbered)
        for half in range(2):
            shared = load(scratch, sums + half * lanes)
            total = add16(load(scratch, ones + half * lanes), splat16(np.intp(weight)))
            store(scratch, half * 64, sub16(total, add16(shared, shared)))
        while hits != np.uint64(0):
            hit = np.intp(trailing_zeros(hits))
            hits &= hits - np.uint64(1)
            # Distances are 16 bits wide, even codes first, odd codes in the other half.
            distance = (scratch[hit >> 2] >> np.uint64(16 * (hit & 3))) & np.uint64(0xFFFF)
            position = lane + 2 * (hit & 31) + (hit >> 5)
            if position < have:
                at = row_at(position, row, filtered, picked)
                append(keys, found, query, capacity, k, distance, at, numbers, numbered)

    def scan(
        codes, words, n, tasks, n_tasks, allowed, filtered, numbers, numbered, mask, tables,
        weights, ends, sections, members, limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        ones = 128
        sums = ones + 2 * tile
        picked = uint32s(scratch, sums + 4 * tile)
        block = sums + 8 * tile
        padded = offset_by(scratch, block + 16 * words * tile, codes)
        for task in range(n_tasks):
            start = tasks[4 * task]
            last = tasks[4 * task + 1]
            begin = tasks[4 * task + 2]
            end = tasks[4 * task + 3]
            # The next block is fetched a few lines with every pair and section, never many at once.
            parts = (end - begin) * sections
            ahead = (tile * words * GROUP // 8 + parts - 1) // parts * 64
            whole = 0 if filtered else tile * words * 8
            while start < last:
                source, at, have, following = block_of(
                    codes, words, n, start, last, tile, allowed, filtered, picked, padded
                )
                fetch = next_row(tasks, task, n_tasks, following, last) * words * 8
                transpose(source, at, words, mask, scratch, ones, block)
                fetched = fetch + whole
                for member in range(begin, end, GROUP):
                    m0 = members[member]
                    pair = (m0 ^ (m0 >> 63)) >> 1
                    shared_counts(
                        tables, pair * words * 256, scratch, block, sums, ends, sections, codes,
                        fetch, ahead, fetched,
                    )  # fmt: skip
                    fetch += ahead * sections
                    first_limit = threshold(weights, limits, m0)
                    second_limit = threshold(weights, limits, members[member + 1])
                    hits = splat8(0)
                    for i in range(4):
                        p = ones + 2 * i * lanes
                        s = sums + 4 * i * lanes
                        hits = either(hits, above(scratch, s, p, first_limit))
                        hits = either(hits, above(scratch, s + lanes, p + lanes, first_limit))
                        hits = either(hits, above(scratch, s + 2 * lanes, p, second_limit))
                        hits = either(hits, above(scratch, s + 3 * lanes, p + lanes, second_limit))
                    if nonzero(hits):
                        for i in range(8):
                            # Each group of codes, once for either query.
                            own = members[member + (i & 1)]
                            p = ones + (i >> 1) * 2 * lanes
                            s = sums + i * 2 * lanes
                            limit = first_limit
                            if i & 1:
                                limit = second_limit
                            nearer = below(scratch, s, p, limit)
                            if nearer != np.uint64(0):
                                report(
                                    nearer, (i >> 1) * lanes, have, start, filtered, picked,
                                    numbers, numbered, own, weights[own], limits, found, keys,
                                    capacity, k, scratch, s, p,
                                )  # fmt: skip
                start = following

    return scan
