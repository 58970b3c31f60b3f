"""Scan tasks of queries that look at some lists of the codes (source; imported to be compiled).

Where few queries look at a list, there is a task for every query and list. Else the queries of a
list are brought together by a counting sort, in one task.

Numbers of lists, and where they begin, come from a file: they are checked before they are followed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cfunc, types

from binq.kernels.source.features import Features
from binq.kernels.source.scalars import jit

_I32 = types.CPointer(types.int32)
_I64 = types.CPointer(types.int64)
_U64 = types.CPointer(types.uint64)
_INT = types.intp
# offsets, lists, n, visits, queries, visits per query
_GIVEN = (_I64, _INT, _INT, _I32, _INT, _INT)

WRONG = -1


@jit
def span_of(offsets, n_lists, n, number):
    """The codes ``[first, last)`` of a list: none of list -1, and -1 where something is wrong."""
    first = np.int64(0)
    last = np.int64(0)
    if number >= 0 and number < n_lists:
        first = offsets[number]
        last = offsets[number + 1]
        if first < 0 or last < first or last > n:
            last = np.int64(WRONG)
    elif number != -1:
        last = np.int64(WRONG)
    return first, last


def tasks_by_query(
    offsets, n_lists, n, visits, queries, per_query, seen, table, result
):  # fmt: skip
    """A task for every query and list, in the order of the queries and of their visits.

    Parameters
    ----------
    offsets : int64*, (n_lists + 1,)
        List i holds the codes ``[offsets[i], offsets[i + 1])`` of all `n`.
    visits : int32*, (queries, per_query)
        Numbers of lists, -1 for none. A list that a query names twice is scanned once.
    seen : uint64*, a bit for every list
    table : int64*, (queries * per_query, 4)
        Member i is query i.
    result : int64*, (2,)
        How many tasks, or that something is wrong, and how many codes in all.
    """
    done = np.int64(0)
    codes = np.int64(0)
    for query in range(queries):
        for word in range((n_lists + 63) >> 6):
            seen[word] = np.uint64(0)
        for i in range(query * per_query, (query + 1) * per_query):
            at = np.intp(visits[i])
            first, last = span_of(offsets, n_lists, n, at)
            if last < 0:
                result[0] = WRONG
                return
            if first < last:
                bit = np.uint64(1) << np.uint64(at & 63)
                if seen[at >> 6] & bit == np.uint64(0):
                    seen[at >> 6] |= bit
                    table[4 * done] = first
                    table[4 * done + 1] = last
                    table[4 * done + 2] = query
                    table[4 * done + 3] = query + 1
                    codes += last - first
                    done += 1
    result[0] = done
    result[1] = codes


def count_visits(
    offsets, n_lists, n, visits, queries, per_query, paired, marks, result
):  # fmt: skip
    """How many members the task of every list takes, before whole groups are made of them.

    Parameters
    ----------
    offsets, n_lists, n, visits, queries, per_query
        As for `tasks_by_query`.
    paired : int
        1 where queries ``2 * i`` and ``2 * i + 1`` are members together.
    marks : int64*, (n_lists, 2)
        Members, and one more than the last query, of each list.
    result : int64*, (3,)
        How many lists, or that something is wrong; visits; members.
    """
    for i in range(2 * n_lists):
        marks[i] = 0
    lists = np.int64(0)
    count = np.int64(0)
    members = np.int64(0)
    for query in range(queries):
        for i in range(query * per_query, (query + 1) * per_query):
            at = np.intp(visits[i])
            first, last = span_of(offsets, n_lists, n, at)
            if last < 0:
                result[0] = WRONG
                return
            if first < last:
                before = marks[2 * at + 1]
                if before != query + 1:
                    added = np.int64(1)
                    if paired:
                        added = np.int64(2)
                        if query & 1 and before == query:
                            added = np.int64(0)
                    lists += np.int64(before == 0)
                    count += 1
                    members += added
                    marks[2 * at] += added
                    marks[2 * at + 1] = query + 1
    result[0] = lists
    result[1] = count
    result[2] = members


def tasks_by_list(
    offsets, n_lists, n, visits, queries, per_query, paired, marks, group, table, members, result
):  # fmt: skip
    """A task for every list, ascending, and its members, as `count_visits` counted them.

    Parameters
    ----------
    offsets, n_lists, n, visits, queries, per_query, paired, marks
        As for `count_visits`.
    group : int
        Members come in groups of so many; -1 fills up the last.
    table : int64*, (lists, 4)
    members : int64*
    result : int64*, (1,)
        How many tasks, or that something is wrong.
    """
    done = np.int64(0)
    begin = np.int64(0)
    for at in range(n_lists):
        count = marks[2 * at]
        marks[2 * at] = -1
        if count:
            first, last = span_of(offsets, n_lists, n, at)
            if last < 0:
                # The file was changed meanwhile.
                result[0] = WRONG
                return
            end = begin + (count + group - 1) // group * group
            table[4 * done] = first
            table[4 * done + 1] = last
            table[4 * done + 2] = begin
            table[4 * done + 3] = end
            for i in range(begin + count, end):
                members[i] = -1
            marks[2 * at] = begin
            marks[2 * at + 1] = 0
            begin = end
            done += 1
    for query in range(queries):
        for i in range(query * per_query, (query + 1) * per_query):
            at = np.intp(visits[i])
            if at < 0 or marks[2 * at] < 0:
                continue
            last = marks[2 * at + 1]
            if last == query + 1:
                continue
            place = marks[2 * at]
            if paired == 0:
                members[place] = query
                marks[2 * at] = place + 1
            elif query & 1 and last == query:
                members[place - 1] = query
            else:
                members[place] = query if query & 1 == 0 else ~(query - 1)
                members[place + 1] = query if query & 1 else ~(query + 1)
                marks[2 * at] = place + 2
            marks[2 * at + 1] = query + 1
    result[0] = done


def kernels(_features: Features) -> tuple[dict[str, Any], dict[str, int]]:
    """The compiled functions of this family, which are the same for all CPUs, and no layout."""
    void, compiled = types.void, partial(cfunc, error_model="numpy")
    found = {
        "tasks_by_query": compiled(void(*_GIVEN, _U64, _I64, _I64))(tasks_by_query),
        "count_visits": compiled(void(*_GIVEN, _INT, _I64, _I64))(count_visits),
        "tasks_by_list": compiled(void(*_GIVEN, _INT, _I64, _INT, _I64, _I64, _I64))(tasks_by_list),
    }
    return found, {}
