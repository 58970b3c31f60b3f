"""``binq eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from binq.cli import options as opt
from binq.cli import render
from binq.cli import sweep as sweeping
from binq.errors import UsageError


def evaluate(
    context: typer.Context,
    index: Annotated[
        str,
        typer.Argument(
            metavar="INDEX",
            help="An index file; with --sweep the vectors to sweep over.",
            show_default=False,
        ),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERIES...",
            help="Query vectors: files, globs or directories as for build, or - for stdin. With "
            "--sweep they may be left out: rows held out of the corpus stand in.",
            show_default=False,
        ),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Try binarizers, sizes, scorings and oversamples on VECTORS, and recommend one.",
        ),
    ] = False,
    metric: Annotated[
        opt.MetricName, typer.Option("--metric", help="With --sweep: what truth means.")
    ] = "cosine",
    train_queries: Annotated[
        str | None,
        typer.Option(
            "--train-queries",
            metavar="QUERIES",
            help="With --sweep: queries to choose by, where QUERIES are to report on; without "
            "QUERIES they are split by a hash of their ids.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="With --sweep: methods to try, with commas. [default: all but mean and rotate, "
            "ste only where bits are more than dimensions]",
            show_default=False,
        ),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(
            "--bits",
            help="With --sweep: widths to try, with commas. [default: a third of the dimensions, "
            "all, twice]",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="With --sweep: write a page of HTML, with figures.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="With --sweep: draw recall over bytes, as .png, .svg or .pdf (extra plot).",
            show_default=False,
        ),
    ] = None,
    no_peers: Annotated[
        bool, typer.Option("--no-peers", help="With --sweep: do not compare with faiss.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", help="With --sweep: draws samples and binarizers.")
    ] = 0,
    sample: Annotated[
        int, typer.Option("--sample", help="With --sweep: rows to sweep over, at most.")
    ] = opt.DEFAULT_SAMPLE,
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
        str | None,
        typer.Option(
            "-k",
            help="Hits per query; several, with commas. [default: 1,10,100; 10 with --sweep]",
            show_default=False,
        ),
    ] = None,
    scoring: opt.Scoring = None,
    rescore: opt.Rescore = None,
    rescore_from: opt.RescoreFrom = None,
    oversample: opt.Oversample = "4",
    target_recall: opt.TargetRecall = None,
    packed: opt.Packed = None,
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
    force: opt.Force = False,
    column: opt.Column = None,
    id_column: opt.IdColumn = None,
    threads: opt.Threads = None,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Measure recall against exact float32 neighbours, or against judgements.

    With --sweep: find out which binarizer, size, scoring and oversample reach which recall.
    """
    render.configure(quiet=quiet, no_color=no_color)
    sweeping.check(context, sweep)
    if sweep:
        ks = opt.whole_numbers("10" if k is None else k, "-k")
        if len(ks) != 1:
            raise UsageError("a sweep takes one k", "-k", "one number", str(k))
        sweeping.run(
            index,
            queries or [],
            report=report,
            plot=plot,
            json=json,
            metric=metric,
            k=ks[0],
            methods=None if methods is None else methods.split(","),
            bits=None if bits is None else opt.whole_numbers(bits, "--bits"),
            train_queries=train_queries,
            with_peers=not no_peers,
            target_recall=0.95 if target_recall is None else target_recall,
            seed=seed,
            sample=sample,
            column=column,
            id_column=id_column,
            threads=threads,
        )
        return
    if not queries:
        raise UsageError("there are no queries", "QUERIES", "at least one source", "none")
    from binq.cli import formats as results
    from binq.evaluation.evaluate import evaluate as judge
    from binq.evaluation.evaluate import parse_floors

    ks = opt.whole_numbers("1,10,100" if k is None else k, "-k")
    floors = parse_floors(fail_under or [], ks)
    write_records = None if per_query is None else results.record_writer(per_query)
    with render.progress("evaluating") as progress:
        found = judge(
            index,
            queries,
            truth=truth,
            truth_column=truth_column,
            k=ks,
            scoring=scoring,
            rescore=rescore or "auto",
            rescore_from=rescore_from,
            oversample=opt.oversample_of(oversample),
            target_recall=target_recall,
            packed=packed,
            qrels=qrels,
            exclude_self=exclude_self,
            cache_truth=cache_truth,
            column=column,
            id_column=id_column,
            force=force,
            threads=threads,
            progress=progress,
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
