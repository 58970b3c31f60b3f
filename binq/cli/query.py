"""``binq query``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from binq.cli import options as opt
from binq.cli import render
from binq.cli.search_options import takes_search_options
from binq.types import Format


@takes_search_options
def query(
    index: opt.IndexArgument,
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUERIES...]",
            help="Query vectors: files, globs or directories as for build, or - for stdin.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="A question in place of QUERIES; repeatable; - reads one a line from stdin.",
            show_default=False,
        ),
    ] = None,
    model: opt.QueryModel = None,
    prompt: opt.Prompt = None,
    device: opt.Device = None,
    key_file: opt.KeyFile = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", help="Hits per query. [default: 10; all with --radius]", show_default=False
        ),
    ] = None,
    radius: Annotated[
        int | None,
        typer.Option(
            "--radius", help="Every row at Hamming distance at most this.", show_default=False
        ),
    ] = None,
    *,
    search: dict[str, Any],
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="[default: by the suffix of -o; else table on a terminal, jsonl in a pipe]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", help="A file in place of stdout.", show_default=False
        ),
    ] = None,
    column: opt.Column = None,
    id_column: opt.IdColumn = None,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Find the nearest rows of an index."""
    render.configure(quiet=quiet, no_color=no_color)
    from binq.cli import formats as results
    from binq.index.index import Index
    from binq.index.stream import query as answer

    shape = results.choose_format(format_, output, render.on_terminal())
    answers = answer(
        Index(index),
        queries or None,
        k,
        text="-" if text == ["-"] else text or None,
        model=model,
        prompt=prompt,
        device=device,
        key_file=key_file,
        radius=radius,
        column=column,
        id_column=id_column,
        **search,
    )
    if shape == "table":
        columns, rows = results.as_table(answers)
        render.table("hits", columns, rows, output)
    else:
        with render.sink(output) as sink:
            results.write(answers, shape, sink)
