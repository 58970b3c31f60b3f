"""Iterative quantization: principal directions, then the rotation of least quantization error.

Gong & Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes"
(CVPR 2011), section 2: with V the centred rows on the `bits` leading principal directions,
alternate B = sign(V R) and the rotation R that minimises ``||B - V R||`` (the orthogonal
Procrustes problem, R = U S^T from the singular vectors of V^T B).
"""

from __future__ import annotations

import numpy as np

from binq.binarizers.affine import Affine, Floats, mean_of, ridge_decoder
from binq.binarizers.batches import map_batches, serial_blas


def fit(x: Floats, bits: int, seed: int = 0, threads: int = 1, *, rounds: int = 50) -> Affine:
    """Fit centre, projection and a least-squares decoder.

    Parameters
    ----------
    x : (n, dim) float32
        Rows to fit on, taken as they are; the rotation is found on 32 rows per bit of them.
    bits : int
        1 to dim.
    seed, threads, rounds : int
        Starting rotation and choice of rows; speed only; alternations.
    """
    rng = np.random.default_rng(seed)
    center = mean_of(x)
    few = x[np.sort(rng.permutation(len(x))[: max(4096, 32 * bits)])] - center
    with serial_blas():
        directions = principal_directions(few, bits)
        start = random_rotations(rng, bits, bits)
        v = (few @ directions).astype(np.float32, copy=False)
        rotation = procrustes(v, start, rounds, threads)
        projection = np.ascontiguousarray(directions @ rotation)
        codes = (x - center) @ projection > 0
    decoder = ridge_decoder(x, codes, center, threads=threads)
    return Affine(bits, x.shape[1], center, projection, decoder=decoder)


def principal_directions(centred: Floats, count: int) -> Floats:
    """Return the leading principal directions of centred rows, (dim, count), orthonormal."""
    wide = np.zeros((centred.shape[1], centred.shape[1]), dtype=np.float64)
    for start in range(0, len(centred), 4096):
        block = centred[start : start + 4096]
        wide += block.T @ block
    _, vectors = np.linalg.eigh(wide)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].astype(np.float32))


def random_rotations(rng: np.random.Generator, dim: int, bits: int) -> Floats:
    """Draw as many random rotations as give so many bits, side by side, (dim, bits)."""
    drawn = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(0, bits, dim)]
    return np.hstack(drawn)[:, :bits].astype(np.float32)


def procrustes(v: Floats, rotation: Floats, rounds: int, threads: int) -> Floats:
    """Alternate codes and rotation, starting from ``rotation``; return it, (bits, bits)."""
    for _ in range(rounds):
        current = rotation

        def work(start: int, stop: int, current: Floats = current) -> Floats:
            block = v[start:stop]
            return block.T @ np.where(block @ current > 0, np.float32(1.0), np.float32(-1.0))

        cross = np.zeros(rotation.shape, dtype=np.float64)
        for part in map_batches(work, len(v), threads, batch=2048):
            cross += part
        left, _, right = np.linalg.svd(cross.astype(np.float32))
        rotation = np.ascontiguousarray((left @ right).astype(np.float32))
    return rotation
