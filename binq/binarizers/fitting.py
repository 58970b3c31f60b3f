"""Finding the parameters of a binarizer from a sample of the corpus."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from binq.binarizers.affine import Binarizer, Locate
from binq.errors import InputError, UsageError
from binq.similarity import Metric

Method = Literal["sign", "mean", "median"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)


def needs_sample(method: Method) -> bool:
    """Return whether ``method`` is fitted on vectors."""
    return method != "sign"


def fit(
    method: Method,
    dim: int,
    metric: Metric,
    sample: NDArray[np.float32] | None = None,
    *,
    truncate_dim: int | None = None,
    seed: int = 0,
    locate: Locate = str,
) -> Binarizer:
    """Fit a binarizer.

    ``sign`` puts every threshold at zero and is not fitted; ``mean`` and ``median`` put it at the
    mean or median of that dimension.

    Parameters
    ----------
    method : {"sign", "mean", "median"}
    dim : int
        Dimensions of the vectors as they come in.
    metric : {"cosine", "ip", "l2"}
    sample : (n, dim) float32, optional
        Vectors to fit on; those that will be indexed, or a part of them.
    truncate_dim : int, optional
        Binarize only the first so many dimensions.
    seed : int
        With which the sample was drawn; recorded.
    locate : callable
        Names a row of the sample in messages, given its number.

    Raises
    ------
    UsageError
        If the method is unknown or ``truncate_dim`` is not between 1 and ``dim``.
    InputError
        If there is nothing to fit on, or under cosine a row is zero once truncated.
    """
    if method not in METHODS:
        raise UsageError("unknown method", "--method", ", ".join(METHODS), str(method))
    if truncate_dim is not None and not 1 <= truncate_dim <= dim:
        raise UsageError(
            "the truncation does not fit", "--truncate-dim", f"1 to {dim}", str(truncate_dim)
        )
    unfitted = Binarizer(method, dim, metric, truncate_dim)
    if not needs_sample(method):
        return unfitted
    if sample is None or not len(sample):
        raise InputError(
            f"method {method} has no rows to fit on",
            expected="at least one row",
            got="none",
            next_step="use --method sign, or a fitted --binarizer",
        )
    vectors = unfitted.prepare(sample, locate)
    threshold = _mean(vectors) if method == "mean" else _median(vectors)
    return Binarizer(method, dim, metric, truncate_dim, threshold, seed, len(sample))


def _mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    means: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
    return means.astype(np.float32)


def _median(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of every column, a few columns at a time, since each is copied."""
    threshold = np.empty(vectors.shape[1], np.float32)
    for first in range(0, len(threshold), 16):
        threshold[first : first + 16] = np.median(vectors[:, first : first + 16], axis=0)
    return threshold
