"""Damaged Parquet and Arrow files, and bounded memory over whole ones."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from columnar_files import ROWS, ids_of, vectors_of, write_arrow

from binq.errors import InputError
from binq.vectors import open_vectors


class TestDamage:
    """Whatever stands in a file, binq answers with its own exception or with rows."""

    @staticmethod
    def read(path: Path) -> None:
        with open_vectors(path) as source:
            for batch in source.batches():
                assert len(batch.vectors) == len(batch.ids or [])

    def test_truncated(self, save: Callable[..., Path]) -> None:
        rows = list(np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
        path = save({"v": pa.array(rows, pa.list_(pa.float32(), 8)), "id": [*map(str, range(40))]})
        whole = path.read_bytes()
        for size in range(4, len(whole), 97):
            path.write_bytes(whole[:size])
            try:
                self.read(path)
            except InputError as error:
                assert "v.data" in str(error)  # noqa: PT017

    def test_overwritten(self, save: Callable[..., Path]) -> None:
        rows = list(np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
        path = save({"v": pa.array(rows, pa.list_(pa.float32())), "id": [*map(str, range(40))]})
        whole = path.read_bytes()
        chance = random.Random(0)
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(8, len(whole))] = chance.randrange(256)
            path.write_bytes(bytes(damaged))
            with contextlib.suppress(InputError):
                self.read(path)

    def test_a_dictionary_index_out_of_bounds(self, tmp_path: Path) -> None:
        path = tmp_path / "v.arrow"
        ids = pa.DictionaryArray.from_arrays(
            pa.array([0, 9], pa.int32()), pa.array(["a", "b"]), safe=False
        )
        write_arrow(path, pa.table({"v": pa.array(ROWS[:2], pa.list_(pa.float32())), "id": ids}))
        with pytest.raises(InputError, match="damaged"):
            ids_of(open_vectors(path))

    def test_a_column_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "v.arrow"
        write_arrow(path, pa.table({"vvvv": pa.array(ROWS, pa.list_(pa.float32()))}))
        path.write_bytes(path.read_bytes().replace(b"vvvv", b"vv\xffv"))
        with pytest.raises(InputError, match="damaged"):
            open_vectors(path)

    def test_page_checksums_are_verified(self, tmp_path: Path) -> None:
        path = tmp_path / "v.parquet"
        vectors = pa.array([[1.0, 2.0]] * 100, pa.list_(pa.float64(), 2))
        pq.write_table(
            pa.table({"v": vectors}),
            path,
            compression="none",
            use_dictionary=False,
            write_page_checksum=True,
        )
        data = path.read_bytes()
        at = data.index(np.array([1.0, 2.0, 1.0, 2.0]).tobytes())
        path.write_bytes(data[: at + 1] + b"\x01" + data[at + 2 :])
        with pytest.raises(InputError, match="damaged"):
            vectors_of(open_vectors(path))


@pytest.mark.slow
def test_memory_stays_bounded_within_one_row_group(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc")

    def anonymous() -> int:
        line = next(line for line in status.read_text().splitlines() if "RssAnon" in line)
        return int(line.split()[1]) << 10

    dim, part = 768, 20_000
    schema = pa.schema({"v": pa.list_(pa.float32(), dim)})
    path = tmp_path / "v.parquet"
    values = np.random.default_rng(0).standard_normal(part * dim).astype(np.float32)
    table = pa.table(
        {"v": pa.chunked_array([pa.FixedSizeListArray.from_arrays(pa.array(values), dim)] * 5)},
        schema=schema,
    )
    pq.write_table(table, path, row_group_size=5 * part, use_dictionary=False)
    del table, values
    before = anonymous()
    peak = 0
    with open_vectors(path) as source:
        for _ in source.batches():
            peak = max(peak, anonymous() - before)
    # The row group is 307 MB.
    assert peak < 200 << 20
