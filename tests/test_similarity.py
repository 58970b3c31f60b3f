"""Normalisation, scores and exact neighbours, against double precision."""

from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
from corpora import gaussian
from hypothesis import given
from hypothesis import strategies as st

from binq.similarity import best_first, exact_neighbours, normalize, scores
from binq.types import METRICS


def test_normalize_at_every_scale() -> None:
    for scale in (1e-38, 1e-30, 1e-12, 1.0, 1e12, 1e30, 3e37):
        vectors = (gaussian(20, 9) * np.float32(scale)).astype(np.float32)
        unit, zero = normalize(vectors)
        assert unit.dtype == np.float32
        assert not zero.size
        assert np.allclose(unit, naive.unit(vectors), atol=3e-7)


def test_normalize_names_zero_rows_and_leaves_the_input() -> None:
    vectors = gaussian(6, 4)
    vectors[[1, 4]] = 0
    vectors[4, 2] = -0.0
    vectors[2] = np.float32(1e-45)  # the smallest denormal has a direction
    before = vectors.copy()
    unit, zero = normalize(vectors)
    assert zero.tolist() == [1, 4]
    assert np.array_equal(vectors, before)
    assert not unit[[1, 4]].any()
    assert np.allclose(unit[2], 0.5)
    empty, none = normalize(np.empty((0, 4), np.float32))
    assert empty.shape == (0, 4)
    assert not none.size


@pytest.mark.parametrize("metric", METRICS)
def test_scores(metric: str) -> None:
    queries, vectors = gaussian(3, 8), gaussian(5, 8, seed=1)
    if metric == "cosine":
        queries, vectors = normalize(queries)[0], normalize(vectors)[0]
    found = scores(queries, np.stack([vectors] * 3), metric)  # type: ignore[arg-type]
    expected = [naive.score(query, vectors, metric) for query in queries]
    assert np.allclose(found, expected, atol=1e-6)


def test_no_cosine_is_above_one() -> None:
    """Vectors of length 1 that are rounded, as stored ones are, come out longer or shorter."""
    units = normalize(gaussian(500, 24))[0]
    rounded = units.astype(np.float16).astype(np.float32)
    found = scores(units, np.stack([rounded, -rounded], axis=1), "cosine")
    plain = np.einsum("qmd,qd->qm", np.stack([rounded, -rounded], axis=1), units, dtype=np.float64)
    assert plain.max() > 1
    assert found.min() == -1
    assert found.max() == 1
    np.testing.assert_allclose(found, plain, atol=1e-3)
    longer = scores(2 * units, units[:, None], "ip")
    assert longer.min() > 1.9


def test_best_first_breaks_ties_by_row() -> None:
    rows = np.array([[9, 3, 7, 1]])
    values = np.array([[1.0, 2.0, 1.0, 1.0]])
    assert rows[0][best_first(rows, values, 3)[0]].tolist() == [3, 1, 7]


def check(
    queries: np.ndarray, vectors: np.ndarray, k: int, metric: str, batch: int = 1 << 30
) -> None:
    parts = [(at, vectors[at : at + batch]) for at in range(0, len(vectors), batch)]
    rows, values = exact_neighbours(queries, parts, k, metric)  # type: ignore[arg-type]
    assert rows.shape == values.shape == (len(queries), min(k, len(vectors)))
    kind = "ip" if metric == "cosine" else metric
    for number, query in enumerate(queries):
        assert rows[number].tolist() == naive.neighbours(query, vectors, k, kind)


@pytest.mark.parametrize("metric", METRICS)
def test_exact_neighbours(metric: str) -> None:
    queries, vectors = gaussian(6, 24), gaussian(500, 24, seed=1)
    if metric == "cosine":
        queries, vectors = normalize(queries)[0], normalize(vectors)[0]
    for batch, k in itertools.product((7, 100, 1000), (1, 10, 499, 500, 501)):
        check(queries, vectors, k, metric, batch)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 70), st.sampled_from(["ip", "l2"]))
def test_exact_neighbours_with_ties(n: int, batch: int, k: int, metric: str) -> None:
    rng = np.random.default_rng(n)
    vectors = rng.integers(-1, 2, (n, 3)).astype(np.float32)
    check(rng.integers(-1, 2, (2, 3)).astype(np.float32), vectors, k, metric, batch)


@pytest.mark.parametrize("metric", METRICS)
def test_many_equal_vectors_are_ordered_by_row(metric: str) -> None:
    """More than the margin of the single-precision pass, and not in one order by its rounding."""
    vectors = np.repeat(normalize(gaussian(5, 33))[0], 200, axis=0)
    check(vectors[[0, 450]], vectors, 10, metric)


def test_distances_far_from_the_origin() -> None:
    """|q|² - 2 q·x + |x|² loses all digits here in single precision."""
    vectors = (1000 + 0.01 * gaussian(1500, 64)).astype(np.float32)
    queries = (1000 + 0.01 * gaussian(4, 64, seed=1)).astype(np.float32)
    check(queries, vectors, 10, "l2")
    check(queries, vectors, 10, "ip")


def test_products_that_over_and_underflow_in_single_precision() -> None:
    for metric, scale in itertools.product(("ip", "l2"), (1e-25, 1e20, 1e37)):
        vectors = (gaussian(300, 8) * np.float32(scale)).astype(np.float32)
        queries = (gaussian(3, 8, seed=1) * np.float32(scale)).astype(np.float32)
        check(queries, vectors, 5, metric)


def test_no_queries_and_no_vectors() -> None:
    rows, _ = exact_neighbours(np.empty((0, 4), np.float32), [(0, gaussian(9, 4))], 3, "ip")
    assert len(rows) == 0
    rows, _ = exact_neighbours(gaussian(2, 4), [], 3, "ip")
    assert rows.shape == (2, 0)
