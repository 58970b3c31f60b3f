"""Ids through every command: as they were given, in every output, and said where there are none."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import gaussian, write_jsonl

import binq

Cli = Callable[..., Any]
N = 60
X = gaussian(N, 32)
UUIDS = [uuid.UUID(int=row << 100 | 7) for row in range(N)]
PACKED_UUIDS = pa.array([value.bytes for value in UUIDS], pa.binary(16))
COLUMNS: dict[str, tuple[str, pa.Array, pa.DataType]] = {
    "int32": ("id", pa.array(np.arange(N, dtype=np.int32) * 7 - 99), pa.int64()),
    "int64": ("key", pa.array(np.iinfo(np.int64).min + np.arange(N)), pa.int64()),
    "uint64": ("_id", pa.array(np.arange(N, dtype=np.uint64) + np.uint64(1 << 63)), pa.uint64()),
    "small uint64": ("id", pa.array(np.arange(N, dtype=np.uint64)), pa.uint64()),
    "string": ("uri", pa.array([f"{row:03}" for row in range(N)]), pa.string()),
    "arrow.uuid": (
        "doc_id",
        pa.ExtensionArray.from_storage(pa.uuid(), PACKED_UUIDS),
        pa.string(),
    ),
    "16 bytes": ("uuid", PACKED_UUIDS, pa.string()),
}


def vectors(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


@pytest.mark.slow
def test_every_output_bears_the_ids_of_the_input(cli: Cli, tmp_path: Path) -> None:
    corpus, index, out = (tmp_path / name for name in ("c.parquet", "i.binq", "o.parquet"))
    np.save(tmp_path / "rows.npy", X)
    cli("build", tmp_path / "rows.npy", "-o", tmp_path / "rows.binq")
    words: tuple[Any, ...] = ("eval", tmp_path / "rows.binq", tmp_path / "rows.npy", "--truth")
    words += (tmp_path / "rows.npy", "--json", "-k", 3, "--exclude-self")
    without_self = json.loads(cli(*words).out)["metrics"]["recall@3"]
    for name, column, kind in COLUMNS.values():
        pq.write_table(pa.table({name: column, "embedding": vectors(X)}), corpus)
        ids = column.to_pylist() if kind != pa.string() or name == "uri" else [*map(str, UUIDS)]
        assert "no column of ids" not in cli("build", corpus, "-o", index).err
        info = json.loads(cli("info", index, "--json").out)
        assert info["format"] == ("1.0" if kind == pa.string() else "1.1")
        words = ("query", index, corpus, "-k", 1)
        found = cli(*words).lines
        assert [line["query"] for line in found] == [line["hits"][0]["id"] for line in found] == ids
        cli(*words, "-o", out)
        table = pq.read_table(out)
        assert table.schema.field("id").type == kind
        if ids[0] != 0:  # the type of a query's id is told by its value
            assert table.schema.field("query").type == kind
        assert table["query"].to_pylist() == table["id"].to_pylist() == ids
        for shape, place in (("tsv", 2), ("trec", 2)):
            lines = cli(*words, "--format", shape).out.splitlines()
            assert [line.split()[place] for line in lines] == [str(x) for x in ids]
            assert [line.split()[0] for line in lines] == [str(x) for x in ids]
        assert str(ids[-1])[-9:] in cli(*words, "--format", "table").out
        cli("binarize", corpus, "-o", out)
        assert pq.read_table(out)["id"].to_pylist() == ids
        assert pq.read_schema(out).field("id").type == kind
        # They are compared by their text, whatever they are stored as.
        (tmp_path / "qrels").write_text("".join(f"{x}\t{x}\t1\n" for x in ids))
        text = write_jsonl(tmp_path / "text.jsonl", X, [str(x) for x in ids])
        cli("build", text, "-o", tmp_path / "text.binq")
        for one, queries, truth in (
            (index, corpus, corpus),
            (index, text, text),
            (tmp_path / "text.binq", corpus, corpus),
        ):
            judged = ("eval", one, queries, "--truth", truth, "--json", "-k", 3)
            plain = (*judged, "--qrels", tmp_path / "qrels", "--per-query", out)
            metrics = json.loads(cli(*plain).out)["metrics"]
            assert metrics["R@3"]["value"] == 1
            wanted = ids if queries == corpus else [str(x) for x in ids]
            assert pq.read_table(out)["query"].to_pylist() == wanted
            values = json.loads(cli(*judged, "--exclude-self").out)["metrics"]["recall@3"]
            assert values == without_self != metrics["recall@3"]
        others = np.roll(X, 1, axis=0)
        pq.write_table(pa.table({name: column[::-1], "embedding": vectors(others)}), corpus)
        assert "not aligned" in cli("eval", index, text, "--truth", corpus, code=3).err


def test_ids_of_several_types(cli: Cli, tmp_path: Path) -> None:
    """Strings, as written, of an index; each as it came, of queries; no Parquet column."""
    mixed: list[Any] = [row if row % 3 else f"d{row}" for row in range(N)]
    corpus, index, out = (tmp_path / name for name in ("c.jsonl", "i.binq", "o.parquet"))
    write_jsonl(corpus, X, mixed)
    cli("build", corpus, "-o", index)
    found = cli("query", index, corpus, "-k", 1).lines
    assert [line["query"] for line in found] == mixed
    assert [line["hits"][0]["id"] for line in found] == [str(x) for x in mixed]
    for words in (("query", index, corpus), ("binarize", corpus)):
        refused = cli(*words, "-o", out, code=3)
        assert "a Parquet column holds ids of one type" in refused.err
        assert "expected strings, got 1; make all of them strings" in refused.err
        assert not out.exists()
    cli("eval", index, corpus, "--truth", corpus, "-k", 1, "--per-query", out)
    assert pq.read_table(out)["query"].to_pylist() == [str(x) for x in mixed]
    write_jsonl(corpus, X, [str(1 << 64), *range(1, N)])
    corpus.write_text(corpus.read_text().replace(f'"{1 << 64}"', str(1 << 64)))
    cli("build", corpus, "-o", index)
    assert binq.open(index).search(X[:2], k=1).ids == [[str(1 << 64)], ["1"]]


@pytest.mark.slow
def test_what_serves_where_no_column_does(cli: Cli, tmp_path: Path) -> None:
    table = {"title": ["a", "b"], "sku": [1, 2], "w": [0.5, 1], "v": vectors(X[:2])}
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    wide = {f"n{number}": ["x", "y"] for number in range(99)}
    pq.write_table(pa.table({**wide, "v": vectors(X[:2])}), tmp_path / "wide.parquet")
    (tmp_path / "c.jsonl").write_text('{"title": "a", "n": 1, "w": 0.5, "v": [1, 2]}\n')
    (tmp_path / "bare.jsonl").write_text("[1, 2]\n")
    (tmp_path / "only.jsonl").write_text('{"v": [1, 2]}\n')
    np.save(tmp_path / "c.npy", X)
    (tmp_path / "t.csv").write_text("text,sku,name\nbread,007,x\n")
    (tmp_path / "t.jsonl").write_text('{"text": "bread", "sku": 1}\n')
    (tmp_path / "t.txt").write_text("bread\n")
    note = "binq: no column of ids was found, so row numbers serve"
    for name, could in (
        ("c.parquet", "title, sku"),
        ("wide.parquet", ", ".join([*wide][:8]) + ", …"),
        ("c.jsonl", "title, n"),
        ("only.jsonl", ""),
        ("bare.jsonl", None),
        ("c.npy", None),
        ("t.csv", "sku, name"),
        ("t.jsonl", "sku"),
        ("t.txt", None),
    ):
        command, out = ("encode", "e.jsonl") if name[0] == "t" else ("build", "i.binq")
        words = (command, tmp_path / name, "-o", tmp_path / out)
        lines = cli(*words).err.splitlines()
        said = [line for line in lines if line.startswith(note)]
        full = f"{note}; candidates for --id-column: {could}" if could else note
        assert said == ([] if could is None else [full])
        assert cli(*words, "-q").err == ""
        if could is not None:
            assert "no column" not in cli(*words, "--id-column", "").err
    words = ("binarize", tmp_path / "c.parquet", "-o", tmp_path / "c")
    assert note in cli(*words[:3], tmp_path / "b.parquet").err
    assert "no column" not in cli("query", tmp_path / "i.binq", tmp_path / "c.jsonl", code=3).err
    named = cli("build", tmp_path / "c.parquet", "-o", tmp_path / "i.binq", "--id-column", "sku")
    assert "no column" not in named.err
    assert list(binq.open(tmp_path / "i.binq").ids or []) == [1, 2]
    cli("build", tmp_path / "c.parquet", "-o", tmp_path / "i.binq", "--id-column", "w", code=3)


@pytest.mark.slow
def test_texts_keep_the_type_of_their_ids(cli: Cli, tmp_path: Path) -> None:
    files = {
        "a.csv": ("id,text\n007,bread\n8,slate\n", ["007", "8"], pa.string()),
        "a.jsonl": ('{"_id": 7, "text": "x"}\n{"_id": 8, "text": "y"}\n', [7, 8], pa.int64()),
        "b.jsonl": (
            '{"key": 18446744073709551615, "text": "x"}\n{"key": 8, "text": "x"}\n',
            [(1 << 64) - 1, 8],
            pa.uint64(),
        ),
        "c.jsonl": ('{"id": 7, "text": "x"}\n{"id": "8", "text": "y"}\n', ["7", "8"], pa.string()),
        "d.jsonl": ('{"n": 7, "text": "x"}\n{"n": 8, "text": "y"}\n', [0, 1], pa.int64()),
    }
    for name, (text, ids, kind) in files.items():
        (tmp_path / name).write_text(text)
        cli("encode", tmp_path / name, "-o", tmp_path / "e.parquet")
        table = pq.read_table(tmp_path / "e.parquet")
        assert (table["id"].to_pylist(), table.schema.field("id").type) == (ids, kind)
        cli("encode", tmp_path / name, "-o", tmp_path / "e.jsonl", "--resume")
        lines = (tmp_path / "e.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == ids
