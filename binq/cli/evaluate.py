"""``binq eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binq.cli import options as opt
from binq.cli import render, search_options


@opt.command(
    {
        "index": opt.INDEX,
        "queries": opt.argument(list[str], "QUERIES...", opt.QUERIES_HELP),
        "truth": opt.option(list[str], "The vectors the index was built from.", metavar="VECTORS"),
        "truth_column": opt.option(str, "Column of the truth, if there are several."),
        "k": opt.option(
            str, "Hits per query; several, with commas.", "1,10,100", "-k", metavar="N,N"
        ),
        **search_options.OPTIONS,
        "qrels": opt.file("Judgements, BEIR or TREC."),
        "exclude_self": opt.flag("--exclude-self", "Leave out a query's own id."),
        "fail_under": opt.option(
            list[str],
            "Exit 6 if a metric such as recall@10 is lower; repeatable.",
            metavar="METRIC=VALUE",
        ),
        "cache_truth": opt.file("Keep the exact neighbours for the next time."),
        "per_query": opt.file("Write one row per query: .jsonl, .tsv, .csv or .parquet."),
        "overwrite": opt.OVERWRITE,
        "json": opt.JSON,
        **opt.COLUMNS,
    }
)
def evaluate(
    *,
    index: Path,
    queries: list[str],
    k: str,
    oversample: str | None,
    fail_under: list[str] | None,
    per_query: Path | None,
    cache_truth: Path | None,
    overwrite: bool,
    json: bool,
    **settings: Any,
) -> None:
    """Measure recall against exact float32 neighbours, or against judgements."""
    from binq.cli import formats as results
    from binq.evaluation.evaluate import evaluate as judge
    from binq.evaluation.evaluate import parse_floors
    from binq.io.outputs import refuse_overwrites

    factor = search_options.factor(oversample)
    ks = opt.whole_numbers(k, "-k")
    floors = parse_floors(
        fail_under or [], ks, truth=bool(settings["truth"]), qrels=settings["qrels"] is not None
    )
    write_records = None
    if per_query is not None:
        write_records, content = results.record_writer(per_query)
        refuse_overwrites(
            {"`per_query`": (per_query, content), "`cache_truth`": (cache_truth, None)},
            *(index, queries, settings["truth"], settings["qrels"]),
            *(settings[name] for name in search_options.FILES),
            overwrite=overwrite,
        )
    render.awaiting("queries", render.VECTOR_LINES, queries)
    render.awaiting("the truth", render.VECTOR_LINES, settings["truth"])
    with render.progress("evaluating") as progress:
        found = judge(
            index,
            queries,
            k=ks,
            oversample=factor,
            cache_truth=cache_truth,
            overwrite=overwrite,
            progress=progress,
            **settings,
        )
    if write_records is not None:
        write_records(found.records())
    if json:
        render.document(found.to_json())
    else:
        facts = found.facts
        few = "" if facts["allowed"] == facts["n"] else f" ({facts['allowed']:,} allowed)"
        render.table(
            f"{facts['n']:,} rows{few}, {facts['queries']:,} queries, {facts['bits']} bits "
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
