"""Finding the parameters of a binarizer from a sample of the corpus."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import itq, learned, projections, ste, thresholds
from binq.binarizers.affine import Affine
from binq.binarizers.binarizer import Binarizer
from binq.errors import InputError, UsageError
from binq.types import METHODS, Locate, Method, Metric, Scoring

MAX_BITS: Final = 16_384
_ONE_BIT_PER_DIM: Final = ("sign", "mean", "median", "rabitq")


def needs_sample(method: Method) -> bool:
    """Return whether ``method`` is fitted on vectors."""
    return method != "sign"


def default_scoring(method: str | None) -> Scoring:
    """Return the scan that the codes of a method are made for."""
    return "asymmetric" if method in ("learned", "rabitq") else "hamming"


def fit(
    method: Method,
    dim: int,
    metric: Metric,
    sample: NDArray[np.float32] | None = None,
    *,
    bits: int | None = None,
    truncate_dim: int | None = None,
    seed: int = 0,
    threads: int = 1,
    locate: Locate = str,
) -> Binarizer:
    """Fit a binarizer.

    Parameters
    ----------
    method : {"sign", "mean", "median", "lsh", "rotate", "itq", "rabitq", "learned", "ste"}
    dim : int
        Dimensions of the vectors as they come in.
    metric : {"cosine", "ip", "l2"}
    sample : (n, dim) float32, optional
        Vectors to fit on; those that will be indexed, or a part of them. Sign needs none.
    bits : int, optional
        Width of a code; default one bit per dimension.
    truncate_dim : int, optional
        Binarize only the first so many dimensions.
    seed : int
        Draws what the method draws.
    threads : int
        Affects speed only.
    locate : callable
        Names a row of the sample in messages, given its number.

    Raises
    ------
    UsageError
        If the method is unknown, cannot give so many bits, or ``truncate_dim`` is not between 1
        and ``dim``.
    InputError
        If there is nothing to fit on, or under cosine a row is zero once truncated.
    """
    if method not in METHODS:
        raise UsageError("unknown method", "`method`", ", ".join(METHODS), str(method))
    if truncate_dim is not None and not 1 <= truncate_dim <= dim:
        raise UsageError(
            "the truncation does not fit", "`truncate_dim`", f"1 to {dim}", str(truncate_dim)
        )
    input_dim = truncate_dim or dim
    width = _width(method, input_dim, bits)
    if not needs_sample(method):
        return Binarizer(method, dim, metric, thresholds.sign(input_dim), truncate_dim)
    if sample is None or not len(sample):
        raise InputError(
            f"method {method} has no rows to fit on",
            expected="at least one row",
            got="none",
            next_step="use `method=sign`, or a fitted `binarizer`",
        )
    x = Binarizer(method, dim, metric, thresholds.sign(input_dim), truncate_dim).prepare(
        sample, locate
    )
    affine = _fit(method, x, width, seed, threads)
    return Binarizer(method, dim, metric, affine, truncate_dim, seed, len(x))


def _width(method: Method, input_dim: int, bits: int | None) -> int:
    """Return the width of a code, after refusing what the method cannot give."""
    if bits is None:
        return input_dim
    if method in _ONE_BIT_PER_DIM and bits != input_dim:
        raise UsageError(
            f"method {method} gives one bit per dimension",
            "`bits`",
            str(input_dim),
            str(bits),
            "use `truncate_dim` for fewer bits, or lsh, rotate, learned or ste",
        )
    if method == "itq" and bits > input_dim:
        raise UsageError(
            "method itq gives at most one bit per dimension",
            "`bits`",
            f"1 to {input_dim}",
            str(bits),
            "use lsh, rotate, learned or ste for more bits",
        )
    if not 1 <= bits <= MAX_BITS:
        raise UsageError("the width is out of range", "`bits`", f"1 to {MAX_BITS}", str(bits))
    return bits


def _fit(method: Method, x: NDArray[np.float32], bits: int, seed: int, threads: int) -> Affine:
    """Fit on prepared rows."""
    if method == "mean":
        return thresholds.mean(x)
    if method == "median":
        return thresholds.median(x)
    if method == "lsh":
        return projections.lsh(x, bits, seed=seed, threads=threads)
    if method == "rotate":
        return projections.rotate(x, bits, seed=seed)
    if method == "rabitq":
        return projections.rabitq(x, seed=seed)
    if method == "itq":
        return itq.fit(x, bits, seed=seed, threads=threads)
    if method == "learned":
        return learned.fit(x, bits, seed=seed, threads=threads)
    return ste.fit(x, bits, seed=seed, threads=threads)
