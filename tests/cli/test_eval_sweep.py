"""``binq eval --sweep``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import debris

from binq.sweeping import baselines as peers
from binq.sweeping import report

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "available", lambda: False)


@pytest.fixture
def words(corpus: Path, queries: Path) -> list[object]:
    return ["eval", "--sweep", corpus, queries, "--methods", "sign,lsh", "--bits", "16,48"]


@pytest.mark.slow
def test_json(cli: Cli, words: list[object], corpus: Path) -> None:
    found = cli(*words, "--json", "--target-recall", "0.8").json
    assert found["schema"] == "binq.sweep/1"
    assert (found["n"], found["queries"], found["k"], found["held_out"]) == (300, 12, 10, False)
    assert len(found["rows"]) == 10
    row = next(row for row in found["rows"] if row["method"] == "lsh")
    assert set(row["recall"]) == {"value", "low", "high"}
    assert set(row["rescored"]) == {"1", "4", "10"}
    assert found["recommendation"]["build"].startswith(f"binq build {corpus} -o INDEX.binq")
    assert found["target_recall"] == 0.8
    assert len(found["worst_queries"]) == 12


@pytest.mark.slow
def test_the_recommended_lines_run(cli: Cli, words: list[object], tmp_path: Path) -> None:
    import shlex

    chosen = cli(*words, "--json", "--target-recall", "0.9").json["recommendation"]
    index = str(tmp_path / "made.binq")
    cli(*shlex.split(chosen["build"].replace("INDEX.binq", index))[1:])
    line = chosen["query"].replace("INDEX.binq", index).replace("QUERIES", str(words[3]))
    assert len(cli(*shlex.split(line)[1:], "--format", "jsonl").lines) == 12


@pytest.mark.slow
def test_table(cli: Cli, words: list[object]) -> None:
    found = cli(*words, "-k", "5")
    lines = found.out.splitlines()
    assert lines[0].startswith("300 rows of 48 dims, 12 queries, metric cosine")
    assert "recall@5" in lines[1]
    assert sum(line.split()[0] in ("sign", "lsh", "*") for line in lines if line.split()) >= 10
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= 100
    assert any(line.startswith("  binq build ") for line in lines)
    assert "chosen on the queries" in found.err


@pytest.mark.slow
def test_held_out(cli: Cli, words: list[object]) -> None:
    found = cli(*words[:3], *words[4:])
    assert "60 held out queries" in found.out
    assert "held out of the corpus stand in" in found.err
    assert cli(*words[:3], *words[4:], "-q").err == ""


@pytest.mark.slow
def test_files(cli: Cli, words: list[object], tmp_path: Path) -> None:
    page, plot = tmp_path / "r.html", tmp_path / "p.svg"
    drawn = ["--plot", plot] if report.find_spec("matplotlib") else []
    cli(*words, "--report", page, *drawn)
    assert page.read_text().startswith("<!doctype html>")
    assert not drawn or b"<svg" in plot.read_bytes()
    page.write_text("old")
    cli(*words[:4], "--methods", "none", "--report", page, code=2)
    assert page.read_text() == "old"
    assert debris(tmp_path) == []
    cli(*words, "--report", tmp_path / "none" / "r.html", code=5)
    cli(*words, "--plot", tmp_path / "p.jpg", code=2)


def test_missing_matplotlib(
    cli: Cli, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _name: None)
    found = cli(*words, "--plot", tmp_path / "p.png", code=5)
    assert "binq[plot]" in found.err


def test_exit_codes(cli: Cli, words: list[object], index: Path, queries: Path) -> None:
    cli("eval", index, code=2)  # no queries
    cli(*words, "-k", "1,10", code=2)
    cli(*words, "-k", "0", code=2)
    cli(*words, "--target-recall", "2", code=2)
    for extra in (("--truth", queries), ("--oversample", "4"), ("--exclude-self",)):
        assert "does not go with --sweep" in cli(*words, *extra, code=2).err
    truth = ("--truth", queries)
    for extra in (("--methods", "sign"), ("--report", "r.html"), ("--metric", "ip")):
        assert "goes with --sweep" in cli("eval", index, queries, *truth, *extra, code=2).err
    cli("eval", "--sweep", queries.parent / "none.npy", code=3)
    codes = queries.parent / "codes.npy"
    np.save(codes, np.zeros((4, 6), np.uint8))
    cli("eval", "--sweep", codes, code=3)
