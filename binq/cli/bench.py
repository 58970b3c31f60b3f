"""``binq bench``."""

from __future__ import annotations

from typing import Any

from binq.cli import options as opt
from binq.cli import render


@opt.command(
    {
        "index": opt.argument(
            str, "[INDEX]", "Search its codes; without it, made-up ones.", default=None
        ),
        "n": opt.option(int, "Codes to make up.", 1_000_000),
        "bits": opt.option(int, "Width of a made-up code.", 768),
        "queries": opt.option(int, "Queries of a batch.", 256),
        "k": opt.option(int, "Hits per query.", 10, "-k"),
        "tasks": opt.option(
            str,
            "Some of hamming-batch, hamming-single, asymmetric-batch, asymmetric-single, "
            "cold-query, build, ivf-batch, ivf-single, ivf-build, "
            "hnsw-batch, hnsw-single, hnsw-build, hnsw-build-equal, with commas. [default: all]",
            metavar="NAME,NAME",
        ),
        "peers": opt.option(
            str,
            "Some of faiss, usearch, numpy, with commas. [default: all installed]",
            metavar="NAME,NAME",
        ),
        "rounds": opt.option(int, "Rounds counted, after one warm-up.", 5),
        "seed": opt.option(int, "Makes the data up.", 0),
        "threads": opt.THREADS,
        "json": opt.JSON,
    }
)
def bench(
    *, index: str | None, tasks: str | None, peers: str | None, json: bool, **settings: Any
) -> None:
    """Measure speed, beside peers, in one run."""
    from binq.benchmark.bench import bench as race

    with render.progress("benchmarking") as progress:
        found = race(
            index,
            tasks=opt.words(tasks),
            peers=opt.words(peers),
            progress=progress,
            **settings,
        )
    if json:
        render.document(found)
        return
    versions = ", ".join(f"{name} {text}" for name, text in found["versions"].items())
    render.line(f"{found['machine']['cpu']}, {found['rounds']} rounds, {versions}")
    for kind in dict.fromkeys((row["task"], row["target"]) for row in found["rows"]):
        rows = [row for row in found["rows"] if (row["task"], row["target"]) == kind]
        render.table(_title(rows), *_columns(rows))


def _title(rows: list[dict[str, Any]]) -> str:
    row = rows[0]
    parts = [f"{row['task']}: {row['n']:,} x {row['bits']} bits"]
    if row["queries"]:
        if not _differ(rows):
            parts.append(f"{row['queries']:,} quer{'y' if row['queries'] == 1 else 'ies'}")
        parts.append(f"k = {row['k']}")
    if row["target"] is not None:
        parts.append(f"recall_scan@{row['k']} >= {row['target']}")
    return ", ".join([*parts, f"{row['threads']} thread{'s' * (row['threads'] > 1)}"])


def _differ(rows: list[dict[str, Any]]) -> bool:
    # A slow engine is asked fewer queries at once.
    return len({row["queries"] for row in rows}) > 1


def _columns(rows: list[dict[str, Any]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the headings, and the cells of every engine."""
    columns = {"engine": [row["engine"] for row in rows]}
    if _differ(rows):
        columns["queries"] = [f"{row['queries']:,}" for row in rows]
    unit = "ms/1,000 rows" if "build" in rows[0]["task"] else "ms/query"
    for heading, name in ((unit, "median"), ("min", "min"), ("max", "max")):
        columns[heading] = [f"{row['ms_per_query'][name]:.3f}" for row in rows]
    columns["/ binq"] = [f"{row['ratio_to_binq']:.2f}" for row in rows]
    columns["right"] = ["yes" if row["correct"] else "NO" for row in rows]
    if rows[0]["target"] is not None:
        columns["recall"] = [f"{row['recall']:.4f}" for row in rows]
        columns["effort"] = [row["effort"] for row in rows]
    if rows[0]["gb_per_s"] is not None:
        columns["GB/s"] = [f"{row['gb_per_s']:,.1f}" for row in rows]
    return list(columns), list(zip(*columns.values(), strict=True))
