"""The asymmetric scans: look-ups of half-bytes (source; imported only to be compiled).

Four neighbouring weights meet 16 possible half-bytes of a code: a table of 16 bytes, one shuffle
for 32 codes.  A table holds the sum of the weights of the set bits, less its smallest value, so
that its entries are 0 to ``|u_0| + .. + |u_3|``; the sum S of all look-ups then gives
``<u, b> = 2 S - sum |u|``, exactly.

Sums are 8 bits wide as long as no query can exceed 255 (a *section*, see `quantize`) and then added
to 16-bit ones, which start at -32,768 to compare as signed.  768 normally distributed weights of 4
bits take 8 sections: 13 vector operations for a pair of query and code, where four bit-planes of
AND and bit count take four times the Hamming scan.  The same holds for AVX-512, where look-up and
bit count both start once per cycle: 64 x 4 bits of any weight, or 512 bits of one plane of four.

A single query is looked up while a word of 32 codes is transposed, in registers, which saves
storing the transposition.

Scores are computed in float32, each operation rounded by itself, and therefore the same everywhere.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.columns import block_of, half_byte_columns, next_row, row_at
from binq.kernels.source.scalars import (
    bits_float,
    float_bits,
    int16s,
    jit,
    offset_by,
    prefetch,
    uint32s,
)  # fmt: skip
from binq.kernels.source.select import append, make_room
from binq.kernels.source.simd import vectors

_SIGN = np.uint32(0x80000000)
GROUP = 2


def scratch_sizes(lanes: int) -> tuple[int, int]:
    """Bytes of `scratch`, and more of them per word of a code.

    The 16-bit sums of two queries, scores, rows, the factors of a block; a copy of its codes, and
    their half-bytes.
    """
    tile = 4 * lanes
    return 20 * tile, 24 * tile


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


@jit
def _score_below(value):
    # Of -0, which is not below 0, there is none.
    value = np.int64(value) + 1
    if value == 0x80000000:
        value += 1
    return _score(value)


def _blocks(lanes: int) -> Any:
    """The functions that bring a block of codes and its factors together, and fetch its factors."""
    tile = 4 * lanes
    picked_at, padded_at = 8 * tile, 12 * tile

    @jit
    def block_with_factors(
        codes, words, n, first, last, allowed, filtered, mul, add, factors, scratch
    ):
        # What `block_of` returns, and where the factors of the block are.
        picked = uint32s(scratch, picked_at)
        padded = offset_by(scratch, padded_at + 8 * tile, codes)
        source, at, have, following = block_of(
            codes, words, n, first, last, tile, allowed, filtered, picked, padded
        )
        row_mul = offset_by(mul, first * 4 * factors, mul)
        row_add = offset_by(add, first * 4 * factors, mul)
        if factors and (filtered or first + tile > n):
            own_mul = offset_by(scratch, padded_at, mul)
            own_add = offset_by(scratch, padded_at + 4 * tile, mul)
            for i in range(have):
                row = row_at(i, first, filtered, picked)
                own_mul[i] = mul[row]
                own_add[i] = add[row]
            for i in range(have, tile):
                own_mul[i] = np.float32(0.0)
                own_add[i] = np.float32(0.0)
            row_mul = own_mul
            row_add = own_add
        return source, at, have, following, row_mul, row_add

    @jit
    def fetch_factors(mul, add, row, factors):
        for line in range(4 * row, 4 * (row + tile) * factors, 64):
            prefetch(mul, line)
            prefetch(add, line)

    return block_with_factors, fetch_factors


def _collector(v: SimpleNamespace) -> Any:
    """The function that scores the sums of a block and appends the hits."""
    load, store, either = v.load, v.store, v.either
    splat8, splat16, greater16, nonzero = v.splat8, v.splat16, v.greater16, v.nonzero
    zip_low, zip_high, lanes = v.zip_low, v.zip_high, v.lanes
    tile = 4 * lanes
    scores_at, picked_at = 4 * tile, 8 * tile

    @jit
    def reachable(limit, step, base, size):
        # A 16-bit sum at or below this cannot score above the limit, whatever the rounding.
        slack = 2.0 + (abs(np.float64(base)) + abs(np.float64(limit))) / step * 1e-6
        lowest = (np.float64(limit) - base) / step
        lowest = np.floor((lowest + size) * 0.5 - slack) - 32768.0
        return np.intp(min(max(lowest, -32768.0), 32767.0))

    @njit(error_model="numpy", inline="never")
    def report(
        start, have, filtered, numbers, numbered, own, scores, limits, found, keys, capacity, k,
        scratch,
    ):  # fmt: skip
        picked = uint32s(scratch, picked_at)
        for j in range(have):
            score = scores[j]
            if not (score <= limits[own]):
                cut = make_room(keys, found, own, capacity, k, 1)
                if cut >= 0:
                    limit = _score_below(cut) if numbered else _score(cut)
                    # Another worker may have raised it meanwhile.
                    if not (limits[own] >= limit):
                        limits[own] = limit
                append(
                    keys, found, own, capacity, k, _descending(score),
                    row_at(j, start, filtered, picked), numbers, numbered,
                )  # fmt: skip

    @jit
    def collect(
        start, have, filtered, numbers, numbered, own, mine, step, base, size, row_mul, row_add,
        factors, limits, found, keys, capacity, k, scratch,
    ):  # fmt: skip
        # Score the sums of a block, which stand at byte `mine`, and append what is above the limit.
        limit = limits[own]
        if factors == 0 and limit == limit:
            lowest = reachable(limit, step, base, size)
            low = splat16(lowest)
            hits = splat8(0)
            for j in range(8):
                hits = either(hits, greater16(load(scratch, mine + j * lanes), low))
            # Where the limit lets hits with the least of all scores through, all sums reach it.
            if lowest > -32768 and not nonzero(hits):
                return
        # In the order of the rows: even and odd codes take turns.
        for j in range(0, 8 * lanes, 2 * lanes):
            even = load(scratch, mine + j)
            odd = load(scratch, mine + j + lanes)
            store(scratch, mine + j, zip_low(even, odd))
            store(scratch, mine + j + lanes, zip_high(even, odd))
        # Whole numbers below 2**24: exact in float32, in any order.
        scores = offset_by(scratch, scores_at, row_mul)
        totals = int16s(scratch, mine)
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
            report(
                start, have, filtered, numbers, numbered, own, scores, limits, found, keys,
                capacity, k, scratch,
            )  # fmt: skip

    return collect


def one_scan(lanes: int, shuffle_name: str | None) -> Any:
    """`scan_one`: `scan` for tasks of one query each.

    Byte columns are looked up while they are in registers: nothing of the transposition is stored.
    No 8 neighbouring look-ups exceed 255.
    """
    v = vectors(lanes, shuffle_name)
    store, table, shuffle, both, right16 = v.store, v.table, v.shuffle, v.both, v.right16
    add8, add16, splat8, splat16 = v.add8, v.add16, v.splat8, v.splat16
    pair_columns, word_columns = v.pair_columns, v.word_columns
    block_with_factors, fetch_factors = _blocks(lanes)
    collect = _collector(v)

    @jit
    def looked_up(column, tables, at):
        # Both half-bytes of a byte column.
        low = shuffle(table(tables, at), both(column, splat8(15)))
        high = shuffle(table(tables, at + 16), both(right16(column, 4), splat8(15)))
        return add8(low, high)

    @jit
    def four(c, tables, at):
        first = add8(looked_up(c[0], tables, at), looked_up(c[1], tables, at + 32))
        last = add8(looked_up(c[2], tables, at + 64), looked_up(c[3], tables, at + 96))
        return add8(first, last)

    @jit
    def word(c, tables, at, even, odd):
        # The byte columns of a word, added to the 16-bit sums of the even and the odd codes.
        s = four(c[:4], tables, at)
        even = add16(even, both(s, splat16(255)))
        odd = add16(odd, right16(s, 8))
        s = four(c[4:], tables, at + 128)
        return add16(even, both(s, splat16(255))), add16(odd, right16(s, 8))

    @njit(error_model="numpy", inline="never")
    def block_sums(source, place, words, tables, codes, fetch, ahead, scratch):
        # The 16-bit sums of a block, at the begin of `scratch`. Lines are fetched a few at a time:
        # all of a group's at once would wait for each other.
        pitch = words * 8
        for group in range(4):
            even = splat16(-32768)
            odd = even
            at = place + group * lanes * pitch
            for i in range(0, words - 1, 2):
                for line in range(fetch, fetch + ahead, 64):
                    prefetch(codes, line)
                fetch += ahead
                c = pair_columns(source, at + i * 8, pitch, splat8(0))
                even, odd = word(c[:8], tables, i * 256, even, odd)
                even, odd = word(c[8:], tables, i * 256 + 256, even, odd)
            if words & 1:
                for line in range(fetch, fetch + ahead // 2, 64):
                    prefetch(codes, line)
                fetch += ahead // 2
                i = words - 1
                c = word_columns(source, at + i * 8, pitch, splat8(0))
                even, odd = word(c, tables, i * 256, even, odd)
            store(scratch, 2 * group * lanes, even)
            store(scratch, (2 * group + 1) * lanes, odd)

    def scan_one(
        codes, words, n, tasks, n_tasks, allowed, filtered, numbers, numbered, tables, steps,
        bases, sizes, ends, sections, mul, add, factors, members, limits, found, keys, capacity, k,
        scratch,
    ):  # fmt: skip
        pitch = words * 8
        for task in range(n_tasks):
            own = members[tasks[4 * task + 2]]
            own_tables = offset_by(tables, own * words * 256, tables)
            start = tasks[4 * task]
            last = tasks[4 * task + 1]
            while start < last:
                source, place, have, following, row_mul, row_add = block_with_factors(
                    codes, words, n, start, last, allowed, filtered, mul, add, factors, scratch
                )
                fetch = next_row(tasks, task, n_tasks, following, last)
                if following >= last:
                    fetch_factors(mul, add, fetch, factors)
                # With every two words, as many lines.
                ahead = 16 * lanes
                if filtered:
                    ahead = 0
                block_sums(source, place, words, own_tables, codes, fetch * pitch, ahead, scratch)
                collect(
                    start, have, filtered, numbers, numbered, own, 0, steps[own], bases[own],
                    sizes[own], row_mul, row_add, factors, limits, found, keys, capacity, k,
                    scratch,
                )  # fmt: skip
                start = following

    return scan_one


def batch_scan(lanes: int, shuffle_name: str | None) -> Any:
    """`scan`: append the allowed rows that score above a query's limit, task by task.

    Of its parameters, these differ from those of `rows.scan_rows`.

    tables : 16 bytes per query and half-byte; steps, bases : float32*; sizes : int32*, sum |u|;
    ends : int64*, the half-bytes at which the `sections` end; mul, add : float32*, a row's factor
    and addend, read only if `factors` is 1; limits : float32*, NaN for none. `members` come in
    pairs: of ``~query``, which only fills one up, nothing is kept.
    """
    v = vectors(lanes, shuffle_name)
    load, store, table, load_four = v.load, v.store, v.table, v.load_four
    shuffle_four, add_four, both, right16 = v.shuffle_four, v.add_four, v.both, v.right16
    add16, splat8, splat16 = v.add16, v.splat8, v.splat16
    transpose = half_byte_columns(v, counted=False)
    block_with_factors, fetch_factors = _blocks(lanes)
    collect = _collector(v)
    tile = 4 * lanes

    @jit
    def widen(s, scratch, at):
        store(scratch, at, add16(load(scratch, at), both(s, splat16(255))))
        store(scratch, at + lanes, add16(load(scratch, at + lanes), right16(s, 8)))

    def scan(
        codes, words, n, tasks, n_tasks, allowed, filtered, numbers, numbered, tables, steps,
        bases, sizes, ends, sections, mul, add, factors, members, limits, found, keys, capacity, k,
        scratch,
    ):  # fmt: skip
        block = 20 * tile + 8 * words * tile
        zero = splat8(0)
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
                source, at, have, following, row_mul, row_add = block_with_factors(
                    codes, words, n, start, last, allowed, filtered, mul, add, factors, scratch
                )
                fetch = next_row(tasks, task, n_tasks, following, last)
                if following >= last:
                    fetch_factors(mul, add, fetch, factors)
                fetch *= words * 8
                fetched = fetch + whole
                transpose(source, at, words, codes, scratch, 0, block)
                for member in range(begin, end, GROUP):
                    for i in range(0, 4 * tile, lanes):
                        store(scratch, i, splat16(-32768))
                    m0 = members[member]
                    m1 = members[member + 1]
                    t = (m0 ^ (m0 >> 63)) * words * 256
                    u = (m1 ^ (m1 >> 63)) * words * 256
                    x = block
                    place = np.int64(0)
                    for section in range(sections):
                        for line in range(fetch, min(fetch + ahead, fetched), 64):
                            prefetch(codes, line)
                        fetch += ahead
                        a = (zero, zero, zero, zero)
                        b = a
                        while place < ends[section]:
                            columns = load_four(scratch, x)
                            a = add_four(a, shuffle_four(table(tables, t), columns))
                            b = add_four(b, shuffle_four(table(tables, u), columns))
                            t += 16
                            u += 16
                            x += 4 * lanes
                            place += 1
                        widen(a[0], scratch, 0)
                        widen(a[1], scratch, 2 * lanes)
                        widen(a[2], scratch, 4 * lanes)
                        widen(a[3], scratch, 6 * lanes)
                        widen(b[0], scratch, 8 * lanes)
                        widen(b[1], scratch, 10 * lanes)
                        widen(b[2], scratch, 12 * lanes)
                        widen(b[3], scratch, 14 * lanes)
                    for i in range(2):
                        own = members[member + i]
                        if own >= 0:
                            collect(
                                start, have, filtered, numbers, numbered, own, i * 8 * lanes,
                                steps[own], bases[own], sizes[own], row_mul, row_add, factors,
                                limits, found, keys, capacity, k, scratch,
                            )  # fmt: skip
                start = following

    return scan
