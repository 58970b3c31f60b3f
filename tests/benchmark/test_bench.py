"""The benchmark measures what it says, and checks what it measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from binq import bits
from binq.benchmark import corpus, efforts
from binq.benchmark.bench import bench
from binq.benchmark.conditions import Conditions
from binq.benchmark.engines import asymmetric_engines, hamming_engines
from binq.errors import UsageError
from binq.kernels import hamming


def test_synthetic_codes_are_clustered_and_seeded() -> None:
    first = corpus.synthetic(2000, 100, 5, seed=3)
    again = corpus.synthetic(2000, 100, 5, seed=3)
    np.testing.assert_array_equal(first.codes, again.codes)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert first.codes.shape == (2000, 2)
    assert not bits.unpack(first.codes, 128)[:, 100:].any()
    np.testing.assert_array_equal(bits.pack(first.weights > 0), first.queries)
    near = np.bitwise_count(first.codes ^ first.queries[0]).sum(axis=1).min()
    # Two codes of one centre differ in 32 of 100 bits, others in 50.
    assert near < 45


@pytest.mark.parametrize(
    "task", ["hamming-batch", "hamming-single", "asymmetric-batch", "asymmetric-single"]
)
def test_every_engine_is_right(task: str) -> None:
    found = bench(n=3000, bits=96, queries=6, k=5, tasks=[task], rounds=2, threads=1)
    assert found["schema"] == "binq.bench/1"
    rows = found["rows"]
    assert rows[0]["engine"] == "binq"
    assert {"faiss", "numpy"} <= {row["engine"].partition("-")[0] for row in rows}
    for row in rows:
        assert row["correct"], row["engine"]
        assert row["task"] == task
        assert (row["n"], row["bits"], row["k"], row["threads"]) == (3000, 96, 5, 1)
        times = row["ms_per_query"]
        assert 0 < times["min"] <= times["median"] <= times["max"]
        read = row["gb_per_s"] * 1e9 * times["median"] / 1e3  # bytes of codes, per query
        assert read == pytest.approx(3000 * 12, rel=0.1, abs=100)
    assert rows[0]["ratio_to_binq"] == 1


def test_codes_of_latent_vectors_are_hard_and_seeded() -> None:
    first = corpus.latent(3000, 100, 5, seed=3)
    again = corpus.latent(3000, 100, 5, seed=3)
    np.testing.assert_array_equal(first.codes, again.codes)
    np.testing.assert_array_equal(first.weights, again.weights)
    np.testing.assert_array_equal(bits.pack(first.weights > 0), first.queries)
    assert first.codes.shape == (3000, 2)
    assert not bits.unpack(first.codes, 128)[:, 100:].any()
    away = np.sort(np.bitwise_count(first.codes ^ first.queries[:, None]).sum(axis=2), axis=1)
    # Unlike those of well separated clusters: near ones are far, and there is no gap after them.
    assert away[:, 10].mean() > 20
    assert abs(np.median(away) - 50) < 3


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ivf-batch", "ivf-single"])
def test_searches_of_lists_reach_what_they_are_compared_at(task: str) -> None:
    found = bench(n=3000, bits=90, queries=20, k=5, tasks=[task], rounds=2, threads=1)
    names = ["binq", "binq-index", "faiss"] if task == "ivf-single" else ["binq", "faiss"]
    assert [(row["target"], row["engine"]) for row in found["rows"]] == [
        (target, name) for target in (0.95, 0.99) for name in names
    ]
    for row in found["rows"]:
        assert row["correct"], row
        assert row["target"] <= row["recall"] <= 1
        unit, effort = row["effort"].split()
        assert unit == ("gap" if row["engine"] == "binq" else "nprobe")
        assert 1 <= int(effort) <= 219  # lists
        assert row["queries"] == (1 if task == "ivf-single" else 20)


@pytest.mark.slow
def test_searches_and_builds_of_graphs() -> None:
    tasks = ["hnsw-batch", "hnsw-single", "hnsw-build", "hnsw-build-equal"]
    found = bench(n=3000, bits=90, queries=20, k=5, tasks=tasks, rounds=1, threads=2)
    rows = {(row["task"], row["engine"], row["target"]): row for row in found["rows"]}
    engines = ["binq", "faiss", "usearch"]
    for task in tasks:
        own = [*engines, "binq-index"] if task == "hnsw-single" else engines
        for name in own:
            for target in (None,) if "build" in task else (0.95, 0.99):
                row = rows.pop((task, name, target))
                assert row["correct"], row
                assert target is None or target <= row["recall"] <= 1
                assert row["n"] == 3000
    assert not rows


@pytest.mark.slow
def test_builds_of_lists() -> None:
    found = bench(n=1000, bits=64, queries=2, k=3, tasks=["ivf-build"], rounds=1)
    assert [row["engine"] for row in found["rows"]] == ["binq", "faiss"]
    assert all(row["correct"] and row["n"] == 1000 for row in found["rows"])


def test_lists_without_peers_and_of_few_codes() -> None:
    found = bench(n=7, bits=70, queries=2, k=10, tasks=["ivf-batch"], peers=["numpy"], rounds=1)
    assert [row["recall"] for row in found["rows"]] == [1, 1]
    assert all(row["correct"] and row["engine"] == "binq" for row in found["rows"])


def test_a_search_of_lists_that_falls_short_is_found_out() -> None:
    made = corpus.latent(2000, 64, 10)
    truth = hamming.topk(made.codes, made.queries, 5)[1][:, -1:]
    half = truth.copy()
    half[:5] += 1
    engine = efforts.Engine("effort", 8, lambda *_: (half, half))
    assert efforts.least_effort(engine, 10, truth, 0.5) == 1
    assert efforts.least_effort(engine, 10, truth, 0.9) == 8
    rows, distances = hamming.topk(made.codes, made.queries, 5)
    conditions = Conditions(made, 5, 1, 1, (), Path(), 0)
    assert efforts.are_true(conditions, rows, distances)
    assert not efforts.are_true(conditions, rows, distances + 1)


def test_wrong_answers_are_found_out() -> None:
    made = corpus.synthetic(500, 64, 4)
    conditions = Conditions(made, 3, 1, 1, ("numpy",), Path(), 0)
    for engines in (hamming_engines(conditions), asymmetric_engines(conditions)):
        for engine in engines:
            rows, values = engine.search(0, 4)
            assert engine.check((rows, values), 0, 4)
            assert not engine.check(((rows + 250) % 500, values + 1), 0, 4)


@pytest.mark.slow
def test_processes_and_builds() -> None:
    found = bench(
        n=400, bits=64, queries=2, k=3, tasks=["cold-query", "build"], peers=["numpy"], rounds=1
    )
    engines = {(row["task"], row["engine"]) for row in found["rows"]}
    assert engines == {
        ("cold-query", "binq"),
        ("cold-query", "numpy-import"),
        ("build", "binq"),
        ("build", "pyarrow-read"),
    }
    assert all(row["correct"] for row in found["rows"])
    assert all(row["gb_per_s"] is None for row in found["rows"])


def test_options_that_make_no_sense() -> None:
    for options in (
        {"n": 0},
        {"k": 0},
        {"rounds": 0},
        {"tasks": ["nothing"]},
        {"peers": ["nobody"]},
    ):
        with pytest.raises(UsageError):
            bench(**options)


def test_all_rows_there_are_is_a_right_answer() -> None:
    found = bench(
        n=5, bits=70, queries=3, k=10, tasks=["asymmetric-batch"], peers=["numpy"], rounds=1
    )
    assert [row["correct"] for row in found["rows"]] == [True, True]
