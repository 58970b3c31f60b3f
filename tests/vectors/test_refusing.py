"""Rows that cannot be used, in every format: refused one by one, whatever the batches."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from corpora import gaussian

from binq.errors import InputError
from binq.io import streams
from binq.vectors import Batch, VectorSource, open_vectors
from binq.vectors.refusing import sift
from binq.vectors.spool import spool

ROWS, DIM = 40, 3


def test_sift() -> None:
    asked: list[tuple[int, int]] = []

    def work(low: int, high: int) -> range:
        asked.append((low, high))
        if {5, 6, 12} & set(range(low, high)):
            raise InputError("bad", f"{low} to {high}")
        return range(low, high)

    parts, refused = sift(work, 13)
    assert [row for part in parts for row in part] == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert {row: error.where for row, error in refused.items()} == {
        5: "5 to 6",
        6: "6 to 7",
        12: "12 to 13",
    }
    asked.clear()
    assert sift(work, 5) == ([range(5)], {})
    assert asked == [(0, 5)]  # nothing is done twice where all is well
    assert sift(work, 0) == ([], {})


def spoiled(bad: list[int]) -> np.ndarray:
    vectors = gaussian(ROWS, DIM)
    vectors[bad, 1] = np.nan
    return vectors


def texmex(path: Path, vectors: np.ndarray) -> Path:
    dims = np.full((len(vectors), 1), vectors.shape[1], "<i4")
    path.write_bytes(np.hstack([dims, vectors.astype("<f4").view("<i4")]).tobytes())
    return path


def columnar(path: Path, vectors: np.ndarray, bad: list[int], kind: str) -> Path:
    """Write lists; what is bad is null, holds a null, is ragged, or has no id."""
    rows: list[Any] = vectors.tolist()
    ids: list[str | None] = [f"r{row}" for row in range(len(rows))]
    for turn, row in enumerate(bad):
        rows[row] = (None, [None] * vectors.shape[1], [1.0], rows[row])[turn % 4]
        if turn % 4 == 3:
            rows[row], ids[row] = [0.5] * vectors.shape[1], None
    table = pa.table({"id": ids, "v": pa.array(rows, pa.list_(pa.float32()))})
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=16)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, 7)
    return path


def lines(vectors: np.ndarray, bad: list[int]) -> bytes:
    kinds = (b"{", b"\xff", b'{"id": "x", "embedding": null}', b"[1, NaN, 2]")
    rows = [
        b'{"id": "r%d", "embedding": %s}' % (row, str(vector.tolist()).encode())
        for row, vector in enumerate(vectors)
    ]
    for turn, row in enumerate(bad):
        rows[row] = kinds[turn % len(kinds)]
    return b"\n".join(rows) + b"\n"


def opened(kind: str, place: Path, bad: list[int], **options: Any) -> VectorSource:
    vectors, clean = spoiled(bad), gaussian(ROWS, DIM)
    path = place / f"v{len(bad)}.{kind}"
    if kind == "array":
        return open_vectors(vectors, **options)
    if kind == "npy":
        np.save(path, vectors)
    elif kind == "npy pipe":
        data = io.BytesIO()
        np.save(data, vectors)
        return open_vectors("-", stdin=io.BytesIO(data.getvalue()), **options)
    elif kind == "fvecs":
        texmex(path, vectors)
    elif kind == "jsonl":
        path.write_bytes(lines(clean, bad))
    elif kind == "jsonl pipe":
        return open_vectors("-", stdin=io.BytesIO(lines(clean, bad)), **options)
    else:
        columnar(path, clean, bad, kind)
    return open_vectors(path, **options)


KINDS = ("array", "npy", "npy pipe", "fvecs", "parquet", "arrow", "jsonl", "jsonl pipe")


def gathered(batches: list[Batch]) -> tuple[list[int], list[list[float]], list[int]]:
    """Return the numbers of the rows, the rows, and the numbers of those refused."""
    numbers = [row for b in batches for row in (b.start + b.offsets).tolist()]
    vectors = [row for b in batches for row in b.vectors.tolist()]
    return numbers, vectors, [b.start + r.offset for b in batches for r in b.refused]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_refused_in_their_place(kind: str, tmp_path: Path) -> None:
    clean = gaussian(ROWS, DIM)
    for bad in ([], [0], [ROWS - 1], [17], [0, 1, 2, 3, 4], [5, 16, 31, 32, 39], range(ROWS)):
        kept = [row for row in range(ROWS) if row not in bad]
        for size in (None, 1, 7):
            source = opened(kind, tmp_path, list(bad), on_error="skip")
            batches = list(source.batches(size))
            numbers, vectors, refused = gathered(batches)
            # A pass over all rows of which none can be used knows no dim where only rows say it.
            assert (numbers, refused) == (kept, list(bad)), (kind, bad, size)
            assert vectors == clean[kept].tolist()
            assert [len(b) for b in batches if not len(b)] == []
            if source.has_ids:
                assert [name for b in batches for name in b.ids or []] == [f"r{i}" for i in kept]
        strict = opened(kind, tmp_path, list(bad))
        seen: list[int] = []
        if not bad:
            assert sum(len(batch.vectors) for batch in strict.batches(9)) == ROWS
            continue
        with pytest.raises(InputError, match=f"row {bad[0]}"):
            seen += (b.start + row for b in strict.batches(9) for row in range(len(b.vectors)))
        assert seen == list(range(bad[0]))  # all that precedes it


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_refuses_the_same(kind: str, tmp_path: Path) -> None:
    beside = tmp_path / "beside"  # a file that is being read stays as it is
    beside.mkdir()
    for bad in ([0, 1], [39], [3, 20, 21], range(ROWS)):
        source = opened(kind, tmp_path, list(bad), on_error="skip")
        with spool(source, tmp_path) as copy:
            for size in (None, 1, 8):
                direct = opened(kind, beside, list(bad), on_error="skip")
                assert gathered(list(copy.batches(size))) == gathered(list(direct.batches()))
            assert copy.rows == ROWS


@pytest.mark.parametrize("kind", ["npy", "fvecs", "parquet", "arrow", "jsonl"])
def test_rows_that_nobody_wants_are_not_looked_at(kind: str, tmp_path: Path) -> None:
    bad = [0, 17, 30]
    kept = np.array([row for row in range(ROWS) if row not in bad])
    with opened(kind, tmp_path, bad) as source:
        for _ in range(3):  # the second time, row groups are kept
            assert source.take(kept).tolist() == gaussian(ROWS, DIM)[kept].tolist()
            with pytest.raises(InputError, match="row 17"):
                source.take(np.array([4, 17]))


def test_the_id_of_a_refused_row_is_named_where_it_can_be_read(tmp_path: Path) -> None:
    source = opened("parquet", tmp_path, [3, 4, 5, 6], on_error="skip")
    refused = [refusal for batch in source.batches() for refusal in batch.refused]
    assert [refusal.id for refusal in refused] == ["r3", "r4", "r5", None]
    assert all(f"id 'r{row}'" in str(refused[row - 3].error) for row in (3, 4, 5))
    path = tmp_path / "i.jsonl"
    path.write_text(
        '{"id": "a", "embedding": [1, 2]}\n{"id": "b", "embedding": [1]}\n{"id": 1.5}\n'
    )
    with pytest.raises(InputError, match="row 1 line 2 id 'b'"):
        list(open_vectors(path).batches())


def test_blank_lines_are_rows_where_they_count(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf\n[1, 2]\n  \r\n[3, 4]\n\n"
    (tmp_path / "v.jsonl").write_bytes(text)
    for paths, stdin in ((tmp_path / "v.jsonl", None), ("-", text)):
        for every, blank in ((True, [0, 2, 4]), (False, [])):
            source = open_vectors(
                paths, stdin=None if stdin is None else io.BytesIO(stdin), every_line=every
            )
            batches = list(source.batches())  # nothing is wrong with a blank line
            numbers, vectors, refused = gathered(batches)
            assert refused == blank
            assert vectors == [[1, 2], [3, 4]]
            assert numbers == ([1, 3] if every else [0, 1])
            assert source.locate(numbers[1]).endswith("line 4")


def test_lines_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MAX_LINE", 1000)
    monkeypatch.setattr(streams, "_FILE_READ", 64)
    for place in range(3):
        rows = [b"[1]", b"[2]"]
        rows.insert(place, b"[" + b" " * 5000 + b"3]")
        source = open_vectors("-", stdin=io.BytesIO(b"\n".join(rows)), on_error="skip")
        _, vectors, refused = gathered(list(source.batches()))
        assert (vectors, refused) == ([[1], [2]], [place])
        endless = open_vectors("-", stdin=Endless(b"\n".join([*rows[:place], b"["])))
        with pytest.raises(InputError, match=f"too long: stdin row {place} line {place + 1}"):
            list(endless.batches())


class Endless(io.BytesIO):
    """After what it holds, spaces without end."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size) or b" " * 100


def test_rows_that_cannot_be_used_say_nothing_of_others() -> None:
    rows = (
        b'{"x": [1, "a"]}\n{"a": [1], "b": [2]}\n{"embedding": [1, 2], "name": "n"}\n'
        b'{"x": [5, 6]}\n[7, 8]\n[1, 2, 3]\n'
    )
    source = open_vectors("-", stdin=io.BytesIO(rows), on_error="skip")
    _, vectors, refused = gathered(list(source.batches()))
    assert vectors == [[1, 2], [7, 8]]
    assert refused == [0, 1, 3, 5]
    source = open_vectors("-", stdin=io.BytesIO(b"[1]\n[1, 2]\n[3]\n"), dims=(2,), on_error="skip")
    _, vectors, refused = gathered(list(source.batches()))
    assert (vectors, refused) == ([[1, 2]], [0, 2])
