"""The ground truth: kept while it is the same, and refused where it does not fit the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian, write_jsonl

import binq
from binq.errors import InputError
from binq.evaluation.evaluate import evaluate
from binq.similarity import exact_neighbours


def test_cached_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = gaussian(80, 10), gaussian(6, 10, seed=1)
    np.save(tmp_path / "c.npy", vectors)
    path, cache = tmp_path / "i.binq", tmp_path / "truth.npz"
    binq.build(tmp_path / "c.npy", path)
    calls = []

    def counted(*words: Any) -> Any:
        calls.append(words)
        return exact_neighbours(*words)

    monkeypatch.setattr("binq.evaluation.truth.exact_neighbours", counted)

    def judge(probes: np.ndarray = queries, k: int = 10, source: str = "c.npy") -> float:
        truth = tmp_path / source
        found = evaluate(path, probes, truth=truth, k=[k], cache_truth=cache)
        return found.metrics[f"recall@{k}"]["value"]

    first = judge()
    assert cache.exists()
    assert len(calls) == 1
    assert judge() == first
    assert len(calls) == 1  # taken from the cache
    judge(k=5)
    assert len(calls) == 1  # fewer than are kept
    judge(k=20)
    assert len(calls) == 2  # more than were kept
    judge(gaussian(6, 10, seed=2))
    assert len(calls) == 3  # other queries
    judge()
    assert len(calls) == 4  # the cache was of the others
    binq.build(tmp_path / "c.npy", path, metric="l2")
    judge()
    assert len(calls) == 5  # another metric
    np.save(tmp_path / "d.npy", gaussian(80, 10, seed=3))
    judge(source="d.npy")
    assert len(calls) == 6  # other truth
    data = cache.read_bytes()
    for damaged in (b"", b"junk", data[: len(data) // 2], data[:-40] + bytes(40)):
        cache.write_bytes(damaged)
        before = len(calls)
        judge(source="d.npy")
        assert len(calls) == before + 1


def test_a_cache_that_lies(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", gaussian(30, 10))
    binq.build(tmp_path / "c.npy", tmp_path / "i.binq")
    options: dict[str, Any] = {
        "truth": tmp_path / "c.npy",
        "k": [3],
        "cache_truth": tmp_path / "t.npz",
    }
    good = evaluate(tmp_path / "i.binq", gaussian(4, 10), **options).metrics
    with np.load(tmp_path / "t.npz") as kept:
        key, rows = kept["key"], kept["rows"]
    for lie in (rows + 30, rows - 30, rows[:2], rows.astype(float), rows[0]):
        np.savez(tmp_path / "t.npz", key=key, rows=lie)
        assert evaluate(tmp_path / "i.binq", gaussian(4, 10), **options).metrics == good


def test_truth_that_does_not_fit(tmp_path: Path) -> None:
    vectors = gaussian(20, 6)
    ids = [f"d{n}" for n in range(20)]
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, ids)
    binq.build(corpus, tmp_path / "i.binq")

    def judge(truth: Any) -> None:
        evaluate(tmp_path / "i.binq", gaussian(2, 6), truth=truth, k=[3])

    judge(vectors)  # without ids there is nothing to compare
    for wrong in (vectors[:19], np.concatenate([vectors, vectors[:1]]), vectors[:0]):
        with pytest.raises(InputError, match="another number of rows"):
            judge(wrong)
    with pytest.raises(InputError, match="does not fit"):
        judge(gaussian(20, 7))
    ids[4], ids[5] = ids[5], ids[4]
    swapped = write_jsonl(tmp_path / "s.jsonl", vectors, ids)
    with pytest.raises(InputError, match=r"not aligned.*row 4"):
        judge(swapped)
    zero = vectors.copy()
    zero[7] = 0
    with pytest.raises(InputError, match=r"norm zero.*row 7"):
        judge(zero)


def test_queries_that_have_no_exact_neighbours(tmp_path: Path) -> None:
    vectors = gaussian(20, 16)
    binq.build(vectors, tmp_path / "i.binq", truncate_dim=8)
    with pytest.raises(InputError, match="whole float queries"):
        evaluate(tmp_path / "i.binq", vectors[:, :8], truth=vectors, k=[1])
    with pytest.raises(InputError, match="no queries"):
        evaluate(tmp_path / "i.binq", vectors[:0], truth=vectors, k=[1])
