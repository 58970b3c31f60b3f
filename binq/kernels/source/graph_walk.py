"""The walk of a query over a graph (source; imported only to be compiled).

Distances are small whole numbers: nodes to go on from wait in lists by distance, and a histogram
of what was found tells how far to look, so that neither needs a heap.  The nodes that were measured
are kept in a hash table as large as the walk, not as the graph.

A walk waits for memory most of the time: for the neighbours of a node, then for their codes.  It is
cut into steps that end where something was asked for, and a few queries take turns.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from binq.kernels.source.columns import is_allowed
from binq.kernels.source.rows import distances_of
from binq.kernels.source.scalars import int32s, jit, offset_by, prefetch, trailing_zeros, uint32s
from binq.kernels.source.simd import vectors

NONE = 0xFFFFFFFF
"""Fills up a line of neighbours."""

# A walk's numbers, 32 bits each.
QUERY, PHASE, LEFT, NEAREST, SLOTS, MEASURED, KTH, COUNTED, NODE, ENTERED, TABLE = range(11)
# What is to be done next.
EXPAND, MEASURE, ENDED, OVERFLOWED = range(4)
# Bytes of a few registers, whatever their width; then the numbers.
SPARE = 128
_NUMBERS = 64
FIXED = SPARE + _NUMBERS + 3 * 64
# Of the lists and the histogram, 4 bytes each per distance, and a bit per distance.
PER_WORD = 64 * (4 + 4) + 16
# Of a node that waits to be measured, and its distance.
PER_NEIGHBOUR = 8
PER_SLOT = 12
# Tables of marks of all sizes lie one behind another.
PER_MARK = 8
# The size of the first, a power of two.
LEAST_MARKS = 1 << 12
_MIX = 0x9E3779B1


class Walk(NamedTuple):
    """The arrays of a walk, in its scratch.

    Attributes
    ----------
    numbers : int32*
    lists, histogram : int32*, (bins,)
        The first slot of each distance, -1 for none; how many nodes that may be returned.
    bits : uint64*, (words + 1,)
        Which lists have slots.
    waiting, away : uint32*, int32*, (width + 4,)
        Nodes to be measured, and their distances.
    away_at : int
        Where `away` lies in the scratch, in bytes.
    keys, following : uint64*, uint32*, (slots,)
        (distance << 32) | node of each slot, and the next slot of its list.
    met : uint32*
        Tables of marks.
    """

    numbers: Any
    lists: Any
    histogram: Any
    bits: Any
    waiting: Any
    away: Any
    away_at: Any
    keys: Any
    following: Any
    met: Any


@jit
def walk_in(scratch, words, width, slots):
    """The arrays of a walk."""
    bins = 64 * words + 1
    lists = np.intp(SPARE + _NUMBERS)
    histogram = lists + 4 * bins
    bits = (histogram + 4 * bins + 7) // 8 * 8
    waiting = bits + 8 * (words + 1)
    away = (waiting + 4 * (width + 4) + 15) // 16 * 16
    keys = (away + 4 * (width + 4) + 7) // 8 * 8
    following = keys + 8 * slots
    return Walk(
        int32s(scratch, SPARE),
        int32s(scratch, lists),
        int32s(scratch, histogram),
        offset_by(scratch, bits, scratch),
        uint32s(scratch, waiting),
        int32s(scratch, away),
        away,
        offset_by(scratch, keys, scratch),
        uint32s(scratch, following),
        uint32s(scratch, following + 4 * slots),
    )


@jit
def mark(marks, size, node):
    """Whether a node was not met before; from now on it was."""
    at = np.intp((np.uint32(node) * np.uint32(_MIX)) & np.uint32(NONE))
    at = (at >> 7) & (size - 1)
    while marks[at] != np.uint32(NONE):
        if marks[at] == np.uint32(node):
            return False
        at = (at + 1) & (size - 1)
    marks[at] = np.uint32(node)
    return True


@njit(error_model="numpy", inline="never")
def room(numbers, marks, most, count):
    """Make room for so many more nodes to be met; tell if there is none.

    The table of a size begins at mark `size`, and one twice as large behind it.
    """
    size = np.intp(numbers[TABLE])
    while 2 * (np.intp(numbers[MEASURED]) + count) > size:
        if 2 * size > most:
            numbers[PHASE] = OVERFLOWED
            return
        for i in range(2 * size, 4 * size):
            marks[i] = np.uint32(NONE)
        numbers[TABLE] = np.int32(2 * size)
        larger = offset_by(marks, 8 * size, marks)
        for i in range(size, 2 * size):
            if marks[i] != np.uint32(NONE):
                mark(larger, 2 * size, np.intp(marks[i]))
        size *= 2


@jit
def limit_of(numbers, rank, bins, more):
    """How far a node may be."""
    if np.intp(numbers[COUNTED]) < rank:
        return np.intp(bins - 1)
    return min(np.intp(numbers[KTH]) + more, bins - 1)


@jit
def push(walk, slots, rank, away, node, counts):
    """Let a node wait, and count it if it may be returned."""
    numbers, lists, histogram = walk.numbers, walk.lists, walk.histogram
    slot = np.intp(numbers[SLOTS])
    if slot >= slots:
        numbers[PHASE] = OVERFLOWED
        return
    numbers[SLOTS] = np.int32(slot + 1)
    walk.keys[slot] = (np.uint64(away) << np.uint64(32)) | np.uint64(node)
    walk.following[slot] = np.uint32(lists[away])
    lists[away] = np.int32(slot)
    walk.bits[away >> 6] |= np.uint64(1) << np.uint64(away & 63)
    if away < np.intp(numbers[NEAREST]):
        numbers[NEAREST] = np.int32(away)
    if counts and away <= np.intp(numbers[KTH]):
        histogram[away] += np.int32(1)
        counted = np.intp(numbers[COUNTED]) + 1
        kth = np.intp(numbers[KTH])
        while kth > 0 and counted - np.intp(histogram[kth]) >= rank:
            counted -= np.intp(histogram[kth])
            kth -= 1
        numbers[KTH] = np.int32(kth)
        numbers[COUNTED] = np.int32(counted)


@jit
def place_of(node, n, starts, started):
    """Where a node's code lies; the first, where a file says something impossible."""
    if started:
        node = np.intp(starts[node])
        if node >= n:
            node = np.intp(0)
    return node


def _measure_of(v: SimpleNamespace, distances: Any) -> Any:
    """`measure`, by the distances of four rows."""
    load, store, splat8, lanes = v.load, v.store, v.splat8, v.lanes

    @jit
    def measure(
        codes, words, n, starts, started, queries, query, scratch, waiting, count, away_at
    ):  # fmt: skip
        """The distances of the nodes that wait, four at once."""
        store(scratch, 0, splat8(0))
        store(scratch, lanes, splat8(255))
        tail = load(scratch, words * 8 % lanes)
        for i in range(0, count, 4):
            rows = (
                place_of(np.intp(waiting[i]), n, starts, started) * words,
                place_of(np.intp(waiting[min(i + 1, count - 1)]), n, starts, started) * words,
                place_of(np.intp(waiting[min(i + 2, count - 1)]), n, starts, started) * words,
                place_of(np.intp(waiting[min(i + 3, count - 1)]), n, starts, started) * words,
            )
            distances(codes, rows, queries, query * words, words, scratch, tail, away_at + 4 * i)

    return measure


def _begin_of(measure: Any) -> Any:
    """`begin`, by what measures."""

    @njit(error_model="numpy", inline="never")
    def begin(
        codes, words, n, starts, started, width, entries, n_entries, nodes, allowed, filtered,
        queries, query, rank, admitted, scratch, slots, marks,
    ):  # fmt: skip
        """Start a walk of a query, at the entries that are near to it."""
        walk = walk_in(scratch, words, width, slots)
        numbers, waiting, met = walk.numbers, walk.waiting, walk.met
        bins = 64 * words + 1
        for i in range(bins):
            walk.lists[i] = np.int32(-1)
            walk.histogram[i] = np.int32(0)
        for i in range(words + 1):
            walk.bits[i] = np.uint64(0)
        table = min(np.intp(LEAST_MARKS), marks)
        for i in range(table, 2 * table):
            met[i] = np.uint32(NONE)
        numbers[TABLE] = np.int32(table)
        numbers[PHASE] = EXPAND
        numbers[LEFT] = 0
        numbers[NEAREST] = np.int32(bins)
        numbers[SLOTS] = 0
        numbers[MEASURED] = 0
        numbers[KTH] = np.int32(bins - 1)
        numbers[COUNTED] = 0
        for first in range(0, n_entries, 4):
            count = np.intp(0)
            for i in range(first, min(first + 4, n_entries)):
                node = np.intp(entries[i])
                if node < nodes:
                    waiting[count] = np.uint32(node)
                    count += 1
            measure(
                codes, words, n, starts, started, queries, query, scratch, waiting, count,
                walk.away_at,
            )  # fmt: skip
            for i in range(count):
                node = np.intp(waiting[i])
                far = np.intp(walk.away[i])
                if far <= limit_of(numbers, rank, bins, admitted):
                    room(numbers, met, marks, 1)
                    if numbers[PHASE] == OVERFLOWED:
                        return
                    table = np.intp(numbers[TABLE])
                    if mark(offset_by(met, 4 * table, met), table, node):
                        numbers[MEASURED] += np.int32(1)
                        counts = filtered == 0 or is_allowed(allowed, node)
                        push(walk, slots, rank, far, node, counts)
                        if numbers[PHASE] == OVERFLOWED:
                            return
        numbers[ENTERED] = numbers[MEASURED]

    return begin


def _step_of(measure: Any) -> Any:
    """`step`, by what measures."""

    @njit(error_model="numpy", inline="never")
    def step(
        codes, words, n, starts, started, neighbours, width, nodes, allowed, filtered, queries,
        query, rank, admitted, gap, scratch, slots, marks,
    ):  # fmt: skip
        """Go on with a walk, up to where it would wait for memory."""
        walk = walk_in(scratch, words, width, slots)
        numbers, waiting, met = walk.numbers, walk.waiting, walk.met
        bins = 64 * words + 1
        if numbers[PHASE] == MEASURE:
            # The neighbours of the node that was taken are here: ask for the codes of new ones.
            line = np.intp(np.uint32(numbers[NODE])) * width
            count = np.intp(0)
            room(numbers, met, marks, width)
            if numbers[PHASE] == OVERFLOWED:
                return
            table = np.intp(numbers[TABLE])
            met = offset_by(met, 4 * table, met)
            for i in range(line, line + width):
                node = np.intp(neighbours[i])
                if node >= nodes:
                    break
                if mark(met, table, node):
                    waiting[count] = np.uint32(node)
                    count += 1
                    where = place_of(node, n, starts, started) * words * 8
                    for byte in range(where, where + words * 8 + 63, 64):
                        prefetch(codes, byte)
            numbers[LEFT] = np.int32(count)
            numbers[MEASURED] += np.int32(count)
            numbers[PHASE] = EXPAND
            return
        count = np.intp(numbers[LEFT])
        measure(
            codes, words, n, starts, started, queries, query, scratch, waiting, count, walk.away_at
        )
        limit = limit_of(numbers, rank, bins, admitted)
        for i in range(count):
            far = np.intp(walk.away[i])
            if far <= limit:
                node = np.intp(waiting[i])
                counts = filtered == 0 or is_allowed(allowed, node)
                push(walk, slots, rank, far, node, counts)
                limit = limit_of(numbers, rank, bins, admitted)
        if numbers[PHASE] == OVERFLOWED:
            return
        # The nearest node that waits.
        word = np.intp(numbers[NEAREST]) >> 6
        while word <= words and walk.bits[word] == np.uint64(0):
            word += 1
        if word > words:
            numbers[PHASE] = ENDED
            return
        bits = walk.bits[word]
        nearest = 64 * word + np.intp(trailing_zeros(bits))
        numbers[NEAREST] = np.int32(nearest)
        if nearest > limit_of(numbers, rank, bins, gap):
            numbers[PHASE] = ENDED
            return
        slot = np.intp(walk.lists[nearest])
        then = np.int32(walk.following[slot])
        walk.lists[nearest] = then
        if then < 0:
            walk.bits[word] = bits & (bits - np.uint64(1))
        node = np.intp(walk.keys[slot] & np.uint64(NONE))
        numbers[NODE] = np.int32(node)
        numbers[PHASE] = MEASURE
        line = node * width * 4
        for byte in range(line, line + 4 * width, 64):
            prefetch(neighbours, byte)

    return step


def walks(lanes: int) -> SimpleNamespace:
    """The functions of a walk, for registers of `lanes` bytes."""
    v = vectors(lanes, None)
    distances = distances_of(v, vectors(16, None))[1]
    measure = _measure_of(v, distances)
    return SimpleNamespace(
        begin=_begin_of(measure), step=_step_of(measure), distances=distances, v=v
    )
