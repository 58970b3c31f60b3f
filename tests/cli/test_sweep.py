"""``binq sweep``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import debris, gaussian

import binq

Cli = Callable[..., Any]
FEW = ["--methods", "sign,lsh", "--bits", "16,48", "--no-peers"]


@pytest.fixture
def words(corpus: Path, queries: Path) -> list[Any]:
    return ["sweep", corpus, queries, *FEW]


def test_json(cli: Cli, words: list[Any], corpus: Path, queries: Path) -> None:
    found = cli(*words, "--json", "--target-recall", "0.8").json
    assert found["schema"] == "binq.sweep/1"
    assert (found["n"], found["queries"], found["k"], found["held_out"]) == (300, 12, 10, False)
    assert len(found["rows"]) == 10
    row = next(row for row in found["rows"] if row["method"] == "lsh")
    assert set(row["recall"]) == {"value", "low", "high"}
    assert set(row["rescored"]) == {"1", "4", "10"}
    chosen = found["recommendation"]
    assert chosen["build"].startswith(f"binq build {corpus} -o INDEX.binq --method ")
    assert chosen["query"].startswith(f"binq query INDEX.binq {queries} -k 10")
    assert found["target_recall"] == 0.8
    assert len(found["worst_queries"]) == 12
    assert any("--train-queries take others" in note for note in found["notes"])


@pytest.mark.slow
def test_columns_hold_for_what_has_columns(cli: Cli, tmp_path: Path) -> None:
    """The other may be npy, and the commands that are printed know which it was."""
    vectors, queries = gaussian(300, 16), gaussian(20, 16, seed=1)
    for name, rows in (("v", vectors), ("q", queries)):
        np.save(tmp_path / f"{name}.npy", rows)
        columns = {"other": list(np.zeros_like(rows)), "vector": list(rows)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    few = ["--methods", "sign", "--bits", "16", "--no-peers", "--json"]
    for corpus, asked in (("v.parquet", "q.npy"), ("v.npy", "q.parquet")):
        paths = [tmp_path / corpus, tmp_path / asked]
        chosen = cli("sweep", *paths, *few, "--column", "vector").json["recommendation"]
        index = str(tmp_path / "made.binq")
        build, query = (
            shlex.split(chosen[name].replace("INDEX.binq", index))[1:]
            for name in ("build", "query")
        )
        cli(*build)
        assert len(cli(*query, "--format", "jsonl").lines) == 20
    whole = [tmp_path / "v.npy", tmp_path / "q.npy"]
    assert "the format has no columns" in cli("sweep", *whole, "--column", "vector", code=3).err
    found = binq.sweep(
        tmp_path / "v.parquet",
        queries,
        methods=["sign"],
        bits=[16],
        with_peers=False,
        column="vector",
    )
    assert found.rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "bits"),
    [
        (["--target-recall", "0.9"], "16,48"),
        (["--target-recall", "0.3", "--metric", "ip", "--seed", "3", "-k", "5"], "24"),
        (["--target-recall", "1", "--methods", "learned"], "64"),
    ],
)
def test_the_recommended_commands_run_and_reach_what_they_say(
    cli: Cli, tmp_path: Path, options: list[str], bits: str
) -> None:
    paths = tmp_path / "the corpus.parquet", tmp_path / "queries.parquet"
    for path, count, seed in zip(paths, (300, 12), (0, 1), strict=True):
        vectors = gaussian(count, 48, seed=seed)
        columns = {
            "other": pa.array(list(np.zeros_like(vectors))),
            "vector": pa.array(list(vectors)),
            "key": pa.array([f"k{number}" for number in range(count)]),
        }
        pq.write_table(pa.table(columns), path)
    columns = ["--column", "vector", "--id-column", "key"]
    found = cli("sweep", *paths, *FEW, "--bits", bits, *options, *columns, "--json").json
    chosen, k = found["recommendation"], found["k"]
    index = str(tmp_path / "made.binq")
    build, query = (
        shlex.split(chosen[name].replace("INDEX.binq", index))[1:]
        for name in chosen
        if name in ("build", "query")
    )
    cli(*build)
    answers = cli(*query, "--format", "jsonl").lines
    assert [len(answer["hits"]) for answer in answers] == [k] * 12
    assert answers[0]["hits"][0]["id"].startswith("k")
    truth = ["--truth", paths[0], "--truth-column", "vector", "--json"]
    reached = cli("eval", *query[1:], *truth).json["metrics"][f"recall@{k}"]
    assert reached == pytest.approx(chosen["recall"])


@pytest.mark.slow
def test_table(cli: Cli, words: list[Any]) -> None:
    found = cli(*words, "-k", "5", "--target-recall", "0.7")
    lines = found.out.splitlines()
    assert max(len(line) for line in lines if str(words[1].parent) not in line) <= 80
    assert lines[0].startswith("Yes: ")
    lines = lines[lines.index("") + 1 :]
    assert lines[0].startswith("300 rows of 48 dims, 12 queries, metric cosine")
    assert "recall@5" in lines[1]
    assert sum(line.split()[0] in ("sign", "lsh", "*") for line in lines if line.split()) >= 10
    assert any(line.startswith("  binq build ") for line in lines)
    assert "Measured on all 300 rows: recall@5 " in found.out
    assert "--oversample" in found.out
    assert "chosen on the queries" in found.err
    held_out = cli("sweep", words[1], *FEW)
    assert "60 held out queries" in held_out.out
    assert "held out of the corpus stand in" in held_out.err
    assert "binq query INDEX.binq QUERIES" in held_out.out
    assert cli("sweep", words[1], *FEW, "-q").err == ""


@pytest.mark.slow
def test_files(cli: Cli, words: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    page, plot = tmp_path / "r.html", tmp_path / "p.svg"
    drawn = ["--plot", plot] if find_spec("matplotlib") else []
    cli(*words, "--report", page, *drawn)
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert f"binq build {words[1]}" in text
    assert "--train-queries take others" in text
    assert not drawn or b"<svg" in plot.read_bytes()
    odd = tmp_path / "\udcff.npy"  # no UTF-8, as the names of files may be
    odd.write_bytes(Path(words[1]).read_bytes())
    cli("sweep", odd, *words[2:], "--report", page)
    assert "\\udcff.npy" in page.read_text()
    odd.unlink()
    page.write_text("old")
    cli(*words, "--methods", "none", "--report", page, code=2)
    assert page.read_text() == "old"
    assert debris(tmp_path) == []
    cli(*words, "--report", tmp_path / "none" / "r.html", code=5)
    cli(*words, "--plot", tmp_path / "p.jpg", code=2)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "binq[plot]" in cli(*words, "--plot", tmp_path / "p.png", code=5).err


def test_exit_codes(cli: Cli, words: list[Any], queries: Path) -> None:
    for wrong in (("-k", "1,10"), ("-k", "0"), ("--target-recall", "2"), ("--bits", "x")):
        cli(*words, *wrong, code=2)
    for other in (("--truth", queries), ("--oversample", "4"), ("--exclude-self",)):
        assert other[0] in cli(*words, *other, code=2).err
    cli("sweep", queries.parent / "none.npy", code=3)
    codes = queries.parent / "codes.npy"
    np.save(codes, np.zeros((4, 6), np.uint8))
    cli("sweep", codes, code=3)


def test_eval_has_no_sweep(cli: Cli, queries: Path) -> None:
    for words in ((queries, "--report", "r.html"), (), (queries, queries, "--methods", "sign")):
        assert "use binq sweep" in cli("eval", "--sweep", *words, code=2).err
        assert "use binq sweep" in cli("eval", *words, "--sweep", code=2).err
    for other in ("--methods", "--report", "--metric"):
        assert other in cli("eval", queries, queries, other, "ip", code=2).err
