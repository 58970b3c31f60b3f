"""The sweep: corpus and queries in, what every way of binarizing them costs out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import numpy as np

from binq.errors import Marked, UsageError
from binq.io.streams import refuse_stdin_twice
from binq.similarity import scores
from binq.sweeping import baselines
from binq.sweeping.data import SweepData, read_data
from binq.sweeping.measure import STORED, Setting, measure, nearest_rows, stored_rows
from binq.sweeping.plan import Trial, about_lists, plan, sensible
from binq.sweeping.recommend import (
    DEFAULT_MINUTES,
    DEFAULT_TARGET,
    Recommender,
    compare,
    with_pareto,
)
from binq.sweeping.results import OVERSAMPLES, Row, Sweep
from binq.threads import limited
from binq.types import DEFAULT_SAMPLE, METRICS, SCORINGS, Metric, Progress, Scoring, Vectors

_WORST: Final = 20


def sweep(
    vectors: Vectors,
    queries: Vectors | None = None,
    *,
    metric: Metric = "cosine",
    k: int = 10,
    methods: str | Sequence[str] | None = None,
    bits: int | Sequence[int] | None = None,
    scorings: Sequence[Scoring] = SCORINGS,
    oversamples: Sequence[float] = OVERSAMPLES,
    train_queries: Vectors | None = None,
    target_recall: float = DEFAULT_TARGET,
    max_minutes: float = DEFAULT_MINUTES,
    with_peers: bool = True,
    seed: int = 0,
    sample: int = DEFAULT_SAMPLE,
    column: str | None = None,
    id_column: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure which binarizer, size, scoring and oversample reach which recall.

    Nothing is fitted on queries. Binarizers are fitted on the rows that they encode, as
    ``binq build`` does.

    Parameters
    ----------
    vectors : path, list of paths, "-" or (n, dim) array
        The corpus.
    queries : path, list of paths, "-" or (q, dim) array, optional
        Without them (and without ``train_queries``) rows held out of the corpus stand in.
    metric : {"cosine", "ip", "l2"}
    k : int
        Recall is that of the best k.
    methods : str or sequence of str, optional
        Of :data:`binq.METHODS`; default :data:`binq.sweeping.plan.DEFAULT_METHODS`.
    bits : int or sequence of int, optional
        Widths of codes; default by the dimension, see :func:`binq.sweeping.plan.default_widths`.
        A method that gives one bit per dimension gives fewer by truncating the vectors.
    scorings : sequence of {"hamming", "asymmetric"}
    oversamples : sequence of float
        At least 1 each.
    train_queries : path, list of paths or array, optional
        Queries that the recommendation is chosen on, so that the figures of ``queries`` are not
        those it was chosen by. Those equal to a query are left out. Without ``queries`` they are
        split by a hash of their ids: one half chooses, the other is reported on.
    target_recall : float
        What the recommendation shall reach, above 0 and at most 1.
    max_minutes : float
        Where the corpus is larger than ``sample``, what is to be recommended is measured again on
        all rows if that takes so many minutes at most; else its recall is extrapolated to them.
    with_peers : bool
        Compare with faiss where it is installed.
    seed, sample : int
        At most ``sample`` rows of the corpus are swept over and fitted on, drawn with ``seed``.
    column, id_column : str, optional
        Columns to read, where they are not found by themselves: of whatever comes with columns.
    threads : int, optional
        Default: as many as the process may use.
    progress : callable, optional
        Called with (steps done, steps in all).

    Returns
    -------
    Sweep

    Raises
    ------
    UsageError, InputError
    """
    refuse_stdin_twice(vectors=vectors, queries=queries, train_queries=train_queries)
    _check(metric, k, scorings, oversamples, target_recall, max_minutes, seed, sample)
    with limited(threads) as count, ExitStack() as stack:
        data = read_data(
            vectors,
            queries,
            train_queries,
            stack,
            metric=metric,
            sample=sample,
            seed=seed,
            column=column,
            id_column=id_column,
        )
        trials, left_out = plan(data.raw.shape[1], methods, bits)
        oversamples, too_many = sensible(len(data.raw), k, oversamples)
        notes = data.notes + left_out + too_many + about_lists(data.total)
        others = _baselines(data, trials) if with_peers else []
        if others:
            notes.append(baselines.NOTE)
        works = _works(trials, others)
        steps = _Steps(progress, len(works) + 2)
        begun = time.perf_counter()
        truth = nearest_rows(data.queries, data.corpus, k, metric)
        took = time.perf_counter() - begun
        setting = Setting(data, truth, metric, k, scorings, oversamples, seed, sample, count, took)
        steps.done()
        rows: list[Row] = []
        for work in works:
            rows += work(setting)
            steps.done()
        found = with_pareto(rows)
        files, name = (vectors, data.column) if data.from_file else (None, None)
        recommender = Recommender(setting, target_recall, files, name, max_minutes, steps.more)
        chosen = recommender.recommend(found)
        steps.done()
        comparison, doubt = compare(found, chosen, setting)
        if doubt is not None:
            notes.append(doubt)
        if train_queries is None:
            notes.append(
                "the recommendation was chosen on the queries that it is reported on, which "
                "flatters it a little; `train_queries` take others"
            )
        facts = _facts(setting, target_recall)
        return Sweep(
            facts, found, chosen, comparison, list(map(Marked, notes)), _worst(chosen.row, setting)
        )


def _baselines(data: SweepData, trials: Sequence[Trial]) -> list[tuple[str, int]]:
    """Return the baselines that take as many bytes as the trials."""
    rows, dim = data.raw.shape
    return baselines.planned(dim, rows, sorted({trial.bits for trial in trials}))


def _works(
    trials: Sequence[Trial], others: Sequence[tuple[str, int]]
) -> list[Callable[[Setting], Iterable[Row]]]:
    """Return what yields the rows of the table, one binarizer or baseline after another."""
    return [
        *(partial(measure, trial) for trial in trials),
        *(partial(stored_rows, method) for method in STORED),
        *(partial(baselines.measure, kind, size) for kind, size in others),
    ]


class _Steps:
    """Tells how far a sweep is: steps done, of steps in all, of which there may come to be more."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._done, self._total = 0, total
        self._tell()

    def done(self) -> None:
        """Count a step."""
        self._done += 1
        self._tell()

    def more(self) -> None:
        """Count a step that nobody knew would be taken."""
        self._total += 1
        self.done()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total)


def _facts(setting: Setting, target_recall: float) -> dict[str, Any]:
    data = setting.data
    return {
        "n": data.total,
        "swept": len(data.raw),
        "queries": int(data.reported.sum()),
        "distinct_queries": len(np.unique(data.groups[data.reported])),
        "choosing_queries": int(data.choosing.sum()),
        "held_out": data.held_out,
        "dim": data.raw.shape[1],
        "metric": setting.metric,
        "k": setting.k,
        "target_recall": target_recall,
        "seed": setting.seed,
        "threads": setting.threads,
    }


def _check(
    metric: str,
    k: int,
    scorings: Sequence[str],
    oversamples: Sequence[float],
    target: float,
    minutes: float,
    seed: int,
    sample: int,
) -> None:
    known = bool(scorings) and set(scorings) <= set(SCORINGS)
    enough = all(1 <= x < math.inf for x in oversamples)
    for right, *message in (
        (metric in METRICS, "unknown metric", "`metric`", ", ".join(METRICS), metric),
        (k >= 1, "too few hits wanted", "`k`", "at least 1", k),
        (known, "unknown scoring", "scorings", ", ".join(SCORINGS), ", ".join(scorings)),
        (enough, "too few candidates", "oversamples", "at least 1", list(oversamples)),
        (0 < target <= 1, "no such recall", "`target_recall`", "above 0, at most 1", target),
        (minutes >= 0, "no such time", "`max_minutes`", "at least 0", minutes),
        (seed >= 0, "the seed is negative", "`seed`", "at least 0", seed),
        (sample >= 1, "the sample is empty", "`sample`", "at least 1", sample),
    ):
        if not right:
            raise UsageError(*map(str, message))


def _worst(row: Row, setting: Setting) -> list[dict[str, Any]]:
    """Return the queries whose neighbours the codes of a row find least."""
    data = setting.data
    most = max(row.rescored_per_query, default=None)
    deep = row.per_query if most is None else row.rescored_per_query[most]
    numbers = np.flatnonzero(data.reported)
    order = np.lexsort((numbers, deep[numbers], row.per_query[numbers]))
    few = numbers[order[:_WORST]]
    near = scores(data.queries[few], data.corpus[setting.truth[few]], setting.metric)
    return [
        {
            "query": data.query_ids[number],
            "recall": float(row.per_query[number]),
            "rescored": None if most is None else float(deep[number]),
            "oversample": most,
            "first_score": float(values[0]),
            "last_score": float(values[-1]),
        }
        for number, values in zip(few, near, strict=True)
    ]
