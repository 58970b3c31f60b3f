"""ITQ: an orthonormal projection that quantizes better than a random one."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import anisotropic

from binq.binarizers import itq

X = anisotropic(3000, 48)


@pytest.mark.parametrize("bits", [1, 30, 48])
def test_projection_is_orthonormal(bits: int) -> None:
    projection = itq.fit(X, bits, rounds=5).projection
    assert projection is not None
    assert np.allclose(projection.T @ projection, np.eye(bits), atol=1e-5)


def test_principal_directions_are_those_of_the_svd() -> None:
    y = X - X.mean(axis=0)
    wanted = np.linalg.svd(y.astype(np.float64), full_matrices=False)[2][:5].T
    found = itq.principal_directions(y, 5)
    assert np.allclose(np.abs((found * wanted).sum(axis=0)), 1, atol=1e-4)


def test_rounds_bring_the_codes_nearer() -> None:
    y = X - X.mean(axis=0)
    taxicab = []
    for rounds in (0, 2, 50):
        projection = itq.fit(X, 48, rounds=rounds).projection
        taxicab.append(float(np.abs(y @ projection).sum()))
    assert taxicab[0] < taxicab[1] < taxicab[2]
