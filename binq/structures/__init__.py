"""Structures over codes: what finds candidates. A new one is a module here and a row below."""

from __future__ import annotations

from typing import Final, cast

from binq.binarizers import Binarizer
from binq.storage.directory import Stored
from binq.storage.reader import IndexFile
from binq.structures.base import Structure
from binq.structures.flat import Flat
from binq.structures.hnsw import Hnsw
from binq.structures.ivf import Ivf
from binq.structures.sharded import ShardedFlat
from binq.structures.sharded_kinds import ShardedHnsw, ShardedIvf
from binq.types import Kind

STRUCTURES: Final[dict[Kind, type[Flat] | type[Ivf] | type[Hnsw]]] = {
    "flat": Flat,
    "ivf": Ivf,
    "hnsw": Hnsw,
}
"""By the kind that the file names."""
SHARDED: Final[dict[Kind, type[ShardedFlat] | type[ShardedIvf] | type[ShardedHnsw]]] = {
    "flat": ShardedFlat,
    "ivf": ShardedIvf,
    "hnsw": ShardedHnsw,
}
"""By the kind of all shards."""


def restore_structure(stored: Stored, binarizer: Binarizer | None) -> Structure:
    """Return the structure of an index: of a file, or of all its shards.

    Raises
    ------
    IndexFileError
        If a section is missing or of another shape.
    """
    kind = cast(Kind, stored.header.kind)
    if isinstance(stored, IndexFile):
        return STRUCTURES[kind].restore(stored, binarizer)
    return SHARDED[kind].restore(stored, binarizer)
