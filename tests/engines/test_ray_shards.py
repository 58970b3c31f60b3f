"""Shards built and searched on Ray, while workers are killed: `make test-ray`."""

from __future__ import annotations

import json
import os
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


@on_ray
def test_build_query_and_eval_are_those_of_one_file_while_workers_are_killed(
    run: Callable[..., Any], cluster: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    ray, driver = ("--engine", "ray"), int(cluster["PID"])
    source, queries = f"{corpus}/*.parquet", corpus / "queries.npy"
    killed: dict[str, int] = {"build": 0, "query": 0, "eval": 0}
    one, many, there = tmp_path / "one", tmp_path / "many", tmp_path / "there"
    expected: dict[str, Any] = {}
    for number in range(20):
        kind = ("flat", "ivf")[number % 2]
        if number < 2:
            words = ("build", source, *built_as(kind), "-o")
            run(*words, f"{one}.{kind}", env=STAMP)
            run(*words, f"{many}.{kind}", "--shard-rows", EACH, env=STAMP)
        whole = ("--nprobe", 10_000) if kind == "ivf" and number % 4 == 1 else ()
        steps: tuple[tuple[Any, ...], ...] = (
            ("build", source, "-o", f"{there}.{number}", "--shard-rows", EACH, *built_as(kind)),
            ("query", f"{many}.{kind}", queries, *whole),
            ("eval", f"{many}.{kind}", queries, "--truth", source, "-k", 10, "--json", *whole),
        )
        for step in steps:
            with killing(driver, 1, number) as victims:
                found = run(*step, *ray, env=cluster | STAMP)
            killed[step[0]] += len(victims)
            if step[0] == "build":
                path = Path(f"{there}.{number}")
                assert found.out == ""
                assert contents(path) == contents(Path(f"{many}.{kind}"))
                continue
            key = f"{step[0]} {kind} {whole}"
            if key not in expected:
                index = Path(f"{one}.{kind}")
                expected[key] = run(step[0], index, *step[2:], env=STAMP)
            if step[0] == "query":
                assert found.raw == expected[key].raw
                assert [json.loads(line) for line in found.out.splitlines()]
            else:
                assert found.json["metrics"] == expected[key].json["metrics"]
    assert min(killed.values()) >= 10, killed


def built_as(kind: str) -> tuple[Any, ...]:
    return ("--kind", kind, "--method", "mean", "--rescore", "int8")


@on_ray
def test_what_cannot_be_built_leaves_what_was_there(
    run: Callable[..., Any], cluster: dict[str, str], tmp_path: Path
) -> None:
    vectors = clustered(4000, DIM, 10)
    np.save(tmp_path / "v.npy", vectors)
    vectors[[700, 3000]] = 0
    np.save(tmp_path / "w.npy", vectors)
    words = ("-o", tmp_path / "d", "--shard-rows", 100, "--engine")
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
