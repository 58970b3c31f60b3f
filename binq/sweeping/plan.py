"""What a sweep tries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from binq.binarizers import TABLE
from binq.errors import UsageError
from binq.types import DEFAULT_TARGET_RECALL, METHODS, Method

DEFAULT_METHODS: Final = tuple(name for name in METHODS if TABLE[name].swept != "named")
LISTS_PAY: Final = 100_000
"""Rows from which inverted lists answer sooner than a scan, one query at a time too."""
_WIDEST_DEFAULT: Final = 1536


@dataclass(frozen=True)
class Trial:
    """A binarizer to fit.

    Attributes
    ----------
    method : str
    bits : int
        Width of a code.
    truncate_dim : int or None
        Set where a method gives one bit per dimension and fewer bits are wanted.
    """

    method: Method
    bits: int
    truncate_dim: int | None = None


def default_widths(dim: int) -> list[int]:
    """Return a third of a bit per dimension (in whole words), one, and two if that is affordable.

    The time to fit and encode grows with the square of the width.
    """
    third = max(64, 64 * round(dim / 192))
    return sorted(
        {*([third] if third < dim else []), dim, *([2 * dim] if 2 * dim <= _WIDEST_DEFAULT else [])}
    )


def plan(
    dim: int, methods: str | Sequence[str] | None, bits: int | Sequence[int] | None
) -> tuple[list[Trial], list[str]]:
    """Return what to try, and notes on what was left out.

    By default ``ste`` is tried with more bits than dimensions only, where it gains most, since it
    takes longest to fit.

    Raises
    ------
    UsageError
        If a method is unknown, a width out of range, or nothing is left to try.
    """
    methods = [methods] if isinstance(methods, str) else methods
    bits = [bits] if isinstance(bits, int) else bits
    for name in methods or ():
        if name not in METHODS:
            raise UsageError("unknown method", "`methods`", ", ".join(METHODS), name)
    for width in bits or ():
        if width < 1:
            raise UsageError("the width is out of range", "`bits`", "at least 1", str(width))
    widths = sorted(set(bits)) if bits else default_widths(dim)
    trials: list[Trial] = []
    left_out: list[str] = []
    for method in METHODS:
        if method not in (methods or DEFAULT_METHODS):
            continue
        spec = TABLE[method]
        for width in widths:
            if spec.widths == "dim" and width < dim:
                trials.append(Trial(method, width, width))
            elif not spec.allows(width, dim):
                if methods:
                    left_out.append(f"{method} at {width} bits")
            elif methods or spec.swept != "wide" or width > dim or widths[-1] <= dim:
                trials.append(Trial(method, width))
    if not trials:
        raise UsageError(
            "no method gives such codes",
            "`methods`, `bits`",
            f"at most {dim} bits of sign, mean, median, rabitq and itq",
            ", ".join(left_out) or "none",
        )
    notes = []
    if left_out:
        notes.append(f"left out, as there are {dim} dimensions only: {', '.join(left_out)}")
    if bits is None and 2 * dim > _WIDEST_DEFAULT:
        notes.append(f"more bits than dimensions were not tried; name them: `bits={2 * dim}`")
    return trials, notes


def about_lists(rows: int) -> list[str]:
    """Return what to say of inverted lists for so many rows: nothing where they do not pay.

    Below, a scan of every row is as fast; see docs/choosing.md for the figures.
    """
    if rows < LISTS_PAY:
        return []
    return [
        f"from some {LISTS_PAY:,} rows on inverted lists answer sooner, and of millions a graph: "
        "build with `kind=ivf` or `kind=hnsw`; they find the share of what is printed here that "
        "`target_recall` of query says, by "
        f"default {DEFAULT_TARGET_RECALL:g}"
    ]


def sensible(rows: int, k: int, oversamples: Sequence[float]) -> tuple[list[float], list[str]]:
    """Return the oversamples that say something of so few rows, and notes on what was left out.

    Where half of the rows are returned, or rescored, nearly any code finds nearly everything.

    Raises
    ------
    UsageError
        If k is more than half of the rows.
    """
    if 2 * k > rows:
        raise UsageError(
            "of so few rows nearly any would be found",
            "`k`",
            f"at most half of the {rows:,} rows that are swept over",
            str(k),
            "ask for fewer hits, or sweep over more rows",
        )
    kept = [x for x in oversamples if 2 * math.ceil(round(k * x, 6)) <= rows]
    notes = []
    if len(kept) < len(oversamples):
        left = ", ".join(f"{x:g}" for x in oversamples if x not in kept)
        notes.append(
            f"oversamples of {left} were left out: they would rescore more than half of the "
            f"{rows:,} rows"
        )
    if 10 * k > rows:
        notes.append(f"of {rows:,} rows, {k:,} drawn at random reach a recall of {k / rows:.2f}")
    return kept, notes
