"""Keep the k smallest keys of a stream, or all keys below a limit (kernel source).

A key is ``(value << 32) | row``: comparing keys compares (value, row), the total order of every
result.  Hits are appended to a buffer with room for at least `k` and one group of rows more; only
when it is full is it cut back to the k smallest by quickselect, and the largest value that is kept
becomes the limit.  An append costs a few instructions and a cut O(buffer), so a hit costs O(1)
whatever k is, which a heap does not offer.  The last place of a buffer is not for hits: it keeps
the k-th key of the last cut, and before the first one a key that is larger than all.

A scan goes over positions in the codes, and the row of a position is the position itself or a
number from a table.  Where it is itself, rows come in ascending order, so that a later row with the
limit's own value can never be among the k: scanning code may compare values alone, strictly.  Where
rows are numbered they come in any order, and the limit lets hits with the largest value that is
kept through, until `append` compares keys; such limits several workers may share, and lower.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy")
def select(keys, start, count, k):
    """Reorder ``keys[start:start + count]``: the k smallest lead, the largest of these last."""
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
    if k == 0 or counts[query] + group < capacity:
        return np.int64(-1)
    start = query * capacity
    select(keys, start, counts[query], k)
    counts[query] = k
    keys[start + capacity - 1] = keys[start + k - 1]
    return np.int64(keys[start + k - 1] >> np.uint64(32))


@njit(error_model="numpy", forceinline=True)
def lower_limit(keys, counts, limits, query, capacity, k, group, numbered):
    """`make_room`, and set the query's int32 limit, which hits are below, by what it returns."""
    limit = make_room(keys, counts, query, capacity, k, group)
    if limit >= 0:
        limits[query] = min(limits[query], np.int32(limit + (numbered > 0)))


@njit(error_model="numpy", forceinline=True)
def limit_of(limits, member):
    """The limit of a query that a scan was given as a member of the batch to answer.

    Queries come in groups: ``~query`` only fills one up and finds nothing.
    """
    if member < 0:
        return np.int64(0)
    return np.int64(limits[member])


@njit(error_model="numpy", forceinline=True)
def append(keys, counts, query, capacity, k, value, position, numbers, numbered):
    """Append a hit; beyond the capacity it is only counted.

    Parameters
    ----------
    numbers : uint32*, (n,)
        The row at every position, counted from row ``numbered - 1``; read only if `numbered` is not
        0, and never followed.
    """
    row = np.uint64(position)
    if numbered:
        # A number that is wrong stays one of 32 bits: a key has no more for it.
        row = min(np.uint64(numbers[position]) + np.uint64(numbered - 1), np.uint64(0xFFFFFFFF))
    key = (np.uint64(value) << np.uint64(32)) | row
    start = query * capacity
    if numbered and k and key > keys[start + capacity - 1]:
        return
    count = counts[query]
    if count < capacity:
        keys[start + count] = key
    counts[query] = count + 1


@njit(error_model="numpy")
def sort(keys, start, count, others):
    """Order ``keys[start:start + count]``, and in the same way `others`, unless that is None."""
    # Shell's, as there may be thousands.
    step = count
    while step > 1:
        step = max(1, step * 5 // 11)
        for i in range(start + step, start + count):
            key = keys[i]
            if others is not None:
                other = others[i]
            j = i
            while j >= start + step and keys[j - step] > key:
                keys[j] = keys[j - step]
                if others is not None:
                    others[j] = others[j - step]
                j -= step
            keys[j] = key
            if others is not None:
                others[j] = other
