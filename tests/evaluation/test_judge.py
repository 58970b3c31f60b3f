"""What a search is judged to have found, against a plain oracle; leaving out a query itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from corpora import gaussian, write_jsonl

import binq
from binq.errors import InputError
from binq.evaluation.evaluate import evaluate


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
        count = min(120, math.ceil(k * oversample))
        for number in range(8):
            true = naive.neighbours(queries[number], vectors, min(k, 120), metric)
            candidates = [row for _, row in naive.topk(codes, probes[number], count)]
            scores = naive.score(queries[number], vectors, metric)
            best = sorted(candidates, key=lambda row: (-scores[row], row))[:k]
            assert found.per_query[f"recall@{k}"][number] == pytest.approx(naive.recall(best, true))
            assert found.per_query[f"candidate_recall@{k}"][number] == pytest.approx(
                naive.recall(candidates, true)
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
