"""The options of a search, which ``query`` and ``eval`` share, each written once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Final, Literal

import typer

from binq import types
from binq.cli import options as opt
from binq.errors import UsageError

OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "scoring": (
        Annotated[
            types.Scoring | None,
            typer.Option(
                "--scoring",
                help="The scan. [default: the one the index was built for]",
                show_default=False,
            ),
        ],
        None,
    ),
    "rescore": (
        Annotated[
            types.Rescore | None,
            typer.Option(
                "--rescore",
                help="What sorts the candidates: vectors stored by build --rescore, the codes "
                "with the whole query, or none. [default: auto]",
                show_default=False,
            ),
        ],
        None,
    ),
    "rescore_from": (
        Annotated[
            str | None,
            typer.Option(
                "--rescore-from",
                metavar="VECTORS",
                help="Sort the candidates by the file the index was built from.",
                show_default=False,
            ),
        ],
        None,
    ),
    "rescore_column": (
        Annotated[
            str | None,
            typer.Option(
                "--rescore-column",
                help="Column of those vectors, if there are several.",
                show_default=False,
            ),
        ],
        None,
    ),
    "oversample": (
        Annotated[
            str,
            typer.Option(
                "--oversample",
                metavar="X",
                help="Rescore k times so many candidates; auto: as many as each query needs to "
                "keep 99 % of the best.",
            ),
        ],
        f"{types.DEFAULT_OVERSAMPLE:g}",
    ),
    "target_recall": (
        Annotated[
            float | None,
            typer.Option(
                "--target-recall",
                help="The share of the candidates of a whole scan to find, for an index that does "
                "not scan all; a flat index does.",
                show_default=False,
            ),
        ],
        None,
    ),
    "filter_ids": (
        Annotated[
            str | None,
            typer.Option(
                "--filter-ids",
                metavar="FILE",
                help="Find only rows with these ids: one a line, a Parquet column or a 1-D npy.",
                show_default=False,
            ),
        ],
        None,
    ),
    "exclude_ids": (
        Annotated[
            str | None,
            typer.Option(
                "--exclude-ids",
                metavar="FILE",
                help="Find no row with one of these ids.",
                show_default=False,
            ),
        ],
        None,
    ),
    "packed": (opt.Packed, None),
    "force": (
        Annotated[
            bool,
            typer.Option(
                "--force", help="Take vectors although another model made them than the index."
            ),
        ],
        False,
    ),
    "threads": (opt.Threads, None),
}


def takes_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a search.

    They stand where its parameter ``search`` does, which gets them as the settings of
    :class:`binq.search.options.SearchOptions`.
    """

    @wraps(command)
    def read(*, search: dict[str, Any], **values: Any) -> None:
        search["oversample"] = _oversample(search["oversample"])
        command(**values, search=search)

    return opt.takes("search", OPTIONS)(read)


def _oversample(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError("not a number", "`oversample`", "a number or auto", repr(text)) from None
