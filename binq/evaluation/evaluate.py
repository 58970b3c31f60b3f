"""How much recall was lost: searches judged against exact float32 neighbours and judgements."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from binq.errors import CheckFailed, InputError, UsageError
from binq.evaluation.judge import Judge, OwnRows
from binq.evaluation.qrels import read_qrels
from binq.evaluation.truth import true_neighbours
from binq.index.index import Index
from binq.index.stream import open_queries, prepare_batch
from binq.io.outputs import refuse_overwrites
from binq.io.streams import refuse_stdin_twice
from binq.search.options import SearchOptions, SearchSettings
from binq.search.pipeline import Pipeline
from binq.structures.queries import Queries, joined
from binq.threads import limited
from binq.types import Progress, Vectors
from binq.version import __version__

_TIMED_QUERIES: Final = 100
BY_TRUTH: Final = ("recall", "candidate_recall", "recall_expected")
BY_QRELS: Final = ("nDCG", "R", "RR", "AP")


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
    query_ids : list of str or of int
        One per query.
    per_query : dict of str to (q,) float64
        The same metrics for every query; NaN where a query has none.
    """

    facts: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    latency_ms: dict[str, Any]
    query_ids: list[Any]
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
                    "that metric was not evaluated", f"`fail_under={name}`", ", ".join(self.metrics)
                )
            value = self.metrics[name]["value"]
            if value < floor:
                raise CheckFailed(f"{name} is too low", "", f"at least {floor}", f"{value:.4f}")


def parse_floors(
    texts: Sequence[str], ks: Sequence[int], *, truth: bool = True, qrels: bool = False
) -> dict[str, float]:
    """Read floors such as ``recall@10=0.95``.

    Raises
    ------
    UsageError
        If one is not of that form, its metric is not one of those that are evaluated by a truth or
        by qrels, whichever there are, or its k is not among ``ks``.
    """
    floors = {}
    known = BY_TRUTH * truth + BY_QRELS * qrels
    for text in texts:
        match = re.fullmatch(r"([^=\s]+@(\d+))=([0-9.eE+-]+)", text)
        try:
            floors[match[1]] = float(match[3])  # type: ignore[index]
        except (TypeError, ValueError):
            raise UsageError(
                "not a floor", f"`fail_under={text}`", "METRIC@K=VALUE, such as recall@10=0.95"
            ) from None
        assert match is not None
        name = match[1].partition("@")[0]
        if name not in known:
            needed = {**dict.fromkeys(BY_TRUTH, "truth"), **dict.fromkeys(BY_QRELS, "qrels")}
            raise UsageError(
                "that metric is not evaluated",
                f"`fail_under={text}`",
                "one of " + ", ".join(known),
                name,
                f"give `{needed[name]}`" if name in needed else "",
            )
        if int(match[2]) not in ks:
            raise UsageError(
                "that k is not evaluated",
                f"`fail_under={text}`",
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
    k: int | Sequence[int] = (1, 10, 100),
    qrels: str | os.PathLike[str] | None = None,
    exclude_self: bool = False,
    cache_truth: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    column: str | None = None,
    id_column: str | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SearchSettings],
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
        Called with (queries done, queries in all).
    settings
        The fields of :class:`binq.search.options.SearchOptions`. With a filter, or deleted rows,
        the truth too is of the allowed rows.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError, InputError, IndexFileError, EnvironmentFailure
    """
    options = SearchOptions(**settings)
    refuse_stdin_twice(
        queries=queries,
        truth=truth,
        filter_ids=options.filter_ids,
        exclude_ids=options.exclude_ids,
    )
    ks = _sizes(k)
    if truth is None and qrels is None:
        raise UsageError("there is nothing to judge by", next_step="give `truth` or `qrels`")
    if cache_truth is not None and truth is None:
        raise UsageError("`cache_truth` goes with `truth`", next_step="give `truth`")
    refuse_overwrites(
        {"`cache_truth`": (cache_truth, "kept neighbours")},
        *(
            index.file.path if isinstance(index, Index) else index,
            queries,
            truth,
            qrels,
            *options.paths,
        ),
        overwrite=overwrite,
    )
    ix = index if isinstance(index, Index) else Index(index)
    judgements = None if qrels is None else read_qrels(qrels)
    with limited(options.threads) as count, ExitStack() as stack:
        prepared, query_ids, named, packed = _read_queries(ix, queries, column, id_column, options)
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
        judge = Judge(pipeline, prepared, own, neighbours, progress)
        for size in ks:
            judge.at(size)
            if judgements is not None:
                judge.by_qrels(judgements, query_ids, size)
        latency = _latency(pipeline, prepared, 10 if 10 in ks else ks[-1])
        facts = {
            "n": len(ix),
            "allowed": pipeline.rows,
            "queries": len(prepared),
            **_of_index(ix, pipeline),
            "oversample": options.factor if pipeline.rescorer else None,
            "mean_depth": {
                str(size): float(np.mean(counts)) for size, counts in judge.rescored.items()
            },
            "k": ks,
            "exclude_self": exclude_self,
            "threads": count,
        }
    return Evaluation(facts, judge.metrics, latency, query_ids, judge.per_query)


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
    return {
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


def _latency(pipeline: Pipeline, queries: Queries, k: int) -> dict[str, Any]:
    """Time single queries, spread evenly over all, after one that is not counted."""
    numbers = np.linspace(0, len(queries) - 1, min(len(queries), _TIMED_QUERIES)).astype(int)
    times = []
    for number in [numbers[0], *numbers]:
        one = queries.part(slice(number, number + 1))
        begun = time.perf_counter()
        pipeline.search(one, k)
        times.append(1000 * (time.perf_counter() - begun))
    taken = np.array(times[1:])
    return {
        "median": round(float(np.median(taken)), 4),
        "p95": round(float(np.percentile(taken, 95)), 4),
        "k": k,
        "queries": len(taken),
    }
