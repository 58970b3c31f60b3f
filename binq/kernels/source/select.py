"""Keep the k smallest keys of a stream, or all keys below a limit (kernel source).

A key is ``(value << 32) | row``: comparing keys compares (value, row), the total order of every
result.  Hits are appended to a buffer with room for at least `k` and one group of rows more; only
when it is full is it cut back to the k smallest by quickselect, and the largest value that is kept
becomes the limit.  An append costs a few instructions and a cut O(buffer), so a hit costs O(1)
whatever k is, which a heap does not offer.

Rows come in ascending order, so that a later row with the limit's own value can never be among the
k: scanning code may compare values alone, strictly.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy")
def select(keys, start, count, k):
    """Reorder ``keys[start:start + count]``, all different, so that the k smallest lead."""
    low = start
    high = start + count - 1
    target = start + k - 1
    random = np.uint64(count) | np.uint64(1)
    while low < high:
        # A pseudo-random pivot: no order of arrival makes the cut quadratic.
        random = random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        span = np.uint64(high - low + 1)
        pivot = keys[low + np.intp(((random >> np.uint64(32)) * span) >> np.uint64(32))]
        i = low
        j = high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                swapped = keys[i]
                keys[i] = keys[j]
                keys[j] = swapped
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            return


@njit(error_model="numpy")
def make_room(keys, counts, query, capacity, k, group):
    """Cut the query's buffer to k keys when fewer than `group` places are left.

    Returns the largest value that is kept, the new limit, or -1 when nothing was cut.  With
    ``k == 0`` (all keys below a fixed limit are wanted) nothing ever is: `append` counts on and
    stores no more, and the caller repeats the block with a larger buffer.
    """
    if k == 0 or counts[query] + group <= capacity:
        return np.int64(-1)
    start = query * capacity
    select(keys, start, counts[query], k)
    largest = keys[start]
    for i in range(start + 1, start + k):
        largest = max(largest, keys[i])
    counts[query] = k
    return np.int64(largest >> np.uint64(32))


@njit(error_model="numpy", forceinline=True)
def lower_limit(keys, counts, limits, query, capacity, k, group):
    """`make_room`, and set the query's int32 limit to what it returns."""
    limit = make_room(keys, counts, query, capacity, k, group)
    if limit >= 0:
        limits[query] = np.int32(limit)


@njit(error_model="numpy", forceinline=True)
def limit_of(limits, member):
    """The limit of a query that a scan was given as a member of the batch to answer.

    Queries come in groups: ``~query`` only fills one up and finds nothing.
    """
    if member < 0:
        return np.int64(0)
    return np.int64(limits[member])


@njit(error_model="numpy")
def append(keys, counts, query, capacity, value, row):
    """Append a hit; beyond the capacity it is only counted."""
    count = counts[query]
    if count < capacity:
        keys[query * capacity + count] = (np.uint64(value) << np.uint64(32)) | np.uint64(row)
    counts[query] = count + 1
