"""Kernels that turn shingled text into near-duplicate fingerprints.

A shingle is a run of ``width`` code points; a text shorter than that is one shingle of its own.
All arithmetic is on integers, so that a fingerprint is the same on every platform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int32, njit, prange, uint32, uint64
from numpy.typing import NDArray

_LANES = 8
# Sums of so many values between -510 and 510 fit 32 bits.
_FLUSH = 1 << 20


@njit(cache=True, inline="always")
def _mix(x: Any) -> Any:
    """Scramble 64 bits so that each depends on all: the finalizer of splitmix64.

    Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014, figure 15.
    """
    x = uint64(x)
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))


@njit(cache=True, inline="always")
def _shingle(points: NDArray[np.uint32], start: int, stop: int) -> Any:
    state = uint64(0x9E3779B97F4A7C15)
    for i in range(start, stop):
        state = _mix(state ^ uint64(points[i]))
    return state


@njit(cache=True, inline="always")
def _low(key: Any) -> Any:
    return uint32(key & uint64(0xFFFFFFFF))


@njit(cache=True, inline="always")
def _high(key: Any) -> Any:
    return uint32(key >> uint64(32))


@njit(cache=True, inline="always")
def _byte_sum(word: Any) -> Any:
    pairs = uint32(uint32(word & uint32(0x00FF00FF)) + uint32((word >> 8) & uint32(0x00FF00FF)))
    return int32(uint32(pairs & uint32(0xFFFF)) + uint32(pairs >> uint32(16)))


@njit(cache=True, inline="always")
def _write(bit: Any, row: NDArray[np.uint8], j: int) -> None:
    row[j // _LANES] = row[j // _LANES] | (bit << (_LANES - 1 - j % _LANES))


@njit(cache=True, parallel=True)
def simhash(
    points: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    width: int,
    masks: NDArray[np.uint32],
    multipliers: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> None:
    """Compute the signs of random projections of shingle counts.

    Charikar: Similarity estimation techniques from rounding algorithms, STOC 2002, section 3: two
    texts whose count vectors enclose the angle t differ in each bit with probability t / pi, if
    the projections are normally distributed. The sum of four uniform bytes stands in for that.

    Parameters
    ----------
    points : (total,) uint32
        The code points of all texts, one after another.
    offsets : (n + 1,) int64
        Where each text begins in ``points``.
    width : int
        Code points in a shingle.
    masks, multipliers : (8 * bytes,) uint32
        Random, and random odd numbers; a pair of them makes one hash function.
    out : (n, bytes) uint8
        Zeros; receives the codes, first bit on top. ``8 * bytes`` is their width.
    """
    n, octets = out.shape
    bits = octets * _LANES
    for row in prange(n):
        start, stop = offsets[row], offsets[row + 1]
        sums = np.zeros(bits, np.int64)
        part = np.zeros(bits, np.int32)
        last = max(stop - width, start)
        for at in range(start, last + 1):
            key = _shingle(points, at, min(at + width, stop))
            low, high = _low(key), _high(key)
            for j in range(bits):
                hashed = uint32(uint32((low ^ masks[j]) * multipliers[j]) ^ high)
                hashed = uint32((hashed ^ (hashed >> uint32(16))) * uint32(0x7FEB352D))
                hashed = uint32((hashed ^ (hashed >> uint32(15))) * uint32(0x846CA68B))
                hashed = uint32(hashed ^ (hashed >> uint32(16)))
                part[j] = int32(part[j] + _byte_sum(hashed) - int32(510))
            if (at - start) % _FLUSH == _FLUSH - 1 or at == last:
                for j in range(bits):
                    sums[j] += part[j]
                    part[j] = 0
        for j in range(bits):
            _write(1 if sums[j] > 0 else 0, out[row], j)


@njit(cache=True, parallel=True)
def minhash(
    points: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    width: int,
    masks: NDArray[np.uint32],
    multipliers: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> None:
    """Compute one bit of the smallest hash of the shingle set, per hash function.

    Li, Koenig: b-bit minwise hashing, WWW 2010, with b = 1: two texts whose shingle sets have the
    Jaccard similarity J differ in each bit with probability (1 - J) / 2.

    Parameters
    ----------
    points, offsets, width, masks, multipliers, out
        See `simhash`. An odd multiplier permutes the 32-bit words.
    """
    n, octets = out.shape
    bits = octets * _LANES
    for row in prange(n):
        start, stop = offsets[row], offsets[row + 1]
        smallest = np.full(bits, uint32(0xFFFFFFFF), np.uint32)
        last = max(stop - width, start)
        for at in range(start, last + 1):
            key = _shingle(points, at, min(at + width, stop))
            low, high = _low(key), _high(key)
            for j in range(bits):
                hashed = uint32((low ^ masks[j]) * multipliers[j])
                hashed = uint32((hashed ^ (hashed >> uint32(15)) ^ high) * multipliers[j])
                smallest[j] = min(smallest[j], hashed)
        for j in range(bits):
            # The minimum is small by selection; its bit has to come from a fresh scramble.
            scrambled = _mix((uint64(multipliers[j]) << uint64(32)) | uint64(smallest[j]))
            _write(scrambled & uint64(1), out[row], j)
