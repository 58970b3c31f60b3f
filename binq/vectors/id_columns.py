"""Columns of ids in Arrow: which one it is, and what it holds."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from binq.errors import InputError
from binq.types import ID_NAMES, Locate
from binq.vectors.ids import OTHER_IDS, CommonType, Ids, IdType, odd_one

_UUID_BYTES: Final = 16
_UNNAMED_INDEX: Final = re.compile(r"__index_level_\d+__")


class IdColumn:
    """A column of ids that is written as they come: of the type of the first.

    Parameters
    ----------
    where : str
        What the ids come from, for messages.
    kind : {"rows", "strings", "int64", "uint64"}, optional
        What they are, where that is known before the first.
    """

    def __init__(self, where: str, kind: IdType | None = None) -> None:
        self._where = where
        self._kind: IdType | None = "int64" if kind == "rows" else kind

    @property
    def type(self) -> pa.DataType:
        """Their Arrow type; strings where none has come."""
        return arrow_type(self._kind or "strings")

    def array(self, ids: Ids) -> pa.Array:
        """Return further ids as Arrow.

        Raises
        ------
        InputError
            If they are not of the type of those before.
        """
        if self._kind is None:
            settled = CommonType()
            settled.add(ids)
            self._kind = settled.name
        try:
            return pa.array(ids, self.type)
        except (pa.ArrowException, TypeError, OverflowError, ValueError):
            raise InputError(
                "a Parquet column holds ids of one type",
                self._where,
                self._kind,
                odd_one(ids, self._kind),
                "make all of them strings",
            ) from None


def id_array(ids: list[Any]) -> pa.Array:
    """Return all ids of something as Arrow: integers if all are, else strings."""
    settled = CommonType()
    settled.add(ids)
    kind = arrow_type(settled.name)
    return pa.array(ids if pt.is_integer(kind) else map(str, ids), kind)


def arrow_type(kind: IdType) -> pa.DataType:
    """Return the Arrow type of ids; row numbers are int64."""
    return {"strings": pa.string(), "uint64": pa.uint64()}.get(kind, pa.int64())


def choose_ids(schema: pa.Schema, where: str, wanted: str | None, taken: str | None) -> str | None:
    """Return the column of ids, None where there is none.

    The first of `ID_NAMES` of a usable type, then a named index of pandas.

    Parameters
    ----------
    schema : Schema
    where : str
    wanted : str or None
        What the user names; empty: none.
    taken : str or None
        The column of the vectors, which is never found as that of the ids.

    Raises
    ------
    InputError
        If the column that was named, or found, cannot be used.
    """
    if wanted == "":
        return None
    if wanted is not None:
        check_unique(schema, wanted, where)
        field = schema.field(wanted)
        if not _usable(field) and not _is_uuid(field.type):
            raise InputError(
                "id column has the wrong type",
                f"{where} column {wanted}",
                "strings, integers or UUIDs",
                str(field.type),
                "choose another with `id_column`",
            )
        return wanted
    for name in (*ID_NAMES, *pandas_index(schema)):
        if name != taken and name in schema.names:
            check_unique(schema, name, where)
            if _usable(schema.field(name)):
                return name
    return None


def candidates(schema: pa.Schema, taken: str | None) -> list[str]:
    """Return the columns that could hold ids, apart from that of the vectors."""
    return [field.name for field in schema if field.name != taken and _usable(field)]


def to_ids(array: pa.Array, locate: Locate, step: str = OTHER_IDS) -> Ids:
    """Return the ids of a column: integers as int64, uint64 as such, and the others as strings.

    Parameters
    ----------
    array : array of a type that can hold ids
    locate : callable
        Says where row ``i`` of ``array`` stands.
    step : str
        What to do about a null.

    Raises
    ------
    InputError
        At the first null, or if the text is not UTF-8.
    """
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise InputError("id is null", locate(row), "a string, an integer or a UUID", "", step)
    if pt.is_integer(array.type):
        dtype = np.uint64 if pt.is_uint64(array.type) else np.int64
        numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return numbers.astype(dtype, copy=False)
    if _is_uuid(array.type):
        stored = array.storage if isinstance(array, pa.ExtensionArray) else array
        return [_uuid_text(value) for value in stored.to_pylist()]
    try:
        texts: list[str] = array.to_pylist()
    except UnicodeDecodeError:
        raise InputError("ids are not UTF-8", locate(0), "text") from None
    return texts


def check_unique(schema: pa.Schema, name: str, where: str) -> None:
    """Refuse a name that no column or several bear.

    Raises
    ------
    InputError
    """
    count = schema.names.count(name)
    if count != 1:
        raise InputError(
            "no such column" if not count else "column name is not unique",
            where,
            name,
            ", ".join(schema.names) or "no columns",
        )


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text, plain or dictionary-encoded."""
    kind = _plain(kind)
    string_view = getattr(pt, "is_string_view", lambda _: False)
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or string_view(kind))


def is_uuid_field(field: pa.Field) -> bool:
    """Return whether a column holds UUIDs: its type says so, or 16 bytes bear the name of ids."""
    told = (field.metadata or {}).get(b"ARROW:extension:name") == b"arrow.uuid"
    known = told or field.name in ID_NAMES or isinstance(field.type, pa.BaseExtensionType)
    return known and _is_uuid(field.type)


def _usable(field: pa.Field) -> bool:
    kind = field.type
    return is_text(kind) or bool(pt.is_integer(_plain(kind))) or is_uuid_field(field)


def _is_uuid(kind: pa.DataType) -> bool:
    """Return whether values are UUIDs, or 16 bytes, which may be."""
    if isinstance(kind, pa.BaseExtensionType):
        return bool(kind.extension_name == "arrow.uuid")
    return bool(pt.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES)


def _uuid_text(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pt.is_dictionary(kind) else kind


def pandas_index(schema: pa.Schema) -> list[str]:
    """Return the column of the index of a data frame, if it is one column and has a name."""
    try:
        found = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    named = isinstance(found, list) and len(found) == 1 and isinstance(found[0], str)
    return found if named and not _UNNAMED_INDEX.fullmatch(found[0]) else []
