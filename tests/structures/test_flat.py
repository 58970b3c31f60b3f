"""The flat structure passes on what the kernels find, and looks at allowed rows only."""

from __future__ import annotations

from pathlib import Path

import naive
import numpy as np
import pytest
from corpora import codes_of

from binq.binarizers import RowTerms, Weights
from binq.errors import UsageError
from binq.index.index import Index
from binq.kernels.allowed import GATHER_SHARE
from binq.structures.base import AllowedRows, Effort, Scope
from binq.structures.flat import Flat
from binq.structures.queries import Queries


def masks(n: int) -> list[np.ndarray]:
    """Return masks that let all, many, few and no rows through."""
    rng = np.random.default_rng(0)
    shares = (1.0, 0.5, GATHER_SHARE / 2, 0.0)
    return [rng.random(n) < share for share in shares]


def test_hamming_over_allowed_rows() -> None:
    codes, queries = codes_of(300, 2, spread=4), codes_of(3, 2, seed=1, spread=4)
    flat = Flat(codes)
    assert (len(flat), flat.words, flat.kind) == (300, 2, "flat")
    for mask in [None, *masks(300)]:
        allowed = None if mask is None else AllowedRows(mask)
        rows = np.arange(300) if mask is None else np.flatnonzero(mask)
        near = flat.nearest(Queries(codes=queries), 7, Scope(allowed, threads=2))
        assert near.distances is not None
        lims, within, _ = flat.within(queries, 3, Scope(allowed, threads=2))
        counts = flat.count_within(queries, np.array([1, 2, 3]), Scope(allowed))
        for number, query in enumerate(queries):
            pairs = [(far, row) for far, row in naive.topk(codes, query, 300) if row in rows]
            found = list(zip(near.distances[number], near.rows[number], strict=True))
            assert found == pairs[:7]
            assert within[lims[number] : lims[number + 1]].tolist() == [
                row for far, row in pairs if far <= 3
            ]
            assert counts[number] == sum(far <= number + 1 for far, _ in pairs)
        assert np.array_equal(flat.distances(queries, near.rows), near.distances)


def test_asymmetric_over_allowed_rows() -> None:
    rng = np.random.default_rng(0)
    codes = codes_of(300, 2)
    terms = RowTerms(rng.random(300, np.float32) + 0.5, rng.random(300, np.float32))
    weights = Weights(
        rng.standard_normal((3, 128), np.float32), np.zeros(3, np.float32), np.ones(3, np.float32)
    )
    flat = Flat(codes, lambda: terms)
    asked = Queries(np.zeros((3, 128), np.float32), weights=weights)
    whole = flat.best(asked, 300)
    for mask in masks(300):
        found = flat.best(asked, 9, Scope(AllowedRows(mask), threads=2))
        assert found.distances is None
        for number in range(3):
            keep = mask[whole.rows[number]]
            assert found.rows[number].tolist() == whole.rows[number][keep][:9].tolist()
            assert np.array_equal(found.scores[number], whole.scores[number][keep][:9])
    exact = naive.asymmetric(
        weights.values, codes, weights.base, weights.offset, terms.factor, terms.addend
    )
    assert np.allclose(
        flat.scores(weights, whole.rows), np.take_along_axis(exact, whole.rows, 1), atol=1e-5
    )


def test_allowed_rows_as_bitmap_and_list() -> None:
    for n in (0, 1, 63, 64, 65, 200):
        mask = np.random.default_rng(n).random(n) < 0.3
        allowed = AllowedRows(mask)
        assert allowed.count == mask.sum()
        assert allowed.rows.tolist() == np.flatnonzero(mask).tolist()
        assert np.array_equal(allowed.bitmap, naive.pack(mask[None])[0])
        assert allowed.contains(np.arange(n)).tolist() == mask.tolist()


def test_a_flat_index_takes_no_effort(index: Path) -> None:
    flat = Flat(codes_of(5, 1))
    with pytest.raises(UsageError, match="target_recall"):
        flat.nearest(Queries(codes=codes_of(1, 1)), 2, Scope(effort=Effort(0.9)))
    flat.check(Effort())
    with pytest.raises(UsageError, match=r"target_recall: got 0\.9"):
        Index(index).search(np.ones((1, 48), np.float32), target_recall=0.9)


def test_the_codes_of_a_file_are_a_view(index: Path) -> None:
    codes = Index(index).structure.codes
    assert codes.shape == (300, 1)
    assert not codes.flags.owndata
    assert not codes.flags.writeable
