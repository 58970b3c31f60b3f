"""``--method auto``: the method that finds most of the true neighbours of rows held out.

The sample is split: rows held out ask, the others are binarized by every candidate that the wanted
width allows and that is quick to fit. Neither queries nor the rows that ask are fitted on. Of the
candidates that the held-out rows cannot tell from the best (the 95 % interval of the paired
difference contains zero), the simplest is taken.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq import binarizers
from binq.binarizers import Binarizer, fit
from binq.errors import InputError
from binq.evaluation.statistics import clustered, equal_rows, recall
from binq.kernels import asymmetric, hamming
from binq.similarity import best_first, exact_neighbours
from binq.types import Locate, Method, Metric, Scoring

K: Final = 10
ROWS: Final = 20_000
"""Rows that candidates are fitted on and that are searched, at most."""
QUERIES: Final = 500
FEWEST: Final = 100
"""Rows below which there is nothing to choose by."""
_RESCORED: Final = 4


def candidates(scoring: Scoring, bits: int, dim: int) -> list[Method]:
    """Return the methods to choose from, the simplest first."""
    return [
        name
        for name, spec in binarizers.TABLE.items()
        if spec.allows(bits, dim) and spec.auto(scoring, bits, dim)
    ]


def choose(
    dim: int,
    metric: Metric,
    sample: NDArray[np.float32],
    *,
    scoring: Scoring = "hamming",
    bits: int | None = None,
    truncate_dim: int | None = None,
    seed: int = 0,
    threads: int = 1,
    locate: Locate = str,
) -> Binarizer:
    """Choose a method on rows held out of the sample, and fit it on all of them.

    Parameters
    ----------
    dim : int
        Dimensions of the vectors as they come in.
    metric : {"cosine", "ip", "l2"}
    sample : (n, dim) float32
    scoring : {"hamming", "asymmetric"}
        The scan that the codes are for.
    bits, truncate_dim : int, optional
        As for :func:`binq.binarizers.fit`.
    seed : int
        Draws the split, and what the methods draw.
    threads : int
        Affects speed only.
    locate : callable
        Names a row of the sample in messages, given its number.

    Returns
    -------
    Binarizer
        Its ``chosen_by`` says what was picked, over what, and why.

    Raises
    ------
    UsageError, InputError
        As :func:`binq.binarizers.fit`.
    """
    if not len(sample):
        raise InputError(
            "method auto has no rows to choose by",
            expected="at least one row",
            got="none",
            next_step="use `method=sign`, or a fitted `binarizer`",
        )

    def fitted(method: Method, rows: NDArray[np.float32], where: Locate = str) -> Binarizer:
        return fit(
            method,
            dim,
            metric,
            rows,
            bits=bits,
            truncate_dim=truncate_dim,
            seed=seed,
            threads=threads,
            locate=where,
        )

    width = truncate_dim or dim
    methods = candidates(scoring, bits or width, width)
    few = len(sample) < FEWEST
    corpus, queries = (sample, sample) if few else _split(sample, seed)
    if few or not len(queries):
        why = f"auto: {methods[0]}, as {len(sample)} rows are too few to choose by"
        return replace(fitted(methods[0], sample, locate), chosen_by=why)
    truth = exact_neighbours(queries, [(0, corpus)], K, metric)[0]
    found = {
        method: _recall(fitted(method, corpus), corpus, queries, truth, scoring, threads)
        for method in methods
    }
    best = max(methods, key=lambda method: float(found[method].mean()))
    groups = equal_rows(queries)
    picked = next(
        method
        for method in methods
        if method == best or _reaches_zero(found[best] - found[method], groups)
    )
    means = ", ".join(f"{method} {values.mean():.3f}" for method, values in found.items())
    reason = "the best" if picked == best else f"not to be told from {best}, and simpler"
    why = (
        f"auto: {picked}, {reason} by recall@{K} of {len(queries):,} rows held out of "
        f"{len(corpus) + len(queries):,}, {scoring} scoring: {means}"
    )
    return replace(fitted(picked, sample, locate), chosen_by=why)


def _split(
    sample: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows to fit on and rows that ask; no row of the one equals a row of the other."""
    order = np.random.default_rng(seed).permutation(len(sample))
    few = sample[np.sort(order[: ROWS + QUERIES])]
    groups = equal_rows(few)
    names, first = np.unique(groups, return_index=True)
    wanted = min(QUERIES, len(names) // 10)
    out = np.zeros(len(names), np.bool_)
    out[np.random.default_rng(seed + 1).choice(len(names), wanted, replace=False)] = True
    return few[~out[groups]], few[np.sort(first[out])]


def _recall(
    binarizer: Binarizer,
    corpus: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: NDArray[np.int64],
    scoring: Scoring,
    threads: int,
) -> NDArray[np.float64]:
    """Return recall@K of every query with the codes alone."""
    if scoring == "hamming":
        codes = binarizer.encode(corpus, str, threads)
        asked = binarizer.encode(queries, str, threads)
        return recall(hamming.topk(codes, asked, K, threads)[0], truth)
    codes, terms = binarizer.encode_with_terms(corpus, str, threads)
    weights = binarizer.weights(queries)
    row_terms = (terms.factor, terms.addend)
    near, _ = asymmetric.topk(
        codes, weights.values, weights.base, _RESCORED * K, *row_terms, threads
    )
    scores = asymmetric.exact(codes, weights.values, weights.base, near, *row_terms)
    order = best_first(near, scores.astype(np.float64), K)
    return recall(np.take_along_axis(near, order, axis=1), truth)


def _reaches_zero(difference: NDArray[np.float64], groups: NDArray[np.int64]) -> bool:
    """Return whether the interval of the mean of paired differences contains zero."""
    low = clustered(difference, groups).low
    return low <= 0 or math.isnan(low)
