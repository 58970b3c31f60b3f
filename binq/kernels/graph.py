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

from typing import Any, Final, NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Bitmap, Chosen
from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.hamming import topk
from binq.kernels.scan import Engine, address
from binq.kernels.walks import Walks, power_of_two

FAMILY: Final = aot.Family("graph")

Codes = npt.NDArray[np.uint64]
Nodes = npt.NDArray[np.uint32]

_UINT64: Final = np.dtype(np.uint64)
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
        By ascending (distance, name).
    names : (q, k) int64
        What they are called, by default their numbers.
    distances : (q, k) int32
        -1 after the last.
    compared : (q,) int64
        With how many codes each query was compared.
    """

    nodes: npt.NDArray[np.int64]
    names: npt.NDArray[np.int64]
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


def search(
    codes: Codes,
    graph: Graph,
    queries: Codes,
    count: int,
    *,
    allowed: Bitmap | None = None,
    starts: Nodes | None = None,
    names: Nodes | None = None,
    **how: Unpack[How],
) -> Found:
    """Find near nodes of each query: as `Searcher`, for once."""
    given = Searcher(codes, graph, allowed=allowed, starts=starts, names=names)
    return given.search(queries, count, **how)


class How(TypedDict, total=False):
    """How `Searcher.search` searches."""

    ef: int | None
    gap: int | None
    most: int | None
    threads: int
    engine: Engine | None


class Searcher:
    """Codes with a graph over them, to be searched; any number of threads may search at once.

    What is the same from search to search, addresses and memory, is prepared once.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    graph : Graph
        Whatever its numbers are, searches end, and read nothing outside of the arrays.
    allowed : (ceil(nodes / 64),) uint64, optional
        Bit ``i % 64`` of word ``i // 64`` says whether node i may be returned. Others are walked
        through.
    starts : (nodes,) or (nodes + 1,) uint32, optional
        Where among the codes that of each node lies; by default at its number.
    names : (n,) uint32, optional
        What a node is called, by where its code lies. Equally near ones are taken, and ordered, by
        it.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """

    def __init__(
        self,
        codes: Codes,
        graph: Graph,
        *,
        allowed: Bitmap | None = None,
        starts: Nodes | None = None,
        names: Nodes | None = None,
    ) -> None:
        _check(codes, graph, starts, names)
        self._nodes, self._width = graph.neighbours.shape
        self._chosen = Chosen(self._nodes, None, allowed)
        self._arrays = {
            name: np.ascontiguousarray(array)
            for name, array in {
                "codes": codes,
                "neighbours": graph.neighbours,
                "entries": graph.entries,
                "allowed": self._chosen.allowed,
                "starts": starts,
                "names": names,
            }.items()
            if array is not None
        }
        self._codes, self._starts, self._names = self._arrays["codes"], starts, names
        self._known: _Known | None = None

    def search(
        self,
        queries: Codes,
        count: int,
        *,
        ef: int | None = None,
        gap: int | None = None,
        most: int | None = None,
        threads: int = 1,
        engine: Engine | None = None,
    ) -> Found:
        """Find near nodes of each query.

        As many are found as are wanted and allowed: where a walk ends with fewer, which it does
        only if they cannot be reached, the codes are scanned. The same is found at any number of
        threads. While nothing is compiled and the work is small, numpy scans the codes.

        Parameters
        ----------
        queries : (q, words) uint64
        count : int
            How many nodes to find, at least 1.
        ef : int, optional
            Go on while there are nodes nearer than so many of those found; at least `count` is
            taken. From the number of nodes on, all that can be reached are measured.
        gap : int, optional
            In place of `ef`: go on while there are nodes at most so much farther than the nearest
            `count` found. In bits.
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
        words = self._codes.shape[1]
        if queries.ndim != 2 or queries.shape[1] != words:
            raise ValueError(f"queries {queries.shape} and codes of {words} words")
        if queries.dtype != _UINT64:
            raise TypeError(f"queries are {queries.dtype}, not uint64")
        if count < 1 or (ef is None) == (gap is None) or _below(ef, 1) or _below(gap, 0):
            raise ValueError(f"count {count}, ef {ef}, gap {gap}")
        asked, nodes = len(queries), self._nodes
        count = min(count, self._chosen.count)
        if not asked or not count:
            nothing = np.empty((asked, 0), np.int64)
            return Found(nothing, nothing, nothing.astype(np.int32), np.zeros(asked, np.int64))
        engine = engine or Engine(
            aot.worth_compiling(FAMILY, self._codes.size * asked, _NUMPY_WORK)
        )
        if engine.library is None:
            return self._scanned(queries, count, threads)
        if gap is None:
            effort = Effort(min(max(ef or 1, count), nodes), -1, 0)
        else:
            gap = min(gap, 64 * words)
            effort = Effort(count, gap, gap)
        most = most or nodes
        queries = np.ascontiguousarray(queries)
        found, filled = self._walked(engine.library, queries, count, effort, most, threads)
        least = min(filled)
        if least < count:
            kept = np.array(filled)
            short = np.flatnonzero((kept < count) & (kept >= 0))
            others = self._scanned(queries[short], count, threads)
            found.nodes[short], found.names[short] = others.nodes, others.names
            found.distances[short] = others.distances
            found.compared[short] += others.compared
            given_up = kept < 0
            found.nodes[given_up] = found.names[given_up] = found.distances[given_up] = -1
            found.compared[given_up] = most
        return found

    def _walked(
        self,
        library: aot.Library,
        queries: Codes,
        count: int,
        effort: Effort,
        most: int,
        threads: int,
    ) -> tuple[Found, list[int]]:
        """What walks find, and how many nodes each does: -1 for one that is given up."""
        known = self._known
        if known is None or known.library is not library:
            known = self._known = _Known(library, self._arrays, self._nodes, self._width)
        asked, words = queries.shape
        most, entries = min(self._nodes, most), len(self._arrays["entries"])
        all_slots, all_marks = most, power_of_two(2 * (most + self._width))
        slots = min(all_slots, _SLOTS + 16 * effort.rank)
        marks = min(all_marks, max(_MARKS, power_of_two(128 * effort.rank)))
        guess = min(self._nodes, entries + 32 * effort.rank)
        size = max(1, min(_QUERIES_PER_CALL, _MEASURED_PER_CALL // guess))
        size = min(size, -(-asked // max(1, 4 * threads)))
        if guess < _MEASURED_PER_CALL // _TURNS:
            size = max(size, min(_TURNS, -(-asked // max(1, threads))))
        turns = min(_TURNS, size)

        def walk(queries: Codes) -> tuple[Found, list[int]]:
            asked = len(queries)
            names = np.empty((asked, count), np.int64)
            nodes = np.empty((asked, count), np.int64)
            distances = np.empty((asked, count), np.int32)
            told = np.empty((asked, 2), np.int64)
            at, call, to = address(queries), address(names), address(nodes)
            away, tell = address(distances), address(told)

            def work(_: int, number: int) -> None:
                first = number * size
                given = (
                    known.given, at + 8 * words * first, min(size, asked - first), count, *effort,
                    call + 8 * count * first, to + 8 * count * first, away + 4 * count * first,
                    tell + 16 * first,
                )  # fmt: skip
                known.walks.call(known.kernel, given, (turns, slots, marks))

            run_blocks(-(-asked // size), threads, work)
            return Found(nodes, names, distances, told[:, 1]), told[:, 0].tolist()

        found, filled = walk(queries)
        while min(filled) < 0 and (slots, marks) != (all_slots, all_marks):
            # Some walks had no room; with as much as there are nodes, all have.
            slots, marks = min(all_slots, 16 * slots), min(all_marks, 16 * marks)
            left = [query for query, kept in enumerate(filled) if kept < 0]
            again, kept = walk(queries[left])
            found.nodes[left], found.names[left] = again.nodes, again.names
            found.distances[left], found.compared[left] = again.distances, again.compared
            for query, own in zip(left, kept, strict=True):
                filled[query] = own
        return found, filled

    def _scanned(self, queries: Codes, count: int, threads: int) -> Found:
        """The nearest of all codes of nodes."""
        codes, chosen, starts, names = self._codes, self._chosen, self._starts, self._names
        if starts is not None:
            places = _place(starts[: chosen.n], len(codes))
            codes, names = codes[places], None if names is None else names[places]
        found, distances = topk(
            codes, queries, count, threads, allowed=chosen.allowed, numbers=names
        )
        nodes = found
        if names is not None:
            order = np.argsort(names)
            nodes = order[np.searchsorted(names, found, sorter=order)]
        return Found(nodes, found, distances, np.full(len(queries), chosen.count))


class _Known:
    """What a kernel is told in every call: addresses and numbers."""

    def __init__(
        self,
        library: aot.Library,
        arrays: dict[str, npt.NDArray[Any]],
        nodes: int,
        width: int,
    ) -> None:
        layout = library.layout
        self.library, self.kernel = library, library.functions["search"]
        n, words = arrays["codes"].shape
        numbers = {
            "words": words, "n": n, "width": width, "nodes": nodes,
            "n_entries": len(arrays["entries"]), "started": "starts" in arrays,
            "filtered": "allowed" in arrays, "named": "names" in arrays,
        }  # fmt: skip
        self._numbers = np.zeros(len(numbers), np.int64)
        for name, number in numbers.items():
            self._numbers[layout[f"search.{name}"]] = number
        self._pointers = np.zeros(7, np.uint64)  # null for what is not there, and is not read
        for name, array in {**arrays, "numbers": self._numbers}.items():
            self._pointers[layout[f"search.{name}"]] = address(array)
        self.given = address(self._pointers)
        self.walks = Walks(layout, words, width)


def _check(codes: Codes, graph: Graph, starts: Nodes | None, names: Nodes | None) -> None:
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise ValueError(f"codes {codes.shape}")
    if graph.neighbours.ndim != 2 or graph.entries.ndim != 1:
        shapes = graph.neighbours.shape, graph.entries.shape
        raise ValueError(f"neighbours and entries of nodes are {shapes}")
    nodes = len(graph.neighbours)
    if starts is None and nodes != len(codes):
        raise ValueError(f"{nodes} nodes of {len(codes)} codes")
    if starts is not None and (starts.ndim != 1 or len(starts) not in (nodes, nodes + 1)):
        raise ValueError(f"starts {starts.shape} of {nodes} nodes")
    if nodes and not len(codes):
        raise ValueError(f"{nodes} nodes without codes")
    if codes.dtype != _UINT64:
        raise TypeError("codes are uint64")
    if names is not None and names.shape != (len(codes),):
        raise ValueError(f"names {names.shape} of {len(codes)} codes")
    for array in (*graph, starts, names):
        if array is not None and array.dtype != np.uint32:
            raise TypeError(f"neighbours, entries, starts and names are uint32, not {array.dtype}")


def _below(number: int | None, least: int) -> bool:
    return number is not None and number < least


def _place(starts: Nodes, n: int) -> Nodes:
    """Where codes lie: at the first, where a file says something impossible, as for the kernel."""
    return np.where(starts < n, starts, np.uint32(0))
