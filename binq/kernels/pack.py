"""Pack floats into codes, touching them once."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.scan import Engine, address, aligned

FAMILY = aot.Family("pack")

Floats = npt.NDArray[np.float32]

_BYTES_PER_BLOCK = 16 << 20
# Floats that numpy packs while a compiler would run.
_NUMPY_WORK = 1 << 29
_NUMPY_ROWS = 4096


class Packed(NamedTuple):
    """What `pack` takes from the floats.

    Attributes
    ----------
    codes : (n, words) uint64
        Bit j of a code is bit ``j % 64``, from the least significant, of word ``j // 64``. Bits
        from the dimension on are zero.
    finite : (n,) bool
        Whether a row has neither NaN nor infinity.
    squares : (n,) float32
        Sums of squares, in float32.
    """

    codes: npt.NDArray[np.uint64]
    finite: npt.NDArray[np.bool_]
    squares: Floats


def pack(
    x: Floats, threshold: Floats | None = None, threads: int = 1, *, engine: Engine | None = None
) -> Packed:
    """Bit j of a row's code is ``x[j] > threshold[j]``.

    Parameters
    ----------
    x : (n, d) float32
        Values of a row are next to each other; rows may be apart.
    threshold : (d,) float32, optional
        Zeros by default.
    threads : int
        Threads to use.
    engine : Engine, optional
        What runs it; chosen by what is compiled.

    Returns
    -------
    Packed

    Raises
    ------
    ValueError, TypeError
        Shapes, dtype or strides do not fit.
    """
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"x {x.shape} is not (n, d)")
    if x.dtype != np.float32:
        raise TypeError(f"x is {x.dtype}, not float32")
    n, dim = x.shape
    if n and dim > 1 and x.strides[1] != 4:
        raise ValueError("values of a row are not next to each other")
    words = -(-dim // 64)
    thresholds = _zeros(dim)
    if threshold is not None:
        if threshold.shape != (dim,):
            raise ValueError(f"threshold {threshold.shape} for {dim} dimensions")
        thresholds = thresholds.copy()
        thresholds[:dim] = threshold
    codes = np.empty((n, words), np.uint64)
    finite = np.empty(n, np.bool_)
    squares = np.empty(n, np.float32)
    if n == 0:
        return Packed(codes, finite, squares)
    if engine is None:
        engine = Engine(aot.worth_compiling(FAMILY, n * dim, _NUMPY_WORK))
    if engine.library is None:
        _numpy_pack(x, thresholds[:dim], codes, finite, squares)
        return Packed(codes, finite, squares)
    kernel = engine.library.functions["pack"]
    floats = engine.library.layout["scratch.floats"]
    scratches = [aligned(floats, np.float32) for _ in range(max(1, threads))]
    per_block = engine.rows_per_block or max(1, _BYTES_PER_BLOCK // (4 * dim))
    source = (address(x), x.strides[0])
    results = (dim, address(thresholds), address(codes), words, address(finite), address(squares))

    def work(worker: int, block: int) -> None:
        rows = block * per_block, min((block + 1) * per_block, n)
        kernel(*source, *rows, *results, address(scratches[worker]))

    run_blocks(-(-n // per_block), threads, work)
    return Packed(codes, finite, squares)


@functools.lru_cache(16)
def _zeros(dim: int) -> Floats:
    """Thresholds of zero; no value is above infinity, so that tail bits stay zero."""
    thresholds = aligned(-(-dim // 64) * 64, np.float32)
    thresholds[:dim] = 0
    thresholds[dim:] = np.inf
    return thresholds


def _numpy_pack(
    x: Floats,
    thresholds: Floats,
    codes: npt.NDArray[np.uint64],
    finite: npt.NDArray[np.bool_],
    squares: Floats,
) -> None:
    n, dim = x.shape
    lanes = np.zeros((min(n, _NUMPY_ROWS), 64 * codes.shape[1]), np.float32)
    for first in range(0, n, _NUMPY_ROWS):
        part = x[first : first + _NUMPY_ROWS]
        end = first + len(part)
        packed = np.zeros((len(part), 8 * codes.shape[1]), np.uint8)
        bits = np.packbits(part > thresholds, axis=1, bitorder="little")
        packed[:, : bits.shape[1]] = bits
        codes[first:end] = packed.view("<u8")
        finite[first:end] = np.isfinite(part).all(axis=1)
        # The kernel's order of additions: 16 lanes side by side, then halves onto halves.
        own = lanes[: len(part)]
        with np.errstate(over="ignore", invalid="ignore"):
            own[:, :dim] = part * part
            sums = np.zeros((len(part), 16), np.float32)
            for start in range(0, own.shape[1], 16):
                sums += own[:, start : start + 16]
            for half in (8, 4, 2, 1):
                sums = sums[:, :half] + sums[:, half : 2 * half]
        squares[first:end] = sums[:, 0]
