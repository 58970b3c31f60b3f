"""Trained codes: the gradient is that of the loss, and training helps on held-out queries."""

from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
from corpora import anisotropic, clustered

from binq.binarizers import ste
from binq.binarizers.affine import Affine

X = naive.unit(anisotropic(3000, 48) - np.float32(0.3)).astype(np.float32)
QUERIES = naive.unit(anisotropic(600, 48, seed=1) - np.float32(0.3)).astype(np.float32)


def hamming_recall(fitted: Affine, x: np.ndarray = X, queries: np.ndarray = QUERIES) -> float:
    """Return recall@10 of the Hamming scan."""
    codes = np.where(fitted.encode(x), np.float32(1), np.float32(-1))
    asked = np.where(fitted.encode(queries), np.float32(1), np.float32(-1))
    truth = np.argsort(-(queries @ x.T), axis=1)[:, :10]
    near = np.argsort(-(asked @ codes.T), axis=1, kind="stable")[:, :10]
    return float(np.mean([naive.recall(n, t) for n, t in zip(near, truth, strict=True)]))


@pytest.mark.slow
def test_training_beats_its_start_on_held_out_queries() -> None:
    start = ste.fit(X, 144, steps=0, threads=2)
    trained = ste.fit(X, 144, steps=200, threads=2)
    assert hamming_recall(trained) > hamming_recall(start) + 0.003


@pytest.mark.slow
def test_training_does_not_ruin_clustered_rows() -> None:
    x, queries = clustered(1500, 32), clustered(300, 32, seed=1)
    start = ste.fit(x, 96, steps=0, threads=2)
    trained = ste.fit(x, 96, steps=150, threads=2)
    assert hamming_recall(trained, x, queries) > hamming_recall(start, x, queries) - 0.05


def test_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    codes, floats = rng.uniform(-0.5, 0.5, (2, 3, 7))

    def loss(given: np.ndarray) -> float:
        p, q = (np.exp(s / 0.03) / np.exp(s / 0.03).sum(axis=1)[:, None] for s in (floats, given))
        error = given - floats
        error = error - error.mean(axis=1, keepdims=True)
        return float((p * np.log(p / q)).sum() / 3 + ste.SQUARED * (error**2).mean())

    found = ste.loss_gradient(codes, floats)
    for i, j in itertools.product(range(3), range(7)):
        step = np.zeros_like(codes)
        step[i, j] = 1e-6
        slope = (loss(codes + step) - loss(codes - step)) / 2e-6
        assert found[i, j] == pytest.approx(slope, rel=0.02, abs=0.02)
