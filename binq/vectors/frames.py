"""Tables in which each dimension is a column: not read, but told how to make one column of them."""

from __future__ import annotations

import csv
import io
import os
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.types as pt

from binq.errors import InputError
from binq.io.objects import open_binary
from binq.io.paths import opening
from binq.types import ID_NAMES

_FEWEST: Final = 8
_HEAD: Final = 1 << 20
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}


def refuse_dimensions(schema: pa.Schema, where: str) -> None:
    """Refuse a table whose columns are the dimensions.

    Raises
    ------
    InputError
        With the line of Python that makes one column of lists of them.
    """
    numbers = {
        field.name
        for field in schema
        if pt.is_floating(field.type) or pt.is_integer(field.type) or pt.is_decimal(field.type)
    }
    _refuse(list(schema.names), numbers, where, "read_parquet", "")


def refuse_csv(path: str) -> None:
    """Refuse a csv or tsv file, by its suffix.

    Raises
    ------
    InputError
        If it is one, with the line of Python that makes Parquet of it.
    """
    delimiter = _DELIMITERS.get(os.path.splitext(path)[1].lower())
    if delimiter is None:
        return
    with opening(path), open_binary(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", "replace", "")
        rows = list(csv.reader(text.read(_HEAD).splitlines()[:2], delimiter=delimiter))
    names, values = (*rows, [], [])[:2]
    how = "" if delimiter == "," else ", sep='\\t'"
    if not _is_header(names):
        # pandas would take the first vector for names, and leave it out.
        how += ", header=None"
        names, values = [str(place) for place in range(len(names))], names
    numbers = {name for name, value in zip(names, values, strict=False) if _is_number(value)}
    _refuse(names, numbers, path, "read_csv", how)
    raise InputError("binq reads no csv", path, "npy, Parquet, Arrow or jsonl")


def _refuse(names: list[str], numbers: set[str], where: str, reader: str, how: str) -> None:
    row_id = next((name for name in ID_NAMES if name in names), None)
    dims = [name for name in names if name in numbers and name != row_id]
    if len(dims) < _FEWEST:
        return
    kept = [] if row_id is None else [row_id]
    drop = f".drop(columns={row_id!r})" if row_id in numbers else ""
    raise InputError(
        "every dimension is a column of its own",
        where,
        "one column with a list of numbers",
        f"{len(dims):,} columns of numbers, {dims[0]} to {dims[-1]}",
        f"make one of them, in pandas: df = pandas.{reader}({where!r}{how}); "
        f"df[{kept!r}].assign(embedding=list(df.select_dtypes('number'){drop}"
        ".to_numpy('float32'))).to_parquet('vectors.parquet')",
    )


def _is_header(names: list[str]) -> bool:
    """Whether a first line names columns: by words, or by numbers that count them."""
    numbers = [name for name in names if _is_number(name)]
    if len(numbers) < _FEWEST:
        return True
    return all(map(str.isdecimal, numbers)) and all(
        int(after) == int(before) + 1 for before, after in pairwise(numbers)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
