"""Several structures with lists, or with graphs, as one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer
from binq.kernels.lists import Lists
from binq.kernels.scan import MAX_ROWS
from binq.storage.directory import IndexDirectory
from binq.structures.base import (
    EVERYTHING,
    AllowedRows,
    Candidates,
    Rows,
    Scope,
)
from binq.structures.calibration import Calibration
from binq.structures.flat import Flat
from binq.structures.hnsw import Hnsw
from binq.structures.ivf import Ivf
from binq.structures.placed import joined, stored_calibration
from binq.structures.queries import Queries
from binq.structures.sharded import Sharded, codes_of, terms_of
from binq.types import Kind, Scoring

_Numbers = TypeVar("_Numbers", Rows, NDArray[np.uint32])
# Rows that a walk through a graph compares, about.
_WALKED: Final = 4096


class _EveryList(Ivf):
    """The lists of all shards as one: a list has the codes that it has in every shard."""

    def __init__(
        self, shards: Sequence[Ivf], calibration: Calibration, copied: Callable[[Rows], Flat]
    ) -> None:
        self.shards, self._copied = shards, copied
        lists = shards[0].lists
        own = replace(lists, rows=lists.rows[:0], calibration=calibration)
        super().__init__(codes_of(shards), own, partial(terms_of, shards))
        self.edges = [0, *itertools.accumulate(map(len, shards))]

    def part(self, rows: Rows) -> Flat:
        return self._copied(rows)

    @cached_property
    def offsets(self) -> Rows:
        sizes = np.sum([shard.sizes for shard in self.shards], axis=0)
        return np.concatenate([[0], np.cumsum(sizes)])

    def counted(self, scope: Scope) -> Rows:
        allowed = self._allowed_positions(scope)
        if allowed is None:
            return self.sizes
        if self._last_sizes is None or self._last_sizes[0] is not allowed:
            total = np.zeros(len(self.sizes), np.int64)
            for shard, first in zip(self.shards, self.edges, strict=False):
                before = np.zeros(len(shard) + 1, np.int64)
                np.cumsum(allowed.mask[first : first + len(shard)], out=before[1:])
                total += np.diff(before[shard.offsets])
            self._last_sizes = allowed, total
        return self._last_sizes[1]

    @cached_property
    def _numbers(self) -> list[NDArray[np.uint32]]:
        return [shard.lists.rows for shard in self.shards]

    @cached_property
    def _all_offsets(self) -> list[Rows]:
        return [shard.offsets for shard in self.shards]

    def _looked_into(self, visits: NDArray[np.int32]) -> Lists:
        return Lists(self.offsets, visits, self._all_offsets)

    def _allowed_positions(self, scope: Scope) -> AllowedRows | None:
        allowed = scope.allowed
        if allowed is None:
            return None
        if self._last is None or self._last[0] is not allowed:
            parts = zip(self._numbers, self.shards, itertools.pairwise(self.edges), strict=True)
            found = [
                allowed.mask[first:end][shard.checked(rows)] for rows, shard, (first, end) in parts
            ]
            self._last = allowed, AllowedRows(np.concatenate(found))
        return self._last[1]

    def checked(self, rows: _Numbers) -> _Numbers:
        if rows.size and int(rows.max()) >= len(self):
            for shard, own in zip(self.shards, self._numbers, strict=True):
                shard.checked(own)  # which of them it is
        return super().checked(rows)


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
        self._every = _EveryList(shards, calibration, self.part)
        self.whole = self._every if len(self) <= MAX_ROWS else None

    @classmethod
    def restore(cls, file: IndexDirectory, binarizer: Binarizer | None) -> ShardedIvf:
        """Return the structure of a directory of shards with lists.

        Raises
        ------
        IndexFileError
            If shards differ in their lists, or a section is missing or of another shape.
        """
        calibration = stored_calibration(file, Calibration)
        shards = [Ivf.restore(shard, binarizer, calibration) for shard in file.shards]
        shapes = {shard.lists.centroids.shape for shard in shards}
        if len(shapes) > 1:
            raise file.corrupt("ivf.centroids", "the same in all shards", "others")
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
        alone = self.elsewhere is None and self.whole is not None
        if alone or scope.exhaustive or self._listed(scope) is not None:
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

    def _listed(self, scope: Scope) -> Rows | None:
        return self._every.listed(scope)


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
                ("walked", min),
            )
        }
        links = sum(graph["nodes"] * graph["mean_degree"] for graph in graphs)
        return {"graph": found | {"mean_degree": round(links / max(1, found["nodes"]), 2)}}

    def _pairs(self, scope: Scope, queries: int) -> int:
        if scope.exhaustive:
            return super()._pairs(scope, queries)
        return min(len(self), _WALKED * len(self.shards)) * queries
