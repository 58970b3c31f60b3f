"""Exact Hamming search over row-major codes.

`topk`, `within` and `count_within` scan all codes for all queries of a call; results are in the
total order (distance, row) and the same at any number of threads.  Which kernel runs depends on
the CPU and the number of queries, see `source.hamming`; while no kernel is compiled and the work is
small, numpy is sooner done than the compiler and gives the same answer.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Bitmap, check, rows_of
from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.tables import sections, shared_bits
from binq.kernels.topk import MAX_ROWS, aligned, merged, passes, smallest

FAMILY = aot.Family(
    "hamming",
    "hamming",
    (
        "hamming",
        "rows",
        "columns",
        "select",
        "simd",
        "scalars",
        "counts",
        "features",
    ),
)

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]

# Must match `source.rows` and `source.hamming`.
_STREAM, _GROUP = 1024, 64
_COUNT_BLOCK = 128
_MAX_TABLE_WORDS = 255
# Word comparisons per block: a few tens of milliseconds at most, and more than a thread's start.
_WORK_PER_BLOCK = 1 << 26
_WORK_WORTH_A_THREAD = 1 << 21
# Word comparisons that numpy does while a compiler would run.
_NUMPY_WORK = 1 << 29
_NUMPY_ROWS = 1 << 14
_NOTHING = np.uint64(0xFFFFFFFFFFFFFFFF)


class _Kernels(NamedTuple):
    scan_rows: Any
    scan_tables: Any
    scan_counts: Any
    measure: Any
    lanes: int


@functools.cache
def _kernels(target: aot.Target) -> _Kernels:
    library = aot.load(FAMILY)
    pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
    span = (pointer, size, size, size)
    state = (pointer, pointer, pointer, size, size)
    tables = (pointer, pointer, pointer, size, pointer, size)
    counted = tabled = None
    if library.layout["counts"]:
        counted = library.function("scan_counts", *span, pointer, size, *state, pointer)
    if library.layout["tables"]:
        tabled = library.function("scan_tables", *span, *tables, *state, pointer)
    return _Kernels(
        library.function("scan_rows", *span, pointer, size, *state, pointer),
        tabled,
        counted,
        library.function("measure", pointer, size, pointer, size, pointer, size, pointer),
        library.layout["lanes"],
    )


def _checked(codes: Codes, queries: Codes) -> tuple[Codes, Codes]:
    if codes.ndim != 2 or queries.ndim != 2 or codes.shape[1] != queries.shape[1]:
        raise ValueError(f"codes {codes.shape} and queries {queries.shape} differ in words")
    if codes.shape[1] == 0:
        raise ValueError("codes have no words")
    if codes.dtype != np.uint64 or queries.dtype != np.uint64:
        raise TypeError("codes and queries are uint64")
    if not codes.flags.c_contiguous:
        raise ValueError("codes are not C-contiguous")
    if len(codes) > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} rows in one call")
    return codes, np.ascontiguousarray(queries)


class _Scan:
    """One pass over the codes for a set of queries: appends keys below the queries' limits."""

    def __init__(self, codes: Codes, queries: Codes) -> None:
        kernels = _kernels(aot.host_target())
        words = codes.shape[1]
        self.codes = codes
        self.count = len(queries)
        # A few queries, and more the wider the rows, are faster answered row by row than by
        # transposing the codes for all of them; where bits are counted in registers, one is.
        few = 1 if kernels.scan_counts is not None else max(1, min(words // 4, 4))
        if self.count <= few:
            kind, multiple = "rows", 1
        elif kernels.scan_counts is not None:
            kind, multiple = "counts", 4
        elif kernels.scan_tables is not None and words <= _MAX_TABLE_WORDS:
            kind, multiple = "tables", 2
        else:
            kind, multiple = "rows", 1
        self.padded = -(-self.count // multiple) * multiple
        self.queries = np.zeros((self.padded, words), np.uint64)
        self.queries[: self.count] = queries
        self.block = 1
        scratch = 8 * 2 * (_STREAM + _STREAM // _GROUP + 8)
        if kind == "counts":
            self.block = _COUNT_BLOCK
            scratch = 64 + 2 * self.block * words * 8
        elif kind == "tables":
            self.block = 4 * kernels.lanes
            ends, mask = sections(queries)
            self.queries ^= mask
            self._tables = shared_bits(self.queries)
            self._weights = np.bitwise_count(self.queries).sum(axis=1, dtype=np.int32)
            self._ends, self._mask = ends, mask
            scratch = 128 + 6 * self.block + 16 * words * self.block + self.block * words * 8
        self._scratch_words = scratch // 8
        self._kind, self._kernels = kind, kernels

    def scratch(self) -> Codes:
        """Memory that one worker needs."""
        return aligned(self._scratch_words, np.uint64)

    def blocks(self, threads: int) -> int:
        """Rows per block: short enough for Ctrl-C, and several for each thread."""
        work = int(self.padded * self.codes.shape[1])
        rows = min(_WORK_PER_BLOCK // work, len(self.codes) // (4 * max(1, threads)))
        rows = max(rows, _WORK_WORTH_A_THREAD // work, 16 * self.block, 256)
        return -(-rows // self.block) * self.block

    def run(self, first: int, last: int, state: _State, k: int, scratch: Codes) -> None:
        """Scan the rows ``[first, last)``."""
        codes = self.codes
        span = (codes.ctypes.data, codes.shape[1], first, last)
        outcome = (
            state.limits.ctypes.data,
            state.found.ctypes.data,
            state.keys.ctypes.data,
            state.keys.shape[1],
            k,
        )
        if self._kind == "tables":
            self._kernels.scan_tables(
                *span,
                self._mask.ctypes.data,
                self._tables.ctypes.data,
                self._weights.ctypes.data,
                self.padded,
                self._ends.ctypes.data,
                len(self._ends),
                *outcome,
                scratch.ctypes.data,
            )
        else:
            counted = self._kind == "counts"
            scan = self._kernels.scan_counts if counted else self._kernels.scan_rows
            scan(*span, self.queries.ctypes.data, self.padded, *outcome, scratch.ctypes.data)


class _State:
    """What one worker has found: `keys` (queries, capacity), of which `found` are filled."""

    def __init__(self, limits: Distances, capacity: int) -> None:
        self.limits = limits.copy()
        self.found = np.zeros(len(limits), np.int64)
        self.keys = np.empty((len(limits), capacity), np.uint64)


def topk(
    codes: Codes,
    queries: Codes,
    k: int,
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
) -> tuple[Rows, Distances]:
    """The k nearest codes of every query.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
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

    Returns
    -------
    rows : (q, min(k, n)) int64
    distances : (q, min(k, n)) int32
        Both in the order (distance, row). Where fewer than k rows are allowed, as many columns.

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or k do not fit.
    """
    codes, queries = _checked(codes, queries)
    if k < 0:
        raise ValueError(f"k is {k}")
    if spans is not None or allowed is not None:
        check(len(codes), spans, allowed)
        chosen = rows_of(len(codes), spans, allowed)
        found, away = topk(codes[chosen], queries, k, threads)
        return chosen[found], away
    n, words = codes.shape
    k = min(k, n)
    rows = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.int32)
    if rows.size == 0:
        return rows, distances
    if not aot.worth_compiling(FAMILY, n * len(queries) * words, _NUMPY_WORK):
        for i, query in enumerate(queries):
            keys = _numpy_keys(codes, query)
            rows[i], distances[i] = _split(smallest(keys, k))
        return rows, distances
    # Room for one more group of hits, and for enough of them to make cutting back rare.
    capacity = min(n + 64, k + max(k // 2, 64))
    for part in passes(len(queries), capacity * threads):
        scan = _Scan(codes, queries[part])
        limits = _padded(np.full(scan.count, np.iinfo(np.int32).max, np.int32), scan.padded)
        per_block = scan.blocks(threads)
        count = -(-n // per_block)
        workers = max(1, min(threads, count))
        states = [_State(limits, capacity) for _ in range(workers)]
        scratches = [scan.scratch() for _ in range(workers)]

        def work(worker: int, block: int) -> None:
            first = block * per_block
            last = min(first + per_block, n)
            scan.run(first, last, states[worker], k, scratches[worker])

        run_blocks(count, threads, work)
        best = merged(
            [state.keys for state in states], [state.found for state in states], scan.count, k
        )
        rows[part], distances[part] = _split(best)
    return rows, distances


def _split(keys: Codes) -> tuple[Codes, Codes]:
    return keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)


def _numpy_keys(codes: Codes, query: Codes) -> Codes:
    keys = np.empty(len(codes), np.uint64)
    for first in range(0, len(codes), _NUMPY_ROWS):
        block = codes[first : first + _NUMPY_ROWS]
        keys[first : first + len(block)] = np.bitwise_count(block ^ query).sum(axis=1)
    keys <<= np.uint64(32)
    keys |= np.arange(len(codes), dtype=np.uint64)
    return keys


def _limits(radii: npt.NDArray[Any], count: int, words: int) -> Distances:
    radii = np.asarray(radii)
    if radii.shape != (count,):
        raise ValueError(f"radii {radii.shape} for {count} queries")
    limits: Distances = (np.clip(radii, -1, 64 * words) + 1).astype(np.int32)
    return limits


def count_within(
    codes: Codes,
    queries: Codes,
    radii: npt.NDArray[Any],
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
) -> Rows:
    """How many codes lie within each query's radius.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    queries : (q, words) uint64
    radii : (q,) integer
        Distances up to and including the radius count; a negative radius finds nothing.
    threads : int
    spans, allowed
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
    if spans is not None or allowed is not None:
        check(len(codes), spans, allowed)
        codes = codes[rows_of(len(codes), spans, allowed)]
    limits = _limits(radii, len(queries), codes.shape[1])
    counts = np.empty(len(queries), np.int64)
    n, words = codes.shape
    if not aot.worth_compiling(FAMILY, n * len(queries) * words, _NUMPY_WORK):
        for i, query in enumerate(queries):
            found = _numpy_keys(codes, query) >> np.uint64(32)
            counts[i] = np.count_nonzero(found < np.uint64(limits[i]))
        return counts
    for part in passes(len(queries), 1):
        scan = _Scan(codes, queries[part])
        state_limits = _padded(limits[part], scan.padded)
        states = [_State(state_limits, 0) for _ in range(max(1, threads))]
        scratches = [scan.scratch() for _ in states]
        per_block = scan.blocks(threads)

        def work(worker: int, block: int) -> None:
            first = block * per_block
            scan.run(first, min(first + per_block, n), states[worker], 0, scratches[worker])

        run_blocks(-(-n // per_block), threads, work)
        counts[part] = sum(state.found[: scan.count] for state in states)
    return counts


def within(
    codes: Codes,
    queries: Codes,
    radii: npt.NDArray[Any],
    threads: int = 1,
    *,
    spans: Rows | None = None,
    allowed: Bitmap | None = None,
) -> tuple[Rows, Rows, Distances]:
    """The codes within each query's radius.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    queries : (q, words) uint64
    radii : (q,) integer
        Distances up to and including the radius count; a negative radius finds nothing.
    threads : int
    spans, allowed
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
    if spans is not None or allowed is not None:
        check(len(codes), spans, allowed)
        chosen = rows_of(len(codes), spans, allowed)
        lims, found, away = within(codes[chosen], queries, radii, threads)
        return lims, chosen[found], away
    n, words = codes.shape
    limits = _limits(radii, len(queries), words)
    pieces: list[tuple[Rows, Codes]] = []
    if not aot.worth_compiling(FAMILY, n * len(queries) * words, _NUMPY_WORK):
        for i, query in enumerate(queries):
            keys = _numpy_keys(codes, query)
            keys = keys[keys >> np.uint64(32) < np.uint64(limits[i])]
            pieces.append((np.full(len(keys), i, np.int64), keys))
    else:
        for part in passes(len(queries), 1):
            pieces += _collect(codes, queries[part], limits[part], part.start, threads)
    owner = np.concatenate([np.empty(0, np.int64), *(piece[0] for piece in pieces)])
    keys = np.concatenate([np.empty(0, np.uint64), *(piece[1] for piece in pieces)])
    order = np.lexsort((keys, owner))
    lims = np.zeros(len(queries) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=len(queries)), out=lims[1:])
    rows, distances = _split(keys[order])
    return lims, rows.astype(np.int64), distances.astype(np.int32)


def _collect(
    codes: Codes, queries: Codes, limits: Distances, start: int, threads: int
) -> list[tuple[Rows, Codes]]:
    """(query, key) of all hits, block by block; queries are numbered from `start`."""
    n = len(codes)
    scan = _Scan(codes, queries)
    state_limits = _padded(limits, scan.padded)
    states = [_State(state_limits, 64) for _ in range(max(1, threads))]
    scratches = [scan.scratch() for _ in states]
    per_block = scan.blocks(threads)
    pieces = []

    def work(worker: int, block: int) -> None:
        first = block * per_block
        last = min(first + per_block, n)
        state = states[worker]
        state.found[:] = 0
        scan.run(first, last, state, 0, scratches[worker])
        most = int(state.found.max())
        if most > state.keys.shape[1]:
            # Hits beyond the capacity were only counted: once more, with room for all.
            state = states[worker] = _State(state_limits, most)
            scan.run(first, last, state, 0, scratches[worker])
        filled = np.arange(state.keys.shape[1]) < state.found[:, None]
        owner = np.repeat(np.arange(start, start + scan.padded), state.found)
        pieces.append((owner, state.keys[filled]))

    run_blocks(-(-n // per_block), threads, work)
    return pieces


def _padded(limits: Distances, count: int) -> Distances:
    # A limit of 0 finds nothing: for the queries that only fill up a group.
    padded = np.zeros(count, np.int32)
    padded[: len(limits)] = limits
    return padded


def distances(codes: Codes, queries: Codes, rows: Rows) -> Distances:
    """The distances of some rows.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    queries : (q, words) uint64
    rows : (q, m) int64
        For each query, row numbers in ``range(n)``.

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
    rows = np.ascontiguousarray(rows, np.int64)
    if rows.ndim != 2 or len(rows) != len(queries):
        raise ValueError(f"rows {rows.shape} for {len(queries)} queries")
    if rows.size and (rows.min() < 0 or rows.max() >= len(codes)):
        raise IndexError(f"row numbers {rows.min()} to {rows.max()} of {len(codes)} rows")
    result = np.empty(rows.shape, np.int32)
    if rows.size == 0:
        return result
    if not aot.worth_compiling(FAMILY, rows.size * codes.shape[1], _NUMPY_WORK):
        for i, query in enumerate(queries):
            result[i] = np.bitwise_count(codes[rows[i]] ^ query).sum(axis=1)
        return result
    _kernels(aot.host_target()).measure(
        codes.ctypes.data,
        codes.shape[1],
        queries.ctypes.data,
        len(queries),
        rows.ctypes.data,
        rows.shape[1],
        result.ctypes.data,
    )
    return result
