"""Filters: which rows a search may return, from ids to keep or to leave out."""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import BinqWarning, InputError
from binq.io.arrays import read_npy
from binq.io.streams import ByteStream, parse_json
from binq.search.options import Ids
from binq.storage.ids import StoredIds
from binq.structures.base import AllowedRows
from binq.types import ID_NAMES
from binq.vectors.ids import is_id

_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")


def allowed_rows(
    ids: StoredIds | None,
    alive: NDArray[np.bool_] | None,
    rows: int,
    keep: Ids | None,
    leave_out: Ids | None,
) -> AllowedRows | None:
    """Return the rows that a search may return; None where that is every row.

    Parameters
    ----------
    ids : StoredIds or None
        None where the id is the row number.
    alive : (rows,) bool or None
        Rows that are not deleted; None where all are alive.
    rows : int
        Number of rows of the index.
    keep, leave_out : Ids or None
        What ``filter_ids`` and ``exclude_ids`` say.

    Raises
    ------
    InputError
        If ids cannot be read.

    Warns
    -----
    BinqWarning
        How many of the ids no row of the index that is alive carries.
    """
    mask = alive
    for name, wanted in (("filter_ids", keep), ("exclude_ids", leave_out)):
        if wanted is None:
            continue
        named = read_ids(wanted, name)
        found, unknown = _find(ids, alive, rows, named)
        if unknown:
            warnings.warn(
                f"{unknown:,} of {len(named):,} ids of `{name}` are not in the index",
                BinqWarning,
                stacklevel=4,
            )
        found = found if name == "filter_ids" else ~found
        mask = found if mask is None else mask & found
    return None if mask is None else AllowedRows(mask)


def read_ids(ids: Ids, name: str = "ids") -> list[str] | list[int]:
    """Return distinct ids, as they are given or as a file holds them.

    Parameters
    ----------
    ids : path, sequence of str or int, or 1-D array
        A file holds one id a line (empty lines are passed over), a Parquet column (found as in
        vectors, or the only one that could be it), or a 1-D npy array; - is stdin. Lines of JSON
        are ids, or objects that have one.
    name : str
        The parameter that they came by, for messages.

    Raises
    ------
    InputError
        If they cannot be read, or are neither texts nor whole numbers.
    """
    where = f"`{name}`"
    values: Any = ids
    if isinstance(ids, (str, os.PathLike)):
        where = os.fspath(ids)
        values = _read_file(where)
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "iuU":
            raise InputError(
                "these are no ids",
                where,
                "a 1-D array of whole numbers or texts",
                f"{values.ndim}-D {values.dtype}",
            )
        values = values.tolist()
    plain = (value.item() if isinstance(value, np.generic) else value for value in values)
    distinct = list(dict.fromkeys(plain))
    for kind in (str, int):
        if all(type(value) is kind for value in distinct):
            return distinct
    raise InputError("these are no ids", where, "all texts, or all whole numbers", "something else")


def _read_file(path: str) -> NDArray[Any] | list[Any]:
    stream = ByteStream.of_stdin(None) if path == "-" else ByteStream.of_path(path)
    try:
        data = b"".join(iter(stream.read, b""))
    finally:
        stream.close()
    if data.startswith(b"\x93NUMPY"):
        try:
            return read_npy(data)
        except ValueError as error:
            raise InputError("not a whole npy file", path, "a 1-D array of ids") from error
    if data.startswith(b"PAR1"):
        return _read_column(data, path)
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "these are no ids", path, "UTF-8 text, npy or Parquet", f"byte {error.start} is not"
        ) from error
    if Path(path).suffix.lower() in _JSON_SUFFIXES or _looks_like_json(lines):
        found = [
            _json_id(line, f"{path} line {n}") for n, line in enumerate(lines, 1) if line.strip()
        ]
        return found if all(type(value) is int for value in found) else [str(x) for x in found]
    return [text for line in lines if (text := line.removesuffix("\r"))]


def _looks_like_json(lines: list[str]) -> bool:
    """Return whether lines are objects, or all are strings in quotes."""
    texts = [text for line in lines if (text := line.strip())]
    quoted = bool(texts) and all(len(t) > 1 and t[0] == t[-1] == '"' for t in texts)
    return quoted or (bool(texts) and texts[0][0] == "{")


def _json_id(line: str, where: str) -> str | int:
    """Return the id that a line of JSON is, or the object in it has."""
    try:
        value = parse_json(line)
    except (ValueError, RecursionError):
        raise InputError("line is not JSON", where, "an id, or an object with one") from None
    step = ""
    if isinstance(value, dict):
        step = "take the ids out, as jq -c .doc_id does"
        if "hits" in value:
            step = "take the ids out, as jq -c '.hits[].id' does"
        value = next((value[key] for key in ID_NAMES if is_id(value.get(key))), value)
    elif isinstance(value, list):
        step = "put one on each line, as jq -c '.[]' does"
    if not is_id(value):
        expected = "a string, an integer, or an object that has one as " + ", ".join(ID_NAMES)
        raise InputError("line holds no id", where, expected, line.strip()[:40], step)
    found: str | int = value
    return found


def _read_column(data: bytes, path: str) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from binq.vectors.id_columns import candidates, choose_ids, to_ids

    found: dict[Any, None] = {}
    start = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        possible = candidates(schema, None)
        column = choose_ids(schema, path, None, None)
        if column is None and len(possible) == 1:
            column = possible[0]
        if column is None:
            expected = f"one of {', '.join(ID_NAMES)}, or a single one of strings or integers"
            got = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise InputError("no column of ids", path, expected, got)
        # Batch by batch: of a small file the same ids may come millions of times.
        for batch in file.iter_batches(columns=[column], use_threads=False):
            ids = to_ids(batch.column(0), partial(_row_of, path, start), "leave it out")
            found |= dict.fromkeys(ids.tolist() if isinstance(ids, np.ndarray) else ids)
            start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError("not a whole Parquet file", path, "a column of ids") from error
    return list(found)


def _row_of(path: str, start: int, row: int) -> str:
    return f"{path} row {start + row}"


def _find(
    ids: StoredIds | None,
    alive: NDArray[np.bool_] | None,
    rows: int,
    wanted: list[str] | list[int],
) -> tuple[NDArray[np.bool_], int]:
    """Return which rows carry a wanted id, (rows,) bool, and how many no living row does."""
    if ids is not None:
        found, known = ids.find(wanted, alive)
        return found, len(wanted) - int(np.count_nonzero(known))
    mask = np.zeros(rows, np.bool_)
    numbers = [int(value) for value in wanted if is_row(value, rows)]
    mask[numbers] = True
    return mask, len(wanted) - int(np.count_nonzero(mask if alive is None else mask & alive))


def is_row(value: str | int, rows: int) -> bool:
    """Return whether an id is the number of a row, where row numbers serve as ids."""
    text = str(value)
    return text.isdecimal() and len(text) < 20 and int(text) < rows
