"""Engines, ready to answer: binq and its peers on the same codes, each with its check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.benchmark import by_numpy
from binq.benchmark.by_numpy import Answer
from binq.benchmark.conditions import Conditions
from binq.kernels import asymmetric, hamming

# How many queries are answered once more to be checked.
CHECKED: Final = 4

_BLOCK: Final = 16_384
_TRAINED_ON: Final = 20_000

Search = Callable[[int, int], Answer]


@dataclass(frozen=True)
class Engine:
    """An engine, ready to answer.

    Attributes
    ----------
    name : str
    search : callable
        ``search(first, last)`` answers those queries of the corpus: rows and distances or scores,
        both (last - first, k).
    check : callable
        ``check(answer, first, last)`` says whether that answer is right; ``last`` is at most
        :data:`CHECKED`.
    """

    name: str
    search: Search
    check: Callable[[Answer, int, int], bool]


def hamming_engines(conditions: Conditions) -> list[Engine]:
    """Return what scans by Hamming distance, binq first."""
    corpus, k, threads = conditions.corpus, conditions.k, conditions.threads
    codes, queries = corpus.codes, corpus.queries
    truth = by_numpy.nearest(codes, queries[:CHECKED], k)[1]

    def check(answer: Answer, first: int, last: int) -> bool:
        return bool(np.array_equal(np.sort(answer[1], axis=1), truth[first:last]))

    searches: dict[str, Search] = {
        "binq": lambda i, j: hamming.topk(codes, queries[i:j], k, threads)
    }
    if "faiss" in conditions.peers:
        searches["faiss"] = _faiss_flat(conditions)
    if "usearch" in conditions.peers:
        searches["usearch"] = _usearch_exact(conditions)
    if "numpy" in conditions.peers:
        searches["numpy"] = lambda i, j: by_numpy.nearest(codes, queries[i:j], k)
    return [Engine(name, search, check) for name, search in searches.items()]


def asymmetric_engines(conditions: Conditions) -> list[Engine]:
    """Return what scores codes by float queries, binq first."""
    corpus, k, threads = conditions.corpus, conditions.k, conditions.threads
    codes, weights = corpus.codes, corpus.weights
    base = np.zeros(len(weights), np.float32)
    truth = by_numpy.best(corpus, weights[:CHECKED], k)[1]

    def check(answer: Answer, first: int, last: int) -> bool:
        # Weights are rounded in every engine: the hits must be nearly as good as the best.
        rows = np.asarray(answer[0], np.int64)
        found = asymmetric.exact(codes, weights[first:last], base[first:last], rows)
        best = truth[first:last].mean(axis=1)
        return bool((found.mean(axis=1) >= best - 0.03 * np.abs(best)).all())

    searches: dict[str, Search] = {
        "binq": lambda i, j: asymmetric.topk(codes, weights[i:j], base[i:j], k, threads=threads)
    }
    if "faiss" in conditions.peers:
        searches["faiss-rabitq"] = _faiss_rabitq(conditions, "IndexRaBitQ")
        searches["faiss-rabitqfs"] = _faiss_rabitq(conditions, "IndexRaBitQFastScan")
    if "numpy" in conditions.peers:
        searches["numpy"] = lambda i, j: by_numpy.best(corpus, weights[i:j], k)
    return [Engine(name, search, check) for name, search in searches.items()]


def _faiss_flat(conditions: Conditions) -> Search:
    import faiss

    codes, asked = _as_bytes(conditions)
    faiss.omp_set_num_threads(conditions.threads)
    flat = faiss.IndexBinaryFlat(8 * codes.shape[1])
    flat.add(codes)

    def search(first: int, last: int) -> Answer:
        distances, rows = flat.search(asked[first:last], conditions.k)
        return rows, distances

    return search


def _faiss_rabitq(conditions: Conditions, kind: str) -> Search:
    import faiss

    codes, bits = conditions.corpus.codes, conditions.corpus.bits
    faiss.omp_set_num_threads(conditions.threads)
    flat = getattr(faiss, kind)(bits, faiss.METRIC_INNER_PRODUCT)
    flat.qb = 4
    flat.train(by_numpy.signs(codes[:_TRAINED_ON], bits))
    for start in range(0, len(codes), _BLOCK):
        flat.add(by_numpy.signs(codes[start : start + _BLOCK], bits))

    def search(first: int, last: int) -> Answer:
        scores, rows = flat.search(conditions.corpus.weights[first:last], conditions.k)
        return rows, scores

    return search


def _usearch_exact(conditions: Conditions) -> Search:
    from usearch.index import MetricKind  # type: ignore[attr-defined]
    from usearch.index import search as scan

    codes, asked = _as_bytes(conditions)

    def search(first: int, last: int) -> Answer:
        found = scan(
            codes,
            asked[first:last],
            conditions.k,
            MetricKind.Hamming,
            exact=True,
            threads=conditions.threads,
        )
        shape = (last - first, conditions.k)
        return np.reshape(found.keys, shape), np.reshape(found.distances, shape)

    return search


def _as_bytes(conditions: Conditions) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return codes (n, ceil(bits / 8)) and queries (q, ceil(bits / 8)) as bytes, uint8."""
    corpus = conditions.corpus
    codes = packing.to_layout(corpus.codes, corpus.bits, "lsb")
    return codes, packing.to_layout(corpus.queries, corpus.bits, "lsb")
