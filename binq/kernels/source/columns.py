"""Turn a block of row-major codes into columns of half-bytes (kernel source).

The file keeps codes row by row; a byte shuffle looks up one half-byte of many codes.  A block is
therefore transposed when it is scanned, once for all queries of the call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.scalars import jit


@jit
def copy_rows(codes, words, first, last, rows, padded):
    """Complete a last, partial block with zeros, so that nothing beyond the codes is read."""
    have = (last - first) * words
    for i in range(have):
        padded[i] = codes[first * words + i]
    for i in range(have, rows * words):
        padded[i] = np.uint64(0)


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
    def word(c0, c1, c2, c3, c4, c5, c6, c7, count, scratch, to):
        count = split(c0, count, scratch, to)
        count = split(c1, count, scratch, to + 8 * lanes)
        count = split(c2, count, scratch, to + 16 * lanes)
        count = split(c3, count, scratch, to + 24 * lanes)
        count = split(c4, count, scratch, to + 32 * lanes)
        count = split(c5, count, scratch, to + 40 * lanes)
        count = split(c6, count, scratch, to + 48 * lanes)
        return split(c7, count, scratch, to + 56 * lanes)

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
                place = to + i * 64 * lanes
                count = word(
                    c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], splat8(0), scratch, place
                )
                place += 64 * lanes
                count = word(
                    c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15], count, scratch, place
                )
                even = add16(even, both(count, splat16(255)))
                odd = add16(odd, right16(count, 8))
            if words & 1:
                flip = splat8(0)
                if counted:
                    flip = broadcast(mask, (words - 1) * 8)
                c = word_columns(source, a + (words - 1) * 8, pitch, flip)
                place = to + (words - 1) * 64 * lanes
                count = word(
                    c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], splat8(0), scratch, place
                )
                even = add16(even, both(count, splat16(255)))
                odd = add16(odd, right16(count, 8))
            if counted:
                store(scratch, ones + 2 * group * lanes, even)
                store(scratch, ones + (2 * group + 1) * lanes, odd)

    return transpose
