"""Several files as one source, fingerprints, and what loading the package costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from binq.errors import InputError
from binq.vectors import open_vectors

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def parquet(path: Path, rows: np.ndarray, *, ids: bool = True, **metadata: str) -> Path:
    columns = {"v": pa.array(list(rows), pa.list_(pa.float32(), rows.shape[1]))}
    if ids:
        columns["id"] = pa.array([f"id-{int(row[0])}" for row in rows], pa.string())
    keyed = {f"binq.{key}": value for key, value in metadata.items()}
    pq.write_table(pa.table(columns, metadata=keyed), path, row_group_size=4)
    return path


def npy(path: Path, rows: np.ndarray) -> Path:
    np.save(path, rows)
    return path


def jsonl(path: Path, rows: np.ndarray) -> Path:
    path.write_text("".join(f"{row.tolist()}\n" for row in rows))
    return path


def test_shards_read_as_one(tmp_path: Path) -> None:
    paths = [
        parquet(tmp_path / "0.parquet", ROWS[:5]),
        parquet(tmp_path / "1.parquet", ROWS[5:5]),
        parquet(tmp_path / "2.parquet", ROWS[5:]),
    ]
    with open_vectors(paths) as source:
        assert (source.rows, source.dim, source.has_ids, source.rewindable) == (20, 3, True, True)
        for _ in range(2):
            batches = list(source.batches(4))
            assert np.array_equal(np.concatenate([b.vectors for b in batches]), ROWS)
            assert [i for b in batches for i in b.ids or []] == [f"id-{3 * i}" for i in range(20)]
            assert [b.start for b in batches] == np.cumsum(
                [0, *(len(b.vectors) for b in batches[:-1])]
            ).tolist()
        wanted = np.array([0, 4, 5, 19])
        assert np.array_equal(source.take(wanted), ROWS[wanted])
        assert source.locate(4) == f"{paths[0]} row 4"
        assert source.locate(5) == f"{paths[2]} row 0"
        assert [entry["rows"] for entry in source.describe()] == [5, 0, 15]


def test_formats_mix_and_unknown_counts_become_known(tmp_path: Path) -> None:
    paths = [
        npy(tmp_path / "0.npy", ROWS[:5]),
        jsonl(tmp_path / "1.jsonl", ROWS[5:9]),
        jsonl(tmp_path / "2.jsonl", ROWS[9:9]),
        npy(tmp_path / "3.npy", ROWS[9:]),
    ]
    with open_vectors(paths) as source:
        assert (source.rows, source.dim, source.has_ids) == (None, 3, False)
        wanted = np.array([1, 6, 8, 9, 19])
        assert np.array_equal(source.take(wanted), ROWS[wanted])
        for _ in range(2):
            got = np.concatenate([batch.vectors for batch in source.batches(3)])
            assert np.array_equal(got, ROWS)
        assert source.rows == 20
        assert source.locate(6) == f"{paths[1]} row 1 line 2"
        assert source.locate(9) == f"{paths[3]} row 0"
        assert np.array_equal(source.take(wanted), ROWS[wanted])
        with pytest.raises(InputError, match="no such row"):
            source.take(np.array([20]))


def test_errors_name_the_row_inside_its_own_file(tmp_path: Path) -> None:
    bad = ROWS[:4].copy()
    bad[2, 1] = np.nan
    paths = [npy(tmp_path / "0.npy", ROWS), npy(tmp_path / "1.npy", bad)]
    with pytest.raises(InputError, match=r"1\.npy row 2 dim 1"):
        list(open_vectors(paths).batches())


def test_dims_have_to_agree(tmp_path: Path) -> None:
    paths = [npy(tmp_path / "0.npy", ROWS), npy(tmp_path / "1.npy", ROWS[:, :2])]
    with pytest.raises(InputError, match=r"1\.npy: expected dim 3, got dim 2"):
        open_vectors(paths)


def test_ids_have_to_agree(tmp_path: Path) -> None:
    paths = [
        parquet(tmp_path / "0.parquet", ROWS),
        parquet(tmp_path / "1.parquet", ROWS, ids=False),
    ]
    with pytest.raises(InputError, match=r"1\.parquet: expected ids, got no ids"):
        open_vectors(paths)


def test_packedness_and_metadata_have_to_agree(tmp_path: Path) -> None:
    stored = pa.table({"v": pa.array([b"abc"], pa.binary(3))})
    pq.write_table(stored, tmp_path / "codes.parquet")
    floats = parquet(tmp_path / "0.parquet", ROWS, ids=False, model="one", extra="x")
    with pytest.raises(InputError, match="disagree in what they hold"):
        open_vectors([floats, tmp_path / "codes.parquet"])
    other = parquet(tmp_path / "1.parquet", ROWS, ids=False, model="two")
    with pytest.raises(InputError, match=r"metadata binq\.model"):
        open_vectors([floats, other])
    same = parquet(tmp_path / "2.parquet", ROWS, ids=False, model="one")
    assert open_vectors([floats, same]).metadata == {"binq.model": "one"}


def test_fingerprints_follow_their_definition(tmp_path: Path) -> None:
    small = npy(tmp_path / "small.npy", ROWS)
    data = small.read_bytes()
    expected = xxhash.xxh3_128(len(data).to_bytes(8, "little") + data).hexdigest()
    assert open_vectors(small).describe() == [{"rows": 20, "fingerprint": expected}]
    large = npy(tmp_path / "large.npy", np.random.default_rng(0).standard_normal((9000, 50)))
    data = large.read_bytes()
    size = len(data)
    state = xxhash.xxh3_128(size.to_bytes(8, "little"))
    for piece in range(16):
        start = piece * (size - 65536) // 15
        state.update(data[start : start + 65536])
    assert open_vectors(large).describe()[0]["fingerprint"] == state.hexdigest()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [0, 10, 9000])
def test_arrays_have_the_fingerprint_of_their_rows(rows: int, order: str) -> None:
    array = np.random.default_rng(0).standard_normal((rows, 50))
    data = array.tobytes()
    size = len(data)
    starts = [0] if size <= 1 << 20 else [i * (size - 65536) // 15 for i in range(16)]
    length = size if size <= 1 << 20 else 65536
    state = xxhash.xxh3_128(size.to_bytes(8, "little"))
    for start in starts:
        state.update(data[start : start + length])
    source = open_vectors(np.asarray(array, order=order))  # type: ignore[call-overload]
    assert source.describe()[0]["fingerprint"] == state.hexdigest()


def test_many_shards_do_not_hold_many_files(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    paths = [npy(tmp_path / f"{i}.npy", ROWS[i % 20 : i % 20 + 1]) for i in range(300)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What other tests of this process hold open counts too.
    held = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 150, limits[1]))
    try:
        with open_vectors(paths) as source:
            assert sum(len(batch.vectors) for batch in source.batches()) == 300
            assert len(source.take(np.arange(300))) == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_pyarrow_is_loaded_for_parquet_only(tmp_path: Path) -> None:
    path = npy(tmp_path / "v.npy", ROWS)
    code = (
        "import sys; from binq.vectors import open_vectors;"
        f"list(open_vectors({str(path)!r}).batches());"
        "sys.exit(any(name in sys.modules for name in ('pyarrow', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
