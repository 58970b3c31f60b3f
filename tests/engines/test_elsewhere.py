"""Shards built and searched by other processes, of which an engine that copies takes the place."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import clustered, debris, write_jsonl, write_parquet

import binq
from binq.engines import Engine, Item, LocalEngine
from binq.errors import BinqWarning, InputError, UsageError
from binq.structures import sharded

ROWS, DIM, EACH = 500, 40, 61


class Copying(LocalEngine):
    """Gives tasks copies of what they are told, and returns copies, as other processes do."""

    def __init__(self) -> None:
        super().__init__(workers=1, threads=1)
        self.done: list[str] = []

    def map(
        self,
        task: Callable[[Any], Any],
        items: Iterable[Item[Any]],
        *,
        limit: int | None = None,
        files: Sequence[str] = (),
        stop: threading.Event | None = None,
    ) -> Generator[Future[Any], None, None]:
        packed = pickle.dumps(task)

        def copies() -> Iterable[Item[bytes]]:
            for item in items:
                assert all(Path(path).is_absolute() for path in (*files, *item.files))
                self.done.append(item.name)
                yield Item(item.name, pickle.dumps(item.argument))

        def copied(argument: bytes) -> Any:
            return pickle.loads(pickle.dumps(pickle.loads(packed)(pickle.loads(argument))))

        return super().map(copied, copies(), limit=limit, stop=stop)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(sharded, "_LARGE", 0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    return Copying()


def corpus() -> np.ndarray:
    vectors = clustered(ROWS, DIM, 6)
    vectors[::7] = vectors[0]
    return vectors


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_shards_are_those_of_one_process(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, ids = corpus(), [f"d{row}" for row in range(ROWS)]
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "a.parquet", vectors[:200], ids[:200])
    write_parquet(tmp_path / "b.parquet", vectors[200:], ids[200:])
    write_jsonl(tmp_path / "all.jsonl", vectors, ids)
    np.save(tmp_path / "all.npy", vectors)
    np.save(tmp_path / "bits.npy", np.packbits(vectors > 0, axis=1))
    np.save(tmp_path / "none.npy", vectors[:0])
    for source, settings in (
        (["a.parquet", "b.parquet"], {"rescore": "int8", "method": "itq"}),
        ("*.parquet", {"kind": "ivf", "rescore": "float16"}),
        ("all.jsonl", {"method": "rabitq", "kind": "ivf", "nlist": 7}),
        ("all.npy", {"bits": 24, "method": "lsh"}),
        ("all.npy", {"kind": "hnsw", "m": 6}),
        ("bits.npy", {"packed": "ubinary"}),
        ("bits.npy", {"packed": "ubinary", "bits": 40, "kind": "ivf"}),
        ("none.npy", {}),
    ):
        here, there = tmp_path / "here.d", tmp_path / "there.d"
        reports = [
            binq.build(source, place, shard_rows=EACH, engine=by, **settings)
            for place, by in ((here, "local"), (there, engine))
        ]
        assert reports[0] == reports[1]
        assert contents(here) == contents(there), source
        if source != "none.npy":
            assert len(engine.done) == -(-ROWS // EACH) * (1 + (settings.get("kind") == "ivf"))
        assert debris(there) == []
        engine.done.clear()


def test_answers_are_those_of_one_process(tmp_path: Path, engine: Any) -> None:
    vectors, queries = corpus(), clustered(9, DIM, 6, seed=5)
    ids = [f"d{row}" for row in range(ROWS)]
    source = write_parquet(tmp_path / "v.parquet", vectors, ids)
    for kind, method in (("flat", "sign"), ("ivf", "sign"), ("ivf", "rabitq")):
        built = {"kind": kind, "method": method, "rescore": "int8"}
        binq.build(source, tmp_path / "one.binq", **built)
        binq.build(source, tmp_path / "many.d", shard_rows=EACH, **built)
        asked = 0
        for settings in (
            {},
            {"radius": 12},
            {"filter_ids": ids[3::2]},
            {"exclude_ids": ids[:100], "rescore": "none", "k": 3},
            {"scoring": "hamming", "oversample": "auto"},
            {"scoring": "asymmetric", "rescore": "none"},
            *([{"nprobe": 3}, {"target_recall": 0.5}] * (kind == "ivf")),
        ):
            found = [
                [
                    (list(hits.rows[0]), list(hits.scores[0]), list(hits.ids[0]))
                    for _, several in binq.query(tmp_path / place, queries, engine=by, **settings)
                    for hits in several
                ]
                for place, by in (("one.binq", "local"), ("many.d", engine))
            ]
            assert found[0] == found[1]
            asked += bool(engine.done)  # few allowed rows are looked at here
            engine.done.clear()
        assert asked >= 4
        said = [
            binq.evaluate(tmp_path / "many.d", queries, truth=str(source), k=[1, 10], engine=by)
            for by in ("local", engine)
        ]
        assert said[0].metrics == said[1].metrics
        assert engine.done


def test_graphs_are_walked_by_other_processes(tmp_path: Path, engine: Any) -> None:
    # Each shard has a graph of its own, so that one file may answer otherwise.
    vectors, queries = corpus(), clustered(9, DIM, 6, seed=5)
    binq.build(vectors, tmp_path / "many.d", shard_rows=EACH, kind="hnsw")
    for settings in ({}, {"ef": 20}, {"radius": 12}, {"exclude_ids": np.arange(100)}):
        found = [
            [
                (hits.rows.tolist(), hits.scores.tolist())
                for _, several in binq.query(tmp_path / "many.d", queries, engine=by, **settings)
                for hits in several
            ]
            for by in ("local", engine)
        ]
        assert found[0] == found[1]
        assert engine.done
        engine.done.clear()


def test_rows_that_cannot_be_used_are_named_as_they_were_given(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = corpus()
    vectors[[130, 400]] = 0
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", vectors)
    errors, warned = [], []
    for by in ("local", engine):
        with pytest.raises(InputError) as caught:
            binq.build("v.npy", tmp_path / "d", shard_rows=EACH, engine=by)
        errors.append(str(caught.value))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["v.npy"]
        with pytest.warns(BinqWarning) as record:
            report = binq.build("v.npy", "d", shard_rows=EACH, engine=by, on_error="skip")
        warned.append([str(each.message) for each in record])
        assert (report.rows, report.skipped) == (ROWS - 2, 2)
        for path in (tmp_path / "d").iterdir():
            path.unlink()
        (tmp_path / "d").rmdir()
    assert errors[0] == errors[1]
    assert errors[0].startswith("a vector has norm zero: v.npy row 130")
    assert warned[0] == warned[1]
    assert str(tmp_path) not in warned[0][0]


def test_what_other_processes_cannot_do(tmp_path: Path, engine: Any) -> None:
    vectors = corpus()
    path = tmp_path / "v.npy"
    np.save(path, vectors)
    out = tmp_path / "out"
    for source, settings, what in (
        (path, {}, "one file is built by one process"),
        (vectors, {"shard_rows": 100}, "got arrays"),
        ("-", {"shard_rows": 100}, "got standard input"),
    ):
        with pytest.raises(UsageError, match=what):
            binq.build(source, out, engine=engine, **settings)
    binq.build(path, tmp_path / "one.binq")
    for ask in (
        lambda: list(binq.query(tmp_path / "one.binq", vectors[:1], engine=engine)),
        lambda: binq.evaluate(tmp_path / "one.binq", vectors[:1], truth=vectors, engine=engine),
    ):
        with pytest.raises(UsageError, match="build it with shard_rows"):
            ask()
    assert not out.exists()
    assert engine.done == []


def test_without_the_extra_nothing_is_touched(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    np.save(tmp_path / "v.npy", corpus())
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("build", tmp_path / "v.npy", "-o", tmp_path / "d", "--shard-rows", 100)
    assert "binq[ray]" in cli(*words, "--engine", "ray", code=5).err
    assert not (tmp_path / "d").exists()
    cli(*words)
    words = ("query", tmp_path / "d", tmp_path / "v.npy")
    assert "binq[ray]" in cli(*words, "--engine", "ray", code=5).err
    said = cli("eval", tmp_path / "d", tmp_path / "v.npy", "--truth", tmp_path / "v.npy", "--json")
    assert json.loads(said.out)["metrics"]["recall@1"]["value"] > 0
