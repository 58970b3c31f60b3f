"""The asymmetric scan and rescoring by codes, against the formula in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from conftest import Real
from corpora import anisotropic, gaussian, quick_ste

import binq
from binq import binarizers
from binq import bits as packing
from binq.errors import InputError, UsageError
from binq.index.index import Index
from binq.types import METHODS

METRICS = ["cosine", "ip", "l2"]
X, QUERIES = anisotropic(500, 24), anisotropic(6, 24, seed=1)
OTHERS = [method for method in METHODS if method != "sign"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return an index of ``X`` for the asymmetric scan, built when first asked for."""
    place = tmp_path_factory.mktemp("built")

    def get(method: str, metric: Any, scoring: Any = "asymmetric") -> Index:
        path = place / f"{method}-{metric}-{scoring}.binq"
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(binarizers.TABLE, "ste", quick_ste())
                binq.build(X, path, method=method, metric=metric, scoring=scoring)  # type: ignore[arg-type]
        return Index(path)

    return get


def expected(index: Index, queries: np.ndarray) -> np.ndarray:
    """Return the scores (q, n) by the formula, from what the file holds."""
    assert index.binarizer is not None
    terms = []
    for name in ("factor", "addend"):
        section = index.file.sections.get(f"codes.{name}")
        if section is None:
            terms.append(None)
        else:
            terms.append(index.file.array(f"codes.{name}", section.dtype, (len(index),)))
    weights = index.prepare(queries).weights
    return naive.asymmetric(
        weights.values, index.structure.codes, weights.base, weights.offset, terms[0], terms[1]
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_the_formula(built: Any, method: str, metric: Any) -> None:
    index = built(method, metric)
    wanted = expected(index, QUERIES)
    scale = np.abs(wanted).max()
    for threads in (1, 2):
        hits = index.search(QUERIES, 10, oversample=50, threads=threads)
        assert hits.distances is None
        for number, line in enumerate(hits.rows):
            scores = wanted[number]
            assert np.allclose(hits.scores[number], scores[line], atol=1e-5 * scale)
            # All rows were rescored: the best ten, up to rounding.
            assert scores[line].min() >= np.sort(scores)[-10] - 1e-5 * scale
            order = list(zip(-hits.scores[number], line, strict=True))
            assert order == sorted(order)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_the_scan_is_within_its_bound(built: Any, method: str, metric: Any) -> None:
    index = built(method, metric)
    wanted = expected(index, QUERIES)
    hits = index.search(QUERIES, 500, rescore="none")
    weights = index.prepare(QUERIES).weights
    units, steps = naive.units(weights.values)
    bound = np.abs(weights.values - units * steps[:, None]).sum(axis=1, keepdims=True)
    section = index.file.sections.get("codes.factor")
    if section is not None:
        factor = index.file.array("codes.factor", section.dtype, (500,)).astype(np.float64)
        bound = bound * factor[hits.rows]
    exact = np.take_along_axis(wanted, hits.rows, axis=1)
    assert (np.abs(hits.scores - exact) <= bound + 1e-5 * np.abs(wanted).max()).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_scores_approximate_the_metric(built: Any, method: str, metric: Any) -> None:
    wanted = expected(built(method, metric), QUERIES)
    truth = np.array([naive.score(query, X, metric) for query in QUERIES])
    if method == "sign" and metric == "cosine":
        # Without a factor it only sorts.
        for found, true in zip(wanted, truth, strict=True):
            assert np.corrcoef(found, true)[0, 1] > 0.6
        return
    error = ((wanted - truth) ** 2).mean()
    spread = ((truth - truth.mean(axis=1, keepdims=True)) ** 2).mean()
    limit = {"learned": 0.2, "sign": 1.5}.get(method, 0.7)
    assert error < limit * spread


@pytest.mark.parametrize("metric", METRICS)
def test_learned_scores_better_than_any_other(built: Any, metric: Any) -> None:
    truth = np.array([naive.score(query, X, metric) for query in QUERIES])
    errors = {
        method: ((expected(built(method, metric), QUERIES) - truth) ** 2).mean()
        for method in METHODS
    }
    assert min(errors, key=lambda method: errors[method]) == "learned"


def test_the_index_knows_its_scan(built: Any) -> None:
    for method in ("learned", "rabitq"):
        index = Index(built(method, "cosine", None).file.path)
        assert index.file.header.scoring == "asymmetric"
        assert index.search(QUERIES, 3).distances is None
        assert index.search(QUERIES, 3, scoring="hamming").distances is not None
    index = built("itq", "cosine", None)
    assert index.file.header.scoring == "hamming"
    assert index.search(QUERIES, 3).distances is not None
    assert index.search(QUERIES, 3, scoring="asymmetric").distances is None


@pytest.mark.parametrize("method", METHODS)
def test_what_asymmetric_scores_need(built: Any, method: str) -> None:
    """An index for Hamming holds no terms; only cosine does without, and RaBitQ never."""
    for metric in METRICS:
        index = built(method, metric, "hamming")
        assert "codes.factor" not in index.file.sections
        for options in ({"scoring": "asymmetric"}, {"rescore": "codes"}):
            if metric == "cosine" and method != "rabitq":
                index.search(QUERIES, 3, **options)
                continue
            with pytest.raises(InputError, match="build it with scoring=asymmetric"):
                index.search(QUERIES, 3, **options)


@pytest.mark.parametrize("method", ["sign", "lsh", "itq"])
def test_codes_rescore_a_hamming_scan(built: Any, method: str) -> None:
    index = built(method, "cosine", "hamming")
    wanted = expected(index, QUERIES)
    hits = index.search(QUERIES, 5, rescore="codes", oversample=4)
    scan = index.search(QUERIES, 20)
    for number in range(len(QUERIES)):
        survivors = scan.rows[number].tolist()
        best = sorted(survivors, key=lambda row: (-wanted[number][row], row))[:5]
        assert np.allclose(hits.scores[number], wanted[number][best], atol=1e-5)
        far = dict(zip(survivors, scan.distances[number].tolist(), strict=True))
        assert hits.distances[number].tolist() == [far[row] for row in hits.rows[number].tolist()]


@pytest.mark.parametrize("metric", METRICS)
def test_asymmetric_survivors_rescored_by_a_payload(tmp_path: Path, metric: Any) -> None:
    path = tmp_path / "i.binq"
    binq.build(X, path, method="learned", metric=metric, rescore="float32")
    hits = Index(path).search(QUERIES, 7, oversample=100)
    assert hits.distances is None
    for number, query in enumerate(QUERIES):
        truth = naive.score(query, X, metric)
        assert hits.rows[number].tolist() == naive.neighbours(query, X, 7, metric)
        assert np.allclose(hits.scores[number], truth[hits.rows[number]], atol=1e-4)


def test_packed_queries_scan_hamming(built: Any) -> None:
    index = built("learned", "cosine")
    octets = packing.to_layout(index.prepare(QUERIES).codes, 24, "ubinary")
    hits = index.search(octets, 4, packed="ubinary")
    assert hits.distances is not None
    for options in ({"scoring": "asymmetric"}, {"rescore": "codes"}):
        with pytest.raises(UsageError, match="packed queries"):
            index.search(octets, 4, packed="ubinary", **options)


def test_bits_of_known_origin_take_asymmetric_queries(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.packbits(X > 0, axis=1))
    binq.build(tmp_path / "c.npy", tmp_path / "p.binq", packed="ubinary", method="sign")
    binq.build(X, tmp_path / "f.binq", method="sign")
    found = [
        Index(tmp_path / name).search(QUERIES, 9, scoring="asymmetric")
        for name in ("p.binq", "f.binq")
    ]
    assert np.array_equal(found[0].rows, found[1].rows)
    assert np.array_equal(found[0].scores, found[1].scores)
    binq.build(tmp_path / "c.npy", tmp_path / "u.binq", packed="ubinary")
    octets = np.packbits(QUERIES > 0, axis=1)
    with pytest.raises(InputError, match="built from bits"):
        Index(tmp_path / "u.binq").search(QUERIES, 3, scoring="asymmetric")
    with pytest.raises(UsageError, match="packed queries"):
        Index(tmp_path / "u.binq").search(octets, 3, scoring="asymmetric", packed="ubinary")
    for options in ({"metric": "l2", "method": "sign"}, {}):
        with pytest.raises(UsageError, match="asymmetric scan"):
            binq.build(
                tmp_path / "c.npy",
                tmp_path / "n.binq",
                packed="ubinary",
                scoring="asymmetric",
                **options,  # type: ignore[arg-type]
            )


def test_radius_rescored_by_codes(built: Any) -> None:
    index = built("itq", "l2")
    wanted = expected(index, QUERIES)
    near = index.radius_search(QUERIES, 9, rescore="codes")
    codes = index.prepare(QUERIES).codes
    for number in range(len(QUERIES)):
        inside = [row for _, row in naive.within(index.structure.codes, codes[number], 9)]
        part = near.of(number)
        assert sorted(part.rows[0].tolist()) == sorted(inside)
        assert np.allclose(part.scores[0], wanted[number][part.rows[0]], atol=1e-4)
        assert (np.diff(part.scores[0]) <= 0).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("method", ["sign", "mean", "rotate", "learned", "rabitq"])
@pytest.mark.parametrize("metric", METRICS)
def test_few_rows(tmp_path: Path, n: int, method: Any, metric: Any) -> None:
    path = tmp_path / "i.binq"
    if n == 0 and method != "sign":
        with pytest.raises(InputError, match="no rows"):
            binq.build(X[:0], path, method=method, metric=metric)
        return
    binq.build(X[:n], path, method=method, metric=metric, scoring="asymmetric")
    index = Index(path)
    for k in (1, n + 1):
        for rescore in ("none", "codes"):
            hits = index.search(QUERIES, k, rescore=rescore)  # type: ignore[arg-type]
            assert hits.rows.shape == hits.scores.shape == (6, min(k, n))
            assert np.isfinite(hits.scores).all()
    assert index.search(QUERIES[:0], 2).rows.shape == (0, min(2, n))


def test_asymmetric_search_depends_on_no_other_query(built: Any) -> None:
    index = built("learned", "ip")
    whole = index.search(QUERIES, 8)
    for number in range(len(QUERIES)):
        alone = index.search(QUERIES[number : number + 1], 8)
        assert np.array_equal(alone.rows[0], whole.rows[number])
        assert np.allclose(alone.scores[0], whole.scores[number], atol=1e-6)


def test_sign_under_cosine_is_the_sum_of_signed_values(tmp_path: Path) -> None:
    x, queries = gaussian(80, 30), gaussian(3, 30, seed=1)
    binq.build(x, tmp_path / "i.binq", scoring="asymmetric")
    hits = Index(tmp_path / "i.binq").search(queries, 5, oversample=16)
    wanted = naive.unit(queries) @ np.where(x > 0, 1.0, -1.0).T / np.sqrt(30)
    for number, scores in enumerate(wanted):
        best = np.argsort(-scores)[:5]
        assert hits.rows[number].tolist() == best.tolist()
        assert np.allclose(hits.scores[number], scores[best], atol=1e-6)


@pytest.mark.slow
def test_recall_on_real_data(real: Real, tmp_path: Path) -> None:
    """Learned codes keep more of the true neighbours than signs, and four fifths of them."""
    docs, queries = np.ascontiguousarray(real.vectors[::8]), real.probes[:200]
    truth = [naive.neighbours(query, docs, 10, "cosine") for query in queries]
    found = {}
    for method in ("sign", "learned"):
        path = tmp_path / f"{method}.binq"
        binq.build(docs, path, method=method, scoring="asymmetric")  # type: ignore[arg-type]
        hits = Index(path).search(queries, 10)
        found[method] = np.mean(
            [naive.recall(*pair) for pair in zip(hits.rows, truth, strict=True)]
        )
    assert found["learned"] > found["sign"] + 0.03
    assert found["learned"] >= 0.80
