"""Parquet and Arrow files: types, slices, nulls, single rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from columnar_files import LISTS, ROWS, ids_of, vectors_of, write_arrow

from binq.errors import InputError
from binq.vectors import open_vectors


def test_types(save: Callable[..., Path]) -> None:
    elements = ("float16", "float32", "float64", "int16", "int64", "uint32")
    for listed, element in product(LISTS.values(), elements):
        rows = np.array(ROWS).astype(element)
        array = pa.array(list(rows), type=listed(getattr(pa, element)()))
        with open_vectors(save({"embedding": array})) as source:
            assert (source.dim, source.rows, source.packed, source.has_ids) == (2, 4, False, False)
            got = vectors_of(source, 3)
            assert got.dtype == np.float32
            assert np.array_equal(got, ROWS)
            assert np.array_equal(source.take(np.array([0, 2, 3])), np.array(ROWS)[[0, 2, 3]])
            assert next(source.batches()).ids is None


def test_slices_keep_rows_beside_their_ids(save: Callable[..., Path]) -> None:
    for listed in LISTS.values():
        rows = [[i, i + 0.5] for i in range(20)]
        vectors = pa.array(rows, type=listed(pa.float32())).slice(5, 7)
        ids = pa.array([f"id-{i}" for i in range(20)]).slice(5, 7)
        with open_vectors(save({"embedding": vectors, "id": ids})) as source:
            for max_rows in (1, 2, 3, 100):
                assert np.array_equal(vectors_of(source, max_rows), rows[5:12])
                assert ids_of(source, max_rows) == [f"id-{i}" for i in range(5, 12)]
            starts = [batch.start for batch in source.batches(2)]
            assert starts == sorted(set(starts))


def test_chunks(save: Callable[..., Path]) -> None:
    for listed in LISTS.values():
        chunk_type = listed(pa.float16())
        halves = [np.array(row, dtype=np.float16) for row in ROWS]
        chunks = [
            pa.array(part, type=chunk_type) for part in ([], halves[:1], halves[1:4], [], halves)
        ]
        vectors = pa.chunked_array(chunks)
        assert np.array_equal(
            vectors_of(open_vectors(save({"v": vectors})), 3), [*ROWS[:1], *ROWS[1:], *ROWS]
        )


def test_nulls(save: Callable[..., Path]) -> None:
    cases = ((None, "row is null.*row 3"), ([None, 1.0], "element is null.*row 3 dim 0"))
    for listed, (bad, message) in product(LISTS.values(), cases):
        vectors = pa.array([*ROWS[:3], bad, ROWS[3]], type=listed(pa.float32()))
        with open_vectors(save({"v": vectors})) as source:
            with pytest.raises(InputError, match=message):
                vectors_of(source)
            with pytest.raises(InputError, match=message):
                vectors_of(source, 1)
            with pytest.raises(InputError, match=message):
                source.take(np.array([3]))


def test_null_first_row(save: Callable[..., Path]) -> None:
    for listed in LISTS.values():
        path = save({"v": pa.array([None, *ROWS], type=listed(pa.float32()))})
        with pytest.raises(InputError, match=r"row is null.*row 0"):
            vectors_of(open_vectors(path))


def test_ragged(save: Callable[..., Path]) -> None:
    for kind, bad in product(("list", "large"), ([1.0], [1.0, 2.0, 3.0], [])):
        vectors = pa.array([*ROWS, bad], type=LISTS[kind](pa.float32()))
        with pytest.raises(InputError, match=rf"row 4: expected 2 numbers, got {len(bad)}"):
            vectors_of(open_vectors(save({"v": vectors})))


def test_ragged_rows_whose_elements_would_fit_are_found(save: Callable[..., Path]) -> None:
    for kind in ("list", "large"):
        vectors = pa.array([[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]], type=LISTS[kind](pa.float32()))
        with pytest.raises(InputError, match="row 1"):
            vectors_of(open_vectors(save({"v": vectors})))


def test_not_finite(save: Callable[..., Path]) -> None:
    for listed in LISTS.values():
        vectors = pa.array([*ROWS, [1.0, float("nan")]], type=listed(pa.float64()))
        with pytest.raises(InputError, match=r"v\.data row 4 dim 1"):
            vectors_of(open_vectors(save({"v": vectors})), 2)


def test_zero_rows(save: Callable[..., Path]) -> None:
    for kind, listed in LISTS.items():
        vectors = pa.array([], type=listed(pa.float32()))
        with open_vectors(save({"v": vectors, "id": pa.array([], pa.string())})) as source:
            assert source.dim == (2 if kind == "fixed" else None)
            assert (source.rows, list(source.batches())) == (0, [])


def test_dim_zero(save: Callable[..., Path]) -> None:
    for kind, listed in LISTS.items():
        nothing = pa.list_(pa.float32(), 0) if kind == "fixed" else listed(pa.float32())
        with pytest.raises(InputError, match="dimension"):
            open_vectors(save({"v": pa.array([[], []], type=nothing)}))


def test_empty_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    table = pa.table({"v": pa.array(ROWS, type=pa.list_(pa.float32(), 2))})
    with pq.ParquetWriter(path, table.schema) as writer:
        for part in (table.slice(0, 0), table.slice(0, 1), table.slice(1, 0), table.slice(1)):
            writer.write_table(part)
    with open_vectors(path) as source:
        assert np.array_equal(vectors_of(source), ROWS)
        assert np.array_equal(source.take(np.array([1, 3])), np.array(ROWS)[[1, 3]])


@pytest.mark.parametrize("views", [pa.list_view, pa.large_list_view])
def test_list_views_in_any_order(tmp_path: Path, views: Callable[..., pa.DataType]) -> None:
    path = tmp_path / "v.arrow"
    large = views is pa.large_list_view
    integers = pa.int64() if large else pa.int32()
    build = pa.LargeListViewArray if large else pa.ListViewArray
    vectors = build.from_arrays(
        pa.array([4, 0, 2], integers),
        pa.array([2, 2, 2], integers),
        pa.array([1, 2, 3, 4, 5, 6], pa.float32()),
    )
    write_arrow(path, pa.table({"v": vectors}))
    assert np.array_equal(vectors_of(open_vectors(path)), [[5, 6], [1, 2], [3, 4]])


def test_one_dimensional_tensors(tmp_path: Path) -> None:
    path = tmp_path / "v.arrow"
    vectors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [2]), pa.array(ROWS, pa.list_(pa.float32(), 2))
    )
    write_arrow(path, pa.table({"v": vectors}))
    assert np.array_equal(vectors_of(open_vectors(path)), ROWS)


class TestTake:
    def test_any_rows_of_any_row_groups(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((500, 3)).astype(np.float32)
        path = tmp_path / "v.parquet"
        vectors = pa.array(list(rows), type=pa.list_(pa.float32(), 3))
        pq.write_table(pa.table({"v": vectors}), path, row_group_size=37)
        with open_vectors(path) as source:
            for _ in range(20):
                wanted = np.sort(rng.choice(500, rng.integers(0, 60), replace=False))
                assert np.array_equal(source.take(wanted), rows[wanted])
            with pytest.raises(InputError, match="no such row"):
                source.take(np.array([500]))

    def test_only_touched_row_groups_are_decoded_and_twice_at_most(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "v.parquet"
        vectors = pa.array([[float(i)] for i in range(40)], type=pa.list_(pa.float32(), 1))
        pq.write_table(pa.table({"v": vectors}), path, row_group_size=10)
        touched: list[Any] = []
        original = pq.ParquetFile.iter_batches

        def spy(self: Any, rows: int, groups: list[int], *rest: Any, **options: Any) -> Any:
            touched.extend(groups)
            return original(self, rows, groups, *rest, **options)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
        with open_vectors(path) as source:
            touched.clear()
            assert source.take(np.array([3, 35])).ravel().tolist() == [3, 35]
            assert touched == [0, 3]
            for _ in range(3):
                assert source.take(np.array([4, 12, 39])).ravel().tolist() == [4, 12, 39]
            # The second time a group is decoded to its end and kept.
            assert touched == [0, 3, 0, 1, 3, 1]

    def test_a_bad_row_that_nobody_asks_for_does_not_matter(self, tmp_path: Path) -> None:
        path = tmp_path / "v.parquet"
        rows = np.arange(200_000, dtype=np.float32).reshape(-1, 1)
        rows[-1] = np.nan
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 1)
        pq.write_table(pa.table({"v": vectors}), path)
        with open_vectors(path) as source:
            for _ in range(3):
                assert source.take(np.array([3, 5])).ravel().tolist() == [3, 5]
            with pytest.raises(InputError, match="row 199999 dim 0"):
                source.take(np.array([199_999]))
