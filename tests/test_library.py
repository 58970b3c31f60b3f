"""The library's surface: every name is there, and none is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
from corpora import gaussian

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
    assert set(binq.__all__) >= NAMES
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
