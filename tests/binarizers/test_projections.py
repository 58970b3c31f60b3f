"""Drawn projections: angles of hyperplanes, RaBitQ's estimator and its bound."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from corpora import DEGENERATE, anisotropic

from binq.binarizers import projections
from binq.binarizers.affine import Affine

X = anisotropic(400, 48)
QUERIES = anisotropic(8, 48, seed=1)


def test_hamming_distance_estimates_the_angle_about_the_mean() -> None:
    x = X[:60]
    codes = projections.lsh(x, 20_000).encode(x)
    unit = naive.unit(x - x.mean(axis=0))
    angle = np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
    distance = (codes[:, None] != codes[None]).mean(axis=2)
    assert np.abs(distance - angle).max() < 0.02


def test_scale_of_rotate_is_the_mean_magnitude() -> None:
    fitted = projections.rotate(X, 48)
    turned = (X - X.mean(axis=0, dtype=np.float64)) @ naive.rotation(fitted.signs[0])
    assert np.allclose(fitted.scale, np.abs(turned).mean(), rtol=1e-4)
    twice = projections.rotate(X, 96)
    assert np.allclose(twice.scale, fitted.scale[0] / 2, rtol=0.1)


def estimate(fitted: Affine, x: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return <c, q> + factor <b, P q>, (q, n)."""
    factor = projections.rabitq_factor(fitted.transform(x))
    b = np.where(fitted.encode(x), np.float32(1), np.float32(-1))
    weights, base = fitted.weights(queries)
    return (weights @ b.T) * factor + base[:, None]


def test_rabitq_is_the_formula_of_the_paper() -> None:
    fitted = projections.rabitq(X)
    found = estimate(fitted, X, QUERIES)
    turn, center = naive.rotation(fitted.signs[0]), X.mean(axis=0, dtype=np.float64)
    spread = projections.rabitq_spread(fitted.transform(X))
    for row in range(0, 400, 37):
        v = (X[row] - center) @ turn
        norm = np.linalg.norm(v)
        f = np.abs(v).sum() / (np.sqrt(48) * norm)
        for number, query in enumerate(QUERIES):
            inner = (np.sign(v) / np.sqrt(48)) @ (query @ turn)
            wanted = center @ query + norm * inner / f
            assert found[number, row] == pytest.approx(wanted, abs=1e-4)
        wanted = norm * np.sqrt((1 - f * f) / f**2) / np.sqrt(47)
        assert spread[row] == pytest.approx(wanted, rel=1e-3)


def test_rabitq_is_unbiased_and_its_bound_holds() -> None:
    truth = QUERIES.astype(np.float64) @ X.T
    norms = np.linalg.norm(QUERIES - X.mean(axis=0), axis=1)
    errors, outside = [], []
    for seed in range(20):
        fitted = projections.rabitq(X, seed=seed)
        error = estimate(fitted, X, QUERIES) - truth
        spread = projections.rabitq_spread(fitted.transform(X))
        # The bound is of <x - c, q>; <x - c, c> is estimated, too, unless the query is centred.
        norms = np.linalg.norm(QUERIES, axis=1)
        bound = projections.EPSILON * norms[:, None] * spread
        errors.append(error)
        outside.append(np.abs(error) > bound)
    assert abs(np.mean(errors)) < 0.05 * np.std(errors)
    assert np.mean(outside) < 0.08


def test_one_dimension_is_exact() -> None:
    x = X[:, :1]
    fitted = projections.rabitq(x)
    assert np.allclose(estimate(fitted, x, QUERIES[:, :1]), QUERIES[:, :1] @ x.T, atol=1e-5)
    assert (projections.rabitq_spread(fitted.transform(x)) < 1e-3).all()


@pytest.mark.parametrize("x", DEGENERATE.values(), ids=DEGENERATE)
def test_terms_of_hard_rows_are_finite(x: np.ndarray) -> None:
    turned = projections.rabitq(x).transform(x)
    assert np.isfinite(projections.rabitq_factor(turned)).all()
    assert np.isfinite(projections.rabitq_spread(turned)).all()
