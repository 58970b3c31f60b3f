"""The library's surface: every name is there, and none is loaded before it is used."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpora import gaussian, write_jsonl
from data.make_golden import grow

import binq

NAMES = {
    "Binarizer",
    "BuildReport",
    "Evaluation",
    "Hits",
    "Index",
    "RadiusHits",
    "binarize",
    "build",
    "describe",
    "evaluate",
    "open",
    "query",
}


def test_every_name_is_there() -> None:
    assert {*binq.__all__, "open"} >= NAMES
    for name in binq.__all__:
        assert getattr(binq, name) is not None
        assert name in dir(binq)
    assert binq.open is binq.Index
    assert issubclass(binq.InputError, binq.BinqError)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'close'"):
        binq.close  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, binq; binq.InputError;"
        "print([n for n in ('numpy','numba','pyarrow','typer','rich') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tour(tmp_path: object) -> None:
    vectors = gaussian(50, 16)
    path = f"{tmp_path}/i.binq"
    report = binq.build(vectors, path, rescore="float32")
    assert report.rows == 50
    ix = binq.open(path)
    assert len(ix) == 50
    assert "50 x 16 bits" in repr(ix)
    assert (ix.bits, ix.dim, ix.metric) == (16, 16, "cosine")
    hits = ix.search(vectors[:3], k=5, scoring=None, rescore="auto", oversample=4, packed=None)
    assert hits.rows.shape == (3, 5)
    assert hits.rows[:, 0].tolist() == [0, 1, 2]
    assert hits.ids == hits.rows.tolist()
    found = binq.evaluate(ix, vectors, truth=vectors, k=[1])
    assert found.metrics["recall@1"]["value"] == 1.0
    assert binq.describe(path, verify=True)["damaged"] == []
    assert binq.binarize(vectors, f"{tmp_path}/c.npy") == 50
    [(ids, lines)] = binq.query(ix, vectors[:2], 1)
    assert ids == [0, 1]
    assert [line.rows[0, 0] for line in lines] == [0, 1]


def test_the_package_says_that_it_is_typed() -> None:
    from importlib.resources import files

    assert files("binq").joinpath("py.typed").is_file()


def test_everything_can_be_pickled(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", gaussian(9, 6), [f"doc {n}" for n in range(9)])
    binq.build(corpus, tmp_path / "i.binq")
    ix = binq.open(tmp_path / "i.binq")
    queries = gaussian(3, 6, seed=1)
    hits, near = ix.search(queries, 4), ix.radius_search(queries, 3)
    kept = pickle.dumps((ix, hits, near))
    again, same, close = pickle.loads(kept)
    assert np.array_equal(again.search(queries, 4).rows, hits.rows)
    for ours, theirs in ((same, hits), (close, near)):
        assert ours.ids == theirs.ids
        assert np.array_equal(ours.rows, theirs.rows)
        assert np.array_equal(ours.scores, theirs.scores)
        assert len(ours) == 3
        assert ours.of(-1).ids == ours.of(2).ids
        for number in (3, -4):
            with pytest.raises(IndexError):
                ours.of(number)
        assert [line.ids for line in ours] == [theirs.of(number).ids for number in range(3)]
    binq.build(corpus, tmp_path / "i.binq")
    assert pickle.loads(pickle.dumps(hits)).ids == hits.ids
    with pytest.raises(binq.IndexFileError, match="was replaced"):
        pickle.loads(kept)


def test_paths_and_blocks(tmp_path: Path) -> None:
    vectors = gaussian(20, 8)
    binq.build(vectors, tmp_path / "i.binq")
    with binq.open(tmp_path / "i.binq") as ix:
        hits = ix.search(vectors[:2], 1)
    assert hits.ids == [[0], [1]]
    ((ids, lines),) = binq.query(str(tmp_path / "i.binq"), vectors[:2], 1)
    assert (ids, [line.ids for line in lines]) == ([0, 1], [[[0]], [[1]]])


def test_a_star_import_shadows_nothing() -> None:
    names: dict[str, object] = {}
    exec("from binq import *", names)
    assert "open" not in names
    assert names["build"] is binq.build


def test_deleted_rows_are_never_found(tmp_path: Path) -> None:
    vectors = gaussian(200, 16)
    binq.build(vectors, tmp_path / "whole.binq", rescore="float32", scoring="asymmetric")
    dead = np.arange(0, 200, 3)
    grow(tmp_path / "whole.binq", tmp_path / "grown.binq", np.arange(200) * 10, dead)
    ix = binq.open(tmp_path / "grown.binq")
    assert len(ix) == 200 - len(dead)
    queries = gaussian(5, 16, seed=1)
    whole = binq.open(tmp_path / "whole.binq")
    for settings in ({}, {"rescore": "none"}, {"scoring": "hamming", "rescore": "codes"}):
        alive = ~np.isin(whole.search(queries, 200, oversample=1, **settings).rows, dead)
        expected = whole.search(queries, 200, oversample=1, **settings).rows
        hits = ix.search(queries, 200, oversample=1, **settings)
        for found, rows, keep in zip(hits, expected, alive, strict=True):
            assert found.rows[0].tolist() == rows[keep].tolist()
            assert found.ids[0] == (found.rows[0] * 10).tolist()
    assert not np.isin(ix.radius_search(queries, 8).rows, dead).any()
    with pytest.warns(binq.BinqWarning, match="1 of 4 ids"):  # that of a row that is dead
        kept = ix.search(queries, 5, filter_ids=[0, 10, 20, 40])
    assert {row for line in kept.rows.tolist() for row in line} == {1, 2, 4}
    # The truth is of the rows that are alive, and the vectors of dead ones are not looked at.
    spoiled = vectors.copy()
    spoiled[dead] = 0
    with pytest.warns(binq.BinqWarning, match="another fingerprint"):
        found = binq.evaluate(ix, queries, truth=spoiled, k=(5,), rescore="float32", oversample=40)
    assert found.facts["n"] == len(ix)
    assert found.metrics["recall@5"]["value"] == 1
