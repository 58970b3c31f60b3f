"""Codes for the symmetric Hamming scan, trained by gradient through the sign.

A linear map ``z = (x - center) W - t`` with code h = sign(z) is trained so that code similarities
``<h_q, h_x> / bits`` rank like float similarities. The sign passes gradients as ``tanh(z / s)``
would, s being the mean magnitude of its bit (straight-through, Bengio et al. 2013, with the
derivative of the continuation of HashNet, Cao et al. 2017). Each step draws corpus rows as noisy
queries with some of their neighbours and compares every query with every row drawn:

- Kullback-Leibler divergence of the softmax of float similarities from that of code similarities;
- squared difference of the two, each centred per query, since a shift changes no ranking.

The float similarity is ``1 - 2 angle / pi``, what random hyperplanes give in expectation
(Charikar 2002), so that both sides have one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from binq.binarizers.affine import Affine, Floats, mean_of, ridge_decoder
from binq.binarizers.batches import map_batches, serial_blas
from binq.binarizers.itq import principal_directions, procrustes, random_rotations

QUERIES = 96
NEIGHBOURS = 12
TEMPERATURE = 0.03
SQUARED = 50.0
NOISE = 0.3
RATE = 2.5e-4
ANCHORS = 6144
DEPTH = 200
"""Neighbours of an anchor that are drawn from, by rank: a third each from 15, 60 and all."""


def fit(x: Floats, bits: int, seed: int = 0, threads: int = 1, *, steps: int = 500) -> Affine:
    """Train centre, projection and threshold, and fit a least-squares decoder.

    Parameters
    ----------
    x : (n, dim) float32
        Rows to fit on, taken as they are.
    bits : int
        More bits than dimensions gain most.
    seed : int
        Start, rows drawn and noise.
    threads : int
        Affects speed only.
    steps : int
        Gradient steps.
    """
    rng = np.random.default_rng(seed)
    center = mean_of(x)
    with serial_blas():
        weights = _start(x - center, bits, rng, threads)
        threshold = np.zeros(bits, np.float32)
        if len(x) > NEIGHBOURS and np.ptp(x, axis=0).any():
            trainer = _Trainer(x, center, rng, threads)
            trainer.run(weights, threshold, steps)
        codes = (x - center) @ weights > threshold
    decoder = ridge_decoder(x, codes, center, threads=threads)
    return Affine(bits, x.shape[1], center, weights, threshold=threshold, decoder=decoder)


def _start(y: Floats, bits: int, rng: np.random.Generator, threads: int) -> Floats:
    """ITQ for the first dim bits, random rotations for the rest, (dim, bits)."""
    dim = y.shape[1]
    first = min(bits, dim)
    few = y[np.sort(rng.permutation(len(y))[: max(4096, 16 * first)])]
    directions = principal_directions(few, first)
    drawn = random_rotations(rng, first, first)
    fitted = directions @ procrustes(few @ directions, drawn, 20, threads)
    if bits <= dim:
        return fitted
    return np.hstack([fitted, random_rotations(rng, dim, bits - dim)])


@dataclass(eq=False)
class _Trainer:
    """Rows, their neighbours and the gradient of the loss."""

    rows: Floats
    center: Floats
    rng: np.random.Generator
    threads: int

    def __post_init__(self) -> None:
        rows = self.rows
        norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        self.unit = rows / np.where(norm > 0, norm, np.float32(1.0))
        self.anchors = np.sort(self.rng.permutation(len(rows))[:ANCHORS])
        self.depth = min(DEPTH, len(rows) - 1)
        self.neighbours = self._neighbours()

    def _neighbours(self) -> NDArray[np.int32]:
        """Nearest rows of each anchor by cosine, itself left out, (anchors, depth), best first."""
        out = np.empty((len(self.anchors), self.depth), dtype=np.int32)

        def work(start: int, stop: int) -> None:
            mine = self.anchors[start:stop]
            similarity = self.unit[mine] @ self.unit.T
            similarity[np.arange(len(mine)), mine] = -np.inf
            near = np.argpartition(-similarity, self.depth - 1, axis=1)[:, : self.depth]
            order = np.argsort(-np.take_along_axis(similarity, near, 1), axis=1, kind="stable")
            out[start:stop] = np.take_along_axis(near, order, 1)

        for _ in map_batches(work, len(self.anchors), self.threads, batch=128):
            pass
        return out

    def _draw(self) -> tuple[Floats, Floats, Floats]:
        """Return queries (q, dim), rows (c, dim), both centred, and their similarity (q, c)."""
        rng = self.rng
        picked = rng.integers(len(self.anchors), size=min(QUERIES, len(self.anchors)))
        rank = np.concatenate(
            [
                rng.integers(max(1, min(top, self.depth)), size=(len(picked), NEIGHBOURS // 3))
                for top in (15, 60, DEPTH)
            ],
            axis=1,
        )
        members = np.unique(self.neighbours[picked[:, None], rank])
        # The difference of two rows is noise with the corpus' own covariance.
        pair = rng.integers(len(self.rows), size=(2, len(picked)))
        noise = self.rows[pair[0]] - self.rows[pair[1]]
        queries = self.rows[self.anchors[picked]] + np.float32(NOISE) * noise
        length = np.sqrt(np.einsum("ij,ij->i", queries, queries))[:, None]
        cosine = (queries / np.where(length > 0, length, np.float32(1.0))) @ self.unit[members].T
        similarity = 1.0 - 2.0 / np.pi * np.arccos(np.clip(cosine, -1.0, 1.0))
        return queries - self.center, self.rows[members] - self.center, similarity

    def run(self, weights: Floats, threshold: Floats, steps: int) -> None:
        """Train `weights` (dim, bits) and `threshold` (bits,) in place by Adam, rate to zero."""
        both = [weights, threshold]
        mean = [np.zeros_like(part) for part in both]
        square = [np.zeros_like(part) for part in both]
        for step in range(steps):
            queries, members, similarity = self._draw()
            gradients = self._gradient(queries, members, similarity, weights, threshold)
            rate = RATE * (1.0 - step / steps)
            for k, (part, gradient) in enumerate(zip(both, gradients, strict=True)):
                mean[k] += 0.1 * (gradient - mean[k])
                square[k] += 0.01 * (gradient * gradient - square[k])
                first = mean[k] / (1.0 - 0.9 ** (step + 1))
                second = square[k] / (1.0 - 0.99 ** (step + 1))
                part -= (rate * first / (np.sqrt(second) + 1e-12)).astype(np.float32)

    def _gradient(
        self,
        queries: Floats,
        members: Floats,
        similarity: Floats,
        weights: Floats,
        threshold: Floats,
    ) -> tuple[Floats, Floats]:
        """Gradient of the loss by weights and threshold."""
        y = np.concatenate([queries, members])
        z = np.empty((len(y), weights.shape[1]), dtype=np.float32)

        def forward(start: int, stop: int) -> None:
            np.subtract(y[start:stop] @ weights, threshold, out=z[start:stop])

        for _ in map_batches(forward, len(y), self.threads, batch=320):
            pass
        h = np.where(z > 0, np.float32(1.0), np.float32(-1.0))
        asked, found = h[: len(queries)], h[len(queries) :]
        bits = np.float32(h.shape[1])
        alike: Floats = np.asarray(asked @ found.T, dtype=np.float32) / bits
        by_codes: Floats = loss_gradient(alike, similarity) / bits
        slope: Floats = np.concatenate([by_codes @ found, by_codes.T @ asked])
        scale = np.abs(z).mean(axis=0) + np.float32(1e-12)
        soft = np.tanh(z / scale)
        slope *= (1.0 - soft * soft) / scale

        def backward(start: int, stop: int) -> Floats:
            return y[start:stop].T @ slope[start:stop]

        by_weights = np.zeros_like(weights)
        for part in map_batches(backward, len(y), self.threads, batch=320):
            by_weights += part
        return by_weights, -slope.sum(axis=0)


def loss_gradient(codes: Floats, floats: Floats) -> Floats:
    """Return the gradient of the loss by the code similarities, (q, c), given both similarities."""
    wanted = _softmax(floats / TEMPERATURE)
    given = _softmax(codes / TEMPERATURE)
    gradient = (given - wanted) / np.float32(TEMPERATURE * len(codes))
    error = codes - floats
    error -= error.mean(axis=1, keepdims=True)
    gradient += np.float32(2.0 * SQUARED / error.size) * error
    return np.asarray(gradient, dtype=np.float32)


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
