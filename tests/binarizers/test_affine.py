"""The affine map: codes, reconstructions, weights, decoders and factors, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import anisotropic, gaussian

from binq.binarizers.affine import Affine, mean_of, norm_factor, ridge_decoder
from binq.bits import pack

X = anisotropic(700, 12)


def dense(bits: int = 20, **change: np.ndarray | None) -> Affine:
    arrays = {
        "center": gaussian(1, 12, seed=1)[0],
        "projection": gaussian(12, bits, seed=2),
        "threshold": gaussian(1, bits, seed=3)[0],
        "decoder": gaussian(bits, 12, seed=4),
    }
    return Affine(bits, 12, **{**arrays, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{}, {"center": None}, {"threshold": None}])
def test_dense_map(change: dict[str, None]) -> None:
    fitted = dense(**change)
    center = np.zeros(12) if fitted.center is None else fitted.center
    threshold = np.zeros(20) if fitted.threshold is None else fitted.threshold
    wanted = (X.astype(np.float64) - center) @ fitted.projection - threshold
    assert np.allclose(fitted.transform(X), wanted, atol=1e-4)
    sure = np.abs(wanted) > 1e-4
    for threads in (1, 2):
        assert np.array_equal(fitted.encode(X, threads)[sure], (wanted > 0)[sure])
    codes = wanted > 0
    b = np.where(codes, 1.0, -1.0)
    assert np.allclose(fitted.reconstruct(codes), center + b @ fitted.decoder, atol=1e-4)
    weights, base = fitted.weights(X[:5])
    scores = weights @ b.T + base[:, None]
    assert np.allclose(scores, X[:5] @ (center + b @ fitted.decoder).T, atol=1e-3)


def test_without_a_decoder_it_is_the_scaled_transpose() -> None:
    scale = np.abs(gaussian(1, 12)[0])
    fitted = Affine(12, 12, center=gaussian(1, 12, seed=1)[0], scale=scale)
    codes = fitted.encode(X)
    assert np.array_equal(codes, fitted.center < X)
    b = np.where(codes, 1.0, -1.0)
    assert np.allclose(fitted.reconstruct(codes), fitted.center + b * scale, atol=1e-6)
    weights, base = fitted.weights(X[:3])
    assert np.allclose(weights, X[:3] * scale)
    assert np.allclose(base, X[:3] @ fitted.center)


def test_codes_do_not_depend_on_the_other_rows() -> None:
    fitted = dense()
    whole = fitted.encode(X)
    parts = [fitted.encode(X[start : start + 512]) for start in range(0, 700, 512)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("rows", [700, 15])
@pytest.mark.parametrize("ridge", [1e-3, 0.1])
def test_ridge_decoder_solves_its_equations(rows: int, ridge: float) -> None:
    x, center = X[:rows], gaussian(1, 12)[0]
    codes = gaussian(rows, 20, seed=5) > 0
    b = np.where(codes, 1.0, -1.0)
    gram = b.T @ b + ridge * rows * np.eye(20)
    wanted = np.linalg.solve(gram, b.T @ (x.astype(np.float64) - center))
    for threads in (1, 2):
        found = ridge_decoder(x, codes, center, ridge=ridge, threads=threads)
        assert np.allclose(found, wanted, atol=2e-4)


def test_ridge_decoder_without_ridge_is_least_squares() -> None:
    codes = X[:, :10] > 0.3
    b = np.where(codes, 1.0, -1.0)
    wanted = np.linalg.lstsq(b, X.astype(np.float64), rcond=None)[0]
    assert np.allclose(ridge_decoder(X, codes, None, ridge=0.0), wanted, atol=1e-4)


def test_factor_gives_every_reconstruction_its_norm() -> None:
    fitted = dense()
    codes = fitted.encode(X)
    factor = norm_factor(X, pack(codes), fitted, threads=2)
    length = np.linalg.norm(fitted.reconstruct(codes) * factor[:, None], axis=1)
    assert np.allclose(length, np.linalg.norm(X, axis=1), rtol=1e-5)


def test_factor_of_nothing_is_one() -> None:
    fitted = dense(center=None, decoder=np.zeros((20, 12), np.float32))
    assert (norm_factor(X, pack(fitted.encode(X)), fitted) == 1).all()
    assert (
        norm_factor(np.zeros((3, 12), np.float32), pack(np.ones((3, 20), bool)), dense()) == 1
    ).all()


def test_mean_in_double_precision() -> None:
    x = np.full((10_000, 2), 0.1, np.float32) + np.float32(1000)
    assert np.allclose(mean_of(x), x.mean(axis=0, dtype=np.float64), rtol=1e-7)
