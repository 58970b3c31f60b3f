"""Which binarizer a build uses: loaded, fitted, or picked by auto."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from binq import binarizers
from binq.binarizers import Binarizer
from binq.building import auto
from binq.errors import InputError, UsageError
from binq.types import DEFAULT_SAMPLE, METHODS, METRICS, Method, Metric, Scoring
from binq.vectors.sample import Sample


@dataclass(frozen=True)
class BinarizerChoice:
    """How vectors shall become bits.

    Attributes
    ----------
    method : str or None
        None stands for sign, or for "not said" where the input is bits already; auto for the best
        on rows held out of the sample.
    width : int or None
        Wanted bits per code.
    truncate_dim : int or None
    metric : str
    seed : int
        Draws the sample.
    sample : int
        Rows to fit on, at most.
    load_from, save_to : path or None
        A fitted binarizer to use in place of a fit; where to keep the one that is used.
    scoring : str
        The scan that auto chooses for.
    """

    method: Method | Literal["auto"] | None = None
    width: int | None = None
    truncate_dim: int | None = None
    metric: Metric = "cosine"
    seed: int = 0
    sample: int = DEFAULT_SAMPLE
    load_from: str | os.PathLike[str] | None = None
    save_to: str | os.PathLike[str] | None = None
    scoring: Scoring = "hamming"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError("unknown metric", "`metric`", ", ".join(METRICS), self.metric)
        if self.method not in (None, "auto", *METHODS):
            raise UsageError("unknown method", "`method`", ", ".join(METHODS), str(self.method))
        if self.sample < 1:
            raise UsageError("the sample is empty", "`sample`", "at least 1", str(self.sample))
        if self.seed < 0:
            raise UsageError("the seed is negative", "`seed`", "at least 0", str(self.seed))
        if self.load_from is not None:
            for option, value in (("`method`", self.method), ("`truncate_dim`", self.truncate_dim)):
                if value is not None:
                    raise UsageError(
                        f"`binarizer` already says {option}", next_step=f"leave out {option}"
                    )


def choose_binarizer(
    choice: BinarizerChoice, dim: int, found: Sample | None, threads: int
) -> Binarizer:
    """Return the binarizer to use for vectors of ``dim`` dimensions: loaded, or fitted.

    Raises
    ------
    UsageError
        If the wanted width does not go with the method.
    InputError
        If a loaded binarizer is for another dimension or metric, or there is nothing to fit on.
    """
    if choice.load_from is not None:
        binarizer = binarizers.load(choice.load_from)
        if binarizer.dim != dim:
            raise InputError(
                "the binarizer is for another dimension",
                str(choice.load_from),
                str(dim),
                str(binarizer.dim),
                "use the one that was fitted on these vectors",
            )
        if binarizer.metric != choice.metric:
            raise InputError(
                "the binarizer is for another metric",
                str(choice.load_from),
                choice.metric,
                binarizer.metric,
                f"say `metric={binarizer.metric}`",
            )
    elif choice.method == "auto":
        binarizer = auto.choose(
            dim,
            choice.metric,
            found.vectors if found else np.empty((0, dim), np.float32),
            scoring=choice.scoring,
            bits=choice.width,
            truncate_dim=choice.truncate_dim,
            seed=choice.seed,
            threads=threads,
            locate=found.locate if found else str,
        )
    else:
        binarizer = binarizers.fit(
            choice.method or "sign",
            dim,
            choice.metric,
            found.vectors if found else None,
            bits=choice.width,
            truncate_dim=choice.truncate_dim,
            seed=choice.seed,
            threads=threads,
            locate=found.locate if found else str,
        )
    if choice.width not in (None, binarizer.bits):
        raise UsageError(
            "the binarizer gives codes of another width",
            "`bits`",
            str(binarizer.bits),
            str(choice.width),
        )
    return binarizer


def keep_binarizer(choice: BinarizerChoice, binarizer: Binarizer | None) -> None:
    """Save the binarizer if that is wanted, once all the input has been found good."""
    if choice.save_to is not None and binarizer is not None:
        binarizers.save(binarizer, choice.save_to)


def needs_fit(choice: BinarizerChoice) -> bool:
    """Return whether the vectors must be read once before they can be binarized."""
    if choice.load_from is not None:
        return False
    return choice.method == "auto" or binarizers.TABLE[choice.method or "sign"].needs_sample
