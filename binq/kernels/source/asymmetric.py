"""Asymmetric scan kernels: real-valued queries against codes (source; imported to be compiled).

The score of a code b in {-1, +1}^d is ``(<w, b> + base) * mul + add``.  For the scan the weights
are small integers u with ``w ~ step * u``.  Four neighbouring weights meet 16 possible half-bytes
of a code: a table of 16 bytes, one shuffle for 32 codes.  A table holds the sum of the weights of
the set bits, less its smallest value, so that its entries are 0 to ``|u_0| + .. + |u_3|``; the sum
S of all look-ups then gives ``<u, b> = 2 S - sum |u|``, exactly.

Sums are 8 bits wide as long as no query can exceed 255 (a *section*, whose ends the caller chooses
from the queries) and then added to 16-bit ones, which start at -32,768 to compare as signed.  768
normally distributed weights of 4 bits take 8 sections, of 6 bits 40: 13 and 19 vector operations
for a pair of query and code, where four bit-planes of AND and bit count take four times the Hamming
scan.  Weights of 7 and 8 bits are split, ``u = 16 a + b``: two tables cost twice as much, one would
have to be widened at every half-byte.  The same holds for AVX-512, where look-up and bit count both
start once per cycle: 64 x 4 bits of any weight, or 512 bits of one plane of four.

A single query of few bits is looked up while a word of 32 codes is transposed, in registers.  On a
Zen 3 core and 1 M x 768 bits that takes 10.2 ms, where storing the transposition took 16.6.

Scores are computed in float32, each operation rounded by itself, and therefore the same everywhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cfunc, types

from binq.kernels.source.columns import copy_rows, half_byte_columns
from binq.kernels.source.features import byte_shuffle
from binq.kernels.source.scalars import bits_float, float_bits, int16s, jit, offset_by, prefetch
from binq.kernels.source.select import append, make_room
from binq.kernels.source.simd import vectors

_F32 = types.CPointer(types.float32)
_F64 = types.CPointer(types.float64)
_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U64 = types.CPointer(types.uint64)
_INT = types.intp
_SIGN = np.uint32(0x80000000)


@jit
def _descending(score):
    # An integer that is smaller the larger the score is. Adding zero makes -0 and 0 tie.
    bits = float_bits(np.float32(score + np.float32(0.0)))
    if bits & _SIGN:
        return np.uint32(bits)
    return np.uint32(~(bits | _SIGN))


@jit
def _score(value):
    value = np.uint32(value)
    if value & _SIGN:
        return bits_float(value)
    return bits_float(np.uint32(~value & np.uint32(0x7FFFFFFF)))


def _scans(lanes: int, shuffle_name: str | None) -> tuple[Any, Any]:
    v = vectors(lanes, shuffle_name)
    load, store, table, shuffle = v.load, v.store, v.table, v.shuffle
    add8, add16, both, either, right16 = v.add8, v.add16, v.both, v.either, v.right16
    splat8, splat16, greater16, nonzero = v.splat8, v.splat16, v.greater16, v.nonzero
    zip_low, zip_high = v.zip_low, v.zip_high
    pair_columns, word_columns = v.pair_columns, v.word_columns
    transpose = half_byte_columns(v, counted=False)
    tile = 4 * lanes
    # Bytes of `scratch`: 16-bit sums of two tables, scores, and the last codes with their factors.
    scores_at = 4 * tile
    padded_at = 8 * tile

    @jit
    def completed(codes, words, start, last, mul, add, factors, scratch):
        # Where a tile of codes and its factors are: a partial one is completed with zeros.
        row_mul = offset_by(mul, start * 4 * factors, mul)
        row_add = offset_by(add, start * 4 * factors, mul)
        if start + tile <= last:
            return offset_by(codes, start * words * 8, codes), row_mul, row_add
        padded_mul = offset_by(scratch, padded_at, mul)
        padded_add = offset_by(scratch, padded_at + 4 * tile, mul)
        padded = offset_by(scratch, padded_at + 8 * tile, codes)
        copy_rows(codes, words, start, last, tile, padded)
        if factors:
            have = last - start
            for i in range(have):
                padded_mul[i] = row_mul[i]
                padded_add[i] = row_add[i]
            for i in range(have, tile):
                padded_mul[i] = np.float32(0.0)
                padded_add[i] = np.float32(0.0)
            row_mul = padded_mul
            row_add = padded_add
        return padded, row_mul, row_add

    @jit
    def widen(s, scratch, at):
        store(scratch, at, add16(load(scratch, at), both(s, splat16(255))))
        store(scratch, at + lanes, add16(load(scratch, at + lanes), right16(s, 8)))

    @jit
    def reachable(limit, step, base, size):
        # A 16-bit sum at or below this cannot score above the limit, whatever the rounding.
        slack = 2.0 + (abs(np.float64(base)) + abs(np.float64(limit))) / step * 1e-6
        lowest = (np.float64(limit) - base) / step
        lowest = np.floor((lowest + size) * 0.5 - slack) - 32768.0
        return np.intp(min(max(lowest, -32768.0), 32767.0))

    @jit
    def collect(
        start, last, own, mine, split, step, base, size, row_mul, row_add, factors, limits, found,
        keys, capacity, k, scratch,
    ):  # fmt: skip
        # Score the sums of a tile, which stand at byte `mine`, and append what is above the limit.
        limit = limits[own]
        if factors == 0 and split == 0 and limit == limit:
            low = splat16(reachable(limit, step, base, size))
            hits = splat8(0)
            for j in range(8):
                hits = either(hits, greater16(load(scratch, mine + j * lanes), low))
            if not nonzero(hits):
                return
        # In the order of the rows: even and odd codes take turns.
        for j in range(0, (8 + 8 * split) * lanes, 2 * lanes):
            even = load(scratch, mine + j)
            odd = load(scratch, mine + j + lanes)
            store(scratch, mine + j, zip_low(even, odd))
            store(scratch, mine + j + lanes, zip_high(even, odd))
        # Whole numbers below 2**24: exact in float32, in any order.
        scores = offset_by(scratch, scores_at, row_mul)
        totals = int16s(scratch, mine)
        if split:
            lower = int16s(scratch, mine + 8 * lanes)
            zeroth = np.float32(34 * 32768 - size)
            for j in range(tile):
                fine = np.float32(2.0) * np.float32(lower[j])
                coarse = np.float32(32.0) * np.float32(totals[j])
                scores[j] = (coarse + fine) + zeroth
        else:
            zeroth = np.float32(2 * 32768 - size)
            for j in range(tile):
                scores[j] = np.float32(2.0) * np.float32(totals[j]) + zeroth
        best = np.int32(0)
        if factors:
            for j in range(tile):
                score = np.float32(scores[j] * step) + base
                score = np.float32(score * row_mul[j]) + row_add[j]
                scores[j] = score
                best |= np.int32(not (score <= limit))
        else:
            for j in range(tile):
                score = np.float32(scores[j] * step) + base
                scores[j] = score
                best |= np.int32(not (score <= limit))
        if best:
            for j in range(min(tile, last - start)):
                score = scores[j]
                if not (score <= limits[own]):
                    cut = make_room(keys, found, own, capacity, k, 1)
                    if cut >= 0:
                        limits[own] = _score(cut)
                    append(keys, found, own, capacity, _descending(score), start + j)

    @jit
    def looked_up(column, tables, at):
        # Both half-bytes of a byte column.
        low = shuffle(table(tables, at), both(column, splat8(15)))
        high = shuffle(table(tables, at + 16), both(right16(column, 4), splat8(15)))
        return add8(low, high)

    @jit
    def four(c0, c1, c2, c3, tables, at):
        first = add8(looked_up(c0, tables, at), looked_up(c1, tables, at + 32))
        return add8(first, add8(looked_up(c2, tables, at + 64), looked_up(c3, tables, at + 96)))

    @jit
    def word(c0, c1, c2, c3, c4, c5, c6, c7, tables, at, even, odd):
        # The byte columns of a word, added to the 16-bit sums of the even and the odd codes.
        s = four(c0, c1, c2, c3, tables, at)
        even = add16(even, both(s, splat16(255)))
        odd = add16(odd, right16(s, 8))
        s = four(c4, c5, c6, c7, tables, at + 128)
        return add16(even, both(s, splat16(255))), add16(odd, right16(s, 8))

    def scan_one(
        codes, words, first, last, tables, step, base, size, mul, add, factors, limits, found, keys,
        capacity, k, scratch,
    ):  # fmt: skip
        """As `scan`, for one query of which no 8 neighbouring look-ups can exceed 255.

        Byte columns are looked up while they are in registers: nothing of the transposition is
        stored.
        """
        pitch = words * 8
        for start in range(first, last, tile):
            source, row_mul, row_add = completed(
                codes, words, start, last, mul, add, factors, scratch
            )
            fetch = (start + 2 * tile) * pitch
            for group in range(4):
                for line in range(fetch, fetch + lanes * pitch, 64):
                    prefetch(codes, line)
                fetch += lanes * pitch
                even = splat16(-32768)
                odd = even
                at = group * lanes * pitch
                for i in range(0, words - 1, 2):
                    c = pair_columns(source, at + i * 8, pitch, splat8(0))
                    even, odd = word(
                        c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], tables, i * 256, even, odd
                    )
                    even, odd = word(
                        c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15], tables,
                        i * 256 + 256, even, odd,
                    )  # fmt: skip
                if words & 1:
                    i = words - 1
                    c = word_columns(source, at + i * 8, pitch, splat8(0))
                    even, odd = word(
                        c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], tables, i * 256, even, odd
                    )
                store(scratch, 2 * group * lanes, even)
                store(scratch, (2 * group + 1) * lanes, odd)
            collect(
                start, last, 0, 0, 0, step, base, size, row_mul, row_add, factors, limits, found,
                keys, capacity, k, scratch,
            )  # fmt: skip

    def scan(
        codes, words, first, last, tables, steps, bases, sizes, n_queries, split, ends, sections,
        mul, add, factors, limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        """Append every row in ``[first, last)`` that scores above the query's limit.

        tables : 16 bytes per query and half-byte; sizes : sum |u|;
        ends : half-bytes at which the `sections` end; factors : whether `mul` and `add` are given.
        With `split`, every two tables are the upper (times 16) and lower part of one query.
        A limit of NaN is none. `n_queries` counts tables and is even, `scratch` is aligned.
        """
        block = padded_at + 8 * tile + 8 * words * tile
        zero = splat8(0)
        ahead = (tile * words * 16 + n_queries * 64 - 1) // (n_queries * 64) * 64
        for start in range(first, last, tile):
            source, row_mul, row_add = completed(
                codes, words, start, last, mul, add, factors, scratch
            )
            fetch = (start + tile) * words * 8
            transpose(source, 0, words, codes, scratch, 0, block)
            for query in range(0, n_queries, 2):
                for line in range(fetch, fetch + ahead, 64):
                    prefetch(codes, line)
                fetch += ahead
                for i in range(0, 4 * tile, lanes):
                    store(scratch, i, splat16(-32768))
                t = query * words * 256
                u = t + words * 256
                x = block
                place = np.int64(0)
                for section in range(sections):
                    a0 = zero
                    a1 = zero
                    a2 = zero
                    a3 = zero
                    b0 = zero
                    b1 = zero
                    b2 = zero
                    b3 = zero
                    while place < ends[section]:
                        first_table = table(tables, t)
                        second_table = table(tables, u)
                        column = load(scratch, x)
                        a0 = add8(a0, shuffle(first_table, column))
                        b0 = add8(b0, shuffle(second_table, column))
                        column = load(scratch, x + lanes)
                        a1 = add8(a1, shuffle(first_table, column))
                        b1 = add8(b1, shuffle(second_table, column))
                        column = load(scratch, x + 2 * lanes)
                        a2 = add8(a2, shuffle(first_table, column))
                        b2 = add8(b2, shuffle(second_table, column))
                        column = load(scratch, x + 3 * lanes)
                        a3 = add8(a3, shuffle(first_table, column))
                        b3 = add8(b3, shuffle(second_table, column))
                        t += 16
                        u += 16
                        x += 4 * lanes
                        place += 1
                    widen(a0, scratch, 0)
                    widen(a1, scratch, 2 * lanes)
                    widen(a2, scratch, 4 * lanes)
                    widen(a3, scratch, 6 * lanes)
                    widen(b0, scratch, 8 * lanes)
                    widen(b1, scratch, 10 * lanes)
                    widen(b2, scratch, 12 * lanes)
                    widen(b3, scratch, 14 * lanes)
                for i in range(2 - split):
                    own = (query + i) >> split
                    collect(
                        start, last, own, i * 8 * lanes, split, steps[own], bases[own], sizes[own],
                        row_mul, row_add, factors, limits, found, keys, capacity, k, scratch,
                    )  # fmt: skip

    return scan_one, scan


def _measure(
    codes, words, weights, bases, n_queries, rows, per_query, mul, add, factors, scores, sums
):
    """``scores[q, j]`` of query q and row ``rows[q, j]``, summed in float64 in a fixed order.

    `sums` has room for 64 numbers: one per bit of a word, so that additions run side by side.
    """
    for query in range(n_queries):
        start = query * words * 64
        for j in range(query * per_query, (query + 1) * per_query):
            row = rows[j]
            for bit in range(64):
                sums[bit] = 0.0
            for word in range(words):
                code = codes[row * words + word]
                at = start + word * 64
                for bit in range(64):
                    weight = np.float64(weights[at + bit])
                    one = (code >> np.uint64(bit)) & np.uint64(1)
                    sums[bit] += weight if one else -weight
            half = 32
            while half:
                for bit in range(half):
                    sums[bit] += sums[half + bit]
                half >>= 1
            score = sums[0] + bases[query]
            if factors:
                score = score * mul[row] + add[row]
            scores[j] = np.float32(score)


def kernels(machine: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family for the CPU of `machine`, and their layout."""
    lanes, shuffle_name = byte_shuffle(machine)
    compiled = partial(cfunc, error_model="numpy")
    void = types.void
    span = (_U64, _INT, _INT, _INT, _U64)
    queries = (_F32, _F32, _I32, _INT, _INT, _I64, _INT)
    state = (_F32, _F32, _INT, _F32, _I64, _U64, _INT, _INT, _U64)
    scan_one, scan = _scans(lanes, shuffle_name)
    measure = void(
        _U64, _INT, _F32, _F32, _INT, _I64, _INT, _F32, _F32, _INT, _F32, _F64
    )  # fmt: skip
    return {
        "scan_one": compiled(void(*span, types.float32, types.float32, _INT, *state))(scan_one),
        "scan": compiled(void(*span, *queries, *state))(scan),
        "measure": compiled(measure)(_measure),
    }, {"lanes": lanes}
