"""Answering a stream of queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from corpora import gaussian

import binq
from binq.index.index import Index
from binq.index.stream import query


def test_query_streams_in_batches(tmp_path: Path) -> None:
    vectors, queries = gaussian(100, 12), gaussian(2500, 12, seed=1)
    binq.build(vectors, tmp_path / "i.binq")
    index = Index(tmp_path / "i.binq")
    expected = index.search(queries, 3)
    ids: list[Any] = []
    rows = []
    for names, hits in query(index, queries, 3):
        ids += names
        rows += [line.rows[0] for line in hits]
    assert ids == list(range(2500))
    assert np.array_equal(rows, expected.rows)
