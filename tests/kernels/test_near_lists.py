"""The lists that are near to a query, beside a plain sort."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given, settings
from hypothesis import strategies as st

from binq.kernels.near_lists import FAMILY, Centroids, near_allowed, near_lists, scratch_of
from binq.kernels.scan import Engine, Memory, address


def plainly(
    away: list[int], sizes: list[int], enough: int, gap: int, edge: int | None, lists: int | None
) -> list[int]:
    order = sorted((far, i) for i, far in enumerate(away) if sizes[i])
    least = min(lists or 0, len(away))
    if least and sum(sizes[i] for _, i in order[:least]) >= enough:
        return [i for _, i in order[:least]]
    held = 0
    for place, (far, i) in enumerate(order):
        held += sizes[i]
        if held >= enough and place + 1 >= least:
            excess = 0 if edge is None else max(0, far - edge)
            return [i for near, i in order if near <= far + gap + excess]
    return [i for _, i in order]


def drawn(data: st.DataObject, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw centroids and queries; few different ones, so that distances tie."""
    words = data.draw(st.sampled_from([1, 2, 3, 7, 8, 9, 12, 17, 40]))
    count = data.draw(st.sampled_from([1, 2, 3, 4, 5, 15, 16, 17, 63, 200]))
    asked = data.draw(st.sampled_from([1, 2, 5]))
    kinds = rng.integers(0, 1 << 64, (max(1, count // 3), words), np.uint64)
    centroids = kinds[rng.integers(0, len(kinds), count)]
    return centroids, rng.integers(0, 1 << 64, (asked, words), np.uint64)


def same(found: np.ndarray, expected: list[list[int]]) -> None:
    """Require these lists of every query, and -1 after them, as far as the longest goes."""
    assert found.dtype == np.int32
    longest = max(map(len, expected))
    assert found.shape == (len(expected), longest)
    assert found.tolist() == [line + [-1] * (longest - len(line)) for line in expected]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_as_a_plain_sort(engine_of: Callable[..., Engine], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    centroids, queries = drawn(data, rng)
    count, words = centroids.shape
    if data.draw(st.booleans()):
        queries[0] = centroids[0]
    if data.draw(st.booleans()):
        queries[-1] = ~centroids[-1]
    sizes = rng.integers(0, data.draw(st.sampled_from([1, 2, 30])) + 1, count)
    enough = data.draw(st.sampled_from([0, 1, 10, 100, 100_000]))
    gap = data.draw(st.sampled_from([0, 1, 9, 64 * words, 1 << 40]))
    edge = data.draw(st.sampled_from([None, 0, 25 * words, 32 * words, 1 << 40]))
    lists = data.draw(st.sampled_from([None, 1, 2, 20, 1000]))
    how = {"gap": gap, "edge": edge, "lists": lists}
    found = near_lists(
        centroids, sizes, queries, enough, **how, threads=2, engine=engine_of(FAMILY)
    )
    away = np.bitwise_count(centroids ^ queries[:, None]).sum(axis=2, dtype=int)
    expected = [plainly(line.tolist(), sizes.tolist(), enough, **how) for line in away]
    same(found, expected)


def test_a_gap_is_widened_beyond_the_edge(engine_of: Callable[..., Engine]) -> None:
    bits = [(1 << i) - 1 for i in range(64)]  # list i lies at distance i
    centroids, sizes = np.array(bits, np.uint64)[:, None], np.full(64, 2)
    query = np.zeros((1, 1), np.uint64)
    for enough, edge, last in ((9, None, 7), (9, 4, 7), (9, 3, 8), (9, 0, 11), (41, 3, 40)):
        found = near_lists(
            centroids, sizes, query, enough, gap=3, edge=edge, engine=engine_of(FAMILY)
        )
        assert found[0].tolist() == list(range(last + 1))


def test_scratch_is_as_large_as_it_is_said_to_be(engine_of: Callable[..., Engine]) -> None:
    """Nothing behind it is written, nor behind the visits."""
    library = engine_of(FAMILY).library
    if library is None:
        pytest.skip("numpy takes none")
    for words, count, asked in itertools.product((1, 3, 12, 33), (1, 7, 16, 17, 200), (1, 2, 5)):
        centroids = Centroids(codes_of(count, words)).of(library)
        queries, sizes = codes_of(asked, words, 1), np.full(count, 2)
        needed = scratch_of(library, words, count)
        memory = Memory(needed + 4096, 4 * asked * count + 4096, 8 * asked)
        guards = [memory.view(0, np.uint8, needed + 4096)[needed:]]
        guards.append(memory.view(1, np.uint8, 4 * asked * count + 4096)[4 * asked * count :])
        for guard in guards:
            guard[:] = 77
        scratch, visits, counts = memory.addresses
        library.functions["near_lists"](
            address(centroids), words, count, address(sizes), address(queries), asked, 0,
            3 * count, 64 * words, 64 * words, visits, counts, scratch,
        )  # fmt: skip
        assert memory.view(2, np.int64, asked).tolist() == [count] * asked
        assert all((guard == 77).all() for guard in guards)


def test_many_queries_in_blocks(engine_of: Callable[..., Engine]) -> None:
    rng = np.random.default_rng(0)
    centroids = rng.integers(0, 1 << 64, (3000, 12), np.uint64)
    queries = rng.integers(0, 1 << 64, (300, 12), np.uint64)
    sizes = rng.integers(0, 5, 3000)
    engine = engine_of(FAMILY)
    at_once = near_lists(centroids, sizes, queries, 40, gap=9, threads=3, engine=engine)
    for i in range(300):
        alone = near_lists(centroids, sizes, queries[i : i + 1], 40, gap=9, engine=engine)[0]
        assert np.array_equal(at_once[i, : len(alone)], alone)
        assert (at_once[i, len(alone) :] == -1).all()


def plainly_allowed(
    away: list[int], sizes: list[int], allowed: list[int], m: int, known: list[list[int]]
) -> list[int]:
    def within(rows: list[int], far: int) -> int:
        return sum(size for size, one in zip(rows, away, strict=True) if one <= far)

    def met(rows: list[int], wanted: int) -> int:
        return min(far for far in away if within(rows, far) >= wanted)

    if not sum(allowed):
        return []
    m = min(m, sum(sizes))
    enough = min(m, sum(allowed))
    first = met(allowed, enough)
    some, every = within(allowed, first), within(sizes, first)
    last = len(known[0]) - 1
    place = next((i for i, one in enumerate(known[0]) if Fraction(m * every, some) <= one), last)
    own = next((i for i, one in enumerate(known[0]) if m <= one), last)
    wanted = math.ceil(Fraction(known[0][place] * some, every))
    reached = met(allowed, min(max(wanted, enough), sum(allowed)))
    beyond = max(0, first - met(sizes, enough), reached - known[2][place])
    limit = reached + max(known[1][place], known[1][own]) + beyond
    order = sorted((far, i) for i, far in enumerate(away) if allowed[i])
    return [i for far, i in order if far <= limit]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_where_some_rows_are_allowed(engine_of: Callable[..., Engine], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    centroids, queries = drawn(data, rng)
    count, words = centroids.shape
    queries[0] = centroids[0] if data.draw(st.booleans()) else ~centroids[-1]
    sizes = rng.integers(0, data.draw(st.sampled_from([1, 30, 3000])) + 1, count)
    allowed = rng.binomial(sizes, data.draw(st.sampled_from([0.01, 0.3, 1.0])))
    away = np.bitwise_count(centroids ^ queries[:, None]).sum(axis=2, dtype=int)
    if data.draw(st.booleans()):
        allowed[away[0] < np.median(away[0])] = 0
    places = data.draw(st.sampled_from([1, 3]))
    known = np.array(
        [
            [10, 100, 2000][:places],
            np.sort(rng.integers(0, data.draw(st.sampled_from([1, 10 * words])), places)),
            rng.integers(20 * words, 40 * words, places),
        ]
    )
    m = data.draw(st.sampled_from([1, 10, 50, 100_000]))
    engine = engine_of(FAMILY)
    found = near_allowed(centroids, sizes, allowed, queries, m, known, threads=2, engine=engine)
    given_ = sizes.tolist(), allowed.tolist(), m, known.tolist()
    expected = [plainly_allowed(line.tolist(), *given_) for line in away]
    same(found, expected)


def test_what_does_not_fit_is_refused() -> None:
    codes, sizes = np.zeros((3, 2), np.uint64), np.ones(3, np.int64)
    assert near_lists(codes, sizes, codes[:0], 1).shape == (0, 0)
    assert near_lists(codes[:0], sizes[:0], codes, 1).shape == (3, 0)
    for wrong in (
        {"centroids": codes[:, :1]},
        {"centroids": codes[:2]},
        {"gap": -1},
        {"edge": -1},
        {"lists": 0},
    ):
        given = {"centroids": codes, "sizes": sizes, "queries": codes, "enough": 1} | wrong
        with pytest.raises(ValueError, match=r"centroids|sizes|gap"):
            near_lists(**given)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        near_lists(codes, sizes.astype(np.int32), codes, 1)
    known = np.array([[10], [1], [5]])
    none = np.zeros(3, np.int64)
    assert near_allowed(codes, sizes, none, codes, 1, known).shape == (3, 0)
    assert near_allowed(codes, sizes, sizes, codes[:0], 1, known).shape == (0, 0)
    for wrong in (
        {"centroids": codes[:, :1]},
        {"sizes": sizes[:2]},
        {"allowed": sizes[:2]},
        {"allowed": sizes - 2},
        {"allowed": sizes + 1},
        {"m": 0},
        {"known": known[:2]},
        {"known": known[:, :0]},
        {"known": known * 0},
        {"known": -known},
    ):
        given = {"centroids": codes, "sizes": sizes, "allowed": sizes, "queries": codes} | wrong
        with pytest.raises(ValueError, match=r"centroids|sizes|known|candidates"):
            near_allowed(**({"m": 1, "known": known} | given))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        near_allowed(codes, sizes, sizes.astype(np.int32), codes, 1, known)
