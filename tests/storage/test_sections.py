# ruff: noqa: PT012 (the block is what is tested: it fails while a file is being written)
"""What sections mean: row terms, stored vectors, tombstones. (Ids have a file of their own.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpora import gaussian
from forging import header_of

from binq import build
from binq.errors import InputError
from binq.storage.format import Header
from binq.storage.reader import IndexFile
from binq.storage.sections import (
    StoredVectorReader,
    VectorWriter,
    restore_binarizer,
    row_terms,
    write_tombstones,
)
from binq.storage.writer import writing_index

HEADER = {"metric": "ip", "binarizer": None, "created": "", "binq": "", "packed": "lsb"}


def test_rows_that_are_dead(tmp_path: Path) -> None:
    """A file with none of them says nothing, and stays 1.0."""
    drawn = np.random.default_rng(0)
    path = tmp_path / "i.binq"
    for rows in (0, 1, 63, 64, 65, 200):
        for share in (0.0, 0.3, 1.0):
            dead = drawn.random(rows) < share
            with writing_index(path) as writer:
                writer.add("codes", np.zeros((rows, 1), np.uint64))
                write_tombstones(writer, dead)
                writer.finish(Header(rows, 4, 4, 1, **HEADER))  # type: ignore[arg-type]
            file = IndexFile(path)
            assert file.verify() == []
            alive = file.alive()
            if not dead.any():
                assert alive is None
                assert file.version == "1.0"
                assert b"needs" not in path.read_bytes()
                continue
            assert file.version == "1.1"
            assert alive is not None
            assert (alive.dtype, len(alive)) == (np.uint64, -(-rows // 64))
            for row in range(64 * len(alive)):
                bit = int(alive[row // 64]) >> row % 64 & 1
                assert bit == (row < rows and not dead[row])


def test_row_terms(tmp_path: Path) -> None:
    """Half precision near 1, whole where it may be anything; a number that is none is zero."""
    path = tmp_path / "i.binq"
    vectors = gaussian(40, 24)
    for metric, names in (
        ("cosine", {"codes.factor": "float16"}),
        ("ip", {"codes.factor": "float32"}),
        ("l2", {"codes.factor": "float32", "codes.addend": "float32"}),
    ):
        build(vectors, path, method="mean", metric=metric, scoring="asymmetric")  # type: ignore[arg-type]
        file = IndexFile(path)
        found = {name: part.dtype for name, part in file.sections.items() if name[:6] == "codes."}
        assert found == names
        terms = row_terms(file, restore_binarizer(file))
        assert terms.factor is not None
        assert (terms.factor.dtype, terms.factor.shape) == (np.float32, (40,))
        squares = (vectors.astype(np.float64) ** 2).sum(axis=1)
        assert (terms.addend is None) == (metric != "l2")
        assert terms.addend is None or np.allclose(terms.addend, -squares)
    data = path.read_bytes()
    at = next(p["offset"] for p in header_of(data)["sections"] if p["name"] == "codes.factor")
    path.write_bytes(data[:at] + np.array([np.nan], "<f4").tobytes() + data[at + 4 :])
    file = IndexFile(path)
    again = row_terms(file, restore_binarizer(file)).factor
    assert again is not None
    assert again[0] == 0
    assert np.array_equal(again[1:], terms.factor[1:])


def test_row_terms_that_are_not_there(tmp_path: Path) -> None:
    build(gaussian(9, 24), tmp_path / "h.binq", metric="ip")
    file = IndexFile(tmp_path / "h.binq")
    with pytest.raises(InputError, match="scoring=asymmetric"):
        row_terms(file, restore_binarizer(file))
    build(np.zeros((9, 3), np.uint8), tmp_path / "p.binq", packed="lsb")
    file = IndexFile(tmp_path / "p.binq")
    assert restore_binarizer(file) is None
    with pytest.raises(InputError, match="built from bits"):
        row_terms(file, None)


def test_stored_vectors(tmp_path: Path) -> None:
    path = tmp_path / "i.binq"
    vectors = gaussian(40, 24)
    rows = np.array([0, 7, 39])
    for rescore, off in (("int8", 0.02), ("float16", 0.002), ("float32", 0.0)):
        build(vectors, path, metric="ip", rescore=rescore)  # type: ignore[arg-type]
        taken = StoredVectorReader(IndexFile(path)).take(rows)
        assert taken.dtype == np.float32
        assert np.abs(taken - vectors[rows]).max() <= off, rescore
    with (
        pytest.raises(InputError, match=r"float16: row 1: expected at most 65504.*rescore=float32"),
        writing_index(tmp_path / "large.binq") as writer,
    ):
        writer.section("codes", np.uint64, (1,))
        large = np.array([[1], [65520]], np.float32)
        VectorWriter(writer, "float16", 1, None).append(large, lambda row: f"row {row}")
    assert not (tmp_path / "large.binq").exists()
