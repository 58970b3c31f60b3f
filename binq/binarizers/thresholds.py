"""One bit per dimension: sign, mean and median."""

from __future__ import annotations

import numpy as np

from binq.binarizers.affine import Affine, Floats, mean_of

_COLUMNS = 16


def sign(dim: int) -> Affine:
    """Return the map that is not fitted: thresholds at zero, ``x ~ b / sqrt(dim)``."""
    return Affine(dim, dim, scale=np.full(dim, 1 / np.sqrt(dim), np.float32))


def mean(x: Floats) -> Affine:
    """Put the threshold of every dimension at its mean, given rows (n, dim)."""
    return _around(x, mean_of(x))


def median(x: Floats) -> Affine:
    """Put the threshold of every dimension at its median, given rows (n, dim)."""
    middle = np.empty(x.shape[1], np.float32)
    # A few columns at a time, since each is copied.
    for first in range(0, len(middle), _COLUMNS):
        part = slice(first, first + _COLUMNS)
        middle[part] = np.median(x[:, part], axis=0)
    return _around(x, middle)


def _around(x: Floats, middle: Floats) -> Affine:
    """Return the map with ``middle`` as centre; bits decode to the mean distance from it."""
    total = np.zeros(x.shape[1], np.float64)
    for start in range(0, len(x), 4096):
        total += np.abs(x[start : start + 4096] - middle).sum(axis=0, dtype=np.float64)
    scale = (total / len(x)).astype(np.float32)
    return Affine(x.shape[1], x.shape[1], center=middle, scale=scale)
