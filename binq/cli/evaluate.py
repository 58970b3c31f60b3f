"""``binq eval``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from binq.cli import options as opt
from binq.cli import render, search_options
from binq.errors import UsageError

if TYPE_CHECKING:
    from binq.evaluation.results import Evaluation, Point

_SCAN: Final = (
    "recall_scan: the share of hits that are no worse than the last hit of the same\n"
    "search with every row scanned."
)
_SPEED: Final = "scanned: the share of rows looked at; ms: single queries; queries/s: a batch."
# Of a curve; --json tells all.
_COLUMNS: Final = ("recall_scan", "recall", "nDCG")


@opt.command(
    {
        "index": opt.INDEX,
        "queries": opt.argument(list[str], "QUERIES...", opt.QUERIES_HELP),
        "truth": opt.option(list[str], "The vectors the index was built from.", metavar="VECTORS"),
        "truth_column": opt.option(str, "Column of the truth, if there are several."),
        "k": opt.option(
            str, "Hits per query; several, with commas.", "1,10,100", "-k", metavar="N,N"
        ),
        **(search_options.OPTIONS | search_options.SEVERAL),
        "qrels": opt.file("Judgements, BEIR or TREC."),
        "exclude_self": opt.flag("--exclude-self", "Leave out a query's own id."),
        "fail_under": opt.option(
            list[str],
            "Exit 6 if a metric such as recall@10 is lower; repeatable.",
            metavar="METRIC=VALUE",
        ),
        "cache_truth": opt.file("Keep the exact neighbours for the next time."),
        "per_query": opt.file("Write one row per query: .jsonl, .tsv, .csv or .parquet."),
        "plot": opt.file("Draw recall over speed, as .png, .svg or .pdf (extra plot)."),
        "overwrite": opt.OVERWRITE,
        "json": opt.JSON,
        **opt.COLUMNS,
    }
)
def evaluate(
    *,
    index: str,
    queries: list[str],
    k: str,
    oversample: str | None,
    target_recall: str | None,
    nprobe: str | None,
    ef: str | None,
    fail_under: list[str] | None,
    per_query: Path | None,
    cache_truth: Path | None,
    plot: Path | None,
    overwrite: bool,
    json: bool,
    **settings: Any,
) -> None:
    """Measure recall against exact float32 neighbours, a whole scan, or judgements."""
    from binq.cli import formats as results
    from binq.evaluation.evaluate import evaluate as judge
    from binq.evaluation.plot import check_plot, draw_curve
    from binq.evaluation.results import check_floors, parse_floors
    from binq.index.index import Index
    from binq.io.atomic import atomic_write
    from binq.io.outputs import refuse_overwrites

    factor = search_options.factor(oversample)
    ks = opt.whole_numbers(k, "-k")
    targets = None if target_recall is None else opt.numbers(target_recall, "--target-recall")
    lists = None if nprobe is None else opt.whole_numbers(nprobe, "--nprobe")
    rows = None if ef is None else opt.whole_numbers(ef, "--ef")
    floors = parse_floors(
        fail_under or [], ks, truth=bool(settings["truth"]), qrels=settings["qrels"] is not None
    )
    several = len(set(targets or lists or rows or ())) > 1
    _check_curve(several, plot=plot, per_query=per_query, fail_under=floors)
    content: Any = None
    write_records = None
    if per_query is not None:
        write_records, content = results.record_writer(per_query)
    if plot is not None:
        check_plot(plot)
    drawn: Any = plot and plot.suffix.lower()[1:]  # one that check_plot knows
    refuse_overwrites(
        {
            "`per_query`": (per_query, content),
            "`cache_truth`": (cache_truth, None),
            "`plot`": (plot, drawn),
        },
        *(index, queries, settings["truth"], settings["qrels"]),
        *(settings[name] for name in search_options.FILES),
        folders=[index],
        overwrite=overwrite,
    )
    opened = Index(index)
    check_floors(floors, exact=opened.structure.exact)
    render.awaiting("queries", render.VECTOR_LINES, queries)
    render.awaiting("the truth", render.VECTOR_LINES, settings["truth"])
    with ExitStack() as files:
        # Opened first: a place that cannot be written to is found before the work, not after.
        image = None if plot is None else files.enter_context(atomic_write(plot))
        with render.progress("evaluating") as progress:
            found = judge(
                opened,
                queries,
                k=ks,
                oversample=factor,
                target_recall=targets,
                nprobe=lists,
                ef=rows,
                cache_truth=cache_truth,
                overwrite=overwrite,
                progress=progress,
                **settings,
            )
        if image is not None and plot is not None:
            draw_curve(found, image, plot.suffix)
    if write_records is not None:
        write_records(found.records())
    if json:
        render.document(found.to_json())
    else:
        _show(found)
    found.require(floors)


def _check_curve(several: bool, **options: Any) -> None:
    """Refuse what goes with a curve alone, or with one effort alone.

    Raises
    ------
    UsageError
    """
    for name, value in options.items():
        if value and several != (name == "plot"):
            how = "one value" if several else "several values"
            raise UsageError(f"`{name}` goes with {how} of `nprobe`, `ef` or `target_recall`")


def _show(found: Evaluation) -> None:
    """Print what was found, a table of metrics or one of efforts for each k."""
    facts = found.facts
    few = "" if facts["allowed"] == facts["n"] else f" ({facts['allowed']:,} allowed)"
    what = (
        f"{facts['n']:,} rows{few}, {facts['queries']:,} queries, {facts['bits']} bits "
        f"({facts['method'] or 'packed'}), scoring {facts['scoring']}, rescore {facts['rescore']}"
    )
    for whole in found.exhaustive:
        points = [point for point in found.curve if point.k == whole.k]
        names = [name for name in _COLUMNS if f"{name}@{whole.k}" in points[0].metrics]
        render.table(
            f"{what}; k = {whole.k}",
            (_effort(points[0])[0], *names, "scanned", "queries/s", "ms"),
            [_cells(point, names) for point in [*points, whole]],
        )
    if not found.curve:
        if facts["kind"] != "flat":
            shares = sorted(
                {f"{100 * share:.1f}" for share in facts["scanned"].values()}, key=float
            )
            what += f", {' to '.join({shares[0]: 0, shares[-1]: 0})} % of rows scanned"
        render.table(
            f"{what}; median {found.latency_ms['median']} ms per query",
            ("metric", "value", "95 % interval"),
            [
                (name, f"{entry['value']:.4f}", _spread(entry))
                for name, entry in found.metrics.items()
            ],
        )
    if any(name.startswith("recall_scan") for name in found.metrics):
        render.line(_SCAN)
    if found.curve:
        render.line(_SPEED)


def _effort(point: Point) -> tuple[str, str]:
    """Return what an effort is called, and its value."""
    if point.effort is None:
        return "", "all rows"
    name, value = next(iter(point.effort.given.items()))
    return name.replace("_", " "), f"{value:g}"


def _cells(point: Point, names: list[str]) -> tuple[str, ...]:
    found = [point.metrics.get(f"{name}@{point.k}") for name in names]
    return (
        _effort(point)[1],
        *("-" if metric is None else f"{metric['value']:.4f}" for metric in found),
        f"{100 * point.scanned:.2f} %",
        f"{point.queries_per_second:,.0f}",
        f"{point.latency_ms['median']:.3f}",
    )


def _spread(entry: dict[str, float]) -> str:
    if "std" in entry:
        return f"sd {entry['std']:.4f}"
    return f"{entry['low']:.4f} to {entry['high']:.4f}"
