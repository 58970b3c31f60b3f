"""Building: what an index says of itself, packed input, and what is refused."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from corpora import debris, gaussian, write_jsonl, write_parquet

from binq import binarize, build, similarity
from binq import bits as packing
from binq.errors import BinqWarning, InputError, UsageError
from binq.index.index import Index
from binq.types import LAYOUTS, METRICS, SCORINGS, STORED_VECTORS


def codes_in(path: Path) -> np.ndarray:
    return np.asarray(Index(path).structure.codes)


def test_codes_are_the_signs(tmp_path: Path) -> None:
    for dim, metric in itertools.product([1, 7, 8, 63, 64, 65, 128, 300], METRICS):
        vectors = gaussian(40, dim)
        report = build(vectors, tmp_path / "i.binq", metric=metric)
        assert (report.rows, report.dim, report.bits, report.method) == (40, dim, dim, "sign")
        assert report.size == (tmp_path / "i.binq").stat().st_size
        assert np.array_equal(codes_in(tmp_path / "i.binq"), naive.pack(vectors > 0))


@pytest.mark.parametrize("method", ["mean", "median"])
def test_fitted_methods_see_only_the_sample(tmp_path: Path, method: Any) -> None:
    vectors = gaussian(2000, 12) + np.float32(1)
    path = tmp_path / "i.binq"
    build(vectors, path, method=method, metric="ip")
    middle = vectors.mean(axis=0) if method == "mean" else np.median(vectors, axis=0)
    assert np.array_equal(codes_in(path), naive.pack(vectors > middle.astype(np.float32)))
    thresholds = []
    for seed in (0, 0, 1):
        build(vectors, path, method=method, sample=50, seed=seed)
        binarizer = Index(path).binarizer
        assert binarizer is not None
        assert (binarizer.sample, binarizer.seed) == (50, seed)
        thresholds.append(binarizer.affine.center)
    assert np.array_equal(thresholds[0], thresholds[1])
    assert not np.array_equal(thresholds[0], thresholds[2])


def test_truncation_cuts_codes_and_not_the_stored_vectors(tmp_path: Path) -> None:
    vectors = gaussian(30, 20)
    report = build(vectors, tmp_path / "i.binq", truncate_dim=9, rescore="float32")
    assert (report.dim, report.bits) == (20, 9)
    index = Index(tmp_path / "i.binq")
    assert np.array_equal(index.structure.codes, naive.pack(vectors[:, :9] > 0))
    stored = index.file.array("rescore.vectors", "float32", (30, 20))
    assert np.allclose(stored, naive.unit(vectors), atol=1e-6)
    hits = index.search(vectors[:3], 5, oversample=10)
    for number in range(3):
        assert hits.rows[number].tolist() == naive.neighbours(vectors[number], vectors, 5, "cosine")


def test_vectors_are_normalised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    whole = similarity.normalize
    monkeypatch.setattr(similarity, "normalize", lambda x: (calls.append(len(x)), whole(x))[1])
    vectors = gaussian(30, 20) + np.float32(0.3)
    kept = tmp_path / "b.npz"
    build(vectors, tmp_path / "i.binq", method="mean", save_binarizer=kept)
    for scoring in SCORINGS:
        calls.clear()
        build(vectors, tmp_path / "i.binq", binarizer=kept, rescore="float32", scoring=scoring)
        assert calls == [30]


def test_vectors_stored_under_ip_are_not_normalised(tmp_path: Path) -> None:
    vectors = gaussian(5, 4) * np.float32(3)
    build(vectors, tmp_path / "i.binq", metric="ip", rescore="float32")
    stored = Index(tmp_path / "i.binq").file.array("rescore.vectors", "float32", (5, 4))
    assert np.array_equal(stored, vectors)


def test_packed_input(tmp_path: Path) -> None:
    for layout, dim in itertools.product(LAYOUTS, [1, 8, 13, 64, 100]):
        flags = gaussian(20, dim) > 0
        np.save(tmp_path / "c.npy", packing.to_layout(packing.pack(flags), dim, layout))
        report = build(tmp_path / "c.npy", tmp_path / "i.binq", packed=layout, bits=dim)
        assert (report.bits, report.method) == (dim, None)
        assert np.array_equal(codes_in(tmp_path / "i.binq"), naive.pack(flags))
        build(tmp_path / "c.npy", tmp_path / "i.binq", packed=layout, bits=dim, method="sign")
        index = Index(tmp_path / "i.binq")
        floats = np.where(flags[:2], 1, -1).astype(np.float32)
        assert (index.search(floats, 1).distances == 0).all()


def test_packed_input_with_a_binarizer(tmp_path: Path) -> None:
    vectors = gaussian(50, 24) + np.float32(0.3)
    kept = tmp_path / "b.npz"
    build(vectors, tmp_path / "f.binq", method="mean", save_binarizer=kept)
    packed = packing.to_layout(codes_in(tmp_path / "f.binq"), 24, "ubinary")
    np.save(tmp_path / "c.npy", packed)
    build(tmp_path / "c.npy", tmp_path / "p.binq", packed="ubinary", binarizer=kept)
    for name in ("f", "p"):
        assert (Index(tmp_path / f"{name}.binq").search(vectors[:9], 1).distances == 0).all()
    np.save(tmp_path / "c.npy", packed[:, :2])
    with pytest.raises(InputError, match="width"):
        build(tmp_path / "c.npy", tmp_path / "p.binq", packed="ubinary", binarizer=kept)


def test_what_packed_input_cannot_have(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.full((4, 2), 255, np.uint8))
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"rescore": "float32"}, UsageError),
        ({"truncate_dim": 4}, UsageError),
        ({"method": "mean"}, UsageError),
        ({"save_binarizer": "b.npz"}, UsageError),
        ({"packed": "binary"}, InputError),
        ({"bits": 17}, InputError),
        ({"bits": 15}, InputError),
        ({"packed": None}, InputError),
    ]
    for options, error in cases:
        with pytest.raises(error):
            build(tmp_path / "c.npy", tmp_path / "i.binq", **({"packed": "ubinary"} | options))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c.npy"]


def test_options_that_make_no_sense(corpus: Path, tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"metric": "hamming"},
        {"method": "pca"},
        {"method": "itq", "bits": 49},
        {"method": "rabitq", "bits": 47},
        {"method": "lsh", "bits": 0},
        {"method": "lsh", "bits": 16385},
        {"rescore": "int4"},
        {"scoring": "cosine"},
        {"truncate_dim": 0},
        {"truncate_dim": 49},
        {"bits": 47},
        {"threads": 0},
    ]
    for options in cases:
        with pytest.raises(UsageError):
            build(corpus, tmp_path / "i.binq", **options)
        assert not (tmp_path / "i.binq").exists()
        assert not debris(tmp_path)


def test_a_binarizer_must_fit(corpus: Path, tmp_path: Path) -> None:
    kept = tmp_path / "b.npz"
    build(gaussian(9, 20), tmp_path / "o.binq", save_binarizer=kept)
    with pytest.raises(InputError, match="another dimension"):
        build(corpus, tmp_path / "i.binq", binarizer=kept)
    build(gaussian(9, 48), tmp_path / "o.binq", save_binarizer=kept)
    with pytest.raises(InputError, match="another metric"):
        build(corpus, tmp_path / "i.binq", binarizer=kept, metric="l2")
    for option in ({"method": "sign"}, {"truncate_dim": 3}):
        with pytest.raises(UsageError, match="leave out"):
            build(corpus, tmp_path / "i.binq", binarizer=kept, **option)  # type: ignore[arg-type]
    build(corpus, tmp_path / "i.binq", binarizer=kept)


@pytest.mark.parametrize("options", [{}, {"method": "mean", "rescore": "int8"}])
def test_values_that_are_no_numbers(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "i.binq").write_bytes(b"\x89BINQ old")
    dtypes, values = (np.float16, np.float32, np.float64), (np.nan, np.inf, -np.inf)
    for dtype, row, value in itertools.product(dtypes, (0, 7, 14), values):
        vectors = gaussian(15, 6).astype(dtype)
        vectors[row, 3] = value
        np.save(tmp_path / "c.npy", vectors)
        with pytest.raises(InputError, match=rf"c\.npy row {row}\b"):
            build(
                tmp_path / "c.npy",
                tmp_path / "i.binq",
                save_binarizer=tmp_path / "b.npz",
                **options,
            )
        assert (tmp_path / "i.binq").read_bytes() == b"\x89BINQ old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c.npy", "i.binq"]


@pytest.mark.parametrize(
    "options",
    [{}, {"method": "mean"}, {"rescore": "int8"}, {"method": "median", "truncate_dim": 2}],
)
@pytest.mark.parametrize("source", ["npy", "jsonl", "parquet"])
def test_zero_rows_under_cosine_are_named(
    tmp_path: Path, source: str, options: dict[str, Any]
) -> None:
    vectors = gaussian(15, 4)
    vectors[11, : options.get("truncate_dim")] = 0
    path = tmp_path / f"c.{source}"
    if source == "npy":
        np.save(path, vectors)
    else:
        {"jsonl": write_jsonl, "parquet": write_parquet}[source](path, vectors)
    with pytest.raises(InputError, match=rf"norm zero: .*c\.{source} row 11\b"):
        build(path, tmp_path / "i.binq", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    build(path, tmp_path / "i.binq", metric="l2", **options)


def test_values_at_the_edge_of_numbers(tmp_path: Path) -> None:
    for value, metric in itertools.product((0.0, -0.0, 1e-45, 1e18, 3e38), METRICS):
        if value > 1e30 and metric != "cosine":
            continue
        vectors = gaussian(15, 6)
        vectors[3] = np.float32(value)
        if value == 0 and metric == "cosine":
            with pytest.raises(InputError, match="row 3"):
                build(vectors, tmp_path / "i.binq", metric=metric)
            continue
        # A value that is lost beside a large one once they are normalised keeps its sign.
        vectors[4, :2] = 1e-30, 3e38 if metric == "cosine" else 4e18
        build(vectors, tmp_path / "i.binq", metric=metric, rescore="float32")
        assert np.array_equal(codes_in(tmp_path / "i.binq"), naive.pack(vectors > 0))


def test_no_rows_of_a_known_dim(tmp_path: Path) -> None:
    for stored in STORED_VECTORS:
        report = build(np.empty((0, 12), np.float32), tmp_path / "i.binq", rescore=stored)
        assert (report.rows, report.bits) == (0, 12)
        hits = Index(tmp_path / "i.binq").search(gaussian(2, 12), 5)
        assert hits.rows.shape == (2, 0)
        assert hits.ids == [[], []]
    with pytest.raises(InputError, match="no rows to fit"):
        build(np.empty((0, 12), np.float32), tmp_path / "i.binq", method="mean")


def test_no_rows_of_an_unknown_dim(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("")
    for options in ({}, {"method": "mean"}, {"rescore": "int8"}):
        with pytest.raises(InputError, match=r"nothing that says their dimension|no rows"):
            build(tmp_path / "c.jsonl", tmp_path / "i.binq", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "i.binq").exists()


def test_ids_and_duplicates(tmp_path: Path) -> None:
    ids = ["a", "b\n", "", "a", "é", "b\n"]
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(6, 5), ids)
    with pytest.warns(
        BinqWarning, match=r"2 ids stand on more than one row \(first: rows 0 and 3\)|rows 1 and 5"
    ):
        build(corpus, tmp_path / "i.binq")
    stored = Index(tmp_path / "i.binq").ids
    assert stored is not None
    assert list(stored) == ids
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(
            write_jsonl(tmp_path / "d.jsonl", gaussian(3, 5), ["a", "b", "c"]), tmp_path / "i.binq"
        )
        build(write_jsonl(tmp_path / "e.jsonl", gaussian(3, 5)), tmp_path / "i.binq")
    assert Index(tmp_path / "i.binq").ids is None


def test_every_source_gives_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    vectors = gaussian(700, 13)
    ids = [str(n) for n in range(700)]
    sources = [
        write_jsonl(tmp_path / "c.jsonl", vectors, ids),
        write_parquet(tmp_path / "c.parquet", vectors, ids),
        [
            str(write_parquet(tmp_path / "s1.parquet", vectors[:300], ids[:300])),
            str(write_parquet(tmp_path / "s2.parquet", vectors[300:], ids[300:])),
        ],
    ]
    found = []
    for source in sources:
        build(source, tmp_path / "i.binq", method="median", rescore="int8", sample=100)  # type: ignore[arg-type]
        index = Index(tmp_path / "i.binq")
        stored = index.file.array("rescore.vectors", "int8", (700, 13))
        found.append((index.structure.codes.tobytes(), stored.tobytes(), list(index.ids or [])))
    assert found[0] == found[1] == found[2]


def test_the_header_says_what_a_query_needs(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(6, 5))
    build(corpus, tmp_path / "i.binq", method="mean", truncate_dim=4, metric="l2", seed=9)
    header = Index(tmp_path / "i.binq").file.header
    assert (header.rows, header.dim, header.bits, header.words) == (6, 5, 4, 1)
    assert (header.metric, header.ids, header.rescore) == ("l2", "rows", "none")
    assert header.binarizer == {
        "method": "mean",
        "dim": 5,
        "bits": 4,
        "metric": "l2",
        "truncate_dim": 4,
        "seed": 9,
        "sample": 6,
    }
    assert [source["rows"] for source in header.sources] == [6]
    assert header.binq == __import__("binq").__version__


def test_signs_of_numbers_that_have_one_are_warned_of(tmp_path: Path) -> None:
    """Images and counts: of codes that are all alike none is near."""
    out = tmp_path / "i.binq"
    counts = np.abs(gaussian(300, 16)) * (gaussian(300, 16, seed=1) > 0)
    counts[:, 0] += 0.1
    match = r"first 300 rows is negative.*; use method=median or itq"
    with pytest.warns(BinqWarning, match=match):
        build(counts, out)
    with pytest.warns(BinqWarning, match=match):
        binarize(counts, tmp_path / "c.npy")
    build(counts, out, method="median")  # which warns of nothing, and finds what there is
    assert Index(out).search(counts[:20], k=1).rows.ravel().tolist() == list(range(20))
    for few in (counts[:20], counts[:, :4], np.concatenate([counts[1:], -counts[:1]])):
        build(few, out)
    np.save(tmp_path / "p.npy", np.packbits(counts > 0, axis=1))
    build(tmp_path / "p.npy", out, packed="ubinary", method="sign")
