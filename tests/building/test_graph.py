"""Linking codes into a graph: equal codes, dead rows, and searches that keep their promises."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import promises
import pytest
from corpora import codes_of, gaussian

import binq
from binq.building import graph as building
from binq.building import reaching
from binq.index.index import Index
from binq.structures import hnsw


def test_equal_codes_lie_side_by_side() -> None:
    """In the order of their first rows, each code's rows ascending; hashes that agree or not."""
    for n, spread in ((0, 1), (1, 1), (300, 1), (300, 2), (300, 64)):
        codes = codes_of(n, 2, spread=spread)
        expected: dict[bytes, list[int]] = {}
        for row, code in enumerate(codes):
            expected.setdefault(code.tobytes(), []).append(row)
        order, starts = building.equal_codes(codes)
        found = [order[a:b].tolist() for a, b in pairwise(starts)]
        assert found == list(expected.values())


def test_codes_of_one_hash_are_told_apart() -> None:
    """A hash that is linear up to its mixing has collisions; two codes that have one, by hand."""
    odd = np.random.default_rng(0).integers(1 << 63, size=2, dtype=np.uint64) * 2 + 1
    inverse = np.array([pow(int(x), -1, 1 << 64) for x in odd], object)
    codes = []
    for first in (5, 6):
        # The sum of both words' products is 77 for each.
        product = [first, (77 - first) % (1 << 64)]
        mixed = [undone(value) for value in product]
        words = [(value * int(x)) % (1 << 64) for value, x in zip(mixed, inverse, strict=True)]
        codes.append([word ^ (word >> 29) ^ (word >> 58) for word in words])
    rows = np.array([codes[0], codes[1], codes[0]], np.uint64)
    order, starts = building.equal_codes(rows)
    assert order.tolist() == [0, 2, 1]
    assert starts.tolist() == [0, 2, 3]


def undone(value: int) -> int:
    """Return what, xored with itself shifted by 32 bits, gives a value."""
    return value ^ (value >> 32)


@pytest.mark.parametrize("method", ["sign", "rabitq"])
def test_dead_rows_are_never_found(method: Any, tmp_path: Path) -> None:
    promises.living_rows_are_found(tmp_path / "i.binq", "hnsw", method, {"ef": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "metric"), [("sign", "cosine"), ("sign", "ip"), ("itq", "l2"), ("rabitq", "ip")]
)
def test_what_is_promised_of_queries_that_are_no_rows(
    method: Any, metric: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows stood in for them; these lie about the same clusters, and between them."""
    monkeypatch.setattr(hnsw, "SCAN_SHARE", 0.2)
    monkeypatch.setattr(reaching, "SCAN_SHARE", 0.2)
    promises.hold_for_others(tmp_path / "i.binq", "hnsw", method, metric)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign", "rabitq"])
def test_filters_that_agree_and_filters_that_oppose(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allowed are rows near the query, any, rows near another row, and rows far from the query."""
    monkeypatch.setattr(hnsw, "FEW", 0)
    monkeypatch.setattr(hnsw, "SCAN_SHARE", 0.3)
    monkeypatch.setattr(reaching, "SCAN_SHARE", 0.3)
    promises.hold_with_filters(tmp_path / "i.binq", "hnsw", method, (0.95, 0.5, 0.1, 0.01, 0.001))


@pytest.mark.slow
def test_real_queries(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headings are no passages: the promise that rows gave holds for them all the same."""
    # Walks where a scan would be as fast.
    monkeypatch.setattr(hnsw, "SCAN_SHARE", 0.2)
    monkeypatch.setattr(reaching, "SCAN_SHARE", 0.2)
    promises.hold_for_real_queries(shared_data, tmp_path / "i.binq", "hnsw", ("sign", "rabitq"))


@pytest.mark.slow
def test_many_equal_codes(tmp_path: Path) -> None:
    """Rows with equal codes are one node: found together, and links lead away from them."""
    vectors = gaussian(4_000, 64)[np.random.default_rng(0).integers(0, 2_000, 4_000)]
    vectors[1_000:2_000] = vectors[0]
    flat, graph = tmp_path / "flat.binq", tmp_path / "hnsw.binq"
    binq.build(vectors, flat)
    binq.build(vectors, graph, kind="hnsw")
    whole, index = Index(flat), Index(graph)
    nodes = index.structure.describe()["graph"]
    assert nodes["nodes"] == len(np.unique(vectors, axis=0))
    assert nodes["unreachable"] == 0
    for k in (1, 10, 1_500):
        best = whole.search(vectors[:50], k)
        found = index.search(vectors[:50], k, ef=400)
        assert (found.distances == best.distances).mean() > 0.99
        same = (found.distances == best.distances).all(axis=1)
        assert np.array_equal(found.rows[same], best.rows[same])
