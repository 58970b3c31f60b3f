"""Tasks: other rows for other queries of a batch, with limits that go from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import naive
import numpy as np
from corpora import codes_of

from binq.kernels import asymmetric, hamming, scan
from binq.kernels.allowed import Chosen
from binq.kernels.scan import Engine

EngineOf = Callable[..., Engine]


def members_among(prepared: scan.Scan, queries: Any) -> Any:
    """The members for a task over some queries alone, their numbers ascending."""
    if prepared.name != "scan_tables":
        group = prepared.size("group")
        padded = np.full(-(-len(queries) // group) * group, -1)
        padded[: len(queries)] = queries
        return padded
    # Queries 2 i and 2 i + 1 share a table; of a pair that is asked for by half, ~query is not.
    asked = np.zeros((-(-prepared.queries // 2), 2), np.bool_)
    asked.ravel()[queries] = True
    members = np.arange(asked.size).reshape(-1, 2)
    kept = asked.any(axis=1)
    return np.where(asked[kept], members[kept], ~members[kept]).ravel()


def probed_lists(prepared: scan.Scan, count: int) -> Iterator[tuple[int, Any, Any]]:
    """Scan lists of 150 rows, each for some queries; yield query, rows of its lists, its keys."""
    probed = np.random.default_rng(count).random((count, 8)) < 0.5
    probed[:, 3] = True
    table, members = [], []
    for i in np.flatnonzero(probed.any(axis=0)).tolist():
        begin = len(members)
        members += members_among(prepared, np.flatnonzero(probed[:, i])).tolist()
        table.append((i * 150, i * 150 + 150, begin, len(members)))
    calls = [(0, 1), (1, 2), (2, len(table))] if len(table) > 2 else [(0, len(table))]
    tasks = scan.Tasks(np.array(table), np.array(members), calls)
    for threads in (1, 2):
        states = scan.run(prepared, tasks, Chosen(1200), threads, 100, 10)
        keys = scan.merged(states, 10)
        for query in range(count):
            yield query, np.flatnonzero(np.repeat(probed[query], 150)), keys[query]


def test_hamming_over_lists_of_its_own(engine_of: EngineOf) -> None:
    library = engine_of(hamming.FAMILY).library
    if library is None:
        return
    for words, count in ((1, 1), (2, 2), (3, 5), (12, 7)):
        codes, queries = codes_of(1200, words, 1, 3), codes_of(count, words, 2, 3)
        prepared = hamming.prepared(library, codes, queries, np.int32(1 << 30))
        for query, rows, keys in probed_lists(prepared, count):
            want = naive.topk(codes[rows], queries[query], 10)
            found = [(int(key) >> 32, int(key) & 0xFFFFFFFF) for key in keys]
            assert found == [(away, rows[row]) for away, row in want]


def test_asymmetric_over_lists_of_its_own(engine_of: EngineOf) -> None:
    library = engine_of(asymmetric.FAMILY).library
    assert library is not None
    random = np.random.default_rng(0)
    for words, count in ((1, 1), (2, 2), (3, 5)):
        codes = codes_of(1200, words, 1, 3)
        weights = random.integers(-7, 8, (count, 64 * words)).astype(np.float32)
        weights[:, 0] = 7
        base = np.zeros(count, np.float32)
        factors = asymmetric.Factors(base, base, 0)
        prepared = asymmetric.prepared(library, codes, weights, base, factors)
        for query, rows, keys in probed_lists(prepared, count):
            scores = naive.signs(codes[rows]) @ weights[query]
            want = rows[np.lexsort((rows, -scores))][:10]
            assert [int(key) & 0xFFFFFFFF for key in keys] == want.tolist()
