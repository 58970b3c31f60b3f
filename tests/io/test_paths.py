"""Paths, globs, directories, and what a file is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.io.paths import detect, expand, natural_key
from binq.vectors import open_vectors


def save(folder: Path, name: str, value: float = 0, rows: int = 2) -> Path:
    path = folder / name
    with path.open("wb") as file:
        np.save(file, np.full((rows, 3), value, dtype=np.float32))
    return path


def firsts(paths: object) -> list[float]:
    with open_vectors(paths) as source:  # type: ignore[arg-type]
        return [row[0] for batch in source.batches() for row in batch.vectors.tolist()]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for i in (10, 2, 1):
        save(folder, f"shard-{i}.npy", i, 1)
    return folder


def test_shards_are_sorted_by_number(shards: Path) -> None:
    assert firsts(shards) == [1, 2, 10]
    assert firsts(str(shards / "shard-*.npy")) == [1, 2, 10]
    assert firsts(str(shards / "shard-[12].npy")) == [1, 2]
    assert firsts(str(shards.parent / "**" / "*.npy")) == [1, 2, 10]
    assert firsts(str(shards.parent / "sh*")) == [1, 2, 10]


def test_explicit_paths_keep_their_order(shards: Path) -> None:
    paths = [shards / "shard-10.npy", str(shards / "shard-1.npy")]
    assert firsts(paths) == [10, 1]
    assert firsts([*paths, shards]) == [10, 1, 1, 2, 10]


def test_natural_key() -> None:
    names = ["a10b", "a2b", "b1", "a", "10", "9", "a2"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a2", "a2b", "a10b", "b1"]


def test_an_existing_path_is_no_glob(tmp_path: Path) -> None:
    save(tmp_path, "v1.npy", 1)
    literal = save(tmp_path, "v[1].npy", 7)
    assert expand([str(literal)]) == [str(literal)]
    assert firsts(literal) == [7, 7]


def test_a_directory_gives_its_vector_files_only(shards: Path) -> None:
    for name in (".hidden.npy", "_SUCCESS", "_part.npy"):
        save(shards, name, 99)
    (shards / "README.md").write_text("[not vectors]")
    (shards / "config.json").write_text("{}")
    (shards / "inner.npy").mkdir()
    save(shards, "shard-3", 3, 1)
    assert firsts(shards) == [1, 2, 3, 10]


@pytest.mark.parametrize("name", ["missing.npy", "missing/v.npy", "*.npy", "v.npy/x"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    if name == "v.npy/x":
        save(tmp_path, "v.npy")
    with pytest.raises(InputError, match=r"no (such )?file"):
        open_vectors(str(tmp_path / name))


def test_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "v.npy").symlink_to(tmp_path / "gone.npy")
    with pytest.raises(InputError, match="no such file"):
        open_vectors(tmp_path / "v.npy")


def test_a_directory_without_vectors(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no vector files"):
        open_vectors(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_permission_denied(tmp_path: Path) -> None:
    path = save(tmp_path, "v.npy")
    path.chmod(0)
    with pytest.raises(EnvironmentFailure):
        open_vectors(path)


def test_no_paths() -> None:
    with pytest.raises(UsageError):
        open_vectors([])


def test_standard_input_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_vectors(["-", str(save(tmp_path, "v.npy"))])


def test_content_goes_before_suffix(tmp_path: Path) -> None:
    npy = save(tmp_path, "v.parquet", 5)
    assert detect(str(npy)) == "npy"
    assert firsts(npy) == [5, 5]
    lines = tmp_path / "v.npy"
    lines.write_text("\n  [6, 1]\n")
    assert detect(str(lines)) == "jsonl"
    assert firsts(lines) == [6]
    table = pa.table({"v": pa.array([[8.0]], pa.list_(pa.float32(), 1))})
    pq.write_table(table, tmp_path / "v.fvecs")
    assert detect(str(tmp_path / "v.fvecs")) == "parquet"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("v.npy", b"", "empty"),
        ("v.csv", b"1,2,3\n", "binq reads no csv"),
        ("v.text", b"1,2,3\n", "not a format"),
        ("v.gz", b"\x1f\x8b\x08\0", "compressed"),
        ("v.feather", b"FEA1\0\0\0\0", "not a format"),
        ("v.parquet", b"PAR1", "damaged"),
        ("v.parquet", b"PAR1" + bytes(100) + b"PAR1", "damaged"),
        ("v.arrow", b"ARROW1\0\0", "damaged"),
        ("v.arrows", b"\xff\xff\xff\xff\x10\0\0\0abc", "damaged"),
    ],
)
def test_other_files(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_vectors(path)
