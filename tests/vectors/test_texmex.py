from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from binq.bits import unpack
from binq.errors import InputError
from binq.vectors import open_vectors

FLOATS = np.random.default_rng(0).standard_normal((9, 5)).astype("<f4")
OCTETS = np.random.default_rng(1).integers(0, 256, (9, 5)).astype(np.uint8)


def prefixed(rows: np.ndarray) -> bytes:
    return b"".join(np.int32(len(row)).astype("<i4").tobytes() + row.tobytes() for row in rows)


def headed(rows: np.ndarray) -> bytes:
    return np.array(rows.shape, dtype="<u4").tobytes() + rows.tobytes()


FILES: dict[str, tuple[bytes, np.ndarray]] = {
    "fvecs": (prefixed(FLOATS), FLOATS),
    "bvecs": (prefixed(OCTETS), OCTETS),
    "fbin": (headed(FLOATS), FLOATS),
    "u8bin": (headed(OCTETS), OCTETS),
}


def write(folder: Path, kind: str, data: bytes) -> Path:
    path = folder / f"v.{kind}"
    path.write_bytes(data)
    return path


def rows_of(source: Any, max_rows: int | None = None) -> np.ndarray:
    return np.concatenate([batch.vectors for batch in source.batches(max_rows)])


def test_through_a_pipe_they_are_refused_as_what_they_are() -> None:
    many = np.array([100_000, 5], "<u4").tobytes()
    for data in (*(data for data, _ in FILES.values()), many):
        with pytest.raises(InputError, match=r"jsonl or npy, got binary.*by its path"):
            open_vectors("-", stdin=io.BytesIO(data), on_error="skip")
    with open_vectors("-", stdin=io.BytesIO(b"[1, 2]\n\0\0\n[3, 4]\n"), on_error="skip") as lines:
        [batch] = lines.batches()
    assert batch.vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("kind", FILES)
def test_rows(tmp_path: Path, kind: str) -> None:
    data, rows = FILES[kind]
    with open_vectors(write(tmp_path, kind, data)) as source:
        assert (source.dim, source.rows, source.packed) == (5, 9, False)
        got = rows_of(source, 4)
        assert got.dtype == np.float32
        assert np.array_equal(got, rows)
        assert np.array_equal(source.take(np.array([1, 8])), rows[[1, 8]])
        assert all(batch.vectors.flags.c_contiguous for batch in source.batches())


@pytest.mark.parametrize("kind", ["bvecs", "u8bin"])
def test_packed(tmp_path: Path, kind: str) -> None:
    data, rows = FILES[kind]
    source = open_vectors(write(tmp_path, kind, data), packed="ubinary")
    assert source.dim == 40
    assert np.array_equal(unpack(rows_of(source), 40), np.unpackbits(rows, axis=1))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("cut", [-1, 1, 7])
def test_wrong_length(tmp_path: Path, kind: str, cut: int) -> None:
    data, _ = FILES[kind]
    data = data[:-1] if cut < 0 else data + bytes(cut)
    with pytest.raises(InputError, match=rf"v\.{kind}"):
        open_vectors(write(tmp_path, kind, data))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("size", [1, 3])
def test_shorter_than_a_header(tmp_path: Path, kind: str, size: int) -> None:
    with pytest.raises(InputError):
        open_vectors(write(tmp_path, kind, b"\x01\0\0"[:size]))


@pytest.mark.parametrize("kind", ["fvecs", "bvecs"])
def test_every_dim_is_checked(tmp_path: Path, kind: str) -> None:
    data, rows = FILES[kind]
    damaged = bytearray(data)
    damaged[6 * (len(data) // len(rows))] = 4
    source = open_vectors(write(tmp_path, kind, bytes(damaged)))
    with pytest.raises(InputError, match="row 6: expected dim 5, got dim 4"):
        list(source.batches(4))
    with pytest.raises(InputError, match="row 6"):
        source.take(np.array([2, 6]))


@pytest.mark.parametrize("kind", ["fvecs", "bvecs"])
@pytest.mark.parametrize("dim", [0, -1, 2**31 - 1])
def test_impossible_dims(tmp_path: Path, kind: str, dim: int) -> None:
    data = np.array([dim, 0, 0], dtype="<i4").tobytes()
    with pytest.raises(InputError):
        open_vectors(write(tmp_path, kind, data))


@pytest.mark.parametrize("kind", ["fbin", "u8bin"])
@pytest.mark.parametrize("shape", [(3, 0), (2**32 - 1, 2**32 - 1), (0, 2**31 - 1)])
def test_impossible_shapes(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        open_vectors(write(tmp_path, kind, np.array(shape, dtype="<u4").tobytes()))


def test_no_rows(tmp_path: Path) -> None:
    with open_vectors(write(tmp_path, "fvecs", b"")) as source:
        assert (source.dim, source.rows, list(source.batches())) == (None, 0, [])
        assert source.describe()[0]["rows"] == 0
    with open_vectors(write(tmp_path, "fbin", headed(FLOATS[:0]))) as source:
        assert (source.dim, source.rows, list(source.batches())) == (5, 0, [])


def test_a_dim_that_looks_like_json(tmp_path: Path) -> None:
    rows = np.ones((2, ord("{")), dtype="<f4")
    source = open_vectors(write(tmp_path, "fvecs", prefixed(rows)))
    assert source.dim == 123
    assert np.array_equal(rows_of(source), rows)


def test_not_finite(tmp_path: Path) -> None:
    rows = FLOATS.copy()
    rows[7, 4] = np.inf
    with pytest.raises(InputError, match=r"v\.fvecs row 7 dim 4"):
        rows_of(open_vectors(write(tmp_path, "fvecs", prefixed(rows))), 3)


def test_floats_are_not_packed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not packed bits"):
        open_vectors(write(tmp_path, "fvecs", FILES["fvecs"][0]), packed="lsb")
