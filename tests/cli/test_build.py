"""``binq build``: exit codes, sources on the command line, what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import debris, gaussian, write_jsonl, write_parquet

Cli = Callable[..., Any]


def test_it_says_what_it_built(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    found = cli("build", corpus, "-o", tmp_path / "i.binq", "--rescore", "int8")
    size = (tmp_path / "i.binq").stat().st_size
    assert found.out == ""
    assert "300 rows of 48 dims as 48 bits (sign, int8 vectors)" in found.err
    assert f"{size:,} bytes" in found.err


def test_all_options(cli: Cli, tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "c.parquet", gaussian(50, 20), [f"{n}" for n in range(50)])
    kept = tmp_path / "b.npz"
    cli(
        *("build", source, "-o", tmp_path / "i.binq", "--method", "mean", "--bits", 9),
        *("--truncate-dim", 9, "--metric", "ip", "--seed", 4, "--sample", 30),
        *("--save-binarizer", kept, "--scoring", "hamming", "--rescore", "float16"),
        *("--packed", "none", "--column", "embedding", "--id-column", "id", "--threads", 1),
    )
    found = cli("info", tmp_path / "i.binq", "--json").json
    assert found["binarizer"] == {
        "method": "mean",
        "dim": 20,
        "bits": 9,
        "metric": "ip",
        "truncate_dim": 9,
        "seed": 4,
        "sample": 30,
    }
    assert kept.exists()


def test_globs_and_directories_sort_by_number(cli: Cli, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in (10, 9, 2):
        ids = [f"{number}-{row}" for row in range(3)]
        write_jsonl(shards / f"part{number}.jsonl", gaussian(3, 5, seed=number), ids)
    for source in (shards, shards / "*.jsonl"):
        cli("build", source, "-o", tmp_path / "i.binq")
        data = (tmp_path / "i.binq").read_bytes()
        assert b"2-02-12-29-09-19-210-010-110-2" in data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]\n[1, 2, 3]\n", "row 1"),
        (b"[1, 2]\n[1, null]\n", "row 1"),
        (b"[1, 2]\n[1, NaN]\n", "row 1"),
        (b"[1, 2]\n[0, 0]\n", "row 1"),
        (b"[1, 2]\nx\n", "row 1"),
        (b"", "c.jsonl"),
        (b'{"id": "a"}\n', "row 0"),
    ],
)
def test_input_that_cannot_be_used(cli: Cli, tmp_path: Path, content: bytes, message: str) -> None:
    source = tmp_path / "c.jsonl"
    source.write_bytes(content)
    found = cli("build", source, "-o", tmp_path / "i.binq", code=3)
    assert message in found.err
    assert "c.jsonl" in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


def test_exit_codes(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.binq"
    cli("build", tmp_path / "none.npy", "-o", out, code=3)
    cli("build", tmp_path / "none*.npy", "-o", out, code=3)
    cli("build", corpus, "-o", "-", code=2)
    cli("build", corpus, "-", "-o", out, code=2)
    cli("build", corpus, "-o", out, "--bits", 40, code=2)
    cli("build", corpus, "-o", tmp_path, code=5)
    cli("build", corpus, "-o", tmp_path / "no" / "i.binq", code=5)
    cli("build", corpus, "-o", "/dev/null", code=5)
    np.save(tmp_path / "u.npy", np.zeros((3, 4), np.uint8))
    assert "--packed" in cli("build", tmp_path / "u.npy", "-o", out, code=3).err
    cli("build", tmp_path / "u.npy", "-o", out, "--packed", "ubinary", "--rescore", "int8", code=2)
    assert not out.exists()
    assert not debris(tmp_path)


@pytest.mark.parametrize("words", [[], ["--method", "mean"], ["--rescore", "int8"]])
def test_standard_input(
    cli: Cli, run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A stream gives the same codes as the file; where two passes are needed it is spooled."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    vectors = gaussian(200, 12)
    source = write_jsonl(tmp_path / "c.jsonl", vectors, [f"d{n}" for n in range(200)])
    cli("build", source, "-o", tmp_path / "file.binq", *words)
    run("build", "-", "-o", tmp_path / "pipe.binq", *words, stdin=source.read_bytes())
    found = [cli("info", tmp_path / f"{name}.binq", "--json").json for name in ("file", "pipe")]
    assert found[0]["sections"] == found[1]["sections"]
    start = found[0]["sections"][0]["offset"]
    end = found[0]["sections"][-1]["offset"] + found[0]["sections"][-1]["length"]
    data = [(tmp_path / f"{name}.binq").read_bytes()[start:end] for name in ("file", "pipe")]
    assert data[0] == data[1]
    assert not debris(tmp_path)


def test_rows_that_cannot_be_used(cli: Cli, tmp_path: Path) -> None:
    vectors = gaussian(40, 8)
    vectors[[3, 4, 5, 6, 7, 39]] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    words = ["build", tmp_path / "v.npy", "-o", tmp_path / "i.binq"]
    assert "row 3" in cli(*words, code=3).err
    assert not (tmp_path / "i.binq").exists()
    told = cli(*words, "--on-error", "skip").err
    assert "6 rows cannot be used and are dead: " in told
    assert "v.npy row 7 dim 0" in told
    assert "…" in told
    assert "row 39" not in told  # the first few
    assert "34 rows of 8 dims" in told
    assert json.loads(cli("info", tmp_path / "i.binq", "--json").out)["dead"] == 6
