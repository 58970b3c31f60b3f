"""Float vectors under a metric: normalisation, scores, exact nearest neighbours.

A score is larger for a better match: cosine, inner product, or minus the squared Euclidean
distance. Everything is ordered by (score descending, row ascending).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.types import MAX_NORM, Locate, Metric

# Single-precision products misplace near ties: this many neighbours more than wanted are kept and
# scored again in double precision. Where rounding may have hidden yet others, all that it may have
# hidden are scored again.
_MARGIN: Final = 32
_USUAL: Final = 16
_BLOCK_BYTES: Final = 32 << 20


def normalize(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scale rows to unit length.

    Parameters
    ----------
    vectors : (n, dim) float32
        Finite.

    Returns
    -------
    unit : (n, dim) float32
        A zero row stays zero.
    zero : (m,) int64
        The numbers of the rows whose norm is zero.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors)
    # Outside this range the sum of squares has lost digits to under- or overflow.
    if squares.size and squares.min() > 1e-20 and squares.max() < 1e30:
        return vectors * (1 / np.sqrt(squares))[:, None], np.empty(0, np.int64)
    safe = (squares > 1e-20) & (squares < 1e30)
    scale = np.ones(len(vectors), dtype=np.float32)
    np.divide(1, np.sqrt(squares), out=scale, where=safe)
    unit = vectors * scale[:, None]
    rest = np.flatnonzero(~safe)
    if not rest.size:
        return unit, rest
    exact = vectors[rest].astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    unit[rest] = exact / np.where(norms == 0, 1, norms)[:, None]
    return unit, rest[norms == 0]


def unit_rows(vectors: NDArray[np.float32], locate: Locate = str) -> NDArray[np.float32]:
    """Normalise rows, refusing zero rows.

    Parameters
    ----------
    vectors : (n, dim) float32
    locate : callable
        Names a row in messages, given its number within ``vectors``.

    Raises
    ------
    InputError
        If a row has norm zero.
    """
    unit, zero = normalize(vectors)
    if zero.size:
        raise InputError(
            "a vector has norm zero",
            locate(int(zero[0])),
            "a direction, since the metric is cosine",
            next_step="drop that row, or use `metric=ip` or l2",
        )
    return unit


def check_norms(
    vectors: NDArray[np.float32],
    locate: Locate = str,
    squares: NDArray[np.float32] | None = None,
) -> None:
    """Refuse rows that are too long for ip and l2.

    Parameters
    ----------
    vectors : (n, dim) float32
    locate : callable
        Names a row in messages, given its number within ``vectors``.
    squares : (n,) float32, optional
        Their sums of squares, where they are at hand.

    Raises
    ------
    InputError
        If a norm is above 2^62.
    """
    if squares is None:
        squares = np.einsum("ij,ij->i", vectors, vectors)
    # What rounding may have changed, or overflow, is looked at again in double precision.
    for row in np.flatnonzero(~(squares < 0.99 * MAX_NORM**2)):
        norm = float(np.linalg.norm(vectors[row].astype(np.float64)))
        if not norm <= MAX_NORM:
            raise InputError(
                "a vector is too long",
                locate(int(row)),
                "a norm of at most 2^62 under `metric=ip` and l2",
                f"{norm:.4g}",
                "scale all vectors and queries down, or use `metric=cosine`",
            )


def unusual_power(vectors: NDArray[np.float32]) -> int:
    """Return the power of two to divide vectors by before their numbers are multiplied at will.

    The largest is then about 1; 0 where all are of usual size, or nothing.
    """
    power = int(np.frexp(max(vectors.max(initial=0), -vectors.min(initial=0)))[1])
    return power if abs(power) > _USUAL else 0


def comparable(
    vectors: NDArray[np.float32], metric: Metric, locate: Locate = str
) -> NDArray[np.float32]:
    """Return rows as a metric compares them: of unit length under cosine, else as they are.

    Every vector that comes in passes through here, or through what this is made of.

    Parameters
    ----------
    vectors : (n, dim) float32
    metric : {"cosine", "ip", "l2"}
    locate : callable
        Names a row in messages, given its number within ``vectors``.

    Raises
    ------
    InputError
        If a row is zero under cosine, or longer than 2^62 under the others.
    """
    if metric == "cosine":
        return unit_rows(vectors, locate)
    check_norms(vectors, locate)
    return vectors


def scores(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric
) -> NDArray[np.float64]:
    """Score every query against vectors of its own, in double precision.

    Parameters
    ----------
    queries : (q, dim) float32
        Normalised if the metric is cosine.
    vectors : (q, m, dim) float32
        Likewise.
    metric : {"cosine", "ip", "l2"}

    Returns
    -------
    (q, m) float64
        Independent of the number of threads.
    """
    points = vectors.astype(np.float64)
    probes = queries.astype(np.float64)
    if metric == "l2":
        points -= probes[:, None, :]
        found: NDArray[np.float64] = -np.einsum("qmd,qmd->qm", points, points)
    else:
        found = np.einsum("qmd,qd->qm", points, probes)
        if metric == "cosine":
            # Vectors that were rounded to floats may be a hair longer than 1.
            np.clip(found, -1, 1, out=found)
    return found


def best_first(rows: NDArray[np.int64], values: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Return positions (q, k) that order each line by (value descending, row ascending).

    Parameters
    ----------
    rows : (q, m) int64
    values : (q, m) float64
    k : int
    """
    order: NDArray[np.intp] = np.lexsort((rows, -values), axis=-1)
    return order[:, :k]


def exact_neighbours(
    queries: NDArray[np.float32],
    batches: Iterable[tuple[int, NDArray[np.float32]]],
    k: int,
    metric: Metric,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find exact nearest neighbours by blocked matrix products.

    Candidates are found in single precision and scored again in double precision; none is lost to
    rounding, so that equal vectors tie exactly.

    Parameters
    ----------
    queries : (q, dim) float32
        Normalised if the metric is cosine.
    batches : iterable of (first row, (m, dim) float32)
        The corpus, likewise.
    k : int
    metric : {"cosine", "ip", "l2"}

    Returns
    -------
    rows : (q, min(k, n)) int64
        Ordered by (score descending, row ascending).
    values : (q, min(k, n)) float64
        Their scores.
    """
    count, dim = queries.shape
    best_rows = np.empty((count, 0), np.int64)
    best_values = np.empty((count, 0), np.float64)
    step = max(1, _BLOCK_BYTES // (4 * max(count, 1)))
    per_take = max(1, _BLOCK_BYTES // (8 * dim * (min(k, step) + _MARGIN)))
    centre = None
    for start, vectors in batches:
        for low in range(0, len(vectors), step):
            block = vectors[low : low + step]
            if centre is None and metric == "l2":
                centre = block.mean(axis=0, dtype=np.float64).astype(np.float32)
            coarse, error = _coarse_scores(queries, block, centre)
            merged = []
            for first in range(0, count, per_take):
                part = slice(first, first + per_take)
                near, fine = _candidates(queries[part], block, coarse[part], error[part], k, metric)
                rows = np.concatenate([best_rows[part, :k], near + (start + low)], axis=1)
                values = np.concatenate([best_values[part, :k], fine], axis=1)
                order = best_first(rows, values, k)
                merged.append([np.take_along_axis(part, order, 1) for part in (rows, values)])
            if merged:
                best_rows, best_values = map(np.concatenate, zip(*merged, strict=True))
    return best_rows, best_values


def _coarse_scores(
    queries: NDArray[np.float32], block: NDArray[np.float32], centre: NDArray[np.float32] | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return scores (q, m) as a matrix product gives them, and how far they may be off, (q,).

    With a ``centre`` (dim,) they are 2 q·x - x·x, which orders as minus the squared L2 distance
    does; subtracting a centre changes no distance, and keeps the rounding small.

    The error of a product of length d in precision u is at most d·u / (1 - d·u) times the norms
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); a few u more are
    for the subtractions.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        points, probes = (block, queries) if centre is None else (block - centre, queries - centre)
        coarse: NDArray[Any] = probes @ points.T
        if centre is not None:
            coarse *= 2
            coarse -= np.einsum("ij,ij->i", points, points)
    reach = np.sqrt(np.einsum("ij,ij->i", points, points, dtype=np.float64).max(initial=0))
    norms = np.sqrt(np.einsum("ij,ij->i", probes, probes, dtype=np.float64))
    error = norms * reach if centre is None else (2 * norms + reach) * reach
    error *= (block.shape[1] + 8) * np.finfo(np.float32).eps
    if not np.isfinite(coarse).all():
        coarse = probes.astype(np.float64) @ points.astype(np.float64).T
        if centre is not None:
            coarse = 2 * coarse - np.einsum("ij,ij->i", points, points, dtype=np.float64)
    return coarse, error


def _candidates(
    queries: NDArray[np.float32],
    block: NDArray[np.float32],
    coarse: NDArray[Any],
    error: NDArray[np.float64],
    k: int,
    metric: Metric,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return rows of the block (q, at least min(k, m)) that hold the best k, and their scores."""
    kept = min(k + _MARGIN, len(block))
    near = _largest(coarse, kept)
    fine = scores(queries, block[near], metric)
    if kept == len(block):
        return near, fine
    held = np.sort(np.take_along_axis(coarse, near, axis=1), axis=1)
    floors = held[:, -k] - 2 * error
    for query in np.flatnonzero(held[:, 0] >= floors):
        rows = np.flatnonzero(coarse[query] >= floors[query])
        values = scores(queries[query : query + 1], block[rows][None], metric)
        order = best_first(rows[None], values, kept)
        near[query], fine[query] = rows[order[0]], values[0, order[0]]
    return near, fine


def _largest(values: NDArray[Any], m: int) -> NDArray[np.int64]:
    """Return the column numbers (q, m) of the m largest values of each line, in any order."""
    if m >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape).astype(np.int64)
    return np.argpartition(values, -m, axis=1)[:, -m:]
