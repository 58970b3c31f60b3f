"""Tabu search against the same search by trying every flip."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest

from binq.kernels import descent


def case(seed: int, bits: int, rows: int, dim: int = 12) -> tuple[np.ndarray, ...]:
    """Return targets, starting codes, decoder, and what the kernel takes of them."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((rows, dim)).astype(np.float32)
    decoder = rng.standard_normal((bits, dim)).astype(np.float32)
    start = np.where(y @ decoder.T > 0, np.float32(1), np.float32(-1))
    gram = decoder @ decoder.T
    return y, start, decoder, y @ decoder.T - start @ gram, gram


def errors(y: np.ndarray, codes: np.ndarray, decoder: np.ndarray) -> np.ndarray:
    return ((y.astype(np.float64) - codes @ decoder.astype(np.float64)) ** 2).sum(axis=1)


def test_against_the_oracle() -> None:
    for bits in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 40):
        for steps, tenure in ((0, 6), (1, 1), (10, 3), (30, 6)):
            check_against_the_oracle(bits, steps, tenure)


def check_against_the_oracle(bits: int, steps: int, tenure: int) -> None:
    y, start, decoder, residual, gram = case(bits, bits, 8)
    codes = start.copy()
    descent.improve(residual, codes, gram, steps, tenure)
    assert set(np.unique(codes)) <= {-1.0, 1.0}
    allowed = min(tenure, bits - 1)
    wanted = np.array(
        [
            naive.tabu(row, code, decoder.astype(np.float64), steps if allowed else 0, allowed)
            for row, code in zip(y, start, strict=True)
        ]
    )
    # Gains are compared with 11 bits of precision, so that near ties may go either way.
    same = (codes == wanted).all(axis=1)
    assert same.mean() >= 0.75
    mine, other = errors(y, codes, decoder), errors(y, wanted, decoder)
    assert np.allclose(mine[same], other[same])
    assert mine.sum() < 1.2 * other.sum() + 1e-6


def test_it_never_worsens_the_start_and_more_steps_never_harm() -> None:
    for bits in (2, 20, 64, 200, 1000):
        y, start, decoder, residual, gram = case(bits, bits, 20, dim=30)
        last = errors(y, start, decoder)
        for steps in (0, 1, 5, 40, 100):
            codes = start.copy()
            descent.improve(residual, codes, gram, steps, min(6, bits - 1))
            found = errors(y, codes, decoder)
            assert (found <= last * (1 + 1e-3) + 1e-3).all()
            last = found


def test_without_steps_it_ends_in_a_local_minimum() -> None:
    y, start, decoder, residual, gram = case(3, 24, 20)
    codes = start.copy()
    descent.improve(residual, codes, gram, 0, 6)
    for row, code in zip(y, codes, strict=True):
        least = ((row - code @ decoder) ** 2).sum()
        for bit in range(24):
            flipped = code.copy()
            flipped[bit] = -flipped[bit]
            assert ((row - flipped @ decoder) ** 2).sum() >= least * (1 - 1e-3)


def test_a_decoder_of_zeros_changes_nothing() -> None:
    codes = np.where(np.eye(5, 9) > 0, np.float32(1), np.float32(-1))
    kept = codes.copy()
    zeros = np.zeros((9, 9), np.float32)
    descent.improve(np.zeros((5, 9), np.float32), codes, zeros, 20, 3)
    assert np.array_equal(codes, kept)


def test_the_widest_code() -> None:
    bits = descent.max_bits()
    y, start, decoder, residual, gram = case(0, bits, 2, dim=8)
    codes = start.copy()
    descent.improve(residual, codes, gram, 5, 3)
    assert (errors(y, codes, decoder) < errors(y, start, decoder)).all()


def test_it_ends_whatever_the_numbers_are() -> None:
    for value in (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45):
        for place in ("residual", "gram", "both"):
            for bits in (1, 5, 64):
                _, codes, _, residual, gram = case(1, bits, 4)
                if place != "gram":
                    residual[::2] = value
                if place != "residual":
                    gram[:] = value
                descent.improve(residual, codes, gram, 40, min(6, bits - 1))
                assert set(np.unique(codes)) <= {-1.0, 1.0}


def test_no_rows() -> None:
    none = np.empty((0, 4), np.float32)
    descent.improve(none, none.copy(), np.eye(4, dtype=np.float32), 5, 2)


def test_what_does_not_fit_is_refused() -> None:
    good = {
        "residual": np.zeros((3, 4), np.float32),
        "codes": np.ones((3, 4), np.float32),
        "gram": np.zeros((4, 4), np.float32),
    }
    changes: list[dict[str, Any]] = [
        {"residual": np.zeros((3, 5), np.float32)},
        {"gram": np.zeros((4, 5), np.float32)},
        {"gram": np.zeros((4, 4))},
        {"codes": np.ones((4, 3), np.float32).T},
        {"codes": np.ones((3, 0), np.float32)},
    ]
    for change in changes:
        with pytest.raises(ValueError, match=r".+"):
            descent.improve(**(good | change), steps=3, tenure=2)
    wide = np.ones((1, descent.max_bits() + 1), np.float32)
    with pytest.raises(ValueError, match="4097"):
        descent.improve(wide, wide.copy(), np.zeros((1, 1), np.float32), 3, 2)
