"""Improve codes against a Gram matrix: one-flip tabu search.

Finding b in {-1, +1}^bits that minimises ||y - b D||^2 is an unconstrained binary quadratic
programme. Greedy descent flips the bit of largest gain until none helps; tabu search (Glover,
"Tabu Search, Part I", ORSA J. Computing 1989; for this problem Palubeckis, Annals of OR 2004)
then goes on with the least harmful flip, forbids a flipped bit for a few steps so that it does not
fall straight back, and returns the best code met. With target a = y D^T and Gram matrix G = D D^T,
flipping bit i changes the error by 4 u_i where u_i = b_i (a - b G)_i + G_ii, and a flip of bit i
turns u_j into u_j + 2 b_i b_j G_ij (j != i) and u_i into -u_i.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.kernels.aot import compile as aot

FAMILY: Final = aot.Family("descent", "descent", ("descent",))

MAX_BITS: Final = 4096
"""The position of a bit shares a 32-bit key with its gain: 12 bits are kept for it."""


@functools.cache
def _kernel(target: aot.Target) -> Any:
    del target  # what the cache is keyed by
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    return aot.load(FAMILY).function(
        "search", pointer, pointer, pointer, size, size, size, size, pointer, pointer
    )


def improve(
    residual: NDArray[np.float32],
    codes: NDArray[np.float32],
    gram: NDArray[np.float32],
    steps: int,
    tenure: int,
) -> None:
    """Replace each row of ``codes`` by the best code that the search meets.

    Parameters
    ----------
    residual : (n, bits) float32, C-contiguous
        ``a - b G`` for the codes given, with a the target times the transposed decoder.
    codes : (n, bits) float32, C-contiguous
        In -1 and +1; changed in place.
    gram : (bits, bits) float32, C-contiguous
        G, the symmetric Gram matrix of the decoder.
    steps : int
        Steps after the first local minimum.
    tenure : int
        Steps during which a flipped bit stays as it is. With fewer than two bits nothing can be
        forbidden, and the search ends at the first local minimum.

    Raises
    ------
    ValueError
        If shapes do not fit or there are more than ``MAX_BITS`` bits.
    """
    n, bits = codes.shape
    if residual.shape != (n, bits) or gram.shape != (bits, bits) or not 1 <= bits <= MAX_BITS:
        raise ValueError(f"codes {codes.shape}, residual {residual.shape}, gram {gram.shape}")
    for array in (residual, codes, gram):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError("arrays are not C-contiguous float32")
    tenure = min(tenure, bits - 1)
    scratch = np.empty(4 * bits, np.float32)
    recent = np.empty(max(tenure, 1), np.int32)
    _kernel(aot.host_target())(
        residual.ctypes.data,
        codes.ctypes.data,
        gram.ctypes.data,
        n,
        bits,
        steps if tenure else 0,
        max(tenure, 1),
        scratch.ctypes.data,
        recent.ctypes.data,
    )
