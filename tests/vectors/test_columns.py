"""Which column holds vectors, ids or packed bits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from columnar_files import ROWS, ids_of, vectors_of, write_arrow

from binq.bits import unpack
from binq.errors import InputError, UsageError
from binq.vectors import open_vectors


class TestColumns:
    VECTORS = pa.array(ROWS, type=pa.list_(pa.float32(), 2))
    OTHERS = pa.array([[9, 9]] * 4, type=pa.list_(pa.float64()))

    def test_several_are_listed(self, save: Callable[..., Path]) -> None:
        path = save({"title": ["t"] * 4, "first": self.VECTORS, "second": self.OTHERS})
        with pytest.raises(InputError, match=r"first, second; choose one with column"):
            open_vectors(path)
        assert np.array_equal(vectors_of(open_vectors(path, column="first")), ROWS)
        assert np.array_equal(vectors_of(open_vectors(path, column="second")), [[9, 9]] * 4)

    def test_none_lists_what_is_there(self, save: Callable[..., Path]) -> None:
        path = save({"title": ["t"], "tags": [["a"]], "nested": [[[1.0]]], "flags": [[True]]})
        with pytest.raises(InputError, match=r"title \(string\), tags"):
            open_vectors(path)
        for column in ("title", "tags", "nested", "flags"):
            with pytest.raises(InputError, match="holds no vectors"):
                open_vectors(path, column=column)

    def test_missing(self, save: Callable[..., Path]) -> None:
        path = save({"v": self.VECTORS})
        with pytest.raises(InputError, match=r"no such column.*expected w, got v"):
            open_vectors(path, column="w")
        with pytest.raises(InputError, match="no such column"):
            open_vectors(path, id_column="w")

    def test_names_that_repeat(self, tmp_path: Path) -> None:
        path = tmp_path / "v.arrow"
        write_arrow(path, pa.Table.from_arrays([self.VECTORS, self.VECTORS], names=["v", "v"]))
        with pytest.raises(InputError, match="v, v"):
            open_vectors(path)
        with pytest.raises(InputError, match="not unique"):
            open_vectors(path, column="v")

    def test_names_with_dots(self, save: Callable[..., Path]) -> None:
        path = save({"id.x": ["n"] * 4, "a.b": self.VECTORS, "id": list("wxyz")})
        with open_vectors(path) as source:
            assert np.array_equal(vectors_of(source), ROWS)
            assert ids_of(source) == list("wxyz")

    def test_eight_bit_numbers_have_to_be_named(self, save: Callable[..., Path]) -> None:
        for element in (pa.int8(), pa.uint8()):
            path = save({"v": pa.array([[1, 2], [3, 4]], pa.list_(element, 2))})
            with pytest.raises(InputError, match="packed"):
                open_vectors(path)
            assert np.array_equal(vectors_of(open_vectors(path, packed="none")), [[1, 2], [3, 4]])


class TestIds:
    VECTORS = pa.array(ROWS, type=pa.list_(pa.float32(), 2))
    CODES = pa.array([b"abc", b"def", b"ghi", b"jkl"], pa.binary(3))

    def test_types(self, save: Callable[..., Path]) -> None:
        columns = (
            pa.array(["a", "", "c\td", "é"]),
            pa.array(["a", "", "c\td", "é"], pa.large_string()),
            pa.array(["a", "b", "a", "b"]).dictionary_encode(),
            pa.array([1, -2, 2**62, 0], pa.int64()),
            pa.array([1, 2, 2**64 - 1, 0], pa.uint64()),
        )
        for ids, name in product(columns, ("id", "_id")):
            with open_vectors(save({"v": self.VECTORS, name: ids})) as source:
                assert source.has_ids is True
                assert ids_of(source, 3) == ids.to_pylist()

    def test_id_goes_before_underscore_id(self, save: Callable[..., Path]) -> None:
        path = save({"_id": list("wxyz"), "v": self.VECTORS, "id": list("abcd")})
        assert ids_of(open_vectors(path)) == list("abcd")

    def test_the_first_name_of_a_usable_type_wins(self, save: Callable[..., Path]) -> None:
        names = ["key", "uri", "uuid", "doc_id", "_id", "id"]
        columns = {"v": self.VECTORS, "other": list("ABCD")}
        for name in names:  # the later before the earlier
            columns[name] = pa.array([f"{name} {row}" for row in range(4)])
            assert ids_of(open_vectors(save(columns)), 3) == columns[name].to_pylist()
        for name in names[:0:-1]:  # but one that holds something else is passed over
            columns[name] = pa.array([0.5] * 4)
            columns["id"] = pa.array([True] * 4)
            left = names[: names.index(name)]
            with open_vectors(save(columns)) as source:
                assert ids_of(source) == columns[left[-1]].to_pylist()
        columns["key"] = pa.array([[1]] * 4, pa.list_(pa.int64()))
        with open_vectors(save(columns), column="v") as source:
            assert (source.has_ids, source.could_be_ids) == (False, ["other"])
        # An empty name takes none, and then there is nothing to say.
        with open_vectors(save({"v": self.VECTORS, "id": list("abcd")}), id_column="") as source:
            assert (source.has_ids, source.could_be_ids) == (False, None)

    def test_integers_stay_integers(self, save: Callable[..., Path]) -> None:
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
            limits = np.iinfo(kind)
            numbers = np.array([limits.max, limits.min, 1, 0], kind)
            with open_vectors(save({"v": self.VECTORS, "id": numbers})) as source:
                for batch in source.batches(3):
                    assert isinstance(batch.ids, np.ndarray)
                    assert batch.ids.dtype == ("uint64" if kind == "uint64" else "int64")
                assert ids_of(source, 3) == numbers.tolist()

    def test_uuids_are_text_and_no_bits(self, save: Callable[..., Path]) -> None:
        values = [uuid.UUID(int=row << 120 | row) for row in range(4)]
        stored = pa.array([value.bytes for value in values], pa.binary(16))
        typed = pa.ExtensionArray.from_storage(pa.uuid(), stored)
        columns: dict[str, Any] = {"codes": self.CODES, "uuid": stored}
        for found in (columns, {"codes": self.CODES, "id": typed}, {**columns, "uuid": typed}):
            with open_vectors(save(found)) as source:
                assert (source.dim, source.packed) == (24, True)
                assert ids_of(source, 3) == [str(value) for value in values]
        path = save({"v": self.VECTORS, "id": list("abcd"), "uuid": stored, "digest": stored})
        assert ids_of(open_vectors(path, column="v", id_column="digest")) == [*map(str, values)]
        path = save({"v": self.VECTORS, "id": list("abcd"), "uuid": stored})
        assert np.array_equal(vectors_of(open_vectors(path)), ROWS)
        assert open_vectors(path, column="uuid").dim == 128  # if the user says so
        short = pa.array([b"12345678"] * 4, pa.binary(8))
        with open_vectors(save({"codes": self.CODES, "uuid": short})) as source:
            assert (source.dim, source.has_ids) == (24, False)

    def test_a_named_index_of_pandas(self, save: Callable[..., Path]) -> None:
        columns = {"v": self.VECTORS, "name": list("abcd"), "__index_level_0__": [4, 3, 2, 1]}
        for index, found in (
            (["name"], list("abcd")),
            (["__index_level_0__"], []),
            (["name", "__index_level_0__"], []),
            ([{"kind": "range", "start": 0, "stop": 4, "step": 1}], []),
            (["gone"], []),
            ("name", []),
            (None, []),
        ):
            path = save(columns, {"pandas": json.dumps({"index_columns": index})})
            assert ids_of(open_vectors(path)) == found
        for damaged in ("{", "[]", "3"):
            assert ids_of(open_vectors(save(columns, {"pandas": damaged}))) == []
        path = save({**columns, "key": [1, 2, 3, 4]}, {"pandas": '{"index_columns": ["name"]}'})
        assert ids_of(open_vectors(path)) == [1, 2, 3, 4]

    def test_string_views(self, tmp_path: Path) -> None:
        path = tmp_path / "v.arrow"
        ids = pa.array(["a", "b", "a longer string than fits", ""], pa.string_view())
        write_arrow(path, pa.table({"v": self.VECTORS, "id": ids}))
        assert ids_of(open_vectors(path)) == ids.to_pylist()

    def test_chosen(self, save: Callable[..., Path]) -> None:
        path = save({"v": self.VECTORS, "id": list("abcd"), "key": list("wxyz")})
        assert ids_of(open_vectors(path)) == list("abcd")
        assert ids_of(open_vectors(path, id_column="key")) == list("wxyz")

    def test_null(self, save: Callable[..., Path]) -> None:
        strings = pa.array(["a", "b", None, "d"])
        for ids in (strings, pa.array([1, 2, None, 4]), strings.dictionary_encode()):
            with pytest.raises(InputError, match=r"id is null.*v\.data row 2"):
                ids_of(open_vectors(save({"v": self.VECTORS, "id": ids})))

    def test_wrong_type(self, save: Callable[..., Path]) -> None:
        for value in (0.5, True, b"a"):
            path = save({"v": self.VECTORS, "id": [value] * 4, "n": list("abcd")})
            with pytest.raises(InputError, match="id column has the wrong type"):
                open_vectors(path, id_column="id")
            with open_vectors(path) as source:
                assert (source.has_ids, source.could_be_ids) == (False, ["n"])


class TestPacked:
    FLAGS = np.random.default_rng(0).random((4, 24)) < 0.5
    STORED = np.packbits(FLAGS, axis=1)

    def binary(self, rows: np.ndarray | None = None) -> pa.Array:
        rows = self.STORED if rows is None else rows
        return pa.array([row.tobytes() for row in rows], pa.binary(3))

    def test_fixed_size_binary_is_bits(self, save: Callable[..., Path]) -> None:
        with open_vectors(save({"codes": self.binary().slice(1), "id": list("abc")})) as source:
            assert (source.dim, source.layout, source.packed) == (24, "ubinary", True)
            assert np.array_equal(unpack(vectors_of(source, 2), 24), self.FLAGS[1:])

    def test_option_metadata_default(self, save: Callable[..., Path]) -> None:
        lsb = np.packbits(self.FLAGS, axis=1, bitorder="little")
        path = save({"codes": self.binary(lsb)}, {"binq.layout": "lsb", "other": "x"})
        with open_vectors(path) as source:
            assert source.metadata == {"binq.layout": "lsb"}
            assert np.array_equal(unpack(vectors_of(source), 24), self.FLAGS)
        with open_vectors(path, packed="ubinary") as source:
            assert source.layout == "ubinary"
        signed = (self.STORED.astype(np.int16) - 128).astype(np.int8)
        with open_vectors(save({"codes": self.binary(signed)}), packed="binary") as source:
            assert np.array_equal(unpack(vectors_of(source), 24), self.FLAGS)

    def test_none_is_refused(self, save: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match="always packed bits"):
            open_vectors(save({"codes": self.binary()}), packed="none")

    def test_lists_of_bytes(self, save: Callable[..., Path]) -> None:
        flags = self.FLAGS.copy()
        flags[:, 21:] = False
        kinds = (pa.list_(pa.uint8(), 3), pa.list_(pa.uint8()), pa.large_list(pa.uint8()))
        for kind in kinds:
            codes = pa.array(list(self.STORED), kind)
            with open_vectors(save({"codes": codes}), packed="ubinary") as source:
                assert np.array_equal(unpack(vectors_of(source, 3), 24), self.FLAGS)
            cut = pa.array(list(np.packbits(flags, axis=1)), kind)
            path = save({"codes": cut}, {"binq.layout": "ubinary", "binq.bits": "21"})
            with open_vectors(path) as source:
                assert (source.dim, source.layout) == (21, "ubinary")
                assert np.array_equal(unpack(vectors_of(source), 21), flags[:, :21])
            assert open_vectors(path, packed="none").dim == 3

    def test_nulls_and_bits_beyond(self, save: Callable[..., Path]) -> None:
        rows = pa.array([b"abc", None], pa.binary(3))
        with pytest.raises(InputError, match="row 1"):
            vectors_of(open_vectors(save({"codes": rows})))
        rows = pa.array([b"ab\0", b"abc"], pa.binary(3))
        with pytest.raises(InputError, match="row 1"):
            vectors_of(open_vectors(save({"codes": rows}), bits=20))

    def test_damaged_metadata(self, save: Callable[..., Path]) -> None:
        bits = ({"binq.bits": value} for value in ("many", "0", "65537", "9" * 99))
        for metadata in ({"binq.layout": "msb"}, *bits):
            with pytest.raises(InputError, match="damaged"):
                open_vectors(save({"codes": self.binary()}, metadata))

    def test_bits_of_numbers(self, save: Callable[..., Path]) -> None:
        with pytest.raises(UsageError):
            open_vectors(save({"v": pa.array(ROWS, pa.list_(pa.float32()))}), bits=2)
