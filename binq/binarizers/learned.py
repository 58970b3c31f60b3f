"""Codes that are optimised: alternating least squares, codes by tabu search.

Looks for codes b in {-1, +1}^bits and a decoder D that minimise ``||x - center - b D||^2``, the
binary autoencoder of Carreira-Perpinan & Raziperchikolaei (CVPR 2015). The decoder is solved by
least squares; the codes start from the sign of the ridge solution ``(x - center) D^T (D D^T +
ridge I)^-1`` and are improved by a one-flip tabu search (:mod:`binq.kernels.descent`). The codes
are made for the asymmetric scan: their Hamming distances say little.

The cost of the search grows with the square of the bits. Beyond 1,024 bits the principal directions
are dealt out to blocks in turn, so that each holds its share of the variance, and every block of
bits is fitted and searched by itself in its own subspace.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from binq.binarizers.affine import Affine, Bools, Floats, mean_of, ridge_decoder
from binq.binarizers.batches import BATCH, map_batches, serial_blas
from binq.binarizers.itq import principal_directions, random_rotations
from binq.kernels.descent import improve

MAX_BLOCK_BITS: Final = 1024
_START_RIDGE: Final = 0.1
_TENURE: Final = 6
_ROUNDS: Final = 12
_FINAL_ROUNDS: Final = 8
_USUAL: Final = 16
_FARTHEST: Final = np.float32(2.0**40)


def fit(x: Floats, bits: int, seed: int = 0, threads: int = 1) -> Affine:
    """Fit decoder and starting projection.

    Parameters
    ----------
    x : (n, dim) float32
        Rows to fit on, taken as they are. Few rows give a sound decoder that fits only them: some
        tens of rows per bit are needed to carry over.
    bits : int
    seed : int
        Chooses the starting rotation and the rows of the first rounds.
    threads : int
        Affects speed only.
    """
    rng = np.random.default_rng(seed)
    center = mean_of(x)
    centred = x - center
    decoders: list[Floats] = []
    with serial_blas():
        for basis, width in _blocks(centred, bits):
            if basis is None:
                decoders.append(_fit_block(centred, width, rng, threads))
            else:
                inside = (centred @ basis).astype(np.float32, copy=False)
                decoders.append(_fit_block(inside, width, rng, threads) @ basis.T)
        projections = [_starting_projection(decoder) for decoder in decoders]
    return Affine(
        bits,
        x.shape[1],
        center,
        np.ascontiguousarray(np.concatenate(projections, axis=1)),
        decoder=np.ascontiguousarray(np.concatenate(decoders)),
    )


def block_spans(bits: int) -> list[slice]:
    """Return the bits of each block."""
    count = -(-bits // MAX_BLOCK_BITS)
    edges = [bits * number // count for number in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def encode(x: Floats, fitted: Affine, threads: int = 1) -> Bools:
    """Return the codes of rows (n, dim), (n, bits) bool; the same at any thread count."""
    centred = x if fitted.center is None else x - fitted.center
    decoder, projection = fitted.decoder, fitted.projection
    assert decoder is not None
    assert projection is not None
    power = int(np.frexp(np.abs(decoder).max())[1])
    if abs(power) > _USUAL:
        # The search multiplies numbers of the decoder, and of rows, with each other. Rows that are
        # longer by far than all that the decoder gives have the signs of their direction anyway.
        decoder = np.ldexp(decoder, -power)
        with np.errstate(over="ignore"):
            centred = np.clip(np.ldexp(centred, -power), -_FARTHEST, _FARTHEST)
    codes = np.empty((len(x), fitted.bits), np.bool_)
    with serial_blas():
        for span in block_spans(fitted.bits):
            steps = _default_steps(span.stop - span.start)
            codes[:, span] = _search(centred, decoder[span], projection[:, span], steps, threads)
    return codes


def _default_steps(bits: int) -> int:
    """Return how many steps the search takes after the first local minimum."""
    return max(24, min(100, 38400 // bits))


def _blocks(centred: Floats, bits: int) -> list[tuple[Floats | None, int]]:
    """Return (basis of the subspace, bits) of each block; None where there is one block."""
    spans = block_spans(bits)
    if len(spans) == 1:
        return [(None, bits)]
    directions = principal_directions(centred, centred.shape[1])
    return [
        (np.ascontiguousarray(directions[:, number :: len(spans)]), span.stop - span.start)
        for number, span in enumerate(spans)
    ]


def _fit_block(y: Floats, bits: int, rng: np.random.Generator, threads: int) -> Floats:
    """Return the decoder (bits, dim) of centred rows."""
    few = y[np.sort(rng.permutation(len(y))[: max(4096, 32 * bits)])]
    steps = _default_steps(bits)
    signs = few @ random_rotations(rng, few.shape[1], bits) > 0
    decoder = ridge_decoder(few, signs, None, threads=threads)
    for number in range(_ROUNDS):
        decoder = _improve(few, decoder, min(steps, 20 + 2 * number), threads)
    for _ in range(_FINAL_ROUNDS if len(few) < len(y) else 2):
        decoder = _improve(y, decoder, steps, threads)
    return decoder


def _starting_projection(decoder: Floats) -> Floats:
    """Return the ridge inverse of the decoder, (dim, bits): its signs start the search."""
    wide = decoder.astype(np.float64)
    gram = wide @ wide.T
    ridge = _START_RIDGE * float(np.trace(gram)) / len(gram)
    if not ridge > 0.0:
        return np.ascontiguousarray(decoder.T)
    gram[np.diag_indices(len(gram))] += ridge
    return np.ascontiguousarray(np.linalg.solve(gram, wide).T.astype(np.float32))


def _improve(y: Floats, decoder: Floats, steps: int, threads: int) -> Floats:
    """Do one round: codes for the decoder, then the decoder for the codes."""
    codes = _search(y, decoder, _starting_projection(decoder), steps, threads)
    return ridge_decoder(y, codes, None, ridge=1e-4, threads=threads)


def _search(y: Floats, decoder: Floats, projection: Floats, steps: int, threads: int) -> Bools:
    """Return the codes of centred rows (n, dim) as (n, bits) bool."""
    transposed = np.ascontiguousarray(decoder.T)
    gram = np.ascontiguousarray(decoder @ transposed)
    projection = np.ascontiguousarray(projection)
    tenure = min(_TENURE, len(decoder) // 3)
    codes = np.empty((len(y), len(decoder)), np.bool_)

    def work(start: int, stop: int) -> None:
        # Padding keeps the shape of the products, hence their rounding, that of a full batch.
        block = np.zeros((-(-(stop - start) // 64) * 64, y.shape[1]), np.float32)
        block[: stop - start] = y[start:stop]
        b = np.where(block @ projection > 0, np.float32(1), np.float32(-1))
        residual = block @ transposed
        residual -= b @ gram
        part = slice(0, stop - start)
        improve(residual[part], b[part], gram, steps, tenure)
        np.greater(b[part], 0, out=codes[start:stop])

    for _ in map_batches(work, len(y), threads, BATCH):
        pass
    return codes
