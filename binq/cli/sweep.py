"""``binq sweep``."""

from __future__ import annotations

import shlex
import textwrap
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from binq.cli import options as opt
from binq.cli import render
from binq.cli.spelling import option
from binq.errors import spelled
from binq.types import DEFAULT_K, DEFAULT_SAMPLE

if TYPE_CHECKING:
    from binq.sweeping.results import Recommendation, Sweep

_WIDTH: Final = 80


@opt.command(
    {
        "vectors": opt.argument(
            str,
            "VECTORS",
            "Vectors to sweep over: a file, glob or directory as for build, or - for stdin.",
        ),
        "queries": opt.argument(
            list[str],
            "[QUERIES]...",
            "Query vectors; without them rows held out of VECTORS stand in.",
            default=None,
        ),
        "k": opt.option(int, "Recall is that of the best k.", DEFAULT_K, "-k"),
        "metric": opt.METRIC,
        "methods": opt.option(
            str,
            "Methods to try, with commas. [default: all but mean and rotate, ste only where "
            "bits are more than dimensions]",
            metavar="NAME,NAME",
        ),
        "bits": opt.option(
            str,
            "Widths to try, with commas. [default: a third of the dimensions, all, twice]",
            metavar="N,N",
        ),
        "target_recall": opt.option(float, "The recall to recommend for.", 0.95),
        "max_minutes": opt.option(
            float,
            "Measure what is recommended again on all rows, if that takes so long at most; else "
            "extrapolate to them.",
            10.0,
        ),
        "train_queries": opt.option(
            str,
            "Queries to choose by, where QUERIES are to report on; without QUERIES they are "
            "split by a hash of their ids.",
            metavar="QUERIES",
        ),
        "no_peers": opt.flag("--no-peers", "Do not compare with faiss."),
        "seed": opt.option(int, "Draws samples and binarizers.", 0),
        "sample": opt.option(int, "Rows to sweep over and to fit on, at most.", DEFAULT_SAMPLE),
        **opt.COLUMNS,
        "report": opt.file("Write a page of HTML, with figures."),
        "plot": opt.file("Draw recall over bytes, as .png, .svg or .pdf (extra plot)."),
        "overwrite": opt.OVERWRITE,
        "json": opt.JSON,
        "threads": opt.THREADS,
    }
)
def sweep(
    *,
    vectors: str,
    queries: list[str] | None,
    methods: str | None,
    bits: str | None,
    no_peers: bool,
    column: str | None,
    id_column: str | None,
    report: Path | None,
    plot: Path | None,
    overwrite: bool,
    json: bool,
    **settings: Any,
) -> None:
    """Find out which binarizer, size, scoring and oversample reach which recall."""
    from binq.evaluation.plot import check_plot
    from binq.io.atomic import atomic_write
    from binq.io.outputs import refuse_overwrites
    from binq.sweeping import report as drawing
    from binq.sweeping.sweep import sweep as measure

    render.awaiting("vectors", render.VECTOR_LINES, vectors, queries)
    columns: dict[str, Any] = {"column": column, "id_column": id_column}
    if plot is not None:
        check_plot(plot)
    drawn: Any = plot and plot.suffix.lower()[1:]  # one that check_plot knows
    refuse_overwrites(
        {"`report`": (report, "html"), "`plot`": (plot, drawn)},
        *(vectors, queries, settings["train_queries"]),
        overwrite=overwrite,
    )
    with ExitStack() as files:
        # Opened first: a place that cannot be written to is found before the work, not after.
        page = None if report is None else files.enter_context(atomic_write(report))
        image = None if plot is None else files.enter_context(atomic_write(plot))
        with render.progress("sweeping") as progress:
            found = measure(
                vectors,
                queries or None,
                methods=opt.words(methods),
                bits=None if bits is None else opt.whole_numbers(bits, "--bits"),
                with_peers=not no_peers,
                progress=progress,
                **columns,
                **settings,
            )
        found = _in_options(found)
        commands = _commands(found.recommendation, vectors, queries, columns)
        if page is not None:
            page.write(render.encoded(drawing.html(found, commands)))
        if image is not None and plot is not None:
            drawing.draw(found, image, plot.suffix)
    if json:
        document = found.to_json()
        document["recommendation"].update(zip(("build", "query"), commands, strict=True))
        render.document(document)
    else:
        _show(found, commands)


def _in_options(found: Sweep) -> Sweep:
    """Return the sweep with the parameters in its texts written as options."""
    chosen = found.recommendation
    verdict, sentence = (spelled(text, option) for text in (chosen.verdict, chosen.sentence))
    return replace(
        found,
        notes=[spelled(note, option) for note in found.notes],
        recommendation=replace(chosen, verdict=verdict, sentence=sentence),
    )


def _commands(
    chosen: Recommendation,
    vectors: str,
    queries: list[str] | None,
    columns: dict[str, Any],
) -> tuple[str, str]:
    """Return the commands that build and query what is recommended."""
    from binq.vectors import has_columns

    built = columns if has_columns(vectors) else {}
    asked = columns if not queries or has_columns(queries) else {}
    return (
        _command("build", vectors, "-o", "INDEX.binq", **chosen.build, **built),
        _command("query", "INDEX.binq", *(queries or ["QUERIES"]), **chosen.query, **asked),
    )


def _command(*words: str, **settings: Any) -> str:
    line = ["binq", *words]
    for name, value in settings.items():
        if value is not None:
            line += [option(name, None), f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(line)


def _folded(command: str) -> str:
    """Write a command over several lines where one is too long, as a shell takes it."""
    parts: list[str] = []
    for word in shlex.split(command):
        if not parts or (word.startswith("-") and word != "-"):
            parts.append(shlex.quote(word))
        else:
            parts[-1] += " " + shlex.quote(word)
    lines = parts[:1]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < _WIDTH - 6:  # its indent, and what says that it goes on
            lines[-1] += " " + part
        else:
            lines.append(part)
    return " \\\n    ".join(lines)


def _show(found: Sweep, commands: tuple[str, str]) -> None:
    """Print the verdict, the table, the commands, and what a reader of them has to know."""
    facts, chosen = found.facts, found.recommendation
    stand_in = " held out" if facts["held_out"] else ""
    sample = f" of {facts['n']:,}" if chosen.sample_recall else ""
    _text(chosen.verdict)
    render.line("")
    _text(
        f"{facts['swept']:,}{sample} rows of {facts['dim']:,} dims, {facts['queries']:,}{stand_in} "
        f"queries, metric {facts['metric']}, {facts['threads']} threads:"
    )
    for line in found.table():
        render.line(line)
    _text(
        "*: no other has as few bytes and as much recall. recall: nothing but those bytes stored. "
        "xN: if the scan's best N·k are rescored by exact vectors. ms: scan, a query and million "
        "rows."
    )
    render.line("")
    _text(chosen.sentence)
    for command in commands:
        render.line("  " + _folded(command))
    for note in found.notes:
        render.note(note)


def _text(text: str) -> None:
    """Print text in lines that fit a terminal; what cannot be broken stays whole."""
    for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False):
        render.line(line)
