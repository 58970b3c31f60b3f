"""Rescoring: what sorts the survivors of a scan by vectors that say more than their bits."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from binq.similarity import scores
from binq.types import Metric

_BLOCK_BYTES: Final = 32 << 20


class VectorStore(Protocol):
    """Gives vectors by row number."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,), sorted and unique."""


def exact_scores(
    queries: NDArray[np.float32], rows: NDArray[np.int64], store: VectorStore, metric: Metric
) -> NDArray[np.float64]:
    """Score survivors by their vectors.

    Parameters
    ----------
    queries : (q, dim) float32
        Normalised if the metric is cosine.
    rows : (q, m) int64
        Survivors of every query.
    store : VectorStore
    metric : {"cosine", "ip", "l2"}

    Returns
    -------
    (q, m) float64
    """
    found = np.empty(rows.shape, np.float64)
    step = max(1, _BLOCK_BYTES // (8 * queries.shape[1] * max(rows.shape[1], 1)))
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        unique, inverse = np.unique(rows[part], return_inverse=True)
        vectors = store.take(unique)[inverse.reshape(rows[part].shape)]
        found[part] = scores(queries[part], vectors, metric)
    return found
