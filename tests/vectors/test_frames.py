"""Tables in which each dimension is a column: one line says how to make one column of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from corpora import gaussian

import binq
from binq.errors import InputError, UsageError
from binq.vectors import open_vectors

NAMES = ["k3", "k1", "k2"]


def wide(dims: int, **others: list[Any]) -> pa.Table:
    return pa.table(others | {f"d{i}": gaussian(3, dims)[:, i] for i in range(dims)})


def write_csv(table: pa.Table, path: Path) -> None:
    options = pyarrow.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
    pyarrow.csv.write_csv(table, path, options)


@pytest.mark.parametrize(
    ("name", "write"),
    [("w.parquet", pq.write_table), ("w.csv", write_csv), ("it's.tsv", write_csv)],
)
def test_every_dimension_a_column(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Callable[[pa.Table, Path], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    for others in ({}, {"id": NAMES, "text": NAMES}, {"id": [3, 1, 2]}):
        write(wide(1024, **others), Path(name))
        with pytest.raises(InputError) as caught:
            open_vectors(name)
        message = str(caught.value)
        assert "got 1,024 columns of numbers, d0 to d1023; make one of them, in pandas: " in message
        assert "d2" not in message
        assert len(message) < 500
        try:
            import pandas
        except ImportError:
            continue
        exec(message.split("in pandas: ")[1], {"pandas": pandas})
        with open_vectors("vectors.parquet") as source:
            [batch] = source.batches()
        np.testing.assert_allclose(batch.vectors, gaussian(3, 1024), rtol=1e-5)
        assert batch.ids == (None if not others else list(map(str, others["id"])))


def test_csv_without_a_header(tmp_path: Path) -> None:
    """Whose first line pandas would take for names, and a vector be lost."""
    path = tmp_path / "w.csv"
    for line, told in (
        (",".join(f"{value:.18e}" for value in gaussian(1, 16)[0]), True),
        ("a," + ",".join(str(value) for value in gaussian(1, 16)[0]), True),
        (",".join(str(value) for value in [3, 0, 255, 7, 7, 1, 0, 9] * 2), True),
        (",".join(str(value) for value in range(16)), False),  # as pandas names columns itself
        ("id," + ",".join(str(value) for value in range(16)), False),
        (",".join(f"d{value}" for value in range(16)), False),
    ):
        numbers = ",".join(str(value) for value in gaussian(1, 16, seed=1)[0])
        path.write_text(f"{line}\n{'b,' * (line[0] in 'ai')}{numbers}\n")
        with pytest.raises(InputError, match="got 16 columns of numbers") as caught:
            open_vectors(path)
        assert ("w.csv', header=None); df" in str(caught.value)) is told, line


def test_other_tables_without_vectors(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({f"c{i}": ["x"] for i in range(500)}), path)
    with pytest.raises(InputError, match=r"no column holds vectors.*c15 \(string\), 484 more"):
        open_vectors(path)
    (tmp_path / "t.csv").write_text("id,text\n1,hello\n")
    for text in ("id,text\n1,hello\n", "id\n", "a,b\n"):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match="binq reads no csv"):
            open_vectors(tmp_path / "t.csv")


class DataFrame:
    """Looks like a frame of pandas or polars, as far as binq looks."""

    columns = ("id", "embedding")

    def __iter__(self) -> Any:
        return iter(self.columns)

    def __len__(self) -> int:
        return 2


def test_what_is_neither_a_path_nor_an_array(tmp_path: Path, index: Path) -> None:
    DataFrame.__module__ = "pandas.core.frame"
    frame: Any = DataFrame()
    out = tmp_path / "out"
    for call in (
        lambda given: binq.build(given, out),
        lambda given: binq.binarize(given, out.with_suffix(".npy")),
        lambda given: list(binq.query(index, given)),
        lambda given: binq.evaluate(index, gaussian(2, 48), truth=given),
        lambda given: binq.evaluate(index, given, truth=gaussian(300, 48)),
        lambda given: binq.sweep(given),
        lambda given: binq.open(index).search(gaussian(2, 48), rescore_from=given),
    ):
        with pytest.raises(UsageError, match=r"got pandas.DataFrame; give numpy.stack\(df\["):
            call(frame)
        for given in ([[1.0, 2.0], [3.0, 4.0]], [gaussian(3, 4)], 7):
            with pytest.raises(UsageError, match=r"give numpy.stack\(vectors\)"):
                call(given)
    with pytest.raises(UsageError, match="texts cannot be taken from this"):
        binq.encode(frame, out.with_suffix(".parquet"))
    assert not list(tmp_path.glob("out*"))
