"""Searches at one k after another, judged by true neighbours and by judgements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.evaluation.qrels import Qrels, measure
from binq.evaluation.statistics import Estimate, equal_rows, expected_recall, found_of, recall
from binq.index.index import Index
from binq.search.filters import is_row
from binq.search.pipeline import Pipeline
from binq.structures.base import AllowedRows
from binq.structures.queries import Queries
from binq.types import Progress

_QUERY_BLOCK: Final = 1024
BY_TRUTH: Final = ("recall", "candidate_recall", "recall_expected")
BY_SCAN: Final = ("recall_scan",)


@dataclass(eq=False)
class Judge:
    """Searches at one k after another and collects metrics.

    Attributes
    ----------
    pipeline : Pipeline
    queries : Queries
    own : OwnRows or None
        The rows to leave out, from hits and from truth.
    neighbours : (q, m) int64 or None
        Rows of the exact neighbours, best first: as many as the largest k and ``own.most``
        together, or all. Without them only :meth:`by_qrels` finds something.
    progress : callable or None
        Called with (queries done, queries in all), at every k anew.
    reference : Judge or None
        Of the same search with every row scanned, ahead of this one at every k: what it finds
        tells ``recall_scan``.
    metrics : dict
        By name, such as ``recall@10``; each a dict with ``value``, and ``low`` and ``high`` (the
        95 % interval) or ``std``.
    per_query : dict of str to (q,) float64
        The same metrics for every query; NaN where a query has none.
    rescored : dict of int to list of int
        By k: how many candidates of each query were rescored, where any were.
    best : dict of int to tuple
        By k: the rows found (q, m), -1 for none, and the score (q,) of the last of them.
    """

    pipeline: Pipeline
    queries: Queries
    own: OwnRows | None
    neighbours: NDArray[np.int64] | None
    progress: Progress | None
    reference: Judge | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    per_query: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    rescored: dict[int, list[int]] = field(default_factory=dict)
    best: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        queries = self.queries
        self._clusters = equal_rows(queries.codes if queries.vectors is None else queries.vectors)
        if self.pipeline.scoring == "hamming":
            _ = queries.codes  # made once, for every k
        self._rankings: list[list[str]] = [[] for _ in range(len(queries))]

    def at(self, k: int) -> None:
        """Search for k hits, and judge them by the true neighbours and by the reference."""
        total = len(self.queries)
        columns = {name: np.full(total, np.nan) for name in (*BY_TRUTH, *BY_SCAN, "variance")}
        rows = np.full((total, min(k, self.pipeline.rows)), -1)
        self.best[k] = rows, np.full(total, -np.inf)
        done = 0
        for chosen, own in self._groups():
            for first in range(0, len(chosen), _QUERY_BLOCK):
                part = chosen[first : first + _QUERY_BLOCK]
                found = self._judge(part, own[first : first + _QUERY_BLOCK], k)
                for name, values in found.items():
                    columns[name][part] = values
                done += len(part)
                if self.progress is not None:
                    self.progress(done, total)
        variance = columns.pop("variance")
        for name, values in columns.items():
            if np.isnan(values).all():
                continue
            self.per_query[f"{name}@{k}"] = values
            if name == "recall_expected":
                deviation = float(np.sqrt(variance.sum())) / total
                entry = {"value": float(values.mean()), "std": deviation}
            else:
                entry = vars(Estimate.of(values, self._clusters))
            self.metrics[f"{name}@{k}"] = entry

    def by_qrels(self, judgements: Qrels, query_ids: list[Any], k: int) -> None:
        """Judge the hits of the last search, which was for k, by judgements."""
        names = [str(query) for query in query_ids]
        found = measure(judgements, dict(zip(names, self._rankings, strict=True)), k)
        for name, values in found.items():
            column = np.array([values.get(query, np.nan) for query in names])
            self.per_query[name] = column
            judged = ~np.isnan(column)
            self.metrics[name] = vars(Estimate.of(column[judged], self._clusters[judged]))

    def _groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield queries that leave out equally many rows, (g,), with those rows (g, m)."""
        if self.own is None:
            everyone = np.arange(len(self.queries))
            yield everyone, np.empty((len(everyone), 0), np.int64)
        else:
            yield from self.own.groups()

    def _judge(
        self, part: NDArray[np.int64], own: NDArray[np.int64], k: int
    ) -> dict[str, NDArray[np.float64]]:
        pipeline, queries = self.pipeline, self.queries.part(part)
        eligible = pipeline.rows - own.shape[1]
        count = pipeline.candidate_count(k)
        found = pipeline.candidates(queries, count + own.shape[1])
        found = found.at(_without(found.rows, own, min(count, eligible)))
        hits = pipeline.rescore(queries, found, k)
        ids: Sequence[Sequence[str | int]] = hits.ids
        for number, names in zip(part, ids, strict=True):
            self._rankings[number] = [str(name) for name in names]
        if hits.rescored is not None:
            self.rescored.setdefault(k, []).extend(hits.rescored.tolist())
        width = hits.rows.shape[1]
        self.best[k][0][part, :width] = hits.rows
        if width:
            self.best[k][1][part] = hits.scores[:, -1]
        values = {}
        if self.reference is not None:
            rows, last = self.reference.best[k]
            # By row too: sums of floats may round one row to two scores.
            fine = (hits.scores >= last[part, None]) | found_of(rows[part], hits.rows)
            values["recall_scan"] = fine.mean(axis=1) if width else np.ones(len(part))
        if self.neighbours is None:
            return values
        near = self.neighbours[part]
        near = np.take_along_axis(near, _without(near, own, min(k, eligible)), axis=1)
        values["recall"] = recall(hits.rows, near)
        values["candidate_recall"] = recall(_rescored(found.rows, hits.rescored), near)
        whole = pipeline.structure.exact or pipeline.scope.exhaustive
        if whole and pipeline.rescorer is None and hits.distances is not None and near.shape[1]:
            mean, variance = self._expected(queries, hits.distances, near, own)
            values |= {"recall_expected": mean, "variance": variance}
        return values

    def _expected(
        self,
        queries: Queries,
        distances: NDArray[np.int32],
        near: NDArray[np.int64],
        own: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of recall under random breaking of ties at the cut."""
        pipeline, structure = self.pipeline, self.pipeline.structure
        cut = distances[:, -1]
        closer = (distances < cut[:, None]).sum(axis=1)
        within = structure.count_within(queries.codes, cut.astype(np.int64), pipeline.scope)
        own_within = (structure.distances(queries.codes, own) <= cut[:, None]).sum(axis=1)
        return expected_recall(
            structure.distances(queries.codes, near),
            cut,
            closer,
            within - own_within - closer,
            near.shape[1],
        )


def _rescored(rows: NDArray[np.int64], counts: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the candidates that were rescored; -1 stands for the others."""
    if counts is None:
        return rows
    return np.where(np.arange(rows.shape[1]) < counts[:, None], rows, -1)


class OwnRows:
    """The rows that carry a query's own id.

    Attributes
    ----------
    most : int
        How many one query has at most.

    Parameters
    ----------
    index : Index
    query_ids : list of str or of int
        Compared as text. Where the index has no ids, those that are numbers of its rows are meant.
    named : bool
        Whether they are ids of the queries, and not their numbers.
    allowed : AllowedRows, optional
        Only these rows are ever found, and so to be left out.

    Raises
    ------
    InputError
        If the index has ids and the queries have none.
    """

    def __init__(
        self,
        index: Index,
        query_ids: list[Any],
        named: bool,
        allowed: AllowedRows | None = None,
    ) -> None:
        if index.ids is None:
            n = index.file.header.rows
            rows = [[int(name)] if is_row(name, n) else [] for name in query_ids]
        elif not named:
            raise InputError(
                "`exclude_self` needs the ids of the queries", "queries", "an id column", "none"
            )
        else:
            wanted: dict[str, list[int]] = {str(name): [] for name in query_ids}
            for row, name in enumerate(map(str, index.ids)):
                if name in wanted:
                    wanted[name].append(row)
            rows = [wanted[str(name)] for name in query_ids]
        if allowed is not None:
            rows = [[row for row in own if allowed.contains(np.array(row))] for own in rows]
        self._rows = rows
        self.most = max(map(len, rows), default=0)

    def groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield queries with equally many own rows, (g,), and those rows, (g, m)."""
        counts = np.array([len(rows) for rows in self._rows], np.int64)
        for count in np.unique(counts):
            chosen = np.flatnonzero(counts == count)
            own = np.array([self._rows[number] for number in chosen], np.int64)
            yield chosen, own.reshape(len(chosen), count)


def _without(rows: NDArray[np.int64], own: NDArray[np.int64], width: int) -> NDArray[np.intp]:
    """Return the positions (q, width) of the first rows that are not a query's own."""
    if not own.shape[1]:
        return np.broadcast_to(np.arange(rows.shape[1])[:width], (len(rows), width))
    left_out = found_of(own, rows)
    return np.argsort(left_out, axis=1, kind="stable")[:, :width]
