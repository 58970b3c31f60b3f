"""The oracle: the slow, obvious version of everything that binq does fast."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np


def pack(flags: np.ndarray) -> np.ndarray:
    """Pack (n, bits) booleans into (n, words) uint64: bit j is bit j % 64 of word j // 64."""
    n, bits = flags.shape
    codes = [[0] * (-(-bits // 64)) for _ in range(n)]
    for row in range(n):
        for j in range(bits):
            if flags[row, j]:
                codes[row][j // 64] |= 1 << (j % 64)
    return np.array(codes, np.uint64).reshape(n, -(-bits // 64))


def hamming(a: np.ndarray, b: np.ndarray) -> int:
    """Count the bits in which two codes differ."""
    return sum((int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True))


def topk(codes: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, int]]:
    """Return the best min(k, n) pairs (distance, row) in that order."""
    return sorted((hamming(code, query), row) for row, code in enumerate(codes))[:k]


def within(codes: np.ndarray, query: np.ndarray, radius: int) -> list[tuple[int, int]]:
    """Return all pairs (distance, row) at distance at most ``radius``, in that order."""
    return [pair for pair in topk(codes, query, len(codes)) if pair[0] <= radius]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length one in double precision."""
    wide = np.asarray(vectors, np.float64)
    return wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))


def score(query: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """Score vectors (n, dim) against a query (dim,); larger is better."""
    query, vectors = np.asarray(query, np.float64), np.asarray(vectors, np.float64)
    if metric == "l2":
        return -((vectors - query) ** 2).sum(axis=1)
    if metric == "cosine":
        query, vectors = unit(query[None])[0], unit(vectors)
    return vectors @ query


def neighbours(query: np.ndarray, vectors: np.ndarray, k: int, metric: str) -> list[int]:
    """Return the best min(k, n) rows, ordered by (score descending, row ascending)."""
    values = score(query, vectors, metric)
    return sorted(range(len(vectors)), key=lambda row: (-values[row], row))[:k]


def recall(returned: Any, true: Any) -> float:
    """Return |returned ∩ true| / |true|."""
    wanted = {int(row) for row in true}
    return len(wanted & {int(row) for row in returned}) / len(wanted)


def expected_recall(distances: list[int], true: set[int], k: int) -> tuple[float, float]:
    """Return mean and variance of recall@k over every way of breaking ties at the cut."""
    ordered = sorted(range(len(distances)), key=lambda row: distances[row])
    cut = distances[ordered[k - 1]]
    closer = {row for row in ordered if distances[row] < cut}
    tied = [row for row in ordered if distances[row] == cut]
    outcomes = [
        Fraction(len(true & (closer | set(drawn))), k)
        for drawn in combinations(tied, k - len(closer))
    ]
    mean = sum(outcomes) / len(outcomes)
    variance = sum((outcome - mean) ** 2 for outcome in outcomes) / len(outcomes)
    return float(mean), float(variance)
