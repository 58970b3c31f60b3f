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
    """Find the codes with the largest products of their signs and the weights.

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
    codes = corpus.codes
    scores = np.concatenate(
        [
            weights @ signs(codes[start : start + _BLOCK], corpus.bits).T
            for start in range(0, len(codes), _BLOCK)
        ],
        axis=1,
    )
    rows = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


def best_scores(corpus: Corpus, weights: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the scores alone, (q, k) float32 in no order, in the memory of one block."""
    found = np.empty((len(weights), 0), np.float32)
    for start in range(0, len(corpus.codes), _BLOCK):
        scores = weights @ signs(corpus.codes[start : start + _BLOCK], corpus.bits).T
        found = np.concatenate([found, scores], axis=1)
        if found.shape[1] > k:
            found = -np.partition(-found, k - 1, axis=1)[:, :k]
    return found


def signs(codes: Codes, bits: int) -> NDArray[np.float32]:
    """Return codes (n, words) as -1 and +1, (n, bits) float32."""
    return np.where(packing.unpack(codes, bits), np.float32(1), np.float32(-1))
