"""Search of a proximity graph, beside a plain sort of all distances."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binq.kernels import graph as searching
from binq.kernels.graph import FAMILY, Found, Graph, search
from binq.kernels.graph_making import NONE, make, reached
from binq.kernels.scan import Engine

Codes = npt.NDArray[np.uint64]


def plainly(codes: Codes, queries: Codes, count: int, allowed: npt.NDArray[np.bool_]) -> Found:
    away = np.bitwise_count(codes ^ queries[:, None]).sum(axis=2, dtype=np.int64)
    away[:, ~allowed] = 1 << 40
    count = min(count, int(allowed.sum()))
    nodes = np.argsort(away, axis=1, kind="stable")[:, :count]
    distances = np.take_along_axis(away, nodes, axis=1).astype(np.int32)
    return Found(nodes, nodes, distances, np.zeros(len(queries), np.int64))


def bitmap(allowed: npt.NDArray[np.bool_]) -> Codes:
    padded = np.zeros(-(-len(allowed) // 64) * 64, np.bool_)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.uint64)


def near_each_other(random: np.random.Generator, n: int, words: int) -> Codes:
    """At most n different codes, some of them near each other, some far."""
    codes = random.integers(0, 1 << 64, (n, words), np.uint64)
    some = random.integers(0, n, n)
    flips = np.uint64(1) << random.integers(0, 64, (n, words), np.uint64)
    codes = np.where(random.random((n, 1)) < 0.6, codes[some] ^ flips, codes)
    return np.unique(codes, axis=0)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_walk_over_all_is_a_sort(engine_of: Callable[..., Engine], data: st.DataObject) -> None:
    """With ef of all nodes, or any gap, and where few nodes are allowed."""
    engine = engine_of(FAMILY)
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    words = data.draw(st.sampled_from([1, 2, 3, 4, 7, 12, 17]))
    n = data.draw(st.sampled_from([1, 2, 3, 16, 17, 64, 400]))
    codes = near_each_other(random, n, words)
    made = make(codes, data.draw(st.sampled_from([1, 2, 8])), 20, 2)
    codes = codes[made.order]
    nodes = len(codes)
    queries = random.integers(0, 1 << 64, (data.draw(st.sampled_from([1, 2, 9])), words), np.uint64)
    queries[0] = codes[nodes // 2]
    count = data.draw(st.sampled_from([1, 2, 10, 1000]))
    allowed = random.random(nodes) < data.draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    expected = plainly(codes, queries, count, allowed)
    given = {"allowed": None if allowed.all() else bitmap(allowed), "engine": engine}
    starts = None
    if data.draw(st.booleans()):
        # Codes lie apart from each other.
        starts = np.cumsum(random.integers(1, 4, nodes + 1)).astype(np.uint32)
        spread = random.integers(0, 1 << 64, (int(starts[-1]) + 1, words), np.uint64)
        spread[starts[:nodes]] = codes
        codes = spread
    names = random.permutation(3 * len(codes))[: len(codes)].astype(np.uint32)
    names_of = names if starts is None else names[starts[:nodes]]
    for effort in ({"ef": nodes}, {"gap": 64 * words}, {"ef": 1 << 40}, {"gap": 1 << 40}):
        found = search(codes, made.graph, queries, count, **effort, **given, starts=starts)
        for array, plain in zip(found[:3], expected[:3], strict=True):
            assert array.dtype == plain.dtype
            assert np.array_equal(array, plain), effort
        given["names"] = names
        named = search(codes, made.graph, queries, count, **effort, **given, starts=starts)
        del given["names"]
        assert np.array_equal(named.distances, expected.distances)
        assert np.array_equal(named.names, names_of[named.nodes])
        away = dict(zip(names_of.tolist(), range(nodes), strict=True))
        for near, far, query in zip(named.names.tolist(), named.distances, queries, strict=True):
            every = plainly(
                codes if starts is None else codes[starts[:nodes]], query[None], nodes, allowed
            )
            keys = sorted(zip(every.distances[0], names_of[every.nodes[0]], strict=True))
            assert list(zip(far, near, strict=True)) == keys[: len(near)]
            assert all(allowed[away[name]] for name in near)


def test_near_nodes_are_found_with_little_effort(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(FAMILY)
    random = np.random.default_rng(0)
    kinds = random.standard_normal((30, 24))
    points = kinds[random.integers(0, 30, 4100)] + random.standard_normal((4100, 24))
    signs = points @ random.standard_normal((24, 256)) > 0
    codes = np.packbits(signs, axis=1, bitorder="little").view(np.uint64)
    codes, queries = np.unique(codes[:4000], axis=0), codes[4000:]
    made = make(codes, 8, 60, 2, engine=engine)
    codes = codes[made.order]
    few = random.random(len(codes)) < 0.3
    for allowed, share in ((np.ones(len(codes), np.bool_), 0.5), (few, 0.7)):
        expected = plainly(codes, queries, 10, allowed)
        given = {"allowed": bitmap(allowed), "engine": engine}
        for effort in ({"ef": 60}, {"gap": 12}):
            found = search(codes, made.graph, queries, 10, **effort, **given)
            assert allowed[found.nodes].all()
            away = np.bitwise_count(codes[found.nodes] ^ queries[:, None]).sum(axis=2)
            assert np.array_equal(away, found.distances)
            keys = found.distances.astype(np.int64) << 32 | found.nodes
            assert (np.diff(keys) > 0).all()
            assert (found.distances <= expected.distances[:, 9:]).mean() > 0.95
            if engine.library is not None:
                assert found.compared.mean() < share * len(codes)
            for threads in (1, 3):
                again = search(codes, made.graph, queries, 10, **effort, **given, threads=threads)
                assert all(map(np.array_equal, found, again))
        more = [
            search(codes, made.graph, queries, 10, gap=gap, **given).compared.mean()
            for gap in (0, 5, 10)
        ]
        assert more == sorted(more)


def test_whatever_a_file_says_the_search_ends(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(FAMILY)
    random = np.random.default_rng(0)
    for words, n, width, entries in ((1, 1, 2, 1), (2, 50, 4, 3), (3, 200, 8, 0), (2, 100, 0, 9)):
        codes = near_each_other(random, n, words)
        n = len(codes)
        queries = random.integers(0, 1 << 64, (5, words), np.uint64)
        allowed = random.random(n) < 0.5
        allowed[0] = True
        for most in (n, n + 3, 1 << 32):
            graph = Graph(
                random.integers(0, most, (n, width), np.uint32),
                random.integers(0, most, entries, np.uint32),
            )
            starts = random.integers(0, most, n, np.uint32)
            for more in ({}, {"allowed": bitmap(allowed)}, {"starts": starts}):
                for effort in ({"ef": 10}, {"gap": 3}, {"ef": n}):
                    found = search(codes, graph, queries, 20, **effort, **more, engine=engine)
                    wanted = min(20, allowed.sum() if "allowed" in more else n)
                    assert found.nodes.shape == (5, wanted)
                    assert (found.nodes >= 0).all()
                    assert (found.nodes < n).all()
                    assert all(len(set(line)) == wanted for line in found.nodes.tolist())
                    place = np.where(starts < n, starts, 0) if "starts" in more else np.arange(n)
                    away = np.bitwise_count(codes[place[found.nodes]] ^ queries[:, None])
                    assert np.array_equal(away.sum(axis=2), found.distances)
            assert 0 <= reached(graph, engine=engine) <= n


def test_walks_that_find_no_room_begin_again(
    engine_of: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(FAMILY)
    random = np.random.default_rng(0)
    codes = near_each_other(random, 20_000, 1)
    made = make(codes, 4, 10, 2)
    codes = codes[made.order]
    queries = random.integers(0, 1 << 64, (30, 1), np.uint64)
    expected = [search(codes, made.graph, queries, 5, gap=gap, engine=engine) for gap in (2, 9, 64)]
    for slots, marks in ((2, 1 << 20), (1 << 20, 16), (2, 1 << 12)):
        monkeypatch.setattr(searching, "_SLOTS", slots)
        monkeypatch.setattr(searching, "_MARKS", marks)
        for gap, whole in zip((2, 9, 64), expected, strict=True):
            found = search(codes, made.graph, queries, 5, gap=gap, threads=2, engine=engine)
            assert all(map(np.array_equal, found, whole))


def test_searches_share_a_searcher_not_its_memory(engine_of: Callable[..., Engine]) -> None:
    """One by one or all at once, with room for little after much: as each search for itself."""
    engine = engine_of(FAMILY)
    random = np.random.default_rng(0)
    codes = near_each_other(random, 3000, 2)
    made = make(codes, 8, 40, 2, engine=engine)
    codes, queries = codes[made.order], random.integers(0, 1 << 64, (60, 2), np.uint64)
    hows: list[dict[str, int]] = [{"gap": 4}, {"ef": 3000}, {"gap": 0, "most": 90}, {"ef": 30}]
    jobs = [(first, how) for first in range(len(queries)) for how in hows]

    def alone(job: tuple[int, dict[str, int]]) -> Found:
        first, how = job
        own = queries[first : first + 1 + first % 3]
        return search(codes, made.graph, own, 1 + first, **how, engine=engine)

    shared = searching.Searcher(codes, made.graph)

    def together(job: tuple[int, dict[str, int]]) -> Found:
        first, how = job
        own = queries[first : first + 1 + first % 3]
        return shared.search(own, 1 + first, **how, threads=first % 2 + 1, engine=engine)

    expected = [alone(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for found in (map(together, jobs), pool.map(together, jobs)):
            for some, whole in zip(found, expected, strict=True):
                assert all(map(np.array_equal, some, whole))


def test_walks_without_an_end_are_given_up(engine_of: Callable[..., Engine]) -> None:
    """Where what is allowed is far from a query, most of the nodes are met before it."""
    engine = engine_of(FAMILY)
    random = np.random.default_rng(0)
    codes = np.unique(random.integers(0, 1 << 64, (6000, 1), np.uint64), axis=0)
    made = make(codes, 8, 40, 2, engine=engine)
    codes, queries = codes[made.order], random.integers(0, 1 << 64, (3, 1), np.uint64)
    for query in queries:
        away = np.bitwise_count(codes ^ query)[:, 0]
        allowed = away >= np.sort(away)[-50]
        given = {"allowed": bitmap(allowed), "engine": engine, "gap": 0}
        whole = search(codes, made.graph, query[None], 10, **given)
        plain = plainly(codes, query[None], 10, allowed)
        assert whole.distances.tolist() == plain.distances.tolist()
        for most in (1, 500) if engine.library is not None else ():
            assert whole.compared[0] > 5000
            found = search(codes, made.graph, query[None], 10, **given, most=most)
            assert found.compared[0] == most
            for array in (found.nodes, found.names, found.distances):
                assert array.tolist() == [[-1] * 10]


def test_what_does_not_fit_is_refused() -> None:
    codes = np.arange(6, dtype=np.uint64).reshape(3, 2)
    graph = make(codes, 1, 1).graph
    assert search(codes, graph, codes[:0], 1, ef=1).nodes.shape == (0, 0)
    none = np.zeros(1, np.uint64)
    assert search(codes, graph, codes, 1, ef=1, allowed=none).distances.shape == (3, 0)
    empty = make(codes[:0], 1, 1).graph
    assert search(codes[:0], empty, codes, 1, gap=0).nodes.shape == (3, 0)
    wrongs: list[dict[str, object]] = [
        {"codes": codes[:, :1]}, {"codes": codes[:2]}, {"count": 0}, {"ef": 0}, {"ef": None},
        {"gap": 1}, {"ef": None, "gap": -1}, {"starts": graph.entries[:2]}, {"allowed": codes[0]},
        {"graph": Graph(graph.neighbours[0], graph.entries)},
    ]  # fmt: skip
    for wrong in wrongs:
        given = {"codes": codes, "graph": graph, "queries": codes, "count": 1, "ef": 1} | wrong
        with pytest.raises(ValueError, match=r"codes|count|nodes|allowed"):
            search(**given)
    for kind in (
        {"graph": Graph(graph.neighbours.astype(np.int64), graph.entries)},
        {"codes": codes.view(np.int64)},
    ):
        given = {"codes": codes, "graph": graph, "queries": codes, "count": 1, "ef": 1} | kind
        with pytest.raises(TypeError):
            search(**given)
    assert (graph.neighbours == NONE).any()
