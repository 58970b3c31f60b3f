"""``binq binarize``: codes as files that others read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpora import gaussian, write_jsonl, write_parquet

import binq

Cli = Callable[..., Any]
VECTORS = gaussian(300, 48)


def expected(layout: str, flags: np.ndarray = VECTORS > 0) -> np.ndarray:
    big = np.packbits(flags, axis=1)
    return {
        "ubinary": big,
        "binary": (big.astype(np.int16) - 128).astype(np.int8),
        "lsb": np.packbits(flags, axis=1, bitorder="little"),
    }[layout]


@pytest.mark.parametrize("layout", ["ubinary", "binary", "lsb"])
def test_npy(cli: Cli, corpus: Path, tmp_path: Path, layout: str) -> None:
    out = tmp_path / "codes.npy"
    found = cli("binarize", corpus, "-o", out, "--layout", layout)
    assert found.out == ""
    assert f"300 codes in layout {layout}" in found.err
    codes = np.load(out)
    assert codes.dtype == expected(layout).dtype
    assert np.array_equal(codes, expected(layout))


@pytest.mark.parametrize("layout", ["ubinary", "binary", "lsb"])
def test_parquet_with_ids_goes_back_in(cli: Cli, tmp_path: Path, layout: str) -> None:
    ids = [f"id {n}" for n in range(300)]
    source = write_parquet(tmp_path / "c.parquet", VECTORS[:, :45], ids)
    out = tmp_path / "codes.parquet"
    cli("binarize", source, "-o", out, "--layout", layout)
    table = pq.read_table(out)
    assert table["id"].to_pylist() == ids
    assert table["code"].to_pylist() == expected(layout, VECTORS[:, :45] > 0).tolist()
    assert table.schema.metadata[b"binq.layout"] == layout.encode()
    assert table.schema.metadata[b"binq.bits"] == b"45"
    for words in ([], ["--packed", layout, "--bits", 45]):
        cli("build", out, "-o", tmp_path / "i.binq", *words)
        header = cli("info", tmp_path / "i.binq", "--json").json
        assert (header["bits"], header["packed"], header["ids"]) == (45, layout, "strings")


def test_binarizer_saved_and_used(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    kept, first, second = tmp_path / "b.npz", tmp_path / "1.npy", tmp_path / "2.npy"
    words = ["--method", "median", "--metric", "l2", "--truncate-dim", 20, "--bits", 20]
    cli("binarize", corpus, "-o", first, *words, "--save-binarizer", kept)
    cli("binarize", corpus, "-o", second, "--binarizer", kept, "--metric", "l2")
    assert first.read_bytes() == second.read_bytes()
    middle = np.median(VECTORS[:, :20].astype(np.float64), axis=0).astype(np.float32)
    assert np.array_equal(np.load(first), expected("ubinary", VECTORS[:, :20] > middle))
    cli("binarize", corpus, "-o", second, "--binarizer", kept, code=3)
    cli("binarize", corpus, "-o", second, "--binarizer", tmp_path / "none", code=3)
    cli("binarize", corpus, "-o", second, "--binarizer", kept, "--method", "sign", code=2)


@pytest.mark.slow
def test_standard_input(cli: Cli, run: Cli, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npy"
    for data in (corpus.read_bytes(), write_jsonl(tmp_path / "c.jsonl", VECTORS).read_bytes()):
        run("binarize", "-", "-o", out, stdin=data)
        assert np.array_equal(np.load(out), expected("ubinary"))
    run("binarize", "-", "-o", out, "--method", "mean", "--metric", "ip", stdin=data)
    means = VECTORS.mean(axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(np.load(out), expected("ubinary", means < VECTORS))
    del cli


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-o", "codes.bin"], 2),
        (["-o", "-"], 2),
        (["-o", "codes.npy", "--bits", "47"], 2),
        (["-o", "codes.npy", "--layout", "msb"], 2),
        (["-o", "codes.npy", "--method", "pca"], 2),
        (["-o", "codes.npy", "--method", "itq", "--bits", "49"], 2),
        (["-o", "codes.npy", "--truncate-dim", "0"], 2),
        (["-o", "codes.npy", "--sample", "0"], 2),
        (["-o", "codes.npy", "--threads", "0"], 2),
        (["-o", "codes.npy", "--column", "x"], 3),
        (["-o", "none/codes.npy"], 5),
    ],
)
def test_refusals(
    cli: Cli,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("binarize", corpus, *words, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.npy"]


def test_bits_are_not_binarized_again(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    cli("binarize", corpus, "-o", tmp_path / "1.parquet")
    cli("binarize", tmp_path / "1.parquet", "-o", tmp_path / "2.npy", code=3)
    cli("binarize", corpus, "-o", tmp_path / "1.npy")
    cli("binarize", tmp_path / "1.npy", "-o", tmp_path / "2.npy", code=3)
    cli("binarize", tmp_path / "1.npy", "-o", tmp_path / "2.npy", "--packed", "none")


def test_no_rows(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.empty((0, 10), np.float32))
    for name in ("o.npy", "o.parquet"):
        cli("binarize", tmp_path / "c.npy", "-o", tmp_path / name)
    assert np.load(tmp_path / "o.npy").shape == (0, 2)
    assert len(pq.read_table(tmp_path / "o.parquet")) == 0


def test_interrupted_it_is_silent_and_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    """What complained when it was collected, behind the end of its file, fails the test."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = os.listdir(tmp_path)
    for name in ("codes.npy", "codes.parquet"):
        with suppress(KeyboardInterrupt):
            binq.binarize(corpus, tmp_path / name, progress=interrupt)
    assert os.listdir(tmp_path) == before
