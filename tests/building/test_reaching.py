"""How far walks go: for queries like rows, between them, far from all, and opposite to all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian
from promises import best_scores, share_found

import binq
from binq.building import reaching
from binq.building.reaching import Reached, far_groups
from binq.index.index import Index
from binq.structures import hnsw
from binq.types import MAX_DIM


def test_edges_by_hand() -> None:
    """The farthest edge with which both shares are large enough, scanned queries finding all."""
    away = np.array([5, 9, 9, 3])
    shares = np.array([[1.0, 0, 0, 1], [1, 0.5, 1, 0.5]])
    found = Reached(shares, away, away)
    assert found.farthest == 9
    assert [found.beyond(edge) for edge in (9, 8, 3, 0)] == [0, 0.5, 0.75, 1]
    # Of shares of 0.5 and 0.75: both far ones are scanned, or none is.
    assert [found.edge(share) for share in (0.5, 0.51, 0.87, 0.88, 1.0)] == [MAX_DIM, 5, 5, 0, 0]
    none = Reached(shares[:, :0], away[:0], away[:0])
    assert (none.edge(1.0), none.farthest, none.beyond(3)) == (MAX_DIM, 0, 0)


def test_far_groups() -> None:
    """Between two rows, disturbed ones, and opposite ones; of bits as well."""
    rows = gaussian(300, 24)
    between, *disturbed, opposite = far_groups(rows)
    assert len(disturbed) == 3
    assert np.array_equal(opposite, -rows[:200])
    other = 2 * between.astype(np.float64) - rows[:200]
    assert all(np.abs(rows - one).max(axis=1).min() < 1e-5 for one in other)
    flags = np.hstack([rows > 0, np.zeros((300, 8), np.bool_)])
    between, *disturbed, opposite = far_groups(flags)
    assert np.array_equal(opposite[:, :24], ~flags[:200, :24])
    # Bits that no row has are set in none.
    assert not any(group[:, 24:].any() for group in (between, *disturbed, opposite))
    assert 0.2 < (between != flags[:200])[:, :24].mean() < 0.3
    for count in (0, 1):
        assert [len(group) for group in far_groups(rows[:count])] == [count] * 5


@pytest.mark.slow
@pytest.mark.parametrize("packed", [None, "ubinary"])
def test_what_is_promised_of_queries_that_are_like_no_row(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In tight clusters walks go astray: without edges opposite queries found 0.8 at 0.95."""
    # Walks where a scan would be as fast.
    monkeypatch.setattr(hnsw, "SCAN_SHARE", 1 / 20)
    monkeypatch.setattr(reaching, "SCAN_SHARE", 1 / 20)
    rng = np.random.default_rng(0)
    centres = gaussian(40, 96)

    def about(middles: np.ndarray, seed: int) -> np.ndarray:
        return middles + np.float32(0.3) * gaussian(len(middles), 96, seed)

    corpus = about(centres[rng.integers(40, size=20_000)], 1)
    ours, others = (centres[rng.integers(40, size=400)] for _ in range(2))
    asked = {
        "like rows": about(ours, 2),
        "between": about((ours + others) / 2, 3),
        "far": ours + np.float32(1.5) * gaussian(400, 96, 4),
        "opposite": -about(ours, 5),
        "any": gaussian(400, 96, 6),
    }
    source = np.packbits(corpus > 0, axis=1) if packed else corpus
    binq.build(source, tmp_path / "i.binq", kind="hnsw", packed=packed)
    index = Index(tmp_path / "i.binq")
    walked = index.structure.describe()["graph"]["walked"]
    assert walked >= 10
    for name, vectors in asked.items():
        if packed:
            queries = index.prepare(np.packbits(vectors > 0, axis=1), packed=packed)
        else:
            queries = index.prepare(vectors)
        best = best_scores(index, queries, "hamming", 100)
        for k in (1, 10, 100):
            for target in (0.9, 0.95, 0.99):
                found = share_found(index, queries, "hamming", k, target, best=best)
                assert found >= target - 0.01, (name, k, target, found)
