"""The flat index: every code is compared with every query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import RowTerms, Weights
from binq.kernels import asymmetric, hamming
from binq.storage.reader import IndexFile


@dataclass(frozen=True, eq=False)
class FlatIndex:
    """Codes in row order, searched exhaustively.

    Attributes
    ----------
    codes : (n, words) uint64
        Usually mapped from an index file.
    """

    codes: NDArray[np.uint64]

    @classmethod
    def from_file(cls, file: IndexFile) -> FlatIndex:
        """Map the codes of an index file."""
        return cls(file.array("codes", "uint64", (file.header.rows, file.header.words)))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def words(self) -> int:
        """The uint64 words of a code."""
        return int(self.codes.shape[1])

    def nearest(
        self, queries: NDArray[np.uint64], k: int, threads: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return rows and distances (q, min(k, n)), ordered by (distance, row).

        Parameters
        ----------
        queries : (q, words) uint64
        k, threads : int
        """
        return hamming.topk(self.codes, queries, k, threads)

    def within(
        self, queries: NDArray[np.uint64], radius: int, threads: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """Return all hits within ``radius`` as lims (q + 1,) and flat rows and distances.

        Parameters
        ----------
        queries : (q, words) uint64
        radius, threads : int
        """
        return hamming.within(self.codes, queries, np.full(len(queries), radius), threads)

    def count_within(
        self, queries: NDArray[np.uint64], radii: NDArray[np.int64], threads: int
    ) -> NDArray[np.int64]:
        """Return how many codes lie within ``radii[i]`` of query i, as (q,) int64."""
        return hamming.count_within(self.codes, queries, radii, threads)

    def distances(self, queries: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the distances (q, m) of chosen rows (q, m)."""
        return hamming.distances(self.codes, queries, rows)

    def best(
        self, weights: Weights, terms: RowTerms, k: int, threads: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return rows and estimated scores (q, min(k, n)), ordered by (score descending, row).

        The scan rounds the weights to 4 bits.
        """
        rows, scores = asymmetric.topk(
            self.codes, weights.values, weights.base, k, terms.factor, terms.addend, threads
        )
        return rows, scores.astype(np.float64) + weights.offset[:, None]

    def scores(
        self, weights: Weights, rows: NDArray[np.int64], terms: RowTerms
    ) -> NDArray[np.float64]:
        """Return the scores (q, m) of chosen rows (q, m), by whole weights."""
        found = asymmetric.exact(
            self.codes, weights.values, weights.base, rows, terms.factor, terms.addend
        )
        return found.astype(np.float64) + weights.offset[:, None]
