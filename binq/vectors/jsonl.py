"""Vectors as lines of JSON: ``{"id": …, "embedding": […]}``, or a bare array per line."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.io.fingerprint import fingerprint_file
from binq.io.objects import StoreObject
from binq.io.streams import ByteStream, lines, parse_json
from binq.types import ID_NAMES, Layout
from binq.vectors.batch import Batch
from binq.vectors.decoding import Decoder, ReadOptions, decoder_for, refuse_bits
from binq.vectors.documents import advice_on_line
from binq.vectors.ids import OTHER_IDS, is_id
from binq.vectors.refusing import Refusal, refuse
from binq.vectors.source import VectorSource, rows_per_batch

_NUMBERS: Final = {int, float}
# Of rows without ids none may have these; the other names of ids may mean something else.
_SURE_NAMES: Final = ID_NAMES[:2]


class JsonlSource(VectorSource):
    """Lines of JSON from a file or a stream.

    Lines come in full batches as long as input is waiting; as soon as none is, the complete lines
    at hand are yielded. So whoever writes a line gets it answered before anything more is read.

    Parameters
    ----------
    name : str
        What messages call it.
    opener : callable
        Returns the stream of bytes; called for each pass.
    path : str or None
        The file, where it is one; None for a stream, which is read once.
    options : ReadOptions
        Unset, the columns are the only key with a list of numbers, and the first of `ID_NAMES` that
        is a string or an integer in the first row. With a packed layout, elements are bytes.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], ByteStream],
        path: str | None,
        options: ReadOptions,
    ) -> None:
        super().__init__(name)
        self.rewindable = path is not None
        self.layout: Layout | None = None
        if options.packed is None or options.packed == "none":
            refuse_bits(options.bits, name)
        else:
            self.layout = options.packed
        self.dim = options.bits
        self.has_ids = None
        self._opener = opener
        self._path = path
        self._stream: ByteStream | None = None
        self._options = options
        self._forget()
        # Where blank lines were skipped: from row _after[i] on, the line is row + _skipped[i].
        self._after = array("q", [0])
        self._skipped = array("q", [1])
        if path is not None:
            self._peek()

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``."""
        return self.read_from(0, max_rows)

    def read_from(self, first: int, max_rows: int | None = None) -> Generator[Batch]:
        """Yield rows, of which those before ``first`` are counted; see ``VectorSource.read_from``.

        The first row that can be used is read all the same: it says what all have in common.
        """
        if self._stream is not None and not self.rewindable:
            raise InputError("a stream can be read only once", self.name)
        self._stream = stream = self._opener()
        try:
            yield from self._batches(stream, max_rows, first)
            if isinstance(self._path, StoreObject):
                self._path.require_unchanged()
        finally:
            stream.close()

    def between(self, first: int, end: int) -> Generator[Batch]:
        """Yield some rows, and read few that are not wanted; see ``VectorSource.between``."""
        return self._between(first, end, max(1, end - first))

    def locate(self, row: int) -> str:
        """Return where a row stands; see ``VectorSource.locate``."""
        position = bisect_right(self._after, row) - 1
        return f"{self.name} row {row} line {row + self._skipped[position]}"

    def _fingerprint(self) -> str | None:
        if self._path is not None:
            return fingerprint_file(self._path)
        return None if self._stream is None else self._stream.fingerprint()

    def interrupt(self) -> None:
        """End a read that waits in another thread."""
        if isinstance(self._path, StoreObject):
            self._path.interrupt()
        elif not self.rewindable:
            self._opener().interrupt()

    def close(self) -> None:
        """Let go of everything."""
        if not self.rewindable:
            self._opener().close()

    def _peek(self) -> None:
        """Learn dim and has_ids of a file from its first row that can be used."""
        with closing(self.read(1)) as passed:
            next((batch for batch in passed if not batch.refused), None)

    def _forget(self) -> None:
        """Know only what the user said: each pass finds out the rest, and so refuses the same."""
        self._column, self._id_column = self._options.column, self._options.id_column
        self._decoder: Decoder | None = None
        self._with_ids: bool | None = None

    def _batches(self, stream: ByteStream, max_rows: int | None, wanted: int) -> Iterator[Batch]:
        self._forget()
        self._after, self._skipped = array("q", [0]), array("q", [1])
        rows: list[NDArray[Any]] = []
        ids: list[str | int] = []
        refused: list[Refusal] = []
        start = 0
        limit = rows_per_batch(1, max_rows)
        first = True

        def gather() -> Batch:
            nonlocal rows, ids, refused, start, limit
            vectors = np.concatenate(rows) if rows else self._none
            # Of a file it is known from before; of a stream not before the first row.
            with_ids = self.has_ids if self._with_ids is None else self._with_ids
            batch = Batch(start, vectors, ids if with_ids else None, tuple(refused))
            start += len(batch)
            rows, ids, refused = [], [], []
            return batch

        for line in lines(stream):
            if line is None:
                if rows or refused:
                    yield gather()
                continue
            offset = len(rows) + len(refused)
            row = start + offset
            if row < wanted and self._decoder is not None:
                if rows or refused:
                    yield gather()
                if isinstance(line, InputError) or self._options.every_line or line.strip():
                    start += 1
                else:
                    self._skip_line(row)
                continue
            if isinstance(line, InputError):
                line.where = self.locate(row)
                refused.append(refuse(offset, None, line))
                # At once: the end of such a line may be far, or nowhere.
                yield gather()
                first = False
                continue
            text = line.removeprefix(BOM_UTF8) if first else line
            first = False
            if not text.strip():
                if self._options.every_line:
                    refused.append(Refusal(offset, None, None))
                else:
                    self._skip_line(row)
                    continue
            else:
                found = self._parse(text, row, offset)
                if isinstance(found, Refusal):
                    refused.append(found)
                else:
                    vector, row_id = found
                    if not rows:
                        limit = rows_per_batch(vector.nbytes, max_rows)
                    rows.append(vector)
                    if row_id is not None:
                        ids.append(row_id)
            if offset + 1 >= limit:
                yield gather()
        if rows or refused:
            yield gather()
        self.rows = start
        if not start:
            self.has_ids = False

    @property
    def _none(self) -> NDArray[Any]:
        return np.empty((0, 0), np.float32) if self._decoder is None else self._decoder.empty

    def _skip_line(self, row: int) -> None:
        if self._after[-1] == row:
            self._skipped[-1] += 1
        else:
            self._after.append(row)
            self._skipped.append(self._skipped[-1] + 1)

    def _parse(
        self, line: bytes, row: int, offset: int
    ) -> tuple[NDArray[Any], str | int | None] | Refusal:
        """Return one row, decoded, as a (1, …) array, and its id."""
        where = self.locate(row)
        row_id = None
        known = self._column, self._id_column
        try:
            entry = self._value(line, where)
            if isinstance(entry, dict):
                row_id = self._id(entry, where)
                values = self._vector(entry, where)
            elif isinstance(entry, list):
                if self._options.column is not None:
                    raise InputError(
                        "row is a bare array", where, f"an object with {self._column}", "an array"
                    )
                values = entry
            else:
                raise InputError(
                    "row holds no vector", where, "an object or an array", _kind(entry)
                )
            if self._with_ids not in (None, row_id is not None):
                raise InputError(
                    "row has no id"
                    if self._with_ids
                    else "row has an id where rows before have none",
                    where,
                    next_step=OTHER_IDS,
                )
            vector = self._decode(values, where)
        except InputError as error:
            # What a row that cannot be used seems to say of the columns says nothing of others.
            self._column, self._id_column = known
            return refuse(offset, row_id, error)
        searched = self._with_ids is None and self._options.id_column is None
        if searched and isinstance(entry, dict) and row_id is None:
            self.could_be_ids = [key for key, value in entry.items() if is_id(value)]
        self.has_ids = self._with_ids = row_id is not None
        return vector, row_id

    def _value(self, line: bytes, where: str) -> Any:
        """Return what a line of JSON stands for."""
        try:
            return parse_json(line.decode())
        except UnicodeDecodeError:
            raise InputError("line is not UTF-8", where) from None
        except json.JSONDecodeError as error:
            raise InputError(
                "line is not JSON",
                where,
                "one object or array per line",
                f"{error.msg.lower()} at character {error.pos}",
            ) from None
        except (ValueError, RecursionError):
            raise InputError("line is not JSON that can be read", where) from None

    def _vector(self, entry: dict[str, Any], where: str) -> list[Any]:
        if self._column is None:
            id_keys = (self._id_column,) if self._id_column else _SURE_NAMES
            self._column = _only_vector(entry, id_keys, where)
        if self._column not in entry:
            keys = ", ".join(entry) or "no keys"
            named = self._options.column is not None
            step = "mend that row, or choose another key with `column`" if named else ""
            raise InputError("row has no vector", where, f"key {self._column}", keys, step)
        values = entry[self._column]
        if not isinstance(values, list):
            raise InputError(
                "row has no vector",
                f"{where} key {self._column}",
                "a list of numbers",
                _kind(values),
            )
        return values

    def _id(self, entry: dict[str, Any], where: str) -> str | int | None:
        wanted = self._options.id_column
        if wanted is None and not self._with_ids:
            names = ID_NAMES if self._with_ids is None else _SURE_NAMES
            self._id_column = next((key for key in names if is_id(entry.get(key))), None)
        if not self._id_column:
            return None
        if self._id_column not in entry:
            if wanted is not None:
                step = "mend that row, or choose another key with `id_column`"
                keys = ", ".join(entry) or "no keys"
                raise InputError("row has no id", where, f"key {wanted}", keys, step)
            return None
        value = entry[self._id_column]
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise InputError("id is not valid Unicode", where, got=ascii(value)) from None
        elif not is_id(value):
            raise InputError("id has the wrong type", where, "a string or an integer", _kind(value))
        found_id: str | int = value
        return found_id

    def _decode(self, values: list[Any], where: str) -> NDArray[Any]:
        bad = set(map(type, values)) - _NUMBERS
        if bad or (self.layout is not None and float in map(type, values)):
            wanted = "a number" if self.layout is None else "an integer"
            allowed = _NUMBERS if self.layout is None else {int}
            place = next(i for i, value in enumerate(values) if type(value) not in allowed)
            raise InputError(
                f"element is not {wanted}", f"{where} dim {place}", wanted, _kind(values[place])
            )
        if self._decoder is None:
            dims = self._options.dims if self.layout is None else ()
            if dims and len(values) not in dims:
                raise InputError(
                    "the query has another dimension than the index",
                    where,
                    " or ".join(map(str, dims)),
                    str(len(values)),
                    "encode it with the model that encoded the documents",
                )
            decoder = decoder_for(len(values), self.layout, self._options.bits, where)
        else:
            decoder = self._decoder
        if len(values) != decoder.width:
            raise InputError(
                "rows disagree in length",
                where,
                f"{decoder.width} numbers",
                f"{len(values)} numbers",
            )
        if self.layout is None:
            try:
                raw: NDArray[Any] = np.array([values], dtype=np.float64)
            except OverflowError:
                raise InputError("a value is not a finite float32", where) from None
        else:
            low, dtype = (-128, np.int8) if self.layout == "binary" else (0, np.uint8)
            if min(values) < low or max(values) > low + 255:
                raise InputError(
                    f"a byte of packed bits in layout {self.layout} is out of range",
                    where,
                    f"{low} to {low + 255}",
                    f"{min(values)} to {max(values)}",
                )
            raw = np.array([values], dtype=dtype)
        vector = decoder.decode(raw, lambda _: where)
        self._decoder, self.dim = decoder, decoder.dim
        return vector


def _only_vector(entry: dict[str, Any], id_keys: tuple[str, ...], where: str) -> str:
    lists = [k for k, value in entry.items() if isinstance(value, list) and k not in id_keys]
    numeric = [key for key in lists if entry[key] and set(map(type, entry[key])) <= _NUMBERS]
    # Without a clean list, the only list there is gets the message about its bad element.
    found = numeric or lists
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            "several keys hold a list of numbers" if numeric else "no key holds a list of numbers",
            where,
            got=", ".join(found),
            next_step="choose one with `column`",
        )
    raise InputError(
        "row holds no vector",
        where,
        "a key with a list of numbers",
        ", ".join(entry) or "no keys",
        advice_on_line(entry),
    )


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array"}
    names |= {dict: "an object", float: "a fraction", int: "an integer"}
    return names[type(value)]
