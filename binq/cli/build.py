"""``binq build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from binq import types
from binq.cli import options as opt
from binq.cli import render


@opt.takes("settings", opt.BINARIZER)
def build(
    vectors: opt.VectorsArgument,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="INDEX", help="The index.", show_default=False),
    ],
    *,
    settings: dict[str, Any],
    scoring: Annotated[
        types.Scoring | None,
        typer.Option(
            "--scoring",
            help="The scan that the index is for. [default: asymmetric for learned and rabitq, "
            "else hamming]",
            show_default=False,
        ),
    ] = None,
    rescore: Annotated[
        types.StoredVectors, typer.Option("--rescore", help="Vectors to store for rescoring.")
    ] = "none",
    packed: opt.Packed = None,
    column: opt.Column = None,
    id_column: opt.IdColumn = None,
    threads: opt.Threads = None,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Build an index file from vectors."""
    render.configure(quiet=quiet, no_color=no_color)
    from binq.building.build import build as build_index

    with render.progress("building") as progress:
        report = build_index(
            vectors,
            output,
            scoring=scoring,
            rescore=rescore,
            packed=packed,
            column=column,
            id_column=id_column,
            threads=threads,
            progress=progress,
            **settings,
        )
    if report.chosen_by is not None:
        render.note(report.chosen_by)
    how = report.method or "packed bits"
    stored = "" if report.rescore == "none" else f", {report.rescore} vectors"
    render.note(
        f"{output}: {report.rows:,} rows of {report.dim} dims as {report.bits} bits "
        f"({how}{stored}), {report.size:,} bytes"
    )
