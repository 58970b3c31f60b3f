"""What is promised of a corpus larger than the sample holds on all of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import anisotropic, gaussian, write_jsonl

import binq
from binq.evaluation.statistics import Estimate
from binq.sweeping.extrapolate import extrapolate

CORPUS = anisotropic(6000, 48)
QUERIES = anisotropic(100, 48, seed=1)
TARGET = 0.8


def clustered(rows: int, seed: int) -> np.ndarray:
    """Return rows about 200 centres."""
    centres = gaussian(200, 48, seed=5)
    centre = np.random.default_rng(seed).integers(0, 200, rows)
    return centres[centre] + np.float32(0.8) * gaussian(rows, 48, seed + 1)


def swept(**settings: Any) -> binq.Sweep:
    given = {
        "methods": ["sign", "itq"],
        "bits": [48],
        "with_peers": False,
        "sample": 1000,
        "target_recall": TARGET,
    } | settings
    return binq.sweep(given.pop("vectors", CORPUS), given.pop("queries", QUERIES), **given)


def reached(chosen: Any, vectors: Any, path: Path) -> dict[str, float]:
    """Return the recall of what is recommended, really built and judged."""
    binq.build(vectors, path, **chosen.build, overwrite=True)
    query = chosen.query | {"k": [chosen.query["k"]]}
    return dict(binq.evaluate(path, QUERIES, truth=vectors, **query).metrics["recall@10"])


@pytest.mark.slow
def test_a_recommendation_holds_on_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, CORPUS)
    found = swept(vectors=str(path))
    chosen = found.recommendation
    assert (chosen.by, chosen.basis, chosen.reached) == ("file", "measured", True)
    assert chosen.verdict.startswith(f"Yes: {chosen.row.method} at 48 bits, rescored from {path}")
    assert "Measured on all 6,000 rows" in chosen.sentence
    assert vars(chosen.recall) == pytest.approx(reached(chosen, str(path), tmp_path / "i.binq"))
    assert chosen.recall.value >= TARGET
    # What the sample alone would have had recommended falls short: that was the fault.
    ways = [
        (row.bytes, x, -estimate.value, row)
        for row in found.rows
        for x, estimate in row.rescored.items()
        if row.kind == "binq" and estimate.value >= TARGET
    ]
    _, x, _, row = min(ways, key=lambda way: way[:3])
    assert (row.method, row.scoring, x) != (
        chosen.row.method,
        chosen.row.scoring,
        chosen.oversample,
    )
    index = binq.build(
        CORPUS,
        tmp_path / "short.binq",
        method=row.method,  # type: ignore[arg-type]
        scoring=row.scoring,  # type: ignore[arg-type]
        sample=1000,
    )
    assert index.rows == 6000
    short = binq.evaluate(
        tmp_path / "short.binq", QUERIES, truth=CORPUS, k=10, rescore_from=CORPUS, oversample=x
    )
    assert short.metrics["recall@10"]["value"] < TARGET


@pytest.mark.slow
def test_stored_vectors_are_measured_on_all_rows_too(tmp_path: Path) -> None:
    for metric in ("cosine", "l2"):
        chosen = swept(metric=metric).recommendation  # an array is no file to rescore from
        assert chosen.by in ("int8", "float16")
        assert (chosen.basis, chosen.reached) == ("measured", True)
        real = reached(chosen, CORPUS, tmp_path / "i.binq")
        assert vars(chosen.recall) == pytest.approx(real)


@pytest.mark.slow
def test_rows_held_out_are_not_found() -> None:
    corpus = np.concatenate([CORPUS[:1500], CORPUS[:1500]])  # every row stands twice
    chosen = swept(vectors=corpus, queries=None, sample=800, methods=["sign"]).recommendation
    again = swept(vectors=corpus, queries=None, sample=800, methods=["sign"], max_minutes=0)
    assert chosen.basis == "measured"
    assert again.recommendation.basis == "extrapolated"
    # The 360 rows that ask are in the corpus twice each; were they found, each would be first.
    queries = again.facts["queries"]
    rows = int(chosen.sentence.split(" other rows")[0].rsplit(" ", 1)[1].replace(",", ""))
    assert rows == 3000 - 2 * queries


@pytest.mark.slow
def test_what_takes_too_long_is_extrapolated_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    for vectors, queries, sample in (
        (CORPUS, QUERIES, 2000),
        (clustered(5000, 20), clustered(100, 30), 3000),
        (gaussian(4000, 24), gaussian(100, 24, 1), 2000),
    ):
        np.save(path, vectors)
        for target in (0.6, 0.85, 1.0):
            given: dict[str, Any] = {"vectors": str(path), "queries": queries, "bits": [24]}
            given |= {"sample": sample, "max_minutes": 0}
            chosen = swept(**given, target_recall=target).recommendation
            assert chosen.basis == "extrapolated"
            assert chosen.verdict.startswith("Probably: " if chosen.reached else "No: ")
            assert f"Extrapolated to all {len(vectors):,} rows" in chosen.sentence
            assert "see max_minutes" in chosen.sentence
            binq.build(str(path), tmp_path / "i.binq", **chosen.build, overwrite=True)
            query = chosen.query | {"k": [10]}
            real = binq.evaluate(tmp_path / "i.binq", queries, truth=str(path), **query)
            value = real.metrics["recall@10"]["value"]
            assert 0 < chosen.recall.low <= value <= chosen.recall.high
    assert swept(k=60, max_minutes=0, target_recall=0.1).recommendation.verdict[:8] == "Perhaps:"


def test_only_files_with_rows_to_fetch_are_rescored_from(tmp_path: Path) -> None:
    lines = write_jsonl(tmp_path / "v.jsonl", CORPUS[:1500])
    np.save(tmp_path / "v.npy", CORPUS[:1500])
    assert swept(vectors=str(lines), methods=["sign"]).recommendation.by == "int8"
    chosen = swept(vectors=[str(tmp_path / "v.npy")], methods=["sign"]).recommendation
    assert chosen.by == "file"
    assert chosen.query["rescore_from"] == [str(tmp_path / "v.npy")]


def test_extrapolation() -> None:
    def odds(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    # Even steps go on, and only the interval of what was measured is left.
    exact = Estimate(odds(2.0), odds(1.8), odds(2.2))
    found = extrapolate(exact, [odds(2.5), odds(3.0)], 4, 10_000)
    assert vars(found) == pytest.approx({"value": odds(1), "low": odds(0.8), "high": odds(1.2)})
    # Uneven ones: steps of -0.5 and -0.1; on by their mean, or by -0.9 to +0.3.
    found = extrapolate(exact, [odds(2.5), odds(2.6)], 2, 10_000)
    assert found.value == pytest.approx(odds(1.7))
    assert found.low == pytest.approx(odds(1.8 - 0.9))
    assert found.high == pytest.approx(odds(2.2 + 0.3))
    assert extrapolate(exact, [odds(2.5)], 2, 10_000) == Estimate(exact.value, 0.0, 1.0)
    certain = extrapolate(Estimate(1.0, 1.0, 1.0), [1.0, 1.0, 1.0], 1e9, 100)
    assert certain.value == pytest.approx(0.995)
