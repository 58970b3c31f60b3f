"""Embeddings as Parquet, npy or jsonl: what an encoding run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from binq.encoders import Encoder
from binq.errors import InputError
from binq.io.outputs import Content
from binq.text.checkpoint import Checkpoint, Shape
from binq.types import Precision, Role
from binq.vectors.ids import IdType
from binq.vectors.npy import NpyWriter

SUFFIXES: Final[dict[str, Content]] = {
    ".parquet": "parquet",
    ".npy": "npy",
    ".jsonl": "jsonl",
}
_Blocks = Iterator[tuple[list[Any], NDArray[Any]]]
"""Ids and rows."""


def write_embeddings(
    file: BinaryIO,
    content: Content,
    checkpoint: Checkpoint,
    encoder: Encoder,
    role: Role,
    precision: Precision,
    ids: IdType,
) -> Shape:
    """Write the rows of a checkpoint with their ids, as ``id`` and ``embedding``.

    An npy file has no place for ids; what made the rows stands in Parquet's metadata alone.

    Parameters
    ----------
    file : binary file
    content : {"parquet", "npy", "jsonl"}
    checkpoint : Checkpoint
    encoder : Encoder
        Says what made the rows.
    role : {"document", "query"}
    precision : {"float32", "float16", "ubinary"}
    ids : {"rows", "strings", "int64", "uint64"}
        What the ids of the texts are; the position in the input stands in where they have none.

    Returns
    -------
    Shape
        Of a row.

    Raises
    ------
    InputError
        If there are no rows and nobody knows how wide they would be.
    """
    shape = checkpoint.shape() or _shape_of_nothing(encoder, role, precision)
    width, bits = shape.width, shape.bits
    metadata = encoder.metadata(role)
    if bits is not None:
        metadata |= {"binq.layout": "ubinary", "binq.bits": str(bits)}
    else:
        metadata |= {"binq.dim": str(width)}
    if encoder.bits is None:
        metadata["binq.precision"] = precision
    if width == 0:
        raise InputError(
            "there are no texts, and the model does not say how wide its output is",
            next_step="give it at least one text",
        )
    blocks: _Blocks = (
        (positions if ids == "rows" else _typed(names, ids), vectors)
        for positions, names, vectors in checkpoint.read()
    )
    _WRITERS[content](file, blocks, shape, ids, metadata)
    return shape


def _typed(names: list[Any], ids: IdType) -> list[Any]:
    """Return ids, which the checkpoint keeps as text, as what they are."""
    return names if ids == "strings" else [int(name) for name in names]


def _shape_of_nothing(encoder: Encoder, role: Role, precision: Precision) -> Shape:
    """Return how rows would look if there were any."""
    rows = encoder.encode([], role)
    if rows.dtype == np.uint8:
        return Shape(rows.dtype, rows.shape[1], 8 * rows.shape[1])
    if precision == "ubinary":
        return Shape(np.dtype(np.uint8), -(-rows.shape[1] // 8), rows.shape[1])
    return Shape(np.dtype(precision), rows.shape[1], None)


def _parquet(
    file: BinaryIO, blocks: _Blocks, shape: Shape, ids: IdType, metadata: dict[str, str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from binq.vectors.id_columns import arrow_type

    element = pa.field("element", pa.from_numpy_dtype(shape.dtype), nullable=False)
    rows = pa.field("embedding", pa.list_(element, shape.width), nullable=False)
    names = pa.field("id", arrow_type(ids), nullable=False)
    schema = pa.schema([names, rows], metadata=metadata)
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        for found, vectors in blocks:
            flat = pa.array(vectors.ravel(), element.type)
            column = pa.FixedSizeListArray.from_arrays(flat, type=rows.type)
            writer.write_batch(
                pa.record_batch([pa.array(found, names.type), column], schema=schema)
            )


def _npy(file: BinaryIO, blocks: _Blocks, shape: Shape, *_: object) -> None:
    writer = NpyWriter(file, shape.dtype, shape.width)
    for _ids, vectors in blocks:
        writer.append(vectors)
    writer.finish()


def _jsonl(file: BinaryIO, blocks: _Blocks, *_: object) -> None:
    for ids, vectors in blocks:
        for name, row in zip(ids, vectors, strict=True):
            # As text a float32 takes the fewest digits that give it back.
            numbers = ", ".join(row.astype(np.str_).tolist())
            entry = json.dumps({"id": name, "embedding": []}, ensure_ascii=False)
            file.write(f"{entry[:-2]}{numbers}]}}\n".encode())


_WRITERS: Final[dict[Content, Callable[..., None]]] = {
    "parquet": _parquet,
    "npy": _npy,
    "jsonl": _jsonl,
}
