"""A sweep says what builds and searches would say, and fits on nothing that asks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.errors import InputError, UsageError
from binq.evaluation.statistics import clustered, equal_rows
from binq.sweeping import baselines
from binq.sweeping.data import read_data
from binq.sweeping.plan import LISTS_PAY, about_lists, default_widths, plan

CORPUS = gaussian(400, 32)
QUERIES = gaussian(40, 32, seed=1)


def swept(**settings: Any) -> binq.Sweep:
    given = {"methods": ["sign", "lsh"], "bits": [32], "with_peers": False} | settings
    vectors = given.pop("vectors", CORPUS)
    return binq.sweep(vectors, given.pop("queries", QUERIES), **given)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_rows_equal_real_builds(metric: Any, tmp_path: Path) -> None:
    found = swept(
        metric=metric,
        methods=["sign", "median", "lsh", "itq", "rabitq", "learned"],
        bits=[16, 32, 48],
        k=5,
    )
    rows = [row for row in found.rows if row.kind == "binq"]
    assert len(rows) == 2 * (2 + 2 + 3 + 2 + 2 + 3)
    for row in rows:
        path = tmp_path / "i.binq"
        size = binq.build(
            CORPUS,
            path,
            method=row.method,  # type: ignore[arg-type]
            bits=None if row.truncate_dim else row.bits,
            truncate_dim=row.truncate_dim,
            metric=metric,
            scoring=row.scoring,  # type: ignore[arg-type]
        )
        assert size.bits == row.bits
        index = binq.open(path)
        sections = [s for name, s in index.file.sections.items() if name.startswith("codes")]
        stored = sum(np.dtype(s.dtype).itemsize * int(np.prod(s.shape[1:])) for s in sections)
        assert stored == row.bytes
        real = binq.evaluate(index, QUERIES, truth=CORPUS, k=[5]).metrics["recall@5"]
        assert row.recall.value == pytest.approx(real["value"]), row.name
        assert row.recall.low == pytest.approx(real["low"]), row.name
        for oversample, estimate in row.rescored.items():
            exact = binq.evaluate(
                index, QUERIES, truth=CORPUS, k=[5], rescore_from=CORPUS, oversample=oversample
            )
            wanted = exact.metrics["candidate_recall@5"]["value"]
            assert estimate.value == pytest.approx(wanted), (row.name, oversample)


def test_the_recommendation_is_what_a_build_gives(tmp_path: Path) -> None:
    chosen = swept(target_recall=0.9).recommendation
    assert chosen.reached
    assert chosen.recall.value >= 0.9
    assert chosen.by == chosen.stored == "int8"  # an array is no file to rescore from
    assert (chosen.basis, chosen.sample_recall) == ("measured", None)
    path = tmp_path / "i.binq"
    binq.build(CORPUS, path, **chosen.build)
    assert binq.open(path).search(QUERIES, **chosen.query).rows.shape == (40, 10)
    query = chosen.query | {"k": [10]}
    real = binq.evaluate(path, QUERIES, truth=CORPUS, **query).metrics["recall@10"]
    assert real["value"] == pytest.approx(chosen.recall.value)


def test_a_target_out_of_reach_is_said_to_be() -> None:
    chosen = swept(target_recall=1.0, oversamples=[1]).recommendation
    assert not chosen.reached
    assert chosen.verdict.startswith("No: nothing tried reaches recall@10 of 1; closest comes")


def test_texts_name_parameters_as_python_does() -> None:
    found = swept()
    chosen = found.recommendation
    assert not any("`" in text for text in (chosen.verdict, chosen.sentence, *found.notes))


def test_front() -> None:
    rows = swept(bits=[8, 16, 32], methods=["sign", "itq", "lsh"]).rows
    for row in rows:
        beaten = any(
            (other.bytes <= row.bytes and other.recall.value > row.recall.value)
            or (other.bytes < row.bytes and other.recall.value >= row.recall.value)
            for other in rows
        )
        if row.pareto:
            assert not beaten
    assert [row.bytes for row in rows] == sorted(row.bytes for row in rows)
    assert any(row.pareto for row in rows)
    exact = {row.method: row for row in rows if row.kind == "floats"}
    assert (exact["int8"].bytes, exact["float16"].bytes) == (32, 64)
    assert exact["int8"].recall.value > 0.9


def test_rows_that_ask_are_in_no_fit(tmp_path: Path) -> None:
    corpus = np.concatenate([CORPUS, CORPUS[:100]])  # every fourth row stands twice
    found = swept(vectors=corpus, queries=None, methods=["median"], metric="ip")
    assert found.facts["held_out"]
    assert found.facts["queries"] == 80  # a fifth of the rows that differ
    assert "held out of the corpus stand in" in found.notes[0]
    with ExitStack() as stack:
        data = read_data(corpus, None, None, stack, metric="ip", sample=1000, seed=0)
    asked = {row.tobytes() for row in data.queries}
    assert len(asked) == 80
    assert not asked & {row.tobytes() for row in data.raw}
    # What was fitted is what a build of the other rows fits.
    binq.build(data.raw, tmp_path / "i.binq", method="median", metric="ip")
    real = binq.evaluate(tmp_path / "i.binq", data.queries, truth=data.raw, k=[10])
    [row] = [row for row in found.rows if row.kind == "binq" and row.scoring == "hamming"]
    assert vars(row.recall) == pytest.approx(real.metrics["recall@10"])
    with pytest.raises(InputError, match="too few rows to hold"):
        swept(vectors=CORPUS[:4], queries=None)


def test_large_corpora_are_sampled() -> None:
    found = swept(sample=150)
    assert (found.facts["n"], found.facts["swept"]) == (400, 150)
    assert any("150 of 400 rows, drawn with seed 0" in note for note in found.notes)
    assert swept(sample=150).rows[0].recall == found.rows[0].recall
    assert swept(sample=150, seed=1).rows[0].recall != found.rows[0].recall


def test_equal_queries_do_not_narrow_intervals() -> None:
    once = swept().rows
    twice = swept(queries=np.repeat(QUERIES, 2, axis=0))
    for single, double in zip(once, twice.rows, strict=True):
        assert vars(double.recall) == pytest.approx(vars(single.recall))
    assert any("equal queries once" in note for note in twice.notes)
    values = np.array([1.0, 0.0, 0.5, 0.25])
    plain = clustered(values, np.arange(4))
    half = 1.96 * values.std(ddof=1) / 2
    assert plain.high - plain.value == pytest.approx(half)
    assert np.isinf(clustered(values, np.zeros(4, int)).high)
    rows = equal_rows(np.array([[1.0, 2], [3, 4], [1, 2]]))
    assert rows[0] == rows[2] != rows[1]


def test_too_few_queries_to_tell() -> None:
    found = swept(queries=QUERIES[:3], target_recall=0.9)
    assert found.comparison is not None
    assert not found.comparison["apart"]
    assert any("3 different queries are too few to tell" in note for note in found.notes)


def test_the_recommendation_is_the_same_from_run_to_run() -> None:
    """Among equals the higher recall is taken: the time of a scan is never twice the same."""
    found = swept(target_recall=0.5, methods=["sign", "lsh", "itq", "median"])
    chosen = found.recommendation
    equal = [row for row in found.rows if row.kind == "binq" and row.bytes == chosen.row.bytes]
    assert len(equal) > 1
    x = chosen.oversample

    def measured(row: Any) -> float:
        return (row.recall if x is None else row.rescored[x]).value

    assert measured(chosen.row) == max(map(measured, equal))


def test_train_queries_choose_and_others_report() -> None:
    train = gaussian(30, 32, seed=2)
    found = swept(train_queries=np.concatenate([train, QUERIES[:5]]))
    assert (found.facts["queries"], found.facts["choosing_queries"]) == (40, 30)
    assert any("5 train queries equal queries" in note for note in found.notes)
    plain = {row.name: row.recall for row in swept().rows}
    assert {row.name: row.recall for row in found.rows} == plain
    split = swept(queries=None, train_queries=train)
    assert split.facts["queries"] + split.facts["choosing_queries"] == 30
    assert 0 < split.facts["queries"] < 30
    assert any("split by a hash of their ids" in note for note in split.notes)
    with pytest.raises(InputError, match="the train queries are the queries"):
        swept(train_queries=QUERIES)


def test_lists_are_spoken_of_where_they_pay() -> None:
    assert about_lists(LISTS_PAY - 1) == []
    assert "`kind=ivf`" in about_lists(LISTS_PAY)[0]


def test_plan() -> None:
    assert default_widths(384) == [128, 384, 768]
    assert default_widths(1024) == [320, 1024]
    assert default_widths(3072) == [1024, 3072]
    assert default_widths(16) == [16, 32]
    trials, notes = plan(384, None, None)
    assert [t.bits for t in trials if t.method == "ste"] == [768]
    assert [(t.bits, t.truncate_dim) for t in trials if t.method == "sign"] == [
        (128, 128),
        (384, None),
    ]
    assert notes == []
    assert "`bits=2048`" in plan(1024, None, None)[1][0]
    assert plan(32, "itq", 32) == plan(32, ["itq"], [32])  # one, as k may be in evaluate
    trials, notes = plan(32, ["itq", "ste"], [32, 64])
    assert [(t.method, t.bits) for t in trials] == [("itq", 32), ("ste", 32), ("ste", 64)]
    assert "itq at 64 bits" in notes[0]
    for methods, bits in ((["none"], None), (["itq"], [64]), (None, [0])):
        with pytest.raises(UsageError):
            plan(32, methods, bits)


def test_wrong_settings() -> None:
    for settings in (
        {"k": 0},
        {"metric": "none"},
        {"target_recall": 0},
        {"target_recall": 1.5},
        {"oversamples": [0.5]},
        {"scorings": []},
        {"seed": -1},
        {"sample": 0},
        {"max_minutes": -1},
        {"max_minutes": float("nan")},
        {"k": 201},
    ):
        with pytest.raises(UsageError):
            swept(**settings)


def test_wrong_input() -> None:
    for settings in (
        {"queries": np.empty((0, 32), np.float32)},
        {"queries": gaussian(3, 31)},
        {"vectors": np.empty((0, 32), np.float32)},
        {"vectors": np.zeros((4, 32), np.float32)},
        {"train_queries": gaussian(3, 31)},
    ):
        with pytest.raises(InputError):
            swept(**settings)
    constant = swept(vectors=np.ones((30, 32), np.float32), methods=["sign", "itq", "learned"])
    assert all(np.isfinite(row.recall.value) for row in constant.rows)


def test_baselines() -> None:
    pytest.importorskip("faiss")
    assert baselines.planned(32, 300, [16, 32, 12]) == [
        ("PQ", 2),
        ("PQ", 4),
        ("OPQ", 4),
        ("RaBitQ", 0),
    ]
    assert baselines.planned(32, 200, [32]) == [("RaBitQ", 0)]
    found = swept(with_peers=True, bits=[24, 32], methods=["lsh"])
    rows = {(row.method, row.bytes): row for row in found.rows if row.kind == "faiss"}
    assert {("faiss PQ", 3), ("faiss PQ", 4), ("faiss OPQ", 4)} < set(rows)
    assert all(0.1 < row.recall.value <= row.rescored[10.0].value for row in rows.values())
    assert any("faiss was trained on at most" in note for note in found.notes)


def test_progress_and_table() -> None:
    steps: list[tuple[int, int | None]] = []
    found = swept(progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 6) for n in range(7)]
    lines = found.table()
    assert len(lines) == 1 + len(found.rows)
    assert max(map(len, lines)) <= 80
    assert found.worst == sorted(found.worst, key=lambda entry: entry["recall"])
    assert len(found.worst) == 20


def test_what_nearly_every_row_answers_says_nothing() -> None:
    with pytest.raises(UsageError, match="at most half of the 18 rows"):
        swept(vectors=CORPUS[:18])
    found = swept(vectors=CORPUS[:79])
    assert list(found.rows[0].rescored) == [1.0]
    assert any("oversamples of 4, 10 were left out" in note for note in found.notes)
    assert any("10 drawn at random reach a recall of 0.13" in note for note in found.notes)
    assert list(swept(vectors=CORPUS[:80]).rows[0].rescored) == [1.0, 4.0]
