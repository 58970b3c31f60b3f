"""The codes that are searched and the queries that are asked: made up, or those of an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.errors import InputError
from binq.index.index import Index

_CLUSTERS: Final = 256
_FLIP: Final = 0.2
_CENTRES: Final = 2_000
_LATENT: Final = 200
_BLOCK: Final = 16_384


@dataclass(frozen=True)
class Corpus:
    """What is searched, and what is asked.

    Attributes
    ----------
    codes : (n, words) uint64
    queries : (q, words) uint64
    bits : int
    weights : (q, bits) float32
        Float queries for the asymmetric scan.
    """

    codes: NDArray[np.uint64]
    queries: NDArray[np.uint64]
    bits: int
    weights: NDArray[np.float32]


def synthetic(n: int, bits: int, queries: int, seed: int = 0) -> Corpus:
    """Make clustered codes: every code is one of 256 centres with a fifth of its bits flipped.

    Queries are made in the same way. The weights of a query are its bits as -1 and +1, each times
    a positive factor.
    """
    rng = np.random.default_rng(seed)
    centres = rng.random((_CLUSTERS, bits)) < 0.5

    def draw(count: int) -> NDArray[np.bool_]:
        chosen = centres[rng.integers(0, _CLUSTERS, count)]
        return chosen ^ (rng.random((count, bits), dtype=np.float32) < _FLIP)

    codes = np.empty((n, packing.words_for(bits)), np.uint64)
    for first in range(0, n, _BLOCK):
        last = min(first + _BLOCK, n)
        codes[first:last] = packing.pack(draw(last - first))
    asked = draw(queries)
    factors = rng.gamma(2.0, 1.0, asked.shape).astype(np.float32)
    weights = np.where(asked, factors, -factors)
    return Corpus(codes, packing.pack(asked), bits, weights)


def latent(n: int, bits: int, queries: int, seed: int = 0) -> Corpus:
    """Make codes as hard to search by inverted lists as those of embeddings are.

    Every code is the signs of a vector, one of 2,000 centres and noise, both normal in 200
    dimensions that matter less and less, by (1 + i)^-0.5, times a normal matrix. Clusters in few
    dimensions would flatter: a query's neighbours would lie in very few lists. Queries are made in
    the same way; their weights are the vectors of which they are the signs.
    """
    rng = np.random.default_rng(seed)
    scales = ((1 + np.arange(_LATENT)) ** -0.5).astype(np.float32)
    centres = rng.standard_normal((_CENTRES, _LATENT), np.float32) * scales
    matrix = rng.standard_normal((_LATENT, bits), np.float32)

    def draw(count: int) -> NDArray[np.float32]:
        noise = rng.standard_normal((count, _LATENT), np.float32) * scales
        made: NDArray[np.float32] = (centres[rng.integers(_CENTRES, size=count)] + noise) @ matrix
        return made

    codes = np.empty((n, packing.words_for(bits)), np.uint64)
    for first in range(0, n, _BLOCK):
        last = min(first + _BLOCK, n)
        codes[first:last] = packing.pack(draw(last - first) > 0)
    asked = draw(queries)
    return Corpus(codes, packing.pack(asked > 0), bits, asked)


def of_index(index: Index, queries: int, seed: int = 0) -> Corpus:
    """Take the codes of an index; queries are rows of it with a fifth of their bits flipped."""
    rng = np.random.default_rng(seed)
    if not len(index):
        raise InputError("the index is empty", str(index.file.path), "at least one row", "none")
    words = index.file.header.words
    parts = [
        shard.array("codes", "uint64", (shard.header.rows, words)) for shard in index.file.shards
    ]
    codes = parts[0] if len(parts) == 1 else np.concatenate(parts)
    chosen = packing.unpack(codes[rng.integers(0, len(codes), queries)], index.bits)
    asked = chosen ^ (rng.random(chosen.shape) < _FLIP)
    factors = rng.gamma(2.0, 1.0, asked.shape).astype(np.float32)
    return Corpus(codes, packing.pack(asked), index.bits, np.where(asked, factors, -factors))
