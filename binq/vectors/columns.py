"""Arrow columns as vectors: which column is which, and arrays made into matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from binq.errors import InputError
from binq.types import LAYOUTS, MAX_DIM, Layout, Locate
from binq.vectors.decoding import ReadOptions, settle_layout
from binq.vectors.frames import refuse_dimensions
from binq.vectors.id_columns import candidates, check_unique, choose_ids, is_uuid_field

_PREFIX: Final = b"binq."
_WIDTHS: Final = range(1, MAX_DIM + 1)
_SHOWN: Final = 16
_LISTS: Final = (
    *(pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view),
)


@dataclass(frozen=True)
class Columns:
    """The columns to read, and what the vectors in them are.

    Attributes
    ----------
    vector : str
    id : str or None
    width : int or None
        Elements per row; None where the type leaves it open.
    layout : {"ubinary", "binary", "lsb"} or None
    bits : int or None
    metadata : dict of str to str
    could_be_ids : list of str or None
        Columns that could hold ids, where none was found; None where that needs no saying.
    """

    vector: str
    id: str | None
    width: int | None
    layout: Layout | None
    bits: int | None
    metadata: dict[str, str]
    could_be_ids: list[str] | None

    @property
    def names(self) -> list[str]:
        """Names of the columns to read."""
        return [self.vector] if self.id is None else [self.vector, self.id]


def choose_columns(schema: pa.Schema, where: str, options: ReadOptions) -> Columns:
    """Find the vector column and the id column of a schema.

    Raises
    ------
    InputError
        If there is no such column, or several may be meant, or the type is not usable.
    """
    metadata = _metadata(schema, where)
    column = options.column
    packed, bits = options.packed, options.bits
    id_column = choose_ids(schema, where, options.id_column, column)
    if column is None:
        column = _only_vector(schema, id_column, where)
    check_unique(schema, column, where)
    kind = _storage(schema.field(column).type)
    told = cast("Layout | None", metadata.get("binq.layout"))
    if not _vector_like(kind):
        raise InputError(
            "column holds no vectors",
            f"{where} column {column}",
            "lists of numbers, or fixed-size binary",
            str(kind),
        )
    if pt.is_fixed_size_binary(kind):
        if packed == "none":
            raise InputError(
                "fixed-size binary is always packed bits",
                f"{where} column {column}",
                "a packed layout",
                "`packed=none`",
            )
        layout: Layout | None = packed or told or "ubinary"
        width = kind.byte_width
    else:
        width = kind.list_size if pt.is_fixed_size_list(kind) else None
        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        if packed is None and dtype.itemsize == 1:
            packed = told
        layout = settle_layout(dtype, packed, bits, f"{where} column {column}")
    if bits is None and layout is not None and "binq.bits" in metadata:
        bits = int(metadata["binq.bits"])
    could = None
    if id_column is None and options.id_column is None:
        could = candidates(schema, column)
    return Columns(column, id_column, width, layout, bits, metadata, could)


def to_matrix(
    array: pa.Array, width: int | None, layout: Layout | None, locate: Locate
) -> NDArray[Any]:
    """Return the rows of an Arrow array as a matrix, without copying where Arrow allows.

    Parameters
    ----------
    array : array of lists of numbers, or of fixed-size binary; a slice is taken as such
    width : int or None
        Elements per row; None takes the length of the first row.
    layout : {"ubinary", "binary", "lsb"} or None
    locate : callable
        Says where row ``i`` of ``array`` stands.

    Returns
    -------
    (n, width) numbers, or uint8 or int8

    Raises
    ------
    InputError
        At the first null row, null element, or row of another length.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.null_count:
        row = _first(array.is_null())
        raise InputError("row is null", locate(row), "a vector", "null")
    if pt.is_fixed_size_binary(array.type):
        size = array.type.byte_width
        data = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
        data = data[array.offset * size : (array.offset + len(array)) * size]
        matrix = data.reshape(len(array), size)
        return matrix.view(np.int8) if layout == "binary" else matrix
    if not pt.is_fixed_size_list(array.type):
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if width is None:
            width = int(lengths[0])
        wrong = np.flatnonzero(lengths != width)
        if wrong.size:
            row = int(wrong[0])
            raise InputError(
                "rows disagree in length",
                locate(row),
                f"{width} numbers",
                f"{lengths[row]} numbers",
            )
    width = array.type.list_size if width is None else width
    # flatten() respects a slice's offset, which .values does not. It drops null rows, but there
    # are none here.
    values = array.flatten()
    if values.null_count:
        row, dim = divmod(_first(values.is_null()), width)
        raise InputError("element is null", f"{locate(row)} dim {dim}", "a number", "null")
    elements: NDArray[Any] = values.to_numpy(zero_copy_only=True)
    return elements.reshape(len(array), width)


def _first(flags: pa.Array) -> int:
    return int(np.argmax(flags.to_numpy(zero_copy_only=False)))


def _metadata(schema: pa.Schema, where: str) -> dict[str, str]:
    entries = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in (schema.metadata or {}).items()
        if key.startswith(_PREFIX)
    }
    layout, bits = entries.get("binq.layout"), entries.get("binq.bits")
    if layout is not None and layout not in LAYOUTS:
        raise InputError("metadata binq.layout is damaged", where, ", ".join(LAYOUTS), layout)
    if bits is not None and not (bits.isascii() and bits.isdigit() and int(bits[:10]) in _WIDTHS):
        raise InputError("metadata binq.bits is damaged", where, f"1 to {MAX_DIM}", bits)
    return entries


def _only_vector(schema: pa.Schema, id_column: str | None, where: str) -> str:
    found = [
        field.name
        for field in schema
        if field.name != id_column and _vector_like(_storage(field.type)) and not _uuids(field)
    ]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise InputError(
            "several columns may hold the vectors",
            where,
            got=", ".join(found),
            next_step="choose one with `column`",
        )
    refuse_dimensions(schema, where)
    shown = [f"{field.name} ({field.type})" for field in schema][:_SHOWN]
    more = len(schema) - len(shown)
    raise InputError(
        "no column holds vectors",
        where,
        "a list of numbers, or fixed-size binary",
        ", ".join([*shown, *([f"{more:,} more"] if more else [])]) or "no columns",
    )


def _uuids(field: pa.Field) -> bool:
    """Return whether a column is UUIDs, and no bits unless the user says so."""
    return is_uuid_field(field) or (field.name == "uuid" and pt.is_fixed_size_binary(field.type))


def _storage(kind: pa.DataType) -> pa.DataType:
    """Return the storage of one-dimensional tensors; other extension types mean something else."""
    if isinstance(kind, pa.FixedShapeTensorType) and len(kind.shape) == 1:
        return kind.storage_type
    return kind


def _vector_like(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if pt.is_fixed_size_binary(kind):
        return bool(kind.byte_width > 0)
    listed = any(is_list(kind) for is_list in _LISTS)
    return listed and (pt.is_floating(kind.value_type) or pt.is_integer(kind.value_type))
