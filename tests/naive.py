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


def bitmap(rows: set[int], n: int) -> np.ndarray:
    """Return rows as bits: bit r % 64 of word r // 64."""
    words = [0] * (-(-n // 64))
    for row in rows:
        words[row // 64] |= 1 << row % 64
    return np.array(words, np.uint64)


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


def signs(codes: np.ndarray) -> np.ndarray:
    """Return codes (n, words) as (n, 64 * words) float64 in -1 and +1."""
    octets = codes.astype("<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little").astype(np.float64) * 2 - 1


def units(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 4-bit units and steps of weights: 7 steps hold the largest, 16 bits the sum."""
    bits = -(-weights.shape[1] // 64) * 64
    sizes = np.abs(weights).astype(np.float64)
    steps = np.maximum(sizes.max(axis=1) / 7, sizes.sum(axis=1) / (65535 - bits / 2))
    steps = np.nextafter(steps.astype(np.float32), np.float32(np.inf))
    steps[steps < np.finfo(np.float32).tiny] = 1
    return np.rint(weights / steps[:, None]), steps


def asymmetric(
    weights: np.ndarray,
    codes: np.ndarray,
    base: np.ndarray,
    offset: np.ndarray,
    factor: np.ndarray | None,
    addend: np.ndarray | None,
) -> np.ndarray:
    """Return the scores (q, n): (<w, b> + base) * factor + addend + offset, b in -1 and +1."""
    ups = signs(codes)[:, : weights.shape[1]]
    scores = weights.astype(np.float64) @ ups.T + base.astype(np.float64)[:, None]
    if factor is not None:
        scores = scores * factor.astype(np.float64)
    if addend is not None:
        scores = scores + addend.astype(np.float64)
    return scores + offset.astype(np.float64)[:, None]


def tabu(
    y: np.ndarray, start: np.ndarray, decoder: np.ndarray, steps: int, tenure: int
) -> np.ndarray:
    """Improve a code (bits,) of -1 and +1 for ||y - b decoder||^2 by trying every flip."""

    def error(b: np.ndarray) -> float:
        return float(((y - b @ decoder) ** 2).sum())

    b = start.astype(np.float64)
    best, least, left = b.copy(), np.inf, steps
    banned: list[int] = []
    found = False
    while True:
        after = []
        for i in range(len(b)):
            flipped = b.copy()
            flipped[i] = -flipped[i]
            after.append(np.inf if i in banned else error(flipped))
        i = int(np.argmin(after))
        if after[i] >= error(b):
            found = True
            if error(b) < least:
                best, least = b.copy(), error(b)
        if found:
            left -= 1
            if left < 0:
                return best
            banned = [*banned, i][-tenure:] if tenure else []
        b[i] = -b[i]


def rotation(signs: np.ndarray) -> np.ndarray:
    """Return the matrix of one structured rotation by signs (passes, dim), set being -1."""
    passes, dim = signs.shape
    span = 1
    while 2 * span <= dim:
        span *= 2
    index = np.arange(span)
    parity = np.bitwise_count(index[:, None] & index) & 1
    hadamard = (1.0 - 2.0 * parity) / np.sqrt(span)
    first, last = np.eye(dim), np.eye(dim)
    first[:span, :span] = hadamard
    last[dim - span :, dim - span :] = hadamard
    riffle = np.eye(dim)[:, [*range(0, dim, 2), *range(1, dim, 2)]]
    turn = np.eye(dim)
    for number in range(passes):
        flips = np.where(signs[number], -1.0, 1.0)
        if number and span < dim:
            turn = turn @ riffle
        turn = turn @ np.diag(flips) @ first
        if span < dim:
            again = np.where(np.arange(dim) < dim - span, 1.0, flips[::-1])
            turn = turn @ np.diag(again) @ last
    return turn


def smallest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return places and values of the k smallest of each row, in the order (value, place)."""
    places = np.argsort(values, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(values, places, axis=1)


def of_lists(
    values: np.ndarray, offsets: Any, visited: Any, allowed: set[int], numbers: Any, k: int
) -> list[tuple[Any, int]]:
    """Return the best min(k, found) pairs (value, number) of the places on the visited lists."""
    places = {
        place
        for number in set(visited) - {-1}
        for place in range(offsets[number], offsets[number + 1])
    }
    return sorted((values[place], int(numbers[place])) for place in places & allowed)[:k]
