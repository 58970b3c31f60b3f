"""The ground truth: kept while it is the same, and refused where it does not fit the index."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import gaussian, write_jsonl
from data.make_golden import grow

import binq
from binq.errors import BinqWarning, InputError
from binq.evaluation.evaluate import evaluate

OTHER_FILE = pytest.warns(BinqWarning, match="another fingerprint")


def test_cached_truth(tmp_path: Path) -> None:
    vectors, queries = gaussian(80, 10), gaussian(6, 10, seed=1)
    np.save(tmp_path / "c.npy", vectors)
    np.save(tmp_path / "d.npy", vectors + gaussian(80, 10, seed=3) * np.float32(0.01))
    path, cache = tmp_path / "i.binq", tmp_path / "truth.npz"
    binq.build(tmp_path / "c.npy", path)

    def computed(
        probes: np.ndarray = queries, k: int = 10, truth: str = "c.npy", **more: Any
    ) -> bool:
        """Evaluate; return whether the truth was computed, and so written anew."""
        before = cache.stat() if cache.exists() else None
        with nullcontext() if truth == "c.npy" else OTHER_FILE:
            evaluate(path, probes, truth=tmp_path / truth, k=[k], cache_truth=cache, **more)
        return before is None or cache.stat().st_ino != before.st_ino

    assert computed()
    assert not computed()
    assert not computed(k=5)  # fewer than are kept
    assert computed(k=20)  # more than were kept
    assert computed(gaussian(6, 10, seed=2))  # other queries
    assert computed()  # the cache was of the others
    binq.build(tmp_path / "c.npy", path, metric="l2")
    assert computed()  # another metric
    assert computed(truth="d.npy")
    data = cache.read_bytes()
    for damaged in (b"", data[:50], data[: len(data) // 2], data[:-40] + bytes(40)):
        cache.write_bytes(damaged)
        assert computed(truth="d.npy")
    # A file of lines does not say how many rows it has before it is read.
    write_jsonl(tmp_path / "c.jsonl", vectors)
    assert computed(truth="c.jsonl")
    assert not computed(truth="c.jsonl")
    columns = {name: pa.array(list(rows)) for name, rows in (("a", vectors), ("b", 2 * vectors))}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    assert computed(truth="c.parquet", truth_column="a")
    assert computed(truth="c.parquet", truth_column="b")
    assert not computed(truth="c.parquet", truth_column="b")


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

    with OTHER_FILE:
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


def test_an_index_in_which_nothing_can_be_found(tmp_path: Path) -> None:
    """All of its rows are dead, or there is none: no recall is no recall of 1."""
    vectors = gaussian(3, 16)
    binq.build(vectors, tmp_path / "alive.binq")
    grow(tmp_path / "alive.binq", tmp_path / "dead.binq", dead=range(3))
    binq.build(vectors[:0], tmp_path / "none.binq")
    for name, rows in (("dead", vectors), ("none", vectors[:0])):
        with pytest.raises(InputError, match=rf"holds no rows.*{name}\.binq"):
            evaluate(tmp_path / f"{name}.binq", gaussian(2, 16), truth=rows, k=[1])


def test_truth_of_other_rows_is_refused(tmp_path: Path) -> None:
    """Of the right shape and without ids, but in another order: its codes tell."""
    x, queries = gaussian(300, 32), gaussian(4, 32, seed=1)
    for method in ("sign", "learned", "lsh"):
        binq.build(x, tmp_path / "i.binq", method=method)  # type: ignore[arg-type]
        for truth in (x[::-1], np.roll(x, 1, axis=0), gaussian(300, 32, seed=2)):
            with pytest.raises(InputError, match="not what the index was built from"):
                binq.evaluate(tmp_path / "i.binq", queries, truth=np.ascontiguousarray(truth))
        rounded = x.astype(np.float16).astype(np.float32)
        with OTHER_FILE:
            found = binq.evaluate(tmp_path / "i.binq", queries, truth=rounded, k=5)
        assert found.facts["n"] == 300


def test_truth_of_another_fingerprint_is_warned_of(cli: Any, tmp_path: Path) -> None:
    """As much alike as codes can tell: a tenth of the rows are others."""
    vectors, queries = gaussian(300, 32), gaussian(4, 32, seed=1)
    for name, altered in (("c", 0), ("same", 0), ("other", 8)):
        rows = vectors.copy()
        rows[:altered] = gaussian(8, 32, seed=5)[:altered]
        np.save(tmp_path / f"{name}.npy", rows)
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    np.save(tmp_path / "q.npy", queries)
    index, cache = tmp_path / "i.binq", tmp_path / "t.npz"
    for kind in ("npy", "jsonl"):
        binq.build(str(tmp_path / f"c.{kind}"), index)
        for name, told in (("same", 0), ("other", 1), ("other", 1)):  # the last time from the cache
            words = ("--truth", tmp_path / f"{name}.{kind}", "-k", 5, "--cache-truth", cache)
            found = cli("eval", index, tmp_path / "q.npy", *words)
            assert found.err.count("has another fingerprint than") == told
            assert found.err.count("warning") == told
