"""The plainest searches, with numpy alone: an engine, and the truth that all are checked by."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.benchmark.corpus import Corpus

Answer = tuple[NDArray[np.int64], NDArray[Any]]
Codes = NDArray[np.uint64]

_BLOCK: Final = 16_384


def nearest(codes: Codes, queries: Codes, k: int) -> Answer:
    """Find the codes at the least Hamming distances.

    Parameters
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    k : int
        At most n.

    Returns
    -------
    rows, distances : (q, k) int64
        By ascending distance.
    """
    rows = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.int64)
    for number, query in enumerate(queries):
        found = np.concatenate(
            [
                np.bitwise_count(codes[start : start + _BLOCK] ^ query).sum(axis=1, dtype=np.int64)
                for start in range(0, len(codes), _BLOCK)
            ]
        )
        near = np.argpartition(found, k - 1)[:k]
        rows[number] = near[np.argsort(found[near], kind="stable")]
        distances[number] = found[rows[number]]
    return rows, distances


def best(corpus: Corpus, weights: NDArray[np.float32], k: int) -> Answer:
    """Find the codes with the largest products of their signs and the weights, block by block.

    Parameters
    ----------
    corpus : Corpus
    weights : (q, bits) float32
    k : int
        At most as many as there are codes.

    Returns
    -------
    rows : (q, k) int64
        In no order.
    scores : (q, k) float32
    """
    rows = np.empty((len(weights), 0), np.int64)
    scores = np.empty((len(weights), 0), np.float32)
    for start in range(0, len(corpus.codes), _BLOCK):
        part = signs(corpus.codes[start : start + _BLOCK], corpus.bits)
        numbers = np.arange(start, start + len(part))
        rows = np.hstack([rows, np.broadcast_to(numbers, (len(weights), len(part)))])
        scores = np.hstack([scores, weights @ part.T])
        if scores.shape[1] > k:
            near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            rows = np.take_along_axis(rows, near, axis=1)
            scores = np.take_along_axis(scores, near, axis=1)
    return rows, scores


def signs(codes: Codes, bits: int) -> NDArray[np.float32]:
    """Return codes (n, words) as -1 and +1, (n, bits) float32."""
    return np.where(packing.unpack(codes, bits), np.float32(1), np.float32(-1))
