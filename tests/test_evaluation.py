"""Evaluation: recall as a few lines of numpy give it, and everything that qualifies it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from conftest import Real
from corpora import gaussian, write_jsonl

import binq
from binq import evaluation
from binq.errors import CheckFailed, InputError, UsageError
from binq.evaluation import evaluate, parse_floors

KS = [1, 10, 100]


def numpy_recall(vectors: np.ndarray, queries: np.ndarray) -> dict[int, np.ndarray]:
    """Return recall@k of sign codes and Hamming scan, per query: independent of binq."""
    truth = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")
    codes, probes = np.packbits(vectors > 0, axis=1), np.packbits(queries > 0, axis=1)
    shares: dict[int, list[float]] = {k: [] for k in KS}
    for probe, true in zip(probes, truth, strict=True):
        distances = np.bitwise_count(codes ^ probe).sum(axis=1, dtype=np.int16)
        near = np.argsort(distances, kind="stable")
        for k in KS:
            shares[k].append(len(np.intersect1d(near[:k], true[:k])) / k)
    return {k: np.array(values) for k, values in shares.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


def test_recall_on_real_data_equals_numpy(real: Real, place: Path) -> None:
    binq.build(str(real.docs), place / "plain.binq", method="sign")
    found = evaluate(
        place / "plain.binq", str(real.queries), truth=str(real.docs), k=KS, rescore="none"
    )
    unit = naive.unit(real.vectors).astype(np.float32)
    probes = naive.unit(real.probes).astype(np.float32)
    for k, shares in numpy_recall(unit, probes).items():
        assert np.allclose(found.per_query[f"recall@{k}"], shares, atol=1e-12)
        entry = found.metrics[f"recall@{k}"]
        half = 1.96 * shares.std(ddof=1) / math.sqrt(len(shares))
        assert entry["value"] == pytest.approx(shares.mean())
        assert entry["low"] == pytest.approx(max(0, shares.mean() - half))
        assert entry["high"] == pytest.approx(min(1, shares.mean() + half))
    assert found.query_ids == real.probe_ids


def test_recall_of_payloads_on_real_data(real: Real, place: Path) -> None:
    values = {}
    for payload in ("float32", "int8"):
        path = place / f"{payload}.binq"
        binq.build(str(real.docs), path, rescore=payload)  # type: ignore[arg-type]
        found = evaluate(
            path,
            str(real.queries),
            truth=str(real.docs),
            k=[10],
            oversample=10,
            cache_truth=place / "truth.npz",
        )
        values[payload] = found.metrics["recall@10"]["value"]
        candidates = found.metrics["candidate_recall@10"]["value"]
        assert candidates >= values[payload] - 1e-12
    assert values["float32"] >= 0.95
    assert abs(values["float32"] - values["int8"]) <= 0.01


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("oversample", [1, 1.5, 4])
def test_recall_and_candidates_against_the_oracle(
    tmp_path: Path, metric: Any, oversample: float
) -> None:
    vectors, queries = gaussian(120, 16), gaussian(8, 16, seed=1)
    path = tmp_path / "i.binq"
    binq.build(vectors, path, metric=metric, rescore="float32")
    ks = [1, 3, 10, 119, 120, 500]
    found = evaluate(path, queries, truth=vectors, k=ks, oversample=oversample)
    codes, probes = naive.pack(vectors > 0), naive.pack(queries > 0)
    for k in ks:
        depth = min(120, math.ceil(k * oversample))
        for number in range(8):
            true = naive.neighbours(queries[number], vectors, min(k, 120), metric)
            survivors = [row for _, row in naive.topk(codes, probes[number], depth)]
            scores = naive.score(queries[number], vectors, metric)
            best = sorted(survivors, key=lambda row: (-scores[row], row))[:k]
            assert found.per_query[f"recall@{k}"][number] == pytest.approx(naive.recall(best, true))
            assert found.per_query[f"candidate_recall@{k}"][number] == pytest.approx(
                naive.recall(survivors, true)
            )
    assert not any(name.startswith("recall_expected") for name in found.metrics)


def test_expected_recall_by_enumeration(tmp_path: Path) -> None:
    vectors, queries = gaussian(14, 5), gaussian(9, 5, seed=1)
    path = tmp_path / "i.binq"
    binq.build(vectors, path)
    ks = [1, 2, 5, 14, 20]
    found = evaluate(path, queries, truth=vectors, k=ks)
    codes, probes = naive.pack(vectors > 0), naive.pack(queries > 0)
    for k in ks:
        outcomes = []
        for number in range(9):
            true = set(naive.neighbours(queries[number], vectors, min(k, 14), "cosine"))
            distances = [naive.hamming(code, probes[number]) for code in codes]
            outcomes.append(naive.expected_recall(distances, true, min(k, 14)))
        means = [mean for mean, _ in outcomes]
        assert np.allclose(found.per_query[f"recall_expected@{k}"], means)
        entry = found.metrics[f"recall_expected@{k}"]
        assert entry["value"] == pytest.approx(np.mean(means))
        spread = math.sqrt(sum(variance for _, variance in outcomes)) / 9
        assert entry["std"] == pytest.approx(spread)


def test_exclude_self_with_duplicate_ids(tmp_path: Path) -> None:
    vectors = gaussian(40, 8)
    vectors[30:] = vectors[:10]
    ids = [f"d{n % 30}" for n in range(40)]  # rows 30 to 39 repeat the ids of 0 to 9
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, ids)
    with pytest.warns(binq.BinqWarning, match="10 ids"):
        binq.build(corpus, tmp_path / "i.binq")
    picked = [3, 12, 35, 20]
    names = [ids[row] for row in picked]
    queries = write_jsonl(tmp_path / "q.jsonl", vectors[picked], names)
    ks = [1, 5, 38, 40]
    found = evaluate(tmp_path / "i.binq", queries, truth=corpus, k=ks, exclude_self=True)
    codes = naive.pack(vectors > 0)
    for number, row in enumerate(picked):
        own = {other for other in range(40) if ids[other] == ids[row]}
        left = 40 - len(own)
        for k in ks:
            nearest = naive.neighbours(vectors[row], vectors, 40, "cosine")
            true = [other for other in nearest if other not in own][: min(k, left)]
            scan = [other for _, other in naive.topk(codes, codes[row], 40) if other not in own]
            assert found.per_query[f"recall@{k}"][number] == pytest.approx(
                naive.recall(scan[:k], true)
            )
            distances = [naive.hamming(codes[other], codes[row]) for other in range(40)]
            kept = [other for other in range(40) if other not in own]
            if math.comb(left, min(k, left)) < 10**4 or k == 1:
                expected, _ = naive.expected_recall(
                    [distances[other] for other in kept],
                    {kept.index(other) for other in true},
                    min(k, left),
                )
                assert found.per_query[f"recall_expected@{k}"][number] == pytest.approx(expected)


def test_exclude_self_by_row_number(tmp_path: Path) -> None:
    vectors = gaussian(30, 8)
    binq.build(vectors, tmp_path / "i.binq", rescore="float32")
    found = evaluate(
        tmp_path / "i.binq", vectors, truth=vectors, k=[1, 29, 30], oversample=30, exclude_self=True
    )
    assert found.metrics["recall@1"]["value"] == 1.0
    assert found.metrics["recall@30"]["value"] == 1.0
    names = write_jsonl(tmp_path / "q.jsonl", vectors[:3], ["0", "not a row", "9" * 6000])
    evaluate(tmp_path / "i.binq", names, truth=vectors, k=[1], exclude_self=True)
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, [f"d{n}" for n in range(30)])
    binq.build(corpus, tmp_path / "i.binq")
    with pytest.raises(InputError, match="ids of the queries"):
        evaluate(tmp_path / "i.binq", vectors, truth=vectors, k=[1], exclude_self=True)


def test_cached_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = gaussian(80, 10), gaussian(6, 10, seed=1)
    np.save(tmp_path / "c.npy", vectors)
    path, cache = tmp_path / "i.binq", tmp_path / "truth.npz"
    binq.build(tmp_path / "c.npy", path)
    calls = []
    real = evaluation.exact_neighbours

    def counted(*words: Any) -> Any:
        calls.append(words)
        return real(*words)

    monkeypatch.setattr(evaluation, "exact_neighbours", counted)

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


def test_what_makes_no_sense(tmp_path: Path) -> None:
    vectors = gaussian(9, 4)
    binq.build(vectors, tmp_path / "i.binq")
    for options in ({"truth": vectors, "k": []}, {"truth": vectors, "k": [0]}, {"k": [1]}):
        with pytest.raises(UsageError):
            evaluate(tmp_path / "i.binq", vectors, **options)
    qrels = tmp_path / "q"
    qrels.write_text("0 0 1 1\n")
    with pytest.raises(UsageError, match="--cache-truth"):
        evaluate(tmp_path / "i.binq", vectors, qrels=qrels, cache_truth=tmp_path / "t.npz")


def test_qrels(tmp_path: Path) -> None:
    pytest.importorskip("ir_measures")
    vectors = gaussian(20, 16)
    ids = [f"d{n}" for n in range(20)]
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, ids)
    queries = write_jsonl(tmp_path / "q.jsonl", vectors[:3], ["a", "b", "c"])
    binq.build(corpus, tmp_path / "i.binq")
    (tmp_path / "qrels").write_text("query-id\tcorpus-id\tscore\na\td0\t1\nb\td19\t1\nb\td1\t1\n")
    found = evaluate(tmp_path / "i.binq", queries, qrels=tmp_path / "qrels", k=[1, 20])
    assert found.metrics["nDCG@1"]["value"] == 1.0  # a vector is nearest to itself
    assert found.per_query["R@1"][:2].tolist() == [1.0, 0.5]
    assert math.isnan(found.per_query["R@1"][2])  # c has no judgement
    assert found.metrics["R@20"]["value"] == 1.0
    assert [record["query"] for record in found.records()] == ["a", "b", "c"]
    assert list(found.records())[2]["R@1"] is None


def test_floors() -> None:
    assert parse_floors(["recall@10=0.95", "nDCG@1=1e-1"], [1, 10]) == {
        "recall@10": 0.95,
        "nDCG@1": 0.1,
    }
    for text in ("recall=0.9", "recall@10", "recall@10=", "recall@x=1", "@1=1", "recall@10=nan"):
        with pytest.raises(UsageError, match="not a floor"):
            parse_floors([text], [10])
    with pytest.raises(UsageError, match="add it to -k"):
        parse_floors(["recall@5=0.5"], [1, 10])


def test_require(tmp_path: Path) -> None:
    vectors = gaussian(30, 8)
    binq.build(vectors, tmp_path / "i.binq", rescore="float32")
    found = evaluate(tmp_path / "i.binq", vectors, truth=vectors, k=[1], oversample=30)
    found.require({"recall@1": 1.0})
    with pytest.raises(CheckFailed, match=r"recall@1 is too low: expected at least 1\.01"):
        found.require({"recall@1": 1.01})
    with pytest.raises(UsageError, match="not evaluated"):
        found.require({"nDCG@1": 0.1})


def test_the_same_at_one_and_two_threads(tmp_path: Path) -> None:
    vectors = gaussian(500, 40)
    binq.build(vectors, tmp_path / "i.binq", rescore="int8")
    found = [
        evaluate(tmp_path / "i.binq", vectors[:50], truth=vectors, k=[1, 10], threads=threads)
        for threads in (1, 2)
    ]
    assert found[0].metrics == found[1].metrics
