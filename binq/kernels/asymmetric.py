"""Search codes with real-valued queries.

The score of row i is ``(<w, b> + base) * mul[i] + add[i]``, b in {-1, +1} the row's code and w a
query's weights: cosine, inner product and squared distance are choices of the four.  `topk` scans
with weights of 4 to 8 bits; `exact` scores survivors in full precision.

Quantization: ``u = rint(w / step)``, `step` being the largest ``|w|`` over ``2^(bits - 1) - 1``
(long codes whose weights would add up to more than 16 bits hold take a larger one).  The scan is
exact in u: its score of a row differs from the exact one by at most
``|mul| * sum_j |w_j - step u_j|`` and the rounding of float32, see `error_bound`.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Bitmap, check, rows_of
from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.topk import MAX_ROWS, aligned, merged, passes

FAMILY = aot.Family(
    "asymmetric",
    "asymmetric",
    ("asymmetric", "columns", "select", "simd", "scalars", "features"),
)

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# 16-bit sums: half a unit of rounding per bit has to fit as well.
MAX_WORDS = 512
_WORK_PER_BLOCK = 1 << 25
# Weights from so many bits on are looked up in two parts; the lower, at most 8 each, have to fit
# 16-bit sums as well.
_SPLIT_BITS = 7
_MAX_SPLIT_BITS = 8128
# Half-bytes looked at for the end of a section; few sections are as long.
_LONGEST_SECTION = 64
_BIT = np.array([[(entry >> bit) & 1 for entry in range(16)] for bit in range(4)], np.float32)


class _Kernels(NamedTuple):
    scan_one: Any
    scan: Any
    measure: Any
    lanes: int


@functools.cache
def _kernels(target: aot.Target) -> _Kernels:
    library = aot.load(FAMILY)
    p, size = ctypes.c_void_p, ctypes.c_ssize_t
    single = ctypes.c_float
    span = (p, size, size, size, p)
    queries = (p, p, p, size, size, p, size)
    state = (p, p, size, p, p, p, size, size, p)
    return _Kernels(
        library.function("scan_one", *span, single, single, size, *state),
        library.function("scan", *span, *queries, *state),
        library.function("measure", p, size, p, p, size, p, size, p, p, size, p, p),
        library.layout["lanes"],
    )


class _Quantized(NamedTuple):
    units: Floats
    steps: Floats


def _quantize(weights: Floats, query_bits: int) -> _Quantized:
    """Integers u (as float32, exact) with ``w ~ step * u``."""
    if not 4 <= query_bits <= 8:
        raise ValueError(f"query_bits is {query_bits}, not 4 to 8")
    bits = weights.shape[1]
    if query_bits >= _SPLIT_BITS and bits > _MAX_SPLIT_BITS:
        raise ValueError(f"query_bits is {query_bits}, not 4 to 6, for more than {_MAX_SPLIT_BITS}")
    magnitude = np.abs(weights).astype(np.float64)
    steps = magnitude.max(axis=1, initial=0) / (2 ** (query_bits - 1) - 1)
    # 16-bit sums, to which rounding adds at most half a unit per bit; with split weights the upper
    # parts hold sixteen times more, and the lower parts are at most 8 each.
    room = 65535 - bits / 2 if query_bits < _SPLIT_BITS else 16 * (65535 - bits)
    steps = np.maximum(steps, magnitude.sum(axis=1) / room)
    # Next larger float32: never rounded below what the limits need.
    rounded = np.nextafter(steps.astype(np.float32), np.float32(np.inf))
    # Weights of nothing, or too small to divide by, quantize to zeros.
    rounded = np.where(rounded < np.finfo(np.float32).tiny, np.float32(1), rounded)
    units = np.rint(weights / rounded[:, None]).astype(np.float32)
    return _Quantized(units, rounded)


def _parts(units: Floats, split: bool) -> Floats:
    """What gets a table: the units of each query, or their upper and lower parts in turn."""
    if split:
        upper = np.rint(units / 16)
        return np.stack((upper, units - 16 * upper), axis=1).reshape(-1, units.shape[1])
    return np.pad(units, ((0, len(units) % 2), (0, 0)))


def _tables(units: Floats) -> npt.NDArray[np.uint8]:
    """Look-up tables (q, half-bytes, 16) uint8: sums over set bits, from 0."""
    fours = units.reshape(len(units), -1, 4)
    sums = fours.reshape(-1, 4) @ _BIT
    sums -= np.minimum(fours, 0).sum(axis=2).reshape(-1, 1)
    tables = aligned(sums.size, np.uint8)
    tables[:] = sums.ravel()
    return tables


def _section_ends(units: Floats) -> Rows:
    """Half-bytes at which 8-bit sums have to be widened: no query exceeds 255 between two."""
    largest = np.abs(units).reshape(len(units), -1, 4).sum(axis=2)
    places = largest.shape[1]
    ends = [0]
    while ends[-1] < places:
        start = ends[-1]
        sums = np.cumsum(largest[:, start : start + _LONGEST_SECTION], axis=1).max(axis=0)
        ends.append(start + int(np.searchsorted(sums, 255, side="right")))
    return np.array(ends[1:], np.int64)


def _fits_bytes(units: Floats) -> bool:
    """Whether no 8 neighbouring look-ups of a query can exceed 255: always, with 4 bits."""
    return bool(np.abs(units).reshape(-1, 32).sum(axis=1).max() <= 255)


def _checked(
    codes: Codes, weights: Floats, base: Floats, mul: Floats | None, add: Floats | None
) -> tuple[Floats, Floats, Floats, Floats, bool]:
    if codes.ndim != 2 or codes.dtype != np.uint64 or not codes.flags.c_contiguous:
        raise ValueError("codes are not a C-contiguous (n, words) array of uint64")
    if not 1 <= codes.shape[1] <= MAX_WORDS:
        raise ValueError(f"codes have {codes.shape[1]} words, not 1 to {MAX_WORDS}")
    if len(codes) > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} rows in one call")
    capacity = 64 * codes.shape[1]
    if weights.ndim != 2 or not capacity - 64 < weights.shape[1] <= capacity:
        raise ValueError(f"weights {weights.shape} for codes of {codes.shape[1]} words")
    if base.shape != (len(weights),):
        raise ValueError(f"base {base.shape} for {len(weights)} queries")
    if not (np.isfinite(weights).all() and np.isfinite(base).all()):
        raise ValueError("weights or base are not finite")
    # Weights of zero for the tail bits.
    padded = np.zeros((len(weights), capacity), np.float32)
    padded[:, : weights.shape[1]] = weights
    for name, factor in (("mul", mul), ("add", add)):
        if factor is not None and factor.shape != (len(codes),):
            raise ValueError(f"{name} {factor.shape} for {len(codes)} rows")
    factors = mul is not None or add is not None
    if factors:
        mul = np.ones(len(codes), np.float32) if mul is None else mul
        add = np.zeros(len(codes), np.float32) if add is None else add
    nothing = np.zeros(1, np.float32)
    return (
        padded,
        np.ascontiguousarray(base, np.float32),
        nothing if mul is None else np.ascontiguousarray(mul, np.float32),
        nothing if add is None else np.ascontiguousarray(add, np.float32),
        factors,
    )


def topk(
    codes: Codes,
    weights: Floats,
    base: Floats,
    k: int,
    mul: Floats | None = None,
    add: Floats | None = None,
    threads: int = 1,
    query_bits: int = 4,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
) -> tuple[Rows, Floats]:
    """The k rows with the highest scores, with quantized weights.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
        A set bit is +1, a bit that is not set -1.
    weights : (q, bits) float32
        ``64 * (words - 1) < bits <= 64 * words``. Finite.
    base : (q,) float32
        Finite.
    k : int
        At least 0; more than n is n.
    mul, add : (n,) float32, optional
        Per-row factor (1) and addend (0). Finite.
    threads : int
        Threads to use.
    query_bits : int
        Bits of a quantized weight with its sign, 4 to 8; for more than 8,128 bits 4 to 6.
    spans : (s, 2) int64, optional
        Ranges of rows [first, last) to scan, ascending and disjoint; all rows by default.
    allowed : (ceil(n / 64),) uint64, optional
        Bit ``r % 64`` of word ``r // 64`` says whether row r may be returned; all by default.

    Returns
    -------
    rows : (q, min(k, n)) int64
    scores : (q, min(k, n)) float32
        In the order (score descending, row). Where fewer than k rows are allowed, as many columns.

    Raises
    ------
    ValueError
        Shapes, k or `query_bits` do not fit, or weights are not finite.
    """
    if spans is not None or allowed is not None:
        _checked(codes, weights, base, mul, add)
        check(len(codes), spans, allowed)
        chosen = rows_of(len(codes), spans, allowed)
        factor = None if mul is None else mul[chosen]
        addend = None if add is None else add[chosen]
        found, values = topk(codes[chosen], weights, base, k, factor, addend, threads, query_bits)
        return chosen[found], values
    weights, base, mul, add, factors = _checked(codes, weights, base, mul, add)
    if k < 0:
        raise ValueError(f"k is {k}")
    n, words = codes.shape
    k = min(k, n)
    rows = np.empty((len(weights), k), np.int64)
    scores = np.empty((len(weights), k), np.float32)
    if rows.size == 0:
        _quantize(weights[:0], query_bits)
        return rows, scores
    kernels = _kernels(aot.host_target())
    tile = 4 * kernels.lanes
    capacity = min(n + 1, k + max(k // 2, 16))
    scratch_words = (16 * tile + 24 * words * tile) // 8
    for part in passes(len(weights), capacity * threads):
        quantized = _quantize(weights[part], query_bits)
        count = len(quantized.steps)
        split = query_bits >= _SPLIT_BITS
        units = _parts(quantized.units, split)
        tables = _tables(units)
        alone = count == 1 and not split and _fits_bytes(units[0])
        ends = np.empty(0, np.int64) if alone else _section_ends(units)
        even = count if split else count + count % 2
        steps = np.pad(quantized.steps, (0, even - count), constant_values=1)
        bases = np.pad(base[part], (0, even - count))
        # The upper and lower parts of a weight may differ in sign: each adds its own size.
        sizes = np.abs(units).sum(axis=1).astype(np.int32)
        if split:
            sizes = 16 * sizes[0::2] + sizes[1::2]
        # NaN is no limit yet; nothing is above infinity.
        limits = np.full(even, np.nan, np.float32)
        limits[count:] = np.inf
        per_block = min(_WORK_PER_BLOCK // (len(units) * words), n // (4 * max(1, threads)))
        per_block = max(per_block, 16 * tile) // tile * tile
        blocks = -(-n // per_block)
        workers = max(1, min(threads, blocks))
        states = [
            (
                limits.copy(),
                np.zeros(even, np.int64),
                np.empty((even, capacity), np.uint64),
                aligned(scratch_words, np.uint64),
            )
            for _ in range(workers)
        ]

        def work(worker: int, block: int) -> None:
            own, found, keys, scratch = states[worker]
            span = (
                codes.ctypes.data,
                words,
                block * per_block,
                min((block + 1) * per_block, n),
                tables.ctypes.data,
            )
            outcome = (
                mul.ctypes.data,
                add.ctypes.data,
                int(factors),
                own.ctypes.data,
                found.ctypes.data,
                keys.ctypes.data,
                capacity,
                k,
                scratch.ctypes.data,
            )
            if alone:
                kernels.scan_one(*span, steps[0], bases[0], sizes[0], *outcome)
            else:
                kernels.scan(
                    *span,
                    steps.ctypes.data,
                    bases.ctypes.data,
                    sizes.ctypes.data,
                    len(units),
                    int(split),
                    ends.ctypes.data,
                    len(ends),
                    *outcome,
                )

        run_blocks(blocks, threads, work)
        best = merged([state[2] for state in states], [state[1] for state in states], count, k)
        rows[part] = best & np.uint64(0xFFFFFFFF)
        scores[part] = _scores(best)
    return rows, scores


def _scores(keys: Codes) -> Floats:
    # The inverse of the order-preserving integer in `source.asymmetric`.
    values = (keys >> np.uint64(32)).astype(np.uint32)
    sign = np.uint32(0x80000000)
    return np.where(values & sign, values, ~values & ~sign).astype(np.uint32).view(np.float32)


def exact(
    codes: Codes,
    weights: Floats,
    base: Floats,
    rows: Rows,
    mul: Floats | None = None,
    add: Floats | None = None,
) -> Floats:
    """Scores of some rows in full precision: float64 sums in a fixed order, rounded once.

    Parameters
    ----------
    codes, weights, base, mul, add
        As in `topk`.
    rows : (q, m) int64
        For each query, row numbers in ``range(n)``.

    Returns
    -------
    (q, m) float32

    Raises
    ------
    IndexError
        A row number is out of range.
    ValueError
        Shapes do not fit, or weights are not finite.
    """
    weights, base, mul, add, factors = _checked(codes, weights, base, mul, add)
    rows = np.ascontiguousarray(rows, np.int64)
    if rows.ndim != 2 or len(rows) != len(weights):
        raise ValueError(f"rows {rows.shape} for {len(weights)} queries")
    if rows.size and (rows.min() < 0 or rows.max() >= len(codes)):
        raise IndexError(f"row numbers {rows.min()} to {rows.max()} of {len(codes)} rows")
    scores = np.empty(rows.shape, np.float32)
    if rows.size == 0:
        return scores
    sums = aligned(64, np.float64)
    _kernels(aot.host_target()).measure(
        codes.ctypes.data,
        codes.shape[1],
        weights.ctypes.data,
        base.ctypes.data,
        len(weights),
        rows.ctypes.data,
        rows.shape[1],
        mul.ctypes.data,
        add.ctypes.data,
        int(factors),
        scores.ctypes.data,
        sums.ctypes.data,
    )
    return scores


def error_bound(weights: Floats, query_bits: int) -> Floats:
    """How far the quantized ``<w, b>`` can be from the exact one, for any code b.

    Parameters
    ----------
    weights : (q, bits) float32
    query_bits : int
        As in `topk`.

    Returns
    -------
    (q,) float32
        ``sum_j |w_j - step u_j|``, at most ``bits * step / 2``. Multiply by a row's ``|mul|``.
        Rounding of the score in float32 comes on top: a few units of its last place, of the largest
        of ``<w, b>``, `base`, their product with `mul`, and `add`.
    """
    spare = -weights.shape[1] % 64
    padded = np.pad(np.asarray(weights, np.float32), ((0, 0), (0, spare)))
    quantized = _quantize(padded, query_bits)
    units = quantized.units.astype(np.float64) * quantized.steps[:, None]
    bound: Floats = np.abs(padded - units).sum(axis=1).astype(np.float32)
    return bound
