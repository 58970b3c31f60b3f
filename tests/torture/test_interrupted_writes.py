"""Whatever ends a command while it writes: the old output is there, or the whole new one."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Child, Server, wait_for_handlers
from corpora import debris, gaussian, write_jsonl

import binq

pytestmark = [pytest.mark.slow, pytest.mark.torture]

Times = Callable[[int], int]
# What is written, and the command that writes it.
COMMANDS: list[tuple[str, ...]] = [
    ("i.binq", "build", "v.jsonl", "-o", "i.binq", "--rescore", "int8"),
    ("i.binq", "build", "v.npy", "-o", "i.binq", "--method", "mean", "--rescore", "float32"),
    ("i.binq", "build", "v.npy", "-o", "i.binq", "--kind", "ivf"),
    ("c.npy", "binarize", "v.npy", "-o", "c.npy"),
    ("c.parquet", "binarize", "v.jsonl", "-o", "c.parquet", "--method", "median"),
    ("b.npz", "binarize", "v.npy", "-o", "n.npy", "--method", "mean", "--save-binarizer", "b.npz"),
    ("e.parquet", "encode", "t.jsonl", "--model", "simhash:64", "-o", "e.parquet"),
    ("e.npy", "encode", "t.jsonl", "--model", "simhash:64", "-o", "e.npy"),
    ("h.parquet", "query", "q.binq", "q.npy", "-o", "h.parquet"),
    ("h.jsonl", "query", "q.binq", "q.npy", "-o", "h.jsonl"),
    ("k", "eval", "q.binq", "q.npy", "--truth", "v.npy", "--cache-truth", "k"),
]


def place(tmp_path: Path) -> Path:
    """Write what the commands read, and return where they run."""
    vectors = gaussian(1000, 32)
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "q.npy", vectors[:300])
    write_jsonl(tmp_path / "v.jsonl", vectors, [f"row {row}" for row in range(1000)])
    texts = (f'{{"id": {row}, "text": "the text {row} of many"}}\n' for row in range(1000))
    (tmp_path / "t.jsonl").write_text("".join(texts))
    binq.build(tmp_path / "v.npy", tmp_path / "q.binq")
    return tmp_path


class Trial:
    """A command, its output as it was, and as the command makes it."""

    def __init__(self, children: Server, place: Path, words: tuple[str, ...]) -> None:
        self.children, self.place, self.words = children, place, words[1:]
        self.target = place / words[0]
        self.said = self.run()
        self.new = self.target.read_bytes()
        self.target.unlink()
        begun = time.monotonic()
        self.run()
        self.seconds = time.monotonic() - begun
        self.names = set(os.listdir(place))
        # Of its own kind, so that it may be replaced.
        self.old = self.new + b"\n" if self.target.suffix == ".jsonl" else self.new[:100]
        self.target.write_bytes(self.old)

    def start(self, how: str = "in_place", *first: Any) -> Child:
        return self.children.start(f"children:{how}", *first, str(self.place), *self.words)

    def run(self) -> str:
        end = self.start().wait()
        assert end.code == 0, end.err
        return end.err

    def is_new(self) -> bool:
        """Require the old or the new output, whole; the old one is put back."""
        found = self.target.read_bytes()
        assert found in (self.old, self.new), self.words
        self.target.write_bytes(self.old)
        return found == self.new

    def nothing_is_left(self) -> None:
        assert set(os.listdir(self.place)) == self.names, self.words


@pytest.fixture(scope="module", params=COMMANDS, ids=lambda words: " ".join(words[1:]))
def trial(
    request: pytest.FixtureRequest, children: Server, tmp_path_factory: pytest.TempPathFactory
) -> Trial:
    return Trial(children, place(tmp_path_factory.mktemp("writes")), request.param)


def test_kill_at_every_call(trial: Trial, times: Times) -> None:
    number, step, new = 1, 10 // times(10), 0
    while (end := trial.start("killed_at", number).wait()).code:
        assert end.code == -signal.SIGKILL, end.err
        new += trial.is_new()
        number += step
    assert number > 5
    assert new < number / step
    assert trial.is_new()
    trial.nothing_is_left()  # what the killed ones left, the next run removed


def test_signals_at_any_time(trial: Trial, times: Times) -> None:
    draw = random.Random(0)
    for number, code, count in (
        (signal.SIGKILL, -9, 20),
        (signal.SIGINT, 130, 10),
        (signal.SIGTERM, 143, 10),
    ):
        for _ in range(times(count)):
            child = trial.start()
            wait_for_handlers(child.pid)
            time.sleep(draw.uniform(0, trial.seconds))
            child.send(number)
            end = child.wait()
            assert end.code in (code, 0), end.err
            new = trial.is_new()
            # One that was done may have said so before the signal came.
            assert end.code == 0 or end.err == "" or (new and end.err == trial.said), end.err
            assert new or end.code != 0
            if number != signal.SIGKILL:
                trial.nothing_is_left()
        trial.run()
        assert trial.is_new()
        trial.nothing_is_left()


def test_kills_of_a_run_that_resumes(children: Server, tmp_path: Path, times: Times) -> None:
    """Its checkpoint stays for the next run, which leaves nothing else."""
    words = ("e.parquet", "encode", "t.jsonl", "--model", "simhash:64", "-o", "e.parquet")
    trial = Trial(children, place(tmp_path), (*words, "--batch-size", "16", "--resume"))
    draw = random.Random(0)
    for _ in range(times(50)):
        child = trial.start()
        wait_for_handlers(child.pid)
        time.sleep(draw.uniform(0, trial.seconds))
        child.send(signal.SIGKILL)
        assert child.wait().code in (0, -signal.SIGKILL)
        trial.is_new()
    trial.run()
    assert trial.is_new()
    trial.nothing_is_left()


def test_full_disk(trial: Trial, times: Times) -> None:
    draw = random.Random(0)
    for _ in range(times(10)):
        end = trial.start("cramped", draw.randrange(200, len(trial.new))).wait()
        assert end.code == 5, end
        assert end.err.startswith("binq: error: ")
        assert end.err.count("\n") == 1
        assert not trial.is_new()
        trial.nothing_is_left()


def test_many_builds_of_one_index(children: Server, tmp_path: Path, times: Times) -> None:
    """Whoever comes last wins, whole."""
    results = []
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", gaussian(500 + number, 16, seed=number))
        results.append(binq.build(tmp_path / f"{number}.npy", tmp_path / "i.binq", rescore="int8"))
    won = set()
    for _ in range(times(100)):
        running = [
            children.binq(
                "build", tmp_path / f"{number}.npy", "-o", tmp_path / "i.binq", "--rescore", "int8"
            )
            for number in range(3)
        ]
        for child in running:
            end = child.wait()
            assert end.code == 0, end.err
        index = binq.open(tmp_path / "i.binq")
        assert index.file.verify() == []
        seed = len(index) - 500
        won.add(seed)
        asked = gaussian(500 + seed, 16, seed=seed)
        assert index.search(asked, 1).rows.ravel().tolist() == list(range(500 + seed))
        assert not debris(tmp_path)
    # In few rounds one may always be last.
    assert len(won) > 1 or times(100) < 100


def read_on(path: str, stop: str, answers: list[Any]) -> None:
    """Search an index that is being replaced: its answer is one of those, as is a kept one's."""
    queries = gaussian(3, 16, seed=9)
    kept = binq.open(path)
    first = kept.search(queries, 5, rescore="float32").rows.tolist()
    seen = set()
    while not os.path.exists(stop):
        found = binq.open(path).search(queries, 5, rescore="float32").rows.tolist()
        seen.add(answers.index(found))
        assert kept.search(queries, 5, rescore="float32").rows.tolist() == first
    print(len(seen))


def test_readers_while_an_index_is_replaced(children: Server, tmp_path: Path, times: Times) -> None:
    path, stop = tmp_path / "i.binq", tmp_path / "stop"
    corpora = [gaussian(400, 16, seed=seed) for seed in range(3)]
    answers = []
    for corpus in corpora:
        binq.build(corpus, path, rescore="float32")
        found = binq.open(path).search(gaussian(3, 16, seed=9), 5, rescore="float32")
        answers.append(found.rows.tolist())
    call = "torture.test_interrupted_writes:read_on"
    readers = [children.start(call, str(path), str(stop), answers) for _ in range(4)]
    for number in range(times(1000)):
        binq.build(corpora[number % 3], path, rescore="float32")
    stop.touch()
    for reader in readers:
        end = reader.wait()
        assert end.code == 0, end.err
        assert int(end.out) > 1
    assert not debris(tmp_path)
