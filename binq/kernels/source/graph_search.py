"""Search of a graph by walks (source; imported only to be compiled)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from binq.kernels.source.graph_walk import ENDED, ENTERED, MEASURED, PHASE, QUERY, SPARE, found
from binq.kernels.source.scalars import int32s, offset_by


def search_kernel(walk: SimpleNamespace) -> Any:
    """`search`, by the functions of a walk."""
    begin, step = walk.begin, walk.step

    def search(
        codes, words, n, starts, started, neighbours, width, nodes, entries, n_entries, allowed,
        filtered, named, names, queries, n_queries, count, rank, admitted, gap, keys, told, scratch,
        size, turns, slots, marks,
    ):  # fmt: skip
        """The nearest nodes of each query.

        Parameters
        ----------
        codes : uint64*, (n, words)
        starts : uint32*, (nodes,)
            Where the code of every node lies; read only if `started` is 1, else at its number.
        neighbours : uint32*, (nodes, width)
            Lines end at the first number that is no node's.
        entries : uint32*, (n_entries,)
        allowed : uint64*, bitmap of nodes
            Read only if `filtered` is 1.
        named : int
        names : uint32*, (nodes,)
            What is returned for a node; read only if `named` is 1, else its number.
        queries : uint64*, (n_queries, words)
        count : int
            How many to find.
        rank, admitted, gap : int
            A node waits, and is gone on from, if it is no farther than `admitted`, and `gap`, more
            than the nearest but ``rank - 1`` of those allowed.
        keys : uint64*, (n_queries, count)
            (distance << 32) | name, in no order; what is not found is left as it is.
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
        # `begin` stands here twice, as in `insert`: called from one place it is compiled into the
        # loop, which makes a batch some 4 % slower.
        following = np.intp(0)
        active = np.intp(0)
        for lane in range(turns):
            own = offset_by(scratch, lane * size, scratch)
            numbers = int32s(own, SPARE)
            numbers[QUERY] = np.int32(-1)
            if following < n_queries:
                begin(
                    codes, words, n, starts, started, width, entries, n_entries, nodes, allowed,
                    filtered, queries, following, rank, admitted, own, slots, marks,
                )  # fmt: skip
                numbers[QUERY] = np.int32(following)
                following += 1
                active += 1
        while active > 0:
            for lane in range(turns):
                own = offset_by(scratch, lane * size, scratch)
                numbers = int32s(own, SPARE)
                query = np.intp(numbers[QUERY])
                if query < 0:
                    continue
                if numbers[PHASE] < ENDED:
                    step(
                        codes, words, n, starts, started, neighbours, width, nodes, allowed,
                        filtered, queries, query, rank, admitted, gap, own, slots, marks,
                    )  # fmt: skip
                if numbers[PHASE] >= ENDED:
                    if numbers[PHASE] == ENDED:
                        told[2 * query] = found(
                            words, width, allowed, filtered, named, names, count, own, slots, keys,
                            query * count,
                        )  # fmt: skip
                        told[2 * query + 1] = (
                            np.int64(numbers[MEASURED]) - np.int64(numbers[ENTERED]) + n_entries
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
                        numbers[QUERY] = np.int32(following)
                        following += 1
                    else:
                        numbers[QUERY] = np.int32(-1)
                        active -= 1

    return search
