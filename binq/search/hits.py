"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.storage.ids import StoredIds

RowIds = StoredIds | Mapping[int, str | int]
"""Gives the id of a row: those of an open index, or those of hits that were pickled."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The best rows of every query, ordered by (score descending, row ascending).

    ``len`` is the number of queries; iterating yields the hits of one query after another.

    Attributes
    ----------
    rows : (q, m) int64
        m is min(k, allowed rows).
    distances : (q, m) int32 or None
        Hamming distances; None where they were not computed.
    scores : (q, m) float64
        Larger is better: cosine, inner product or minus the squared L2 distance where the hits
        were rescored, its estimate after an asymmetric scan, else minus the Hamming distance.
    rescored : (q,) int64 or None
        How many candidates were rescored, where that was decided query by query.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.int32] | None
    scores: NDArray[np.float64]
    _row_ids: RowIds | None
    rescored: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Hits]:
        return map(self.of, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Hits, (
            self.rows,
            self.distances,
            self.scores,
            _kept(self._row_ids, self.rows),
            self.rescored,
        )

    @property
    def ids(self) -> list[list[Any]]:
        """The ids of the rows, per query, str or int; row numbers where the index stores none."""
        known = self._row_ids
        rows: list[list[int]] = self.rows.tolist()
        return rows if known is None else [[known[row] for row in line] for line in rows]

    def of(self, query: int) -> Hits:
        """Return the hits of one query; a negative number counts from the end."""
        query = range(len(self))[query]  # an IndexError where there is no such query
        part = slice(query, query + 1)
        distances = None if self.distances is None else self.distances[part]
        rescored = None if self.rescored is None else self.rescored[part]
        return Hits(self.rows[part], distances, self.scores[part], self._row_ids, rescored)


@dataclass(frozen=True, eq=False)
class RadiusHits:
    """All rows within a radius; the hits of query i are ``[lims[i]:lims[i + 1]]``.

    ``len`` is the number of queries; iterating yields the hits of one query after another.

    Attributes
    ----------
    lims : (q + 1,) int64
    rows : (hits,) int64
    distances : (hits,) int32
    scores : (hits,) float64
    """

    lims: NDArray[np.int64]
    rows: NDArray[np.int64]
    distances: NDArray[np.int32]
    scores: NDArray[np.float64]
    _row_ids: RowIds | None

    def __len__(self) -> int:
        return len(self.lims) - 1

    def __iter__(self) -> Iterator[Hits]:
        return map(self.of, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return RadiusHits, (
            self.lims,
            self.rows,
            self.distances,
            self.scores,
            _kept(self._row_ids, self.rows),
        )

    @property
    def ids(self) -> list[Any]:
        """The ids of the rows, str or int; the row numbers where the index stores none."""
        known = self._row_ids
        rows: list[int] = self.rows.tolist()
        return rows if known is None else [known[row] for row in rows]

    def of(self, query: int) -> Hits:
        """Return the hits of one query; a negative number counts from the end."""
        query = range(len(self))[query]  # an IndexError where there is no such query
        part = slice(int(self.lims[query]), int(self.lims[query + 1]))
        return Hits(
            self.rows[None, part],
            self.distances[None, part],
            self.scores[None, part],
            self._row_ids,
        )


def _kept(ids: RowIds | None, rows: NDArray[np.int64]) -> dict[int, str | int] | None:
    """Return the ids of some rows by row, so that hits can go where the index is not open."""
    return None if ids is None else {row: ids[row] for row in np.unique(rows).tolist()}
