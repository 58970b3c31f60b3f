"""``on_error="skip"``: what cannot be used is dead, and the rest is as if it were not there."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import gaussian, write_jsonl

import binq
from binq.errors import BinqWarning, InputError, UsageError
from binq.storage.reader import IndexFile

ROWS, DIM = 120, 16
BAD = [0, 5, 6, 63, 64, ROWS - 1]
KEPT = np.setdiff1d(np.arange(ROWS), BAD)
CORPUS, QUERIES = gaussian(ROWS, DIM), gaussian(7, DIM, seed=1)


def spoiled(metric: str = "cosine") -> np.ndarray:
    """Return the corpus with rows that are NaN, infinite, and zero or too long."""
    vectors = CORPUS.copy()
    for turn, row in enumerate(BAD):
        vectors[row, 3] = (np.nan, np.inf)[turn % 2]
        if turn % 3 == 2:
            vectors[row] = 0 if metric == "cosine" else 3e38
    return vectors


def build(vectors: Any, path: Path, **options: Any) -> binq.BuildReport:
    with pytest.warns(BinqWarning, match="cannot be used and are dead"):
        return binq.build(vectors, path, on_error="skip", **options)


def agree(skipped: Path, fresh: Path, **settings: Any) -> None:
    """Require the answers of an index of the rows that are kept, under the old numbers."""
    found, expected = binq.open(skipped), binq.open(fresh)
    assert len(found) == len(expected) == len(KEPT)
    for k in (1, 10, ROWS):
        hits, others = (ix.search(QUERIES, k, **settings) for ix in (found, expected))
        assert hits.rows.tolist() == KEPT[others.rows].tolist()
        assert np.allclose(hits.scores, others.scores)
    near, others = found.radius_search(QUERIES, DIM), expected.radius_search(QUERIES, DIM)
    assert near.rows.tolist() == KEPT[others.rows].tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rescore": "float32"},
        {"method": "mean", "rescore": "int8", "sample": ROWS},
        {"method": "itq", "scoring": "asymmetric"},
        {"method": "rabitq", "metric": "l2", "rescore": "float16"},
        {"method": "rotate", "metric": "ip", "scoring": "asymmetric", "rescore": "int8"},
    ],
)
def test_the_rest_is_as_if_they_were_not_there(options: dict[str, Any], tmp_path: Path) -> None:
    vectors = spoiled(options.get("metric", "cosine"))
    report = build(vectors, tmp_path / "s.binq", **options)
    assert (report.rows, report.skipped) == (len(KEPT), len(BAD))
    assert len(report.skipped_rows) == 5
    assert report.skipped_rows[0] == "array row 0 dim 3: a value is not a finite float32"
    binq.build(CORPUS[KEPT], tmp_path / "f.binq", **options)
    agree(tmp_path / "s.binq", tmp_path / "f.binq")
    # The truth, and vectors to rescore by, go by the stored row, and pass over the dead ones.
    np.save(tmp_path / "v.npy", vectors)
    truth = binq.evaluate(tmp_path / "s.binq", QUERIES, truth=vectors, k=5, oversample=ROWS)
    assert truth.facts["n"] == len(KEPT)
    again = binq.open(tmp_path / "s.binq")
    with pytest.warns(BinqWarning):
        hits = again.search(QUERIES, 9, rescore_from=str(tmp_path / "v.npy"), oversample=ROWS)
    binq.build(CORPUS[KEPT], tmp_path / "w.binq", **options | {"rescore": "float32"})
    whole = binq.open(tmp_path / "w.binq").search(QUERIES, 9, oversample=ROWS)
    assert hits.rows.tolist() == KEPT[whole.rows].tolist()
    described = binq.describe(tmp_path / "s.binq", verify=True)
    assert (described["alive"], described["dead"]) == (len(KEPT), len(BAD))
    assert described["damaged"] == []


def rows_of(kind: str, place: Path) -> tuple[Any, dict[str, Any]]:
    """Return the corpus as a source in which the bad rows are bad in the way of its format."""
    path = place / f"v.{kind}"
    if kind == "parquet":
        rows: list[Any] = CORPUS.tolist()
        for turn, row in enumerate(BAD):
            rows[row] = (None, [None] * DIM, [1.0])[turn % 3]
        table = {"id": np.arange(ROWS) * 7, "v": pa.array(rows, pa.list_(pa.float32()))}
        pq.write_table(pa.table(table), path, row_group_size=50)
    elif kind == "jsonl":
        lines = [
            json.dumps({"id": f"r{row}", "embedding": vector}).encode() + b"\n\n"
            for row, vector in enumerate(CORPUS.tolist())
        ]
        kinds = (b"{", b"\xff", b'{"id": "x", "embedding": [1]}', b"[NaN]")
        for turn, row in enumerate(BAD):
            lines[row] = kinds[turn % 4] + b"\n"
        path.write_bytes(b"\n" + b"".join(lines))
    else:
        np.save(path, spoiled())
    return path, {}


@pytest.mark.parametrize("method", ["sign", "median"])
@pytest.mark.parametrize("kind", ["npy", "parquet", "jsonl"])
def test_every_format(
    kind: str, method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = rows_of(kind, tmp_path)
    report = build(path, tmp_path / "s.binq", method=method)
    assert report.skipped == len(BAD)
    binq.build(CORPUS[KEPT], tmp_path / "f.binq", method=method)
    agree(tmp_path / "s.binq", tmp_path / "f.binq")
    names = {"parquet": [row * 7 for row in KEPT.tolist()], "jsonl": [f"r{row}" for row in KEPT]}
    ids = binq.open(tmp_path / "s.binq").ids
    assert [ids[row] for row in KEPT] == names[kind] if ids else kind == "npy"
    ended = binq.evaluate(tmp_path / "s.binq", QUERIES, truth=path, k=3)
    assert ended.facts["n"] == len(KEPT)
    with pytest.raises(InputError, match="row 0"):
        binq.build(path, tmp_path / "stopped.binq", method=method)
    assert not (tmp_path / "stopped.binq").exists()
    if kind != "parquet":
        stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
        monkeypatch.setattr(sys, "stdin", stdin)
        build("-", tmp_path / "p.binq", method=method)
        agree(tmp_path / "p.binq", tmp_path / "f.binq")


def test_vectors_that_only_the_index_cannot_take(tmp_path: Path) -> None:
    vectors = CORPUS.copy()
    vectors[7, 0] = 1e6  # too large for float16
    report = build(vectors, tmp_path / "i.binq", metric="ip", rescore="float16", method="mean")
    assert report.skipped_rows == ["array row 7: a value is too large to be stored as float16"]
    vectors = CORPUS.copy()
    vectors[9, :4] = 0  # nothing is left of it
    report = build(vectors, tmp_path / "t.binq", truncate_dim=4, method="mean")
    assert report.skipped_rows == ["array row 9: a vector has norm zero"]
    clean, kept = np.delete(CORPUS, 9, 0), tmp_path / "b.npz"
    binq.build(clean, tmp_path / "b.binq", truncate_dim=4, method="mean", save_binarizer=kept)
    report = build(vectors, tmp_path / "t.binq", binarizer=kept, rescore="int8")
    assert report.skipped == 1


def test_bits(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (20, 2), np.uint8)
    codes[:, 1] &= 0xF0
    codes[[3, 19], 1] |= 1  # beyond the width
    report = build(codes, tmp_path / "i.binq", packed="ubinary", bits=12)
    assert (report.rows, report.skipped) == (18, 2)
    found = binq.open(tmp_path / "i.binq").search(codes[4:5], 20, packed="ubinary")
    assert sorted(found.rows[0].tolist()) == [row for row in range(20) if row not in (3, 19)]


def test_ids_of_dead_rows_stand_for_nothing(tmp_path: Path) -> None:
    lines = ['{"id": 5, "embedding": [0, 0]}', '{"embedding": [1, 2]}']
    lines += ['{"id": 5, "embedding": [1, 2]}', '{"id": 0, "embedding": null}']
    for last, expected in (("6", [5, 6]), ('"a"', ["5", "a"])):
        path = tmp_path / "v.jsonl"
        path.write_text("\n".join(["x", *lines, f'{{"id": {last}, "embedding": [3, 4]}}', "x"]))
        report = build(path, tmp_path / "i.binq")
        assert (report.rows, report.skipped) == (2, 5)  # of two rows with one id one is dead
        index = binq.open(tmp_path / "i.binq")
        assert index.search(np.array([[1, 2]]), 7).rows.tolist() == [[3, 5]]
        assert [index.ids[row] for row in (3, 5)] == expected
        assert index.search(np.array([[1, 2]]), 2, filter_ids=[5]).rows.tolist() == [[3]]


def test_several_files_of_which_one_holds_nothing_of_use(tmp_path: Path) -> None:
    place = tmp_path / "v"
    place.mkdir()
    first, last = ('{"id": "a", "embedding": [1, 2]}', '{"id": "b", "embedding": [-1, 2]}')
    for name, text in (("1", f"x\n\n{first}\n"), ("2", "\nx\n[NaN]\n"), ("3", f"{last}\nx\n")):
        (place / f"{name}.jsonl").write_text(text)
    for method in ("sign", "mean"):
        report = build(place, tmp_path / "i.binq", method=method)
        assert (report.rows, report.skipped) == (2, 4)
        assert report.skipped_rows[1] == f"{place}/2.jsonl row 0 line 2: line is not JSON"
        index = binq.open(tmp_path / "i.binq")
        assert index.search(np.array([[-3, 1]]), 2).ids == [["b", "a"]]
    found = [answer for _, some in binq.query(index, place, 1, on_error="skip") for answer in some]
    # Blank lines are lines of the queries.
    assert [getattr(answer, "line", None) for answer in found] == [
        1,
        None,
        None,
        None,
        5,
        6,
        None,
        8,
    ]
    for kind, ids in (("i", pa.int64()), ("s", pa.string())):
        place = tmp_path / kind
        place.mkdir()
        for name, rows, names in (
            ("1", [None, None], [1, 2]),
            ("2", [[1, 2, 3], [1, None, 2]], [3, None]),
            ("3", [None, [-1, 2, 3]], [None, 7]),
        ):
            known = pa.array([None if n is None else str(n) for n in names]).cast(ids)
            table = pa.table({"id": known, "v": pa.array(rows, pa.list_(pa.float32()))})
            pq.write_table(table, place / f"{name}.parquet")
        for method in ("sign", "mean"):
            assert build(place, tmp_path / "i.binq", method=method).rows == 2
            index = binq.open(tmp_path / "i.binq")
            names = [[7, 3]] if kind == "i" else [["7", "3"]]
            assert index.search(np.array([[-3, 1, 1]]), 2).ids == names


def test_nothing_but_dead_rows(tmp_path: Path) -> None:
    nothing = np.full((70, DIM), np.nan, np.float32)
    binq.build(QUERIES, tmp_path / "i.binq")
    for method, kind in (("sign", "flat"), ("sign", "ivf")):
        with pytest.raises(InputError, match=r"no row can be used.*got 70 rows; array row 0 dim 0"):
            binq.build(nothing, tmp_path / "i.binq", method=method, kind=kind, on_error="skip")
    assert len(binq.open(tmp_path / "i.binq")) == len(QUERIES)  # what was there stays
    with pytest.raises(InputError, match="no rows to fit on"):
        binq.build(nothing, tmp_path / "j.binq", method="mean", on_error="skip")
    path = tmp_path / "v.jsonl"
    path.write_text("[NaN]\nx\n\n[]\n")
    with pytest.raises(InputError, match="expected a row that can be used, got 3 that cannot"):
        binq.build(path, tmp_path / "j.binq", on_error="skip")
    assert not (tmp_path / "j.binq").exists()


def test_a_build_without_them_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    path = write_jsonl(tmp_path / "v.jsonl", CORPUS, [f"r{row}" for row in range(ROWS)])
    for method in ("sign", "mean"):
        binq.build(path, tmp_path / "stop.binq", method=method)
        report = binq.build(path, tmp_path / "skip.binq", method=method, on_error="skip")
        assert (report.rows, report.skipped, report.skipped_rows) == (ROWS, 0, [])
        assert (tmp_path / "stop.binq").read_bytes() == (tmp_path / "skip.binq").read_bytes()
        assert IndexFile(tmp_path / "skip.binq").version == "1.0"
    with pytest.raises(UsageError, match="on_error"):
        binq.build(path, tmp_path / "i.binq", on_error="pass")  # type: ignore[arg-type]
