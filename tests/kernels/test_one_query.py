"""One query over inverted lists in one call, beside the choice of lists and the scan of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from corpora import codes_of
from hypothesis import given, settings
from hypothesis import strategies as st

from binq.kernels import hamming
from binq.kernels.aot.compile import Library, load
from binq.kernels.lists import Lists
from binq.kernels.near_lists import FAMILY, Centroids, near_lists
from binq.kernels.one_query import OneQuery
from binq.kernels.scan import Engine

EngineOf = Callable[..., Engine]


def library_of(engine_of: EngineOf) -> Library:
    library = engine_of(FAMILY).library
    if library is None:
        pytest.skip("numpy has no kernel for it")
    return library


class Made:
    """Codes in some lists, prepared for one query at a time."""

    def __init__(self, library: Library, n: int, lists: int, words: int, spread: int) -> None:
        random = np.random.default_rng(n + lists)
        self.library, self.codes = library, codes_of(n, words, 1, spread)
        self.offsets = np.sort(random.integers(0, n + 1, lists + 1))
        self.offsets[0], self.offsets[-1] = 0, n
        self.sizes = np.diff(self.offsets)
        self.centroids = codes_of(lists, words, 3, spread)
        self.rows = random.permutation(n).astype(np.uint32)
        self.search = OneQuery(
            library, self.codes, self.rows, Centroids(self.centroids), self.offsets, self.sizes
        )

    def apart(self, query: Any, k: int, enough: int, **how: Any) -> tuple[Any, Any]:
        engine = Engine(self.library)
        visits = near_lists(self.centroids, self.sizes, query, enough, **how, engine=engine)
        lists = Lists(self.offsets, visits)
        engine = Engine(load(hamming.FAMILY))
        return hamming.topk(self.codes, query, k, numbers=self.rows, lists=lists, engine=engine)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_as_its_two_steps(engine_of: EngineOf, data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([1, 63, 129, 700, 5000]), "n")
    lists = data.draw(st.sampled_from([1, 2, 7, 8, 17, 300]), "lists")
    words = data.draw(st.sampled_from([1, 2, 3, 8, 12, 17]), "words")
    spread = data.draw(st.sampled_from([0, 2, 64]), "bits of a word that differ")
    made = Made(library_of(engine_of), n, lists, words, spread)
    how = {
        "gap": data.draw(st.sampled_from([0, 2, 30, 64 * words, 1 << 40])),
        "edge": data.draw(st.sampled_from([None, 0, 32 * words])),
        "lists": data.draw(st.sampled_from([None, 1, 5, 1000])),
    }
    for seed in range(3):
        # Also more hits than there was memory for before, and then fewer again.
        k = min(n, data.draw(st.sampled_from([1, 10, 150, n]), "k"))
        enough = data.draw(st.sampled_from([0, 1, k, 1000, 1 << 40]), "enough")
        query = codes_of(1, words, seed, spread)
        found = made.search.topk(query, k, enough, **how)
        assert found is not None
        want = made.apart(query, k, enough, **how)
        for some, other in zip(found, want, strict=True):
            assert (some.dtype, some.shape) == (other.dtype, other.shape)
            np.testing.assert_array_equal(some, other)


def test_threads_do_not_share_memory(engine_of: EngineOf) -> None:
    made = Made(library_of(engine_of), 20_000, 50, 12, 64)
    queries = codes_of(400, 12, 5, 64)
    want = [made.apart(query[None], 10, 10, gap=20)[0] for query in queries]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda query: made.search.topk(query[None], 10, 10, gap=20), queries))
    for some, other in zip(found, want, strict=True):
        assert some is not None
        np.testing.assert_array_equal(some[0], other)


def test_left_to_others(engine_of: EngineOf) -> None:
    """What threads are of use for, or what has to be refused."""
    library = library_of(engine_of)
    made = Made(library, 200_000, 3, 12, 64)
    query = codes_of(1, 12, 5, 64)
    assert made.search.topk(query, 10, 10, gap=768) is None
    assert made.search.topk(query, 20_000, 20_000) is None
    made = Made(library, 1000, 3, 12, 64)
    assert made.search.topk(query, 10, 1000) is not None
    kept = made.offsets.copy()
    for offsets in ([-1, 10, 20, 1000], [0, 10, 5, 1000], [0, 10, 20, 2000], [1 << 62] * 4):
        made.offsets[:] = offsets  # as a file may be changed
        assert made.search.topk(query, 10, 1000) is None
    made.offsets[:] = kept
    made.rows[:] += np.uint32(1000)
    assert made.search.topk(query, 10, 1000) is None


def test_what_does_not_fit_is_refused(engine_of: EngineOf) -> None:
    made = Made(library_of(engine_of), 100, 3, 2, 64)
    query = codes_of(1, 2, 5, 64)
    for wrong in (
        {"query": query[:, :1]},
        {"query": query.repeat(2, axis=0)},
        {"k": 0},
        {"k": 101},
        {"gap": -1},
        {"edge": -1},
        {"lists": 0},
    ):
        with pytest.raises(ValueError, match=r"query|gap"):
            made.search.topk(**{"query": query, "k": 1, "enough": 1} | wrong)
    with pytest.raises(TypeError):
        made.search.topk(query.astype(np.int64), 1, 1)  # type: ignore[arg-type]
    good = (made.codes, made.rows, Centroids(made.centroids), made.offsets, made.sizes)
    for place, bad in (
        (0, made.codes[:0]),
        (0, made.codes[:, :1]),
        (1, made.rows[:9]),
        (2, Centroids(made.centroids[:2])),
        (2, Centroids(made.centroids.repeat(2, axis=1))),
        (3, made.offsets[:3]),
        (4, made.sizes[:2]),
    ):
        with pytest.raises(ValueError, match=r"codes|sizes|numbers"):
            OneQuery(made.library, *good[:place], bad, *good[place + 1 :])
    for place in (0, 1, 3, 4):
        bad = good[place].astype(np.float64)  # type: ignore[union-attr]
        with pytest.raises(TypeError):
            OneQuery(made.library, *good[:place], bad, *good[place + 1 :])
