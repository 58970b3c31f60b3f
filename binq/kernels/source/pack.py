"""Floats to bits in one touch (kernel source).

While a row is in registers, three things are taken from it: its code, whether every value is
finite, and its sum of squares.  Memory is the bound.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types

from binq.kernels.source.scalars import I32, U64, address, instruction, offset_by

_F32 = types.CPointer(types.float32)
_U8 = types.CPointer(types.uint8)
_U64 = types.CPointer(types.uint64)
_INT = types.intp
_INFINITE = 0x7F800000
# Floats of scratch: the state of a row, and its last values.
SCRATCH = 32 + 64

_LANES = 16
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)
_BITS = ir.VectorType(I32, _LANES)


@instruction(types.uint64, None, types.intp, None, types.intp, None)
def _word(builder, row, at, thresholds, first, state):
    """Pack the 64 floats at byte `at` of `row` against the thresholds at byte `first`.

    `state` holds 16 lanes of the largest magnitude seen (as bits) and 16 sums of squares.
    """
    largest_at = address(builder, state, U64(0), _BITS)
    squares_at = address(builder, state, U64(64), _FLOATS)
    largest = builder.load(largest_at, align=4)
    squares = builder.load(squares_at, align=4)
    word = U64(0)
    magnitude = ir.Constant(_BITS, [0x7FFFFFFF] * _LANES)
    for part in range(64 // _LANES):
        step = U64(part * _LANES * 4)
        x = builder.load(address(builder, row, builder.add(at, step), _FLOATS), align=4)
        beside = address(builder, thresholds, builder.add(first, step), _FLOATS)
        limit = builder.load(beside, align=4)
        above = builder.bitcast(builder.fcmp_ordered(">", x, limit), ir.IntType(_LANES))
        shifted = builder.shl(builder.zext(above, U64), U64(part * _LANES))
        word = builder.or_(word, shifted)
        size = builder.and_(builder.bitcast(x, _BITS), magnitude)
        larger = builder.icmp_signed(">", size, largest)
        largest = builder.select(larger, size, largest)
        squares = builder.fadd(squares, builder.fmul(x, x))
    builder.store(largest, largest_at, align=4)
    builder.store(squares, squares_at, align=4)
    return word


@instruction(types.boolean, None)
def _finite(builder, state):
    """Whether all magnitudes in `state` are below infinity."""
    largest = builder.load(builder.bitcast(state, _BITS.as_pointer()), align=4)
    limit = ir.Constant(_BITS, [_INFINITE] * _LANES)
    beyond = builder.icmp_signed(">=", largest, limit)
    whole = builder.bitcast(beyond, ir.IntType(_LANES))
    return builder.icmp_unsigned("==", whole, ir.Constant(whole.type, 0))


def _pack(x, stride, first, last, dim, thresholds, codes, words, finite, squares, scratch):
    """Pack rows ``[first, last)``, `stride` bytes apart.

    thresholds : (64 * words,), infinity behind the last; scratch : `SCRATCH` floats.
    """
    rest = offset_by(scratch, 128, scratch)
    whole = dim >> 6
    for row in range(first, last):
        for i in range(32):
            scratch[i] = np.float32(0.0)
        at = row * stride
        for word in range(whole):
            codes[row * words + word] = _word(x, at + word * 256, thresholds, word * 256, scratch)
        if whole < words:
            tail = offset_by(x, at + whole * 256, x)
            have = dim - whole * 64
            for i in range(have):
                rest[i] = tail[i]
            for i in range(have, 64):
                rest[i] = np.float32(0.0)
            codes[row * words + whole] = _word(rest, 0, thresholds, whole * 256, scratch)
        finite[row] = np.uint8(_finite(scratch))
        half = 8
        while half:
            for i in range(16, 16 + half):
                scratch[i] += scratch[i + half]
            half >>= 1
        squares[row] = scratch[16]


def kernels(_features: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family; the same for every CPU."""
    signature = types.void(_F32, _INT, _INT, _INT, _INT, _F32, _U64, _INT, _U8, _F32, _F32)
    return {"pack": partial(cfunc, error_model="numpy")(signature)(_pack)}, {
        "scratch.floats": SCRATCH
    }
