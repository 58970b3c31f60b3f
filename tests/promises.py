"""How well the searches of an index keep what it promises, whatever its kind is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from corpora import clustered, gaussian, latent

import binq
from binq.errors import BinqWarning
from binq.index.index import Index
from binq.structures.base import AllowedRows, Effort, Scope
from binq.structures.queries import Queries


def _scan_of(index: Index, scoring: str) -> Any:
    return getattr(index.structure, {"hamming": "nearest", "asymmetric": "best"}[scoring])


def best_scores(index: Index, queries: Queries, scoring: str, m: int, allowed: Any = None) -> Any:
    """Return the m best scores of all allowed rows, or fewer, (q, m), by a whole scan."""
    scope = Scope(allowed, threads=2, exhaustive=True)
    return _scan_of(index, scoring)(queries, m, scope).scores


def share_found(
    index: Index,
    queries: Queries,
    scoring: str,
    m: int,
    target: float,
    allowed: Any = None,
    best: Any = None,
) -> float:
    """Return the share of m candidates that are no worse than the m-th of all allowed rows.

    `best` are `best_scores` of at least m rows, where they are known.
    """
    if best is None:
        best = best_scores(index, queries, scoring, m, allowed)
    scope = Scope(allowed, Effort(target_recall=target), threads=2)
    found = _scan_of(index, scoring)(queries, m, scope)
    assert found.rows.shape == best[:, :m].shape
    if allowed is not None:
        assert allowed.contains(found.rows).all()
        assert found.rows.shape[1] == min(m, allowed.count)
    return float((found.scores >= best[:, :m][:, -1:]).mean())


def hold(index: Index, queries: Queries, scorings: Any, counts: Any = (10, 100)) -> None:
    for scoring in scorings:
        best = best_scores(index, queries, scoring, max(counts))
        for m in counts:
            shares = []
            for target in (0.9, 0.95, 0.99):
                shares.append(share_found(index, queries, scoring, m, target, best=best))
                assert shares[-1] >= target - 0.01, (scoring, m, target, shares)
            assert shares == sorted(shares)


def scorings_of(method: str) -> list[str]:
    return ["asymmetric"] if method == "learned" else ["hamming", "asymmetric"]


def hold_for_others(path: Path, kind: Any, method: Any, metric: Any) -> None:
    """Rows stand in for queries that lie about the same clusters, and between them."""
    settings: Any = {"method": method, "metric": metric, "scoring": "asymmetric"}
    corpora = [
        (clustered(12_000, 64), clustered(500, 64, seed=1)),
        (latent(12_000, 96), latent(500, 96, seed=1, between=0.5)),
    ]
    for corpus, queries in corpora:
        binq.build(corpus, path, kind=kind, **settings)
        index = Index(path)
        hold(index, index.prepare(queries), scorings_of(method))


def hold_for_real_queries(shared_data: Path, path: Path, kind: Any, methods: Any) -> None:
    """Passages, and headings that are none: calibrated with rows, and with half of the queries."""
    import pyarrow.parquet as pq

    asked = shared_data / "queries.parquet"
    docs, table = pq.read_table(shared_data / "docs.parquet"), pq.read_table(asked)

    def floats(rows: Any) -> np.ndarray:
        flat = rows["embedding"].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(rows), -1).astype(np.float32)

    rows, queries = floats(docs)[::2], floats(table)  # every other passage
    for method in methods:
        binq.build(rows, path, kind=kind, method=method, scoring="asymmetric")
        index = Index(path)
        hold(index, index.prepare(queries[::4]), scorings_of(method), (10, 40, 100))
    # The half that was not calibrated with is as well served.
    binq.build(rows, path, kind=kind, method="sign", check_queries=asked)
    halves = [xxhash.xxh3_64_intdigest(str(name).encode()) % 2 for name in table["id"].to_pylist()]
    index = Index(path)
    others = index.prepare(queries[np.array(halves) == 1][::2])
    hold(index, others, ["hamming", "asymmetric"], (10, 40, 100))


def hold_with_filters(path: Path, kind: Any, method: Any, shares: Any) -> None:
    """Allowed are rows near the query, any, rows near another row, and rows far from the query."""
    corpus, asked = latent(20_000, 128), latent(30, 128, seed=1)
    directions = corpus / np.linalg.norm(corpus, axis=1, keepdims=True)
    binq.build(corpus, path, kind=kind, method=method)
    index = Index(path)
    scoring = index.file.header.scoring
    rng = np.random.default_rng(0)
    for share in shares:
        reached: dict[str, list[float]] = {}
        for query in asked:
            count, one = round(share * len(corpus)), index.prepare(query)
            nearness = directions @ query
            other = directions @ corpus[rng.integers(len(corpus))]
            for name, worth in (
                ("agreeing", nearness),
                ("independent", rng.random(len(corpus))),
                ("another's", other),
                ("opposing", -nearness),
            ):
                allowed = AllowedRows(worth >= np.partition(worth, -count)[-count])
                found = share_found(index, one, scoring, 10, 0.95, allowed)
                reached.setdefault(name, []).append(found)
        means = {name: np.mean(found) for name, found in reached.items()}
        assert min(means.values()) >= 0.93, (share, means)


def living_rows_are_found(path: Path, kind: Any, method: Any, little: dict[str, Any]) -> Index:
    """All rows dead but ten: those are found, however far a search looks."""
    vectors = gaussian(400, 16)
    kept = np.arange(3, 400, 40)
    vectors[np.setdiff1d(np.arange(400), kept)] = np.nan
    with pytest.warns(BinqWarning, match="are dead"):
        binq.build(vectors, path, kind=kind, method=method, on_error="skip")
    index = Index(path)
    efforts: list[dict[str, Any]] = [{}, little, {"target_recall": 0.5}]
    for effort in efforts:
        rows = index.search(gaussian(3, 16, seed=1), 20, **effort).rows
        assert np.sort(rows).tolist() == [kept.tolist()] * 3
    return index
