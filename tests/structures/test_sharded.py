"""Shards as one structure: what is kept once, and what a damaged shard comes to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import clustered
from forging import header_of

import binq
from binq.errors import EnvironmentFailure, IndexFileError
from binq.index.index import Index
from binq.structures import hnsw, ivf, sharded, sharded_kinds
from binq.structures.base import Effort
from binq.structures.flat import Flat
from binq.structures.sharded import Sharded

QUERIES = clustered(9, 40, 6, seed=5)


def built(place: Path, **settings: Any) -> Index:
    binq.build(clustered(500, 40, 6), place / "many.d", shard_rows=61, **settings)
    return Index(place / "many.d")


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_shards_are_not_searched_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """Whatever is asked, shards are one structure; graphs are not."""
    monkeypatch.setattr(ivf, "FEW", 2)
    index = built(tmp_path, kind=kind, method="rabitq", rescore="int8")
    structure = index.structure
    assert isinstance(structure, Sharded)
    for shard in structure.shards:
        for name in ("nearest", "best", "within", "count_within"):
            monkeypatch.setattr(shard, name, None)
    for settings in ({}, {"scoring": "asymmetric"}, {"scoring": "hamming", "rescore": "none"}):
        for some in ({}, {"exclude_ids": range(0, 500, 3)}, {"filter_ids": range(0, 500, 99)}):
            for queries in (QUERIES, QUERIES[:1]):
                assert index.search(queries, 7, **settings, **some).rows.shape[0] == len(queries)
    assert len(index.radius_search(QUERIES, 9).lims) == 10
    # Their terms are parts of those of all.
    assert isinstance(structure.whole, Flat | ivf.Ivf)
    factor = structure.whole.terms.factor
    assert factor is not None
    assert len(factor) == 500
    for shard in structure.shards:
        assert np.shares_memory(shard.terms.factor, factor)  # type: ignore[attr-defined]


def test_a_damaged_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "FEW", 2)
    path = built(tmp_path, kind="ivf", nlist=4).file.shards[3].path
    data = path.read_bytes()
    section = next(part for part in header_of(data)["sections"] if part["name"] == "ivf.rows")
    start, end = section["offset"], section["offset"] + section["length"]
    path.write_bytes(data[:start] + b"\xff" * (end - start) + data[end:])
    for queries in (QUERIES, QUERIES[:1]):
        for settings in ({"nprobe": 4}, {"nprobe": 4, "exclude_ids": [3]}):
            with pytest.raises(IndexFileError, match=r"ivf\.rows") as caught:
                Index(tmp_path / "many.d").search(queries, 500, **settings)  # type: ignore[arg-type]
            assert path.name in caught.value.line()


def test_graphs_of_shards_are_walked_one_by_one(tmp_path: Path) -> None:
    index = built(tmp_path, kind="hnsw")
    assert isinstance(index.structure, Sharded)
    assert index.structure.whole is None
    assert all(isinstance(shard, hnsw.Hnsw) for shard in index.structure.shards)
    index.structure.check(Effort(ef=40))
    assert index.search(QUERIES, 7).rows.shape == (9, 7)


def test_too_few_files_may_be_open(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    built(tmp_path).close()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(tmp_path, os.O_RDONLY)]
    while held[-1] < 64 or held[-1] < held[0] + 8:  # numbers that are free below the limit
        held.append(os.open(tmp_path, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 8, limits[1]))
    try:
        with pytest.raises(EnvironmentFailure, match="ulimit -n 82") as caught:
            Index(tmp_path / "many.d")
        assert "two files for each of 9 shards" in caught.value.line()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in held:
            os.close(descriptor)
    with Index(tmp_path / "many.d") as index:
        assert len(index) == 500


def test_more_rows_than_one_call_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of these are searched by themselves, and what they find is merged."""
    monkeypatch.setattr(ivf, "FEW", 2)
    for kind in ("flat", "ivf"):
        made: dict[str, Any] = {"kind": kind, "method": "rabitq", "rescore": "int8"}
        binq.build(clustered(500, 40, 6), tmp_path / "one.binq", overwrite=True, **made)
        built(tmp_path, overwrite=True, **made).close()
        one = Index(tmp_path / "one.binq")
        for module in (sharded, sharded_kinds):
            monkeypatch.setattr(module, "MAX_ROWS", 100)
        many = Index(tmp_path / "many.d")
        assert isinstance(many.structure, Sharded)
        assert many.structure.whole is None
        for settings in ({}, {"scoring": "hamming", "rescore": "none"}):
            for some in ({}, {"exclude_ids": range(0, 500, 3)}, {"filter_ids": range(0, 500, 99)}):
                for queries in (QUERIES, QUERIES[:1]):
                    found = [index.search(queries, 7, **settings, **some) for index in (one, many)]
                    assert found[0].rows.tolist() == found[1].rows.tolist()
                    assert found[0].scores.tolist() == found[1].scores.tolist()
        assert (
            many.radius_search(QUERIES, 9).rows.tolist()
            == one.radius_search(QUERIES, 9).rows.tolist()
        )
        monkeypatch.undo()
        monkeypatch.setattr(ivf, "FEW", 2)
