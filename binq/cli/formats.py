"""Hits as text and as Parquet: the output formats of a query."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from binq.cli.spelling import option
from binq.errors import InputError, UsageError
from binq.index.stream import Answer, Found, Unanswered
from binq.io.atomic import atomic_write
from binq.io.outputs import Content, by_suffix
from binq.search.hits import Hits
from binq.types import Format

if TYPE_CHECKING:
    from binq.vectors.ids import IdType

Answers = Iterable[Answer]
Line = tuple[str | int, int, str | int, int | None, float]

COLUMNS: Final = ("query", "rank", "id", "distance", "score")
_SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tsv": "tsv",
    ".trec": "trec",
    ".run": "trec",
    ".parquet": "parquet",
    ".txt": "table",
}
CONTENTS: Final[dict[Format, Content]] = {
    "table": "text",
    "jsonl": "jsonl",
    "tsv": "text",
    "trec": "text",
    "parquet": "parquet",
}
"""What a file of each format holds."""
_RECORDS: Final[dict[str, Content]] = {
    ".jsonl": "jsonl",
    ".tsv": "text",
    ".csv": "text",
    ".parquet": "parquet",
}
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def choose_format(
    wanted: Format | None, output: str | os.PathLike[str] | None, terminal: bool
) -> Format:
    """Return the format to write: the one asked for, or that of the output's suffix.

    Raises
    ------
    UsageError
        If the suffix says nothing, or Parquet would go to a terminal.
    """
    to_file = output is not None and os.fspath(output) != "-"
    chosen = wanted
    if chosen is None and to_file:
        chosen = by_suffix(output or "", _SUFFIXES, "say it with --format")
    if chosen is None:
        chosen = "table" if terminal else "jsonl"
    if chosen == "parquet" and terminal and not to_file:
        raise UsageError("Parquet is not for a terminal", next_step="name a file with -o")
    return chosen


def flatten(answers: Answers) -> Iterator[Line]:
    """Yield (query, rank, id, distance, score) for every hit; ranks count from 1."""
    for query, hits, _ in _each(answers):
        if isinstance(hits, Unanswered):
            continue
        for rank, (name, distance, score) in enumerate(_line(hits), start=1):
            yield query, rank, name, distance, score


def table_rows(answers: Answers) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a table, of the columns `COLUMNS`."""
    for query, rank, name, distance, score in flatten(answers):
        yield (
            str(query),
            str(rank),
            str(name),
            "-" if distance is None else str(distance),
            f"{score:.4f}",
        )


def write(answers: Answers, shape: Format, sink: BinaryIO, ids: IdType | None = None) -> None:
    """Write answers as they come, flushing after each batch.

    Parameters
    ----------
    answers : iterable of (ids, hits) or (ids, hits, texts)
    shape : {"jsonl", "tsv", "trec", "parquet"}
    sink : BinaryIO
    ids : {"rows", "strings", "int64", "uint64"}, optional
        What the ids of the hits are; by default told by the first.

    Raises
    ------
    InputError
        If an id cannot be written in that format.
    """
    if shape == "parquet":
        _write_parquet(answers, sink, ids)
        return
    lines = {"jsonl": _jsonl, "tsv": _tsv, "trec": _trec}[shape]
    for batch in answers:
        sink.write("".join(lines([batch])).encode())
        sink.flush()


def record_writer(
    output: str | os.PathLike[str],
) -> tuple[Callable[[Iterable[dict[str, Any]]], None], Content]:
    """Return a function that writes records in the format of the file's suffix, and that format.

    Raises
    ------
    UsageError
        If the suffix is none of .jsonl, .tsv, .csv and .parquet.
    """
    content = by_suffix(output, _RECORDS)
    suffix = Path(output).suffix.lower()

    def write_all(records: Iterable[dict[str, Any]]) -> None:
        rows = list(records)
        with atomic_write(output) as file:
            if suffix == ".parquet":
                _write_records(rows, file)
                return
            text = io.StringIO(newline="")
            if suffix == ".jsonl":
                text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            else:
                table = csv.DictWriter(
                    text,
                    list(rows[0]) if rows else [],
                    delimiter="," if suffix == ".csv" else "\t",
                    lineterminator="\n",
                )
                table.writeheader()
                table.writerows(rows)
            file.write(text.getvalue().encode())

    return write_all, content


def _write_records(records: list[dict[str, Any]], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from binq.vectors.id_columns import id_array

    table = pa.Table.from_pylist([record | {"query": None} for record in records])
    if records:
        place = table.schema.get_field_index("query")
        queries = id_array([record["query"] for record in records])
        table = table.set_column(place, "query", queries)
    pq.write_table(table, file)


def _jsonl(answers: Answers) -> Iterator[str]:
    for query, hits, text in _each(answers):
        asked = {"query": query} if text is None else {"query": query, "text": text}
        yield json.dumps(asked | _record(hits), ensure_ascii=False) + "\n"


def _record(hits: Found) -> dict[str, Any]:
    if isinstance(hits, Unanswered):
        error = hits.error
        told = {"code": int(error.exit_code), "message": error.line(option), "line": hits.line}
        return {"error": told}
    entries = [
        {
            "rank": rank,
            "id": name,
            "distance": distance,
            "score": score if math.isfinite(score) else None,
        }
        for rank, (name, distance, score) in enumerate(_line(hits), start=1)
    ]
    return {"hits": entries}


def _tsv(answers: Answers) -> Iterator[str]:
    for query, rank, name, _, score in flatten(answers):
        cells = (str(query).translate(_ESCAPES), str(rank), str(name).translate(_ESCAPES))
        yield "\t".join((*cells, repr(score))) + "\n"


def _trec(answers: Answers) -> Iterator[str]:
    for query, rank, name, _, score in flatten(answers):
        for text in (str(query), str(name)):
            if not text or any(character.isspace() for character in text):
                raise InputError(
                    "a TREC run cannot hold an id with white space",
                    repr(text)[:80],
                    next_step="use --format jsonl or tsv",
                )
        yield f"{query} Q0 {name} {rank} {score!r} binq\n"


def _write_parquet(answers: Answers, sink: BinaryIO, ids: IdType | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from binq.vectors.id_columns import IdColumn

    writer = None
    asked, found = IdColumn("the ids of the queries"), IdColumn("the ids of the hits", ids)

    def schema() -> Any:
        others = {"distance": pa.int32(), "score": pa.float64()}
        kinds = {"query": asked.type, "rank": pa.int32(), "id": found.type, **others}
        return pa.schema(list(kinds.items()))

    # Closed before the sink is, whatever happens: else it complains where nobody hears it.
    with ExitStack() as stack:
        for batch in answers:
            rows = list(flatten([batch]))
            if not rows:
                continue
            queries, ranks, names, *rest = (list(column) for column in zip(*rows, strict=True))
            columns = [asked.array(queries), ranks, found.array(names), *rest]
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(sink, schema()))
            writer.write_table(pa.table(columns, schema=writer.schema))
        if writer is None:
            stack.enter_context(pq.ParquetWriter(sink, schema()))


def _each(answers: Answers) -> Iterator[tuple[str | int, Found, str | None]]:
    """Yield every query with what answers it, and its text where it came as one."""
    for ids, lines, *rest in answers:
        texts: Iterable[str | None] = rest[0] if rest else [None] * len(ids)
        yield from zip(ids, lines, texts, strict=True)


def _line(hits: Hits) -> Iterator[tuple[str | int, int | None, float]]:
    """Yield (id, distance, score) of the hits of one query."""
    distances: list[int | None] = [None] * hits.rows.shape[1]
    if hits.distances is not None:
        distances = hits.distances[0].tolist()
    scores: list[float] = hits.scores[0].tolist()
    return zip(hits.ids[0], distances, scores, strict=True)
