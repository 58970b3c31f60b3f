"""Graphs over codes: all can be reached, and threads change nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from binq.kernels import graph_making
from binq.kernels.aot import compile as aot
from binq.kernels.graph import FAMILY, Graph, search
from binq.kernels.graph_making import NONE, make, reached
from binq.kernels.scan import Engine

Codes = npt.NDArray[np.uint64]


def plainly_reached(graph: Graph) -> set[int]:
    met, left = set(), [int(node) for node in graph.entries]
    while left:
        node = left.pop()
        if node not in met:
            met.add(node)
            left += [int(other) for other in graph.neighbours[node] if other != NONE]
    return met


def of_kind(kind: str, n: int) -> Codes:
    random = np.random.default_rng(n)
    if kind == "random":
        return random.integers(0, 1 << 64, (n, 3), np.uint64)
    if kind == "at one distance":
        # Any two differ in two bits.
        bits = np.eye(n, 64 * -(-n // 64), dtype=np.bool_)
        return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    if kind == "all numbers":
        return np.arange(n, dtype=np.uint64)[:, None]
    # Clusters far apart, of codes that differ in a few bits.
    centres = random.integers(0, 1 << 64, (-(-n // 90), 8), np.uint64)
    codes = np.repeat(centres, 90, axis=0)[:n]
    codes[:, 0] ^= np.arange(n, dtype=np.uint64) % np.uint64(90)
    return codes


@pytest.mark.parametrize("kind", ["random", "at one distance", "all numbers", "clusters"])
def test_all_nodes_can_be_reached(kind: str, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(FAMILY)
    for n, m in ((1, 4), (2, 4), (4, 4), (9, 4), (100, 1), (700, 4), (5000, 2)):
        codes = of_kind(kind, n)
        made = make(codes, m, 20, 2, engine=engine)
        neighbours, entries = made.graph
        assert sorted(made.order.tolist()) == list(range(n))
        assert neighbours.shape == (n, 2 * m)
        assert neighbours.dtype == entries.dtype == np.uint32
        assert len(plainly_reached(made.graph)) == n == reached(made.graph, engine=engine)
        assert len(set(entries.tolist())) == len(entries)
        assert kind == "clusters" or len(entries) == min(n, 256)
        filled = neighbours != NONE
        assert (filled[:, :-1] >= filled[:, 1:]).all()
        assert (neighbours[filled] < n).all()
        assert not (neighbours == np.arange(n)[:, None]).any()
        for line in neighbours.tolist():
            numbers = [number for number in line if number != NONE]
            assert len(set(numbers)) == len(numbers)
        if kind == "at one distance" and n > 256:
            continue  # no node is on the way to another
        nodes = codes[made.order]
        found = search(nodes, made.graph, nodes, 1, ef=20, engine=engine)
        assert m < 4 or (found.distances == 0).mean() > 0.95


def test_the_same_at_any_number_of_threads() -> None:
    codes = of_kind("clusters", 6000)
    one = make(codes, 8, 40, 1)
    for threads in (2, 5):
        other = make(codes, 8, 40, threads)
        assert np.array_equal(one.order, other.order)
        assert all(map(np.array_equal, one.graph, other.graph))
        assert one.mended == other.mended


def test_what_is_not_reached_is_linked_and_nothing_lost() -> None:
    """From a neighbour's free place, or one by which nothing was reached; else as an entry."""
    library = aot.load(FAMILY)
    lines = np.array(
        [
            [1, 2],  # the entry
            [0, 2],  # 0 was reached before: its place is free for 3
            [0, NONE],
            [1, NONE],
            [5, NONE],  # 4 and 5 know each other only
            [4, NONE],
            [3, NONE],  # 3 is reached only when it is linked
        ],
        np.uint32,
    )
    more, missed = graph_making._mended(library, lines, np.array([0], np.uint32))
    graph = Graph(lines, np.concatenate([np.array([0], np.uint32), more]))
    assert missed == 4
    assert more.tolist() == [4]
    assert len(plainly_reached(graph)) == len(lines)
    random = np.random.default_rng(0)
    for n, width in ((50, 1), (50, 2), (300, 3), (300, 2)):
        lines = random.integers(0, n // 2, (n, width), np.uint32)
        before = plainly_reached(Graph(lines, lines[:1, 0]))
        entries = lines[:1, 0].copy()
        more, missed = graph_making._mended(library, lines, entries)
        assert missed == n - len(before)
        assert len(plainly_reached(Graph(lines, np.concatenate([entries, more])))) == n


def test_many_nodes_may_hang_on_one() -> None:
    """All know one node only: they are linked one from another, and none becomes an entry."""
    library = aot.load(FAMILY)
    for n, width in ((2000, 2), (2000, 8), (30, 1)):
        lines = np.full((n, width), NONE)
        lines[1:, 0] = 0
        lines[0] = np.arange(width) + 1
        entries = np.array([0], np.uint32)
        more, missed = graph_making._mended(library, lines, entries)
        assert missed == n - 1 - width
        assert not len(more)
        met, depth, level = {0}, 0, {0}
        while level:
            level = {int(other) for node in level for other in lines[node] if other != NONE} - met
            met |= level
            depth += bool(level)
        assert len(met) == n
        assert width == 1 or depth < 3 * np.log2(n)


def test_nodes_that_know_nobody_become_entries() -> None:
    library = aot.load(FAMILY)
    lines = np.full((500, 2), NONE)
    more, missed = graph_making._mended(library, lines, np.array([7], np.uint32))
    assert missed == len(more) == 499
    # Pairs: one of each is enough.
    lines[:, 0] = np.arange(500) ^ 1
    more, _ = graph_making._mended(library, lines, np.array([7], np.uint32))
    assert len(more) == 249


def test_what_does_not_fit_is_refused() -> None:
    codes = of_kind("random", 5)
    for wrong in ({"m": 0}, {"ef_construction": 0}, {"codes": codes[0]}, {"codes": codes[:, :0]}):
        given = {"codes": codes, "m": 2, "ef_construction": 2} | wrong
        with pytest.raises(ValueError, match=r"codes|m "):
            make(**given)
    with pytest.raises(TypeError):
        make(codes.view(np.int64), 2, 2)
