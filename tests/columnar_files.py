"""Tables written in every columnar format, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from binq.vectors.source import VectorSource

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
LISTS: dict[str, Callable[[pa.DataType], pa.DataType]] = {
    "fixed": lambda element: pa.list_(element, 2),
    "list": pa.list_,
    "large": pa.large_list,
}


def write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=3)


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_compressed(path: Path, table: pa.Table) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=3)


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "parquet": write_parquet,
    "arrow": write_arrow,
    "lz4": write_compressed,
    "stream": write_stream,
}


def vectors_of(source: VectorSource, max_rows: int | None = None) -> np.ndarray:
    return np.concatenate([batch.vectors for batch in source.batches(max_rows)])


def ids_of(source: VectorSource, max_rows: int | None = None) -> list[str | int]:
    return [row_id for batch in source.batches(max_rows) for row_id in batch.id_list or []]
