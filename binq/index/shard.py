"""One shard of an index, searched by itself: the task that is mapped over shards."""

from __future__ import annotations

import os

from binq.storage.reader import IndexFile
from binq.storage.sections import restore_binarizer
from binq.structures import restore_structure
from binq.structures.base import Candidates, Scope
from binq.structures.queries import Queries
from binq.structures.sharded import answered
from binq.types import Scoring


def search_shard(
    path: str | os.PathLike[str],
    uuid: bytes,
    queries: Queries,
    m: int,
    scoring: Scoring,
    scope: Scope,
) -> Candidates:
    """Find the candidates of prepared queries in one shard, by its own row numbers.

    All that it takes and returns can be pickled; :func:`binq.structures.sharded.merged` makes of
    the candidates of all shards those of the index.

    Parameters
    ----------
    path, uuid
        Of the shard's file; any other file is refused.
    queries : Queries
    m : int
        How many candidates each wants.
    scoring : {"hamming", "asymmetric"}
    scope : Scope
        What of the scope of a search concerns this shard: its own allowed rows, and of an index of
        lists ``visits``, which are chosen over all shards.

    Raises
    ------
    IndexFileError
        If it is missing, damaged or another.
    """
    with IndexFile(path, uuid) as file:
        shard = restore_structure(file, restore_binarizer(file))
        return answered(shard, queries, m, scoring, scope)
