"""One query over inverted lists, from the choice of lists to its hits (source; to be compiled).

A query that looks at few lists is answered in some ten microseconds, which a call of each of the
kernels involved, with tables between them, would multiply.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.scalars import int32s, int64s, uint32s
from binq.kernels.source.select import select, sort
from binq.kernels.source.visits import tasks_by_query

# What `given` holds, in this order; then of every part of the codes what `PART` says.
GIVEN = (
    "numbers", "centroids", "sizes", "spans", "query", "visits", "seen", "table", "keys", "scratch",
    "answer", "found_rows", "found_distances",
)  # fmt: skip
PART = ("offsets", "codes", "rows")
# Places in `answer`: whether the query was answered, how many lists, what became of them as tasks,
# hits, their limit, the number of the query.
_ANSWERED, _LISTS, _TASKS, _FOUND, _LIMIT, _MEMBER = 0, 1, 2, 4, 5, 6
ANSWER_SIZE = 7
_FAR = 0x7FFFFFFF


def one_query_of(near_lists: Any, scan_tasks: Any) -> Any:
    """`one_query`, of the kernels that choose lists and scan rows."""
    tasks_of = njit(error_model="numpy", inline="never")(tasks_by_query)

    def one_query(given, least, enough, gap, edge, k, capacity):
        """The k nearest codes on the lists that `near_lists` chooses.

        Parameters
        ----------
        given : uint64**
            What does not change from call to call, in the order of `GIVEN`. `numbers`: words of a
            code, lists, codes, the most words to compare, parts. `spans`: of each part, how many
            codes it has, and the row that its rows are counted from. The codes of a list are those
            that it has in all parts.
        least, enough, gap, edge : int
            As for `near_lists`.
        k, capacity : int
            At least 1 hit, and room for more in `keys`, as for `scan_rows`.

        ``answer[0]`` becomes 1, unless the lists hold too much for one call, or there is something
        wrong with them, or with the numbers of their rows. Hits are written to `found_rows`, (k,)
        int64, and `found_distances`, (k,) int32; -1 and the largest int32 where there are fewer.
        """
        numbers = int64s(given[0], 0)
        words = np.intp(numbers[0])
        n_lists = np.intp(numbers[1])
        n = np.intp(numbers[2])
        sizes = int64s(given[2], 0)
        spans = int64s(given[3], 0)
        query, keys, scratch = given[4], given[8], given[9]
        visits = int32s(given[5], 0)
        table = int64s(given[7], 0)
        answer = int64s(given[10], 0)
        rows = int64s(given[11], 0)
        distances = int32s(given[12], 0)
        answer[_ANSWERED] = 0
        near_lists(
            given[1], words, n_lists, sizes, query, 1, least, enough, gap, edge, visits,
            int64s(given[10], 8 * _LISTS), scratch,
        )  # fmt: skip
        compared = np.int64(0)
        for i in range(answer[_LISTS]):
            compared += sizes[visits[i]] * words
        if compared > numbers[3]:
            return
        answer[_FOUND] = 0
        answer[_MEMBER] = 0
        limits = int32s(given[10], 8 * _LIMIT)
        limits[0] = np.int32(_FAR)
        keys[capacity - 1] = ~np.uint64(0)
        # What was found in one part narrows the search in the next.
        for part in range(numbers[4]):
            held = spans[2 * part]
            own = len(GIVEN) + len(PART) * part
            codes = given[own + 1]
            tasks_of(
                int64s(given[own], 0), n_lists, held, visits, 1, answer[_LISTS], given[6], table,
                int64s(given[10], 8 * _TASKS),
            )  # fmt: skip
            if answer[_TASKS] < 0:
                return
            scan_tasks(
                codes, words, held, table, 0, answer[_TASKS], answer[_TASKS], codes, 0,
                uint32s(given[own + 2], 0), spans[2 * part + 1] + 1, query,
                int64s(given[10], 8 * _MEMBER), limits, int64s(given[10], 8 * _FOUND), keys,
                capacity, k, scratch,
            )  # fmt: skip
        count = np.intp(answer[_FOUND])
        if count > k:
            select(keys, 0, count, k)
            count = k
        sort(keys, 0, count, None)
        for i in range(count):
            rows[i] = np.int64(keys[i] & np.uint64(0xFFFFFFFF))
            distances[i] = np.int32(keys[i] >> np.uint64(32))
            if rows[i] >= n:
                return
        for i in range(count, k):
            rows[i] = -1
            distances[i] = np.int32(_FAR)
        answer[_ANSWERED] = 1

    return one_query
