"""Hamming distance kernels (source; imported only to be compiled).

Three scans over row-major codes, which differ in how they count bits and agree bit for bit in what
they find.

``scan_rows``
    Row by row, for one query, which is bound by memory, or a few: see `rows`.
``scan_counts``
    For CPUs that count the bits of a register in one instruction (AVX512-VPOPCNTDQ).  128 codes are
    transposed once to (group of 8, word, 8) and stay in L1; every query of the call runs over them,
    4 at a time, with 4 x 8 counts in registers: XOR, POPCNT, ADD per 512 bits.
``scan_tables``
    For other CPUs with a 16-entry byte shuffle (AVX2, SSSE3, NEON).  A query's half-byte q and
    a code's half-byte c share ``popcount(q & c)`` set bits, a table of 16 entries per half-byte of
    the query; one shuffle looks up 32 codes.  An entry is at most 4, so that *two* queries share a
    table: one in the low, one in the high half of each byte.  Four look-ups are added before a half
    could overflow (16 set bits need all 16 bits of the query set, see below), then

    - s (mod 256) accumulates the whole bytes, ``A + 16 B``, and b the high halves, B;
    - at the end of a section, A is ``s - 16 b`` (mod 256), exact while A and B are below 256.

    That is 11 vector operations per 4 half-bytes x 2 queries x 32 codes, 8.25 per pair of 768 bits,
    where XOR and the shuffle-based bit count LLVM emits for AVX2 take 30, and scalar POPCNT 36.
    The distance is ``popcount(code) + popcount(query) - 2 shared``.

    Two preconditions are arranged by the caller, for any input: XOR-ing codes and queries with one
    *mask* keeps all distances, and a mask exists for which no query has 16 set bits in a row of 4
    half-bytes (a call has fewer than 65,536 queries); *sections* end before any query has
    256 set bits in one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cfunc, njit, types

from binq.kernels.source.columns import copy_rows, half_byte_columns
from binq.kernels.source.counts import counts
from binq.kernels.source.features import byte_shuffle, counts_bits
from binq.kernels.source.rows import row_kernels
from binq.kernels.source.scalars import jit, offset_by, prefetch, trailing_zeros
from binq.kernels.source.select import append, lower_limit
from binq.kernels.source.simd import vectors

BLOCK = 128
# Distances of wider codes do not fit the signed 16-bit lanes of `scan_tables`.
MAX_TABLE_WORDS = 255

_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U64 = types.CPointer(types.uint64)
_INT = types.intp


def _count_scan() -> Any:
    ops = counts()
    load, store, rows, broadcast = ops.load, ops.store, ops.rows, ops.broadcast
    splat, ones, below, add, xor = ops.splat, ops.ones, ops.below, ops.add, ops.xor

    @njit(error_model="numpy", inline="never")
    def report(hits, row, last, query, limits, found, keys, capacity, k, scratch):
        lower_limit(keys, found, limits, query, capacity, k, 8)
        while hits != np.uint64(0):
            lane = np.intp(trailing_zeros(hits))
            hits &= hits - np.uint64(1)
            if row + lane < last:
                append(keys, found, query, capacity, scratch[lane], row + lane)

    def scan(
        codes, words, first, last, queries, n_queries, limits, found, keys, capacity, k, scratch
    ):
        """As `scan_rows`; `n_queries` is a multiple of 4.

        `scratch` is 64-byte aligned: 8 words of distances, the transposed block, a padded block.
        """
        stride = words * 64
        padded = offset_by(scratch, 64 + BLOCK * words * 8, codes)
        # While one block is searched, the next one is fetched: some lines with every four queries.
        ahead = (BLOCK * words * 32 + n_queries * 64 - 1) // (n_queries * 64) * 64
        for start in range(first, last, BLOCK):
            source = codes
            at = start * words * 8
            fetch = at + BLOCK * words * 8
            groups = (min(BLOCK, last - start) + 7) // 8
            if start + BLOCK > last:
                copy_rows(codes, words, start, last, groups * 8, padded)
                source = padded
                at = 0
            for group in range(groups):
                for word in range(words):
                    column = rows(source, at + (group * 8 * words + word) * 8, words * 8)
                    store(scratch, 64 + group * stride + word * 64, column)
            for query in range(0, n_queries, 4):
                for line in range(fetch, fetch + ahead, 64):
                    prefetch(codes, line)
                fetch += ahead
                q0 = query * words * 8
                q1 = q0 + words * 8
                q2 = q1 + words * 8
                q3 = q2 + words * 8
                for group in range(groups):
                    at = 64 + group * stride
                    s0 = splat(0)
                    s1 = s0
                    s2 = s0
                    s3 = s0
                    for word in range(0, words * 8, 8):
                        x = load(scratch, at + word * 8)
                        s0 = add(s0, ones(xor(x, broadcast(queries, q0 + word))))
                        s1 = add(s1, ones(xor(x, broadcast(queries, q1 + word))))
                        s2 = add(s2, ones(xor(x, broadcast(queries, q2 + word))))
                        s3 = add(s3, ones(xor(x, broadcast(queries, q3 + word))))
                    h0 = below(s0, splat(limits[query]))
                    h1 = below(s1, splat(limits[query + 1]))
                    h2 = below(s2, splat(limits[query + 2]))
                    h3 = below(s3, splat(limits[query + 3]))
                    if (h0 | h1 | h2 | h3) != np.uint64(0):
                        row = start + group * 8
                        for i in range(4):
                            hits = h0
                            sums = s0
                            if i == 1:
                                hits = h1
                                sums = s1
                            if i == 2:
                                hits = h2
                                sums = s2
                            if i == 3:
                                hits = h3
                                sums = s3
                            if hits != np.uint64(0):
                                store(scratch, 0, sums)
                                report(
                                    hits, row, last, query + i, limits, found, keys, capacity, k,
                                    scratch,
                                )  # fmt: skip

    return scan


def _table_scan(lanes: int, shuffle_name: str | None) -> Any:
    v = vectors(lanes, shuffle_name)
    load, store, table, shuffle = v.load, v.store, v.table, v.shuffle
    add8, sub8, add16, sub16, both, either = v.add8, v.sub8, v.add16, v.sub16, v.both, v.either
    left16, right16, splat8, splat16 = v.left16, v.right16, v.splat8, v.splat16
    greater16, nonzero, mask16 = v.greater16, v.nonzero, v.mask16
    transpose = half_byte_columns(v, counted=True)
    tile = 4 * lanes
    reserve = lanes

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
    def threshold(weight, limit):
        return splat16(max(np.intp(-32768), np.intp(weight) - np.intp(limit)))

    @njit(error_model="numpy", inline="never")
    def report(
        hits, row, last, query, weight, limits, found, keys, capacity, k, scratch, sums, ones
    ):
        lower_limit(keys, found, limits, query, capacity, k, reserve)
        for half in range(2):
            shared = load(scratch, sums + half * lanes)
            total = add16(load(scratch, ones + half * lanes), splat16(np.intp(weight)))
            store(scratch, half * 64, sub16(total, add16(shared, shared)))
        while hits != np.uint64(0):
            lane = np.intp(trailing_zeros(hits))
            hits &= hits - np.uint64(1)
            # Distances are 16 bits wide, even codes first, odd codes in the other half.
            distance = (scratch[lane >> 2] >> np.uint64(16 * (lane & 3))) & np.uint64(0xFFFF)
            at = row + 2 * (lane & 31) + (lane >> 5)
            if at < last:
                append(keys, found, query, capacity, distance, at)

    def scan(
        codes, words, first, last, mask, tables, weights, n_queries, ends, sections,
        limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        """As `scan_rows`; `n_queries` is even.

        tables : 16 bytes per pair of queries and half-byte; weights : set bits per query;
        ends : the groups of 4 half-bytes at which the `sections` end.
        `scratch` is 64-byte aligned: distances, bit counts of the block, sums, half-bytes.
        """
        ones = 128
        sums = ones + 2 * tile
        block = sums + 4 * tile
        padded = offset_by(scratch, block + 16 * words * tile, codes)
        zero = splat8(0)
        low = splat8(15)
        # While one block is searched, the next one is fetched: some lines with every two queries.
        ahead = (tile * words * 16 + n_queries * 64 - 1) // (n_queries * 64) * 64
        for start in range(first, last, tile):
            source = codes
            at = start * words * 8
            fetch = at + tile * words * 8
            if start + tile > last:
                copy_rows(codes, words, start, last, tile, padded)
                source = padded
                at = 0
            transpose(source, at, words, mask, scratch, ones, block)
            for query in range(0, n_queries, 2):
                for line in range(fetch, fetch + ahead, 64):
                    prefetch(codes, line)
                fetch += ahead
                for i in range(sums, sums + 4 * tile, lanes):
                    store(scratch, i, zero)
                t = query * words * 128
                x = block
                group = np.int64(0)
                for section in range(sections):
                    s0 = zero
                    s1 = zero
                    s2 = zero
                    s3 = zero
                    b0 = zero
                    b1 = zero
                    b2 = zero
                    b3 = zero
                    while group < ends[section]:
                        entries = table(tables, t)
                        c0 = shuffle(entries, load(scratch, x))
                        c1 = shuffle(entries, load(scratch, x + lanes))
                        c2 = shuffle(entries, load(scratch, x + 2 * lanes))
                        c3 = shuffle(entries, load(scratch, x + 3 * lanes))
                        entries = table(tables, t + 16)
                        c0 = add8(c0, shuffle(entries, load(scratch, x + 4 * lanes)))
                        c1 = add8(c1, shuffle(entries, load(scratch, x + 5 * lanes)))
                        c2 = add8(c2, shuffle(entries, load(scratch, x + 6 * lanes)))
                        c3 = add8(c3, shuffle(entries, load(scratch, x + 7 * lanes)))
                        entries = table(tables, t + 32)
                        c0 = add8(c0, shuffle(entries, load(scratch, x + 8 * lanes)))
                        c1 = add8(c1, shuffle(entries, load(scratch, x + 9 * lanes)))
                        c2 = add8(c2, shuffle(entries, load(scratch, x + 10 * lanes)))
                        c3 = add8(c3, shuffle(entries, load(scratch, x + 11 * lanes)))
                        entries = table(tables, t + 48)
                        c0 = add8(c0, shuffle(entries, load(scratch, x + 12 * lanes)))
                        c1 = add8(c1, shuffle(entries, load(scratch, x + 13 * lanes)))
                        c2 = add8(c2, shuffle(entries, load(scratch, x + 14 * lanes)))
                        c3 = add8(c3, shuffle(entries, load(scratch, x + 15 * lanes)))
                        s0 = add8(s0, c0)
                        s1 = add8(s1, c1)
                        s2 = add8(s2, c2)
                        s3 = add8(s3, c3)
                        b0 = add8(b0, both(right16(c0, 4), low))
                        b1 = add8(b1, both(right16(c1, 4), low))
                        b2 = add8(b2, both(right16(c2, 4), low))
                        b3 = add8(b3, both(right16(c3, 4), low))
                        t += 64
                        x += 16 * lanes
                        group += 1
                    widen(s0, b0, scratch, sums)
                    widen(s1, b1, scratch, sums + 4 * lanes)
                    widen(s2, b2, scratch, sums + 8 * lanes)
                    widen(s3, b3, scratch, sums + 12 * lanes)
                first_limit = threshold(weights[query], limits[query])
                second_limit = threshold(weights[query + 1], limits[query + 1])
                hits = zero
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
                        own = query + (i & 1)
                        p = ones + (i >> 1) * 2 * lanes
                        s = sums + i * 2 * lanes
                        limit = first_limit
                        if i & 1:
                            limit = second_limit
                        nearer = below(scratch, s, p, limit)
                        if nearer != np.uint64(0):
                            report(
                                nearer, start + (i >> 1) * lanes, last, own, weights[own],
                                limits, found, keys, capacity, k, scratch, s, p,
                            )  # fmt: skip

    return scan


def kernels(machine: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family for the CPU of `machine`, and their layout.

    Returns
    -------
    dict of str to numba CFunc
    dict
        ``counts`` and ``tables``: whether batches run on `scan_counts` or `scan_tables`; where
        on neither, on `scan_rows`. ``lanes``: the register of `scan_tables`.
    """
    lanes, shuffle_name = byte_shuffle(machine)
    counted = counts_bits(machine)
    state = (_I32, _I64, _U64, _INT, _INT)
    span = (_U64, _INT, _INT, _INT)
    void = types.void
    compiled = partial(cfunc, error_model="numpy")
    scan_rows, measure = row_kernels(lanes)
    found = {
        "scan_rows": compiled(void(*span, _U64, _INT, *state, _U64))(scan_rows),
        "measure": compiled(void(_U64, _INT, _U64, _INT, _I64, _INT, _I32))(measure),
    }
    tables = (_U64, _U64, _I32, _INT, _I64, _INT)
    tabled = not counted and shuffle_name is not None
    if counted:
        found["scan_counts"] = compiled(void(*span, _U64, _INT, *state, _U64))(_count_scan())
    if tabled:
        found["scan_tables"] = compiled(void(*span, *tables, *state, _U64))(
            _table_scan(lanes, shuffle_name)
        )
    return found, {"counts": int(counted), "tables": int(tabled), "lanes": lanes}
