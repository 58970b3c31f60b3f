"""Finding the parameters of a binarizer from a sample of the corpus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import thresholds
from binq.binarizers.binarizer import Binarizer, unfitted
from binq.binarizers.methods import TABLE
from binq.errors import InputError, UsageError
from binq.similarity import unusual_power
from binq.types import MAX_DIM, MAX_MATRIX, METHODS, Locate, Method, Metric, Scoring


def default_scoring(method: str | None) -> Scoring:
    """Return the scan that the codes of a method are made for; Hamming where it is not known."""
    return TABLE[method].scoring if method in TABLE else "hamming"


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
    spec = TABLE[method]
    if not spec.needs_sample:
        return Binarizer(method, dim, metric, unfitted(method, input_dim), truncate_dim)
    if sample is None or not len(sample):
        raise InputError(
            f"method {method} has no rows to fit on",
            expected="at least one row",
            got="none",
            next_step="use `method=sign`, or a fitted `binarizer`",
        )
    draft = Binarizer(method, dim, metric, thresholds.sign(input_dim), truncate_dim)
    x = draft.prepare(sample, locate)
    power = unusual_power(x)
    # Products of numbers near either end of float32 are beyond it: fitted where none is.
    affine = spec.fit(np.ldexp(x, -power) if power else x, width, seed, threads)
    if power:
        affine = affine.magnified(power, decoder=not spec.centred)
    return replace(draft, affine=affine, seed=seed, sample=len(x))


def _width(method: Method, input_dim: int, bits: int | None) -> int:
    """Return the width of a code, after refusing what the method cannot give."""
    width = input_dim if bits is None else bits
    if not 1 <= width <= MAX_DIM:
        raise UsageError("the width is out of range", "`bits`", f"1 to {MAX_DIM}", str(width))
    if not TABLE[method].affordable(width, input_dim):
        raise UsageError(
            f"method {method} would need too large a matrix",
            "`bits`",
            f"at most {MAX_MATRIX:,} numbers",
            f"{TABLE[method].matrix(width, input_dim):,} for {width} bits of {input_dim} dims",
            "use fewer bits, `truncate_dim`, or a method without a matrix such as sign or rotate",
        )
    if not TABLE[method].allows(width, input_dim):
        free = ", ".join(name for name, spec in TABLE.items() if spec.widths == "any")
        most = TABLE[method].widths == "at most dim"
        raise UsageError(
            f"method {method} gives {'at most ' if most else ''}one bit per dimension",
            "`bits`",
            f"1 to {input_dim}" if most else str(input_dim),
            str(width),
            f"use `truncate_dim` for fewer bits, or a method for any width: {free}",
        )
    return width
