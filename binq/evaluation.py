"""How much recall was lost: searches judged against exact float32 neighbours and judgements."""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq import __version__
from binq.binarizers import Scoring, unit_rows
from binq.binarizing import Progress, Vectors
from binq.bits import Layout
from binq.encoders import check_same_model
from binq.errors import CheckFailed, InputError, UsageError
from binq.ladder import Ladder
from binq.metrics import Estimate, expected_recall, found_of, recall
from binq.qrels import measure, read_qrels
from binq.queries import Queries, joined
from binq.search import (
    DEFAULT_OVERSAMPLE,
    Index,
    Rescore,
    open_queries,
    prepare_batch,
)
from binq.similarity import exact_neighbours
from binq.storage.publish import published
from binq.threads import limited
from binq.vectors import VectorSource, open_vectors

_QUERY_BLOCK: Final = 1024
_TIMED_QUERIES: Final = 100


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    facts : dict
        What was evaluated, and how: n, queries, bits, method, scoring, rescore and so on.
    metrics : dict
        By name; each a dict with ``value``, and ``low`` and ``high`` (the 95 % interval) or
        ``std``.
    latency_ms : dict
        Median and 95th percentile of single queries, and how they were taken.
    query_ids : list
        One per query.
    per_query : dict of str to (q,) float64
        The same metrics for every query; NaN where a query has none.
    """

    facts: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    latency_ms: dict[str, Any]
    query_ids: list[str] | list[int]
    per_query: dict[str, NDArray[np.float64]] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the document that ``binq eval --json`` prints."""
        return {
            "schema": "binq.eval/1",
            "binq": __version__,
            **self.facts,
            "metrics": self.metrics,
            "latency_ms": self.latency_ms,
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one row per query: its id and its metrics, None where it has none."""
        for number, query in enumerate(self.query_ids):
            values = {name: float(column[number]) for name, column in self.per_query.items()}
            yield {
                "query": query,
                **{name: None if value != value else value for name, value in values.items()},
            }

    def require(self, floors: dict[str, float]) -> None:
        """Raise unless every metric named reaches its floor.

        Raises
        ------
        UsageError
            If a metric was not evaluated.
        CheckFailed
            If one is below.
        """
        for name, floor in floors.items():
            if name not in self.metrics:
                raise UsageError(
                    "that metric was not evaluated",
                    f"--fail-under {name}",
                    ", ".join(self.metrics),
                )
            value = self.metrics[name]["value"]
            if value < floor:
                raise CheckFailed(f"{name} is too low", "", f"at least {floor}", f"{value:.4f}")


def parse_floors(texts: Sequence[str], ks: Sequence[int]) -> dict[str, float]:
    """Read floors such as ``recall@10=0.95``.

    Raises
    ------
    UsageError
        If one is not of that form, or its k is not among ``ks``.
    """
    floors = {}
    for text in texts:
        match = re.fullmatch(r"([^=\s]+@(\d+))=([0-9.eE+-]+)", text)
        try:
            floors[match[1]] = float(match[3])  # type: ignore[index]
        except (TypeError, ValueError):
            raise UsageError(
                "not a floor", f"--fail-under {text}", "METRIC@K=VALUE, such as recall@10=0.95"
            ) from None
        if match and int(match[2]) not in ks:
            raise UsageError(
                "that k is not evaluated",
                f"--fail-under {text}",
                "one of " + ", ".join(map(str, ks)),
                match[2],
                "add it to -k",
            )
    return floors


def evaluate(
    index: str | os.PathLike[str] | Index,
    queries: Vectors,
    *,
    truth: Vectors | None = None,
    truth_column: str | None = None,
    k: Sequence[int] = (1, 10, 100),
    scoring: Scoring | None = None,
    rescore: Rescore = "auto",
    rescore_from: Vectors | None = None,
    oversample: float | Literal["auto"] = DEFAULT_OVERSAMPLE,
    target_recall: float | None = None,
    packed: Layout | Literal["none"] | None = None,
    qrels: str | os.PathLike[str] | None = None,
    exclude_self: bool = False,
    cache_truth: str | os.PathLike[str] | None = None,
    column: str | None = None,
    id_column: str | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure the recall of an index.

    Parameters
    ----------
    index : path or Index
    queries : path, list of paths, "-" or (q, dim) array
    truth : path, list of paths or array, optional
        The vectors that the index was built from, row by row. Needed unless ``qrels`` are given.
    truth_column : str, optional
        Column of the truth's vectors, if there are several.
    k : sequence of int
        Each is a search of its own, with its own survivors.
    scoring, rescore, rescore_from, oversample, target_recall, packed
        As for :meth:`Index.search`.
    qrels : path, optional
        Judgements (BEIR or TREC): adds nDCG, R, RR and AP at every k.
    exclude_self : bool
        Leave out a query's own id, from hits and from truth.
    cache_truth : path, optional
        Keep the exact neighbours in this npz file, and use them if they are still those.
    column, id_column : str, optional
        Columns of the queries.
    force : bool
        Take queries and truth although another model made them than the index.
    threads : int, optional
    progress : callable, optional
        Called with (queries done, queries in all).

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError, InputError, IndexFileError, EnvironmentFailure
    """
    ks = sorted(set(k))
    if not ks or ks[0] < 1:
        raise UsageError("too few hits wanted", "-k", "at least 1", ",".join(map(str, k)))
    if truth is None and qrels is None:
        raise UsageError("there is nothing to judge by", next_step="give --truth or --qrels")
    if cache_truth is not None and truth is None:
        raise UsageError("--cache-truth goes with --truth", next_step="give --truth")
    judgements = None if qrels is None else read_qrels(qrels)
    ix = index if isinstance(index, Index) else Index(index)
    with limited(threads) as count:
        prepared, query_ids, is_packed = _read_queries(
            ix, queries, column, id_column, packed, force
        )
        own = _OwnRows(ix, query_ids) if exclude_self else None
        neighbours = None
        if truth is not None:
            neighbours = _true_neighbours(
                ix,
                prepared,
                truth,
                ks[-1] + (own.most if own else 0),
                truth_column,
                cache_truth,
                force,
            )
        with ix.ladder(
            scoring=scoring,
            rescore=rescore,
            rescore_from=rescore_from,
            oversample=oversample,
            target_recall=target_recall,
            packed=is_packed,
            threads=count,
        ) as ladder:
            judge = _Judge(ladder, prepared, own, neighbours, progress)
            for size in ks:
                judge.at(size)
            latency = _latency(ladder, prepared, 10 if 10 in ks else ks[-1])
        if judgements is not None:
            judge.by_qrels(judgements, query_ids, ks)
        facts = {
            "n": len(ix),
            "queries": len(prepared),
            "dim": ix.dim,
            "bits": ix.bits,
            "metric": ix.metric,
            "method": ix.binarizer.method if ix.binarizer else None,
            "scoring": ladder.scoring,
            "rescore": _rescored_by(ladder, ix, rescore_from is not None),
            "oversample": oversample if ladder.rescored else None,
            "mean_depth": {str(size): float(np.mean(deep)) for size, deep in judge.depths.items()},
            "k": ks,
            "exclude_self": exclude_self,
            "threads": count,
        }
    return Evaluation(facts, judge.metrics, latency, query_ids, judge.per_query)


def _rescored_by(ladder: Ladder, index: Index, from_file: bool) -> str:
    if ladder.store is None:
        return "codes" if ladder.by_codes else "none"
    return "file" if from_file else index.file.header.rescore


class _Judge:
    """Searches at one k after another and collects metrics."""

    def __init__(
        self,
        ladder: Ladder,
        queries: Queries,
        own: _OwnRows | None,
        neighbours: NDArray[np.int64] | None,
        progress: Progress | None,
    ) -> None:
        self.metrics: dict[str, dict[str, float]] = {}
        self.per_query: dict[str, NDArray[np.float64]] = {}
        self.depths: dict[int, list[int]] = {}
        self._ladder = ladder
        self._queries = queries
        self._own = own
        self._neighbours = neighbours
        self._progress = progress
        if ladder.scoring == "hamming":
            _ = queries.codes  # made once, for every k
        self._rankings: list[list[str]] = [[] for _ in range(len(queries))]

    def at(self, k: int) -> None:
        """Search for k hits and judge them by the true neighbours."""
        total = len(self._queries)
        columns = {
            name: np.full(total, np.nan)
            for name in ("recall", "candidate_recall", "recall_expected", "variance")
        }
        done = 0
        for chosen, own in self._groups():
            for first in range(0, len(chosen), _QUERY_BLOCK):
                part = chosen[first : first + _QUERY_BLOCK]
                found = self._judge(part, own[first : first + _QUERY_BLOCK], k)
                for name, values in found.items():
                    columns[name][part] = values
                done += len(part)
                if self._progress is not None:
                    self._progress(done, total)
        variance = columns.pop("variance")
        for name, values in columns.items():
            if np.isnan(values).all():
                continue
            self.per_query[f"{name}@{k}"] = values
            if name == "recall_expected":
                deviation = float(np.sqrt(variance.sum())) / total
                entry = {"value": float(values.mean()), "std": deviation}
            else:
                entry = vars(Estimate.of(values))
            self.metrics[f"{name}@{k}"] = entry

    def by_qrels(
        self,
        judgements: dict[str, dict[str, int]],
        query_ids: list[str] | list[int],
        ks: Sequence[int],
    ) -> None:
        """Judge the hits of the largest k by judgements."""
        names = [str(query) for query in query_ids]
        found = measure(judgements, dict(zip(names, self._rankings, strict=True)), ks)
        for name, values in found.items():
            column = np.array([values.get(query, np.nan) for query in names])
            self.per_query[name] = column
            self.metrics[name] = vars(Estimate.of(column[~np.isnan(column)]))

    def _groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield queries that leave out equally many rows, (g,), with those rows (g, m)."""
        if self._own is None:
            everyone = np.arange(len(self._queries))
            yield everyone, np.empty((len(everyone), 0), np.int64)
        else:
            yield from self._own.groups()

    def _judge(
        self, part: NDArray[np.int64], own: NDArray[np.int64], k: int
    ) -> dict[str, NDArray[np.float64]]:
        ladder, queries = self._ladder, self._queries.part(part)
        left_out = own.shape[1]
        eligible = len(ladder.codes) - left_out
        depth = ladder.depth(k)
        survivors = ladder.survivors(queries, depth + left_out)
        survivors = survivors.chosen(_without(survivors.rows, own, min(depth, eligible)))
        hits = ladder.rank(queries, survivors, k)
        ids: Sequence[Sequence[str | int]] = hits.ids
        for number, names in zip(part, ids, strict=True):
            self._rankings[number] = [str(name) for name in names]
        if hits.depths is not None:
            self.depths.setdefault(k, []).extend(hits.depths.tolist())
        if self._neighbours is None:
            return {}
        near = self._neighbours[part]
        near = np.take_along_axis(near, _without(near, own, min(k, eligible)), axis=1)
        found = {
            "recall": recall(hits.rows, near),
            "candidate_recall": recall(_rescored(survivors.rows, hits.depths), near),
        }
        if not ladder.rescored and hits.distances is not None and near.shape[1]:
            mean, variance = self._expected(queries, hits.distances, near, own)
            found |= {"recall_expected": mean, "variance": variance}
        return found

    def _expected(
        self,
        queries: Queries,
        distances: NDArray[np.int32],
        near: NDArray[np.int64],
        own: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of recall under random breaking of ties at the cut."""
        codes = self._ladder.codes
        cut = distances[:, -1]
        closer = (distances < cut[:, None]).sum(axis=1)
        within = codes.count_within(queries.codes, cut.astype(np.int64), self._ladder.threads)
        own_within = (codes.distances(queries.codes, own) <= cut[:, None]).sum(axis=1)
        return expected_recall(
            codes.distances(queries.codes, near),
            cut,
            closer,
            within - own_within - closer,
            near.shape[1],
        )


def _rescored(rows: NDArray[np.int64], depths: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the survivors that were rescored; -1 stands for the others."""
    if depths is None:
        return rows
    return np.where(np.arange(rows.shape[1]) < depths[:, None], rows, -1)


class _OwnRows:
    """The rows that carry a query's own id."""

    def __init__(self, index: Index, query_ids: list[str] | list[int]) -> None:
        if index.ids is None:
            rows = [[int(name)] if _is_row(name, len(index)) else [] for name in query_ids]
        elif query_ids and isinstance(query_ids[0], int):
            raise InputError(
                "--exclude-self needs the ids of the queries", "queries", "an id column", "none"
            )
        else:
            wanted: dict[str, list[int]] = {str(name): [] for name in query_ids}
            for row, name in enumerate(index.ids):
                if name in wanted:
                    wanted[name].append(row)
            rows = [wanted[str(name)] for name in query_ids]
        self._rows = rows
        self.most = max(map(len, rows), default=0)

    def groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield queries with equally many own rows, (g,), and those rows, (g, m)."""
        counts = np.array([len(rows) for rows in self._rows], np.int64)
        for count in np.unique(counts):
            chosen = np.flatnonzero(counts == count)
            own = np.array([self._rows[number] for number in chosen], np.int64)
            yield chosen, own.reshape(len(chosen), count)


def _is_row(name: str | int, rows: int) -> bool:
    text = str(name)
    return text.isdecimal() and len(text) < 20 and int(text) < rows


def _without(rows: NDArray[np.int64], own: NDArray[np.int64], width: int) -> NDArray[np.intp]:
    """Return the positions (q, width) of the first rows that are not a query's own."""
    if not own.shape[1]:
        return np.broadcast_to(np.arange(rows.shape[1])[:width], (len(rows), width))
    left_out = found_of(own, rows)
    return np.argsort(left_out, axis=1, kind="stable")[:, :width]


def _read_queries(
    index: Index,
    queries: Vectors,
    column: str | None,
    id_column: str | None,
    packed: Layout | Literal["none"] | None,
    force: bool,
) -> tuple[Queries, list[str] | list[int], bool]:
    """Read all queries; return them, their ids, and whether they are bits."""
    parts: list[Queries] = []
    names: list[str] = []
    with open_queries(index, queries, column, id_column, packed, force=force) as source:
        for batch in source.batches():
            parts.append(prepare_batch(index, source, batch.vectors, batch.start))
            names += batch.ids or []
        if not parts:
            raise InputError("there are no queries", source.name, "at least one", "none")
        everything = joined(parts)
        return everything, names or list(range(len(everything))), source.packed


def _true_neighbours(
    index: Index,
    queries: Queries,
    truth: Vectors,
    k: int,
    column: str | None,
    cache: str | os.PathLike[str] | None,
    force: bool,
) -> NDArray[np.int64]:
    """Return the rows (q, min(k, n)) of the exact neighbours, computed or from the cache."""
    if queries.vectors is None or queries.truncated:
        raise InputError(
            "exact neighbours need whole float queries",
            "queries",
            f"floats of dimension {index.dim}",
            "packed bits" if queries.vectors is None else "truncated vectors",
        )
    with open_vectors(truth, column=column) as source:
        if not force:
            check_same_model(index.file.header.model, source.metadata, source.name)
        if source.packed or (source.dim is not None and source.dim != index.dim):
            raise InputError(
                "the truth does not fit the index",
                source.name,
                f"vectors of dimension {index.dim}",
                "packed bits" if source.packed else f"dimension {source.dim}",
            )
        key = None
        if cache is not None and source.rows is not None:
            key = _truth_key(index, queries.vectors, source)
            kept = _load_truth(cache, key, len(queries), len(index))
            if kept is not None and kept.shape[1] >= min(k, len(index)):
                return kept[:, :k]
        rows, _ = exact_neighbours(queries.vectors, _aligned(index, source), k, index.metric)
        if cache is not None:
            key = key or _truth_key(index, queries.vectors, source)
            with published(cache) as file:
                np.savez(file, key=np.array(key), rows=rows)
    return rows


def _aligned(index: Index, source: VectorSource) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the truth's batches, checking that its rows are those of the index."""
    rows = 0
    for batch in source.batches():
        start = batch.start
        rows = start + len(batch.vectors)
        if rows > len(index):
            break
        if batch.ids is not None and index.ids is not None:
            for number, name in enumerate(batch.ids, start):
                if index.ids[number] != name:
                    raise InputError(
                        "the truth is not aligned with the index",
                        source.locate(number),
                        f"id {index.ids[number]!r}",
                        f"{name!r}",
                        "give the vectors the index was built from, in their order",
                    )
        if index.metric == "cosine":
            yield start, unit_rows(batch.vectors, source.locator(start))
        else:
            yield start, batch.vectors
    if rows != len(index):
        raise InputError(
            "the truth has another number of rows than the index",
            source.name,
            f"{len(index)} rows",
            f"{'more' if rows > len(index) else rows}",
            "give the vectors the index was built from",
        )


def _truth_key(index: Index, vectors: NDArray[np.float32], source: VectorSource) -> str:
    """Return what the neighbours depend on, as text."""
    facts = {
        "schema": "binq.truth/1",
        "metric": index.metric,
        "index": [index.file.header.rows, index.dim, index.file.header.sources],
        "queries": xxhash.xxh3_128_hexdigest(np.ascontiguousarray(vectors).data),
        "truth": source.describe(),
    }
    return json.dumps(facts, sort_keys=True)


def _load_truth(
    cache: str | os.PathLike[str], key: str, queries: int, n: int
) -> NDArray[np.int64] | None:
    """Return the neighbours kept in ``cache``, or None where they are not of ``key``."""
    if not Path(cache).exists():
        return None
    try:
        with Path(cache).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["key"]) != key:
                return None
            rows = kept["rows"]
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
        return None
    fits = rows.dtype == np.int64 and rows.ndim == 2 and len(rows) == queries
    return rows if fits and ((rows >= 0) & (rows < n)).all() else None


def _latency(ladder: Ladder, queries: Queries, k: int) -> dict[str, Any]:
    """Time single queries, spread evenly over all, after one that is not counted."""
    numbers = np.linspace(0, len(queries) - 1, min(len(queries), _TIMED_QUERIES)).astype(int)
    times = []
    for number in [numbers[0], *numbers]:
        one = queries.part(slice(number, number + 1))
        begun = time.perf_counter()
        ladder.search(one, k)
        times.append(1000 * (time.perf_counter() - begun))
    taken = np.array(times[1:])
    return {
        "median": round(float(np.median(taken)), 4),
        "p95": round(float(np.percentile(taken, 95)), 4),
        "k": k,
        "queries": len(taken),
    }
