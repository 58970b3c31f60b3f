"""Turn a block of row-major codes into columns of half-bytes (kernel source).

The file keeps codes row by row; a byte shuffle looks up one half-byte of many codes.  A block is
therefore transposed when it is scanned, once for all queries of the call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from numba import njit


def byte_columns(v: SimpleNamespace) -> Any:
    """The transposition for registers of ``v.lanes`` bytes.

    Parameters
    ----------
    v : SimpleNamespace
        What `simd` returns.

    Returns
    -------
    numba function ``(source, at, words, mask, scratch, ones, block)``
        Reads 4 groups of `lanes` codes at byte `at` of `source`, XORs every code with `mask`
        (words,), and writes at byte `block` of `scratch`, half-byte by half-byte, the least
        significant first, one byte for each code; and at byte `ones` the set bits of each code
        as 16-bit numbers, per group the even codes and then the odd ones.
    """
    store, rows, broadcast, shuffle = v.store, v.rows, v.broadcast, v.shuffle
    add8, add16, both, differ, right16 = v.add8, v.add16, v.both, v.differ, v.right16
    splat8, splat16, set_bits, lanes = v.splat8, v.splat16, v.set_bits, v.lanes
    low8, high8, low16, high16 = v.unpack_low8, v.unpack_high8, v.unpack_low16, v.unpack_high16
    low32, high32, low64, high64 = v.unpack_low32, v.unpack_high32, v.unpack_low64, v.unpack_high64

    @njit(error_model="numpy")
    def split(column, count, scratch, at):
        low = both(column, splat8(15))
        high = both(right16(column, 4), splat8(15))
        store(scratch, at, low)
        store(scratch, at + 4 * lanes, high)
        return add8(count, add8(shuffle(set_bits(), low), shuffle(set_bits(), high)))

    @njit(error_model="numpy")
    def transpose(source, at, words, mask, scratch, ones, block):
        # Register j takes rows j, j + 8, j + 16, ...: then four rounds of interleaving, which work
        # within 16 bytes, leave every byte column in the order of the rows.
        pitch = words * 8
        for group in range(4):
            even = splat8(0)
            odd = splat8(0)
            for word in range(words):
                a = at + group * lanes * pitch + word * 8
                flip = broadcast(mask, word * 8)
                r0 = differ(rows(source, a, 8 * pitch), flip)
                r1 = differ(rows(source, a + pitch, 8 * pitch), flip)
                r2 = differ(rows(source, a + 2 * pitch, 8 * pitch), flip)
                r3 = differ(rows(source, a + 3 * pitch, 8 * pitch), flip)
                r4 = differ(rows(source, a + 4 * pitch, 8 * pitch), flip)
                r5 = differ(rows(source, a + 5 * pitch, 8 * pitch), flip)
                r6 = differ(rows(source, a + 6 * pitch, 8 * pitch), flip)
                r7 = differ(rows(source, a + 7 * pitch, 8 * pitch), flip)
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
                to = block + word * 64 * lanes + group * lanes
                count = splat8(0)
                x = low32(a0, a2)
                y = low32(b0, b2)
                count = split(low64(x, y), count, scratch, to)
                count = split(high64(x, y), count, scratch, to + 8 * lanes)
                x = high32(a0, a2)
                y = high32(b0, b2)
                count = split(low64(x, y), count, scratch, to + 16 * lanes)
                count = split(high64(x, y), count, scratch, to + 24 * lanes)
                x = low32(a1, a3)
                y = low32(b1, b3)
                count = split(low64(x, y), count, scratch, to + 32 * lanes)
                count = split(high64(x, y), count, scratch, to + 40 * lanes)
                x = high32(a1, a3)
                y = high32(b1, b3)
                count = split(low64(x, y), count, scratch, to + 48 * lanes)
                count = split(high64(x, y), count, scratch, to + 56 * lanes)
                even = add16(even, both(count, splat16(255)))
                odd = add16(odd, right16(count, 8))
            store(scratch, ones + 2 * group * lanes, even)
            store(scratch, ones + (2 * group + 1) * lanes, odd)

    return transpose
