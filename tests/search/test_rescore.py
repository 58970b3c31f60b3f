"""Payloads and the sorting of survivors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from corpora import debris, gaussian
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from binq import build
from binq.errors import InputError
from binq.index.index import Index
from binq.search.rescore import exact_scores
from binq.similarity import best_first
from binq.storage.sections import Int8Range


class Rows:
    """Vectors in memory, as a store."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def take(self, rows: np.ndarray) -> np.ndarray:
        assert np.array_equal(rows, np.unique(rows))  # sorted and unique, as a store may expect
        return self.vectors[rows]


def ranged(vectors: np.ndarray) -> Int8Range:
    return Int8Range.spanning(vectors.min(axis=0), vectors.max(axis=0))


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_int8_is_at_most_half_a_step_off(vectors: np.ndarray) -> None:
    found = ranged(vectors)
    stored = found.quantize(vectors)
    assert stored.dtype == np.int8
    width = vectors.max(axis=0).astype(np.float64) - vectors.min(axis=0)
    off = np.abs(found.restore(stored).astype(np.float64) - vectors)
    # Half a step, and the rounding of single precision in computing it.
    assert (off <= width / 510 + 4e-7 * np.abs(vectors).max() + 1e-37).all()


def test_int8_by_hand() -> None:
    vectors = np.array([[0.0, 5.0], [255.0, 5.0], [100.4, 5.0]], np.float32)
    found = ranged(vectors)
    assert found.step.tolist() == [1.0, 0.0]
    assert found.quantize(vectors).tolist() == [[-128, -128], [127, -128], [-28, -128]]
    assert found.restore(found.quantize(vectors)).tolist() == [[0, 5], [255, 5], [100, 5]]
    # What lies outside the range is put at its end.
    outside = np.array([[-9.0, 9.0], [999.0, -9.0]], np.float32)
    assert found.quantize(outside)[:, 0].tolist() == [-128, 127]


def test_int8_keeps_the_ends_of_the_range() -> None:
    vectors = gaussian(200, 7)
    found = ranged(vectors)
    stored = found.quantize(vectors)
    assert (stored.min(axis=0) == -128).all()
    assert (stored.max(axis=0) == 127).all()


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_sorting_of_survivors(metric: Any) -> None:
    vectors, queries = gaussian(40, 9), gaussian(5, 9, seed=1)
    vectors[20:] = vectors[:20]  # ties, which the row breaks
    if metric == "cosine":
        vectors = naive.unit(vectors).astype(np.float32)
        queries = naive.unit(queries).astype(np.float32)
    rng = np.random.default_rng(0)
    rows = np.stack([rng.choice(40, 15, replace=False) for _ in queries])
    values = exact_scores(queries, rows, Rows(vectors), metric)
    order = best_first(rows, values, 6)
    for number, query in enumerate(queries):
        scores = naive.score(query, vectors, "ip" if metric == "cosine" else metric)
        expected = sorted(rows[number].tolist(), key=lambda row: (-scores[row], row))[:6]
        assert rows[number][order[number]].tolist() == expected
        assert np.allclose(values[number], scores[rows[number]])


def test_no_survivors_and_no_queries() -> None:
    store = Rows(gaussian(4, 3))
    assert exact_scores(gaussian(2, 3), np.empty((2, 0), np.int64), store, "ip").shape == (2, 0)
    none = np.empty((0, 3), np.float32)
    assert exact_scores(none, np.empty((0, 2), np.int64), store, "ip").shape == (0, 2)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("payload", ["int8", "float16", "float32"])
def test_payloads_of_an_index(tmp_path: Path, metric: Any, payload: Any) -> None:
    vectors = gaussian(60, 10)
    vectors[:, 3] = 2.5  # a constant dimension
    build(vectors, tmp_path / "i.binq", metric=metric, rescore=payload)
    index = Index(tmp_path / "i.binq")
    hits = index.search(vectors[:4], 60, oversample=1)
    off = {"int8": 0.1, "float16": 0.02, "float32": 1e-5}[payload]
    for number in range(4):
        expected = naive.score(vectors[number], vectors, metric)[hits.rows[number]]
        assert np.allclose(hits.scores[number], expected, atol=off * 10)
        assert (np.diff(hits.scores[number]) <= 0).all()


def test_a_constant_corpus_has_an_int8_payload(tmp_path: Path) -> None:
    vectors = np.full((9, 4), 0.25, np.float32)
    build(vectors, tmp_path / "i.binq", metric="l2", rescore="int8")
    hits = Index(tmp_path / "i.binq").search(vectors[:1], 3)
    assert hits.rows.tolist() == [[0, 1, 2]]
    assert hits.scores.tolist() == [[0, 0, 0]]


def test_a_value_too_large_for_float16(tmp_path: Path) -> None:
    vectors = gaussian(9, 4)
    vectors[6, 1] = 65520  # rounds to infinity; 65519 does not
    path = tmp_path / "i.binq"
    with pytest.raises(InputError, match=r"float16.* row 6.*65504.*float32"):
        build(vectors, path, metric="ip", rescore="float16")
    assert not path.exists()
    assert not debris(tmp_path)
    vectors[6, 1] = 65519
    build(vectors, path, metric="ip", rescore="float16")
    build(vectors, path, metric="cosine", rescore="float16")
