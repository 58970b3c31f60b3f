"""Laying codes in lists: what they hold, and that the searches of them keep what they promise."""

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
from binq.structures import ivf
from binq.structures.base import AllowedRows, Effort, Scope
from binq.structures.queries import Queries


@pytest.mark.parametrize("method", ["sign", "learned", "rabitq"])
def test_dead_rows_are_in_no_way_of_lists(method: Any, tmp_path: Path) -> None:
    """All dead but some: what is left is found, and lists are made for it."""
    vectors = gaussian(400, 16)
    kept = np.arange(3, 400, 40)
    vectors[np.setdiff1d(np.arange(400), kept)] = np.nan
    path = tmp_path / "i.binq"
    with pytest.warns(BinqWarning, match="are dead"):
        binq.build(vectors, path, kind="ivf", method=method, on_error="skip")
    index = Index(path)
    for settings in ({}, {"nprobe": 1}, {"target_recall": 0.5}):
        rows = index.search(gaussian(3, 16, seed=1), 20, **settings).rows
        assert np.sort(rows).tolist() == [kept.tolist()] * 3
    assert index.file.sections["ivf.centroids"].shape[0] == len(kept)


def share_found(
    index: Index, queries: Queries, scoring: str, m: int, target: float, allowed: Any = None
) -> float:
    """Return the share of m candidates that are no worse than the m-th of all allowed rows."""
    scan = getattr(index.structure, {"hamming": "nearest", "asymmetric": "best"}[scoring])
    every = scan(queries, m, Scope(allowed, threads=2, exhaustive=True))
    found = scan(queries, m, Scope(allowed, Effort(target_recall=target), threads=2))
    assert found.rows.shape == every.rows.shape
    if allowed is not None:
        assert allowed.contains(found.rows).all()
        assert found.rows.shape[1] == min(m, allowed.count)
    return float((found.scores >= every.scores[:, -1:]).mean())


def promises_hold(index: Index, queries: Queries, scorings: Any, counts: Any = (10, 100)) -> None:
    for scoring in scorings:
        for m in counts:
            shares = []
            for target in (0.9, 0.95, 0.99):
                shares.append(share_found(index, queries, scoring, m, target))
                assert shares[-1] >= target - 0.01, (scoring, m, target, shares)
            assert shares == sorted(shares)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "metric"),
    [("sign", "cosine"), ("sign", "ip"), ("itq", "l2"), ("rabitq", "ip"), ("learned", "l2")],
)
def test_what_is_promised_of_queries_that_are_no_rows(
    method: Any, metric: Any, tmp_path: Path
) -> None:
    """Rows stood in for them; these lie about the same clusters, and between them."""
    settings: Any = {"method": method, "metric": metric, "scoring": "asymmetric"}
    corpora = [
        (clustered(12_000, 64), clustered(500, 64, seed=1)),
        (latent(12_000, 96), latent(500, 96, seed=1, between=0.5)),
    ]
    for corpus, queries in corpora:
        binq.build(corpus, tmp_path / "i.binq", kind="ivf", **settings)
        index = Index(tmp_path / "i.binq")
        scorings = ["asymmetric"] if method == "learned" else ["hamming", "asymmetric"]
        promises_hold(index, index.prepare(queries), scorings)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign", "learned", "packed"])
def test_what_is_promised_of_queries_far_from_all_rows(method: Any, tmp_path: Path) -> None:
    """Rows lie close about centres: without edges, 0.9 finds as little as 0.57 for others."""
    centres = gaussian(150, 128)
    rng = np.random.default_rng(0)

    def about(count: int, noise: float, seed: int) -> np.ndarray:
        return centres[rng.integers(150, size=count)] + noise * gaussian(count, 128, seed)

    corpus, packed = about(12_000, 0.7, 1), method == "packed"
    settings: Any = {"packed": "ubinary"} if packed else {"method": method}
    rows = np.packbits(corpus > 0, axis=1) if packed else corpus
    binq.build(rows, tmp_path / "i.binq", kind="ivf", **settings)
    index = Index(tmp_path / "i.binq")
    calibration = index.structure.describe()["calibration"]
    scoring = index.file.header.scoring
    assert set(calibration["edges"]) <= set(calibration["gaps"])
    for queries in (about(300, 1.5, 2), about(300, 2.5, 3), gaussian(300, 128, 4), corpus[:300]):
        asked = np.packbits(queries > 0, axis=1) if packed else queries
        prepared = index.prepare(asked, "ubinary" if packed else None)
        promises_hold(index, prepared, [scoring])
    # Where queries come with the build there is no need to guess.
    binq.build(rows, tmp_path / "i.binq", kind="ivf", check_queries=rows[:500], **settings)
    assert "edges" not in Index(tmp_path / "i.binq").structure.describe()["calibration"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sign", "learned"])
def test_filters_that_agree_and_filters_that_oppose(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allowed are rows near the query, any, rows near another row, and rows far from the query."""
    monkeypatch.setattr(ivf, "FEW", 0)
    corpus, asked = latent(30_000, 128), latent(30, 128, seed=1)
    binq.build(corpus, tmp_path / "i.binq", kind="ivf", method=method)
    index = Index(tmp_path / "i.binq")
    scoring = index.file.header.scoring
    rng = np.random.default_rng(0)
    for share in (0.5, 0.1, 0.01, 0.001):
        reached: dict[str, list[float]] = {}
        for query in asked:
            count, one = round(share * len(corpus)), index.prepare(query)
            nearness = corpus @ query / np.linalg.norm(corpus, axis=1)
            other = corpus @ corpus[rng.integers(len(corpus))] / np.linalg.norm(corpus, axis=1)
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


@pytest.mark.slow
def test_real_queries(shared_data: Path, tmp_path: Path) -> None:
    """Headings are no passages: the promise that rows gave holds for them all the same."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "queries.parquet")
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    queries = flat.reshape(len(table), -1).astype(np.float32)
    path, docs = tmp_path / "i.binq", shared_data / "docs.parquet"
    for method in ("sign", "learned"):
        settings: Any = {"method": method, "scoring": "asymmetric"}
        binq.build(docs, path, kind="ivf", **settings)
        index = Index(path)
        scorings = ["asymmetric"] if method == "learned" else ["hamming", "asymmetric"]
        promises_hold(index, index.prepare(queries[::4]), scorings, (10, 40, 100))
    # Calibrated with half of the queries: the other half is as well served.
    binq.build(docs, path, kind="ivf", method="sign", check_queries=shared_data / "queries.parquet")
    halves = [xxhash.xxh3_64_intdigest(str(name).encode()) % 2 for name in table["id"].to_pylist()]
    index = Index(path)
    others = index.prepare(queries[np.array(halves) == 1][::2])
    promises_hold(index, others, ["hamming", "asymmetric"], (10, 40, 100))
