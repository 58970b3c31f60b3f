"""Turn row-major codes into columns of bytes and half-bytes (kernel source).

The file keeps codes row by row; a byte shuffle looks up one half-byte of many codes.  Codes are
therefore transposed when they are scanned: a block at a time, once for all queries of the call, or
for a single query in registers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from numba import njit


def byte_columns(v: SimpleNamespace) -> Any:
    """The transposition of one word of `lanes` codes, for registers of ``v.lanes`` bytes.

    Parameters
    ----------
    v : SimpleNamespace
        What `simd` returns.

    Returns
    -------
    numba function ``(source, at, pitch, flip)``
        Reads a word of every code: the first at byte `at` of `source`, the others `pitch` bytes
        apart; XORs each with its part of the register `flip`. Returns 8 registers: one for each
        byte of the word, the least significant first, with the codes in the order of their rows.
    """
    rows, differ = v.rows, v.differ
    low8, high8, low16, high16 = v.unpack_low8, v.unpack_high8, v.unpack_low16, v.unpack_high16
    low32, high32, low64, high64 = v.unpack_low32, v.unpack_high32, v.unpack_low64, v.unpack_high64

    @njit(error_model="numpy", forceinline=True)
    def columns(source, at, pitch, flip):
        # Register j takes rows j, j + 8, j + 16, ...: then four rounds of interleaving, which work
        # within 16 bytes, leave every byte column in the order of the rows.
        r0 = differ(rows(source, at, 8 * pitch), flip)
        r1 = differ(rows(source, at + pitch, 8 * pitch), flip)
        r2 = differ(rows(source, at + 2 * pitch, 8 * pitch), flip)
        r3 = differ(rows(source, at + 3 * pitch, 8 * pitch), flip)
        r4 = differ(rows(source, at + 4 * pitch, 8 * pitch), flip)
        r5 = differ(rows(source, at + 5 * pitch, 8 * pitch), flip)
        r6 = differ(rows(source, at + 6 * pitch, 8 * pitch), flip)
        r7 = differ(rows(source, at + 7 * pitch, 8 * pitch), flip)
        # a*: codes 0 to 7 of every 16, b*: codes 8 to 15.
        a01 = low8(r0, r1)
        b01 = high8(r0, r1)
        a23 = low8(r2, r3)
        b23 = high8(r2, r3)
        a45 = low8(r4, r5)
        b45 = high8(r4, r5)
        a67 = low8(r6, r7)
        b67 = high8(r6, r7)
        # The digit: which four bytes of the word.
        a0 = low16(a01, a23)
        a1 = high16(a01, a23)
        a2 = low16(a45, a67)
        a3 = high16(a45, a67)
        b0 = low16(b01, b23)
        b1 = high16(b01, b23)
        b2 = low16(b45, b67)
        b3 = high16(b45, b67)
        x0 = low32(a0, a2)
        y0 = low32(b0, b2)
        x1 = high32(a0, a2)
        y1 = high32(b0, b2)
        x2 = low32(a1, a3)
        y2 = low32(b1, b3)
        x3 = high32(a1, a3)
        y3 = high32(b1, b3)
        return (
            low64(x0, y0), high64(x0, y0), low64(x1, y1), high64(x1, y1),
            low64(x2, y2), high64(x2, y2), low64(x3, y3), high64(x3, y3),
        )  # fmt: skip

    return columns


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
    store, broadcast, set_bits = v.store, v.broadcast, v.set_bits
    add8, add16, both, right16 = v.add8, v.add16, v.both, v.right16
    splat8, splat16, lanes = v.splat8, v.splat16, v.lanes
    columns = byte_columns(v)

    @njit(error_model="numpy", forceinline=True)
    def split(column, count, scratch, at):
        low = both(column, splat8(15))
        high = both(right16(column, 4), splat8(15))
        store(scratch, at, low)
        store(scratch, at + 4 * lanes, high)
        if counted:
            return add8(count, set_bits(column))
        return count

    @njit(error_model="numpy")
    def transpose(source, at, words, mask, scratch, ones, block):
        pitch = words * 8
        for group in range(4):
            even = splat8(0)
            odd = splat8(0)
            for word in range(words):
                flip = splat8(0)
                if counted:
                    flip = broadcast(mask, word * 8)
                a = at + group * lanes * pitch + word * 8
                c0, c1, c2, c3, c4, c5, c6, c7 = columns(source, a, pitch, flip)
                to = block + word * 64 * lanes + group * lanes
                count = split(c0, splat8(0), scratch, to)
                count = split(c1, count, scratch, to + 8 * lanes)
                count = split(c2, count, scratch, to + 16 * lanes)
                count = split(c3, count, scratch, to + 24 * lanes)
                count = split(c4, count, scratch, to + 32 * lanes)
                count = split(c5, count, scratch, to + 40 * lanes)
                count = split(c6, count, scratch, to + 48 * lanes)
                count = split(c7, count, scratch, to + 56 * lanes)
                even = add16(even, both(count, splat16(255)))
                odd = add16(odd, right16(count, 8))
            if counted:
                store(scratch, ones + 2 * group * lanes, even)
                store(scratch, ones + (2 * group + 1) * lanes, odd)

    return transpose
