"""Drawn projections: angles of hyperplanes, RaBitQ's estimator."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from corpora import anisotropic

from binq.binarizers import projections
from binq.binarizers.affine import Affine
from binq.bits import pack

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
    rotated = (X - X.mean(axis=0, dtype=np.float64)) @ naive.rotation(fitted.signs[0])
    assert np.allclose(fitted.scale, np.abs(rotated).mean(), rtol=1e-4)
    twice = projections.rotate(X, 96)
    assert np.allclose(twice.scale, fitted.scale[0] / 2, rtol=0.1)


def estimate(fitted: Affine, x: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return <c, q> + factor <b, P q>, (q, n)."""
    codes = fitted.encode(x)
    factor = projections.rabitq_factor(x, pack(codes), fitted)
    b = np.where(codes, np.float32(1), np.float32(-1))
    weights, base = fitted.weights(queries)
    return (weights @ b.T) * factor + base[:, None]


def test_rabitq_is_the_formula_of_the_paper() -> None:
    fitted = projections.rabitq(X)
    found = estimate(fitted, X, QUERIES)
    rotation, center = naive.rotation(fitted.signs[0]), X.mean(axis=0, dtype=np.float64)
    for row in range(0, 400, 37):
        v = (X[row] - center) @ rotation
        norm = np.linalg.norm(v)
        f = np.abs(v).sum() / (np.sqrt(48) * norm)
        for number, query in enumerate(QUERIES):
            inner = (np.sign(v) / np.sqrt(48)) @ (query @ rotation)
            wanted = center @ query + norm * inner / f
            assert found[number, row] == pytest.approx(wanted, abs=1e-4)


def test_rabitq_is_unbiased_and_keeps_to_the_bound_of_the_paper() -> None:
    """|error| < |q| |v| sqrt((1 - f^2) / f^2) 1.9 / sqrt(D - 1), but for a few."""
    truth = QUERIES.astype(np.float64) @ X.T
    y = X - X.mean(axis=0)
    errors, outside = [], []
    for seed in range(20):
        fitted = projections.rabitq(X, seed)
        error = estimate(fitted, X, QUERIES) - truth
        v = fitted.transform(X).astype(np.float64)
        norm = np.linalg.norm(v, axis=1)
        f = np.abs(v).sum(axis=1) / (np.sqrt(48) * norm)
        bound = 1.9 * norm * np.sqrt((1 - f * f) / f**2) / np.sqrt(47)
        # The bound is of <x - c, q>; <x - c, c> is estimated, too, unless the query is centred.
        outside.append(np.abs(error) > np.linalg.norm(QUERIES, axis=1)[:, None] * bound)
        errors.append(error)
        assert np.allclose(norm, np.linalg.norm(y, axis=1), rtol=1e-4)
    assert abs(np.mean(errors)) < 0.05 * np.std(errors)
    assert np.mean(outside) < 0.08


def test_one_dimension_is_exact() -> None:
    x = X[:, :1]
    fitted = projections.rabitq(x)
    assert np.allclose(estimate(fitted, x, QUERIES[:, :1]), QUERIES[:, :1] @ x.T, atol=1e-5)
