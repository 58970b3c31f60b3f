"""Packing conventions, against the oracle and against those who set them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import pack as naive_pack

from binq import bits as packing
from binq.errors import InputError
from binq.types import LAYOUTS


def random_flags(dim: int, rows: int = 3) -> np.ndarray:
    return np.random.default_rng(dim).random((rows, dim)) < 0.5


def check(flags: np.ndarray) -> None:
    """Check every layout of flags (n, dim) against its definition."""
    dim = flags.shape[1]
    codes = packing.pack(flags)
    assert codes.dtype == np.uint64
    assert np.array_equal(codes, naive_pack(flags))
    assert np.array_equal(packing.unpack(codes, dim), flags)
    # ubinary is numpy.packbits; binary is that minus 128; lsb is FAISS's bit order.
    big = np.packbits(flags, axis=1)
    wanted = {
        "ubinary": big,
        "binary": (big.astype(np.int16) - 128).astype(np.int8),
        "lsb": np.packbits(flags, axis=1, bitorder="little"),
    }
    for layout in LAYOUTS:
        packed = packing.to_layout(codes, dim, layout)
        assert packed.dtype == packing.layout_dtype(layout) == wanted[layout].dtype
        assert np.array_equal(packed, wanted[layout])
        assert np.array_equal(packing.from_layout(packed, dim, layout), codes)


def test_every_dim() -> None:
    for dim in range(1, 301):
        check(random_flags(dim))


@given(st.data())
def test_any_flags(data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, 300))
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=dim, max_size=dim), max_size=4))
    check(np.array(rows, np.bool_).reshape(len(rows), dim))


def test_by_hand() -> None:
    flags = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 1, 1]], np.bool_)
    codes = packing.pack(flags)
    assert codes.tolist() == [[0b1100000001]]
    assert packing.to_layout(codes, 10, "ubinary").tolist() == [[0b10000000, 0b11000000]]
    assert packing.to_layout(codes, 10, "binary").tolist() == [[0, 64]]
    assert packing.to_layout(codes, 10, "lsb").tolist() == [[1, 0b11]]


def test_faiss_reads_our_codes_and_we_its() -> None:
    faiss = pytest.importorskip("faiss")
    vectors = np.random.default_rng(5).standard_normal((20, 72)).astype(np.float32)
    sign = faiss.index_binary_factory(72, "BFlat")
    theirs = np.zeros((20, 9), np.uint8)
    faiss.fvecs2bitvecs(faiss.swig_ptr(vectors), faiss.swig_ptr(theirs), 72, 20)
    ours = packing.to_layout(packing.pack(vectors > 0), 72, "lsb")
    assert np.array_equal(ours, theirs)
    sign.add(ours)
    distances, _ = sign.search(ours[:1], 20)
    flags = vectors > 0
    assert distances[0].tolist() == sorted((flags != flags[0]).sum(axis=1).tolist())


def test_usearch_measures_the_same_distances() -> None:
    usearch = pytest.importorskip("usearch.index")
    flags = random_flags(128, rows=30)
    packed = packing.to_layout(packing.pack(flags), 128, "ubinary")
    index = usearch.Index(ndim=128, metric="hamming", dtype="b1")
    index.add(np.arange(30), packed)
    found = index.search(packed[:4], 30, exact=True)
    expected = np.sort((flags[:4, None] != flags[None]).sum(axis=2), axis=1)
    assert np.array_equal(np.asarray(found.distances).astype(int), expected)


def test_a_bit_beyond_the_width_is_refused() -> None:
    for layout, dim in itertools.product(LAYOUTS, (1, 5, 9, 63, 130)):
        flags = np.zeros((3, dim + 1), np.bool_)
        flags[1, dim] = True
        packed = packing.to_layout(packing.pack(flags), dim + 1, layout)
        with pytest.raises(InputError, match=rf"bit beyond bit {dim} is set: corpus row 8"):
            packing.from_layout(packed, dim, layout, where="corpus", first_row=7)


def test_wrong_type_and_width_are_refused() -> None:
    with pytest.raises(InputError, match="wrong type"):
        packing.from_layout(np.zeros((1, 2), np.int8), 16, "ubinary")
    with pytest.raises(InputError, match="wrong type"):
        packing.from_layout(np.zeros((1, 2), np.uint8), 16, "binary")
    for shape in ((1, 3), (16,), (1, 1, 2)):
        with pytest.raises(InputError, match="wrong width"):
            packing.from_layout(np.zeros(shape, np.uint8), 16, "lsb")


def test_no_rows() -> None:
    assert packing.pack(np.empty((0, 70), np.bool_)).shape == (0, 2)
    assert packing.from_layout(np.empty((0, 9), np.uint8), 70, "lsb").shape == (0, 2)


def test_views_that_are_not_contiguous() -> None:
    flags = random_flags(70, rows=8)
    codes = packing.pack(flags)[::2]
    assert np.array_equal(packing.unpack(codes, 70), flags[::2])
    packed = packing.to_layout(packing.pack(flags), 70, "ubinary")
    assert np.array_equal(packing.from_layout(packed[::2], 70, "ubinary"), codes)
