"""Searching: faiss and the oracle agree; k, radius, rescoring, packed queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from conftest import Real
from corpora import gaussian, write_jsonl, write_parquet

import binq
from binq import bits as packing
from binq.errors import BinqWarning, InputError, UsageError
from binq.index.index import Index
from binq.types import LAYOUTS


def same_hits(index: Index, vectors: np.ndarray, queries: np.ndarray, k: int) -> None:
    """Compare with faiss on the same codes: distances exactly, rows up to ties."""
    faiss = pytest.importorskip("faiss")
    padded = -(-index.bits // 8) * 8
    judge = faiss.IndexBinaryFlat(padded)
    judge.add(np.packbits(vectors > 0, axis=1, bitorder="little"))
    codes = np.packbits(queries > 0, axis=1, bitorder="little")
    distances, rows = judge.search(codes, k)
    for threads in (1, 2):
        hits = index.search(queries, k, rescore="none", threads=threads)
        assert np.array_equal(hits.distances, distances)
        assert np.array_equal(hits.scores, -distances.astype(float))
        for ours, theirs, far in zip(hits.rows, rows, distances, strict=True):
            inside = far < far[-1]  # whole groups of ties; the last is cut by either as it likes
            assert set(ours[inside]) == set(theirs[inside])
            assert all(np.all(np.diff(ours[far == distance]) > 0) for distance in np.unique(far))


@pytest.mark.parametrize("bits", [384, 768, 1000])
def test_hits_equal_faiss_on_random_data(tmp_path: Path, bits: int) -> None:
    vectors, queries = gaussian(5000, bits), gaussian(20, bits, seed=1)
    binq.build(vectors, tmp_path / "i.binq")
    same_hits(Index(tmp_path / "i.binq"), vectors, queries, 100)


@pytest.mark.slow
def test_hits_equal_faiss_on_real_data(real: Real, tmp_path: Path) -> None:
    binq.build(str(real.docs), tmp_path / "i.binq")
    same_hits(Index(tmp_path / "i.binq"), real.vectors, real.probes, 100)


@pytest.mark.slow
@pytest.mark.parametrize("width", [768, 1000])
def test_hits_equal_faiss_on_real_data_made_wider(real: Real, tmp_path: Path, width: int) -> None:
    turn = gaussian(384, width)
    vectors, queries = real.vectors[:8000] @ turn, real.probes[:50] @ turn
    binq.build(vectors, tmp_path / "i.binq")
    same_hits(Index(tmp_path / "i.binq"), vectors, queries, 50)


@pytest.mark.parametrize("k", [-1, 0, 1, "n", "n+1", 2**31, 2**63, 10**400])
@pytest.mark.parametrize("n", [0, 1, 10])
@pytest.mark.parametrize("payload", ["none", "float32"])
def test_every_k(tmp_path: Path, n: int, k: Any, payload: Any) -> None:
    wanted = {"n": n, "n+1": n + 1}.get(k, k)
    vectors = gaussian(n, 20)
    binq.build(vectors, tmp_path / "i.binq", rescore=payload)
    index = Index(tmp_path / "i.binq")
    queries = gaussian(3, 20, seed=1)
    if wanted < 1:
        with pytest.raises(UsageError, match="at least 1"):
            index.search(queries, wanted)
        return
    hits = index.search(queries, wanted)
    size = min(wanted, n)
    assert hits.rows.shape == hits.distances.shape == hits.scores.shape == (3, size)
    for number in range(3):
        if payload == "none":
            expected = naive.topk(naive.pack(vectors > 0), naive.pack(queries > 0)[number], size)
            assert hits.rows[number].tolist() == [row for _, row in expected]
        elif size == n:
            expected = naive.neighbours(queries[number], vectors, n, "cosine")
            assert hits.rows[number].tolist() == expected


@pytest.mark.parametrize("dim", [1, 3, 17, 64, 65, 130])
def test_search_with_ties_against_the_oracle(tmp_path: Path, dim: int) -> None:
    vectors = np.random.default_rng(dim).integers(-1, 2, (150, dim)).astype(np.float32)
    vectors[:, 0] += np.float32(0.5)
    binq.build(vectors, tmp_path / "i.binq")
    codes = naive.pack(vectors > 0)
    hits = Index(tmp_path / "i.binq").search(vectors[:5], 40)
    for number in range(5):
        expected = naive.topk(codes, codes[number], 40)
        found = zip(hits.distances[number].tolist(), hits.rows[number].tolist(), strict=True)
        assert list(found) == expected


def test_radius(index: Path) -> None:
    vectors, queries = gaussian(300, 48), gaussian(4, 48, seed=1)
    codes, probes = naive.pack(vectors > 0), naive.pack(queries > 0)
    ix = Index(index)
    for radius in (0, 15, 20, 48, 2**63):
        hits = ix.radius_search(queries, radius)
        for number in range(4):
            expected = naive.within(codes, probes[number], radius)
            part = hits.of(number)
            assert part.rows[0].tolist() == [row for _, row in expected]
            assert part.distances[0].tolist() == [distance for distance, _ in expected]
            assert part.scores[0].tolist() == [-distance for distance, _ in expected]
        assert hits.lims[-1] == len(hits.rows) == len(hits.ids)
    few = ix.radius_search(queries, 20, k=3)
    assert (np.diff(few.lims) <= 3).all()
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(UsageError, match=f"no such radius.*got {wrong}"):
            ix.radius_search(queries, wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 1"):
        ix.radius_search(queries, 1, k=0)
    for oversample in (4, 10, "auto"):
        with pytest.raises(UsageError, match="leave out oversample"):
            ix.radius_search(queries, 1, oversample=oversample)
    with pytest.raises(UsageError, match="scoring: expected hamming"):
        ix.radius_search(queries, 1, scoring="asymmetric")
    # The index's own scan does not matter: within a radius all that counts is Hamming distance.
    binq.build(vectors, index.with_name("a.binq"), scoring="asymmetric")
    own, asked = (
        Index(index.with_name("a.binq")).radius_search(queries, 20, scoring=scoring)
        for scoring in (None, "hamming")
    )
    assert own.rows.tolist() == asked.rows.tolist() == ix.radius_search(queries, 20).rows.tolist()


def test_radius_rescored_when_asked(index: Path) -> None:
    vectors, queries = gaussian(300, 48), gaussian(4, 48, seed=1)
    for radius in (0, 18):
        hits = Index(index).radius_search(queries, radius, rescore="float32")
        for number in range(4):
            near = [
                row
                for _, row in naive.within(
                    naive.pack(vectors > 0), naive.pack(queries > 0)[number], radius
                )
            ]
            scores = naive.score(queries[number], vectors, "cosine")
            expected = sorted(near, key=lambda row: (-scores[row], row))
            assert hits.of(number).rows[0].tolist() == expected


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("payload", ["int8", "float16", "float32"])
def test_rescoring_sorts_the_survivors(tmp_path: Path, metric: Any, payload: Any) -> None:
    vectors, queries = gaussian(400, 32), gaussian(6, 32, seed=1)
    binq.build(vectors, tmp_path / "i.binq", metric=metric, rescore=payload)
    index = Index(tmp_path / "i.binq")
    codes, probes = naive.pack(vectors > 0), naive.pack(queries > 0)
    for k, oversample in ((1, 4), (5, 2.5), (10, 4), (3, 1), (10, 1000), (10, 1e308)):
        hits = index.search(queries, k, oversample=oversample)
        for number in range(6):
            depth = 400 if oversample > 40 else -(-k * int(oversample * 2) // 2)
            survivors = [row for _, row in naive.topk(codes, probes[number], depth)]
            scores = naive.score(queries[number], vectors, metric)
            expected = sorted(survivors, key=lambda row: (-scores[row], row))[:k]
            if payload == "float32":
                assert hits.rows[number].tolist() == expected
            assert set(hits.rows[number]) <= set(survivors)
            off = {"int8": 0.3, "float16": 0.05, "float32": 1e-4}[payload]
            assert np.allclose(hits.scores[number], scores[hits.rows[number]], atol=off)


@pytest.mark.parametrize("kind", ["npy", "parquet", "jsonl"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_rescore_from_the_original_file(tmp_path: Path, kind: str, metric: Any) -> None:
    vectors, queries = gaussian(200, 16), gaussian(5, 16, seed=1)
    path = tmp_path / f"c.{kind}"
    if kind == "npy":
        np.save(path, vectors)
    else:
        {"parquet": write_parquet, "jsonl": write_jsonl}[kind](path, vectors)
    binq.build(path, tmp_path / "plain.binq", metric=metric)
    binq.build(path, tmp_path / "full.binq", metric=metric, rescore="float32")
    if kind == "jsonl":
        with pytest.raises(InputError):
            Index(tmp_path / "plain.binq").search(queries, 5, rescore_from=str(path))
        return
    ours = Index(tmp_path / "plain.binq").search(queries, 5, rescore_from=str(path))
    theirs = Index(tmp_path / "full.binq").search(queries, 5)
    assert np.array_equal(ours.rows, theirs.rows)
    assert np.allclose(ours.scores, theirs.scores, atol=1e-6)


def test_rescore_from_another_file(index: Path, corpus: Path, tmp_path: Path) -> None:
    ix = Index(index)
    queries = gaussian(2, 48, seed=1)
    for shape in ((299, 48), (300, 47)):
        np.save(tmp_path / "other.npy", gaussian(*shape))
        with pytest.raises(InputError, match="not what the index was built from"):
            ix.search(queries, rescore_from=str(tmp_path / "other.npy"))
    np.save(tmp_path / "other.npy", gaussian(300, 48, seed=5))
    with pytest.warns(BinqWarning, match="another fingerprint"):
        ix.search(queries, rescore_from=str(tmp_path / "other.npy"))
    ix.search(queries, rescore_from=str(corpus))
    with pytest.raises(UsageError, match="rescore_from already"):
        ix.search(queries, rescore="none", rescore_from=str(corpus))


@pytest.mark.parametrize(
    "options",
    [
        {"rescore": "int4"},
        {"scoring": "cosine"},
        {"oversample": 0.5},
        {"oversample": float("nan")},
        {"oversample": float("inf")},
        {"threads": 0},
        {"packed": "msb"},
    ],
)
def test_options_that_make_no_sense(index: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Index(index).search(gaussian(1, 48), 5, **options)


def test_a_payload_that_is_not_stored(index: Path) -> None:
    for payload in ("int8", "float16"):
        with pytest.raises(InputError, match=f"no {payload} vectors"):
            Index(index).search(gaussian(1, 48), rescore=payload)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "queries",
    [gaussian(1, 47), gaussian(1, 48)[None], gaussian(1, 48) > 0, np.array([["a"] * 48])],
)
def test_queries_that_do_not_fit(index: Path, queries: np.ndarray) -> None:
    with pytest.raises(InputError):
        Index(index).search(queries)


def test_a_vector_is_one_query(index: Path) -> None:
    vectors = gaussian(300, 48)
    ix = Index(index)
    for one, packed in [
        (vectors[7], None),
        (vectors[7].astype(np.float64), None),
        (vectors[7].tolist(), None),
        (np.packbits(vectors[7] > 0), "ubinary"),
    ]:
        assert ix.search(one, 3, packed=packed).rows.shape == (1, 3)
        assert ix.search(one, 3, packed=packed).rows[0, 0] == 7
        assert ix.radius_search(one, 0, packed=packed).rows.tolist() == [7]
    [(ids, [hits])] = binq.query(ix, vectors[7], 1)
    assert ids == [0]
    assert hits.rows.tolist() == [[7]]
    with pytest.raises(InputError, match="expected 48, got 47"):
        ix.search(vectors[7, :47])


def test_queries_that_are_no_numbers(index: Path) -> None:
    for value in (np.nan, np.inf):
        queries = gaussian(3, 48)
        queries[1, 2] = value
        with pytest.raises(InputError, match="row 1"):
            Index(index).search(queries)
    with pytest.raises(InputError, match="norm zero: queries row 0"):
        Index(index).search(np.zeros((1, 48), np.float32))


def test_no_queries(index: Path) -> None:
    hits = Index(index).search(np.empty((0, 48), np.float32), 5)
    assert hits.rows.shape == (0, 5)
    assert Index(index).radius_search(np.empty((0, 48), np.float32), 5).lims.tolist() == [0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_queries(index: Path, layout: packing.Layout) -> None:
    queries = gaussian(5, 48, seed=1)
    octets = packing.to_layout(packing.pack(queries > 0), 48, layout)
    packed = Index(index).search(octets, 7, packed=layout)
    floats = Index(index).search(queries, 7, rescore="none")
    assert np.array_equal(packed.rows, floats.rows)
    assert np.array_equal(packed.scores, floats.scores)
    for options in ({"rescore": "float32"}, {"rescore_from": "x.npy"}):
        with pytest.raises(UsageError, match="packed queries"):
            Index(index).search(octets, 7, packed=layout, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width"):
        Index(index).search(octets[:, :5], 7, packed=layout)


def test_an_index_of_bits_of_unknown_origin(tmp_path: Path) -> None:
    octets = np.packbits(gaussian(30, 16) > 0, axis=1)
    np.save(tmp_path / "c.npy", octets)
    binq.build(tmp_path / "c.npy", tmp_path / "i.binq", packed="ubinary")
    index = Index(tmp_path / "i.binq")
    assert index.binarizer is None
    assert (index.search(octets, 1, packed="ubinary").distances == 0).all()
    with pytest.raises(InputError, match="built from bits"):
        index.search(gaussian(1, 16))


def test_truncated_queries(tmp_path: Path) -> None:
    vectors = gaussian(60, 20)
    binq.build(vectors, tmp_path / "i.binq", truncate_dim=8, rescore="float32")
    index = Index(tmp_path / "i.binq")
    whole = index.search(vectors[:3], 5, rescore="none")
    cut = index.search(vectors[:3, :8], 5, rescore="none")
    assert np.array_equal(whole.rows, cut.rows)
    with pytest.raises(InputError, match="truncated"):
        index.search(vectors[:3, :8], 5)


def test_ids_of_hits(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(9, 6), [f"doc {n}" for n in range(9)])
    binq.build(corpus, tmp_path / "i.binq")
    hits = binq.open(tmp_path / "i.binq").search(gaussian(2, 6, seed=1), 4)
    assert hits.ids == [[f"doc {row}" for row in line] for line in hits.rows]
    assert hits.of(1).ids == [hits.ids[1]]
    near = binq.open(tmp_path / "i.binq").radius_search(gaussian(2, 6, seed=1), 2)
    assert near.ids == [f"doc {row}" for row in near.rows]
