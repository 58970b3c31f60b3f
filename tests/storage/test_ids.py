"""Ids as they were given: any text, any 64-bit integer, by row or one after another."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import debris
from forging import header_of

from binq.errors import BinqWarning, IndexFileError, InputError
from binq.index.describe import describe
from binq.storage.format import Header
from binq.storage.ids import IdWriter, StoredIds
from binq.storage.reader import IndexFile
from binq.storage.writer import writing_index

MANY = [f"é{number}" * (number % 3) for number in range(10_000)]


def write(path: Path, batches: Sequence[Any]) -> Path:
    """Write an index of nothing but ids."""
    rows = sum(map(len, batches))
    with writing_index(path) as writer:
        writer.add("codes", np.zeros((rows, 1), np.uint64))
        ids = IdWriter(writer)
        for batch in batches:
            ids.append(batch)
        writer.finish(Header(rows, 4, 4, 1, "ip", None, "", "", packed="lsb", ids=ids.finish()))
    return path


def stored(path: Path, *batches: Any) -> StoredIds:
    ids = IndexFile(write(path, batches)).ids()
    assert ids is not None
    return ids


def test_any_id_by_row_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "i.binq"
    drawn = np.random.default_rng(0).integers(-(1 << 63), (1 << 63) - 1, 9000)
    for values in (
        ["", "a\tb\n", "日本", "x" * 100_000, ""],
        ["a"] * 5,
        MANY,
        np.array([(1 << 63) - 1, 0, -(1 << 63)]),
        np.array([(1 << 64) - 1, 1 << 53, 7], np.uint64),
        drawn,
    ):
        expected = [*values] if isinstance(values, list) else values.tolist()
        ids = stored(path, values[:2], values[:0], values[2:])
        assert list(ids) == expected
        assert {type(entry) for entry in ids} == {type(expected[0])}
        assert len(ids) == len(expected)
        for row in (0, len(expected) - 1, -1, -len(expected), np.int64(1)):
            assert ids[row] == expected[row]
            assert type(ids[row]) is type(expected[0])
        for row in (len(expected), -len(expected) - 1, 1 << 70):
            with pytest.raises(IndexError, match=str(row)):
                ids[row]
    for nothing in ([], [[]]):
        assert IndexFile(write(path, nothing)).ids() is None


def test_one_type_holds_all(tmp_path: Path) -> None:
    """Integers where one type of 64 bits does, whatever order they come in; else strings."""
    path = tmp_path / "i.binq"
    top, end = (1 << 63) - 1, (1 << 64) - 1
    small, wide = np.array([7, 0]), np.array([1, 2], np.uint64)
    for batches, kind in (
        ([[1, -2], [top, -top - 1]], "int64"),
        ([[1, 2], [end, 3], [4]], "uint64"),
        ([[end], [0]], "uint64"),
        ([small, wide], "uint64"),
        ([wide, [-1]], "int64"),
        ([[-1], [end]], "strings"),
        ([[end], small, [-1], wide], "strings"),
        ([[1], [1 << 64]], "strings"),
        ([[1, "1"], [2]], "strings"),
        ([[1, 2], small, wide, ["a"], [3], small], "strings"),
        ([["a"], [1], wide], "strings"),
    ):
        for order in (batches, batches[::-1]):
            file = IndexFile(write(path, order))
            assert file.header.ids == kind
            assert file.version == ("1.0" if kind == "strings" else "1.1")
            assert describe(path).get("needs") == (None if kind == "strings" else ["typed_ids"])
            given = [value for batch in order for value in np.array(batch, object).tolist()]
            assert list(file.ids() or []) == (
                [str(value) for value in given] if kind == "strings" else given
            )
    repeated = [np.array([5, 6]), ["a"], [5]]
    with writing_index(path) as writer:
        writer.add("codes", np.zeros((4, 1), np.uint64))
        ids = IdWriter(writer)
        for batch in repeated:
            ids.append(batch)  # type: ignore[arg-type]
        with pytest.warns(BinqWarning, match="1 ids stand .*first: rows 0 and 3"):
            ids.warn_of_duplicates()
        writer.finish(Header(4, 4, 4, 1, "ip", None, "", "", packed="lsb", ids=ids.finish()))


def test_digits_that_are_no_integer(tmp_path: Path) -> None:
    ids = stored(tmp_path / "i.binq", np.array([0, 1, -1]))
    for wanted, unknown in (
        (["0", "1", "-1"], 0),
        (["-0", "01", "+1", "٣", "1.0", " 1", "", "9" * 20, "9" * 5000], 9),
        ([0, 1 << 70, -(1 << 70)], 2),
    ):
        assert (~ids.find(wanted)[1]).sum() == unknown  # type: ignore[arg-type]
    texts = stored(tmp_path / "s.binq", ["1", "01"])
    assert texts.find([1, 2])[1].sum() == 1
    assert texts.find(["01", "\ud800"])[1].sum() == 1


def test_ids_are_pickled_by_their_file(tmp_path: Path) -> None:
    ids = stored(tmp_path / "i.binq", MANY)
    kept = pickle.dumps(ids)
    assert len(kept) < 1000
    assert list(pickle.loads(kept)) == MANY
    write(tmp_path / "i.binq", [MANY])
    with pytest.raises(IndexFileError, match="replaced"):
        pickle.loads(kept)


def test_damage_is_named_where_it_is_met(tmp_path: Path) -> None:
    path = write(tmp_path / "i.binq", [[f"id{number}" for number in range(30)]])
    data = path.read_bytes()
    places = {part["name"]: part["offset"] for part in header_of(data)["sections"]}
    lies = [
        (places["ids.offsets"] + 8 * 7, np.array([value], "<u8").tobytes())
        for value in (2**64 - 1, 2**63, 10**6, 0)
    ]
    for at, lie in [*lies, (places["ids.bytes"] + 3 * 6, b"\xff")]:
        path.write_bytes(data[:at] + lie + data[at + len(lie) :])
        ids = IndexFile(path).ids()
        assert ids is not None
        assert ids[3] == "id3"
        with pytest.raises(IndexFileError, match="id of row 6"):
            ids[6]
        begun = iter(ids)
        assert [next(begun) for _ in range(6)] == [f"id{number}" for number in range(6)]
        with pytest.raises(IndexFileError, match="id of row 6"):
            next(begun)


def test_an_id_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unicode"):
        write(tmp_path / "i.binq", [["a", "\ud800"]])
    assert not debris(tmp_path)


def test_ids_on_more_than_one_row_are_counted(tmp_path: Path) -> None:
    for values in (["a", "b", "a", "c", "b"], np.array([5, -1, 5, 0, -1])):
        with writing_index(tmp_path / "i.binq") as writer:
            writer.add("codes", np.zeros((5, 1), np.uint64))
            ids = IdWriter(writer)
            ids.append(values)
            with pytest.warns(BinqWarning, match="2 ids stand .*first: rows 0 and 2"):
                ids.warn_of_duplicates()
            header = Header(5, 4, 4, 1, "ip", None, "", "", packed="lsb")
            writer.finish(replace(header, ids=ids.finish()))
