"""``binq build``."""

from __future__ import annotations

from typing import Any

from binq import types
from binq.cli import options as opt
from binq.cli import render

# Graphs that walk for fewer candidates say so.
_FEW = 100


@opt.command(
    {
        "vectors": opt.VECTORS,
        "output": opt.output(
            "The index: a file, with --shard-rows a directory, or an s3:// or gs:// URI.",
            "INDEX",
            kind=str,
        ),
        "shard_rows": opt.option(
            int, "Write a directory of files with so many rows each, which are one index."
        ),
        **opt.BINARIZER,
        "kind": opt.option(
            types.Kind,
            "flat: every row is scanned. ivf: rows lie in inverted lists, and a query scans those "
            "that are near. hnsw: a graph links near rows, and a query walks along it.",
            "flat",
        ),
        "nlist": opt.option(int, "How many lists. [default: 4 sqrt(n)]"),
        "m": opt.option(int, "Of a graph: a row has up to 2 M neighbours. [default: 16]"),
        "ef_construction": opt.option(
            int, "How many of the nearest rows those are chosen from. [default: 100]"
        ),
        "check_queries": opt.option(
            list[str],
            "Queries to calibrate searches of lists and graphs with; by default rows stand in for "
            "them.",
            metavar="VECTORS",
        ),
        "scoring": opt.option(
            types.Scoring,
            "The scan that the index is for. [default: asymmetric for learned and rabitq, "
            "else hamming]",
        ),
        "rescore": opt.option(types.StoredVectors, "Vectors to store for rescoring.", "none"),
        "packed": opt.PACKED,
        **opt.COLUMNS,
        "on_error": opt.ON_ERROR,
        "engine": opt.ENGINE,
        "overwrite": opt.OVERWRITE,
        "threads": opt.THREADS_OR_TASKS,
    }
)
def build(*, vectors: list[str], output: str, **settings: Any) -> None:
    """Build an index from vectors."""
    from binq.building.build import build as build_index

    render.awaiting("vectors", render.VECTOR_LINES, vectors)
    with render.progress("building") as progress:
        report = build_index(vectors, output, progress=progress, **settings)
    if report.chosen_by is not None:
        render.note(report.chosen_by)
    if report.id_note is not None:
        render.note(report.id_note)
    how = report.method or "packed bits"
    stored = "" if report.rescore == "none" else f", {report.rescore} vectors"
    render.note(
        f"{output}: {report.rows:,} rows of {report.dim} dims as {report.bits} bits "
        f"({how}{stored}), {report.size:,} bytes"
    )
    if report.walked is not None and report.walked < _FEW:
        render.note(render.walked(report.walked))
