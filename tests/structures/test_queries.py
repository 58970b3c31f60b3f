"""Queries: codes and weights are made when asked for, once, and go along with a part."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import gaussian

from binq import binarizers
from binq.structures.queries import Queries, joined

VECTORS = gaussian(9, 20)
BINARIZER = binarizers.fit("rotate", 20, "l2", gaussian(100, 20, seed=1))


def test_what_is_made_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = Queries(VECTORS, binarizer=BINARIZER)
    assert len(queries) == 9
    assert np.array_equal(queries.codes, BINARIZER.encode(VECTORS))
    assert np.array_equal(queries.weights.values, BINARIZER.weights(VECTORS).values)
    for name in ("encode", "weights"):
        monkeypatch.delattr(binarizers.Binarizer, name)
    for chosen in (slice(2, 5), np.array([7, 0, 7]), slice(0, 0)):
        part = queries.part(chosen)
        assert len(part) == len(VECTORS[chosen])
        assert np.array_equal(part.vectors, VECTORS[chosen])
        assert np.array_equal(part.codes, queries.codes[chosen])
        for name in ("values", "base", "offset"):
            mine = getattr(part.weights, name)
            assert np.array_equal(mine, getattr(queries.weights, name)[chosen])


def test_a_part_makes_what_is_not_there() -> None:
    part = Queries(VECTORS, binarizer=BINARIZER).part(slice(3, 6))
    assert np.array_equal(part.codes, BINARIZER.encode(VECTORS[3:6]))


def test_bits_only() -> None:
    codes = BINARIZER.encode(VECTORS)
    queries = Queries(codes=codes)
    assert len(queries) == 9
    assert not queries.truncated
    assert np.array_equal(queries.part(slice(1, 3)).codes, codes[1:3])
    assert np.array_equal(
        joined([queries.part(slice(0, 4)), queries.part(slice(4, 9))]).codes, codes
    )


def test_joined_and_truncated() -> None:
    parts = [Queries(VECTORS[:4], binarizer=BINARIZER), Queries(VECTORS[4:], binarizer=BINARIZER)]
    assert np.array_equal(joined(parts).vectors, VECTORS)
    assert not joined(parts).truncated
    cut = binarizers.fit("sign", 20, "ip", truncate_dim=8)
    assert Queries(VECTORS[:, :8], binarizer=cut).truncated
    assert not Queries(VECTORS, binarizer=cut).truncated


def test_no_queries() -> None:
    none = Queries(VECTORS[:0], binarizer=BINARIZER)
    assert len(none) == 0
    assert none.codes.shape == (0, 1)
    assert none.weights.values.shape == (0, 20)
