"""``--method auto``: the method that finds most of the true neighbours of rows held out.

The sample is split: rows held out ask, the others are binarized by every candidate that the wanted
width allows and that is quick to fit. Neither queries nor the rows that ask are fitted on. Of the
candidates that the held-out rows cannot tell from the best (the 95 % interval of the paired
difference contains zero), the simplest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq import binarizers
from binq.binarizers import Binarizer
from binq.building.options import BinarizerOptions
from binq.errors import InputError
from binq.evaluation.statistics import clustered, equal_rows, hold_out, recall
from binq.kernels import asymmetric, hamming
from binq.similarity import best_first, exact_neighbours
from binq.structures.flat import refuse_wide
from binq.types import Method, Scoring
from binq.vectors.sample import Sample

K: Final = 10
ROWS: Final = 20_000
"""Rows that candidates are fitted on and that are searched, at most."""
QUERIES: Final = 500
FEWEST: Final = 100
"""Rows below which there is nothing to choose by."""
_RESCORED: Final = 4


def candidates(scoring: Scoring, bits: int, dim: int, distance: bool = False) -> list[Method]:
    """Return the methods to choose from, the simplest first.

    With ``distance``, those whose codes carry a Hamming distance.
    """
    return [
        name
        for name, spec in binarizers.TABLE.items()
        if spec.allows(bits, dim)
        and spec.auto(scoring, bits, dim)
        and (spec.hamming or not distance)
    ]


def choose(
    options: BinarizerOptions,
    dim: int,
    sample: Sample | None,
    fit: Callable[..., Binarizer],
    threads: int = 1,
    distance: bool = False,
) -> Binarizer:
    """Choose a method on rows held out of the sample, and fit it on all of them.

    Parameters
    ----------
    options : BinarizerOptions
    dim : int
        Dimensions of the vectors as they come in.
    sample : Sample or None
    fit : callable
        Called with (method, rows), and with what names a row in messages at last; returns a fitted
        binarizer.
    threads : int
        Affects speed only.
    distance : bool
        Choose among methods whose codes carry a Hamming distance, as graphs need.

    Returns
    -------
    Binarizer
        Its ``chosen_by`` says what was picked, over what, and why.

    Raises
    ------
    UsageError, InputError
        As :func:`binq.binarizers.fit`.
    """
    if sample is None or not len(sample.vectors):
        raise InputError(
            "method auto has no rows to choose by",
            expected="at least one row",
            got="none",
            next_step="use `method=sign`, or a fitted `binarizer`",
        )
    rows, scoring = sample.vectors, options.scoring or "hamming"
    width = options.truncate_dim or dim
    if scoring == "asymmetric":
        refuse_wide(options.bits or width)
    methods = candidates(scoring, options.bits or width, width, distance)
    corpus, queries = held_out(rows, options.seed)
    if not len(queries):
        picked = methods[0]
        why = f"auto: {picked}, as {len(rows)} rows are too few to choose by"
    else:
        truth = exact_neighbours(queries, [(0, corpus)], K, options.metric)[0]
        found = {
            method: _recall(fit(method, corpus), corpus, queries, truth, scoring, threads)
            for method in methods
        }
        picked, reason = pick(found, equal_rows(queries))
        means = ", ".join(f"{method} {values.mean():.3f}" for method, values in found.items())
        why = (
            f"auto: {picked}, {reason} by recall@{K} of {len(queries):,} rows held out of "
            f"{len(corpus) + len(queries):,}, {scoring} scoring: {means}"
        )
    return replace(fit(picked, rows, sample.locate), chosen_by=why)


def pick(
    found: Mapping[Method, NDArray[np.float64]], groups: NDArray[np.int64]
) -> tuple[Method, str]:
    """Return the simplest method that cannot be told from the best, and why it is taken.

    Parameters
    ----------
    found : mapping of str to (q,) float64
        Recall of every query by each method, the simplest first.
    groups : (q,) int64
        Which queries are one and the same.
    """
    best = max(found, key=lambda method: float(found[method].mean()))
    for method in found:
        low = clustered(found[best] - found[method], groups).low
        if method != best and (low <= 0 or math.isnan(low)):
            return method, f"not to be told from {best}, and simpler"
        if method == best:
            break
    return best, "the best"


def held_out(
    sample: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows to fit on and rows that ask; no row of the one equals a row of the other.

    None asks where there are fewer than 100 rows.
    """
    if len(sample) < FEWEST:
        return sample, sample[:0]
    order = np.random.default_rng(seed).permutation(len(sample))
    few = sample[np.sort(order[: ROWS + QUERIES])]
    groups = equal_rows(few)
    wanted = min(QUERIES, (int(groups.max()) + 1) // 10)
    kept, asking = hold_out(groups, wanted, seed + 1)
    return few[kept], few[asking]


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
