# ruff: noqa: PT012 (the block is what is tested: it fails while a file is being written)
"""Files that come out whole and reproducible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from corpora import gaussian, write_jsonl
from forging import header_of

from binq import build
from binq.errors import InputError
from binq.storage import format as fmt
from binq.storage.reader import IndexFile
from binq.storage.writer import creation_time, writing_index

HEADER = fmt.Header(
    rows=3, dim=4, bits=4, words=1, metric="ip", binarizer=None, created="", binq="", packed="lsb"
)


def test_sections_that_grow_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "i.binq"
    codes = np.arange(300_000, dtype=np.uint64).reshape(-1, 1)
    floats = gaussian(300_000, 3)
    with writing_index(path) as writer:
        writer.section("codes", np.uint64, (1,))
        writer.section("extra", np.float32, (3,))
        for first in range(0, 300_000, 70_000):
            writer.append("codes", codes[first : first + 70_000])
            writer.append("extra", floats[first : first + 70_000])
        writer.add("one", np.array([7], np.int64))
        writer.finish(HEADER)
    file = IndexFile(path)
    assert np.array_equal(file.array("codes", "uint64", (300_000, 1)), codes)
    assert np.array_equal(file.array("extra", "float32", (300_000, 3)), floats)
    assert file.array("one", "int64", (1,)).tolist() == [7]
    assert file.verify() == []
    # One checksum for every MiB of every section, computed here from the file's bytes.
    data = path.read_bytes()
    header = header_of(data)
    expected = [
        xxhash.xxh3_64_intdigest(data[at : min(at + (1 << 20), s["offset"] + s["length"])])
        for s in header["sections"]
        for at in range(s["offset"], s["offset"] + s["length"], 1 << 20)
    ]
    stored = header["checksums"]
    assert np.frombuffer(data, "<u8", len(expected), stored["offset"]).tolist() == expected
    assert stored["length"] == 8 * len(expected)


def test_codes_come_first_and_types_are_held(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="codes"), writing_index(tmp_path / "i.binq") as writer:
        writer.section("ids.bytes", np.uint8)
    with pytest.raises(TypeError), writing_index(tmp_path / "i.binq") as writer:
        writer.section("codes", np.uint64, (1,))
        writer.append("codes", np.zeros((2, 1), np.int64))
    assert not list(tmp_path.iterdir())


def test_a_header_that_would_be_too_large(tmp_path: Path) -> None:
    sources = [{"rows": 1, "fingerprint": "0" * 32}] * 30_000
    with pytest.raises(InputError, match="header"), writing_index(tmp_path / "i.binq") as writer:
        writer.section("codes", np.uint64, (1,))
        writer.finish(replace(HEADER, rows=0, sources=sources))
    assert not list(tmp_path.iterdir())


def test_equal_bytes_with_source_date_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(500, 33), [str(n) for n in range(500)])
    path = tmp_path / "i.binq"

    def built(**settings: Any) -> bytes:
        build(corpus, path, sample=100, **settings)
        return path.read_bytes()

    every = set()
    for method in ("sign", "mean", "median"):
        for rescore in ("none", "int8"):
            settings = {"method": method, "rescore": rescore}
            files = {built(threads=threads, **settings) for threads in (1, 1, 2)}
            assert len(files) == 1
            every |= files | {built(metric="ip", **settings)}
    assert len(every) == 12
    assert IndexFile(path).header.created == "2023-11-14T22:13:20Z"


def test_identity_is_random_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    found = set()
    for turn in range(2):
        build(gaussian(3, 4), tmp_path / f"{turn}.binq")
        found.add(IndexFile(tmp_path / f"{turn}.binq").uuid)
    assert len(found) == 2


def test_a_source_date_epoch_that_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch in ("", "soon", "1e9", str(10**30)):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        with pytest.raises(InputError, match="SOURCE_DATE_EPOCH"):
            creation_time()


def test_no_path_and_no_time_of_the_sources(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "a_name_to_look_for.jsonl", gaussian(9, 4))
    build(corpus, tmp_path / "i.binq")
    data = (tmp_path / "i.binq").read_bytes()
    assert b"a_name_to_look_for" not in data
    assert str(tmp_path).encode() not in data


def test_an_input_that_vanished_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(9, 4))
    with pytest.raises(InputError, match=r"no such file: .*c\.jsonl"):
        build(corpus, tmp_path / "i.binq", progress=lambda *_: corpus.unlink())
    assert not list(tmp_path.iterdir())
