"""Projections that are drawn, not fitted: random hyperplanes and random rotations.

lsh
    Gaussian hyperplanes, any number of bits. Charikar, "Similarity Estimation Techniques from
    Rounding Algorithms" (STOC 2002), section 3: the probability that two vectors differ in a bit
    is their angle over pi.
rotate
    Structured random rotations, see :mod:`binq.binarizers.rotation`; any number of bits.
rabitq
    The rotation with a factor per row. Gao & Long, "RaBitQ: Quantizing High-Dimensional Vectors
    with a Theoretical Error Bound for Approximate Nearest Neighbor Search" (SIGMOD 2024,
    arXiv:2405.12497): with v = P(x - center) and b = sign(v), ``<x - center, q> ~
    (||v||^2 / ||v||_1) <b, P q>`` (Theorem 3.2, where the normalised estimate is
    ``<b / sqrt(D), P q> / f`` and ``f = ||v||_1 / (sqrt(D) ||v||)``), unbiased over the rotation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from binq.binarizers.affine import Affine, Floats, mean_of, ridge_decoder
from binq.binarizers.rotation import draw_signs

_SCALED_ROWS = 4096


def lsh(x: Floats, bits: int, seed: int = 0, threads: int = 1) -> Affine:
    """Draw hyperplanes through the mean of rows (n, dim), and fit a least-squares decoder."""
    rng = np.random.default_rng(seed)
    projection = rng.standard_normal((x.shape[1], bits), dtype=np.float32)
    center = mean_of(x)
    # The decoder is fitted to codes, which need none: a view of one number stands for it.
    blank = np.broadcast_to(np.float32(0), (bits, x.shape[1]))
    draft = Affine(bits, x.shape[1], center, projection, decoder=blank)
    decoder = ridge_decoder(x, draft.encode(x, threads), center, threads=threads)
    return Affine(bits, x.shape[1], center, projection, decoder=decoder)


def rotate(x: Floats, bits: int, seed: int = 0) -> Affine:
    """Draw rotations about the mean of rows (n, dim); scale the decoder by mean magnitude."""
    dim = x.shape[1]
    signs = draw_signs(dim, bits, seed)
    ones = np.ones(bits, np.float32)
    draft = Affine(bits, dim, mean_of(x), signs=signs, scale=ones)
    few = np.sort(np.random.default_rng(seed).permutation(len(x))[:_SCALED_ROWS])
    magnitude = np.abs(draft.transform(x[few])).mean(dtype=np.float64)
    # A row is the mean of what its rotations decode to.
    scale = np.full(bits, magnitude / len(signs), np.float32)
    return Affine(bits, dim, draft.center, signs=signs, scale=scale)


def rabitq(x: Floats, seed: int = 0) -> Affine:
    """Draw one rotation about the mean of rows (n, dim); every row brings its own factor."""
    dim = x.shape[1]
    ones = np.ones(dim, np.float32)
    return Affine(dim, dim, mean_of(x), signs=draw_signs(dim, dim, seed), scale=ones)


def rabitq_factor(
    x: Floats, _codes: NDArray[np.uint64], fitted: Affine, _threads: int = 1
) -> Floats:
    """Return ``||v||^2 / ||v||_1`` of the rotated centred rows v, (n,); 0 for a zero row."""
    rotated = fitted.transform(x)
    taxicab = np.abs(rotated).sum(axis=1, dtype=np.float64)
    square = np.einsum("ij,ij->i", rotated, rotated, dtype=np.float64)
    factor = np.zeros(len(rotated))
    np.divide(square, taxicab, out=factor, where=taxicab > 0)
    return factor.astype(np.float32)
