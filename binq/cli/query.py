"""``binq query``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binq.cli import options as opt
from binq.cli import render, search_options
from binq.types import Format


@opt.command(
    {
        "index": opt.INDEX,
        "queries": opt.argument(list[str], "[QUERIES...]", opt.QUERIES_HELP, default=None),
        "text": opt.option(
            list[str],
            "A question in place of QUERIES; repeatable; - reads one a line from stdin.",
            metavar="TEXT",
        ),
        "model": opt.option(
            str,
            "Encodes --text; as for encode, and the model of the index. [default: the built-in "
            "model or fingerprints, where the index names them]",
        ),
        "prompt": opt.PROMPT,
        **opt.MODEL_RUNS,
        "k": opt.option(int, "Hits per query. [default: 10; all with --radius]", None, "-k"),
        "radius": opt.option(
            int,
            "Every row at Hamming distance at most this, nearest first unless --rescore is given.",
        ),
        **search_options.OPTIONS,
        "format_": opt.option(
            Format,
            "[default: by the suffix of -o; else table on a terminal, jsonl in a pipe]",
            None,
            "--format",
        ),
        "output": opt.output("A file in place of stdout.", "OUT", default=None),
        "overwrite": opt.OVERWRITE,
        **opt.COLUMNS,
    }
)
def query(
    *,
    index: Path,
    queries: list[str] | None,
    text: list[str] | None,
    oversample: str | None,
    format_: Format | None,
    output: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Find the nearest rows of an index."""
    from binq.cli import formats as results
    from binq.index.index import Index
    from binq.index.stream import query as answer
    from binq.io.outputs import refuse_overwrites

    factor = search_options.factor(oversample)
    shape = results.choose_format(format_, output, render.on_terminal())
    asked = "-" if text == ["-"] else text or None
    to_file = output is not None and str(output) != "-"
    refuse_overwrites(
        {"`output`": (output, results.CONTENTS[shape]) if to_file else ("-", None)},
        *(index, queries, "-" if asked == "-" else None, settings["key_file"]),
        *(settings[name] for name in search_options.FILES),
        folders=[settings["model"]],
        overwrite=overwrite,
    )
    opened = Index(index)
    answers = answer(
        opened,
        queries or None,
        text=asked,
        oversample=factor,
        **settings,
    )
    if shape == "table":
        columns, rows = results.as_table(answers)
        render.table("hits", columns, rows, output)
    else:
        with render.sink(output) as sink:
            results.write(answers, shape, sink, opened.file.header.id_type)
