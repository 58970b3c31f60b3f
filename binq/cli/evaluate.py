"""``binq eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from binq.cli import options as opt
from binq.cli import render
from binq.cli.search_options import takes_search_options


@takes_search_options
def evaluate(
    index: opt.IndexArgument,
    queries: opt.QueriesArgument,
    truth: Annotated[
        list[str] | None,
        typer.Option(
            "--truth",
            metavar="VECTORS",
            help="The vectors the index was built from.",
            show_default=False,
        ),
    ] = None,
    truth_column: Annotated[
        str | None,
        typer.Option(
            "--truth-column",
            help="Column of the truth, if there are several.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        str, typer.Option("-k", help="Hits per query; several, with commas.")
    ] = "1,10,100",
    *,
    search: dict[str, Any],
    qrels: Annotated[
        Path | None,
        typer.Option(
            "--qrels", metavar="FILE", help="Judgements, BEIR or TREC.", show_default=False
        ),
    ] = None,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Leave out a query's own id.")
    ] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="METRIC=VALUE",
            help="Exit 6 if a metric such as recall@10 is lower; repeatable.",
            show_default=False,
        ),
    ] = None,
    cache_truth: Annotated[
        Path | None,
        typer.Option(
            "--cache-truth",
            metavar="FILE",
            help="Keep the exact neighbours for the next time.",
            show_default=False,
        ),
    ] = None,
    per_query: Annotated[
        Path | None,
        typer.Option(
            "--per-query",
            metavar="FILE",
            help="Write one row per query: .jsonl, .tsv, .csv or .parquet.",
            show_default=False,
        ),
    ] = None,
    json: opt.Json = False,
    column: opt.Column = None,
    id_column: opt.IdColumn = None,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Measure recall against exact float32 neighbours, or against judgements."""
    render.configure(quiet=quiet, no_color=no_color)
    from binq.cli import formats as results
    from binq.evaluation.evaluate import evaluate as judge
    from binq.evaluation.evaluate import parse_floors

    ks = opt.whole_numbers(k, "-k")
    floors = parse_floors(fail_under or [], ks)
    write_records = None if per_query is None else results.record_writer(per_query)
    with render.progress("evaluating") as progress:
        found = judge(
            index,
            queries,
            truth=truth,
            truth_column=truth_column,
            k=ks,
            qrels=qrels,
            exclude_self=exclude_self,
            cache_truth=cache_truth,
            column=column,
            id_column=id_column,
            progress=progress,
            **search,
        )
    if write_records is not None:
        write_records(found.records())
    if json:
        render.document(found.to_json())
    else:
        facts = found.facts
        render.table(
            f"{facts['n']:,} rows, {facts['queries']:,} queries, {facts['bits']} bits "
            f"({facts['method'] or 'packed'}), scoring {facts['scoring']}, "
            f"rescore {facts['rescore']}; median {found.latency_ms['median']} ms per query",
            ("metric", "value", "95 % interval"),
            [
                (name, f"{entry['value']:.4f}", _spread(entry))
                for name, entry in found.metrics.items()
            ],
        )
    found.require(floors)


def _spread(entry: dict[str, float]) -> str:
    if "std" in entry:
        return f"sd {entry['std']:.4f}"
    return f"{entry['low']:.4f} to {entry['high']:.4f}"
