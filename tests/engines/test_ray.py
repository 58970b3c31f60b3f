"""Ray itself: `make test-ray`. Where it is not installed, only what is said of that is tested."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clusters import TOKEN, killing, on_ray, workers
from conftest import command, environment

from binq import threads
from binq.engines import Item
from binq.errors import BinqWarning, EnvironmentFailure, InputError, UsageError


def test_without_the_extra_it_is_named(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    found = cli("encode", texts, "-o", tmp_path / "out.parquet", "--engine", "ray", code=5)
    assert "--engine ray needs the package ray" in found.err
    assert "binq[ray]" in found.err
    assert list(tmp_path.iterdir()) == [texts]


def items(*arguments: Any) -> list[Item[Any]]:
    return [Item(f"rows.jsonl row {number}", each) for number, each in enumerate(arguments)]


@on_ray
def test_what_a_task_returns_raises_and_warns_of(ray_engine: Any) -> None:
    assert [each.result() for each in ray_engine.map(abs, items(*range(-50, 50)))] == [
        abs(number) for number in range(-50, 50)
    ]
    # binq's own errors arrive whole, others with what they said.
    (found,) = ray_engine.map(threads.resolve, items(0))
    with pytest.raises(UsageError) as caught:
        found.result()
    assert str(caught.value) == "too few threads: threads: expected at least 1, got 0"
    (found,) = ray_engine.map(json.loads, items("{"))
    assert isinstance(found.exception(), json.JSONDecodeError)
    # A warning is said once.
    warn = partial(warnings.warn, category=BinqWarning)
    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        for each in ray_engine.map(warn, items(*3 * ["rows were left out"])):
            each.result()
    assert [str(each.message) for each in caught_warnings] == ["rows were left out"]


@on_ray
def test_a_worker_that_dies_again_and_again_costs_its_item(ray_engine: Any) -> None:
    for code in (1, 0):
        outcomes = list(ray_engine.map(os._exit, items(code)))
        with pytest.raises(EnvironmentFailure, match=r"died again and again: rows\.jsonl row 0"):
            outcomes[0].result()
    assert [each.result() for each in ray_engine.map(abs, items(-1, 2))] == [1, 2]


@on_ray
def test_a_file_that_a_worker_does_not_see(ray_engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "here.npy"
    for change in (path.unlink, partial(path.write_bytes, b"other")):
        path.write_bytes(b"data")

        def lazily(change: Callable[[], Any] = change) -> Iterator[Item[int]]:
            change()
            yield Item("row 0", 1)

        (found,) = ray_engine.map(abs, lazily(), files=[str(path)])
        error = found.exception()
        assert isinstance(error, InputError)
        assert str(path) in str(error)
        assert "where every machine sees it" in str(error)


@on_ray
def test_what_is_left_is_cancelled(ray_engine: Any, tmp_path: Path) -> None:
    begun = time.monotonic()
    outcomes = ray_engine.map(time.sleep, items(0, 300, 300, 300))
    next(outcomes).result()
    outcomes.close()
    assert [each.result() for each in ray_engine.map(abs, items(-1))] == [1]
    assert time.monotonic() - begun < 100
    del tmp_path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 texts with duplicates, blank ones, and ids."""
    rng = random.Random(4)
    words = Path(__file__).read_text().split()
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    with open(path, "w") as file:
        for number in range(6000):
            text = " ".join(rng.choices(words, k=rng.randint(0, 60)))
            if number % 7 == 0:
                text = f"the same {number % 70}"
            file.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")
    return path


@on_ray
def test_encode_is_as_local_while_workers_are_killed(
    run: Callable[..., Any], cluster: dict[str, str], texts: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "local.parquet", tmp_path / "ray.parquet"
    words = ("--batch-size", 100, "--model", "minhash:1024")
    local = run("encode", texts, "-o", outputs[0], *words)
    with killing(int(cluster["PID"]), 3) as killed:
        ray = run("encode", texts, "-o", outputs[1], *words, "--engine", "ray", env=cluster)
    assert killed
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert ray.err.replace("ray.parquet", "local.parquet") == local.err
    assert ray.out == ""


@on_ray
def test_encode_says_what_it_says_locally(
    run: Callable[..., Any], cluster: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": number, "text": f"text {number}"}) for number in range(50)]
    lines[20], lines[30] = "{", '{"id": 30}'
    path.write_text("\n".join(lines))
    for words, code in ((), 3), (("--on-error", "skip"), 0), (("--model", "simhash:7"), 2):
        said = []
        for engine in ("local", "ray"):
            output = ("-o", tmp_path / "out.parquet", "--batch-size", 8, "--engine", engine)
            found = run("encode", path, *output, *words, code=code, env=cluster)
            said.append(found.err)
        assert said[0] == said[1]


@on_ray
def test_a_key_stays_where_it_is(
    run: Callable[..., Any], cluster: dict[str, str], endpoint: Any, texts: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text("".join(texts.read_text().splitlines(keepends=True)[:300]))
    words = ("--model", f"{endpoint.url}#fake", "--engine", "ray", "--concurrency", 2)
    key = {"BINQ_API_KEY": "a-key-of-the-driver"}
    run("encode", short, "-o", tmp_path / "out.parquet", *words, env=cluster | key)
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows > 290
    used = {headers["Authorization"] for headers in endpoint.headers}
    # Workers take the key of their own environment; none is sent to them, or written down.
    assert "Bearer a-key-of-the-workers" in used
    for path in Path(cluster["FOLDER"]).rglob("*"):
        if path.is_file():
            assert b"a-key-of" not in path.read_bytes(), path


@on_ray
def test_a_cluster_that_is_not_there(run: Callable[..., Any], texts: Path, tmp_path: Path) -> None:
    output = ("-o", tmp_path / "out.parquet", "--engine", "ray")
    for address in ("127.0.0.1:1", "nonsense"):
        found = run("encode", texts, *output, code=5, env={"RAY_ADDRESS": address} | TOKEN)
        assert f"RAY_ADDRESS={address}" in found.err


@on_ray
def test_an_interrupt_ends_a_cluster_of_its_own(texts: Path, tmp_path: Path) -> None:
    place = tempfile.mkdtemp(prefix="b", dir="/tmp")  # sockets want a short path
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        words = ("encode", texts, "-o", tmp_path / "out.parquet", "--batch-size", 1)
        process = subprocess.Popen(
            command(*words, "--engine", "ray"), env=environment(HOME="/nowhere", TMPDIR=place),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not workers(process.pid):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = workers(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (code, b"", b"")
        time.sleep(1)
        for pid in before:
            with suppress(OSError):
                assert not Path(f"/proc/{pid}/cmdline").read_bytes()  # at most a zombie
        assert os.listdir(place) == []
        assert list(tmp_path.iterdir()) == []
