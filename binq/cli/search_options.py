"""The options of a search, which ``query`` and ``eval`` share, each written once."""

from __future__ import annotations

from typing import Final, Literal

from binq import types
from binq.cli import options as opt
from binq.errors import UsageError

_TARGET_RECALL: Final = (
    "For lists and graphs: the share to find of the candidates that a whole scan finds. "
    f"A flat index scans every row and refuses it. [default: {types.DEFAULT_TARGET_RECALL}]"
)
_NPROBE: Final = "For an index of lists: how many of them to look into."
_EF: Final = (
    "For an index with a graph: how many of the best rows a walk goes on from, at least as many "
    "as it is to find."
)
_CURVE: Final = " Several make a curve of recall and speed."

OPTIONS: Final[opt.Options] = {
    "scoring": opt.option(types.Scoring, "The scan. [default: the one the index was built for]"),
    "rescore": opt.option(
        types.Rescore,
        "What sorts the candidates: vectors stored by build --rescore, the codes "
        "with the whole query, or none. [default: auto]",
    ),
    "rescore_from": opt.option(
        str, "Sort the candidates by the file the index was built from.", metavar="VECTORS"
    ),
    "rescore_column": opt.option(str, "Column of those vectors, if there are several."),
    "oversample": opt.option(
        str,
        "Rescore k times so many candidates; auto: as many as each query needs to "
        f"keep 99 % of the best. [default: {types.DEFAULT_OVERSAMPLE:g}]",
        metavar="X",
    ),
    "target_recall": opt.option(float, _TARGET_RECALL),
    "nprobe": opt.option(int, _NPROBE),
    "ef": opt.option(int, _EF),
    "filter_ids": opt.option(
        str,
        "Return only rows whose ids the file holds: one a line (text or JSON), in a Parquet column "
        "or in a 1-D npy.",
        metavar="FILE",
    ),
    "exclude_ids": opt.option(str, "Return no row whose id the file holds.", metavar="FILE"),
    "packed": opt.PACKED,
    "force": opt.flag("--force", "Take vectors although another model made them than the index."),
    "engine": opt.ENGINE,
    "threads": opt.THREADS_OR_TASKS,
}
"""The settings of :class:`binq.search.options.SearchOptions`, and where searches run."""

SEVERAL: Final[opt.Options] = {
    "target_recall": opt.option(str, _TARGET_RECALL.replace(" [", f"{_CURVE} ["), metavar="X,X"),
    "nprobe": opt.option(str, _NPROBE + _CURVE, metavar="N,N"),
    "ef": opt.option(str, _EF + _CURVE, metavar="N,N"),
}
"""Those of them of which ``eval`` takes several at once, in their place."""

FILES: Final = ("rescore_from", "filter_ids", "exclude_ids")
"""Those of them that name files."""


def factor(text: str | None) -> float | Literal["auto"] | None:
    """Read ``--oversample``; None where it is not given.

    Raises
    ------
    UsageError
        If it is neither a number nor auto.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError("not a number", "`oversample`", "a number or auto", repr(text)) from None
