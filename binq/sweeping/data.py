"""Reading what a sweep runs on: a sample of the corpus, and queries that nothing is fitted on."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.errors import InputError
from binq.evaluation.statistics import equal_rows, hold_out
from binq.similarity import comparable
from binq.types import Metric, Vectors
from binq.vectors import VectorSource, has_columns, open_vectors
from binq.vectors.sample import rewindable

HELD_OUT: Final = 1000
MOST_QUERIES: Final = 10_000


@dataclass(frozen=True, eq=False)
class SweepData:
    """Corpus and queries.

    Attributes
    ----------
    total : int
        Rows of the corpus as it came.
    raw : (n, dim) float32
        The rows that are swept over, as they came: what a build would encode.
    corpus : (n, dim) float32
        The same as they are compared: normalised under cosine.
    rows : (n,) int64
        Where they stand in the corpus as it came.
    queries : (q, dim) float32
        Normalised under cosine.
    query_ids : list
    choosing : (q,) bool
        Queries that the recommendation is chosen on.
    reported : (q,) bool
        Queries that figures are reported on; the same as ``choosing`` without train queries.
    groups : (q,) int64
        Equal queries have one number.
    held_out : bool
        Whether the queries are rows held out of the corpus.
    source : VectorSource
        The whole corpus, to be read again.
    sampled : bool
        Whether it holds rows that were not drawn.
    from_file : bool
        Whether it came as files that single rows can be fetched from, as ``rescore_from`` does.
    column : str or None
        By which name its vectors were chosen.
    read_seconds : float
        How long it took to read it once.
    notes : list of str
    """

    total: int
    raw: NDArray[np.float32]
    corpus: NDArray[np.float32]
    rows: NDArray[np.int64]
    queries: NDArray[np.float32]
    query_ids: list[Any]
    choosing: NDArray[np.bool_]
    reported: NDArray[np.bool_]
    groups: NDArray[np.int64]
    held_out: bool
    source: VectorSource
    sampled: bool
    from_file: bool
    column: str | None
    read_seconds: float
    notes: list[str]


@dataclass(frozen=True, eq=False)
class _Read:
    total: int
    raw: NDArray[np.float32]
    unit: NDArray[np.float32]
    rows: NDArray[np.int64]
    ids: list[Any]

    def part(self, chosen: NDArray[np.int64]) -> _Read:
        return _Read(
            self.total,
            self.raw[chosen],
            self.unit[chosen],
            self.rows[chosen],
            [self.ids[row] for row in chosen],
        )


class _Names:
    """Names of columns, which hold for whatever comes with columns.

    Where nothing does, opening the first refuses them.
    """

    def __init__(self, column: str | None, id_column: str | None, *every: Vectors | None) -> None:
        self._names = (column, id_column)
        self._known = any(given is not None and has_columns(given) for given in every)

    def of(self, given: Vectors) -> tuple[str | None, str | None]:
        """Return those that hold for some vectors."""
        return self._names if has_columns(given) or not self._known else (None, None)

    def open(self, given: Vectors) -> VectorSource:
        """Open vectors by the names that hold for them."""
        column, id_column = self.of(given)
        return open_vectors(given, column=column, id_column=id_column)


def read_data(
    vectors: Vectors,
    queries: Vectors | None,
    train_queries: Vectors | None,
    stack: ExitStack,
    *,
    metric: Metric,
    sample: int,
    seed: int,
    column: str | None = None,
    id_column: str | None = None,
) -> SweepData:
    """Read corpus and queries, holding rows out where there are no queries.

    The corpus stays open until ``stack`` ends.

    Raises
    ------
    InputError
        If something cannot be used: bits, too few rows, no queries, another dimension.
    """
    notes: list[str] = []
    names = _Names(column, id_column, vectors, queries, train_queries)
    held_out = queries is None and train_queries is None
    room = sample + (HELD_OUT if held_out else 0)
    given = stack.enter_context(names.open(vectors))
    from_file = not isinstance(vectors, np.ndarray) and given.rewindable and given.rows is not None
    source, total = _rewindable(given, stack)
    begun = time.perf_counter()
    read = _read(source, total, metric, room, seed)
    read_seconds = time.perf_counter() - begun
    sampled = len(read.raw) < total
    if not len(read.raw):
        raise InputError("there is nothing to sweep over", "VECTORS", "at least one row", "none")
    if held_out:
        read, asked = _hold_out(read, seed)
        notes.append(
            f"no queries were given: {len(asked.raw):,} rows held out of the corpus stand in; "
            "real queries often differ from documents, and then recall does too"
        )
        choosing = np.ones(len(asked.raw), np.bool_)
        reported = choosing
    else:
        asked, choosing, reported = _queries(queries, train_queries, metric, seed, names, notes)
    if asked.raw.shape[1] != read.raw.shape[1]:
        raise InputError(
            "the queries have another dimension than the corpus",
            "QUERIES",
            str(read.raw.shape[1]),
            str(asked.raw.shape[1]),
            "encode both with one model",
        )
    if sampled:
        notes.append(f"swept over {len(read.raw):,} of {total:,} rows, drawn with seed {seed}")
    groups = equal_rows(asked.unit)
    if choosing is not reported:
        choosing = choosing & ~np.isin(groups, groups[reported])
        if not choosing.any():
            raise InputError(
                "every train query equals a query", "`train_queries`", "others", "the same"
            )
    distinct = len(np.unique(groups[reported]))
    if distinct < int(reported.sum()):
        notes.append(
            f"{int(reported.sum()) - distinct:,} queries equal others; "
            "intervals count equal queries once"
        )
    return SweepData(
        read.total,
        read.raw,
        read.unit,
        read.rows,
        asked.unit,
        asked.ids,
        choosing,
        reported,
        groups,
        held_out,
        source,
        sampled,
        from_file,
        names.of(vectors)[0],
        read_seconds,
        notes,
    )


def _rewindable(source: VectorSource, stack: ExitStack) -> tuple[VectorSource, int]:
    """Return floats that can be read twice, and their row count."""
    if source.packed:
        raise InputError("a sweep needs float vectors", source.name, "floats", "packed bits")
    return rewindable(source, Path(tempfile.gettempdir()), stack)


def _read(source: VectorSource, total: int, metric: Metric, most: int, seed: int) -> _Read:
    """Read all rows, or ``most`` of them drawn with ``seed``, in order."""
    chosen = np.ones(total, np.bool_)
    if most < total:
        chosen[:] = False
        chosen[np.random.default_rng(seed).choice(total, most, replace=False)] = True
    raw: list[NDArray[np.float32]] = []
    unit: list[NDArray[np.float32]] = []
    ids: list[str | int] = []
    for batch in source.batches():
        mine = chosen[batch.start : batch.start + len(batch.vectors)]
        rows = batch.vectors[mine]
        raw.append(rows)
        numbers = batch.start + np.flatnonzero(mine)
        ready = comparable(rows, metric, partial(_locate, source, numbers))
        if metric == "cosine":
            unit.append(ready)
        ids += compress(batch.id_list or (), mine)
    rows = np.flatnonzero(chosen).astype(np.int64)
    whole = np.concatenate(raw) if raw else np.empty((0, source.dim or 0), np.float32)
    compared = np.concatenate(unit) if unit else whole
    return _Read(total, whole, compared, rows, ids or rows.tolist())


def _locate(source: VectorSource, numbers: NDArray[np.int64], row: int) -> str:
    return source.locate(int(numbers[row]))


def _hold_out(read: _Read, seed: int) -> tuple[_Read, _Read]:
    """Take rows out to be queries, and with a row all rows that are equal to it."""
    groups = equal_rows(read.unit)
    count = int(groups.max()) + 1
    wanted = min(HELD_OUT, count // 5)
    if wanted < 1:
        raise InputError(
            "there are too few rows to hold some out",
            "VECTORS",
            "at least 5 that differ",
            str(count),
            "give QUERIES",
        )
    kept, asking = hold_out(groups, wanted, seed)
    return read.part(kept), read.part(asking)


def _queries(
    queries: Vectors | None,
    train_queries: Vectors | None,
    metric: Metric,
    seed: int,
    names: _Names,
    notes: list[str],
) -> tuple[_Read, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the queries, which of them choose, and which are reported on."""
    parts = []
    for what, given in (("QUERIES", queries), ("`train_queries`", train_queries)):
        if given is None:
            continue
        with ExitStack() as stack:
            again, total = _rewindable(stack.enter_context(names.open(given)), stack)
            read = _read(again, total, metric, MOST_QUERIES, seed)
        if not len(read.raw):
            raise InputError("there are no queries", what, "at least one", "none")
        if len(read.raw) < read.total:
            notes.append(f"{len(read.raw):,} of {read.total:,} {what} were drawn with seed {seed}")
        parts.append(read)
    if len(parts) == 1 and train_queries is None:
        everyone = np.ones(len(parts[0].raw), np.bool_)
        return parts[0], everyone, everyone
    if len(parts) == 1:
        reported = np.array([_odd(name) for name in parts[0].ids], np.bool_)
        if reported.all() or not reported.any():
            raise InputError(
                "there are too few queries to split", "`train_queries`", "more", str(len(reported))
            )
        notes.append(
            "`train_queries` were split by a hash of their ids: "
            f"{int((~reported).sum()):,} choose, {int(reported.sum()):,} are reported on"
        )
        return parts[0], ~reported, reported
    test, train = parts
    if test.raw.shape[1] != train.raw.shape[1]:
        raise InputError(
            "the train queries have another dimension than the queries",
            "`train_queries`",
            str(test.raw.shape[1]),
            str(train.raw.shape[1]),
        )
    groups = equal_rows(np.concatenate([test.unit, train.unit]))
    fresh = np.flatnonzero(~np.isin(groups[len(test.raw) :], groups[: len(test.raw)]))
    if not fresh.size:
        raise InputError(
            "the train queries are the queries",
            "`train_queries`",
            "others",
            "the same",
            "leave out QUERIES to have one file split",
        )
    if fresh.size < len(train.raw):
        notes.append(
            f"{len(train.raw) - fresh.size:,} train queries equal queries, and were left out"
        )
    kept = train.part(fresh)
    reported = np.arange(len(test.raw) + len(kept.raw)) < len(test.raw)
    both = _Read(
        test.total,
        np.concatenate([test.raw, kept.raw]),
        np.concatenate([test.unit, kept.unit]),
        np.concatenate([test.rows, kept.rows]),
        [*test.ids, *kept.ids],
    )
    return both, ~reported, reported


def _odd(name: str | int) -> bool:
    return bool(xxhash.xxh3_64_intdigest(str(name).encode()) & 1)
