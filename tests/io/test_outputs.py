"""Outputs that would destroy something: inputs, one another, files of another kind."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian, write_jsonl, write_parquet

import binq
from binq import binarizers
from binq.errors import UsageError
from binq.io.outputs import content_of, refuse_overwrites


def wanted(path: Path | str, content: Any = "npy") -> dict[str, Any]:
    return {"`output`": (path, content)}


def test_an_input_by_any_name_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
    source = folder / "part 10.npy"
    np.save(source, gaussian(3, 4))
    (folder / "notes.md").write_text("no vectors")
    (tmp_path / "link.npy").symlink_to(source)
    os.link(source, tmp_path / "hard.npy")
    (tmp_path / "aside").symlink_to(folder)
    monkeypatch.chdir(elsewhere)
    mapped = np.load(source, mmap_mode="r")
    outputs = (
        *(source, str(source), Path("../folder/part 10.npy"), folder / "." / source.name),
        *(tmp_path / "link.npy", tmp_path / "hard.npy", tmp_path / "aside" / source.name),
    )
    inputs: tuple[Any, ...] = (
        *outputs,
        *(
            folder,
            tmp_path / "aside",
            f"{folder}/*.npy",
            f"{tmp_path}/**/part*",
            mapped,
            mapped[1:],
        ),
        [tmp_path / "other.npy", [source]],
    )
    for output in outputs:
        for given in inputs:
            with pytest.raises(UsageError, match="output would replace an input") as caught:
                refuse_overwrites(wanted(output), "-", None, given, overwrite=True)
            assert caught.value.where.startswith(str(output))
    # What is not there is no input, nor is what stands beside one.
    for output in (folder / "new.npy", elsewhere / source.name):
        refuse_overwrites(wanted(output), folder, f"{folder}/*", tmp_path / "no", gaussian(2, 2))
    refuse_overwrites(wanted(folder / "notes.md", "text"), folder)
    with pytest.raises(UsageError, match="replace an input"):
        refuse_overwrites(wanted(folder / "notes.md", "text"), folders=[tmp_path / "aside"])


def test_outputs_are_not_one_another(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "aside").symlink_to(".")
    for one, other in (
        ("there", "link"),
        ("new", "new"),
        ("new", "dangling"),
        ("new", "aside/new"),
        ("no/such/new", "no/such/./new"),
    ):
        both: dict[str, Any] = {
            "`a`": (tmp_path / one, "npy"),
            "`b`": (f"{tmp_path}/{other}", None),
        }
        with pytest.raises(UsageError, match="a and b are one file"):
            refuse_overwrites(both, overwrite=True)
    refuse_overwrites({"`a`": (tmp_path / "new", "npy"), "`b`": (None, "npz"), "`c`": ("-", None)})


def test_what_cannot_go_to_stdout_is_refused_before_the_work(tmp_path: Path) -> None:
    for options in ({"output": "-"}, {"output": tmp_path / "i", "save_binarizer": "-"}):
        with pytest.raises(UsageError, match=f"{list(options)[-1]} cannot go to stdout"):
            binq.build(tmp_path / "not there.npy", **options)


def test_kinds_of_files(tmp_path: Path) -> None:
    """Each is told by its content, and replaced by its own kind, by another only if asked."""
    vectors = gaussian(60, 8)
    np.save(tmp_path / "npy", vectors)
    (tmp_path / "npy.npy").rename(tmp_path / "npy")
    binq.build(vectors, tmp_path / "index", save_binarizer=tmp_path / "binarizer")
    binq.evaluate(tmp_path / "index", vectors, truth=vectors, cache_truth=tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "kept neighbours")
    with (tmp_path / "npz").open("wb") as file:
        np.savez(file, a=vectors)
    write_parquet(tmp_path / "parquet", vectors)
    with sqlite3.connect(tmp_path / "checkpoint") as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    write_jsonl(tmp_path / "jsonl", vectors)
    (tmp_path / "text").write_text("q1\t1\t[docs]\t0.5\n", "utf-8")
    (tmp_path / "html").write_text("<!doctype html>\n<html><svg></svg></html>")
    (tmp_path / "svg").write_text('<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x">\n<svg/>')
    (tmp_path / "png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "pdf").write_bytes(b"%PDF-1.4\n")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 13
    for name in names:
        path = tmp_path / name
        for kind in names:
            if kind == name:
                refuse_overwrites(wanted(path, kind))
                continue
            refuse_overwrites(wanted(path, kind), overwrite=True)
            with pytest.raises(UsageError, match=f"another kind .* expected {kind}, got {name};"):
                refuse_overwrites(wanted(path, kind))
        refuse_overwrites(wanted(path, None))
    for data in (b"\0junk", "grün".encode("latin-1")):
        (tmp_path / "junk").write_bytes(data)
        with pytest.raises(UsageError, match=r"got something unknown; .* use overwrite"):
            refuse_overwrites(wanted(tmp_path / "junk", "text"))
    (tmp_path / "junk").write_bytes(b"")
    refuse_overwrites(wanted(tmp_path / "junk", "index"))


def test_first_bytes() -> None:
    for head, content in (
        (b'{"query": 1}', "jsonl"),
        (b"\xef\xbb\xbf[0.5, 1]", "jsonl"),
        (b"[-1]", "jsonl"),
        (b"[a]\tb", "text"),
        (b"{a}", "text"),
        ("é".encode() * 2048, "text"),
        (("x" + "é" * 2048).encode()[:4096], "text"),  # cut within a character
        (b"<svg>", "svg"),
        (b"<html>", "html"),
        (b"<p>svg", "text"),
        (b"ARROW1\0\0", "arrow"),
        (b"\xff\xff\xff\xff", "arrow"),
        (b"PK\x03\x04", "npz"),
        (b"", "text"),
    ):
        assert content_of(head) == content, head


def test_the_library_refuses_too(tmp_path: Path) -> None:
    source, index = tmp_path / "c.npy", tmp_path / "i.binq"
    np.save(source, gaussian(80, 8))
    before = source.read_bytes()
    binarizers.save(binarizers.fit("sign", 8, "cosine"), tmp_path / "b.npz")
    for call in (
        lambda: binq.build(np.load(source, mmap_mode="r"), source),
        lambda: binq.build(str(source), index, save_binarizer=source),
        lambda: binq.build(source, tmp_path / "b.npz", binarizer=tmp_path / "b.npz"),
        lambda: binq.binarize([str(source)], source),
        lambda: binq.binarize(source, tmp_path / "x.npy", save_binarizer=f"{tmp_path}/./x.npy"),
        lambda: binq.encode(source, source),
    ):
        with pytest.raises(UsageError, match=r"replace an input|one file"):
            call()
    binq.build(source, index)
    for name in ("index", "queries", "truth", "rescore_from", "filter_ids"):
        given = {"index": index, "queries": source, "truth": source, name: tmp_path / "given"}
        (tmp_path / "given").write_bytes((index if name == "index" else source).read_bytes())
        if name in ("rescore_from", "filter_ids"):
            given |= {"rescore": None}
        with pytest.raises(UsageError, match="cache_truth would replace an input"):
            binq.evaluate(**given, k=[1], cache_truth=tmp_path / "given")
    with pytest.raises(UsageError, match="another kind is there"):
        binq.evaluate(index, source, truth=source, k=[1], cache_truth=tmp_path / "b.npz")
    with pytest.raises(UsageError, match="another kind is there"):
        binq.build(source, tmp_path / "b.npz")
    assert binq.build(source, tmp_path / "b.npz", overwrite=True).rows == 80
    assert source.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["b.npz", "c.npy", "given", "i.binq"]
