"""Search of a proximity graph over codes.

The graph has one level: every node is linked to near ones and to some that lie farther, and a walk
starts at those of a table of entries that are near to the query (how it is made:
`graph_making`). It goes on from the nearest node that it has not gone on from yet, and ends where
that is too far: farther than the `ef`-th nearest found so far, as Malkov and Yashunin have it
(HNSW, IEEE TPAMI 2020), or farther by a `gap` than the nearest that are wanted, which leaves easy
queries early and goes on with hard ones (Al-Jazzazi et al., Distance adaptive beam search for
provably accurate graph-based nearest neighbor search, NeurIPS 2025).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Bitmap, Chosen
from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.hamming import topk
from binq.kernels.scan import Engine, Memory, address

FAMILY: Final = aot.Family("graph")

Codes = npt.NDArray[np.uint64]
Nodes = npt.NDArray[np.uint32]

_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
# Word comparisons that numpy does while a compiler would run.
_NUMPY_WORK: Final = 1 << 29
# Queries of a walking thread that take turns, so that each waits while others work.
_TURNS: Final = 4
# Nodes measured in a call, by guess, and queries: some ten milliseconds.
_MEASURED_PER_CALL: Final = 1 << 18
_QUERIES_PER_CALL: Final = 64
# Nodes that a walk has room for at first, beside those that it must find.
_SLOTS: Final = 1 << 12
_MARKS: Final = 1 << 15


class Graph(NamedTuple):
    """Links between nodes 0 to n - 1.

    Attributes
    ----------
    neighbours : (n, width) uint32
        To which nodes each is linked; `graph_making.NONE`, or any other number that is no node's,
        ends a line.
    entries : (e,) uint32
        Where walks start; numbers that are no node's are passed over.
    """

    neighbours: Nodes
    entries: Nodes


class Found(NamedTuple):
    """What a search found.

    Attributes
    ----------
    nodes : (q, k) int64
        By ascending (distance, node), or their names, if they have any.
    distances : (q, k) int32
        -1 after the last.
    compared : (q,) int64
        With how many codes each query was compared.
    """

    nodes: npt.NDArray[np.int64]
    distances: npt.NDArray[np.int32]
    compared: npt.NDArray[np.int64]


class Effort(NamedTuple):
    """How far a walk goes, as the kernel takes it.

    A node waits, and is gone on from, if it is no farther than `admitted`, and `gap`, more than
    the `rank`-th nearest found so far.
    """

    rank: int
    admitted: int
    gap: int


class Walks:
    """Memory of walks that take turns.

    Parameters
    ----------
    layout : dict
        Of the library.
    words, width : int
        Of a code, and of a line of neighbours.
    slots : int
        Nodes that may wait, or be found, in a walk.
    marks : int
        Twice the nodes that may be measured in a walk; a power of two.
    turns, workers : int
    """

    def __init__(
        self,
        layout: dict[str, int],
        words: int,
        width: int,
        slots: int,
        marks: int,
        turns: int,
        workers: int,
    ) -> None:
        size = layout["walk.scratch"] + layout["walk.scratch_per_word"] * words
        size += layout["walk.scratch_per_neighbour"] * width
        size += layout["walk.scratch_per_slot"] * slots + layout["walk.scratch_per_mark"] * marks
        size = -(-size // 64) * 64
        self._memory = [Memory(size * turns) for _ in range(workers)]
        self._sizes = size, turns, slots, marks

    def of(self, worker: int) -> tuple[int, ...]:
        """What the kernel is told of a worker's memory."""
        return self._memory[worker].addresses[0], *self._sizes


def power_of_two(least: int) -> int:
    """The smallest that is not below."""
    return 1 << max(0, least - 1).bit_length()


def search(
    codes: Codes,
    graph: Graph,
    queries: Codes,
    count: int,
    *,
    ef: int | None = None,
    gap: int | None = None,
    allowed: Bitmap | None = None,
    starts: Nodes | None = None,
    names: Nodes | None = None,
    most: int | None = None,
    threads: int = 1,
    engine: Engine | None = None,
) -> Found:
    """Find near nodes of each query.

    As many are found as are wanted and allowed: where a walk ends with fewer, which it does only
    if they cannot be reached, the codes are scanned. The same is found at any number of threads.
    While nothing is compiled and the work is small, numpy scans the codes.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    graph : Graph
        Whatever its numbers are, the search ends, and reads nothing outside of the arrays.
    queries : (q, words) uint64
    count : int
        How many nodes to find, at least 1.
    ef : int, optional
        Go on while there are nodes nearer than so many of those found; at least `count` is taken.
        From the number of nodes on, all that can be reached are measured.
    gap : int, optional
        In place of `ef`: go on while there are nodes at most so much farther than the nearest
        `count` found. In bits.
    allowed : (ceil(nodes / 64),) uint64, optional
        Bit ``i % 64`` of word ``i // 64`` says whether node i may be returned. Others are walked
        through.
    starts : (nodes,) or (nodes + 1,) uint32, optional
        Where among the codes that of each node lies; by default at its number.
    names : (nodes,) uint32, optional
        What to return for each node in place of its number. Equally near ones are taken, and
        ordered, by it.
    most : int, optional
        Give up walks that measure more nodes, up to twice as many, as happens where hardly any
        nodes about a query are allowed. They find -1 at distance -1, and nothing else.
    threads : int
    engine : Engine, optional
        What runs it; chosen by what is compiled.

    Returns
    -------
    Found

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or numbers do not fit.
    """
    _check(codes, graph, queries, starts, names)
    if count < 1 or (ef is None) == (gap is None) or (ef is not None and ef < 1) or (gap or 0) < 0:
        raise ValueError(f"count {count}, ef {ef}, gap {gap}")
    nodes, asked = len(graph.neighbours), len(queries)
    chosen = Chosen(nodes, None, allowed)
    count = min(count, chosen.count)
    if not asked or not count:
        nothing = np.empty((asked, 0), np.int64)
        return Found(nothing, nothing.astype(np.int32), np.zeros(asked, np.int64))
    engine = engine or Engine(aot.worth_compiling(FAMILY, codes.size * asked, _NUMPY_WORK))
    if engine.library is None:
        return _scanned(codes, queries, count, chosen, starts, names, threads)
    if ef is not None:
        effort = Effort(min(max(ef, count), nodes), -1, 0)
    else:
        gap = min(gap or 0, 64 * codes.shape[1])
        effort = Effort(count, gap, gap)
    arrays = tuple(
        None if array is None else np.ascontiguousarray(array)
        for array in (codes, graph.neighbours, graph.entries, chosen.allowed, starts, names)
    )
    most = most or nodes
    keys, told, least = _walked(engine.library, arrays, queries, count, effort, most, threads)
    if least < count:
        short = np.flatnonzero((told[:, 0] < count) & (told[:, 0] >= 0))
        others = _scanned(codes, queries[short], count, chosen, starts, names, threads)
        numbers = others.nodes.view(np.uint64)
        keys[short] = others.distances.astype(np.uint64) << _HALF | numbers
        told[short, 1] += others.compared
    nodes_found, distances = (keys & _LOW).view(np.int64), (keys >> _HALF).astype(np.int32)
    if least < 0:
        given_up = told[:, 0] < 0
        nodes_found[given_up], distances[given_up], told[given_up, 1] = -1, -1, most
    return Found(nodes_found, distances, told[:, 1])


def _check(
    codes: Codes, graph: Graph, queries: Codes, starts: Nodes | None, names: Nodes | None
) -> None:
    if codes.ndim != 2 or queries.ndim != 2 or codes.shape[1] != queries.shape[1]:
        raise ValueError(f"codes {codes.shape} and queries {queries.shape} differ in words")
    if codes.shape[1] == 0 or graph.neighbours.ndim != 2 or graph.entries.ndim != 1:
        shapes = graph.neighbours.shape, graph.entries.shape
        raise ValueError(f"codes {codes.shape}, neighbours and entries {shapes}")
    nodes = len(graph.neighbours)
    if starts is None and nodes != len(codes):
        raise ValueError(f"{nodes} nodes of {len(codes)} codes")
    if starts is not None and (starts.ndim != 1 or len(starts) not in (nodes, nodes + 1)):
        raise ValueError(f"starts {starts.shape} of {nodes} nodes")
    if nodes and not len(codes):
        raise ValueError(f"{nodes} nodes without codes")
    if codes.dtype != np.uint64 or queries.dtype != np.uint64:
        raise TypeError("codes and queries are uint64")
    if names is not None and names.shape != (nodes,):
        raise ValueError(f"names {names.shape} of {nodes} nodes")
    for array in (*graph, starts, names):
        if array is not None and array.dtype != np.uint32:
            raise TypeError(f"neighbours, entries, starts and names are uint32, not {array.dtype}")


def _walked(
    library: aot.Library,
    arrays: tuple[npt.NDArray[np.generic] | None, ...],
    queries: Codes,
    count: int,
    effort: Effort,
    most: int,
    threads: int,
) -> tuple[Codes, npt.NDArray[np.int64], int]:
    """Keys of the nearest, ascending; and how many were found and measured, of each query.

    -1 and -1 for a walk that was given up. And the least found: below `count`, keys are not all
    filled.
    """
    codes, neighbours, entries, allowed, starts, names = arrays
    assert codes is not None
    assert neighbours is not None
    assert entries is not None
    (n, words), (nodes, width) = codes.shape, neighbours.shape
    given = (
        address(codes), words, n, None if starts is None else address(starts),
        int(starts is not None), address(neighbours), width, nodes, address(entries), len(entries),
        None if allowed is None else address(allowed), int(allowed is not None),
        int(names is not None), None if names is None else address(names),
    )  # fmt: skip
    kernel = library.functions["search"]
    all_slots, all_marks = min(nodes, most), power_of_two(2 * (min(nodes, most) + width))
    slots = min(all_slots, _SLOTS + 16 * effort.rank)
    marks = min(all_marks, max(_MARKS, power_of_two(128 * effort.rank)))
    guess = min(nodes, len(entries) + 32 * effort.rank)
    size = max(1, min(_QUERIES_PER_CALL, _MEASURED_PER_CALL // guess))
    size = min(size, -(-len(queries) // max(1, 4 * threads)))
    if guess < _MEASURED_PER_CALL // _TURNS:
        size = max(size, min(_TURNS, -(-len(queries) // max(1, threads))))
    keys = np.empty((len(queries), count), np.uint64)
    told = np.empty((len(queries), 2), np.int64)

    def walk(queries: Codes, keys: Codes, told: npt.NDArray[np.int64]) -> None:
        asked = len(queries)
        blocks = -(-asked // size)
        workers, turns = max(1, min(threads, blocks)), min(_TURNS, size)
        memory = Walks(library.layout, words, width, slots, marks, turns, workers)
        at, to, tell = address(queries), address(keys), address(told)

        def work(worker: int, number: int) -> None:
            first = number * size
            kernel(
                *given, at + 8 * words * first, min(size, asked - first), count, *effort,
                to + 8 * count * first, tell + 16 * first, *memory.of(worker),
            )  # fmt: skip

        run_blocks(blocks, threads, work)

    walk(np.ascontiguousarray(queries), keys, told)
    counted = told[:, 0]
    while (least := int(counted.min())) < 0 and (slots, marks) != (all_slots, all_marks):
        # Some walks had no room; with as much as there are nodes, all have.
        slots, marks = min(all_slots, 16 * slots), min(all_marks, 16 * marks)
        left = np.flatnonzero(counted < 0)
        some, counts = keys[left], told[left]
        walk(queries[left], some, counts)
        keys[left], told[left] = some, counts
    keys.sort(axis=1)
    return keys, told, least


def _scanned(
    codes: Codes,
    queries: Codes,
    count: int,
    chosen: Chosen,
    starts: Nodes | None,
    names: Nodes | None,
    threads: int,
) -> Found:
    """The nearest of all codes of nodes."""
    if starts is not None:
        codes = codes[_place(starts[: chosen.n], len(codes))]
    nodes, distances = topk(codes, queries, count, threads, allowed=chosen.allowed, numbers=names)
    return Found(nodes, distances, np.full(len(queries), chosen.count))


def _place(starts: Nodes, n: int) -> Nodes:
    """Where codes lie: at the first, where a file says something impossible, as for the kernel."""
    return np.where(starts < n, starts, np.uint32(0))
