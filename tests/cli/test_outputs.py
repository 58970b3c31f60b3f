"""No command destroys what it reads, or what is of another kind than what it writes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import command, environment
from corpora import gaussian, write_jsonl

import binq
from binq import binarizers

Cli = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that the commands below read, in the working directory."""
    monkeypatch.chdir(tmp_path)
    vectors = gaussian(120, 8)
    np.save("v.npy", vectors)
    write_jsonl(Path("q.jsonl"), vectors[:5])
    Path("texts.jsonl").write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    Path("shards").mkdir()
    for number in range(2):
        np.save(f"shards/s{number}.npy", vectors[60 * number : 60 * number + 60])
    Path("link.npy").symlink_to("v.npy")
    os.link("v.npy", "hard.npy")
    for name in ("keep.jsonl", "train.jsonl"):
        write_jsonl(Path(name), vectors[5:9])
    Path("ids.txt").write_text("1\n2\n")
    Path("qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    binarizers.save(binarizers.fit("sign", 8, "cosine"), "b.npz")
    binq.build("v.npy", "i.binq")
    return tmp_path


def everything(place: Path) -> dict[str, tuple[int, bytes]]:
    """Return what stands there: inodes and contents."""
    files = [path for path in place.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.read_bytes()) for path in files}


DRAWS = find_spec("matplotlib") is not None
QUERY = ("query", "i.binq", "q.jsonl")
EVAL = ("eval", "i.binq", "q.jsonl", "--truth", "v.npy", "-k", 1)
SWEEP = ("sweep", "v.npy", "keep.jsonl", "--methods", "sign", "--no-peers")


def test_outputs_that_are_inputs(cli: Cli, place: Path) -> None:
    before = everything(place)
    for words in (
        ("encode", "texts.jsonl", "-o", "texts.jsonl"),
        ("encode", "texts.jsonl", "keep.jsonl", "-o", "./shards/../keep.jsonl"),
        ("encode", "texts.jsonl", "--key-file", "q.jsonl", "-o", "q.jsonl"),
        ("encode", "texts.jsonl", "--model", "shards", "-o", "shards/s0.npy"),
        ("build", "v.npy", "-o", "v.npy"),
        ("build", "v.npy", "-o", "hard.npy"),
        ("build", "link.npy", "-o", "v.npy"),
        ("build", "v.npy", "-o", "v.npy/"),
        ("build", "v.npy", "-o", "hard.npy/../link.npy"),
        (*QUERY, "-o", "q.jsonl/.", "--format", "jsonl"),
        ("binarize", "v.npy", "-o", "n.npy", "--save-binarizer", "n.npy/"),
        ("build", "shards", "-o", "shards/s1.npy"),
        ("build", "shards/s*.npy", "-o", place / "shards" / "s0.npy"),
        ("build", "v.npy", "-o", "n.binq", "--save-binarizer", "link.npy"),
        ("build", "v.npy", "-o", "n.binq", "--save-binarizer", "n.binq"),
        ("build", "v.npy", "-o", "b.npz", "--binarizer", "b.npz"),
        ("build", "v.npy", "-o", "n.binq", "--binarizer", "b.npz", "--save-binarizer", "b.npz"),
        ("binarize", "v.npy", "-o", "v.npy"),
        ("binarize", "v.npy", "-o", "link.npy"),
        ("binarize", "shards", "-o", "shards/s0.npy"),
        ("binarize", "v.npy", "-o", "n.npy", "--save-binarizer", "n.npy"),
        (*QUERY, "-o", "q.jsonl"),
        (*QUERY, "-o", "i.binq", "--format", "jsonl"),
        (*QUERY, "--rescore-from", "v.npy", "-o", "hard.npy", "--format", "tsv"),
        (*QUERY, "--filter-ids", "ids.txt", "-o", "ids.txt"),
        (*QUERY, "--exclude-ids", "ids.txt", "-o", "ids.txt"),
        (*EVAL, "--cache-truth", "v.npy"),
        (*EVAL, "--cache-truth", "i.binq"),
        (*EVAL, "--cache-truth", "n.jsonl", "--per-query", "n.jsonl"),
        (*EVAL, "--per-query", "q.jsonl"),
        (*EVAL, "--qrels", "qrels.tsv", "--per-query", "qrels.tsv"),
        (*EVAL, "--filter-ids", "ids.txt", "--cache-truth", "ids.txt"),
        (*SWEEP, "--report", "v.npy"),
        (*SWEEP, "--report", "keep.jsonl"),
        (*SWEEP, "--train-queries", "train.jsonl", "--report", "train.jsonl"),
    ):
        refused = cli(*words, "--overwrite", code=2)
        assert "would replace an input" in refused.err or "are one file" in refused.err, words
        assert refused.err.count("\n") == 1
        assert "--" in refused.err.split("error: ")[1].split(":")[0]  # which output it is
        assert everything(place) == before, words


def test_what_lies_beside_an_output_is_no_input(cli: Cli, place: Path) -> None:
    for suffix in ("", "-journal"):  # SQLite takes the second for its own, and removes it
        texts = Path(f"n.npy.checkpoint{suffix}")
        texts.write_text("one\ntwo\n")
        before = everything(place)
        words = ("encode", texts, "--input-format", "lines", "-o", "n.npy", "--resume")
        assert "would replace an input" in cli(*words, code=2).err
        assert everything(place) == before
        texts.unlink()


def test_outputs_of_another_kind(cli: Cli, place: Path) -> None:
    Path("notes.md").write_text("# notes\n")
    cases = (
        (("build", "v.npy"), "-o", "index"),
        (("build", "v.npy", "-o", "n.binq"), "--save-binarizer", "binarizer"),
        (("binarize", "v.npy"), "-o", ".npy"),
        (("binarize", "v.npy"), "-o", ".parquet"),
        (("encode", "texts.jsonl", "--model", "simhash:64"), "-o", ".parquet"),
        (("encode", "texts.jsonl", "--model", "simhash:64"), "-o", ".npy"),
        (("encode", "texts.jsonl", "--model", "simhash:64"), "-o", ".jsonl"),
        ((*QUERY, "--format", "jsonl"), "-o", "jsonl"),
        (QUERY, "-o", ".parquet"),
        (EVAL, "--cache-truth", "kept"),
        (EVAL, "--per-query", ".jsonl"),
        (EVAL, "--per-query", ".parquet"),
        (SWEEP, "--report", "html"),
        *((SWEEP, "--plot", suffix) for suffix in (".png", ".svg", ".pdf") if DRAWS),
    )
    for words, option, name in cases:
        target = Path(f"t{name}" if name[0] == "." else name)
        target.write_bytes(Path("notes.md").read_bytes())
        before = everything(place)
        refused = cli(*words, option, target, code=2)
        assert f"a file of another kind is there: {target}: expected" in refused.err
        assert "got text; choose another name, or use --overwrite" in refused.err
        assert everything(place) == before
        cli(*words, option, target, "--overwrite")
        assert target.read_bytes() != b"# notes\n"
        cli(*words, option, target)  # its own kind is replaced without a word
        target.write_bytes(b"")
        cli(*words, option, target)  # and so is nothing
        assert target.read_bytes() or name == "kept"
        target.unlink()
        Path("n.binq").unlink(missing_ok=True)
    for shape in ("tsv", "trec", "table"):
        cli(*QUERY, "--format", shape, "-o", "notes.md")
    assert "got jsonl" in cli(*QUERY, "--format", "tsv", "-o", "keep.jsonl", code=2).err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.usefixtures("place")
def test_every_output_keeps_its_owner_and_no_set_uid(cli: Cli) -> None:
    """Where root replaces a file of another user."""
    for words, option, name in (
        (("build", "v.npy"), "-o", "n.binq"),
        (("build", "v.npy", "-o", "m.binq"), "--save-binarizer", "n.npz"),
        (("binarize", "v.npy"), "-o", "n.npy"),
        (("binarize", "v.npy"), "-o", "n.parquet"),
        (("binarize", "v.npy", "-o", "m.npy"), "--save-binarizer", "n.npz"),
        (("encode", "texts.jsonl", "--model", "simhash:64"), "-o", "n.parquet"),
        (("encode", "texts.jsonl", "--model", "simhash:64"), "-o", "n.npy"),
        (("encode", "texts.jsonl", "--model", "simhash:64"), "-o", "n.jsonl"),
        *((QUERY, "-o", f"n.{shape}") for shape in ("jsonl", "parquet", "tsv", "txt")),
        (EVAL, "--cache-truth", "n.kept"),
        (EVAL, "--per-query", "n.jsonl"),
        (SWEEP, "--report", "n.html"),
        *((SWEEP, "--plot", "n.png") for _ in range(DRAWS)),
    ):
        shape = ("--format", "table") if name == "n.txt" else ()
        target = Path(name)
        target.touch()
        os.chown(target, 1234, 4321)
        target.chmod(0o6751)
        cli(*words, *shape, option, target)
        found = target.stat()
        assert found.st_size, words
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 4321, 0o751), words
        target.unlink()


def test_an_index_may_bear_any_name(cli: Cli, place: Path) -> None:
    cli("build", "v.npy", "-o", "shards/index")
    cli("build", "shards", "-o", "shards/index")  # it is no vector file, and of its own kind
    assert binq.open(place / "shards" / "index").search(gaussian(1, 8), k=1).rows.shape == (1, 1)


@pytest.mark.slow
def test_streams_are_files_too(place: Path) -> None:
    before = everything(place)
    for words, stdin, stdout in (
        (("encode", "-", "-o", "texts.jsonl"), "texts.jsonl", None),
        (("build", "-", "-o", "q.jsonl"), "q.jsonl", None),
        (("query", "i.binq", "-", "-o", "q.jsonl"), "q.jsonl", None),
        (("query", "i.binq", "q.jsonl"), None, "q.jsonl"),
        (("query", "i.binq", "--text", "-", "--model", "simhash:8"), "texts.jsonl", "texts.jsonl"),
    ):
        with (
            open(stdin or os.devnull, "rb") as source,
            open(stdout or os.devnull, "ab") as sink,
        ):
            done = subprocess.run(
                command(*words),
                stdin=source,
                stdout=sink,
                stderr=subprocess.PIPE,
                env=environment(),
                check=False,
            )
        assert done.returncode == 2, (words, done.stderr)
        told = b"stdout is an input" if stdout else b"would replace an input"
        assert told in done.stderr
        assert everything(place) == before
