"""``binq query``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binq.cli import options as opt
from binq.cli import render, search_options
from binq.errors import InputError
from binq.types import Format

if TYPE_CHECKING:
    from binq.index.stream import Answer


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
        "on_error": opt.ON_ERROR,
        **opt.COLUMNS,
    }
)
def query(
    *,
    index: str,
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
        folders=[settings["model"], index],
        overwrite=overwrite,
    )
    render.awaiting("queries", render.VECTOR_LINES, queries)
    render.awaiting("questions", "one a line", "-" if asked == "-" else None)
    opened = Index(index)
    refused = _Refused()
    answers = refused.watch(
        answer(opened, queries or None, text=asked, oversample=factor, **settings)
    )
    if shape == "table":
        rows: list[tuple[str, ...]] = []
        try:
            rows += results.table_rows(answers)
        except InputError:
            # What precedes a query that cannot be used is answered; a file appears whole or not.
            if rows and not to_file:
                render.table("hits", results.COLUMNS, rows)
            raise
        render.table("hits", results.COLUMNS, rows, output)
    else:
        with render.sink(output) as sink:
            results.write(answers, shape, sink, opened.file.header.id_type)
    if refused.first is not None:
        raise InputError(
            f"{refused.count:,} of {refused.asked:,} queries could not be used",
            f"the first is {refused.first.where}: {refused.first.what}",
            next_step="all others are answered",
        )


@dataclass
class _Refused:
    """The queries that could not be used.

    Attributes
    ----------
    asked, count : int
        How many queries there were, and how many of them could not be used.
    first : InputError or None
        What is wrong with the first.
    """

    asked: int = 0
    count: int = 0
    first: InputError | None = None

    def watch(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Yield answers, and take note of what stands in the place of some."""
        from binq.index.stream import Unanswered

        for batch in answers:
            self.asked += len(batch[1])
            for entry in batch[1]:
                if isinstance(entry, Unanswered):
                    self.count += 1
                    self.first = self.first or entry.error
            yield batch
