"""Random orthogonal rotation in D log D: random signs and fast Hadamard transforms.

A block of length 2^k is rotated by ``H diag(signs) / sqrt(2^k)``. For a dimension that is no
power of two, each pass rotates the first and then the last 2^k coordinates (2^k the largest power
of two up to dim), which together are all, and the coordinates are riffled between passes, so that
every coordinate reaches every other however small the overlap. Each pass is orthogonal, hence the
whole is. Three passes of signs and Hadamard are the usual stand-in for a dense rotation (Andoni et
al., "Practical and Optimal LSH for Angular Distance", NIPS 2015, section 5). The parameters are
three bits per dimension. More bits than dimensions are given by independent rotations one after
another, fewer by the first bits of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PASSES = 3

Floats = NDArray[np.float32]


def draw_signs(dim: int, bits: int, seed: int) -> NDArray[np.uint8]:
    """Draw the signs of as many rotations as ``bits`` need, (rotations, 3, dim) uint8; 1 is -1."""
    rotations = -(-bits // dim)
    drawn = np.random.default_rng(seed).random((rotations, PASSES, dim)) < 0.5
    return drawn.astype(np.uint8)


def rotate(x: Floats, signs: NDArray[np.uint8], bits: int) -> Floats:
    """Rotate the rows of ``x``.

    Parameters
    ----------
    x : (n, dim) float32
    signs : (rotations, passes, dim) uint8
    bits : int
        At most rotations * dim.

    Returns
    -------
    (n, bits) float32
        The coordinates after the first rotation, then those after the second, and so on.
    """
    dim = x.shape[1]
    out = np.empty((len(x), bits), np.float32)
    for number, flips in enumerate(signs):
        first = number * dim
        width = min(dim, bits - first)
        out[:, first : first + width] = _rotate(x, flips.astype(np.bool_))[:, :width]
    return out


def _rotate(x: Floats, signs: NDArray[np.bool_]) -> Floats:
    """One rotation of the rows of `x`, by the signs (3, dim) of its passes."""
    dim = x.shape[1]
    span = 1 << (dim.bit_length() - 1)
    rows = x.copy()
    riffle = np.concatenate([np.arange(0, dim, 2), np.arange(1, dim, 2)])
    for number, flips in enumerate(signs):
        if number and span < dim:
            rows = rows[:, riffle]
        rows *= np.where(flips, np.float32(-1.0), np.float32(1.0))
        rows[:, :span] = _hadamard(rows[:, :span])
        if span < dim:
            # Two nearly aligned transforms without signs between them would nearly cancel.
            again = np.where(flips[::-1], np.float32(-1.0), np.float32(1.0))
            rows[:, dim - span :] = _hadamard((rows * again)[:, dim - span :])
    return rows


def rotate_back(y: Floats, signs: NDArray[np.uint8]) -> Floats:
    """Return the sum of what the rotations came from: the transposed `rotate`.

    Parameters
    ----------
    y : (n, bits) float32
    signs : (rotations, passes, dim) uint8

    Returns
    -------
    (n, dim) float32
    """
    dim = signs.shape[2]
    out = np.zeros((len(y), dim), np.float32)
    for number, flips in enumerate(signs):
        part = y[:, number * dim : (number + 1) * dim]
        rows = np.zeros((len(y), dim), np.float32)
        rows[:, : part.shape[1]] = part
        out += _rotate_back(rows, flips.astype(np.bool_))
    return out


def _rotate_back(rows: Floats, signs: NDArray[np.bool_]) -> Floats:
    """Undo one rotation of rows, which are changed: its steps from the last to the first."""
    dim = rows.shape[1]
    span = 1 << (dim.bit_length() - 1)
    unriffle = np.argsort(np.concatenate([np.arange(0, dim, 2), np.arange(1, dim, 2)]))
    for number in reversed(range(len(signs))):
        flips = signs[number]
        if span < dim:
            again = np.where(flips[::-1], np.float32(-1.0), np.float32(1.0))
            rows[:, dim - span :] = _hadamard(rows[:, dim - span :]) * again[dim - span :]
        rows[:, :span] = _hadamard(rows[:, :span])
        rows *= np.where(flips, np.float32(-1.0), np.float32(1.0))
        if number and span < dim:
            rows = rows[:, unriffle]
    return rows


def _hadamard(x: Floats) -> Floats:
    """Orthonormal Walsh-Hadamard transform of the rows, a power of two long.

    The transform of length a * b is that of length a across and of length b along the rows folded
    to (a, b). Factors of up to 64 go to BLAS, which beats butterflies in numpy.
    """
    rows, length = x.shape
    out = x.reshape(rows, 1, length)
    left = length
    before = 1
    while left > 1:
        radix = min(left, 64)
        matrix = _sylvester(radix)
        left //= radix
        out = out.reshape(rows * before, radix, left)
        out = out.reshape(rows * before, radix) @ matrix if left == 1 else matrix @ out
        before *= radix
    return np.asarray(out.reshape(rows, length), dtype=np.float32)


def _sylvester(order: int) -> Floats:
    """Orthonormal Hadamard matrix of a power of two."""
    matrix: NDArray[np.float64] = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / np.sqrt(order), dtype=np.float32)
