"""Making a proximity graph over codes.

Nodes are inserted in batches, each at most as large as what is there already (Dhulipala et al.,
ParlayANN, PPoPP 2024): all nodes of a batch walk over the same graph, then their links are given
back, target by target. So the graph is the same at any number of threads.

Of the nearest nodes that a walk finds, a node links to those to which no chosen one is much nearer
(Malkov and Yashunin, HNSW, IEEE TPAMI 2020; with a factor on the distance, Subramanya et al.,
DiskANN, NeurIPS 2019). While the graph grows a line has room for more than it is to keep, so that
it is seldom cut.

Nodes are numbered by the entry that is nearest to them: neighbours lie together in memory.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.graph import FAMILY, Graph, Nodes
from binq.kernels.nearest import nearest
from binq.kernels.scan import Engine, Memory, address
from binq.kernels.walks import Walks, power_of_two

NONE: Final = np.uint32(0xFFFFFFFF)
"""Fills up a line of neighbours."""

Codes = npt.NDArray[np.uint64]

_ENTRIES: Final = 256
# A candidate is left out if a chosen one is nearer to it than to the node by such a factor, in
# 256ths: where a node is new, and where it has too many neighbours. Larger ones make lines longer:
# each walk finds more, and takes longer for it.
_NEW: Final = 264
_FULL: Final = 282
# Of all nodes, how many are inserted at once, at most; fewer than the first are too few.
_SHARE: Final = 0.02
_BATCH: Final = 64
_TURNS: Final = 4
# Nodes inserted, and lines given back, in a call: some ten milliseconds.
_INSERTED_PER_CALL: Final = 128
_LINES_PER_CALL: Final = 2048
_REACHED_PER_CALL: Final = 1 << 18
# Nodes that nothing near reaches wait for others, while each round leaves at most such a share.
_FEWER: Final = 0.9


class Made(NamedTuple):
    """A graph, and what its nodes are.

    Attributes
    ----------
    graph : Graph
        All of its nodes can be reached.
    order : (n,) int64
        Node i is row ``order[i]`` of the codes.
    mended : int
        How many nodes could not be reached and had to be linked, or made entries.
    """

    graph: Graph
    order: npt.NDArray[np.int64]
    mended: int


class Reach:
    """The nodes that can be reached from some entries.

    Parameters
    ----------
    library : Library
    lines : (n, width) uint32, C-contiguous
        Links, which must not change but by what is reached from then on.
    entries : (e,) uint32
        Each below n.

    Attributes
    ----------
    parents : (n,) uint32
        From where each node was reached; an entry is its own, `NONE` stands where it was not.
    """

    def __init__(self, library: aot.Library, lines: Nodes, entries: Nodes) -> None:
        self._kernel, self._lines = library.functions["reach"], lines
        self.parents = np.full(len(lines), NONE)
        self._queue = np.empty(len(lines), np.uint32)
        self._ends = np.zeros(2, np.int64)
        entries = np.unique(entries)
        self.parents[entries] = entries
        self.add(entries)

    @property
    def count(self) -> int:
        """How many can be reached."""
        return int(self._ends[1])

    def add(self, nodes: Nodes) -> None:
        """Go on from nodes whose parents have just been set."""
        end = self.count
        self._queue[end : end + len(nodes)] = nodes
        self._ends[1] += len(nodes)
        n, width = self._lines.shape
        while self._ends[0] < self._ends[1]:
            self._kernel(
                address(self._lines), width, n, address(self.parents), address(self._queue),
                address(self._ends), _REACHED_PER_CALL,
            )  # fmt: skip


def reached(graph: Graph, *, engine: Engine | None = None) -> int:
    """How many nodes can be reached from the entries."""
    library = aot.load(FAMILY) if engine is None or engine.library is None else engine.library
    lines = np.ascontiguousarray(graph.neighbours)
    return Reach(library, lines, graph.entries[graph.entries < len(lines)]).count


class _Growing:
    """A graph that grows: lines with room for more neighbours than they are to keep."""

    def __init__(
        self, library: aot.Library, codes: Codes, m: int, ef_construction: int, threads: int
    ) -> None:
        self._library, self._codes, self._threads = library, codes, threads
        n, words = codes.shape
        self._most, self._rank = 2 * m, ef_construction
        # Half as many again as it is to keep.
        self._width = 3 * m
        self._lines = np.full((n, self._width), NONE)
        slots = 256 + 16 * ef_construction
        marks = power_of_two(max(2 * slots, 128 * ef_construction))
        self._walks, self._room = Walks(library.layout, words, self._width), (_TURNS, slots, marks)

    def insert(self, batch: Nodes, entries: Nodes) -> None:
        """Insert nodes, ascending, by walks from entries that are there."""
        codes, lines, most = self._codes, self._lines, self._most
        (n, words), count, kernel = codes.shape, len(batch), self._library.functions["insert"]
        chosen = np.empty((count, most), np.uint32)

        def work(_: int, number: int) -> None:
            first = number * _INSERTED_PER_CALL
            given = (
                address(codes), words, n, address(lines), self._width, address(entries),
                len(entries), address(batch[first:]), min(_INSERTED_PER_CALL, count - first), most,
                self._rank, _NEW, address(chosen[first:]),
            )  # fmt: skip
            self._walks.call(kernel, given, self._room)

        run_blocks(-(-count // _INSERTED_PER_CALL), self._threads, work)
        lines[batch, :most] = chosen
        edges = chosen.astype(np.uint64) << np.uint64(32) | batch[:, None].astype(np.uint64)
        self._link(np.sort(edges[chosen != NONE]))

    def _link(self, edges: Codes) -> None:
        """Add edges, (target << 32) | source, ascending, to the lines of their targets."""
        if not len(edges):
            return
        targets = edges >> np.uint64(32)
        starts = np.flatnonzero(targets[1:] != targets[:-1]) + 1
        groups = np.concatenate([[0], starts, [len(edges)]])
        memory = self._memory(int(np.diff(groups).max()))
        kernel, codes, lines = self._library.functions["link"], self._codes, self._lines
        count = len(groups) - 1

        def work(worker: int, number: int) -> None:
            first = number * _LINES_PER_CALL
            kernel(
                address(codes), codes.shape[1], address(lines), self._width, self._most, _FULL,
                address(edges), address(groups), first, min(count, first + _LINES_PER_CALL),
                *memory[worker].addresses,
            )  # fmt: skip

        run_blocks(-(-count // _LINES_PER_CALL), self._threads, work)

    def cut(self) -> Nodes:
        """The lines, none longer than it is to be."""
        n, words = self._codes.shape
        memory = self._memory(0)
        kernel, codes, lines = self._library.functions["cut"], self._codes, self._lines
        final = np.empty((n, self._most), np.uint32)

        def work(worker: int, number: int) -> None:
            first = number * _LINES_PER_CALL
            kernel(
                address(codes), words, address(lines), self._width, self._most, _FULL, first,
                min(n, first + _LINES_PER_CALL), address(final), *memory[worker].addresses,
            )  # fmt: skip

        run_blocks(-(-n // _LINES_PER_CALL), self._threads, work)
        return final

    def _memory(self, added: int) -> list[Memory]:
        """For each worker, of the keys of a line with so many more, and for choosing."""
        sizes = 8 * (self._width + added), self._library.layout["link.scratch"]
        return [Memory(*sizes) for _ in range(self._threads)]


def make(
    codes: Codes,
    m: int,
    ef_construction: int,
    threads: int = 1,
    *,
    engine: Engine | None = None,
) -> Made:
    """Make a graph over codes, the same at any number of threads.

    Parameters
    ----------
    codes : (n, words) uint64
        All different: equal ones would link to each other only. Fewer than 2**31.
    m : int
        Half the neighbours of a node, at least 1.
    ef_construction : int
        Of how many near nodes a new one chooses its neighbours; at least 1.
    threads : int
    engine : Engine, optional
        What runs it; chosen by what is compiled.

    Returns
    -------
    Made

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or numbers do not fit.
    """
    if codes.ndim != 2 or codes.shape[1] == 0 or len(codes) >= 1 << 31:
        raise ValueError(f"codes {codes.shape}")
    if codes.dtype != np.uint64:
        raise TypeError(f"codes are {codes.dtype}, not uint64")
    if m < 1 or ef_construction < 1:
        raise ValueError(f"m {m}, ef_construction {ef_construction}")
    library = aot.load(FAMILY) if engine is None or engine.library is None else engine.library
    n, threads = len(codes), max(1, threads)
    if not n:
        nothing = np.empty(0, np.uint32)
        return Made(Graph(nothing.reshape(0, 2 * m), nothing), np.empty(0, np.int64), 0)
    rows = np.random.default_rng(0).permutation(n)
    first = np.sort(rows[:_ENTRIES])
    order = np.argsort(nearest(codes, codes[first], threads)[0], kind="stable")
    codes = np.ascontiguousarray(codes[order])
    places = np.empty(n, np.uint32)
    places[order] = np.arange(n, dtype=np.uint32)
    shuffled = places[rows]
    entries = np.sort(shuffled[:_ENTRIES])
    growing = _Growing(library, codes, m, ef_construction, threads)
    done, most = 0, max(_BATCH, int(n * _SHARE))
    while done < n:
        count = min(max(1, done), most, n - done)
        batch = np.sort(shuffled[done : done + count])
        there = entries if done >= len(entries) else np.sort(shuffled[:done])
        growing.insert(batch, there)
        done += count
    lines = growing.cut()
    del growing
    more, mended = _mended(library, lines, entries)
    return Made(Graph(lines, np.concatenate([entries, more])), order, mended)


def _mended(library: aot.Library, lines: Nodes, entries: Nodes) -> tuple[Nodes, int]:
    """Link what is not reached, in place; where nothing near is reached it becomes an entry.

    Returns
    -------
    Further entries, ascending; how many nodes were not reached.
    """
    n, width = lines.shape
    reach = Reach(library, lines, entries)
    missed = n - reach.count
    done = np.zeros(1, np.int64)
    more = []
    left = np.flatnonzero(reach.parents == NONE).astype(np.uint32)
    few = False
    while len(left):
        for node in left:
            if reach.parents[node] != NONE:
                continue
            library.functions["mend"](
                address(lines), width, n, address(reach.parents), int(node), address(done)
            )
            if not done[0]:
                if not few:
                    continue
                reach.parents[node] = node
                more.append(node)
            reach.add(np.array([node]))
        before, left = len(left), left[reach.parents[left] == NONE]
        few = len(left) > _FEWER * before
    return np.array(sorted(more), np.uint32), missed
