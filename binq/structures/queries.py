"""Queries in the forms in which an index compares them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer, Weights


class Queries:
    """Queries as floats, as codes, or as both; codes and weights are made when first asked for.

    Parameters
    ----------
    vectors : (q, dim) float32 or None
        Normalised under cosine; None for queries that came as bits.
    codes : (q, words) uint64 or None
        None to let ``binarizer`` make them.
    binarizer : Binarizer or None
    """

    def __init__(
        self,
        vectors: NDArray[np.float32] | None = None,
        codes: NDArray[np.uint64] | None = None,
        binarizer: Binarizer | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.vectors = vectors
        self.binarizer = binarizer
        self._codes = codes
        self._weights = weights

    def __len__(self) -> int:
        known = self.vectors if self.vectors is not None else self._codes
        return 0 if known is None else len(known)

    @property
    def truncated(self) -> bool:
        """Whether they came with the truncated dimension only."""
        return (
            self.vectors is not None
            and self.binarizer is not None
            and self.vectors.shape[1] != self.binarizer.dim
        )

    @property
    def codes(self) -> NDArray[np.uint64]:
        """The codes, (q, words) uint64."""
        if self._codes is None:
            assert self.binarizer is not None
            assert self.vectors is not None
            self._codes = self.binarizer.encode(self.vectors, ready=self.vectors)
        return self._codes

    @property
    def weights(self) -> Weights:
        """What the asymmetric scan multiplies codes with."""
        if self._weights is None:
            assert self.binarizer is not None
            assert self.vectors is not None
            self._weights = self.binarizer.weights(self.vectors)
        return self._weights

    def part(self, chosen: slice | NDArray[Any]) -> Queries:
        """Return some of the queries, with what is already made of them."""
        vectors = None if self.vectors is None else self.vectors[chosen]
        codes = None if self._codes is None else self._codes[chosen]
        weights = None
        if self._weights is not None:
            known = self._weights
            weights = Weights(known.values[chosen], known.base[chosen], known.offset[chosen])
        return Queries(vectors, codes, self.binarizer, weights)


def joined(parts: list[Queries]) -> Queries:
    """Join queries of one kind, at least one part."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if first.vectors is None:
        return Queries(codes=np.concatenate([part.codes for part in parts]))
    floats = [part.vectors for part in parts if part.vectors is not None]
    return Queries(np.concatenate(floats), binarizer=first.binarizer)
