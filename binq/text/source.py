"""Texts and their ids from files of any usual kind, streamed.

=========  ==========================================================================
kind       recognized by
=========  ==========================================================================
parquet    its first bytes
csv, tsv   the suffix; the first line names the columns
jsonl      the suffix ``.jsonl`` or ``.ndjson``, else ``{`` as the first character
lines      otherwise: one text a line
=========  ==========================================================================

Where no column is named, it is the first of ``text``, ``contents``, ``content``, ``passage``,
``body``, ``sentence``, ``question``, ``query`` that exists, else the only column of strings beside
the id; a ``title`` stands before ``text``, as BEIR has it. The id is the first of ``id``, ``_id``,
``doc_id``, ``uuid``, ``uri`` and ``key`` that holds strings or integers (in Parquet UUIDs too), or
a named index of pandas. Ids of csv and tsv are texts, as they stand there.
"""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from binq.errors import InputError, UsageError
from binq.io.paths import format_of, named, opening, refuse_in_pipe
from binq.io.streams import ByteStream, lines, parse_json
from binq.text.columns import Columns, Text, choose_columns
from binq.types import ID_NAMES, TEXT_FORMATS, TextFormat
from binq.vectors.ids import is_id

_SUFFIXES: Final[dict[str, TextFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
_MAX_LINE: Final = 1 << 26
_PARQUET_ROWS: Final = 1024
_Numbered = Iterator[tuple[int, str, InputError | None]]
"""Lines with their numbers, and with what is wrong with them."""


class TextSource:
    """Texts of one or more files, or of standard input, in order.

    Iterating reads them; files may be read again, standard input only once.

    Parameters
    ----------
    paths : sequence of paths
        ``-`` is standard input and stands alone.
    text_column : str, optional
        The column or key of the text; several, joined by a space, where commas stand between.
    id_column : str, optional
        The column or key of the id; empty: row numbers serve.
    kind : str, optional
        One of `KINDS`, where recognizing the kind would go wrong.
    stdin : binary file, optional
        Stands in for the process's standard input.

    Attributes
    ----------
    could_be_ids : list of str or None
        Once it is read, columns that could hold ids where none was found; None where that needs no
        saying.

    Raises
    ------
    UsageError
        If the arguments contradict one another.
    """

    could_be_ids: list[str] | None = None

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        text_column: str | None = None,
        id_column: str | None = None,
        kind: TextFormat | None = None,
        stdin: BinaryIO | None = None,
    ) -> None:
        self.paths = named(paths, "texts")
        if kind is not None and kind not in TEXT_FORMATS:
            raise UsageError("unknown kind of text file", str(kind), ", ".join(TEXT_FORMATS))
        self._text = text_column.split(",") if text_column is not None else None
        if self._text is not None and not all(self._text):
            raise UsageError("empty column name", "`text_column`", got=repr(text_column))
        self._id = id_column
        self._choose = partial(choose_columns, text=self._text, identity=id_column)
        self._kind = kind
        self._stdin = stdin
        self._sizes = [_size(path) for path in self.paths]
        self._read = 0

    def __iter__(self) -> Iterator[Text]:
        """Yield the texts; raises as `read` does, and where a row cannot be used."""
        for text in self.read():
            if text.fault is not None:
                raise text.fault
            yield text

    def read(self) -> Iterator[Text]:
        """Yield the texts; a row that cannot be used is one with a fault, which names it.

        Raises
        ------
        InputError
            If a file cannot be used, or what follows a row cannot be told.
        EnvironmentFailure
            If a file may not be read.
        """
        self._read = 0
        with_ids: bool | None = None
        for path, size in zip(self.paths, self._sizes, strict=True):
            before = self._read
            first = True
            for text in self._texts_of(path):
                if first and text.fault is None:
                    has = text.id is not None
                    if with_ids not in (None, has):
                        raise InputError(
                            "some files have ids and some have none",
                            path,
                            next_step="choose them with `id_column` (empty: row numbers)",
                        )
                    with_ids, first = has, False
                yield text
            if size is not None:
                self._read = before + size

    @property
    def fraction(self) -> float | None:
        """How much of the files has been read, from 0 to 1; None where no one knows their size."""
        total = sum(size or 0 for size in self._sizes)
        return min(1.0, self._read / total) if total and None not in self._sizes else None

    def _texts_of(self, path: str) -> Iterator[Text]:
        kind = self._kind
        if path != "-" and kind in (None, "parquet") and _is_parquet(path):
            yield from self._parquet(path)
            return
        if kind == "parquet":
            raise InputError("not a Parquet file", path)
        stream = ByteStream.of_stdin(self._stdin) if path == "-" else ByteStream.of_path(path)
        with closing(stream):
            if kind is None:
                kind = _SUFFIXES.get(Path(path).suffix.lower()) or _guess(stream)
            numbered = self._lines(stream)
            if kind == "jsonl":
                yield from self._jsonl(numbered, stream.name)
            elif kind == "lines":
                if self._text is not None or self._id:
                    raise UsageError(
                        "plain lines have no columns", stream.name, next_step="drop the names"
                    )
                for number, line, fault in numbered:
                    yield Text(None, line, _line(stream.name, number), fault)
            else:
                yield from self._delimited(numbered, stream.name, "," if kind == "csv" else "\t")

    def _lines(self, stream: ByteStream) -> _Numbered:
        """Yield numbered lines without their ends, with what is wrong with them."""
        arrived = (line for line in lines(stream) if line is not None)
        for number, data in enumerate(arrived, 1):
            if isinstance(data, InputError):
                data.where = _line(stream.name, number)
                yield number, "", data
                continue
            self._read += len(data) + 1
            if number == 1:
                data = data.removeprefix(codecs.BOM_UTF8)
            try:
                line, fault = data.decode("utf-8"), None
            except UnicodeDecodeError as error:
                line = data.decode("utf-8", "replace")
                fault = InputError(
                    "text is not UTF-8",
                    _line(stream.name, number),
                    got=f"byte 0x{data[error.start]:02x}",
                    next_step="convert it, for example with iconv -t utf-8",
                )
            yield number, line.removesuffix("\r"), fault

    def _jsonl(self, lines: _Numbered, name: str) -> Iterator[Text]:
        columns: Columns | None = None
        for number, line, fault in lines:
            if fault is None and not line.strip():
                continue
            where = _line(name, number)
            try:
                if fault is not None:
                    raise fault
                entry = _entry(line, where)
                if columns is None:
                    strings = [key for key, value in entry.items() if isinstance(value, str)]
                    ids = [key for key, value in entry.items() if is_id(value)]
                    columns = self._choose(list(entry), strings, ids, where, optional_title=True)
                    self.could_be_ids = columns.could_be_ids
            except InputError as error:
                text = _faulty(error)
            else:
                text = columns.text_of(entry, where)
            yield text

    def _delimited(self, lines: _Numbered, name: str, delimiter: str) -> Iterator[Text]:
        last = [0]
        unread: list[InputError] = []

        def fed() -> Iterator[str]:
            for last[0], line, fault in lines:
                if fault is not None:
                    if not line:
                        raise fault  # too long to be kept, and whether a quote is open is lost
                    unread.append(fault)
                yield line + "\n"

        csv.field_size_limit(_MAX_LINE)
        rows = csv.reader(fed(), delimiter=delimiter, strict=True)
        names: list[str] | None = None
        columns: Columns | None = None
        while True:
            start = last[0] + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise InputError("not well-formed", _line(name, start), got=str(error)) from None
            if row is None:
                break
            where = _line(name, start)
            if not row:
                continue
            if unread:
                if names is None:
                    raise unread[0]
                yield _faulty(unread[0])
                unread.clear()
                continue
            if names is None:
                names = row
                if len(set(names)) != len(names):
                    raise InputError("column name is not unique", where, got=", ".join(names))
                continue
            if len(row) != len(names):
                what = "row has another number of fields than the header"
                yield _faulty(InputError(what, where, str(len(names)), str(len(row))))
                continue
            entry = dict(zip(names, row, strict=True))
            if columns is None:
                columns = self._choose(names, names, names, _line(name, 1))
                self.could_be_ids = columns.could_be_ids
            yield columns.text_of(entry, where)

    def _parquet(self, path: str) -> Iterator[Text]:
        from binq.vectors.columnar import damage_named, open_parquet
        from binq.vectors.id_columns import candidates, is_text, pandas_index, to_ids

        size = os.path.getsize(path)
        before = self._read
        with damage_named(path), open_parquet(path) as file:
            schema = file.schema_arrow
            strings = [field.name for field in schema if is_text(field.type)]
            columns = self._choose(
                schema.names,
                strings,
                candidates(schema, None),
                path,
                id_names=(*ID_NAMES, *pandas_index(schema)),
            )
            self.could_be_ids = columns.could_be_ids
            wanted = list(dict.fromkeys(columns.names()))
            total = max(1, file.metadata.num_rows)
            row = 0
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                entries = batch.to_pylist()
                if columns.id is not None:
                    # What is null is the fault of its row.
                    found = to_ids(batch.column(columns.id).drop_null(), partial(_row, path, row))
                    ids = iter(found.tolist() if isinstance(found, np.ndarray) else found)
                    for entry in entries:
                        if entry[columns.id] is not None:
                            entry[columns.id] = next(ids)
                for entry in entries:
                    yield columns.text_of(entry, _row(path, 0, row))
                    row += 1
                    self._read = before + size * row // total


def _entry(line: str, where: str) -> dict[str, Any]:
    """Return what a line of jsonl holds."""
    try:
        entry = parse_json(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "") or str(error)
        raise InputError("not JSON", where, "one object a line", reason) from None
    if isinstance(entry, str):
        # A bare string is a text.
        entry = {"text": entry}
    if not isinstance(entry, dict):
        raise InputError("not an object", where, "one object a line", type(entry).__name__)
    return entry


def _faulty(fault: InputError) -> Text:
    return Text(None, "", fault.where, fault)


def batched(texts: Iterable[Text], rows: int, characters: int) -> Iterator[list[Text]]:
    """Yield texts in lists of at most ``rows``, which end early once they hold ``characters``."""
    held: list[Text] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text.text)
        if len(held) >= rows or size >= characters:
            yield held
            held, size = [], 0
    if held:
        yield held


def _guess(stream: ByteStream) -> TextFormat:
    head = stream.peek()
    refuse_in_pipe(head, stream.name)
    return "jsonl" if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{" else "lines"


def _is_parquet(path: str) -> bool:
    with opening(path):
        # Looking into a pipe would take bytes from it.
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return format_of(file.read(8)) == "parquet"


def _size(path: str) -> int | None:
    return os.path.getsize(path) if path != "-" and os.path.isfile(path) else None


def _row(path: str, start: int, row: int) -> str:
    return f"{path}: row {start + row}"


def _line(name: str, number: int) -> str:
    return f"{name}: line {number}"
