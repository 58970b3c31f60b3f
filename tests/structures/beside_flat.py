"""A structure told to look at all rows, beside the flat one of the same rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from corpora import codes_of

from binq.binarizers import RowTerms, Weights
from binq.structures.base import AllowedRows, Effort, Scope
from binq.structures.flat import Flat
from binq.structures.queries import Queries


class Rows(NamedTuple):
    """Rows of two words, and three queries of them."""

    codes: np.ndarray
    terms: RowTerms
    queries: Queries
    scope: Scope


def rows_of(n: int, share: float | None, spread: int, seed: int) -> Rows:
    """Return rows of which a share is allowed; few bits that differ make ties."""
    codes, queries = codes_of(n, 2, seed, spread), codes_of(3, 2, seed + 9, spread)
    rng = np.random.default_rng(seed)
    terms = RowTerms(rng.random(n, np.float32) + 0.5, rng.random(n, np.float32))
    allowed = None if share is None else AllowedRows(rng.random(n) < share)
    asked = Queries(np.zeros((3, 128), np.float32), queries, weights=weights_of(3, 128))
    return Rows(codes, terms, asked, Scope(allowed))


def weights_of(count: int, bits: int) -> Weights:
    rng = np.random.default_rng(0)
    return Weights(
        rng.standard_normal((count, bits), np.float32),
        np.zeros(count, np.float32),
        np.ones(count, np.float32),
    )


def same_search(
    structure: Any, given: Rows, m: int, effort: Effort | None, *, exhaustive: bool = False
) -> None:
    """Require the same rows in the same order, ties included."""
    flat, scope = Flat(given.codes, given.terms), given.scope
    near, best = flat.nearest(given.queries, m, scope), flat.best(given.queries, m, scope)
    own = replace(scope, effort=effort, exhaustive=exhaustive, threads=2)
    found, scored = structure.nearest(given.queries, m, own), structure.best(given.queries, m, own)
    assert np.array_equal(found.rows, near.rows)
    assert np.array_equal(found.distances, near.distances)
    assert np.array_equal(scored.rows, best.rows)
    assert np.array_equal(scored.scores, best.scores)


def same_otherwise(structure: Any, given: Rows, m: int) -> None:
    """Require the same of what knows no effort: radii, distances and scores of rows, codes."""
    flat, queries, scope = Flat(given.codes, given.terms), given.queries.codes, given.scope
    for ours, theirs in zip(
        structure.within(queries, 3, scope), flat.within(queries, 3, scope), strict=True
    ):
        assert np.array_equal(ours, theirs)
    radii = np.array([1, 2, 3])
    counts = flat.count_within(queries, radii, scope)
    assert np.array_equal(structure.count_within(queries, radii, scope), counts)
    rows, weights = flat.nearest(given.queries, m, scope).rows, given.queries.weights
    assert np.array_equal(structure.distances(queries, rows), flat.distances(queries, rows))
    assert np.array_equal(structure.scores(weights, rows), flat.scores(weights, rows))
    assert np.array_equal(structure.take(np.arange(len(given.codes))), given.codes)
