"""How much recall was lost: searches judged against exact float32 neighbours and judgements."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from binq.engines import Engine
from binq.errors import InputError, UsageError
from binq.evaluation.judge import Judge, OwnRows
from binq.evaluation.qrels import Qrels, read_qrels
from binq.evaluation.results import Evaluation, Point
from binq.evaluation.speed import latency, throughput
from binq.evaluation.truth import true_neighbours
from binq.index.elsewhere import searched_by
from binq.index.index import Index
from binq.index.stream import open_queries, prepare_batch
from binq.io.outputs import refuse_overwrites
from binq.io.streams import refuse_stdin_twice
from binq.search.options import CommonSettings, SearchOptions
from binq.search.pipeline import Pipeline
from binq.structures.base import Effort
from binq.structures.queries import Queries, joined
from binq.threads import limited
from binq.types import DEFAULT_ENGINE, DEFAULT_TARGET_RECALL, EngineName, Progress, Vectors


def evaluate(
    index: str | os.PathLike[str] | Index,
    queries: Vectors,
    *,
    truth: Vectors | None = None,
    truth_column: str | None = None,
    k: int | Sequence[int] = (1, 10, 100),
    qrels: str | os.PathLike[str] | None = None,
    exclude_self: bool = False,
    cache_truth: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    column: str | None = None,
    id_column: str | None = None,
    progress: Progress | None = None,
    target_recall: float | Sequence[float] | None = None,
    nprobe: int | Sequence[int] | None = None,
    ef: int | Sequence[int] | None = None,
    engine: EngineName | Engine = DEFAULT_ENGINE,
    **settings: Unpack[CommonSettings],
) -> Evaluation:
    """Measure the recall of an index.

    Of an index that does not look at every row, ``recall_scan`` is the share of hits whose score
    is no worse than that of the last hit of the same search with every row scanned.

    Parameters
    ----------
    index : path or Index
    queries : path, list of paths, "-" or (q, dim) array
    truth : path, list of paths or array, optional
        The vectors that the index was built from, row by row. Needed unless ``qrels`` are given,
        or the index does not look at every row.
    truth_column : str, optional
        Column of the truth's vectors, if there are several.
    k : int or sequence of int
        Each is a search of its own, with its own candidates.
    qrels : path, optional
        Judgements (BEIR or TREC): adds nDCG, R, RR and AP at every k.
    exclude_self : bool
        Leave out a query's own id, from hits and from truth.
    cache_truth : path, optional
        Keep the exact neighbours in this npz file, and use them if they are still those.
    overwrite : bool
        Let them replace a file of another kind.
    column, id_column : str, optional
        Columns of the queries.
    progress : callable, optional
        Called with (queries done, queries in all), for every k and effort anew.
    target_recall, nprobe, ef : number or sequence of numbers, optional
        How far to look. Several make a curve of recall and speed.
    engine : {"local", "ray"}
        What searches the shards of an index, as of :func:`binq.index.stream.query`.
    settings
        The other fields of :class:`binq.search.options.SearchOptions`. With a filter, or deleted
        rows, the truth too is of the allowed rows.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError, InputError, IndexFileError, EnvironmentFailure
    """
    several = [
        SearchOptions(**settings, target_recall=target, nprobe=lists, ef=rows)
        for target, lists, rows in product(_each(target_recall), _each(nprobe), _each(ef))
    ]
    options = several[0]
    refuse_stdin_twice(
        queries=queries,
        truth=truth,
        filter_ids=options.filter_ids,
        exclude_ids=options.exclude_ids,
    )
    ks = _sizes(k)
    if cache_truth is not None and truth is None:
        raise UsageError("`cache_truth` goes with `truth`", next_step="give `truth`")
    place = index.file.path if isinstance(index, Index) else index
    refuse_overwrites(
        {"`cache_truth`": (cache_truth, "kept neighbours")},
        *(place, queries, truth, qrels, *options.paths),
        folders=[place],
        overwrite=overwrite,
    )
    ix = index if isinstance(index, Index) else Index(index)
    if truth is None and qrels is None and ix.structure.exact:
        raise UsageError("there is nothing to judge by", next_step="give `truth` or `qrels`")
    judgements = None if qrels is None else read_qrels(qrels)
    with limited(options.threads), ExitStack() as stack:
        prepared, query_ids, named, packed = _read_queries(ix, queries, column, id_column, options)
        stack.enter_context(searched_by(ix, engine, options.threads))
        pipeline = stack.enter_context(ix.pipeline(options, packed=packed))
        _refuse_nothing(ix, pipeline)
        own = OwnRows(ix, query_ids, named, pipeline.scope.allowed) if exclude_self else None
        neighbours = None
        if truth is not None:
            neighbours = true_neighbours(
                ix,
                prepared,
                truth,
                ks[-1] + (own.most if own else 0),
                truth_column,
                cache_truth,
                options.force,
                pipeline.scope.allowed,
            )
        trial = _Trial(prepared, query_ids, own, neighbours, judgements, ks, progress)
        return trial.evaluate(ix, pipeline, several)


@dataclass(frozen=True, eq=False)
class _Trial:
    """What searches of the same queries are judged by, whatever their effort."""

    queries: Queries
    query_ids: list[Any]
    own: OwnRows | None
    neighbours: NDArray[np.int64] | None
    judgements: Qrels | None
    ks: list[int]
    progress: Progress | None

    def evaluate(
        self, index: Index, pipeline: Pipeline, several: Sequence[SearchOptions]
    ) -> Evaluation:
        """Try every effort; ``pipeline`` says all else."""
        queries, ks, scope = self.queries, self.ks, pipeline.scope
        reference = None
        if not index.structure.exact:
            reference = self.judge(replace(pipeline, scope=replace(scope, exhaustive=True)))
        curve = []
        for options in several:
            if options.effort is not None:
                index.structure.check(options.effort)
            tried = replace(pipeline, scope=replace(scope, effort=options.effort))
            judge = self.judge(tried, reference)
            if len(several) > 1:
                curve += self.points(judge, options.effort)
        facts = {
            "n": len(index),
            "allowed": pipeline.rows,
            "queries": len(queries),
            **_of_index(index, tried),
            "oversample": options.factor if pipeline.rescorer else None,
            "mean_depth": {str(k): float(np.mean(counts)) for k, counts in judge.rescored.items()},
            "scanned": {str(k): _scanned(tried, queries, k) for k in ks},
            "k": ks,
            "exclude_self": self.own is not None,
            "threads": scope.threads,
        }
        return Evaluation(
            facts,
            judge.metrics,
            latency(tried, queries, 10 if 10 in ks else ks[-1]),
            self.query_ids,
            judge.per_query,
            curve,
            self.points(reference, None) if curve and reference is not None else [],
        )

    def judge(self, pipeline: Pipeline, reference: Judge | None = None) -> Judge:
        """Search at every k and judge what is found."""
        judge = Judge(pipeline, self.queries, self.own, self.neighbours, self.progress, reference)
        for k in self.ks:
            judge.at(k)
            if self.judgements is not None:
                judge.by_qrels(self.judgements, self.query_ids, k)
        return judge

    def points(self, judge: Judge, effort: Effort | None) -> list[Point]:
        """Return what was found at every k, and how fast."""
        pipeline, queries = judge.pipeline, self.queries
        return [
            Point(
                effort,
                k,
                _scanned(pipeline, queries, k),
                throughput(pipeline, queries, k),
                latency(pipeline, queries, k),
                {name: one for name, one in judge.metrics.items() if name.endswith(f"@{k}")},
            )
            for k in self.ks
        ]


def _scanned(pipeline: Pipeline, queries: Queries, k: int) -> float:
    """Return the share of rows that a query is compared with, on average."""
    count = min(pipeline.candidate_count(k), pipeline.rows)
    structure = pipeline.structure
    compared = structure.compared(queries, count, pipeline.scope, pipeline.scoring)
    return round(float(compared.mean()) / max(1, len(structure)), 6)


def _each(given: Any) -> list[Any]:
    """Return each of several values once, in their order; of none, None."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return list(dict.fromkeys(given)) or [None] if several else [given]


def _refuse_nothing(index: Index, pipeline: Pipeline) -> None:
    """Refuse an index in which, or in what is allowed of it, there is nothing to find."""
    if not len(index):
        raise InputError(
            "the index holds no rows, so that there is nothing to find",
            str(index.file.path),
            "at least one that is not dead",
            next_step="build it from vectors that can be used",
        )
    if not pipeline.rows:
        raise InputError(
            "no row is allowed, so that there is nothing to find",
            "`filter_ids` or `exclude_ids`",
            "ids of rows of the index",
        )


def _sizes(k: int | Sequence[int]) -> list[int]:
    """Return every k that is asked for once, ascending."""
    ks = sorted({k} if isinstance(k, int) else set(k))
    if not ks or ks[0] < 1:
        raise UsageError("too few hits wanted", "`k`", "at least 1", ",".join(map(str, ks)))
    return ks


def _of_index(index: Index, pipeline: Pipeline) -> dict[str, Any]:
    """Return what an evaluation tells of the index, and of how it is searched."""
    effort = pipeline.scope.effort or Effort(DEFAULT_TARGET_RECALL)
    return {
        "kind": index.file.header.kind,
        **({} if index.structure.exact else effort.given),
        "dim": index.dim,
        "bits": index.bits,
        "metric": index.metric,
        "method": index.binarizer.method if index.binarizer else None,
        "scoring": pipeline.scoring,
        "rescore": pipeline.rescorer.name if pipeline.rescorer else "none",
    }


def _read_queries(
    index: Index,
    queries: Vectors,
    column: str | None,
    id_column: str | None,
    options: SearchOptions,
) -> tuple[Queries, list[Any], bool, bool]:
    """Read all queries; return them, their ids or numbers, whether ids, and whether bits."""
    parts: list[Queries] = []
    names: list[Any] = []
    with open_queries(index, queries, column, id_column, options.packed, options.force) as source:
        for batch in source.batches():
            parts.append(prepare_batch(index, source, batch.vectors, source.locator(batch.start)))
            names += batch.id_list or []
        if not parts:
            raise InputError("there are no queries", source.name, "at least one", "none")
        everything = joined(parts)
        return everything, names or list(range(len(everything))), bool(names), source.packed
