"""Links of a graph: chosen, given back, cut down, mended (source; imported only to be compiled)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

from binq.kernels.source.graph_walk import (
    ENDED,
    KTH,
    NONE,
    PHASE,
    QUERY,
    SLOTS,
    SPARE,
    walk_in,
)
from binq.kernels.source.scalars import int32s, jit, offset_by
from binq.kernels.source.select import select

# Of a target's candidates: no more are looked at than the nearest of them.
MOST = 256
# An odd number whose products look random.
_MIX = 0x9E3779B1
# Bytes of scratch for choosing among them.
FIXED = 128 + 16 + 8 * MOST + 64


def _choose_of(walk: SimpleNamespace) -> tuple[Any, Any]:
    """`prepared` and `choose`, by the functions of a walk."""
    distances, v = walk.distances, walk.v
    load, store, splat8, lanes = v.load, v.store, v.splat8, v.lanes

    @jit
    def prepared(words, scratch):
        store(scratch, 0, splat8(0))
        store(scratch, lanes, splat8(255))
        return load(scratch, words * 8 % lanes)

    @jit
    def choose(codes, words, keys, first, count, node, most, factor, chosen, to, scratch, away_at):
        """Choose from candidates, nearest first, those to which no chosen one is much nearer.

        A candidate is left out if a chosen one is nearer to it, `factor` 256ths of the distance,
        than it is to the node; equals stay.
        """
        tail = prepared(words, scratch)
        away = int32s(scratch, away_at)
        kept = np.intp(0)
        for i in range(first, first + count):
            key = keys[i]
            other = np.intp(key & np.uint64(NONE))
            if other == node:
                continue
            far = np.intp(key >> np.uint64(32)) * 256
            good = True
            j = np.intp(0)
            while good and j < kept:
                rows = (
                    np.intp(chosen[to + j]) * words,
                    np.intp(chosen[to + min(j + 1, kept - 1)]) * words,
                    np.intp(chosen[to + min(j + 2, kept - 1)]) * words,
                    np.intp(chosen[to + min(j + 3, kept - 1)]) * words,
                )
                distances(codes, rows, codes, other * words, words, scratch, tail, away_at)
                for lane in range(4):
                    if np.intp(away[lane]) * factor < far:
                        good = False
                j += 4
            if good:
                chosen[to + kept] = np.uint32(other)
                kept += 1
                if kept == most:
                    break
        return kept

    return prepared, choose


def _insert_of(walk: SimpleNamespace, choose: Any) -> Any:
    """`insert`, by the functions of a walk."""
    begin, step = walk.begin, walk.step

    @njit(error_model="numpy", inline="never")
    def finish(codes, words, width, node, most, factor, chosen, to, scratch, slots):
        """Choose among the nearest that a walk has found."""
        walk = walk_in(scratch, words, width, slots)
        histogram = walk.histogram
        kth = np.intp(walk.numbers[KTH])
        # Those found, sorted by counting, into the memory of what followed what, and of marks.
        place = np.int32(0)
        for far in range(kth + 1):
            count = histogram[far]
            histogram[far] = place
            place += count
        found = np.intp(place)
        order = walk.following
        for slot in range(np.intp(walk.numbers[SLOTS])):
            far = np.intp(walk.keys[slot] >> np.uint64(32))
            if far <= kth:
                order[np.intp(histogram[far])] = np.uint32(slot)
                histogram[far] += np.int32(1)
        keys = offset_by(walk.met, 0, scratch)
        for i in range(found):
            keys[i] = walk.keys[np.intp(order[i])]
        kept = choose(
            codes, words, keys, 0, found, node, most, factor, chosen, to, scratch, walk.away_at
        )
        for i in range(kept, most):
            chosen[to + i] = np.uint32(NONE)

    def insert(
        codes, words, n, neighbours, width, entries, n_entries, batch, count, most, rank, factor,
        chosen, scratch, size, turns, slots, marks,
    ):  # fmt: skip
        """The neighbours that new nodes choose, each by a walk over those that are there.

        Parameters
        ----------
        codes : uint64*, (n, words)
        neighbours : uint32*, (n, width)
        entries : uint32*, (n_entries,)
        batch : uint32*, (count,)
            The new nodes.
        most, rank, factor : int
            How many to choose, among how many, see `choose`.
        chosen : uint32*, (count, most)
        scratch, size, turns, slots, marks
            As for `search`; a walk that finds no more room ends there.
        """
        following = np.intp(0)
        active = np.intp(0)
        for lane in range(turns):
            own = offset_by(scratch, lane * size, scratch)
            numbers = int32s(own, SPARE)
            numbers[QUERY] = np.int32(-1)
            if following < count:
                begin(
                    codes, words, n, batch, 0, width, entries, n_entries, n, codes, 0, codes,
                    np.intp(batch[following]), rank, -1, own, slots, marks,
                )  # fmt: skip
                numbers[QUERY] = np.int32(following)
                following += 1
                active += 1
        while active > 0:
            for lane in range(turns):
                own = offset_by(scratch, lane * size, scratch)
                numbers = int32s(own, SPARE)
                number = np.intp(numbers[QUERY])
                if number < 0:
                    continue
                node = np.intp(batch[number])
                if numbers[PHASE] < ENDED:
                    step(
                        codes, words, n, batch, 0, neighbours, width, n, codes, 0, codes, node,
                        rank, -1, 0, own, slots, marks,
                    )  # fmt: skip
                if numbers[PHASE] >= ENDED:
                    finish(
                        codes, words, width, node, most, factor, chosen, number * most, own, slots
                    )
                    if following < count:
                        begin(
                            codes, words, n, batch, 0, width, entries, n_entries, n, codes, 0,
                            codes, np.intp(batch[following]), rank, -1, own, slots, marks,
                        )  # fmt: skip
                        numbers[QUERY] = np.int32(following)
                        following += 1
                    else:
                        numbers[QUERY] = np.int32(-1)
                        active -= 1

    return insert


def _cut_line_of(distances: Any, prepared: Any, choose: Any) -> Any:
    """`cut_line`, by what it measures and chooses with."""

    @njit(error_model="numpy", inline="never")
    def cut_line(codes, words, line, keys, have, node, most, factor, scratch):
        """Choose a node's neighbours among `have` candidates, keys of no distance yet."""
        tail = prepared(words, scratch)
        away = int32s(scratch, 128)
        for i in range(0, have, 4):
            rows = (
                np.intp(keys[i]) * words,
                np.intp(keys[min(i + 1, have - 1)]) * words,
                np.intp(keys[min(i + 2, have - 1)]) * words,
                np.intp(keys[min(i + 3, have - 1)]) * words,
            )
            distances(codes, rows, codes, node * words, words, scratch, tail, 128)
            for j in range(i, min(i + 4, have)):
                keys[j] |= np.uint64(away[j - i]) << np.uint64(32)
        if have > MOST:
            select(keys, 0, have, MOST)
            have = np.intp(MOST)
        for i in range(1, have):
            key = keys[i]
            j = i
            while j > 0 and keys[j - 1] > key:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key
        return choose(codes, words, keys, 0, have, node, most, factor, line, 0, scratch, 128)

    return cut_line


def _cuts_of(cut_line: Any) -> tuple[Any, Any]:
    """`link` and `cut`, by what cuts a line."""

    def link(
        codes, words, neighbours, width, most, factor, edges, groups, first, last, keys, scratch
    ):  # fmt: skip
        """Give edges back: add new neighbours to lines, and cut those that overflow.

        Parameters
        ----------
        codes : uint64*, (n, words)
        neighbours : uint32*, (n, width)
        most : int
            How many neighbours a line is cut to.
        edges : uint64*
            (target << 32) | source, ascending.
        groups : int64*
            Where the edges of each target begin, and end.
        first, last : int
            Which of the groups.
        keys : uint64*
            Room for the neighbours of a line and the edges of the largest group.
        scratch : uint64*, 64-byte aligned
        """
        for group in range(first, last):
            start = groups[group]
            end = groups[group + 1]
            node = np.intp(edges[start] >> np.uint64(32))
            line = offset_by(neighbours, 4 * node * width, neighbours)
            have = np.intp(0)
            while have < width and line[have] != np.uint32(NONE):
                have += 1
            if have + end - start <= width:
                for i in range(start, end):
                    line[have] = np.uint32(edges[i] & np.uint64(NONE))
                    have += 1
                continue
            for i in range(have):
                keys[i] = np.uint64(line[i])
            for i in range(start, end):
                keys[have] = edges[i] & np.uint64(NONE)
                have += 1
            kept = cut_line(codes, words, line, keys, have, node, most, factor, scratch)
            for i in range(kept, width):
                line[i] = np.uint32(NONE)

    def cut(codes, words, neighbours, width, most, factor, first, last, lines, keys, scratch):
        """Copy the lines of some nodes to `lines` (n, most), cut where they are longer."""
        for node in range(first, last):
            line = offset_by(neighbours, 4 * node * width, neighbours)
            to = offset_by(lines, 4 * node * most, lines)
            have = np.intp(0)
            while have < width and line[have] != np.uint32(NONE):
                keys[have] = np.uint64(line[have])
                have += 1
            if have > most:
                have = cut_line(codes, words, line, keys, have, node, most, factor, scratch)
            for i in range(most):
                to[i] = line[i] if i < have else np.uint32(NONE)

    return link, cut


def link_kernels(walk: SimpleNamespace) -> dict[str, Any]:
    """`insert`, `link` and `cut`, by the functions of a walk."""
    prepared, choose = _choose_of(walk)
    link, cut = _cuts_of(_cut_line_of(walk.distances, prepared, choose))
    return {"insert": _insert_of(walk, choose), "link": link, "cut": cut}


def reach(neighbours, width, n, parents, queue, ends, steps):
    """Go on to all that can be reached, breadth first, by at most so many nodes.

    Parameters
    ----------
    neighbours : uint32*, (n, width)
    parents : uint32*, (n,)
        From where a node was reached; an entry is its own; `NONE` for those that were not.
    queue : uint32*, (n,)
    ends : int64*, (2,)
        What of the queue is done, and where it ends.
    """
    head = ends[0]
    tail = ends[1]
    while head < tail and steps > 0:
        node = np.intp(queue[head])
        head += 1
        steps -= 1
        for i in range(node * width, (node + 1) * width):
            other = np.intp(neighbours[i])
            if other >= n:
                break
            if parents[other] == np.uint32(NONE):
                parents[other] = np.uint32(node)
                queue[tail] = np.uint32(other)
                tail += 1
    ends[0] = head
    ends[1] = tail


@jit
def place_at(neighbours, width, n, parents, node, spare):
    """A free place of a node's line, or that of an edge by which nothing was reached; -1 for none.

    The first place that is free; with `spare` any other that nothing hangs on.
    """
    for at in range((node + 1) * width - 1, node * width - 1, -1):
        far = np.intp(neighbours[at])
        if far >= n:
            if at == node * width or np.intp(neighbours[at - 1]) < n:
                return at
        elif spare and (far == node or np.intp(parents[far]) != node):
            return at
    return np.intp(-1)


def mend(neighbours, width, n, parents, node, result):
    """Link a node that was not reached from one of its neighbours that was.

    Where no neighbour has a place left all that is linked from one hangs on it, and one of those is
    asked, or of those that hang on it in turn: many nodes may have the same few neighbours.

    Parameters
    ----------
    neighbours : uint32*, (n, width)
    parents : uint32*, (n,)
        As of `reach`.
    node : int
    result : int64*, (1,)
        1 where a neighbour was reached, and so a place was found.
    """
    result[0] = 0
    start = np.intp(-1)
    for spare in range(2):
        for i in range(node * width, (node + 1) * width):
            other = np.intp(neighbours[i])
            if other >= n:
                break
            if parents[other] == np.uint32(NONE):
                continue
            if start < 0 or (i - node * width) == node % width:
                start = other
            at = place_at(neighbours, width, n, parents, other, spare == 1)
            if at >= 0:
                neighbours[at] = np.uint32(node)
                parents[node] = np.uint32(other)
                result[0] = 1
                return
    turn = np.uint32(node)
    while start >= 0:
        turn = turn * np.uint32(_MIX) + np.uint32(1)
        start = np.intp(neighbours[start * width + np.intp(turn >> np.uint32(8)) % width])
        at = place_at(neighbours, width, n, parents, start, True)
        if at >= 0:
            neighbours[at] = np.uint32(node)
            parents[node] = np.uint32(start)
            result[0] = 1
            return
