"""Large numbers: what ip and l2 take works with every method, and the rest is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian

import binq
from binq.errors import InputError
from binq.types import METHODS, METRICS

LONGEST = 2.0**62
FLT_MAX = float(np.finfo(np.float32).max)


def of_norm(vectors: np.ndarray, norm: float) -> np.ndarray:
    """Give all vectors a norm, or a hair less."""
    wide = vectors.astype(np.float64)
    wide *= norm * (1 - 1e-7) / np.linalg.norm(wide, axis=1, keepdims=True)
    return wide.astype(np.float32)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_within_the_range_everything_works(
    tmp_path: Path, times: Callable[[int], int], method: Any, metric: Any
) -> None:
    base, asked = gaussian(800, 12), gaussian(5, 12, seed=1)
    path = tmp_path / "i.binq"
    found = {}
    # Cosine knows directions only: any length will do.
    scales = [1e-30, 1e18, LONGEST, *np.geomspace(1e15, LONGEST, times(10)).tolist()]
    if metric == "cosine":
        scales = [1e-30, *np.geomspace(FLT_MAX, 1e15, times(10)).tolist()]
    for scale in (1.0, *scales):
        vectors, queries = of_norm(base, scale), of_norm(asked, scale)
        for scoring in ("hamming", "asymmetric"):
            for rescore in ("none", "int8", "float32"):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    binq.build(
                        vectors, path, method=method, metric=metric,
                        scoring=scoring, rescore=rescore,
                    )  # fmt: skip
                    index = binq.open(path)
                    hits = index.search(queries, 5)
                    auto = index.search(queries, 5, oversample="auto", rescore="auto")
                for answer in (hits, auto):
                    assert np.isfinite(answer.scores).all()
                if scale > 1e-20:
                    key = (scoring, rescore)
                    overlap = np.isin(hits.rows, found.setdefault(key, hits.rows)).mean()
                    assert overlap > 0.8, (scale, key)


def test_a_query_of_another_size_than_the_corpus(tmp_path: Path) -> None:
    for method in ("itq", "learned", "rabitq", "lsh"):
        for corpus, query in ((1.0, LONGEST), (1e-25, LONGEST), (LONGEST, 1e-25)):
            for metric in ("ip", "l2"):
                vectors, asked = of_norm(gaussian(80, 12), corpus), of_norm(gaussian(3, 12), query)
                for scoring in ("hamming", "asymmetric"):
                    binq.build(
                        vectors, tmp_path / "i", method=method, metric=metric, scoring=scoring
                    )
                    hits = binq.open(tmp_path / "i").search(asked, 3)
                    assert np.isfinite(hits.scores).all()


@pytest.mark.torture
def test_any_longer_row_is_refused_by_every_method(
    tmp_path: Path, times: Callable[[int], int]
) -> None:
    """In a build and, where the index took shorter ones, in a query, by either scan."""
    draw = np.random.default_rng(0)
    for norm in np.geomspace(LONGEST * (1 + 1e-6), FLT_MAX, times(100)).tolist():
        method: Any = METHODS[draw.integers(len(METHODS) - 1)]  # the last one trains for long
        metric: Any = ("ip", "l2")[draw.integers(2)]
        good = gaussian(40, 8)
        bad = good.copy()
        row = int(draw.integers(40))
        bad[row] = of_norm(bad[row : row + 1], norm)
        with pytest.raises(InputError, match=rf"row {row}: .*2\^62"):
            binq.build(bad, tmp_path / "i", method=method, metric=metric)
        binq.build(good, tmp_path / "i", method=method, metric=metric, scoring="asymmetric")
        for scoring in ("hamming", "asymmetric"):
            with pytest.raises(InputError, match=rf"row {row}: .*2\^62"):
                binq.open(tmp_path / "i").search(bad, scoring=scoring)


@pytest.mark.parametrize("norm", [LONGEST * (1 + 1e-6), 1e20, 1e38, FLT_MAX])
def test_what_is_longer_is_refused_wherever_it_enters(
    cli: Callable[..., Any], tmp_path: Path, norm: float
) -> None:
    good = gaussian(60, 8)
    bad = good.copy()
    bad[7] = 0
    bad[7, 3] = norm
    for name, vectors in (("good", good), ("bad", bad)):
        np.save(tmp_path / f"{name}.npy", vectors)
    fine, wrong, index = tmp_path / "good.npy", tmp_path / "bad.npy", tmp_path / "i.binq"
    for metric in ("ip", "l2"):
        for words in (
            ["build", wrong, "-o", tmp_path / "o"],
            ["build", wrong, "-o", tmp_path / "o", "--method", "learned"],
            ["build", wrong, "-o", tmp_path / "o", "--truncate-dim", 2],
            ["build", wrong, "-o", tmp_path / "o", "--rescore", "float32"],
            ["binarize", wrong, "-o", tmp_path / "o.npy", "--method", "mean"],
            ["sweep", wrong],
        ):
            refused = cli(*words, "--metric", metric, code=3)
            assert "2^62" in refused.err
            assert f"{wrong} row 7" in refused.err
        assert not (tmp_path / "o").exists()
        cli("build", fine, "-o", index, "--metric", metric, "--scoring", "asymmetric")
        for words in (
            ["query", index, wrong],
            ["query", index, wrong, "--scoring", "asymmetric"],
            ["query", index, fine, "--rescore-from", wrong, "-k", "60"],
            ["eval", index, fine, "--truth", wrong],
        ):
            assert f"{wrong} row 7" in cli(*words, code=3).err
    cli("build", wrong, "-o", index)  # cosine knows directions only
    for line in cli("query", index, wrong, "--scoring", "asymmetric").lines:
        assert all(np.isfinite(hit["score"]) for hit in line["hits"])


def test_rows_in_memory_are_named(tmp_path: Path) -> None:
    vectors = gaussian(9, 4)
    vectors[5] *= np.float32(1e30)
    with pytest.raises(InputError, match=r"row 5: .*2\^62"):
        binq.build(vectors, tmp_path / "i", metric="l2")
    binq.build(vectors[:5], tmp_path / "i", metric="l2")
    with pytest.raises(InputError, match=r"row 5: .*2\^62"):
        binq.open(tmp_path / "i").search(vectors)


def test_a_sweep_over_the_longest_vectors_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, of_norm(gaussian(600, 16), LONGEST))
    found = binq.sweep(str(path), metric="l2", methods=["sign", "itq"])
    assert all(np.isfinite(row.recall.value) for row in found.rows)
