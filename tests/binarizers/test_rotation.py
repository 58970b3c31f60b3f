"""Structured rotations: their matrix by the definition, orthogonality, spread."""

from __future__ import annotations

import naive
import numpy as np
from corpora import gaussian

from binq.binarizers.rotation import PASSES, draw_signs, rotate, rotate_back


def matrix(dim: int, seed: int = 0) -> np.ndarray:
    return rotate(np.eye(dim, dtype=np.float32), draw_signs(dim, dim, seed), dim)


def test_rotation_is_its_definition() -> None:
    for dim in (*range(1, 20), 48, 64, 100, 129, 384):
        signs = draw_signs(dim, dim, dim)
        assert signs.shape == (1, PASSES, dim)
        assert np.allclose(matrix(dim, dim), naive.rotation(signs[0]), atol=1e-5)


def test_rotation_is_orthogonal_and_spreads_every_coordinate() -> None:
    for dim in (*range(1, 70), 100, 127, 128, 129, 384, 511, 768, 1000):
        rotation = matrix(dim)
        assert np.allclose(rotation @ rotation.T, np.eye(dim), atol=2e-5)
        if dim in (48, 129, 384, 511):
            assert np.abs(rotation).max() < 0.75
            assert (np.abs(rotation) > 1e-6).mean() > 0.9


def test_more_and_fewer_bits_than_dimensions() -> None:
    x = gaussian(5, 24)
    signs = draw_signs(24, 60, 3)
    assert signs.shape == (3, PASSES, 24)
    rotated = rotate(x, signs, 60)
    for number in range(3):
        wanted = x @ naive.rotation(signs[number])
        part = rotated[:, 24 * number : 24 * number + 24]
        assert np.allclose(part, wanted[:, : part.shape[1]], atol=1e-5)
    assert np.array_equal(rotate(x, signs[:1], 7), rotated[:, :7])


def test_back_is_the_transpose() -> None:
    for dim, bits in ((1, 1), (2, 5), (7, 7), (24, 60), (64, 64), (100, 31), (129, 300)):
        signs = draw_signs(dim, bits, 3)
        projection = rotate(np.eye(dim, dtype=np.float32), signs, bits)
        y = gaussian(5, bits)
        assert np.allclose(rotate_back(y, signs), y @ projection.T, atol=1e-4)


def test_hadamard_of_lengths_that_are_folded() -> None:
    for length in (64, 128, 4096, 8192):
        x = gaussian(2, length)
        index = np.arange(length)
        parity = np.bitwise_count(index[:8, None] & index) & 1
        wanted = x @ (1.0 - 2.0 * parity).T / np.sqrt(length)
        plain = np.zeros((1, 1, length), np.uint8)
        assert np.allclose(rotate(x, plain, length)[:, :8], wanted, atol=1e-4)
