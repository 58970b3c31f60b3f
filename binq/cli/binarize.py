"""``binq binarize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from binq import types
from binq.cli import options as opt
from binq.cli import render


@opt.takes("settings", opt.BINARIZER)
def binarize(
    vectors: opt.VectorsArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="CODES", help="A .npy or .parquet file.", show_default=False
        ),
    ],
    *,
    settings: dict[str, Any],
    layout: Annotated[
        types.Layout, typer.Option("--layout", help="How bits are packed into bytes.")
    ] = "ubinary",
    packed: Annotated[
        Literal["none"] | None,
        typer.Option("--packed", help="none: 8-bit input is numbers.", show_default=False),
    ] = None,
    column: opt.Column = None,
    id_column: opt.IdColumn = None,
    threads: opt.Threads = None,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Turn float vectors into packed bits."""
    render.configure(quiet=quiet, no_color=no_color)
    from binq.building.binarize import binarize as binarize_vectors

    with render.progress("binarizing") as progress:
        rows = binarize_vectors(
            vectors,
            output,
            layout=layout,
            packed=packed,
            column=column,
            id_column=id_column,
            threads=threads,
            progress=progress,
            **settings,
            notice=render.note,
        )
    render.note(f"{output}: {rows:,} codes in layout {layout}")
