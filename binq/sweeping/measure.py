"""Fitting, encoding and searching one binarizer; and the vectors themselves in fewer bits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import binarizers
from binq import bits as packing
from binq.binarizers import Binarizer, RowTerms
from binq.evaluation.statistics import Estimate, recall
from binq.kernels.asymmetric import max_words
from binq.similarity import best_first, exact_neighbours
from binq.storage.sections import Int8Range
from binq.structures.base import Scope
from binq.structures.flat import Flat
from binq.structures.queries import Queries
from binq.sweeping.data import SweepData
from binq.sweeping.plan import Trial
from binq.sweeping.results import Row, StoredFloats
from binq.types import DEFAULT_OVERSAMPLE, Metric, Scoring

_QUERY_BLOCK: Final = 256
_TIMED_ROWS: Final = 1 << 17
_TIMED_QUERIES: Final = 64
_BALANCE_ROWS: Final = 1 << 16
_EXACT_ROWS: Final = 1 << 14

STORED: Final[dict[StoredFloats, int]] = {"int8": 1, "float16": 2}
"""The vectors that an index may store to rescore by, and the bytes of a number."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What every row of a sweep is measured with.

    Attributes
    ----------
    data : SweepData
    truth : (q, min(k, n)) int64
        Exact neighbours.
    metric : {"cosine", "ip", "l2"}
    k : int
    scorings : sequence of str
    oversamples : sequence of float
    seed, sample, threads : int
        ``sample`` bounds the rows that a binarizer is fitted on.
    truth_seconds : float
        How long finding the exact neighbours took.
    """

    data: SweepData
    truth: NDArray[np.int64]
    metric: Metric
    k: int
    scorings: Sequence[Scoring]
    oversamples: Sequence[float]
    seed: int
    sample: int
    threads: int
    truth_seconds: float = 0.0

    def candidate_count(self, oversample: float) -> int:
        """Return how many candidates a search for k hits rescores."""
        return min(-int(-round(self.k * oversample, 6) // 1), len(self.data.raw))

    @property
    def most_candidates(self) -> int:
        """The candidates at the largest oversample that is looked at."""
        return max(map(self.candidate_count, (1.0, DEFAULT_OVERSAMPLE, *self.oversamples)))

    def recalls(
        self, per_query: NDArray[np.float64], candidates: NDArray[np.int64] | None = None
    ) -> dict[str, Any]:
        """Return what hits and candidates say of a row: recall, and recall once rescored."""
        deep = {}
        if candidates is not None:
            places = positions(candidates, self.truth)
            for oversample in self.oversamples:
                deep[oversample] = (places < self.candidate_count(oversample)).mean(axis=1)
        seen, groups = self.data.reported, self.data.groups
        return {
            "recall": Estimate.of(per_query[seen], groups[seen]),
            "rescored": {x: Estimate.of(found[seen], groups[seen]) for x, found in deep.items()},
            "per_query": per_query,
            "rescored_per_query": deep,
            "candidates": None if candidates is None else candidates.astype(np.int32),
        }


def nearest_rows(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, metric: Metric
) -> NDArray[np.int64]:
    """Return the rows (q, min(k, n)) of the exact neighbours."""
    starts = range(0, len(corpus), _EXACT_ROWS)
    blocks = ((start, corpus[start : start + _EXACT_ROWS]) for start in starts)
    return exact_neighbours(queries, blocks, k, metric)[0]


def positions(rows: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where in ``rows`` (q, m) each of ``truth`` (q, k) stands, m where it does not."""
    places = np.empty(truth.shape, np.int64)
    for start in range(0, len(rows), _QUERY_BLOCK):
        part = slice(start, start + _QUERY_BLOCK)
        same = rows[part, None, :] == truth[part, :, None]
        places[part] = np.where(same.any(axis=2), same.argmax(axis=2), rows.shape[1])
    return places


def measure(trial: Trial, setting: Setting) -> Iterator[Row]:
    """Fit a binarizer as ``binq build`` would, and yield a row for each scoring."""
    data, threads = setting.data, setting.threads
    rows = data.corpus
    if setting.sample < len(rows):
        drawn = np.random.default_rng(setting.seed).choice(len(rows), setting.sample, replace=False)
        rows = rows[np.sort(drawn)]
    begun = time.perf_counter()
    fitted = binarizers.fit(
        trial.method,
        data.raw.shape[1],
        setting.metric,
        rows,
        bits=trial.bits,
        truncate_dim=trial.truncate_dim,
        seed=setting.seed,
        threads=threads,
        locate=lambda row: f"row {data.rows[row]}",
    )
    fit_seconds = time.perf_counter() - begun
    queries = Queries(data.queries, binarizer=fitted)
    balance = None
    most = 64 * max_words()
    for scoring in setting.scorings:
        if scoring == "asymmetric" and fitted.bits > most:
            continue
        encoded(fitted, data.raw[:1], scoring, threads)  # loads what it needs
        begun = time.perf_counter()
        codes, terms = encoded(fitted, data.raw, scoring, threads)
        encode_seconds = time.perf_counter() - begun
        if balance is None:
            balance = _balance(codes, fitted.bits)
        index = Flat(codes, terms)
        candidates, hits = searched(index, queries, scoring, setting)
        yield Row(
            kind="binq",
            method=trial.method,
            bits=fitted.bits,
            truncate_dim=trial.truncate_dim,
            scoring=scoring,
            bytes=codes.shape[1] * 8 + _term_bytes(terms, setting.metric),
            scan_ms=_scan_ms(index, queries, scoring, setting),
            fit_seconds=fit_seconds,
            encode_per_second=len(codes) / max(encode_seconds, 1e-9),
            balance=balance,
            fitted=fitted,
            **setting.recalls(recall(hits, setting.truth), candidates),
        )


def searched(
    index: Flat, queries: Queries, scoring: str, setting: Setting
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Search as ``binq query`` does by default.

    Returns
    -------
    candidates : (q, m) int64
        The scan's best, as many as the largest oversample takes.
    hits : (q, k) int64
    """
    scope, most = Scope(threads=setting.threads), setting.most_candidates
    if scoring == "hamming":
        candidates = index.nearest(queries, most, scope).rows
        return candidates, candidates[:, : setting.k]
    candidates = index.best(queries, most, scope).rows
    near = candidates[:, : setting.candidate_count(DEFAULT_OVERSAMPLE)]
    exact = index.scores(queries.weights, near)
    return candidates, np.take_along_axis(near, best_first(near, exact, setting.k), axis=1)


def stored_rows(method: StoredFloats, setting: Setting) -> Iterator[Row]:
    """Yield the vectors as int8 or as float16, searched exhaustively."""
    data = setting.data
    begun = time.perf_counter()
    spread = Int8Range.spanning(data.corpus.min(axis=0), data.corpus.max(axis=0))
    stored = restored(data.corpus, method, spread)
    seconds = time.perf_counter() - begun
    near = nearest_rows(data.queries, stored, setting.k, setting.metric)
    yield Row(
        kind="floats",
        method=method,
        scoring="exact",
        bytes=STORED[method] * data.raw.shape[1],
        encode_per_second=len(stored) / max(seconds, 1e-9),
        **setting.recalls(recall(near, setting.truth)),
    )


def restored(
    vectors: NDArray[np.float32], method: StoredFloats, spread: Int8Range
) -> NDArray[np.float32]:
    """Return what vectors (n, dim) are once they were stored as int8 or float16.

    Parameters
    ----------
    vectors : (n, dim) float32
    method : {"int8", "float16"}
    spread : Int8Range
        That of all vectors that are stored.
    """
    if method == "int8":
        return spread.restore(spread.quantize(vectors))
    largest = np.float32(np.finfo(np.float16).max)
    return np.clip(vectors, -largest, largest).astype(np.float16).astype(np.float32)


def encoded(
    fitted: Binarizer, raw: NDArray[np.float32], scoring: str, threads: int
) -> tuple[NDArray[np.uint64], RowTerms]:
    """Return codes and terms as an index file would give them back."""
    if scoring == "hamming":
        return fitted.encode(raw, str, threads), RowTerms()
    codes, terms = fitted.encode_with_terms(raw, str, threads)
    factor = terms.factor
    if factor is not None and fitted.metric == "cosine":
        factor = factor.astype(np.float16).astype(np.float32)
    return codes, RowTerms(factor, terms.addend)


def _term_bytes(terms: RowTerms, metric: Metric) -> int:
    """Return the bytes that the terms of a row take in an index."""
    factor = 0 if terms.factor is None else 2 if metric == "cosine" else 4
    return factor + (0 if terms.addend is None else 4)


def _balance(codes: NDArray[np.uint64], width: int) -> NDArray[np.float64]:
    """Return the share of ones of every bit, over at most so many rows spread evenly."""
    few = codes[:: -(-len(codes) // _BALANCE_ROWS)]
    shares: NDArray[np.float64] = packing.unpack(few, width).mean(axis=0, dtype=np.float64)
    return shares


def _scan_ms(index: Flat, queries: Queries, scoring: Scoring, setting: Setting) -> float:
    """Return milliseconds per query and million rows, the best of three runs.

    A small corpus is repeated, so that the cost of starting a scan is not taken for that of rows.
    """
    rows = np.tile(np.arange(len(index)), -(-_TIMED_ROWS // len(index)))
    whole = index.part(rows)
    some = queries.part(slice(0, _TIMED_QUERIES))
    k, scope = setting.candidate_count(1.0), Scope(threads=setting.threads)
    best = np.inf
    for _ in range(3):
        begun = time.perf_counter()
        if scoring == "hamming":
            whole.nearest(some, k, scope)
        else:
            whole.best(some, k, scope)
        best = min(best, time.perf_counter() - begun)
    return 1000 * best / len(some) / (len(whole) / 1e6)
