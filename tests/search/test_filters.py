"""Filters by id: which rows are found, whatever the ids are stored as and however they come."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from children import Server
from corpora import gaussian, write_jsonl, write_parquet

import binq
from binq.errors import BinqWarning, IndexFileError, InputError
from binq.index.index import Index
from binq.search.filters import read_ids

X, QUERIES = gaussian(200, 16), gaussian(4, 16, seed=1)
NAMES = [f"doc {row}" for row in range(200)]


@pytest.fixture
def named(tmp_path: Path) -> Index:
    """Return an index of ``X`` with ids and float32 vectors."""
    binq.build(write_jsonl(tmp_path / "c.jsonl", X, NAMES), tmp_path / "n.binq", rescore="float32")
    return Index(tmp_path / "n.binq")


def best(rows: list[int], k: int) -> list[list[int]]:
    """Return the exact best k of some rows for every query."""
    return [
        [row for row in naive.neighbours(query, X, len(X), "cosine") if row in set(rows)][:k]
        for query in QUERIES
    ]


def test_only_allowed_rows_are_found(named: Index) -> None:
    for rows in (range(200), range(0, 200, 2), range(7), range(150, 153), []):
        keep = [NAMES[row] for row in rows]
        hits = named.search(QUERIES, 5, filter_ids=keep, oversample=100)
        assert hits.rows.tolist() == best(list(rows), 5)
        others = [row for row in range(200) if row not in rows]
        hits = named.search(QUERIES, 5, exclude_ids=keep, oversample=100)
        assert hits.rows.tolist() == best(others, 5)
        near = named.radius_search(QUERIES, 6, filter_ids=keep)
        whole = named.radius_search(QUERIES, 6)
        for found, all_found in zip(near, whole, strict=True):
            expected = [row for row in all_found.rows[0].tolist() if row in rows]
            assert found.rows[0].tolist() == expected
    both = named.search(QUERIES, 9, filter_ids=NAMES[:20], exclude_ids=NAMES[10:], oversample=9)
    assert sorted(both.rows[0].tolist()) == sorted(best(list(range(10)), 9)[0])


def test_oversampling_by_need_and_asymmetric_scans_keep_to_them(tmp_path: Path) -> None:
    binq.build(X, tmp_path / "i.binq", method="learned", rescore="float32")
    index = Index(tmp_path / "i.binq")
    for rows in (range(0, 200, 2), range(5), []):
        for settings in ({"oversample": "auto"}, {"rescore": "codes"}, {"rescore": "none"}):
            hits = index.search(QUERIES, 4, filter_ids=list(rows), **settings)  # type: ignore[arg-type]
            assert hits.rows.shape == (4, min(4, len(rows)))
            assert set(hits.rows.ravel().tolist()) <= set(rows)


def test_files_of_ids(named: Index, tmp_path: Path) -> None:
    wanted = NAMES[3:30:3]
    (tmp_path / "a.txt").write_text("\n".join(wanted))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(wanted).encode() + b"\r\n")
    pq.write_table(pa.table({"id": wanted, "other": wanted[::-1]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"name": wanted}), tmp_path / "d.parquet")
    np.save(tmp_path / "e.npy", np.array(wanted))
    expected = named.search(QUERIES, 5, filter_ids=wanted).rows
    for path in sorted(tmp_path.glob("?.*")):
        if path.suffix in (".txt", ".parquet", ".npy"):
            assert np.array_equal(named.search(QUERIES, 5, filter_ids=path).rows, expected), path


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "ids.jsonl"
    for text, found in (
        ('"a"\n\n"b c"\n', ["a", "b c"]),
        ("7\n-8\r\n 18446744073709551615\n7", [7, -8, (1 << 64) - 1]),
        ('{"w": 1, "_id": 3}\n{"uuid": "x", "doc_id": 4}\n"5"\n', ["3", "4", "5"]),
        ("", []),
    ):
        path.write_text(text)
        assert read_ids(path) == found
    # Under other names objects say that they are JSON, and so do quotes around every line.
    other = tmp_path / "ids.txt"
    for text, found in (
        ('{"id": 3}\n{"id": "x"}\n', ["3", "x"]),
        ('"a"\n"b"\n', ["a", "b"]),
        ('"a"\nb\n', ['"a"', "b"]),
        ("[1]\n7\n", ["[1]", "7"]),
    ):
        other.write_text(text)
        assert read_ids(other) == found
    for text, message in (
        ("[1, 2]", r"line holds no id: .*ids\.jsonl line 1.*jq -c '\.\[\]'"),
        ('"a"\n{"query": 1, "hits": [{"id": 2}]}', r"line 2.*jq -c '\.hits\[\]\.id'"),
        ('\n{"title": "x"}', r"line 2: expected .*doc_id.*title"),
        ("1.5", "line holds no id"),
        ("true", "line holds no id"),
        ("null", "line holds no id"),
        ("doc 1", "line is not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_ids(path)


def test_columns_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    raw = [bytes(range(row, row + 16)) for row in (0, 7)]
    texts = [str(uuid.UUID(bytes=value)) for value in raw]
    for columns, found in (
        ({"n": [0.5, 1], "doc_id": [3, 4]}, [3, 4]),
        ({"uri": ["a", "b"], "_id": pa.array([3, (1 << 64) - 1], pa.uint64())}, [3, (1 << 64) - 1]),
        ({"uuid": pa.array(raw, pa.binary(16))}, texts),
        ({"x": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(raw, pa.binary(16)))}, texts),
        ({"name": pa.array(["a", "b"]).dictionary_encode(), "w": [0.5, 1]}, ["a", "b"]),
    ):
        pq.write_table(pa.table(columns), path, row_group_size=1)
        assert read_ids(path) == found
    pq.write_table(pa.table({"id": ["a", "b", None]}), path, row_group_size=2)
    with pytest.raises(InputError, match=r"id is null: .*ids\.parquet row 2"):
        read_ids(path)


def test_integer_ids_by_any_file(tmp_path: Path) -> None:
    numbers = np.arange(200, dtype=np.uint64) + np.uint64((1 << 63) - 100)
    table = {"id": numbers, "v": pa.array(list(X), pa.list_(pa.float32()))}
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    binq.build(tmp_path / "c.parquet", tmp_path / "i.binq", rescore="float32")
    index = Index(tmp_path / "i.binq")
    rows = [3, 99, 100, 150]
    wanted = numbers[rows]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, wanted)))
    (tmp_path / "ids.jsonl").write_text("\n".join(map(str, wanted)))
    np.save(tmp_path / "ids.npy", wanted)
    pq.write_table(pa.table({"id": wanted}), tmp_path / "ids.parquet")
    files = [tmp_path / f"ids.{suffix}" for suffix in ("txt", "jsonl", "npy", "parquet")]
    for ids in (*files, wanted, wanted.tolist(), list(wanted), [str(x) for x in wanted]):
        hits = index.search(QUERIES, 4, filter_ids=ids, oversample=100)
        assert hits.rows.tolist() == best(rows, 4)
        assert hits.ids == [[int(numbers[row]) for row in line] for line in hits.rows]
        hits = index.search(QUERIES, 4, exclude_ids=ids, oversample=100)
        assert hits.rows.tolist() == best([row for row in range(200) if row not in rows], 4)


def test_files_that_hold_no_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.zeros((2, 2), np.int64))
    np.save(tmp_path / "float.npy", np.zeros(3))
    whole = (tmp_path / "two.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:100])
    (tmp_path / "open.npy").write_bytes(whole.replace(b"}", b" "))
    endless = {"descr": "<U0", "fortran_order": False, "shape": (1 << 40,)}
    with open(tmp_path / "endless.npy", "wb") as file:  # texts of no length, as many as it says
        np.lib.format.write_array_header_1_0(file, endless)
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "two.parquet")
    pq.write_table(pa.table({"id": [1.5]}), tmp_path / "float.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "two.parquet").read_bytes()[:40])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match=path.name):
            read_ids(path)
    with pytest.raises(InputError):
        read_ids(tmp_path / "missing")
    for mixed in ([1, "a"], [None], [1.5]):
        with pytest.raises(InputError, match="no ids"):
            read_ids(mixed)  # type: ignore[arg-type]
    (tmp_path / "empty").write_bytes(b"")
    assert read_ids(tmp_path / "empty") == []


@pytest.mark.slow
def test_the_same_ids_many_times_take_no_memory(children: Server, tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    one = pa.DictionaryArray.from_arrays(np.zeros(1_000_000, np.int32), ["z" * 1_000, "y"])
    pq.write_table(pa.table({"id": one}), path, write_statistics=False)
    assert path.stat().st_size < 1 << 16
    least = children.start("search.test_filters:ids_of", str(tmp_path / "none.txt")).wait()
    end = children.start("search.test_filters:ids_of", str(path)).wait()
    assert end.code == 0, end.err
    assert end.peak < least.peak + 400  # of a gigabyte


def ids_of(path: str) -> None:
    """Read ids in a process of its own."""
    Path(path).touch()
    read_ids(path)


def test_unknown_ids_are_counted(named: Index, tmp_path: Path) -> None:
    with pytest.warns(BinqWarning, match=r"2 of 3 ids of filter_ids are not in the index"):
        named.search(QUERIES, 3, filter_ids=["doc 1", "doc x", "doc 200", "doc 1"])
    binq.build(X, tmp_path / "rows.binq")
    index = Index(tmp_path / "rows.binq")
    for ids in (["1", "7", "200", "-1", "x"], np.array([1, 7, 200, -1, 10**9])):
        with pytest.warns(BinqWarning, match="3 of 5 ids"):
            hits = index.search(QUERIES, 3, filter_ids=ids)
        assert sorted(hits.rows[0].tolist()) == [1, 7]


def test_ids_of_dead_rows_are_unknown(tmp_path: Path) -> None:
    """What stands in the place of a dead row's id is no id."""
    rows = X.copy()
    rows[[3, 50]] = np.nan
    for ids, wanted in (
        ([row + 5 for row in range(200)], [5, 8, 55, 0, 7]),
        ([f"d{row}" for row in range(200)], ["d0", "d3", "d50", "", "d2"]),
        (None, [0, 3, 50, 200, 2]),
    ):
        write_jsonl(tmp_path / "c.jsonl", rows, ids)  # type: ignore[arg-type]
        with pytest.warns(BinqWarning, match="2 rows cannot be used"):
            binq.build(tmp_path / "c.jsonl", tmp_path / "i.binq", on_error="skip")
        with pytest.warns(BinqWarning, match="3 of 5 ids"):
            hits = Index(tmp_path / "i.binq").search(QUERIES, 9, filter_ids=wanted)  # type: ignore[arg-type]
        assert [sorted(line) for line in hits.rows.tolist()] == [[0, 2]] * 4


def test_ids_that_lead_out_of_the_file_are_damage(named: Index, tmp_path: Path) -> None:
    data = bytearray(named.file.path.read_bytes())
    section = named.file.sections["ids.offsets"]
    for value in (1 << 63, 10**6, 0):
        at = section.offset + 8 * 100
        data[at : at + 8] = value.to_bytes(8, "little")
        (tmp_path / "bad.binq").write_bytes(data)
        with pytest.raises(IndexFileError, match="corrupt"):
            Index(tmp_path / "bad.binq").search(QUERIES, 3, filter_ids=["doc 1"])


def test_on_the_command_line(named: Index, tmp_path: Path, cli: Callable[..., Any]) -> None:
    np.save(tmp_path / "q.npy", QUERIES)
    (tmp_path / "keep.txt").write_text("doc 3\ndoc 9\nnobody\n")
    words = ("query", named.file.path, tmp_path / "q.npy", "-k", 5)
    found = cli(*words, "--filter-ids", tmp_path / "keep.txt")
    assert [sorted(hit["id"] for hit in line["hits"]) for line in found.lines] == [
        ["doc 3", "doc 9"]
    ] * 4
    assert "1 of 3 ids of --filter-ids are not in the index" in found.err
    (tmp_path / "none.txt").write_text("")
    nothing = cli(*words, "--filter-ids", tmp_path / "none.txt")
    assert [line["hits"] for line in nothing.lines] == [[]] * 4
    piped = cli(*words, "--exclude-ids", "-", stdin=b"doc 3\n")
    assert all(hit["id"] != "doc 3" for line in piped.lines for hit in line["hits"])
    cli(*words, "--filter-ids", tmp_path / "missing.txt", code=3)
    twice = cli("query", named.file.path, "-", "--filter-ids", "-", stdin=b"doc 3\n", code=2)
    assert "QUERIES and --filter-ids" in twice.err
    twice = cli(*words, "--filter-ids", "-", "--exclude-ids", "-", stdin=b"doc 3\n", code=2)
    assert "--filter-ids and --exclude-ids" in twice.err
    judged = ("eval", named.file.path, tmp_path / "q.npy", "--truth", tmp_path / "c.jsonl")
    cli("eval", named.file.path, "-", "--truth", "-", stdin=b"", code=2)
    nothing = cli(*judged, "--filter-ids", tmp_path / "none.txt", code=3)
    assert "no row is allowed" in nothing.err


@pytest.mark.filterwarnings("ignore:.*another fingerprint")
def test_recall_is_that_of_the_allowed_rows(named: Index, tmp_path: Path) -> None:
    keep = NAMES[:40]
    found = binq.evaluate(
        named, QUERIES, truth=X, k=(5,), filter_ids=keep, rescore="float32", oversample=8
    )
    assert found.metrics["recall@5"]["value"] == 1
    assert (found.facts["n"], found.facts["allowed"]) == (200, 40)
    plain = binq.evaluate(named, QUERIES, truth=X, k=5, filter_ids=keep, rescore="none")
    truth = best(list(range(40)), 5)
    hits = named.search(QUERIES, 5, filter_ids=keep, rescore="none")
    wanted = [naive.recall(*pair) for pair in zip(hits.rows, truth, strict=True)]
    assert plain.metrics["recall@5"]["value"] == pytest.approx(np.mean(wanted))
    assert plain.metrics["recall_expected@5"]["value"] == pytest.approx(np.mean(wanted), abs=0.4)
    cache = tmp_path / "truth.npz"
    for _ in range(2):
        again = binq.evaluate(
            named, QUERIES, truth=X, k=(5,), filter_ids=keep, rescore="none", cache_truth=cache
        )
        assert again.metrics["recall@5"] == plain.metrics["recall@5"]
    whole = binq.evaluate(named, QUERIES, truth=X, k=(5,), rescore="none", cache_truth=cache)
    assert whole.metrics == binq.evaluate(named, QUERIES, truth=X, k=(5,), rescore="none").metrics


@pytest.mark.filterwarnings("ignore:.*another fingerprint")
def test_own_rows_that_are_not_allowed(named: Index) -> None:
    """A query's own row is left out once, whether the filter leaves it out or not."""
    path = write_parquet(named.file.path.parent / "own.parquet", X[:20], NAMES[:20])
    keep = NAMES[10:60]
    found = binq.evaluate(
        named, str(path), truth=X, k=(5,), filter_ids=keep, oversample=10, exclude_self=True
    )
    assert found.metrics["recall@5"]["value"] == 1
