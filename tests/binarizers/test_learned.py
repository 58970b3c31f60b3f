"""Learned codes: a search that never worsens its start, and a smaller error than a rotation's."""

from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
from corpora import anisotropic

from binq.binarizers import itq, learned, projections
from binq.binarizers.affine import Affine

X = anisotropic(1500, 48)


def squared_error(x: np.ndarray, codes: np.ndarray, fitted: Affine) -> np.ndarray:
    return ((x.astype(np.float64) - fitted.reconstruct(codes)) ** 2).sum(axis=1)


@pytest.fixture(scope="module")
def fitted() -> Affine:
    return learned.fit(X, 48, threads=2)


def test_error_falls_below_that_of_other_methods(fitted: Affine) -> None:
    mine = squared_error(X, learned.encode(X, fitted), fitted).sum()
    for other in (projections.rotate(X, 48), itq.fit(X, 48), projections.lsh(X, 48)):
        assert mine < 0.8 * squared_error(X, other.encode(X), other).sum()
    # So it does on rows that it was not fitted on.
    fresh = anisotropic(1500, 48, seed=5)
    other = projections.rotate(X, 48)
    mine = squared_error(fresh, learned.encode(fresh, fitted), fitted).sum()
    assert mine < 0.8 * squared_error(fresh, other.encode(fresh), other).sum()


def test_more_bits_leave_less_error() -> None:
    errors = []
    for bits in (1, 2, 8, 48, 100):
        found = learned.fit(X[:600], bits, threads=2)
        errors.append(squared_error(X[:600], learned.encode(X[:600], found), found).sum())
    assert all(b < a for a, b in itertools.pairwise(errors))


def test_search_never_worsens_the_start(fitted: Affine) -> None:
    start = (X - fitted.center) @ fitted.projection > 0
    before = squared_error(X, start, fitted)
    after = squared_error(X, learned.encode(X, fitted), fitted)
    # The kernel compares gains with 11 bits of precision.
    assert (after <= before * (1 + 1e-3) + 1e-6).all()
    assert after.sum() < 0.95 * before.sum()


def test_small_codes_are_nearly_optimal() -> None:
    rng = np.random.default_rng(5)
    decoder = rng.standard_normal((10, 8)).astype(np.float32)
    y = rng.standard_normal((50, 8)).astype(np.float32)
    found = Affine(10, 8, projection=np.ascontiguousarray(decoder.T), decoder=decoder)
    every = np.array(list(itertools.product([-1.0, 1.0], repeat=10))) @ decoder
    least = ((y[:, None] - every[None]) ** 2).sum(axis=2).min(axis=1)
    mine = squared_error(y, learned.encode(y, found), found)
    assert (mine >= least - 1e-3).all()
    assert (mine <= least + 1e-3).mean() >= 0.75
    assert mine.mean() < 1.1 * least.mean()


@pytest.mark.parametrize("bits", [5, 16, 33])
def test_search_finds_what_trying_every_flip_finds(bits: int) -> None:
    rng = np.random.default_rng(bits)
    y = rng.standard_normal((25, 12)).astype(np.float32)
    decoder = rng.standard_normal((bits, 12)).astype(np.float32)
    projection = np.ascontiguousarray(decoder.T)
    found = Affine(bits, 12, projection=projection, decoder=decoder)
    codes = learned.encode(y, found)
    agree = 0
    for row, code in zip(y, codes, strict=True):
        start = np.where(row @ projection > 0, 1.0, -1.0)
        wanted = naive.tabu(row, start, decoder, 100, min(6, bits // 3))
        mine = np.where(code, 1.0, -1.0)
        agree += np.array_equal(mine, wanted)
        error = ((row - wanted @ decoder) ** 2).sum()
        assert ((row - mine @ decoder) ** 2).sum() < 1.5 * error + 1e-3
    assert agree >= 0.8 * len(y)  # near ties go either way in single precision


def test_codes_do_not_depend_on_the_other_rows(fitted: Affine) -> None:
    whole = learned.encode(X, fitted, threads=2)
    parts = [learned.encode(X[start : start + 77], fitted) for start in range(0, len(X), 77)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_blocks() -> None:
    assert learned.block_spans(1) == [slice(0, 1)]
    assert learned.block_spans(1024) == [slice(0, 1024)]
    assert learned.block_spans(1025) == [slice(0, 512), slice(512, 1025)]
    for bits in (2048, 3072, 5000, 16384):
        spans = learned.block_spans(bits)
        assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
        assert (spans[0].start, spans[-1].stop) == (0, bits)
        assert all(span.stop - span.start <= learned.MAX_BLOCK_BITS for span in spans)


def test_more_bits_than_a_block() -> None:
    x = X[:300]
    found = learned.fit(x, 1100, threads=2)
    assert (found.bits, found.dim) == (1100, 48)
    codes = learned.encode(x, found, threads=2)
    assert np.array_equal(codes, learned.encode(x, found))
    rough = projections.rotate(x, 1100)
    assert squared_error(x, codes, found).sum() < squared_error(x, rough.encode(x), rough).sum()
    fresh = anisotropic(100, 48, seed=9)
    error = squared_error(fresh, learned.encode(fresh, found), found).sum()
    assert error < 0.2 * ((fresh - x.mean(axis=0)) ** 2).sum()
