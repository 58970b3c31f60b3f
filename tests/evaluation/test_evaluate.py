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
from data.make_golden import grow

import binq
from binq.errors import BinqWarning, CheckFailed, InputError, UsageError
from binq.evaluation.evaluate import evaluate
from binq.evaluation.results import parse_floors

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


@pytest.mark.slow
def test_recall_on_real_data_equals_numpy(real: Real, place: Path) -> None:
    binq.build(str(real.docs), place / "plain.binq", method="sign")
    found = evaluate(
        place / "plain.binq", str(real.queries), truth=str(real.docs), k=KS, rescore="none"
    )
    unit = naive.unit(real.vectors).astype(np.float32)
    probes = naive.unit(real.probes).astype(np.float32)
    groups = np.unique(probes, axis=0, return_inverse=True)[1].ravel()
    count = groups.max() + 1
    assert count < len(probes)  # some headings stand twice
    for k, shares in numpy_recall(unit, probes).items():
        assert np.allclose(found.per_query[f"recall@{k}"], shares, atol=1e-12)
        entry = found.metrics[f"recall@{k}"]
        sums = np.bincount(groups, shares - shares.mean())
        half = 1.96 * math.sqrt((sums**2).sum() * count / (count - 1)) / len(shares)
        assert entry["value"] == pytest.approx(shares.mean())
        assert entry["low"] == pytest.approx(max(0, shares.mean() - half))
        assert entry["high"] == pytest.approx(min(1, shares.mean() + half))
    assert found.query_ids == real.probe_ids


@pytest.mark.slow
def test_recall_of_stored_vectors_on_real_data(real: Real, place: Path) -> None:
    values = {}
    for stored in ("float32", "int8"):
        path = place / f"{stored}.binq"
        binq.build(str(real.docs), path, rescore=stored)  # type: ignore[arg-type]
        found = evaluate(
            path,
            str(real.queries),
            truth=str(real.docs),
            k=[10],
            oversample=10,
            cache_truth=place / "truth.npz",
        )
        values[stored] = found.metrics["recall@10"]["value"]
        candidates = found.metrics["candidate_recall@10"]["value"]
        assert candidates >= values[stored] - 1e-12
    assert values["float32"] >= 0.95
    assert abs(values["float32"] - values["int8"]) <= 0.01


def test_what_makes_no_sense(tmp_path: Path) -> None:
    vectors = gaussian(9, 4)
    binq.build(vectors, tmp_path / "i.binq")
    for options in ({"truth": vectors, "k": []}, {"truth": vectors, "k": [0]}, {"k": [1]}):
        with pytest.raises(UsageError):
            evaluate(tmp_path / "i.binq", vectors, **options)
    qrels = tmp_path / "q"
    qrels.write_text("0 0 1 1\n")
    with pytest.raises(UsageError, match="cache_truth"):
        evaluate(tmp_path / "i.binq", vectors, qrels=qrels, cache_truth=tmp_path / "t.npz")
    unread = tmp_path / "none.npy"
    with pytest.raises(UsageError, match="cache_truth cannot go to stdout"):
        evaluate(tmp_path / "none.binq", unread, truth=unread, cache_truth="-")


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


def test_every_k_is_judged_on_its_own_search(tmp_path: Path) -> None:
    """More candidates are rescored for a larger k, so that its first hits may be others."""
    pytest.importorskip("ir_measures")
    vectors, queries = gaussian(200, 16), gaussian(20, 16, seed=1)
    binq.build(vectors, tmp_path / "i.binq", rescore="float32")
    best = np.argmax(queries @ naive.unit(vectors).T, axis=1)
    lines = [f"{number} 0 {row} 1\n" for number, row in enumerate(best)]
    (tmp_path / "qrels").write_text("".join(lines))

    def judged(ks: list[int]) -> np.ndarray:
        found = evaluate(tmp_path / "i.binq", queries, qrels=tmp_path / "qrels", k=ks, oversample=1)
        return found.per_query["R@1"]

    assert judged([1]).tolist() == judged([1, 100]).tolist()
    assert judged([1]).sum() < 20


def test_repeated_queries_are_no_independent_draws(tmp_path: Path) -> None:
    vectors, queries = gaussian(300, 16), gaussian(50, 16, seed=1)
    binq.build(vectors, tmp_path / "i.binq")
    once, often = (
        evaluate(tmp_path / "i.binq", np.tile(queries, (times, 1)), truth=vectors, k=[10]).metrics
        for times in (1, 20)
    )
    for name in ("recall@10", "candidate_recall@10"):
        assert often[name] == pytest.approx(once[name])


def test_floors() -> None:
    assert parse_floors(["recall@10=0.95", "nDCG@1=1e-1"], [1, 10], qrels=True) == {
        "recall@10": 0.95,
        "nDCG@1": 0.1,
    }
    for text in ("recall=0.9", "recall@10", "recall@10=", "recall@x=1", "@1=1", "recall@10=nan"):
        with pytest.raises(UsageError, match="not a floor"):
            parse_floors([text], [10])
    with pytest.raises(UsageError, match="add it to -k"):
        parse_floors(["recall@5=0.5"], [1, 10])
    for text, help_ in (("recal@10=0.9", "one of recall"), ("nDCG@10=0.9", "give qrels")):
        with pytest.raises(UsageError, match=f"not evaluated: .*{help_}"):
            parse_floors([text], [10])
    with pytest.raises(UsageError, match="give truth"):
        parse_floors(["recall@10=0.9"], [10], truth=False, qrels=True)


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


@pytest.mark.parametrize("rescore", ["none", "float32"])
def test_dead_and_filtered_rows_are_as_if_they_were_not_there(tmp_path: Path, rescore: Any) -> None:
    vectors, names = gaussian(90, 16), [f"d{n}" for n in range(90)]
    dead, kept = [3, 64, 89], [row for row in range(90) if row not in (3, 64, 89)]
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, names)
    queries = write_jsonl(tmp_path / "q.jsonl", gaussian(20, 16, seed=1), names[:20])
    binq.build(corpus, tmp_path / "all.binq", rescore=rescore)
    grow(tmp_path / "all.binq", tmp_path / "dead.binq", dead=dead)
    # What stands in the place of a dead row is not looked at.
    altered, others = vectors.copy(), list(names)
    altered[3], others[64] = 0, "another"
    truth = write_jsonl(tmp_path / "t.jsonl", altered, others)
    left = write_jsonl(tmp_path / "left.jsonl", vectors[kept], [names[row] for row in kept])
    binq.build(left, tmp_path / "left.binq", rescore=rescore)
    options: dict[str, Any] = {"k": [1, 10, 100], "exclude_self": True}
    wanted = evaluate(tmp_path / "left.binq", queries, truth=left, **options)
    with pytest.warns(BinqWarning, match="another fingerprint"):
        found = evaluate(tmp_path / "dead.binq", queries, truth=truth, **options)
    assert (found.facts["n"], wanted.facts["n"]) == (87, 87)
    assert found.metrics == wanted.metrics
    few = [names[row] for row in kept]
    filtered = evaluate(tmp_path / "all.binq", queries, truth=corpus, filter_ids=few, **options)
    assert filtered.metrics == wanted.metrics
    cache = tmp_path / "truth.npz"
    for ids in (few, few[:50]):  # the truth of one filter is not that of another
        judged = [
            evaluate(
                tmp_path / "all.binq", queries, truth=corpus, filter_ids=ids, **options, **more
            )
            for more in ({}, {"cache_truth": cache})
        ]
        assert judged[0].metrics == judged[1].metrics
    with pytest.raises(InputError, match="not aligned"):
        evaluate(tmp_path / "all.binq", queries, truth=truth, k=[1])


def test_ids_that_are_integers(tmp_path: Path) -> None:
    vectors = gaussian(60, 16)
    numbers = np.arange(60)[::-1] * 7
    corpus = write_jsonl(tmp_path / "c.jsonl", vectors, [str(n) for n in numbers])
    binq.build(corpus, tmp_path / "text.binq")
    grow(tmp_path / "text.binq", tmp_path / "i.binq", ids=numbers)
    queries = write_jsonl(tmp_path / "q.jsonl", vectors[:9], [str(n) for n in numbers[:9]])
    wanted, found = (
        evaluate(tmp_path / name, queries, truth=corpus, k=[5], exclude_self=True).metrics
        for name in ("text.binq", "i.binq")
    )
    assert found == wanted
