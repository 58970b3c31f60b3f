"""Embeddings as Parquet: what an encoding run leaves behind."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from binq.encoders import Encoder
from binq.errors import InputError
from binq.text.checkpoint import Checkpoint, Shape
from binq.types import Precision, Role


def write_embeddings(
    file: BinaryIO,
    checkpoint: Checkpoint,
    encoder: Encoder,
    role: Role,
    precision: Precision,
    *,
    with_ids: bool,
) -> Shape:
    """Write the rows of a checkpoint as the columns ``id`` and ``embedding``.

    Parameters
    ----------
    file : binary file
    checkpoint : Checkpoint
    encoder : Encoder
        Says in the metadata what made the rows.
    role : {"document", "query"}
    precision : {"float32", "float16", "ubinary"}
    with_ids : bool
        Whether texts have ids of their own; the position in the input stands in for them.

    Returns
    -------
    Shape
        Of a row.

    Raises
    ------
    InputError
        If there are no rows and nobody knows how wide they would be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shape = checkpoint.shape() or _shape_of_nothing(encoder, role, precision)
    dtype, width, bits = shape.dtype, shape.width, shape.bits
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
    schema = pa.schema(
        [
            pa.field("id", pa.string() if with_ids else pa.int64(), nullable=False),
            pa.field(
                "embedding",
                pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), nullable=False), width),
                nullable=False,
            ),
        ],
        metadata=metadata,
    )
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        for positions, ids, vectors in checkpoint.read():
            names = pa.array(ids if with_ids else positions, schema.field(0).type)
            flat = pa.array(vectors.ravel(), schema.field(1).type.value_type)
            column = pa.FixedSizeListArray.from_arrays(flat, type=schema.field(1).type)
            writer.write_batch(pa.record_batch([names, column], schema=schema))
    return shape


def _shape_of_nothing(encoder: Encoder, role: Role, precision: Precision) -> Shape:
    """Return how rows would look if there were any."""
    rows = encoder.encode([], role)
    if rows.dtype == np.uint8:
        return Shape(rows.dtype, rows.shape[1], 8 * rows.shape[1])
    if precision == "ubinary":
        return Shape(np.dtype(np.uint8), -(-rows.shape[1] // 8), rows.shape[1])
    return Shape(np.dtype(precision), rows.shape[1], None)
