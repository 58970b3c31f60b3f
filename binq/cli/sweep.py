"""``binq eval --sweep``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import typer

from binq.cli import render
from binq.errors import UsageError

# Parameters of ``binq eval`` that only one of the two takes.
_SWEEP_ONLY: Final = (
    "metric",
    "train_queries",
    "methods",
    "bits",
    "no_peers",
    "seed",
    "sample",
    "report",
    "plot",
)
_INDEX_ONLY: Final = (
    "truth",
    "truth_column",
    "scoring",
    "rescore",
    "rescore_from",
    "oversample",
    "packed",
    "qrels",
    "exclude_self",
    "fail_under",
    "cache_truth",
    "per_query",
)


def check(context: typer.Context, sweep: bool) -> None:
    """Refuse options that say nothing with, or without, ``--sweep``.

    Raises
    ------
    UsageError
        If one was given.
    """
    for name in _INDEX_ONLY if sweep else _SWEEP_ONLY:
        source: Any = context.get_parameter_source(name) if name in context.params else None
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} does not go with --sweep" if sweep else f"{option} goes with --sweep",
                next_step="see binq eval --help",
            )


def run(
    vectors: str,
    queries: list[str],
    *,
    report: Path | None,
    plot: Path | None,
    json: bool,
    **settings: Any,
) -> None:
    """Sweep, and show what was found."""
    from binq.io.atomic import published
    from binq.sweeping import report as drawing
    from binq.sweeping.sweep import sweep

    if plot is not None:
        drawing.check_plot(plot)
    with ExitStack() as files:
        # Opened first: a place that cannot be written to is found before the work, not after.
        page = None if report is None else files.enter_context(published(report))
        image = None if plot is None else files.enter_context(published(plot))
        with render.progress("sweeping") as progress:
            found = sweep(vectors, queries or None, progress=progress, **settings)
        if page is not None:
            page.write(drawing.html(found).encode())
        if image is not None and plot is not None:
            drawing.draw(found, image, plot.suffix)
    if json:
        render.document(found.to_json())
        return
    facts = found.facts
    stand_in = " held out" if facts["held_out"] else ""
    render.line(
        f"{facts['swept']:,} rows of {facts['dim']} dims, {facts['queries']:,}{stand_in} queries, "
        f"metric {facts['metric']}, {facts['threads']} threads"
    )
    for line in found.table():
        render.line(line)
    render.line(
        "* no other has as few bytes and as much recall. recall: nothing but those bytes stored.\n"
        "xN: if the scan's best N·k are rescored by exact vectors. ms/q/M: scan, a query "
        "and million rows."
    )
    render.line("")
    render.line(found.recommendation.sentence)
    render.line(f"  {found.recommendation.build}")
    render.line(f"  {found.recommendation.query}")
    for note in found.notes:
        render.note(note)
