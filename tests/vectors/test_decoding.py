"""Values that are and are not vectors, and packed bits, whatever file they come from."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from binq.bits import pack, unpack
from binq.errors import InputError, UsageError
from binq.types import LAYOUTS, Layout
from binq.vectors import open_vectors
from binq.vectors.decoding import to_float32

TINY = {"float16": 6e-8, "float32": 1e-45, "float64": 1e-310}


def laid_out(flags: np.ndarray, layout: Layout) -> np.ndarray:
    """Return bits (n, dim) as a layout has them, by numpy alone."""
    if layout == "lsb":
        return np.packbits(flags, axis=1, bitorder="little")
    data = np.packbits(flags, axis=1)
    return data if layout == "ubinary" else (data.astype(np.int16) - 128).astype(np.int8)


def rows_of(source: Any, max_rows: int | None = None) -> np.ndarray:
    return np.concatenate([batch.vectors for batch in source.batches(max_rows)])


CASES = [(dtype, position) for dtype in TINY for position in (0, 7, 19)]


def test_not_finite_is_refused_by_file_row_and_dim(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    for (dtype, position), value in product(CASES, (np.nan, np.inf, -np.inf)):
        vectors = np.ones((20, 5), dtype=dtype)
        vectors[position, 3] = value
        np.save(path, vectors)
        with pytest.raises(InputError, match=rf"v\.npy row {position} dim 3.*got {value}"):
            list(open_vectors(path).batches(6))
        with pytest.raises(InputError, match=rf"row {position} dim 3"):
            open_vectors(path).take(np.array([position]))


def test_odd_but_finite_passes_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    for dtype, position in CASES:
        for dims, value in ((3, -0.0), (3, TINY[dtype]), (slice(None), 0)):
            vectors = np.ones((20, 5), dtype=dtype)
            vectors[position, dims] = value
            np.save(path, vectors)
            got = rows_of(open_vectors(path), 6)
            assert got.dtype == np.float32
            assert np.array_equal(got, vectors.astype(np.float32))
            assert np.array_equal(np.signbit(got), np.signbit(vectors))


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_beyond_float32_is_refused(value: float) -> None:
    vectors = np.ones((3, 2))
    vectors[2, 1] = value
    with pytest.raises(InputError, match="array row 2 dim 1"):
        rows_of(open_vectors(vectors))


def test_finite_values_with_an_infinite_sum_pass() -> None:
    vectors = np.full((3, 2), np.finfo(np.float32).max, dtype=np.float32)
    assert np.array_equal(rows_of(open_vectors(vectors)), vectors)


def test_opposite_infinities_are_found() -> None:
    with pytest.raises(InputError, match="row 0 dim 0"):
        to_float32(np.array([[np.inf, -np.inf]]), lambda row: f"row {row}")


def test_numbers_become_float32() -> None:
    types = "int16 uint16 int32 uint32 int64 uint64 >f4 >f8 >i4 <f2"
    for dtype in types.split():
        vectors = np.arange(12).reshape(4, 3).astype(dtype)
        got = rows_of(open_vectors(vectors))
        assert got.dtype == np.float32
        assert got.dtype.isnative
        assert np.array_equal(got, np.arange(12).reshape(4, 3)), dtype


def test_eight_bit_numbers_have_to_be_named() -> None:
    for dtype in ("int8", "uint8"):
        vectors = np.array([[1, 2], [100, 4]], dtype=dtype)
        with pytest.raises(InputError, match=r"none|ubinary|binary|lsb"):
            open_vectors(vectors)
        assert np.array_equal(rows_of(open_vectors(vectors, packed="none")), vectors)


def test_other_types_are_refused() -> None:
    for dtype in ("bool", "complex64", "U3", "datetime64[s]", "longdouble"):
        with pytest.raises(InputError, match="wrong type"):
            open_vectors(np.zeros((2, 2), dtype=dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_layouts_of_every_dim(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "codes.npy"
    for dim in range(1, 131):
        flags = np.random.default_rng(dim).random((5, dim)) < 0.5
        flags[0], flags[1] = True, False
        np.save(path, laid_out(flags, layout))
        with open_vectors(path, packed=layout, bits=dim) as source:
            assert (source.packed, source.layout, source.dim, source.rows) == (True, layout, dim, 5)
            codes = rows_of(source, 2)
        assert codes.dtype == np.uint64
        assert codes.flags.c_contiguous
        assert np.array_equal(unpack(codes, dim), flags)
        assert np.array_equal(codes, pack(flags))


@pytest.mark.parametrize("dim", [8, 64, 104])
def test_lsb_is_the_order_of_faiss(dim: int) -> None:
    faiss = pytest.importorskip("faiss")
    floats = np.random.default_rng(1).standard_normal((6, dim)).astype(np.float32)
    stored = np.zeros((6, dim // 8), dtype=np.uint8)
    faiss.fvecs2bitvecs(faiss.swig_ptr(floats), faiss.swig_ptr(stored), dim, 6)
    codes = rows_of(open_vectors(stored, packed="lsb"))
    assert np.array_equal(unpack(codes, dim), floats >= 0)


def test_distances_of_codes_are_those_of_usearch() -> None:
    index = pytest.importorskip("usearch.index")
    flags = np.random.default_rng(2).random((9, 128)) < 0.5
    stored = np.packbits(flags, axis=1)
    theirs = index.search(stored, stored, 9, index.MetricKind.Hamming, exact=True)
    codes = rows_of(open_vectors(stored, packed="ubinary"))
    ours = np.bitwise_count(codes[:, None] ^ codes[None]).sum(axis=2)
    for row in range(9):
        assert np.array_equal(ours[row][theirs.keys[row]], theirs.distances[row])


def test_bits_default_to_whole_bytes() -> None:
    assert open_vectors(np.zeros((1, 3), dtype=np.uint8), packed="ubinary").dim == 24


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_bit_beyond_the_width_is_refused_by_row(layout: Layout) -> None:
    flags = np.zeros((4, 16), dtype=bool)
    flags[3, 13] = True
    stored = laid_out(flags, layout)
    source = open_vectors(stored, packed=layout, bits=13)
    with pytest.raises(InputError, match="array row 3"):
        list(source.batches(2))
    assert unpack(rows_of(open_vectors(stored, packed=layout, bits=14)), 14)[3, 13]


@pytest.mark.parametrize("bits", [8, 25])
def test_a_width_of_other_bytes_is_refused(bits: int) -> None:
    with pytest.raises(InputError, match="wrong width"):
        open_vectors(np.zeros((1, 3), dtype=np.uint8), packed="ubinary", bits=bits)


@pytest.mark.parametrize(
    ("dtype", "layout"), [("uint8", "binary"), ("int8", "ubinary"), ("int8", "lsb"), ("<f4", "lsb")]
)
def test_a_layout_of_another_type_is_refused(dtype: str, layout: Layout) -> None:
    with pytest.raises(InputError, match="not packed bits in layout"):
        open_vectors(np.zeros((1, 3), dtype=dtype), packed=layout)


@pytest.mark.parametrize(
    "options", [{"bits": 3}, {"bits": 3, "packed": "none"}, {"bits": 0}, {"packed": "msb"}]
)
def test_options_that_contradict_are_usage_errors(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_vectors(np.zeros((1, 3), dtype=np.float32), **options)


def test_packed_bits_hold_no_floats_to_take() -> None:
    with pytest.raises(InputError, match="no floats"):
        open_vectors(np.zeros((1, 3), dtype=np.uint8), packed="lsb").take(np.array([0]))


@pytest.mark.parametrize("max_rows", [0, -1])
def test_a_batch_of_no_rows_is_a_usage_error(max_rows: int) -> None:
    with pytest.raises(UsageError):
        list(open_vectors(np.ones((2, 2))).batches(max_rows))
