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

from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.kernels.aot import compile as aot
from binq.kernels.scan import address

FAMILY: Final = aot.Family("descent")


def max_bits() -> int:
    """The most bits of a code that `improve` takes."""
    return aot.load(FAMILY).layout["bits.max"]


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
        If shapes do not fit or there are more bits than the kernel numbers, see `max_bits`.
    """
    n, bits = codes.shape
    if residual.shape != (n, bits) or gram.shape != (bits, bits) or not 1 <= bits <= max_bits():
        raise ValueError(f"codes {codes.shape}, residual {residual.shape}, gram {gram.shape}")
    for array in (residual, codes, gram):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError("arrays are not C-contiguous float32")
    tenure = min(tenure, bits - 1)
    scratch = np.empty(4 * bits, np.float32)
    recent = np.empty(max(tenure, 1), np.int32)
    aot.load(FAMILY).functions["search"](
        address(residual),
        address(codes),
        address(gram),
        n,
        bits,
        steps if tenure else 0,
        max(tenure, 1),
        address(scratch),
        address(recent),
    )
