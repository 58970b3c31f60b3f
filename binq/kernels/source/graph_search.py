"""Search of a graph by walks (source; imported only to be compiled)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from binq.kernels.source.graph_walk import (
    ENDED,
    ENTERED,
    MEASURED,
    NONE,
    PHASE,
    QUERY,
    SPARE,
    found,
)
from binq.kernels.source.scalars import int32s, int64s, offset_by, uint32s
from binq.kernels.source.select import sort

# What `given` holds, in this order.
GIVEN = ("numbers", "codes", "starts", "neighbours", "entries", "allowed", "names")
# And `numbers`.
NUMBERS = ("words", "n", "started", "width", "nodes", "n_entries", "filtered", "named")


def search_kernel(walk: SimpleNamespace) -> Any:
    """`search`, by the functions of a walk."""
    begin, step = walk.begin, walk.step

    def search(
        given, queries, n_queries, count, rank, admitted, gap, rows, distances, told, scratch, size,
        turns, slots, marks,
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
            names : uint32*, (nodes,)
                What is returned for a node; read only if `named` is 1, else its number.
        queries : uint64*, (n_queries, words)
        count : int
            How many to find.
        rank, admitted, gap : int
            A node waits, and is gone on from, if it is no farther than `admitted`, and `gap`, more
            than the nearest but ``rank - 1`` of those allowed.
        rows : uint64*, (n_queries, count)
            What is found, by ascending (distance, name).
        distances : int32*, (n_queries, count)
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
        nodes, n_entries = np.intp(numbers[4]), np.intp(numbers[5])
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
                    codes, words, n, starts, started, width, entries, n_entries, nodes, allowed,
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
                        codes, words, n, starts, started, neighbours, width, nodes, allowed,
                        filtered, queries, query, rank, admitted, gap, own, slots, marks,
                    )  # fmt: skip
                if state[PHASE] >= ENDED:
                    if state[PHASE] == ENDED:
                        first = query * count
                        kept = found(
                            words, width, allowed, filtered, named, names, count, own, slots, rows,
                            first,
                        )  # fmt: skip
                        sort(rows, first, kept)
                        for i in range(first, first + kept):
                            distances[i] = np.int32(rows[i] >> np.uint64(32))
                            rows[i] &= np.uint64(NONE)
                        told[2 * query] = kept
                        told[2 * query + 1] = (
                            np.int64(state[MEASURED]) - np.int64(state[ENTERED]) + n_entries
                        )
                    else:
                        told[2 * query] = -1
                        told[2 * query + 1] = -1
                    if following < n_queries:
                        begin(
                            codes, words, n, starts, started, width, entries, n_entries, nodes,
                            allowed, filtered, queries, following, rank, admitted, own, slots,
                            marks,
                        )  # fmt: skip
                        state[QUERY] = np.int32(following)
                        following += 1
                    else:
                        state[QUERY] = np.int32(-1)
                        active -= 1

    return search
