from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from binq.errors import EnvironmentFailure, InputError
from binq.vectors import Batch, open_vectors
from binq.vectors.source import BATCH_BYTES, VectorSource

VECTORS = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)


def rows_of(source: VectorSource, max_rows: int | None = None) -> np.ndarray:
    return np.concatenate([batch.vectors for batch in source.batches(max_rows)])


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("utf-8" if version == 3 else "latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_order_and_byte_order(
    tmp_path: Path, dtype: str, order: str, version: tuple[int, int]
) -> None:
    stored = np.asarray(VECTORS.astype(dtype), order=order)  # type: ignore[call-overload]
    path = tmp_path / "v.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, stored, version=version)
    with open_vectors(path) as source:
        assert (source.dim, source.rows, source.packed, source.has_ids) == (7, 50, False, False)
        batches = list(source.batches(20))
        assert [(b.start, len(b.vectors), b.ids) for b in batches] == [
            (0, 20, None),
            (20, 20, None),
            (40, 10, None),
        ]
        assert all(b.vectors.dtype == np.float32 and b.vectors.flags.c_contiguous for b in batches)
        assert np.array_equal(rows_of(source), stored.astype(np.float32))
        rows = np.array([0, 3, 49])
        assert np.array_equal(source.take(rows), stored.astype(np.float32)[rows])


def test_float32_is_mapped_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, VECTORS)
    (batch,) = open_vectors(path).batches()
    assert not batch.vectors.flags.owndata
    assert not batch.vectors.flags.writeable
    assert type(batch.vectors) is np.ndarray


def test_batches_are_bounded_in_bytes() -> None:
    wide = np.zeros((640, 1 << 16), dtype=np.float32)
    sizes = [batch.vectors.nbytes for batch in open_vectors(wide).batches()]
    assert max(sizes) <= BATCH_BYTES
    assert sum(sizes) == wide.nbytes


def test_no_rows_of_a_known_dim(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.zeros((0, 5), dtype=np.float32))
    with open_vectors(path) as source:
        assert (source.dim, source.rows, list(source.batches())) == (5, 0, [])
        assert source.take(np.array([], dtype=np.int64)).shape == (0, 5)
        assert source.describe()[0]["rows"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data + b"\0", "bytes after its data"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:9], "damaged"),
        (lambda data: data[:6] + b"\x04" + data[7:], "version"),
        (lambda data: data.replace(b"descr", b"descx"), "damaged"),
        (lambda data: data.replace(b"(50, 7)", b"(-1, 7)"), "damaged"),
        (lambda data: data.replace(b"(50, 7)", b"(50,'a"), "damaged"),
        (lambda data: data.replace(b"False", b"3    "), "damaged"),
        (lambda data: data.replace(b"<f4", b"<q9"), "damaged"),
        (lambda data: data.replace(b"<f4", b"|O4"), "wrong type|damaged"),
    ],
)
def test_damage_is_refused(tmp_path: Path, change: object, message: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, VECTORS)
    path = tmp_path / "v.npy"
    path.write_bytes(change(buffer.getvalue()))  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as caught:
        open_vectors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1000000000000000000)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2147483647)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 65537)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1)}",
        "{'descr': 'f4,f4', 'fortran_order': False, 'shape': (0, 1)}",
        "(" * 4000,
        "",
        "__import__('os')",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 3}",
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(npy(header))
    with pytest.raises(InputError):
        open_vectors(path)


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1))
    with pytest.raises(InputError, match="damaged"):
        open_vectors(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="wrong type"):
        open_vectors(path)


@pytest.mark.parametrize("shape", [(4,), (), (2, 2, 2)])
def test_only_two_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.zeros(shape, dtype=np.float32))
    with pytest.raises(InputError, match="expected 2-D"):
        open_vectors(path)


def test_vectors_of_dim_zero_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.zeros((3, 0), dtype=np.float32))
    with pytest.raises(InputError, match="dimension"):
        open_vectors(path)


def test_columns_mean_nothing_here(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, VECTORS)
    with pytest.raises(InputError, match="no columns"):
        open_vectors(path, column="embedding")


@pytest.mark.parametrize("rows", [[50], [-1, 2]])
def test_rows_that_are_not_there(rows: list[int]) -> None:
    with pytest.raises(InputError, match="no such row"):
        open_vectors(VECTORS).take(np.array(rows))


class TestStream:
    @staticmethod
    def open(data: bytes, **options: Any) -> VectorSource:
        return open_vectors("-", stdin=io.BytesIO(data), **options)

    @staticmethod
    def saved(array: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    def test_rows_and_batches(self) -> None:
        source = self.open(self.saved(VECTORS.astype(np.float16)))
        assert (source.dim, source.rows, source.rewindable, source.name) == (7, 50, False, "stdin")
        assert [b.start for b in source.batches(30)] == [0, 30]
        with pytest.raises(InputError, match="only once"):
            list(source.batches())
        source = self.open(self.saved(VECTORS))
        assert np.array_equal(rows_of(source, 30), VECTORS)
        assert source.describe()[0]["rows"] == 50
        with pytest.raises(InputError, match="stream"):
            source.take(np.array([0]))

    def test_packed(self) -> None:
        stored = np.packbits(VECTORS > 0, axis=1)
        source = self.open(self.saved(stored), packed="ubinary", bits=7)
        (batch,) = source.batches()
        assert isinstance(batch, Batch)
        assert np.array_equal(batch.vectors[:, 0] & 1, VECTORS[:, 0] > 0)

    def test_fortran_order_is_refused(self) -> None:
        with pytest.raises(InputError, match="Fortran"):
            self.open(self.saved(np.asfortranarray(VECTORS)))

    def test_truncated_and_trailing(self) -> None:
        with pytest.raises(InputError, match=r"truncated.*row 49"):
            rows_of(self.open(self.saved(VECTORS)[:-1]))
        with pytest.raises(InputError, match="after its data"):
            rows_of(self.open(self.saved(VECTORS) + b"x"))

    def test_not_finite_names_the_row(self) -> None:
        vectors = VECTORS.copy()
        vectors[33, 2] = np.nan
        with pytest.raises(InputError, match="stdin row 33 dim 2"):
            rows_of(self.open(self.saved(vectors)), 10)


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.npy"
    np.save(path, VECTORS)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(EnvironmentFailure, match="permission denied"):
        open_vectors(path)


def test_a_file_that_is_written_over_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "v.npy", tmp_path / "other.npy"
    old, new = np.ones((5, 3), np.float32), np.full((5, 3), 2, np.float32)

    def put(place: Path, rows: np.ndarray, when: int) -> None:
        np.save(place, rows)
        os.utime(place, ns=(when, when))

    for read in (
        lambda source: source.take(np.array([1])),
        lambda source: [batch.vectors for batch in source.read()],
    ):
        put(path, old, 1)
        source = open_vectors(path)
        assert np.array_equal(source.take(np.array([0])), old[:1])
        put(other, new, 2)
        os.replace(other, path)  # the old file is whole, for who has it
        assert np.array_equal(source.take(np.array([0])), old[:1])
        source = open_vectors(path)
        source.take(np.array([0]))
        put(path, old, 3)
        with pytest.raises(InputError, match="changed while it was read"):
            read(source)
