"""Answering a stream of queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.errors import InputError, UsageError
from binq.index.index import Index
from binq.index.stream import Unanswered, query


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


@pytest.mark.parametrize("settings", [{"k": 3}, {"radius": 4}, {"k": 2, "scoring": "asymmetric"}])
def test_batches_do_not_change_what_is_answered(settings: dict[str, Any], tmp_path: Path) -> None:
    """Queries that cannot be used, at the edges of batches too: all others have their answers."""
    queries = gaussian(2500, 12, seed=1)
    binq.build(gaussian(100, 12), tmp_path / "i.binq")
    index = Index(tmp_path / "i.binq")
    whole = [
        hits.rows[0].tolist() for _, some in query(index, queries, **settings) for hits in some
    ]
    for bad in ([0], [1023, 1024], [5, 6, 2047, 2499]):
        spoiled = queries.copy()
        spoiled[bad] = 0  # which only the metric refuses
        spoiled[bad[-1]] = np.nan
        found = [
            answer
            for _, some in query(index, spoiled, on_error="skip", **settings)
            for answer in some
        ]
        assert len(found) == 2500
        for row, answer in enumerate(found):
            if isinstance(answer, Unanswered):
                assert row in bad
                assert answer.line == row + 1
                assert f"row {row}" in str(answer.error)
            else:
                assert answer.rows[0].tolist() == whole[row]
        assert sum(isinstance(answer, Unanswered) for answer in found) == len(bad)
        seen: list[Any] = []
        with pytest.raises(InputError, match=f"row {bad[0]}"):
            seen += (hits for _, some in query(index, spoiled, **settings) for hits in some)
        assert [hits.rows[0].tolist() for hits in seen] == whole[: bad[0]]


def test_what_is_wrong_with_all_queries_is_said_once(tmp_path: Path) -> None:
    binq.build(gaussian(100, 12), tmp_path / "i.binq")
    with pytest.raises(InputError, match="another dimension than the index"):
        list(query(tmp_path / "i.binq", gaussian(5, 13), on_error="skip"))
    with pytest.raises(UsageError, match="on_error"):
        list(query(tmp_path / "i.binq", gaussian(5, 12), on_error="go on"))  # type: ignore[arg-type]
