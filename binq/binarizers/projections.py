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
    Its error is below ``||q|| ||v|| sqrt((1 - f^2) / f^2) epsilon / sqrt(D - 1)`` but for a
    probability that falls exponentially with epsilon squared; epsilon = 1.9 is the paper's choice.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from binq.binarizers.affine import Affine, Floats, mean_of, ridge_decoder
from binq.binarizers.rotation import draw_signs

EPSILON: Final = 1.9
_SCALED_ROWS: Final = 4096


def lsh(x: Floats, bits: int, *, seed: int = 0, threads: int = 1) -> Affine:
    """Draw hyperplanes through the mean of rows (n, dim), and fit a least-squares decoder."""
    rng = np.random.default_rng(seed)
    projection = rng.standard_normal((x.shape[1], bits), dtype=np.float32)
    center = mean_of(x)
    blank = np.zeros((bits, x.shape[1]), np.float32)
    draft = Affine(bits, x.shape[1], center, projection, decoder=blank)
    decoder = ridge_decoder(x, draft.encode(x, threads), center, threads=threads)
    return Affine(bits, x.shape[1], center, projection, decoder=decoder)


def rotate(x: Floats, bits: int, *, seed: int = 0) -> Affine:
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


def rabitq(x: Floats, *, seed: int = 0) -> Affine:
    """Draw one rotation about the mean of rows (n, dim); every row brings its own factor."""
    dim = x.shape[1]
    ones = np.ones(dim, np.float32)
    return Affine(dim, dim, mean_of(x), signs=draw_signs(dim, dim, seed), scale=ones)


def rabitq_factor(turned: Floats) -> Floats:
    """Return ``||v||^2 / ||v||_1`` of rotated centred rows (n, dim), (n,); 0 for a zero row."""
    taxicab = np.abs(turned).sum(axis=1, dtype=np.float64)
    square = np.einsum("ij,ij->i", turned, turned, dtype=np.float64)
    factor = np.zeros(len(turned))
    np.divide(square, taxicab, out=factor, where=taxicab > 0)
    return factor.astype(np.float32)


def rabitq_spread(turned: Floats) -> Floats:
    """Return the standard of the error of each row of rotated centred rows (n, dim), (n,).

    ``||v|| sqrt((1 - f^2) / f^2) / sqrt(D - 1)``: times epsilon and the query's norm it bounds the
    error of the estimate. 0 in one dimension, where the code is exact.
    """
    dim = turned.shape[1]
    factor = rabitq_factor(turned).astype(np.float64)
    square = np.einsum("ij,ij->i", turned, turned, dtype=np.float64)
    # ||v||^2 (1 - f^2) / f^2 = D (||v||^2 / ||v||_1)^2 - ||v||^2, which may round below 0.
    excess = np.maximum(dim * factor**2 - square, 0)
    spread: Floats = np.sqrt(excess / max(dim - 1, 1)).astype(np.float32)
    return spread
