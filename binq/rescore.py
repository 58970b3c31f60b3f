"""Rescoring: what sorts the survivors of a scan by vectors that say more than their bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.similarity import Metric, scores
from binq.storage.reader import IndexFile
from binq.storage.writer import IndexWriter

Payload = Literal["none", "int8", "float16", "float32"]
PAYLOADS: Final[tuple[Payload, ...]] = get_args(Payload)

_BLOCK_BYTES: Final = 32 << 20


class VectorStore(Protocol):
    """Gives vectors by row number."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,), sorted and unique."""


@dataclass(frozen=True, eq=False)
class Int8Range:
    """The calibrated range of every dimension: value = low + step * (stored + 128).

    Attributes
    ----------
    low, step : (dim,) float32
        ``step`` is the width of the range / 255, and zero where a dimension is constant.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]

    @classmethod
    def spanning(cls, low: NDArray[np.float32], high: NDArray[np.float32]) -> Int8Range:
        """Return the range from ``low`` to ``high``, both (dim,) float32."""
        step = (high.astype(np.float64) - low) / 255
        return cls(low, step.astype(np.float32))

    def quantize(self, vectors: NDArray[np.float32]) -> NDArray[np.int8]:
        """Round vectors (n, dim) to int8; what lies outside the range is put at its end."""
        step = np.where(self.step == 0, np.float32(1), self.step)
        levels = np.rint((vectors - self.low) / step)
        return (np.clip(levels, 0, 255) - 128).astype(np.int8)

    def restore(self, stored: NDArray[np.int8]) -> NDArray[np.float32]:
        """Return the vectors (n, dim) float32 that int8 (n, dim) stands for."""
        return self.low + self.step * (stored.astype(np.float32) + np.float32(128))


class PayloadWriter:
    """Writes the vectors of a corpus into an index, as int8, float16 or float32.

    Parameters
    ----------
    writer : IndexWriter
    payload : {"int8", "float16", "float32"}
    dim : int
    int8_range : Int8Range, optional
        Needed for int8.
    """

    def __init__(
        self, writer: IndexWriter, payload: Payload, dim: int, int8_range: Int8Range | None
    ) -> None:
        self._writer = writer
        self._payload = payload
        self._range = int8_range
        if int8_range is not None:
            writer.add("rescore.low", int8_range.low)
            writer.add("rescore.step", int8_range.step)
        writer.section("rescore.vectors", payload, (dim,))

    def append(self, vectors: NDArray[np.float32], locate: Callable[[int], str]) -> None:
        """Append vectors (n, dim) float32; ``locate`` names one of their rows in messages.

        Raises
        ------
        InputError
            If a value is too large for float16.
        """
        stored: NDArray[Any]
        if self._range is not None:
            stored = self._range.quantize(vectors)
        elif self._payload == "float16":
            with np.errstate(over="ignore"):
                stored = vectors.astype(np.float16)
            if not np.isfinite(stored).all():
                row = int(np.argmin(np.isfinite(stored).all(axis=1)))
                raise InputError(
                    "a value is too large for a float16 payload",
                    locate(row),
                    "at most 65504",
                    next_step="use --rescore float32",
                )
        else:
            stored = vectors
        self._writer.append("rescore.vectors", stored)


class StoredPayload:
    """The rescoring payload of an index; a :class:`VectorStore`."""

    def __init__(self, file: IndexFile) -> None:
        header = file.header
        shape = (header.rows, header.dim)
        self._vectors = file.array("rescore.vectors", header.rescore, shape)
        self._range = None
        if header.rescore == "int8":
            self._range = Int8Range(
                file.array("rescore.low", "float32", (header.dim,)),
                file.array("rescore.step", "float32", (header.dim,)),
            )

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (m, dim) float32 of rows (m,)."""
        stored = self._vectors[rows]
        return stored.astype(np.float32) if self._range is None else self._range.restore(stored)


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
