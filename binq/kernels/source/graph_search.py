"""Search of a graph by walks (source; imported only to be compiled)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.columns import is_allowed
from binq.kernels.source.graph_walk import (
    ENDED,
    ENTERED,
    MEASURED,
    NONE,
    PHASE,
    QUERY,
    SLOTS,
    SPARE,
    place_of,
    walk_in,
)
from binq.kernels.source.scalars import int32s, int64s, jit, offset_by, uint32s
from binq.kernels.source.select import select, sort

# What `given` holds, in this order.
GIVEN = ("numbers", "codes", "starts", "neighbours", "entries", "allowed", "names")
# And `numbers`.
NUMBERS = ("words", "n", "started", "width", "nodes", "n_entries", "filtered", "named")


@jit
def name_of(node, n, starts, started, names, named):
    """What is returned for a node: its number, or what its code is called."""
    if named:
        return np.uint64(names[place_of(node, n, starts, started)])
    return np.uint64(node)


@njit(error_model="numpy", inline="never")
def found(
    words, width, n, starts, started, allowed, filtered, names, named, count, scratch, slots, keys,
    nodes, to,
):  # fmt: skip
    """Write the nearest that were found, in no order, (distance << 32) | name; how many they are.

    Of those that are equally far, what has the smallest names is taken.
    """
    walk = walk_in(scratch, words, width, slots)
    bins = 64 * words + 1
    own, level = walk.keys, walk.following
    met = np.intp(0)
    far = np.intp(-1)
    while far + 1 < bins and met < count:
        far += 1
        met += np.intp(walk.histogram[far])
    nearer = np.intp(0)
    equal = np.intp(0)
    for slot in range(np.intp(walk.numbers[SLOTS])):
        key = own[slot]
        node = np.intp(key & np.uint64(NONE))
        away = np.intp(key >> np.uint64(32))
        if away <= far and (filtered == 0 or is_allowed(allowed, node)):
            if away < far:
                own[nearer] = key
                nearer += 1
            else:
                level[equal] = np.uint32(node)
                equal += 1
    nearer = min(nearer, count)
    for i in range(nearer):
        node = np.intp(own[i] & np.uint64(NONE))
        name = name_of(node, n, starts, started, names, named)
        keys[to + i] = own[i] >> np.uint64(32) << np.uint64(32) | name
        nodes[to + i] = node
    for i in range(equal):
        node = np.intp(level[i])
        name = name_of(node, n, starts, started, names, named)
        own[i] = name << np.uint64(32) | np.uint64(node)
    left = min(equal, count - nearer)
    if 0 < left < equal:
        select(own, 0, equal, left)
    for i in range(left):
        keys[to + nearer + i] = np.uint64(far) << np.uint64(32) | own[i] >> np.uint64(32)
        nodes[to + nearer + i] = np.intp(own[i] & np.uint64(NONE))
    return nearer + left


def search_kernel(walk: SimpleNamespace) -> Any:
    """`search`, by the functions of a walk."""
    begin, step = walk.begin, walk.step

    def search(
        given, queries, n_queries, count, rank, admitted, gap, keys, nodes, distances, told,
        scratch, size, turns, slots, marks,
    ):  # fmt: skip
        """The nearest nodes of each query.

        Parameters
        ----------
        given : uint64**
            What does not change from call to call, in the order of `GIVEN`, of which `numbers` are
            in the order of `NUMBERS`:

            codes : uint64*, (n, words)
            starts : uint32*, (nodes,)
                Where the code of every node lies; read only if `started` is 1, else at its number.
            neighbours : uint32*, (nodes, width)
                Lines end at the first number that is no node's.
            entries : uint32*, (n_entries,)
            allowed : uint64*, bitmap of nodes
                Read only if `filtered` is 1.
            names : uint32*, (n,)
                What a node is called, by where its code lies; read only if `named` is 1, else it is
                its number.
        queries : uint64*, (n_queries, words)
        count : int
            How many to find.
        rank, admitted, gap : int
            A node waits, and is gone on from, if it is no farther than `admitted`, and `gap`, more
            than the nearest but ``rank - 1`` of those allowed.
        keys, nodes, distances : uint64*, int64*, int32*, (n_queries, count)
            Names, and numbers, of what is found, and how far it is, by ascending (distance, name).
        told : int64*, (n_queries, 2)
            How many were found, and measured; -1 and -1 where slots or marks were too few.
        scratch : uint64*, (turns, size)
            `size` in bytes.
        turns : int
            Queries that take turns.
        slots, marks : int
            Of each walk: how many nodes may wait, and twice as many as may be measured, a power
            of two.
        """
        numbers = int64s(given[0], 0)
        words, n = np.intp(numbers[0]), np.intp(numbers[1])
        started, width = np.intp(numbers[2]), np.intp(numbers[3])
        n_nodes, n_entries = np.intp(numbers[4]), np.intp(numbers[5])
        filtered, named = np.intp(numbers[6]), np.intp(numbers[7])
        codes, allowed = given[1], given[5]
        starts, neighbours = uint32s(given[2], 0), uint32s(given[3], 0)
        entries, names = uint32s(given[4], 0), uint32s(given[6], 0)
        # `begin` stands here twice, as in `insert`: called from one place it is compiled into the
        # loop, which makes a batch some 4 % slower.
        following = np.intp(0)
        active = np.intp(0)
        for lane in range(turns):
            own = offset_by(scratch, lane * size, scratch)
            state = int32s(own, SPARE)
            state[QUERY] = np.int32(-1)
            if following < n_queries:
                begin(
                    codes, words, n, starts, started, width, entries, n_entries, n_nodes, allowed,
                    filtered, queries, following, rank, admitted, own, slots, marks,
                )  # fmt: skip
                state[QUERY] = np.int32(following)
                following += 1
                active += 1
        while active > 0:
            for lane in range(turns):
                own = offset_by(scratch, lane * size, scratch)
                state = int32s(own, SPARE)
                query = np.intp(state[QUERY])
                if query < 0:
                    continue
                if state[PHASE] < ENDED:
                    step(
                        codes, words, n, starts, started, neighbours, width, n_nodes, allowed,
                        filtered, queries, query, rank, admitted, gap, own, slots, marks,
                    )  # fmt: skip
                if state[PHASE] >= ENDED:
                    if state[PHASE] == ENDED:
                        first = query * count
                        kept = found(
                            words, width, n, starts, started, allowed, filtered, names, named,
                            count, own, slots, keys, nodes, first,
                        )  # fmt: skip
                        sort(keys, first, kept, nodes)
                        for i in range(first, first + kept):
                            distances[i] = np.int32(keys[i] >> np.uint64(32))
                            keys[i] &= np.uint64(NONE)
                        told[2 * query] = kept
                        told[2 * query + 1] = (
                            np.int64(state[MEASURED]) - np.int64(state[ENTERED]) + n_entries
                        )
                    else:
                        told[2 * query] = -1
                        told[2 * query + 1] = -1
                    if following < n_queries:
                        begin(
                            codes, words, n, starts, started, width, entries, n_entries, n_nodes,
                            allowed, filtered, queries, following, rank, admitted, own, slots,
                            marks,
                        )  # fmt: skip
                        state[QUERY] = np.int32(following)
                        following += 1
                    else:
                        state[QUERY] = np.int32(-1)
                        active -= 1

    return search
