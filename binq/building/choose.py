"""Which binarizer a build uses: loaded, fitted, or picked by auto."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq import binarizers
from binq.binarizers import Binarizer
from binq.building import auto
from binq.building.options import BinarizerOptions
from binq.errors import BinqWarning, InputError, UsageError
from binq.similarity import comparable
from binq.storage.sections import to_float16
from binq.types import Locate, Method, Metric, StoredVectors
from binq.vectors import Batch, VectorSource
from binq.vectors.refusing import sift
from binq.vectors.sample import Sample, read_sample, rewindable

# Of fewer numbers, all may well happen to have one sign.
_TELLING_ROWS: Final = 100
_TELLING_DIM: Final = 16


def needs_fit(options: BinarizerOptions) -> bool:
    """Return whether the vectors must be read once before they can be binarized."""
    if options.binarizer is not None:
        return False
    return options.method == "auto" or binarizers.TABLE[options.method or "sign"].needs_sample


def look(
    source: VectorSource,
    output: str | os.PathLike[str],
    options: BinarizerOptions,
    stack: ExitStack,
    stored: StoredVectors = "none",
) -> tuple[VectorSource, Sample]:
    """Read a source once before it is encoded: return it, rewound, and a sample of its rows.

    What cannot be read twice is kept in a file beside ``output`` until ``stack`` ends.
    """
    source, rows = rewindable(source, Path(os.path.realpath(output)).parent, stack)
    left_out = partial(
        usable,
        source=source,
        metric=options.metric,
        truncate_dim=options.truncate_dim,
        stored=stored,
    )
    sample = read_sample(
        source,
        rows,
        options.sample,
        options.seed,
        options.metric,
        left_out if source.on_error == "skip" else None,
    )
    return source, sample


def usable(
    batch: Batch,
    source: VectorSource,
    metric: Metric,
    truncate_dim: int | None,
    stored: StoredVectors,
) -> Batch:
    """Return a batch of floats, refusing also what the metric or the stored type cannot take."""
    locate = source.locating(batch)

    def check(low: int, high: int) -> None:
        def named(row: int) -> str:
            return locate(low + row)

        vectors = batch.vectors[low:high]
        ready = comparable(vectors, metric, named)
        if truncate_dim is not None and metric == "cosine":
            comparable(vectors[:, :truncate_dim], metric, named)
        if stored == "float16":
            to_float16(ready, named)

    return batch.without(sift(check, len(batch.vectors))[1])


def choose_binarizer(
    options: BinarizerOptions,
    dim: int,
    sample: Sample | None,
    threads: int,
    distance: bool = False,
) -> Binarizer:
    """Return the binarizer to use for vectors of ``dim`` dimensions: loaded, or fitted.

    With ``distance`` method auto chooses among those whose codes carry a Hamming distance.

    Raises
    ------
    UsageError
        If the wanted width does not go with the method.
    InputError
        If a loaded binarizer is for another dimension or metric, or there is nothing to fit on.
    """

    def fit(method: Method, rows: NDArray[np.float32] | None, locate: Locate = str) -> Binarizer:
        return binarizers.fit(
            method,
            dim,
            options.metric,
            rows,
            bits=options.bits,
            truncate_dim=options.truncate_dim,
            seed=options.seed,
            threads=threads,
            locate=locate,
        )

    if options.binarizer is not None:
        binarizer = _load(options, dim)
    elif options.method == "auto":
        binarizer = auto.choose(options, dim, sample, fit, threads, distance)
    elif sample is None:
        binarizer = fit(options.method or "sign", None)
    else:
        binarizer = fit(options.method or "sign", sample.vectors, sample.locate)
    if options.bits not in (None, binarizer.bits):
        raise UsageError(
            "the binarizer gives codes of another width",
            "`bits`",
            str(binarizer.bits),
            str(options.bits),
        )
    return binarizer


def _load(options: BinarizerOptions, dim: int) -> Binarizer:
    """Return the binarizer that was saved, if it fits."""
    path = options.binarizer
    assert path is not None
    binarizer = binarizers.load(path)
    for what, wanted, got, step in (
        ("dimension", dim, binarizer.dim, "use the one that was fitted on these vectors"),
        ("metric", options.metric, binarizer.metric, f"say `metric={binarizer.metric}`"),
    ):
        if got != wanted:
            problem = f"the binarizer is for another {what}"
            raise InputError(problem, str(path), str(wanted), str(got), step)
    return binarizer


def keep_binarizer(options: BinarizerOptions, binarizer: Binarizer | None) -> None:
    """Save the binarizer if that is wanted, once all the input has been found good."""
    if options.save_binarizer is not None and binarizer is not None:
        binarizers.save(binarizer, options.save_binarizer)


def watched(batches: Iterator[Batch], binarizer: Binarizer | None) -> Iterator[Batch]:
    """Pass batches on, with a warning where codes will be the signs of numbers of one sign.

    As those of images and counts are: nearly all rows would have one code, and nothing is found.
    """
    unseen = binarizer is not None and binarizer.method == "sign"
    for batch in batches:
        vectors = batch.vectors
        if unseen and len(vectors) >= _TELLING_ROWS and vectors.shape[1] >= _TELLING_DIM:
            unseen = False
            if vectors.dtype == np.float32 and vectors.min() >= 0:
                warnings.warn(
                    f"none of the numbers of the first {len(vectors):,} rows is negative, so that "
                    "their signs tell little apart; use `method=median` or itq",
                    BinqWarning,
                    stacklevel=4,
                )
        yield batch
