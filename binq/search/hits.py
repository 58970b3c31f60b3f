"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from binq.storage.ids import StoredIds


@dataclass(frozen=True, eq=False)
class Hits:
    """The best rows of every query, ordered by (score descending, row ascending).

    Attributes
    ----------
    rows : (q, m) int64
        m is min(k, n).
    distances : (q, m) int32 or None
        Hamming distances; None where they were not computed.
    scores : (q, m) float64
        Larger is better: cosine, inner product or minus the squared L2 distance where the hits
        were rescored, its estimate after an asymmetric scan, else minus the Hamming distance.
    depths : (q,) int64 or None
        How many survivors were rescored, where that was decided query by query.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.int32] | None
    scores: NDArray[np.float64]
    _stored_ids: StoredIds | None
    depths: NDArray[np.int64] | None = None

    @property
    def ids(self) -> list[list[str]] | list[list[int]]:
        """The ids of the rows, per query; the row numbers where the index stores none."""
        stored = self._stored_ids
        rows: list[list[int]] = self.rows.tolist()
        return rows if stored is None else [[stored[row] for row in line] for line in rows]

    def of(self, query: int) -> Hits:
        """Return the hits of one query."""
        part = slice(query, query + 1)
        distances = None if self.distances is None else self.distances[part]
        depths = None if self.depths is None else self.depths[part]
        return Hits(self.rows[part], distances, self.scores[part], self._stored_ids, depths)


@dataclass(frozen=True, eq=False)
class RadiusHits:
    """All rows within a radius; the hits of query i are ``[lims[i]:lims[i + 1]]``.

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
    _stored_ids: StoredIds | None

    @property
    def ids(self) -> list[str] | list[int]:
        """The ids of the rows; the row numbers where the index stores none."""
        stored = self._stored_ids
        rows: list[int] = self.rows.tolist()
        return rows if stored is None else [stored[row] for row in rows]

    def of(self, query: int) -> Hits:
        """Return the hits of one query."""
        part = slice(int(self.lims[query]), int(self.lims[query + 1]))
        return Hits(
            self.rows[None, part],
            self.distances[None, part],
            self.scores[None, part],
            self._stored_ids,
        )
