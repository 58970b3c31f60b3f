"""Real-valued weights as 4-bit units and their look-up tables (source; imported to be compiled)."""

from __future__ import annotations

import numpy as np

from binq.kernels.source.scalars import bits_float, float_bits, jit

LARGEST = 7
MAX_WORDS = 512
# 16-bit sums, to which rounding adds at most half a unit per bit.
_ROOM = 65535
_TINY = np.float32(1.1754944e-38)
# Adding and subtracting it rounds a small number to a whole one, ties to even.
_ROUND = np.float32(12582912.0)


@jit
def _step(weights, start, bits, words):
    # The largest weight is LARGEST steps; NaN if one is not finite.
    largest = 0.0
    total = 0.0
    finite = True
    for j in range(start, start + bits):
        size = abs(np.float64(weights[j]))
        finite &= size < np.inf
        total += size
        largest = max(largest, size)
    if not finite:
        return np.float32(np.nan)
    step = np.float32(max(largest / LARGEST, total / (_ROOM - words * 32)))
    # The next larger one: never rounded below what the limits need.
    step = bits_float(np.uint32(float_bits(step) + np.uint32(1)))
    # Weights of nothing, or too small to divide by, quantize to zeros.
    if step < _TINY:
        return np.float32(1.0)
    return step


def quantize(weights, bits, words, n_queries, base, units, tables, steps, sizes, ends):
    """Units ``u = rint(w / step)``, tables, and the sections of a batch.

    Parameters
    ----------
    weights : float32*, (n_queries, bits)
    base : float32*, (n_queries,)
    units : float32*, (n_queries, 64 * words)
        Receives whole numbers; zeros for the tail bits.
    tables : uint8*, (n_queries, 16 * words, 16)
        Receives the sums of the units of the set bits, from 0.
    steps : float32*, (n_queries,)
    sizes : int32*, (n_queries,)
        Receives sum |u|.
    ends : int64*, (16 * words + 1,)
        Receives the number of sections, and the half-bytes at which they end: in none does a
        query's sum of largest entries exceed 255. -1 if a weight or `base` is not finite.
    """
    whole = 64 * words
    for query in range(n_queries):
        step = _step(weights, query * bits, bits, words)
        steps[query] = step
        if step != step or not (abs(base[query]) < np.inf):
            ends[0] = -1
            return
        for j in range(bits):
            value = np.float32(weights[query * bits + j] / step)
            units[query * whole + j] = np.float32(value + _ROUND) - _ROUND
        for j in range(bits, whole):
            units[query * whole + j] = np.float32(0.0)
        for place in range(16 * words):
            at = query * whole + 4 * place
            u0 = units[at]
            u1 = units[at + 1]
            u2 = units[at + 2]
            u3 = units[at + 3]
            zero = np.float32(0.0)
            least = min(u0, zero) + min(u1, zero) + min(u2, zero) + min(u3, zero)
            for entry in range(16):
                total = -least
                total += u0 * np.float32(entry & 1)
                total += u1 * np.float32((entry >> 1) & 1)
                total += u2 * np.float32((entry >> 2) & 1)
                total += u3 * np.float32((entry >> 3) & 1)
                tables[(at << 2) + entry] = np.uint8(np.int32(total))
    _sections(units, words, n_queries, sizes, ends)
    for query in range(n_queries):
        size = np.float32(0.0)
        for j in range(query * whole, (query + 1) * whole):
            size += abs(units[j])
        sizes[query] = np.int32(size)


@jit
def _largest(units, at):
    # The largest sum that a table of four units holds.
    return np.int32(abs(units[at]) + abs(units[at + 1]) + abs(units[at + 2]) + abs(units[at + 3]))


@jit
def _sections(units, words, n_queries, sizes, ends):
    # `sizes` holds the running sums of the queries.
    count = 0
    for query in range(n_queries):
        sizes[query] = 0
    for place in range(16 * words):
        longest = np.int32(0)
        for query in range(n_queries):
            sizes[query] += _largest(units, query * 64 * words + 4 * place)
            longest = max(longest, sizes[query])
        if longest > 255:
            count += 1
            ends[count] = place
            for query in range(n_queries):
                sizes[query] = _largest(units, query * 64 * words + 4 * place)
    count += 1
    ends[count] = 16 * words
    ends[0] = count
