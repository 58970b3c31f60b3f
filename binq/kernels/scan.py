"""The loop over blocks of rows, threads and their memory, the same for every scan.

A compiled scan takes a table of tasks, each a span of the codes and the queries of a batch that
are to be answered over it, its members.  What it finds is kept per worker, in `State`; hits are
keys, ``(value << 32) | row``, see `source.select`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Chosen
from binq.kernels.aot.compile import Library
from binq.kernels.blocks import run_blocks
from binq.kernels.parts import Parts, edges_of

MAX_ROWS = 1 << 32
"""Rows of one call: a key has 32 bits for the row."""

NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Stands where a query has found nothing more."""

_QUERIES_PER_PASS = 4096
_KEY_BYTES_PER_PASS = 256 << 20
_MERGED_KEYS = 1 << 20
# Word comparisons per block: a few tens of milliseconds at most, and more than a thread's start.
WORK_PER_BLOCK = 1 << 26
WORK_WORTH_A_THREAD = 1 << 21

_BYTE = ctypes.c_char
_BYTES = np.dtype(np.uint8)
_INT64 = np.dtype(np.int64)
_UINT64 = np.dtype(np.uint64)

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


class Engine(NamedTuple):
    """What runs a call: tests choose it, anyone else leaves it out.

    Attributes
    ----------
    library : Library or None
        Compiled kernels; None for numpy.
    rows_per_block : int, optional
        Rows of a block, which are otherwise chosen by the work that they are.
    queries_per_pass : int
        Fewer than 2**16, so that `tables.sections` finds a mask; few enough to keep the look-up
        tables small.
    """

    library: Library | None
    rows_per_block: int | None = None
    queries_per_pass: int = _QUERIES_PER_PASS


class Scan(NamedTuple):
    """A compiled scan, and the queries of one pass prepared for it.

    Attributes
    ----------
    library, name
        The kernel.
    codes : (n, words) uint64, or Parts
    queries : int
        How many; their numbers are the members of tasks.
    arguments : tuple of int
        What the scan is told of the queries: numbers, and addresses in what is `held`.
    limits : () or (queries,)
        Hits are below them (hamming) or above (asymmetric).
    held : tuple
        Whatever has to live as long as the scan.
    cost : int
        Of a word, in comparisons of two words.
    """

    library: Library
    name: str
    codes: Keys | Parts
    queries: int
    arguments: tuple[int, ...]
    limits: npt.NDArray[Any] | np.generic
    held: tuple[Any, ...]
    cost: int = 1

    def size(self, name: str) -> int:
        """What the compiled object tells of this scan."""
        return self.library.layout[f"{self.name}.{name}"]

    def is_brief(self, pairs: int) -> bool:
        """Whether so many pairs of a code and a query are not worth a thread."""
        return pairs * int(self.codes.shape[1]) * self.cost**2 <= WORK_WORTH_A_THREAD

    def rows_per_block(self, n: int, threads: int) -> int:
        """Short enough for Ctrl-C, and several for each thread."""
        work = self.queries * int(self.codes.shape[1]) * self.cost
        if self.is_brief(n * self.queries):
            return max(n, 1)
        block = self.size("block")
        rows = min(WORK_PER_BLOCK // work, n // (4 * max(1, threads)))
        rows = max(rows, WORK_WORTH_A_THREAD // (work * self.cost), 16 * block, 256)
        return -(-rows // block) * block


class Tasks:
    """Spans of the codes, and the queries that are to be answered over each.

    Parameters
    ----------
    table : (t, 4) int64
        First and last position of the codes, which is not scanned any more; the same in `members`.
        Positions ascend, unless rows are numbered: where they tie, a worker keeps those that it
        meets first.
    members : (m,) int64
        Numbers of queries, in whole groups as the scan takes them, see `members_of`.
    calls : list of (int, int) or (int, int, int)
        First and last of the tasks that are done in one call, and the number of the part of the
        codes that they go over; else there is one part.
    """

    def __init__(self, table: Rows, members: Rows, calls: Sequence[tuple[int, ...]]) -> None:
        self.calls = calls
        self.held = table, members
        self.addresses = address(table), address(members)


class Memory:
    """Arrays that a kernel works on, in one piece: finding out an address takes a microsecond.

    Parameters
    ----------
    sizes : int
        The bytes of each array; each begins at a multiple of 64, so that no aligned load of its
        elements crosses a cache line.

    Attributes
    ----------
    addresses : list of int
    """

    def __init__(self, *sizes: int) -> None:
        starts, end = [], 0
        for size in sizes:
            starts.append(end)
            end += (size + 63) & -64
        self._raw = np.empty(end + 64, _BYTES)
        base = ctypes.addressof(_BYTE.from_buffer(self._raw.data))
        skipped = -base % 64
        self._starts = [skipped + start for start in starts]
        self.addresses = [base + start for start in self._starts]

    def view(self, number: int, dtype: Any, count: int) -> npt.NDArray[Any]:
        """The first `count` elements of an array."""
        return np.frombuffer(self._raw, dtype, count, self._starts[number])


class State:
    """What one worker has found: `keys` (queries, capacity), of which `found` are filled.

    Where rows are numbered, the limits may be those of another worker.
    """

    def __init__(
        self,
        scan: Scan,
        tasks: Tasks,
        chosen: Chosen,
        capacity: int,
        k: int,
        other: State | None = None,
    ) -> None:
        words = scan.codes.shape[1]
        scratch = scan.size("scratch") + scan.size("scratch_per_word") * words
        count = scan.queries
        memory = Memory(4 * count, 8 * count, 8 * count * capacity, scratch)
        self._memory = memory
        self.limits = memory.view(0, scan.limits.dtype, count)
        self.limits[:] = scan.limits
        self.found = memory.view(1, _INT64, count)
        self.found[:] = 0
        self.keys = memory.view(2, _UINT64, count * capacity).reshape(count, capacity)
        if k:
            self.keys[:, -1] = NO_KEY
        self._kernel = scan.library.functions[scan.name]
        self._parts = _parts(scan.codes, chosen)
        self._tasks, members = tasks.addresses
        self._filtered = (None, 0) if chosen.allowed is None else (address(chosen.allowed), 1)
        self._queries = (*scan.arguments, members)
        limits, found, keys, own = memory.addresses
        if other is not None and chosen.numbers is not None:
            self._other = other  # it owns the memory
            limits = other.limits_at
        self.limits_at: int = limits
        self._kept = [limits, found, keys, capacity, k, own]

    def use_scratch(self, where: int) -> None:
        """Work on other scratch memory, at this address."""
        self._kept[-1] = where

    def run(self, first: int, last: int, part: int = 0) -> None:
        """Do the tasks from `first` to `last`, which is not done any more, over a part."""
        codes, numbers = self._parts[part]
        tasks = self._tasks + 32 * first, last - first
        self._kernel(*codes, *tasks, *self._filtered, *numbers, *self._queries, *self._kept)

    def run_whole(self, first: int, last: int, part: int = 0) -> None:
        """Find all hits of some tasks, however many: those of earlier ones are let go."""
        self.found[:] = 0
        self.run(first, last, part)
        most = int(self.found.max())
        if most > self.keys.shape[1]:
            # Hits beyond the capacity were only counted: once more, with room for all.
            self.keys = np.empty((len(self.limits), most), np.uint64)
            self._kept[2:4] = address(self.keys), most
            self.found[:] = 0
            self.run(first, last, part)


def _parts(
    codes: Keys | Parts, chosen: Chosen
) -> list[tuple[tuple[int, ...], tuple[int | None, int]]]:
    """What a kernel is told of every part of the codes, and of the numbers of its rows.

    Positions go on from part to part. So a kernel is told where position 0 would be if all codes
    lay like those of its part, and looks only at positions that are in it, which its tasks say.
    """
    edges, words = edges_of(codes), codes.shape[1]
    found: list[tuple[tuple[int, ...], tuple[int | None, int]]] = []
    places = codes.addresses if isinstance(codes, Parts) else [address(codes)]
    for number, place in enumerate(places):
        first, end = edges[number : number + 2]
        numbered: tuple[int | None, int] = (None, 0)
        if chosen.numbers is not None:
            numbered = address(chosen.numbers[number]) - 4 * first, first + 1
        found.append(((place - 8 * words * first, words, end), numbered))
    return found


def address(array: npt.NDArray[Any]) -> int:
    """Where the array's first byte is; ``array.ctypes.data`` is several times slower."""
    if array.flags.c_contiguous and array.flags.writeable and array.size:
        return ctypes.addressof(_BYTE.from_buffer(array.data))
    where: int = array.__array_interface__["data"][0]
    return where


def aligned(count: int, dtype: Any) -> npt.NDArray[Any]:
    """An uninitialised array at a multiple of 64 bytes: unaligned loads would cross cache lines."""
    return Memory(count * np.dtype(dtype).itemsize).view(0, dtype, count)


def members_of(count: int, group: int) -> Rows:
    """All of `count` queries, in whole groups: -1 fills up the last."""
    members = np.arange(-(-count // group) * group)
    members[count:] = -1
    return members


def checked_rows(rows: Rows, queries: int, n: int) -> Rows:
    """Row numbers (queries, m), each in ``range(n)``, as a kernel follows them.

    Raises
    ------
    ValueError, IndexError
        They are of another shape, or out of range.
    """
    rows = np.ascontiguousarray(rows, np.int64)
    if rows.ndim != 2 or len(rows) != queries:
        raise ValueError(f"rows {rows.shape} for {queries} queries")
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise IndexError(f"row numbers {rows.min()} to {rows.max()} of {n} rows")
    return rows


def passes(count: int, keys_per_query: int, engine: Engine) -> list[slice]:
    """Split queries so that look-up tables stay small and the keys of a pass fit memory."""
    size = _KEY_BYTES_PER_PASS // (8 * max(1, keys_per_query))
    size = max(4, min(engine.queries_per_pass, size))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def brief(count: int, work: int) -> list[slice]:
    """Split queries of so many word comparisons each into calls of some tens of ms."""
    size = max(1, WORK_PER_BLOCK // max(1, work))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def run(
    scan: Scan,
    tasks: Tasks,
    chosen: Chosen,
    threads: int,
    capacity: int,
    k: int,
    collect: Callable[..., None] | None = None,
) -> list[State]:
    """Run the tasks on `threads` workers, and return what each of them has found.

    Parameters
    ----------
    capacity : int
        Keys that a query's buffer holds; more than k, if k is not 0, by a group of rows and one.
    k : int
        How many keys to keep of each query; 0 to count hits, and to keep as many as fit.
    collect : callable, optional
        Does the tasks of a call in place of `State.run`, which is given as much.
    """
    work: Callable[..., None] = State.run if collect is None else collect
    calls = tasks.calls
    if len(calls) == 1:
        states = [State(scan, tasks, chosen, capacity, k)]
        work(states[0], *calls[0])
        return states
    workers = max(1, min(threads, len(calls)))
    states = [State(scan, tasks, chosen, capacity, k)]
    states += [State(scan, tasks, chosen, capacity, k, states[0]) for _ in range(1, workers)]
    run_blocks(len(calls), threads, lambda worker, call: work(states[worker], *calls[call]))
    return states


def capacity_of(k: int, rows: int) -> int:
    """Keys to have room for: one more group of hits, and enough to make cutting back rare."""
    return min(rows + 64, k + max(k // 2, 41))


def topk(scan: Scan, tasks: Tasks, chosen: Chosen, k: int, threads: int) -> Keys:
    """The k smallest keys of each query, ascending, then `NO_KEY`: (queries, k), k at least 1."""
    capacity = capacity_of(k, chosen.count)
    return merged(run(scan, tasks, chosen, threads, capacity, k), k)


def smallest(keys: Keys, k: int) -> Keys:
    """The k smallest keys along the last axis, in order."""
    if keys.shape[-1] > 4 * k:
        keys = np.partition(keys, k - 1, axis=-1)[..., :k]
    return np.sort(keys, axis=-1)[..., :k]


def merged(states: list[State], k: int) -> Keys:
    """The k smallest of what several workers found for each query, in order, then `NO_KEY`."""
    count = len(states[0].limits)
    if count == len(states) == 1:
        only = states[0].keys[:, : states[0].found[0]]
        only.sort(axis=1)
        if only.shape[1] >= k:
            return only[:, :k]
    result = np.full((count, k), NO_KEY)
    most = [int(state.found.max()) for state in states]
    size = max(1, _MERGED_KEYS // max(1, sum(most)))
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        together, filled = [], []
        for state, n in zip(states, most, strict=True):
            together.append(state.keys[part, :n])
            filled.append(np.arange(n) < state.found[part, None])
        keys = np.concatenate(together, axis=1)
        keys[~np.concatenate(filled, axis=1)] = NO_KEY
        keys = smallest(keys, k)
        result[part, : keys.shape[1]] = keys
    return result
