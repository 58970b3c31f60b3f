"""Rescoring: what sorts the candidates of a scan by more than the scan looked at."""

from __future__ import annotations

import warnings
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer
from binq.bits import unpack
from binq.encoders import check_same_model
from binq.errors import BinqWarning, InputError
from binq.similarity import comparable, normalize, scores
from binq.storage.format import Header
from binq.structures.base import Structure
from binq.structures.queries import Queries
from binq.types import Metric
from binq.vectors import VectorSource

_BLOCK_BYTES: Final = 32 << 20


class Rescorer(Protocol):
    """Scores rows better than the scan that found them.

    Attributes
    ----------
    name : str
        What it scores by: codes, int8, float16, float32 or file.
    """

    name: str

    def scores(self, queries: Queries, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m)."""

    def stand_ins(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors (m, dim) that stand in for queries near rows (m,)."""


class ByCodes:
    """Scores rows by their codes and the whole weights of a query; a :class:`Rescorer`."""

    name = "codes"

    def __init__(self, structure: Structure, binarizer: Binarizer) -> None:
        self._structure = structure
        self._binarizer = binarizer

    def scores(self, queries: Queries, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m)."""
        return self._structure.scores(queries.weights, rows)

    def stand_ins(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the codes of rows (m,) stand for, (m, dim)."""
        bits = unpack(self._structure.take(rows), self._binarizer.bits)
        return self._binarizer.affine.reconstruct(bits)


class VectorStore(Protocol):
    """Gives vectors by row number."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,), sorted and unique."""


class ByVectors:
    """Scores rows by their vectors; a :class:`Rescorer`."""

    def __init__(self, name: str, store: VectorStore, metric: Metric) -> None:
        self.name = name
        self._store = store
        self._metric = metric

    def scores(self, queries: Queries, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m).

        Raises
        ------
        InputError
            If the queries are truncated.
        """
        if queries.truncated or queries.vectors is None:
            raise InputError(
                "truncated queries cannot be compared with whole vectors",
                "queries",
                "all dimensions",
                "the truncated dimension",
                "use `rescore=none` or codes, or queries of all dimensions",
            )
        return exact_scores(queries.vectors, rows, self._store, self._metric)

    def stand_ins(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) of rows (m,)."""
        vectors = self._store.take(rows)
        return normalize(vectors)[0] if self._metric == "cosine" else vectors


class Originals:
    """The vectors that an index was built from, fetched row by row; a :class:`VectorStore`.

    Parameters
    ----------
    source : VectorSource
    header : Header
        Of the index.
    force : bool
        Take them although another model made them than the index.

    Raises
    ------
    InputError
        If they are not what the index was built from.

    Warns
    -----
    BinqWarning
        If their fingerprint is not that of what it was built from.
    """

    def __init__(self, source: VectorSource, header: Header, *, force: bool = False) -> None:
        self._source = source
        self._metric = cast(Metric, header.metric)
        found = (source.rows, source.dim)
        if source.packed or found != (header.rows, header.dim):
            raise InputError(
                "`rescore_from` is not what the index was built from",
                source.name,
                f"{header.rows} rows of dimension {header.dim}",
                "packed bits" if source.packed else f"{found[0]} rows of dimension {found[1]}",
            )
        if not force:
            check_same_model(header.model, source.metadata, source.name)
        warn_of_others(source, header)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,)."""
        vectors = self._source.take(rows)
        return comparable(vectors, self._metric, lambda row: self._source.locate(int(rows[row])))


def warn_of_others(source: VectorSource, header: Header) -> None:
    """Warn where the fingerprint of a source is not that of what an index was built from.

    That of a stream, or of a file of lines, is known once it is read.
    """
    if source.describe() != header.sources:
        warnings.warn(
            f"{source.name} has another fingerprint than what the index was built from: other "
            "vectors, or the same in another format or through a pipe; its rows are trusted to be "
            "the same in the same order",
            BinqWarning,
            stacklevel=5,
        )


def exact_scores(
    queries: NDArray[np.float32], rows: NDArray[np.int64], store: VectorStore, metric: Metric
) -> NDArray[np.float64]:
    """Score candidates by their vectors.

    Parameters
    ----------
    queries : (q, dim) float32
        Normalised if the metric is cosine.
    rows : (q, m) int64
        Candidates of every query.
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
