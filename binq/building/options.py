"""What a build can be told about its binarizer; imports no numpy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypedDict

from binq.errors import UsageError
from binq.io.outputs import Content, Outputs, refuse_inside, refuse_overwrites
from binq.storage.publishing import refuse_other_things
from binq.types import (
    DEFAULT_SAMPLE,
    METHODS,
    METRICS,
    SCORINGS,
    Method,
    Metric,
    Scoring,
    Vectors,
)


class BinarizerSettings(TypedDict, total=False):
    """The fields of :class:`BinarizerOptions`, as keywords."""

    method: Method | Literal["auto"] | None
    bits: int | None
    truncate_dim: int | None
    metric: Metric
    seed: int
    sample: int
    binarizer: str | os.PathLike[str] | None
    save_binarizer: str | os.PathLike[str] | None
    scoring: Scoring | None


@dataclass(frozen=True)
class BinarizerOptions:
    """How vectors shall become bits.

    Attributes
    ----------
    method : str or None
        One of :data:`binq.METHODS`, or auto for the best on rows held out of the sample, see
        :mod:`binq.building.auto`. None stands for sign, or for "not said" where the input is bits
        already.
    bits : int or None
        Wanted width of a code; of packed input its true width.
    truncate_dim : int or None
        Binarize only the first so many dimensions.
    metric : {"cosine", "ip", "l2"}
    seed, sample : int
        A fit sees at most ``sample`` rows, drawn with ``seed``.
    binarizer, save_binarizer : path or None
        A fitted binarizer to use in place of a fit; where to keep the one that is used.
    scoring : {"hamming", "asymmetric"} or None
        The scan that the codes are for, and that auto chooses for; None stands for the one that the
        method's codes are made for, Hamming under auto.

    Raises
    ------
    UsageError
        If a value is unknown or out of range, or one contradicts another.
    """

    method: Method | Literal["auto"] | None = None
    bits: int | None = None
    truncate_dim: int | None = None
    metric: Metric = "cosine"
    seed: int = 0
    sample: int = DEFAULT_SAMPLE
    binarizer: str | os.PathLike[str] | None = None
    save_binarizer: str | os.PathLike[str] | None = None
    scoring: Scoring | None = None

    def __post_init__(self) -> None:
        for name, known, none in (
            ("method", (*METHODS, "auto"), True),
            ("metric", METRICS, False),
            ("scoring", SCORINGS, True),
        ):
            value = getattr(self, name)
            if value not in known and not (none and value is None):
                raise UsageError(f"unknown {name}", f"`{name}`", ", ".join(known), str(value))
        if self.sample < 1:
            raise UsageError("the sample is empty", "`sample`", "at least 1", str(self.sample))
        if self.seed < 0:
            raise UsageError("the seed is negative", "`seed`", "at least 0", str(self.seed))
        if self.binarizer is not None:
            for option, value in (("`method`", self.method), ("`truncate_dim`", self.truncate_dim)):
                if value is not None:
                    raise UsageError(
                        f"`binarizer` already says {option}", next_step=f"leave out {option}"
                    )

    def refuse_overwrites(
        self,
        output: str | os.PathLike[str],
        content: Content,
        *inputs: Vectors | None,
        overwrite: bool,
    ) -> None:
        """Refuse outputs that would destroy something; see :mod:`binq.io.outputs`."""
        outputs: Outputs = {
            "`output`": (output, content),
            "`save_binarizer`": (self.save_binarizer, "binarizer"),
        }
        refuse_overwrites(outputs, *inputs, self.binarizer, overwrite=overwrite)

    def refuse_directory(
        self, output: str | os.PathLike[str], *inputs: Vectors | None, overwrite: bool
    ) -> None:
        """Refuse a directory of shards that would destroy something, or mix with it."""
        kept_as = {"`save_binarizer`": self.save_binarizer}
        refuse_inside(output, kept_as, *inputs, self.binarizer)
        refuse_other_things(output)
        kept: Outputs = {"`save_binarizer`": (self.save_binarizer, "binarizer")}
        refuse_overwrites(kept, *inputs, self.binarizer, overwrite=overwrite)
