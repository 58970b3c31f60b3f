"""Fingerprints of shingled texts (kernel source; imported only to be compiled).

All arithmetic is on integers, so that a fingerprint is the same on every platform.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cfunc, types

from binq.kernels.source.scalars import jit

_LANES = 8
# Sums of so many values between -510 and 510 fit 32 bits.
_FLUSH = 1 << 20


@jit
def _mix(x):
    # The finalizer of splitmix64: scrambles 64 bits so that each depends on all (Steele, Lea,
    # Flood: Fast splittable pseudorandom number generators, OOPSLA 2014, figure 15).
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def _shingle(points, start, stop):
    state = np.uint64(0x9E3779B97F4A7C15)
    for i in range(start, stop):
        state = _mix(state ^ np.uint64(points[i]))
    return state


@jit
def _byte_sum(word):
    pairs = np.uint32(word & np.uint32(0x00FF00FF))
    pairs = np.uint32(pairs + np.uint32((word >> np.uint32(8)) & np.uint32(0x00FF00FF)))
    return np.int32(np.uint32(pairs & np.uint32(0xFFFF)) + np.uint32(pairs >> np.uint32(16)))


@jit
def _write(bit, codes, at, j):
    byte = at + j // _LANES
    codes[byte] = np.uint8(codes[byte] | np.uint8(bit << (_LANES - 1 - j % _LANES)))


def _simhash(points, offsets, first, last, width, masks, multipliers, bytes_, codes, part, sums):
    """The signs of random projections of shingle counts, for the texts ``[first, last)``.

    `part` (int32) and `sums` (int64) have a place per bit.
    """
    bits = bytes_ * _LANES
    for row in range(first, last):
        start = offsets[row]
        stop = offsets[row + 1]
        for j in range(bits):
            sums[j] = 0
            part[j] = 0
        final = max(stop - width, start)
        for at in range(start, final + 1):
            key = _shingle(points, at, min(at + width, stop))
            low = np.uint32(key & np.uint64(0xFFFFFFFF))
            high = np.uint32(key >> np.uint64(32))
            for j in range(bits):
                hashed = np.uint32(np.uint32((low ^ masks[j]) * multipliers[j]) ^ high)
                hashed = np.uint32(
                    np.uint32(hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x7FEB352D)
                )
                hashed = np.uint32(
                    np.uint32(hashed ^ (hashed >> np.uint32(15))) * np.uint32(0x846CA68B)
                )
                hashed = np.uint32(hashed ^ (hashed >> np.uint32(16)))
                part[j] = np.int32(part[j] + _byte_sum(hashed) - np.int32(510))
            if (at - start) % _FLUSH == _FLUSH - 1 or at == final:
                for j in range(bits):
                    sums[j] += part[j]
                    part[j] = 0
        for j in range(bits):
            _write(np.uint8(sums[j] > 0), codes, row * bytes_, j)


def _minhash(points, offsets, first, last, width, masks, multipliers, bytes_, codes, least):
    """One bit of the smallest hash of the shingle set, per hash function.

    `least` (uint32) has a place per bit. An odd multiplier permutes the 32-bit words.
    """
    bits = bytes_ * _LANES
    for row in range(first, last):
        start = offsets[row]
        stop = offsets[row + 1]
        for j in range(bits):
            least[j] = np.uint32(0xFFFFFFFF)
        for at in range(start, max(stop - width, start) + 1):
            key = _shingle(points, at, min(at + width, stop))
            low = np.uint32(key & np.uint64(0xFFFFFFFF))
            high = np.uint32(key >> np.uint64(32))
            for j in range(bits):
                hashed = np.uint32(np.uint32(low ^ masks[j]) * multipliers[j])
                hashed = np.uint32(
                    np.uint32(hashed ^ (hashed >> np.uint32(15)) ^ high) * multipliers[j]
                )
                least[j] = min(least[j], hashed)
        for j in range(bits):
            # The minimum is small by selection; its bit has to come from a fresh scramble.
            scrambled = _mix((np.uint64(multipliers[j]) << np.uint64(32)) | np.uint64(least[j]))
            _write(np.uint8(scrambled & np.uint64(1)), codes, row * bytes_, j)


def kernels(_features: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family; the same for every CPU."""
    compiled = partial(cfunc, error_model="numpy")
    u8, u32 = types.CPointer(types.uint8), types.CPointer(types.uint32)
    i32, i64 = types.CPointer(types.int32), types.CPointer(types.int64)
    size = types.intp
    texts = (u32, i64, size, size, size, u32, u32, size, u8)
    return {
        "simhash": compiled(types.void(*texts, i32, i64))(_simhash),
        "minhash": compiled(types.void(*texts, u32))(_minhash),
    }, {}
