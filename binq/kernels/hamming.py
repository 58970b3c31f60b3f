"""Exact Hamming search over row-major codes.

`topk`, `within` and `count_within` scan all codes for all queries of a call; results are in the
total order (distance, row) and the same at any number of threads.  Which kernel runs depends on
the CPU and the number of queries, see `source.hamming`; while no kernel is compiled and the work is
small, numpy is sooner done than the compiler and gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Bitmap, Chosen, Numbers
from binq.kernels.aot import compile as aot
from binq.kernels.lists import Lists, Visits
from binq.kernels.parts import Parts, distinct, edges_of
from binq.kernels.scan import (
    MAX_ROWS,
    NO_KEY,
    Engine,
    Scan,
    State,
    address,
    brief,
    capacity_of,
    checked_rows,
    passes,
    run,
    smallest,
)
from binq.kernels.scan import topk as smallest_keys
from binq.kernels.tables import looked_up
from binq.kernels.tasks import tasks_of

FAMILY = aot.Family("hamming")

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]
_C = TypeVar("_C", Codes, Parts, Codes | Parts)

# Word comparisons that numpy does while a compiler would run.
_NUMPY_WORK = 1 << 29
_NUMPY_ROWS = 1 << 14
_U64 = np.dtype(np.uint64)
_ROW = np.int64(0xFFFFFFFF)
_HALF = np.uint64(32)
_FAR = np.int32(np.iinfo(np.int32).max)


def _engine(work: int) -> Engine:
    return Engine(aot.worth_compiling(FAMILY, work, _NUMPY_WORK))


def _checked(codes: _C, queries: Codes) -> tuple[_C, Codes]:
    if len(codes.shape) != 2 or queries.ndim != 2 or codes.shape[1] != queries.shape[1]:
        raise ValueError(f"codes {codes.shape} and queries {queries.shape} differ in words")
    if codes.shape[1] == 0:
        raise ValueError("codes have no words")
    if queries.dtype != _U64 or (isinstance(codes, np.ndarray) and codes.dtype != _U64):
        raise TypeError("codes and queries are uint64")
    if isinstance(codes, np.ndarray) and not codes.flags.c_contiguous:
        raise ValueError("codes are not C-contiguous")
    if len(codes) > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} rows in one call")
    return codes, np.ascontiguousarray(queries)


def prepared(
    library: aot.Library,
    codes: Codes | Parts,
    queries: Codes,
    limits: Distances | np.int32,
    visits: Visits | None = None,
) -> Scan:
    """The scan that answers these queries soonest.

    Parameters
    ----------
    limits : (q,) int32, or one for all
        Hits are nearer.
    visits : Visits, optional
        The lists that the queries look at; all codes by default.
    """
    count, words = queries.shape
    # A few queries, and more the wider the rows, are faster answered row by row than by
    # transposing the codes for all of them; where bits are counted in registers, one is.
    counted = "scan_counts" in library.functions
    few = 1.5 if counted else max(1, min(words // 4, 4))
    name = "scan_counts" if counted else "scan_tables"
    if (count if visits is None else visits.shared) <= few or words > library.layout.get(
        f"{name}.max_words", 0
    ):
        name = "scan_rows"
    held: tuple[Any, ...] = (queries,)
    numbers: tuple[int, ...] = ()
    if name == "scan_tables":
        held = looked_up(queries)
        numbers = (len(held[-1]),)
    arguments = (*map(address, held), *numbers)
    return Scan(library, name, codes, count, arguments, limits, held)


def topk(
    codes: Codes | Parts,
    queries: Codes,
    k: int,
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
    numbers: Numbers | Sequence[Numbers] | None = None,
    lists: Lists | None = None,
    engine: Engine | None = None,
) -> tuple[Rows, Distances]:
    """The k nearest codes of every query.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous, or Parts
        May be a read-only memory map.
    queries : (q, words) uint64
        Tail bits are zero in both.
    k : int
        At least 0; more than n is n.
    threads : int
        Threads to use.
    spans : (s, 2) int64, optional
        Ranges of rows [first, last) to scan, ascending and disjoint; all rows by default.
    allowed : (ceil(n / 64),) uint64, optional
        Bit ``r % 64`` of word ``r // 64`` says whether row r may be returned; all by default.
    numbers : (n,) uint32, optional
        The number to return for the row at every place among the codes; by default, the place.
        Spans, bitmap and lists are of places. Of parts there is an array for each, with numbers
        that are counted from the first row of the part.
    lists : Lists, optional
        The codes that each query looks at, in place of `spans`; all by default.
    engine : Engine, optional
        What runs it; chosen by what is compiled.

    Returns
    -------
    rows : (q, min(k, n)) int64
    distances : (q, min(k, n)) int32
        Both in the order (distance, row). Where fewer than k rows are allowed, as many columns.
        Where a query finds fewer on its lists, row -1 and the largest int32 stand.

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or k do not fit.
    """
    codes, queries = _checked(codes, queries)
    if k < 0:
        raise ValueError(f"k is {k}")
    chosen = Chosen(len(codes), spans, allowed, numbers)
    k = min(k, chosen.count)
    work = codes.size * len(queries)
    if lists is not None:
        if spans is not None:
            raise ValueError("spans and lists")
        lists = lists.checked(len(queries))
        work = lists.visits.size * (codes.size // max(1, len(lists.offsets) - 1))
    engine = engine or _engine(work)
    best = np.empty((len(queries), k), _U64)
    if best.size == 0:
        return _split(best)
    if engine.library is None:
        for i, keys in _numpy_keys(codes, queries, chosen, lists):
            keys = smallest(keys, k)
            best[i, : len(keys)] = keys
            best[i, len(keys) :] = NO_KEY
    else:
        for part in passes(len(queries), capacity_of(k, chosen.count) * threads, engine):
            visits = None
            if lists is not None:
                visits = _visits(engine.library, lists, part, chosen)
            scan = prepared(engine.library, codes, queries[part], _FAR, visits)
            tasks = (
                tasks_of(scan, chosen, threads, engine)
                if visits is None
                else visits.tasks(scan, threads, engine)
            )
            best[part] = smallest_keys(scan, tasks, chosen, k, threads)
    rows, distances = _split(best)
    if lists is not None:
        missing = best == NO_KEY
        if missing.any():
            rows[missing] = -1
            distances[missing] = _FAR
    return rows, distances


def _visits(library: aot.Library, lists: Lists, part: slice, chosen: Chosen) -> Visits:
    some = lists._replace(visits=lists.visits[part])
    paired = "scan_tables" in library.functions
    return Visits(some, chosen.n, chosen.numbers is not None, paired)


def _split(keys: Codes) -> tuple[Rows, Distances]:
    return keys.view(np.int64) & _ROW, (keys >> _HALF).astype(np.int32)


def _numpy_keys(
    codes: Codes | Parts, queries: Codes, chosen: Chosen, lists: Lists | None = None
) -> Iterator[tuple[int, Codes]]:
    """The keys of all chosen rows for each query, by numpy."""
    those = rows = chosen.rows()
    numbers = chosen.every_number(edges_of(codes))
    keys = np.empty(len(rows), np.uint64)
    for i, query in enumerate(queries):
        if lists is not None:
            rows = lists.positions(i, len(codes))
            rows = rows[np.isin(rows, those)]
            keys = np.empty(len(rows), np.uint64)
        for first in range(0, len(rows), _NUMPY_ROWS):
            part = slice(first, first + _NUMPY_ROWS)
            keys[part] = np.bitwise_count(codes[rows[part]] ^ query).sum(axis=1)
        keys <<= _HALF
        keys |= (rows if numbers is None else numbers[rows]).astype(np.uint64)
        yield i, keys


def _limits(radii: npt.NDArray[Any], count: int, words: int) -> Distances:
    radii = np.asarray(radii)
    if radii.shape != (count,):
        raise ValueError(f"radii {radii.shape} for {count} queries")
    limits: Distances = (np.clip(radii, -1, 64 * words) + 1).astype(np.int32)
    return limits


def count_within(
    codes: Codes | Parts,
    queries: Codes,
    radii: npt.NDArray[Any],
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
    engine: Engine | None = None,
) -> Rows:
    """How many codes lie within each query's radius.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous, or Parts
    queries : (q, words) uint64
    radii : (q,) integer
        Distances up to and including the radius count; a negative radius finds nothing.
    threads : int
    spans, allowed, engine
        As in `topk`.

    Returns
    -------
    (q,) int64

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """
    codes, queries = _checked(codes, queries)
    limits = _limits(radii, len(queries), codes.shape[1])
    chosen = Chosen(len(codes), spans, allowed)
    engine = engine or _engine(codes.size * len(queries))
    counts = np.zeros(len(queries), np.int64)
    if engine.library is None:
        for i, keys in _numpy_keys(codes, queries, chosen):
            counts[i] = np.count_nonzero(keys >> _HALF < np.uint64(limits[i]))
        return counts
    for part in passes(len(queries), 1, engine):
        scan = prepared(engine.library, codes, queries[part], limits[part])
        tasks = tasks_of(scan, chosen, threads, engine)
        for state in run(scan, tasks, chosen, threads, 0, 0):
            counts[part] += state.found
    return counts


def within(
    codes: Codes | Parts,
    queries: Codes,
    radii: npt.NDArray[Any],
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
    numbers: Numbers | Sequence[Numbers] | None = None,
    engine: Engine | None = None,
) -> tuple[Rows, Rows, Distances]:
    """The codes within each query's radius.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous, or Parts
    queries : (q, words) uint64
    radii : (q,) integer
        Distances up to and including the radius count; a negative radius finds nothing.
    threads : int
    spans, allowed, numbers, engine
        As in `topk`.

    Returns
    -------
    lims : (q + 1,) int64
        The hits of query i are at ``lims[i]:lims[i + 1]``.
    rows : (hits,) int64
    distances : (hits,) int32
        Per query in the order (distance, row).

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """
    codes, queries = _checked(codes, queries)
    limits = _limits(radii, len(queries), codes.shape[1])
    chosen = Chosen(len(codes), spans, allowed, numbers)
    engine = engine or _engine(codes.size * len(queries))
    # (query, key) of all hits, block by block.
    pieces: list[tuple[Rows, Codes]] = []
    if engine.library is None:
        for i, keys in _numpy_keys(codes, queries, chosen):
            hits = keys[keys >> _HALF < np.uint64(limits[i])]
            pieces.append((np.full(len(hits), i), hits))
        return _joined(pieces, len(queries))
    for part in passes(len(queries), 1, engine):
        own = np.arange(part.start, part.stop)

        def collect(state: State, *call: int) -> None:
            state.run_whole(*call)
            filled = np.arange(state.keys.shape[1]) < state.found[:, None]
            pieces.append((np.repeat(own, state.found), state.keys[filled]))

        scan = prepared(engine.library, codes, queries[part], limits[part])
        tasks = tasks_of(scan, chosen, threads, engine)
        run(scan, tasks, chosen, threads, 64, 0, collect)
    return _joined(pieces, len(queries))


def _joined(pieces: list[tuple[Rows, Codes]], count: int) -> tuple[Rows, Rows, Distances]:
    owner = np.concatenate([np.empty(0, np.int64), *(piece[0] for piece in pieces)])
    keys = np.concatenate([np.empty(0, np.uint64), *(piece[1] for piece in pieces)])
    lims = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=count), out=lims[1:])
    return lims, *_split(keys[np.lexsort((keys, owner))])


def distances(
    codes: Codes | Parts, queries: Codes, rows: Rows, *, engine: Engine | None = None
) -> Distances:
    """The distances of some rows.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    queries : (q, words) uint64
    rows : (q, m) int64
        For each query, row numbers in ``range(n)``.
    engine : Engine, optional
        As in `topk`.

    Returns
    -------
    (q, m) int32

    Raises
    ------
    IndexError
        A row number is out of range.
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """
    codes, queries = _checked(codes, queries)
    rows = checked_rows(rows, len(queries), len(codes))
    if isinstance(codes, Parts):
        chosen, rows = distinct(rows)
        codes = codes[chosen]
    result = np.empty(rows.shape, np.int32)
    if rows.size == 0:
        return result
    engine = engine or _engine(rows.size * codes.shape[1])
    if engine.library is None:
        for i, query in enumerate(queries):
            result[i] = np.bitwise_count(codes[rows[i]] ^ query).sum(axis=1)
        return result
    measure = engine.library.functions["measure"]
    source = address(codes), codes.shape[1]
    for part in brief(len(queries), codes.shape[1] * rows.shape[1]):
        some = rows[part]
        found = address(some), rows.shape[1], address(result[part])
        measure(*source, address(queries[part]), len(some), *found)
    return result
