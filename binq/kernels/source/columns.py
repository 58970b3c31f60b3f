"""Turn a block of row-major codes into columns of half-bytes (kernel source).

The file keeps codes row by row; a byte shuffle looks up one half-byte of many codes.  A block is
therefore transposed when it is scanned, once for all queries of the call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.scalars import copy_bytes, jit, popcount, trailing_zeros


@jit
def pick(allowed, at, last, most, picked):
    """Write the next allowed rows of ``[at, last)`` to `picked`, at most `most` of them.

    Returns how many these are, and the row to go on from.
    """
    count = np.intp(0)
    while at < last and count < most:
        bits = allowed[at >> 6] >> np.uint64(at & 63)
        if bits == np.uint64(0):
            at = (at | 63) + 1
        else:
            at += np.intp(trailing_zeros(bits))
            if at < last:
                picked[count] = np.uint32(at)
                count += 1
            at += 1
    return count, min(at, last)


@jit
def many(allowed, first, last):
    """Whether more than an eighth of some rows is allowed, judged by the whole words around them.

    Then it costs less to look at all of them, one after another, than to pick these.
    """
    total = np.uint64(0)
    for word in range(first >> 6, (last + 63) >> 6):
        total += popcount(allowed[word])
    return 8 * np.intp(total) > last - first


@jit
def is_allowed(allowed, row):
    return (allowed[row >> 6] >> np.uint64(row & 63)) & np.uint64(1) != np.uint64(0)


@jit
def block_of(codes, words, n, at, last, size, allowed, filtered, picked, padded):
    """The next `size` rows of ``[at, last)`` to look at, where they can be read as a whole.

    A block of allowed rows, and a last, partial one, are copied to `padded` and completed with
    zeros, so that nothing beyond the `n` codes is read.

    Returns
    -------
    pointer to the codes, byte of the block, rows in it, row to go on from
    """
    if filtered:
        have, following = pick(allowed, at, last, size, picked)
        for i in range(have):
            row = np.intp(picked[i]) * words
            copy_bytes(padded, i * words * 8, codes, row * 8, words * 8)
    else:
        have = min(size, last - at)
        following = at + have
        if at + size <= n:
            return codes, at * words * 8, have, following
        for i in range(have * words):
            padded[i] = codes[at * words + i]
    for i in range(have * words, size * words):
        padded[i] = np.uint64(0)
    return padded, np.intp(0), have, following


@jit
def row_at(position, at, filtered, picked):
    """The row at a position of the block that begins at row `at`."""
    if filtered:
        return np.intp(picked[position])
    return at + position


@jit
def next_row(tasks, task, n_tasks, following, last):
    """The row that is scanned when the block before `following` is done."""
    if following >= last and task + 1 < n_tasks:
        return tasks[4 * task + 4]
    return following


def half_byte_columns(v: SimpleNamespace, counted: bool) -> Any:
    """The transposition of a block of 4 groups of ``v.lanes`` codes.

    Parameters
    ----------
    v : SimpleNamespace
        What `simd` returns.
    counted : bool
        Whether codes are flipped and their bits counted.

    Returns
    -------
    numba function ``(source, at, words, mask, scratch, ones, block)``
        Reads the codes at byte `at` of `source` and writes at byte `block` of `scratch`, half-byte
        by half-byte, the least significant first, one byte for each code. If `counted`, XORs every
        code with `mask` (words,) first, and writes at byte `ones` the set bits of each code as
        16-bit numbers, per group the even codes and then the odd ones.
    """
    store, table, broadcast, set_bits = v.store, v.table, v.broadcast, v.set_bits
    add8, add16, both, right16 = v.add8, v.add16, v.both, v.right16
    splat8, splat16, lanes = v.splat8, v.splat16, v.lanes
    pair_columns, word_columns = v.pair_columns, v.word_columns

    @jit
    def split(column, count, scratch, at):
        store(scratch, at, both(column, splat8(15)))
        store(scratch, at + 4 * lanes, both(right16(column, 4), splat8(15)))
        if counted:
            return add8(count, set_bits(column))
        return count

    @jit
    def word(c, count, scratch, to):
        count = split(c[0], count, scratch, to)
        count = split(c[1], count, scratch, to + 8 * lanes)
        count = split(c[2], count, scratch, to + 16 * lanes)
        count = split(c[3], count, scratch, to + 24 * lanes)
        count = split(c[4], count, scratch, to + 32 * lanes)
        count = split(c[5], count, scratch, to + 40 * lanes)
        count = split(c[6], count, scratch, to + 48 * lanes)
        return split(c[7], count, scratch, to + 56 * lanes)

    @njit(error_model="numpy")
    def transpose(source, at, words, mask, scratch, ones, block):
        pitch = words * 8
        for group in range(4):
            even = splat8(0)
            odd = splat8(0)
            a = at + group * lanes * pitch
            to = block + group * lanes
            for i in range(0, words - 1, 2):
                flip = splat8(0)
                if counted:
                    flip = table(mask, i * 8)
                c = pair_columns(source, a + i * 8, pitch, flip)
                count = word(c[:8], splat8(0), scratch, to + i * 64 * lanes)
                count = word(c[8:], count, scratch, to + (i + 1) * 64 * lanes)
                even = add16(even, both(count, splat16(255)))
                odd = add16(odd, right16(count, 8))
            if words & 1:
                flip = splat8(0)
                if counted:
                    flip = broadcast(mask, (words - 1) * 8)
                c = word_columns(source, a + (words - 1) * 8, pitch, flip)
                count = word(c, splat8(0), scratch, to + (words - 1) * 64 * lanes)
                even = add16(even, both(count, splat16(255)))
                odd = add16(odd, right16(count, 8))
            if counted:
                store(scratch, ones + 2 * group * lanes, even)
                store(scratch, ones + (2 * group + 1) * lanes, odd)

    return transpose
