"""Shards built and searched on Ray, while workers are killed: `make test-ray`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import killing, on_ray, workers
from conftest import command, environment
from corpora import clustered, debris, write_parquet

import binq

# Batches of queries are large enough to be handed to Ray.
ROWS, DIM, EACH = 12_000, 256, 1500
STAMP = {"SOURCE_DATE_EPOCH": "0"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors in two files, and with queries."""
    place = tmp_path_factory.mktemp("corpus")
    vectors = clustered(ROWS, DIM, 40)
    vectors[::9] = vectors[4]
    ids = [f"d{row}" for row in range(ROWS)]
    write_parquet(place / "a.parquet", vectors[:5000], ids[:5000])
    write_parquet(place / "b.parquet", vectors[5000:], ids[5000:])
    np.save(place / "queries.npy", clustered(1024, DIM, 40, seed=3))
    return place


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


class Trial:
    """The indexes of one kind, and what is found in one file without Ray."""

    def __init__(self, place: Path, corpus: Path, kind: Any) -> None:
        self.place, self.queries = place, corpus / "queries.npy"
        self.source = f"{corpus}/*.parquet"
        self.settings = {"kind": kind, "method": "mean", "rescore": "int8"}
        self.words = ("--kind", kind, "--method", "mean", "--rescore", "int8")
        # Of lists those that a search chooses by itself, and all.
        self.efforts: list[dict[str, Any]] = [{}, {"nprobe": 10_000}] if kind == "ivf" else [{}]
        self.one, self.many = place / f"one.{kind}", place / f"many.{kind}"
        binq.build(self.source, self.one, **self.settings)
        binq.build(self.source, self.many, shard_rows=EACH, **self.settings)
        self.hits = [self.query(self.one, effort) for effort in self.efforts]
        self.metrics = [self.judged(self.one, effort) for effort in self.efforts]

    def build(self, engine: Any) -> None:
        there = self.place / "there.d"
        binq.build(self.source, there, shard_rows=EACH, engine=engine, **self.settings)
        assert contents(there) == contents(self.many)
        shutil.rmtree(there)

    def query(self, index: Path, effort: dict[str, Any], engine: Any = "local") -> list[Any]:
        return [
            (hits.rows.tobytes(), hits.scores.tobytes(), [list(ids) for ids in hits.ids])
            for _, several in binq.query(index, self.queries, engine=engine, **effort)
            for hits in several
        ]

    def judged(self, index: Path, effort: dict[str, Any], engine: Any = "local") -> Any:
        truth = {"truth": self.source, "k": [10], "engine": engine}
        return binq.evaluate(index, self.queries, **truth, **effort).metrics

    def once(self, step: str, turn: int, engine: Any) -> None:
        """Build, query or judge on Ray, and compare with what comes of it without."""
        if step == "build":
            self.build(engine)
            return
        which = turn % len(self.efforts)
        ask, wanted = (self.query, self.hits) if step == "query" else (self.judged, self.metrics)
        assert ask(self.many, self.efforts[which], engine) == wanted[which]


STEPS = ("build", "query", "eval")


@on_ray
def test_a_worker_killed_at_random_in_20_runs_changes_nothing(
    ray_engine: Any,
    cluster: dict[str, str],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in STAMP.items():
        monkeypatch.setenv(name, value)
    trials = [Trial(tmp_path, corpus, kind) for kind in ("flat", "ivf")]
    killed = dict.fromkeys(STEPS, 0)
    for number in range(20):
        step, turn = STEPS[number % 3], number // 3
        with killing(int(cluster["PID"]), 1, number) as victims:
            trials[turn % 2].once(step, turn // 2, ray_engine)
        killed[step] += len(victims)
    # A worker may be done before it is chosen, now and then.
    assert min(killed.values()) >= 5, killed


@on_ray
def test_commands_say_nothing_of_workers_that_die(
    run: Callable[..., Any], cluster: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    trial = Trial(tmp_path, corpus, "flat")
    ray = ("--engine", "ray")
    commands: tuple[tuple[Any, ...], ...] = (
        ("build", trial.source, "-o", tmp_path / "d", "--shard-rows", EACH, *trial.words),
        ("query", tmp_path / "d", trial.queries),
        ("eval", tmp_path / "d", trial.queries, "--truth", trial.source, "-k", 10, "--json"),
    )
    for number, words in enumerate(commands):
        with killing(int(cluster["PID"]), 1, number) as victims:
            found = run(*words, *ray, env=cluster)
        assert victims
        lines = found.err.splitlines()
        if words[0] == "build":
            assert (found.out, len(lines)) == ("", 1)
        elif words[0] == "query":
            assert found.raw == run("query", trial.one, trial.queries).raw
            assert (len(found.lines), found.err) == (1024, "")
        else:
            wanted = run("eval", trial.one, *words[2:]).json["metrics"]
            assert found.json["metrics"] == wanted


@on_ray
def test_what_cannot_be_built_leaves_what_was_there(
    run: Callable[..., Any], cluster: dict[str, str], tmp_path: Path
) -> None:
    vectors = clustered(4000, DIM, 10)
    np.save(tmp_path / "v.npy", vectors)
    vectors[[700, 3000]] = 0
    np.save(tmp_path / "w.npy", vectors)
    words = ("-o", tmp_path / "d", "--shard-rows", 500, "--engine")
    said = []
    for engine in ("local", "ray"):
        run("build", tmp_path / "v.npy", *words, engine, env=cluster | STAMP)
        before = contents(tmp_path / "d")
        found = run("build", tmp_path / "w.npy", *words, engine, env=cluster | STAMP, code=3)
        assert contents(tmp_path / "d") == before
        assert debris(tmp_path / "d") == []
        said.append(found.err)
        found = run("build", tmp_path / "w.npy", *words, engine, "--on-error", "skip", env=cluster)
        said.append(found.err)
    assert said[:2] == said[2:]
    assert "w.npy row 700" in said[0]


@on_ray
def test_an_interrupted_build_leaves_nothing(
    corpus: Path, cluster: dict[str, str], tmp_path: Path
) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        words = ("build", f"{corpus}/*.parquet", "-o", tmp_path / "d", "--shard-rows", 50)
        process = subprocess.Popen(
            command(*words, "--engine", "ray"), env=environment(**cluster),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not (tmp_path / "d").exists() or len(os.listdir(tmp_path / "d")) < 5:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (code, b"", b"")
        deadline = time.monotonic() + 20
        while workers(int(cluster["PID"])):
            assert time.monotonic() < deadline  # tasks of a driver that is gone are ended
            time.sleep(0.1)
        assert list(tmp_path.iterdir()) == []
