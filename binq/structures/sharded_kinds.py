"""Several structures with lists, or with graphs, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np

from binq.binarizers import Binarizer
from binq.storage.directory import IndexDirectory
from binq.structures.base import (
    EVERYTHING,
    Candidates,
    Rows,
    Scope,
)
from binq.structures.calibration import Calibration
from binq.structures.hnsw import Hnsw
from binq.structures.ivf import Ivf
from binq.structures.placed import joined
from binq.structures.queries import Queries
from binq.structures.sharded import Sharded, answered
from binq.types import Kind, Scoring

# Rows that a walk through a graph compares, about.
_WALKED: Final = 4096


class _EveryList(Ivf):
    """The lists of all shards as one: how many rows each holds, and which a query looks into."""

    def __init__(
        self,
        shards: Sequence[Ivf],
        calibration: Calibration,
        scopes: Callable[[Scope], list[Scope]],
    ) -> None:
        self.shards, self.scopes = shards, scopes
        lists = shards[0].lists
        nothing = np.empty((0, shards[0].words), np.uint64)
        super().__init__(nothing, replace(lists, rows=lists.rows[:0], calibration=calibration))

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @cached_property
    def _offsets(self) -> Rows:
        sizes = np.sum([shard.sizes for shard in self.shards], axis=0)
        return np.concatenate([[0], np.cumsum(sizes)])

    def counted(self, scope: Scope) -> Rows:
        if scope.allowed is None:
            return self.sizes
        parts = zip(self.shards, self.scopes(scope), strict=True)
        total: Rows = np.sum([shard.counted(own) for shard, own in parts], axis=0)
        return total


class ShardedIvf(Sharded):
    """Inverted lists of several shards as one: they have their centroids in common.

    Which lists a query looks into is chosen once, over the rows that all shards hold in them, and
    every shard is asked for its part of these.

    Parameters
    ----------
    shards : sequence of Ivf
        At least one.
    calibration : Calibration
        Of all rows together.
    """

    kind: ClassVar[Kind] = "ivf"
    exact: ClassVar[bool] = False

    def __init__(self, shards: Sequence[Ivf], calibration: Calibration) -> None:
        super().__init__(shards)
        self._every = _EveryList(shards, calibration, self._scopes)

    @classmethod
    def restore(cls, file: IndexDirectory, binarizer: Binarizer | None) -> ShardedIvf:
        """Return the structure of a directory of shards with lists.

        Raises
        ------
        IndexFileError
            If shards differ in their lists, or a section is missing or of another shape.
        """
        shards = [Ivf.restore(shard, binarizer) for shard in file.shards]
        shapes = {shard.lists.centroids.shape for shard in shards}
        if len(shapes) > 1:
            raise file.corrupt("ivf.centroids", "the same in all shards", "others")
        try:
            calibration = Calibration.from_json(file.header.calibration or {})
        except ValueError as error:
            raise file.corrupt("manifest calibration", "gaps of every scan", error) from error
        return cls(shards, calibration)

    def compared(
        self, queries: Queries, m: int, scope: Scope = EVERYTHING, scoring: Scoring = "hamming"
    ) -> Rows:
        """Return how many rows a search is through with, (q,) int64; see ``Structure``."""
        return self._every.compared(queries, m, scope, scoring)

    def describe(self) -> dict[str, Any]:
        """Return how many lists there are, how long, and how far searches look."""
        return self._every.describe()

    def _found(self, queries: Queries, m: int, scope: Scope, scoring: Scoring) -> Candidates:
        listed = self._every.listed(scope)
        if listed is not None:
            few = Scope(threads=scope.threads)
            return answered(self.part(listed), queries, m, scoring, few).of(listed)
        if scope.exhaustive:
            return super()._found(queries, m, scope, scoring)
        found = []
        for some in self._every.parts(queries):
            visits = self._every.visits(some, m, scope, scoring)
            found.append(super()._found(some, m, replace(scope, visits=visits), scoring))
        return joined(found)

    def _pairs(self, scope: Scope, queries: int) -> int:
        if scope.visits is None:
            return super()._pairs(scope, queries)
        looked_into = scope.visits[scope.visits >= 0]
        return int(self._every.sizes[looked_into].sum())


class ShardedHnsw(Sharded):
    """Graphs of several shards as one: a query walks through each, as far as that one promises.

    The best rows of all are among the best of their shards, and near ones are found more surely
    than far ones: what every shard promises holds for all together.
    """

    kind: ClassVar[Kind] = "hnsw"
    exact: ClassVar[bool] = False

    @classmethod
    def restore(cls, file: IndexDirectory, binarizer: Binarizer | None) -> ShardedHnsw:
        """Return the structure of a directory of shards with graphs."""
        return cls([Hnsw.restore(shard, binarizer) for shard in file.shards])

    def describe(self) -> dict[str, Any]:
        """Return how many nodes there are, and how linked, in all graphs together."""
        graphs = [shard.describe()["graph"] for shard in self.shards]
        found = {
            name: together([graph[name] for graph in graphs])
            for name, together in (
                ("nodes", sum),
                ("most_neighbours", max),
                ("smallest_degree", min),
                ("largest_degree", max),
                ("entries", sum),
                ("unreachable", sum),
            )
        }
        links = sum(graph["nodes"] * graph["mean_degree"] for graph in graphs)
        return {"graph": found | {"mean_degree": round(links / max(1, found["nodes"]), 2)}}

    def _pairs(self, scope: Scope, queries: int) -> int:
        if scope.exhaustive:
            return super()._pairs(scope, queries)
        return min(len(self), _WALKED * len(self.shards)) * queries
