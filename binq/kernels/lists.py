"""Inverted lists: which of the codes each query looks at, and the scan tasks that come of it."""

from __future__ import annotations

import itertools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.aot import compile as aot
from binq.kernels.parts import edges_of
from binq.kernels.scan import Engine, Memory, Rows, Scan, Tasks, address, members_of
from binq.kernels.tasks import split

FAMILY: Final = aot.Family("visits")

_INT64 = np.dtype(np.int64)
_INT32 = np.dtype(np.int32)


class Lists(NamedTuple):
    """Codes that lie list by list, and the lists that each query looks at.

    Attributes
    ----------
    offsets : (l + 1,) int64
        List i holds the codes ``[offsets[i], offsets[i + 1])``; ascending.
    visits : (q, p) int32
        The lists of each query, nearest first, once each; -1 for none. Lists that come early are
        scanned early where it costs nothing, and narrow the search.
    parts : list of (l + 1,) int64, optional
        Where the codes lie in several parts, with codes of any list in each: the offsets in every
        part. Then `offsets` tells but how long the lists are, and rows have to be numbered.
    """

    offsets: Rows
    visits: npt.NDArray[np.int32]
    parts: list[Rows] | None = None

    def checked(self, queries: int) -> Lists:
        """Of the shapes and dtypes that kernels follow.

        Raises
        ------
        ValueError, TypeError
        """
        offsets, visits, parts = self
        if offsets.ndim != 1 or len(offsets) == 0:
            raise ValueError(f"offsets {offsets.shape} are not (lists + 1,)")
        if visits.ndim != 2 or len(visits) != queries:
            raise ValueError(f"visits {visits.shape} for {queries} queries")
        if offsets.dtype != _INT64 or visits.dtype != _INT32:
            raise TypeError(f"offsets {offsets.dtype} and visits {visits.dtype}, not int64, int32")
        for own in parts or ():
            if own.shape != offsets.shape or own.dtype != _INT64:
                raise ValueError(f"offsets {own.shape} of a part, {own.dtype}")
        return Lists(np.ascontiguousarray(offsets), np.ascontiguousarray(visits), parts)

    def numbers(self, query: int, n: int) -> Rows:
        """The lists that a query looks at, ascending.

        Raises
        ------
        ValueError
            There are no such lists, or they do not lie within `n` codes.
        """
        numbers = np.unique(self.visits[query]).astype(np.int64)
        if len(numbers) and (numbers[0] < -1 or numbers[-1] >= len(self.offsets) - 1):
            raise ValueError(f"lists {numbers[0]} to {numbers[-1]} of {len(self.offsets) - 1}")
        numbers = numbers[numbers >= 0]
        first, last = self.offsets[numbers], self.offsets[numbers + 1]
        if (first < 0).any() or (last < first).any() or (last > n).any():
            raise ValueError(f"offsets of lists are not ascending within {n} codes")
        return numbers

    def positions(self, query: int, n: int) -> Rows:
        """The codes that a query looks at, list by list; raises as `numbers` does."""
        found, first = [np.empty(0, np.int64)], 0
        numbers = self.numbers(query, n)
        for offsets in self.parts or [self.offsets]:
            found += [first + np.arange(*offsets[number : number + 2]) for number in numbers]
            first += int(offsets[-1])
        return np.concatenate(found)

    def apart(self, table: Rows, edges: list[int]) -> Rows:
        """Tasks (t, 4) over lists of every part, where the given ones are over whole lists.

        Raises
        ------
        ValueError
            Lists of a part do not lie within it.
        """
        if self.parts is None:
            return table
        numbers = np.searchsorted(self.offsets, table[:, 0], side="right") - 1
        found = []
        for offsets, (first, end) in zip(self.parts, itertools.pairwise(edges), strict=True):
            starts, ends = offsets[numbers], offsets[numbers + 1]
            if (starts < 0).any() or (ends < starts).any() or (ends > end - first).any():
                raise ValueError(f"offsets of lists are not ascending within {end - first} codes")
            held = np.flatnonzero(starts < ends)
            own = table[held]
            own[:, 0] = starts[held] + first
            own[:, 1] = ends[held] + first
            found.append(own)
        return np.concatenate(found)


class Visits:
    """The lists of one pass of queries, before it is known which scan takes them.

    Parameters
    ----------
    lists : Lists
        Checked.
    n : int
        Codes.
    numbered : bool
        Whether rows are numbered: else lists are scanned in their order.
    paired : bool
        Whether the scan for many queries takes queries ``2 * i`` and ``2 * i + 1`` together.

    Attributes
    ----------
    shared : float
        How many queries look at a list that any looks at, on average.

    Raises
    ------
    ValueError
        As `Lists.numbers`, of those lists that are looked at.
    """

    def __init__(self, lists: Lists, n: int, numbered: bool, paired: bool) -> None:
        self._functions, self._lists, self._n = aot.load(FAMILY).functions, lists, n
        self._numbered, self._paired = numbered, int(paired)
        self.shared = 1.0
        offsets, visits, parts = lists
        if parts is not None and not numbered:
            raise ValueError("lists of codes in several parts, and rows that are not numbered")
        size = len(offsets) - 1
        self._given = (address(offsets), size, n, address(visits), *visits.shape)
        if len(visits) == 1:
            return
        self._memory = memory = Memory(16 * size, 32)
        self._marks, result = memory.addresses
        self._functions["count_visits"](*self._given, self._paired, self._marks, result)
        self._visited, count, self._members = self._told(memory.view(1, _INT64, 3))
        self.shared = count / max(1, self._visited)

    def tasks(self, scan: Scan, threads: int, engine: Engine) -> Tasks:
        """What a scan does to answer the queries."""
        group = scan.size("group")
        return (self._by_query if group == 1 else self._by_list)(scan, group, threads, engine)

    def _told(self, result: Rows) -> list[int]:
        told: list[int] = result.tolist()
        if told[0] < 0:
            for query in range(len(self._lists.visits)):
                self._lists.numbers(query, self._n)
            raise ValueError("offsets of lists have changed")
        return told

    def _by_query(self, scan: Scan, group: int, threads: int, engine: Engine) -> Tasks:
        offsets, visits, _ = self._lists
        if not self._numbered:
            visits = np.sort(visits, axis=1)
        memory = Memory(len(offsets) // 8 + 8, 32 * visits.size, 16)
        seen, table, result = memory.addresses
        members = members_of(len(visits), group)
        given = (*self._given[:3], address(visits), *visits.shape)
        self._functions["tasks_by_query"](*given, seen, table, result)
        done, codes = self._told(memory.view(2, _INT64, 2))
        tasks = memory.view(1, _INT64, 4 * done).reshape(done, 4)
        tasks = self._lists.apart(tasks, edges_of(scan.codes))
        if self._lists.parts is None and scan.is_brief(codes) and engine.rows_per_block is None:
            return Tasks(tasks, members, [(0, done)])
        return Tasks(*split(scan, tasks, members, threads, engine))

    def _by_list(self, scan: Scan, group: int, threads: int, engine: Engine) -> Tasks:
        table = np.empty((self._visited, 4), np.int64)
        members = np.empty(self._members + (group - 1) * self._visited, np.int64)
        result = np.empty(1, np.int64)
        self._functions["tasks_by_list"](
            *self._given, self._paired, self._marks, group, address(table), address(members),
            address(result),
        )  # fmt: skip
        self._told(result)
        table = self._lists.apart(table, edges_of(scan.codes))
        return Tasks(*split(scan, table, members, threads, engine))
