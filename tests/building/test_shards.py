"""Shards: a directory of files answers as one file of all rows does, byte for byte."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import clustered, debris, gaussian, latent, write_jsonl, write_parquet
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

import binq
from binq.building import compact as compacting
from binq.building import reaching
from binq.building.shards import ShardPlan, build_shard
from binq.errors import BinqWarning, InputError, UsageError
from binq.index.index import Index
from binq.index.shard import search_shard
from binq.storage.manifest import name_of
from binq.storage.publishing import writing_directory
from binq.structures import hnsw, ivf
from binq.structures.base import Effort, Scope
from binq.structures.sharded import merged

ROWS, DIM = 500, 40


def both(place: Path, vectors: Any, each: int, **settings: Any) -> tuple[Index, Index]:
    """Build one file and shards of the same."""
    binq.build(vectors, place / "one.binq", **settings)
    binq.build(vectors, place / "many.d", shard_rows=each, **settings)
    return Index(place / "one.binq"), Index(place / "many.d")


def same(one: Any, many: Any) -> None:
    """Compare hits, their arrays and ids, to the last bit."""
    assert list(map(list, one.ids)) == list(map(list, many.ids))
    for name in ("rows", "distances", "scores"):
        first, second = getattr(one, name), getattr(many, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert first.dtype == second.dtype
            assert first.tobytes() == second.tobytes(), name


def corpus() -> np.ndarray:
    """Rows of which many are equal: within a shard, and across."""
    vectors = clustered(ROWS, DIM, 6)
    vectors[::7] = vectors[0]
    vectors[250:280] = vectors[100:130]
    return vectors


@pytest.mark.slow
def test_many_candidates_of_many_queries(tmp_path: Path) -> None:
    """More than are held at once: queries are answered in parts."""
    vectors, queries = clustered(3000, DIM, 6), clustered(2000, DIM, 6, seed=5)
    for settings, asked in (({}, [{}]), ({"kind": "ivf", "nlist": 9}, [{}, {"nprobe": 9}])):
        one, many = both(tmp_path, vectors, 1000, overwrite=True, **settings)
        for effort in asked:
            same(*(ix.search(queries, 1100, **effort) for ix in (one, many)))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_answers_are_those_of_one_file(tmp_path: Path, metric: Any) -> None:
    vectors, queries = corpus(), clustered(9, DIM, 6, seed=5)
    ids = [f"d{row}" for row in range(ROWS)]
    source = write_parquet(tmp_path / "v.parquet", vectors, ids)
    some, few = ids[3::2], ids[5::90]
    tried = 0
    for method, scoring, rescore in (
        ("sign", "hamming", "none"),
        ("mean", "asymmetric", "int8"),
        ("rabitq", "asymmetric", "float16"),
        ("itq", "hamming", "float32"),
    ):
        built = {"metric": metric, "method": method, "scoring": scoring, "rescore": rescore}
        one, many = both(tmp_path, source, 61, **built)
        assert len(many.file.shards) == 9
        asymmetric = scoring == "asymmetric" or metric == "cosine"
        for settings in (
            {},
            {"threads": 1},
            {"rescore": "none"},
            {"scoring": "hamming", "rescore": "auto", "oversample": "auto"},
            {"rescore_from": str(source)},
            *([{"rescore": "codes"}, {"scoring": "asymmetric", "rescore": "none"}] * asymmetric),
        ):
            for filters in ({}, {"filter_ids": some}, {"filter_ids": few}, {"exclude_ids": some}):
                for k in (1, 10, ROWS + 1)[: 3 if not settings else 2]:
                    same(*(ix.search(queries, k, **settings, **filters) for ix in (one, many)))
                    tried += 1
        for filters in ({}, {"filter_ids": some}, {"filter_ids": few}):
            for k in (None, 3):
                found = [ix.radius_search(queries, 15, k=k, **filters) for ix in (one, many)]
                assert found[0].lims.tobytes() == found[1].lims.tobytes()
                assert found[0].rows.size or "filter_ids" in filters
                for name in ("rows", "distances", "scores"):
                    assert getattr(found[0], name).tobytes() == getattr(found[1], name).tobytes()
    assert tried >= 4 * 4 * (3 + 4 * 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*are not in the index")
def test_lists_are_those_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the effort: shards have centroids, calibration and choice of lists in common."""
    monkeypatch.setattr(ivf, "FEW", 0)  # allowed rows are looked for in lists, however few
    vectors, queries = corpus(), clustered(9, DIM, 6, seed=5)
    broken = vectors.copy()
    broken[[3, 60, 61, 200]] = 0
    for method, rescore, given_, more in (
        ("sign", "none", vectors, {}),
        ("rabitq", "int8", broken, {"on_error": "skip", "nlist": 7}),
        ("learned", "float16", vectors, {"check_queries": clustered(40, DIM, 6, seed=8)}),
    ):
        built = {"kind": "ivf", "method": method, "rescore": rescore, **more}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BinqWarning)
            shutil.rmtree(tmp_path / "many.d", ignore_errors=True)
            one, many = both(tmp_path, given_, 61, **built)
        assert one.file.header.to_json()["calibration"] == many.file.header.calibration
        assert one.structure.describe() == many.structure.describe()
        assert len(list((tmp_path / "many.d").iterdir())) == 9 + 1  # no flat ones are left
        scans = ["asymmetric"] if method == "learned" else ["hamming", "asymmetric"]
        for scoring in scans:
            for effort in ({}, {"nprobe": 1}, {"nprobe": 10**4}, {"target_recall": 0.7}):
                for filters in ({}, {"filter_ids": range(0, ROWS, 3)}, {"filter_ids": [5, 70]}):
                    settings = {"scoring": scoring, **effort, **filters}
                    same(*(ix.search(queries, 6, **settings) for ix in (one, many)))
                    same(*(ix.search(queries[:1], 6, **settings) for ix in (one, many)))
            options = Effort(target_recall=0.9)
            asked = one.prepare(queries)
            counts = [ix.structure.compared(asked, 5, Scope(effort=options)) for ix in (one, many)]
            assert counts[0].tolist() == counts[1].tolist()
        if method != "learned":
            found = [ix.radius_search(queries, 15) for ix in (one, many)]
            assert found[0].rows.tobytes() == found[1].rows.tobytes()


@pytest.mark.slow
def test_graphs_of_shards_keep_their_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    monkeypatch.setattr(hnsw, "FEW", 0)
    vectors, queries = latent(6000, 64), latent(200, 64, seed=3)
    # Above so many rows of a shard walks are shorter than scans; here they are made to walk.
    for module in (hnsw, reaching):
        monkeypatch.setattr(module, "SCAN_SHARE", 1.0)
    binq.build(vectors, tmp_path / "h.d", shard_rows=2000, kind="hnsw")
    many = Index(tmp_path / "h.d")
    wanted = many.structure.nearest(many.prepare(queries), 10, Scope(exhaustive=True))
    flat = both(tmp_path, vectors, 2000)[0]
    assert np.array_equal(flat.search(queries, 10).rows, wanted.rows)
    cost = []
    for target in (0.8, 0.95):
        found = many.search(queries, 10, target_recall=target)
        share = (found.distances <= wanted.distances[:, -1:]).mean()
        assert share >= target
        scope = Scope(effort=Effort(target_recall=target))
        cost.append(many.structure.compared(many.prepare(queries), 10, scope).mean())
    assert cost[0] <= cost[1]
    scope = Scope(effort=Effort(ef=10))
    assert many.structure.compared(many.prepare(queries), 10, scope).mean() < len(vectors) / 2
    assert many.search(queries[:5], 6001, ef=20).rows.shape == (5, 6000)
    some = many.search(queries, 10, ef=30, filter_ids=range(0, 6000, 7))
    assert (some.rows % 7 == 0).all()
    told = cli("info", tmp_path / "h.d", "--json", "--verify").json
    assert (told["kind"], told["damaged"], told["graph"]["unreachable"]) == ("hnsw", [], 0)
    assert "all reachable" in cli("info", tmp_path / "h.d").out
    error = cli("compact", tmp_path / "h.d", "-o", tmp_path / "c.binq", code=2).err
    assert "build the file from the vectors" in error
    assert not (tmp_path / "c.binq").exists()


@pytest.mark.slow
def test_compact_makes_the_file_that_a_build_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setattr(compacting, "_AT_ONCE", 40)
    vectors = corpus()
    broken = vectors.copy()
    broken[[3, 60, 499]] = 0
    for number, (given_, ids, settings) in enumerate(
        (
            (vectors, [f"é{row}" for row in range(ROWS)], {}),
            (vectors, list(range(5, ROWS + 5)), {"method": "mean", "rescore": "int8"}),
            (broken, ["a", *range(1, ROWS)], {"metric": "l2", "scoring": "asymmetric"}),
            (broken, list(range(ROWS)), {"kind": "ivf", "method": "rabitq", "rescore": "float16"}),
            (vectors, list(range(ROWS)), {"kind": "ivf", "method": "learned", "nlist": 3}),
        )
    ):
        lines = (
            json.dumps({"id": name, "embedding": vector.tolist()})
            for name, vector in zip(ids, given_, strict=True)
        )
        (tmp_path / "v.jsonl").write_text("\n".join(lines))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BinqWarning)
            both(tmp_path, tmp_path / "v.jsonl", 61, on_error="skip", **settings)
        target = tmp_path / f"{number}.binq"
        report = binq.compact(tmp_path / "many.d", target)
        assert (report.rows, report.shards) == (ROWS, 9)
        assert report.size == target.stat().st_size
        assert target.read_bytes() == (tmp_path / "one.binq").read_bytes()
    assert not debris(tmp_path)
    many = tmp_path / "many.d"
    before = target.read_bytes()
    cli("compact", tmp_path / "one.binq", "-o", target, code=2)
    cli("compact", many, "-o", many / "x.binq", code=2)
    cli("compact", many, "-o", many, code=2)
    cli("compact", tmp_path / "no.d", "-o", target, code=4)
    shard = Index(many).file.shards[3].path
    data = bytearray(shard.read_bytes())
    data[4096] ^= 1
    shard.write_bytes(data)
    assert f"{shard}: section codes" in cli("compact", many, "-o", target, code=4).err
    assert target.read_bytes() == before
    shard.unlink()
    assert "missing" in cli("compact", many, "-o", target, code=4).err


@pytest.mark.slow
@profile(max_examples=20)
@given(
    rows=st.integers(1, 70),
    each=st.integers(1, 75),
    seed=st.integers(0, 5),
    dead=st.sets(st.integers(0, 69), max_size=30),
    kind=st.sampled_from(["flat", "ivf", "hnsw"]),
)
def test_shards_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    each: int,
    seed: int,
    dead: set[int],
    kind: Any,
) -> None:
    place = tmp_path_factory.mktemp("shards")
    vectors = np.sign(gaussian(rows, 5, seed)) + np.float32(0.25)
    vectors[sorted(row for row in dead if row < rows)] = 0
    if not vectors.any():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BinqWarning)
        one, many = both(place, vectors, each, rescore="float32", on_error="skip", kind=kind)
    sizes = [shard.header.rows for shard in many.file.shards]
    assert sizes == [each] * (rows // each) + [rows % each] * (rows % each > 0)
    assert len(one) == len(many)
    queries = gaussian(4, 5, seed + 9)
    for settings in ({"rescore": "none"}, {}, {"scoring": "asymmetric"}):
        same(one.search(queries, 7, **settings), many.search(queries, 7, **settings))
    allowed = list(range(0, rows, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BinqWarning)
        for ids in (allowed, [], [0]):
            same(*(ix.search(queries, 7, filter_ids=ids) for ix in (one, many)))


@pytest.mark.parametrize(
    "ids",
    [
        [*range(5), *range(2**63, 2**63 + 5)],
        [*range(-5, 0), *range(5)],
        ["a", "b", *range(8)],
        [*range(4), "x", *range(5, 9), "é\n"],
        [-1, 2**64 - 1, *range(8)],
    ],
)
def test_ids_of_several_types(tmp_path: Path, ids: list[Any]) -> None:
    vectors = gaussian(10, 6)
    lines = [
        json.dumps({"id": i, "embedding": v.tolist()}) for i, v in zip(ids, vectors, strict=True)
    ]
    (tmp_path / "v.jsonl").write_text("\n".join(lines))
    for each in (1, 3, 5):
        one, many = both(tmp_path, tmp_path / "v.jsonl", each)
        assert one.file.header.ids == many.file.header.ids
        assert one.ids is not None
        assert many.ids is not None
        assert list(one.ids) == list(many.ids)
        assert [many.ids[row] for row in range(-10, 10)] == [one.ids[r] for r in range(-10, 10)]
        wanted = [str(ids[2]), str(ids[9]), "none"]
        for alive in (None, np.arange(10) != 2):
            for mine, theirs in zip(
                one.ids.find(wanted, alive), many.ids.find(wanted, alive), strict=True
            ):
                assert mine.tolist() == theirs.tolist()
        assert list(pickle.loads(pickle.dumps(many.ids))) == list(one.ids)


def test_an_id_that_stands_in_two_shards(tmp_path: Path) -> None:
    for ids in ("abcdbe", [1, 2, 3, 4, 2, 5], [1, 2, 3, 4, "2", 5]):
        lines = [json.dumps({"id": name, "embedding": [1, row]}) for row, name in enumerate(ids)]
        (tmp_path / "v.jsonl").write_text("\n".join(lines))
        for settings in ({}, {"shard_rows": 2}):
            with pytest.warns(BinqWarning, match=r"1 ids stand .*first: rows 1 and 4"):
                binq.build(tmp_path / "v.jsonl", tmp_path / f"i{len(settings)}", **settings)
    vectors = gaussian(7, 4)
    vectors[[1, 2]] = 0  # dead, and so their ids stand nowhere
    write_jsonl(tmp_path / "d.jsonl", vectors, list("abcbcdc"))
    for settings in ({}, {"shard_rows": 2}):
        target = tmp_path / f"d{len(settings)}"
        with pytest.warns(BinqWarning) as caught:
            binq.build(tmp_path / "d.jsonl", target, on_error="skip", **settings)
        texts = [str(warning.message) for warning in caught]
        assert any("1 ids stand on more than one row (first: rows 4 and 6)" in t for t in texts)


def test_the_header_of_the_whole_is_that_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    np.save(tmp_path / "v.npy", gaussian(50, 8))
    for kept in (tmp_path / "a.npz", tmp_path / "b.npz"):
        one, many = both(tmp_path, tmp_path / "v.npy", 20, method="itq", save_binarizer=kept)
        assert one.file.header.to_json() == many.file.header.to_json()
        assert [shard.header.sources for shard in many.file.shards] == [[], [], []]
        # Built again: the same bytes under the same names.
        names = sorted(path.name for path in (tmp_path / "many.d").iterdir())
        bytes_ = [(tmp_path / "many.d" / name).read_bytes() for name in names]
        assert names[:-1] == sorted(name_of(shard.uuid) for shard in many.file.shards)
        binq.build(tmp_path / "v.npy", tmp_path / "again.d", method="itq", shard_rows=20, threads=1)
        assert bytes_ == [(tmp_path / "again.d" / name).read_bytes() for name in names]


def test_equal_rows_make_shards_of_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    binq.build(np.ones((6, 4), np.float32), tmp_path / "d", shard_rows=2)
    assert Index(tmp_path / "d").search(np.ones(4, np.float32)).rows.tolist() == [[*range(6)]]


def test_no_rows(tmp_path: Path) -> None:
    one, many = both(tmp_path, np.empty((0, 7), np.float32), 3, rescore="int8")
    assert len(one) == len(many) == 0
    same(one.search(gaussian(2, 7)), many.search(gaussian(2, 7)))


def test_packed_input_and_streams(tmp_path: Path, cli: Callable[..., Any]) -> None:
    bits = np.random.default_rng(0).integers(0, 256, (90, 5), np.uint8)
    one, many = both(tmp_path, bits, 17, packed="ubinary")
    same(*(ix.search(bits[:9], 5, packed="ubinary") for ix in (one, many)))
    vectors = gaussian(90, 12)
    lines = "".join(
        json.dumps({"id": f"é{i}", "embedding": v.tolist()}) + "\n" for i, v in enumerate(vectors)
    ).encode()
    cli("build", "-", "-o", tmp_path / "s.d", "--shard-rows", 40, "--method", "itq", stdin=lines)
    cli("build", "-", "-o", tmp_path / "s.binq", "--method", "itq", stdin=lines)
    np.save(tmp_path / "q.npy", vectors[:20])
    outs = [
        cli("query", tmp_path / name, tmp_path / "q.npy", "--format", "jsonl").raw
        for name in ("s.d", "s.binq")
    ]
    assert outs[0] == outs[1]


def test_evaluations_agree(tmp_path: Path, cli: Callable[..., Any]) -> None:
    vectors = corpus()
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "q.npy", clustered(30, DIM, 6, seed=4))
    both(tmp_path, tmp_path / "v.npy", 70, rescore="int8")
    found = []
    for name in ("one.binq", "many.d"):
        words = ("eval", tmp_path / name, tmp_path / "q.npy", "--truth", tmp_path / "v.npy")
        document = cli(*words, "--json").json
        found.append({key: value for key, value in document.items() if key != "latency_ms"})
    assert found[0] == found[1]


def test_what_info_tells(tmp_path: Path, cli: Callable[..., Any]) -> None:
    vectors = gaussian(10, 8)
    vectors[3] = 0
    np.save(tmp_path / "v.npy", vectors)
    directory = tmp_path / "i.d"
    cli("build", tmp_path / "v.npy", "-o", directory, "--shard-rows", 4, "--on-error", "skip")
    told = cli("info", directory, "--json", "--verify").json
    assert (told["rows"], told["alive"], told["dead"], told["damaged"]) == (10, 9, 1, [])
    assert told["needs"] == ["tombstones"]
    assert [(s["first"], s["rows"]) for s in told["shards"]] == [(0, 4), (4, 4), (8, 2)]
    assert told["bytes"] == sum(path.stat().st_size for path in directory.iterdir())
    assert "3 shards" in cli("info", directory).out
    second = directory / told["shards"][1]["name"]
    data = bytearray(second.read_bytes())
    data[4096] ^= 1
    second.write_bytes(data)
    error = cli("info", directory, "--verify", code=4).err
    assert f"{second}: section codes at byte 4096" in error
    cli("query", directory, tmp_path / "v.npy", "--on-error", "skip", code=3)


def test_a_shard_built_by_itself_from_sources(tmp_path: Path) -> None:
    vectors = gaussian(100, 16)
    for number, part in enumerate(np.split(vectors, [30, 31, 80])):
        write_jsonl(tmp_path / f"{number}.jsonl", part, [f"{number}/{i}" for i in range(len(part))])
        np.save(tmp_path / f"{number}.npy", part)
    for suffix in ("npy", "jsonl"):
        files = [str(tmp_path / f"{number}.{suffix}") for number in range(4)]
        one, many = both(tmp_path, files, 45)
        (tmp_path / suffix).mkdir()
        plan = ShardPlan(
            str(tmp_path / suffix), 16, "cosine", one.binarizer, "hamming", "none", None, 1
        )
        for number, first in enumerate((0, 45, 90)):
            task = pickle.dumps((plan, first, min(first + 45, 100), files, {}))
            written = pickle.loads(pickle.dumps(build_shard(*pickle.loads(task))))
            there = many.file.shards[number]
            made = Index(tmp_path / suffix / name_of(written.shard.uuid))
            assert made.file.header.shard == there.header.shard
            assert written.shard.rows == there.header.rows
            codes = [np.asarray(Index(path).structure.codes) for path in (made.file, there)]
            assert codes[0].tobytes() == codes[1].tobytes()
            ids = many.ids
            if ids is not None and made.ids is not None:
                assert list(made.ids) == list(ids)[first : first + 45]


def test_shards_searched_by_themselves(tmp_path: Path) -> None:
    """What is sent to a shard and comes back is plain, and merged it is the index's answer."""
    queries = clustered(9, DIM, 6, seed=5)
    for kind in ("flat", "ivf"):
        shutil.rmtree(tmp_path / "many.d", ignore_errors=True)
        _, many = both(tmp_path, corpus(), 61, kind=kind)
        asked = many.prepare(queries)
        lists = getattr(many.structure.shards[0], "lists", None)
        visits = None
        if lists is not None:
            visits = np.tile(np.arange(len(lists.centroids), dtype=np.int32), (9, 1))
        tasks = [
            (str(shard.path), shard.uuid, asked, 7, "hamming", Scope(visits=visits))
            for shard in many.file.shards
        ]
        found = [
            pickle.loads(pickle.dumps(search_shard(*pickle.loads(pickle.dumps(task)))))
            for task in tasks
        ]
        merged_ = merged(found, np.array(many.file.firsts[:-1]), 7)
        wanted = many.structure.nearest(asked, 7, Scope(exhaustive=True))
        assert merged_.rows.tolist() == wanted.rows.tolist()
        assert merged_.scores.tolist() == wanted.scores.tolist()


def test_a_failing_build_leaves_what_was_there(tmp_path: Path) -> None:
    vectors = gaussian(100, 8)
    for there in (False, True):
        target = tmp_path / f"i{there}.d"
        if there:
            binq.build(vectors, target, shard_rows=30)
        before = {p.name: p.read_bytes() for p in target.iterdir()} if there else None
        wrong = vectors.copy()
        wrong[77] = np.nan
        with pytest.raises(InputError, match="row 77"):
            binq.build(wrong, target, shard_rows=10)
        wrong[:] = 0
        with pytest.raises(InputError, match="no row can be used"):
            binq.build(wrong, target, shard_rows=10, on_error="skip")
        assert target.exists() == there
        if there:
            assert {p.name: p.read_bytes() for p in target.iterdir()} == before
    assert not debris(tmp_path)


def test_what_is_refused(tmp_path: Path, cli: Callable[..., Any]) -> None:
    np.save(tmp_path / "v.npy", gaussian(10, 8))
    good = ("build", tmp_path / "v.npy", "-o", tmp_path / "i.d", "--shard-rows", 3)
    assert "--shard-rows" in cli(*good[:-1], 0, code=2).err
    (tmp_path / "i.d").mkdir()
    cli(*good)
    # Shards of before are replaced, what else lies there stays.
    (tmp_path / "i.d" / "notes.txt").write_text("mine")
    cli(*good)
    assert (tmp_path / "i.d" / "notes.txt").read_text() == "mine"
    np.save(tmp_path / "i.d" / "v.npy", gaussian(10, 8))
    for vectors in ("v.npy", ".", "*.npy"):
        inside = ("build", tmp_path / "i.d" / vectors, *good[2:])
        assert "an input lies in --output" in cli(*inside, code=2).err
    kept = ("--method", "mean", "--save-binarizer", tmp_path / "i.d" / "b.npz")
    assert "--save-binarizer lies in --output" in cli(*good, *kept, code=2).err
    for name, content in (("a", "a"), ("manifest.json", '{"name": "an app"}')):
        other = tmp_path / f"with {name}"
        other.mkdir()
        (other / name).write_text(content)
        error = cli(*good[:3], other, *good[4:], code=2).err
        assert "holds other things than shards" in error
        assert [path.name for path in other.iterdir()] == [name]
    # A pipe is not waited for.
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "manifest.json")
    error = cli(*good[:3], tmp_path / "pipe", *good[4:], code=2).err
    assert "holds other things than shards" in error
    # Nor is the manifest of another index replaced through a link.
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "manifest.json").symlink_to(tmp_path / "i.d" / "manifest.json")
    error = cli(*good[:3], tmp_path / "link", *good[4:], code=2).err
    assert "holds other things than shards" in error
    within = cli("compact", tmp_path / "i.d", "-o", tmp_path / "i.d" / "one.binq", code=2).err
    assert "--output lies in the index" in within
    (tmp_path / "to i.d").symlink_to(tmp_path / "i.d")
    for itself in (tmp_path / "i.d", tmp_path / "to i.d"):
        error = cli("compact", tmp_path / "i.d", "-o", itself, code=2).err
        assert "--output would replace the index" in error
    assert "a directory of shards is there" in cli(*good[:4], code=2).err
    cli(*good[:3], tmp_path / "v.npy", *good[4:], code=2)
    cli(*good[:3], tmp_path / "no" / "i.d", *good[4:], code=5)
    cli(*good[:3], "-", *good[4:], code=2)
    shard = next(path for path in (tmp_path / "i.d").glob("*.binq"))
    query = ("query", tmp_path / "i.d", tmp_path / "v.npy", "-o", shard, "--format", "jsonl")
    assert "would replace an input" in cli(*query, "--overwrite", code=2).err


def test_too_many_shards_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too many shards"):
        binq.build(np.ones((70_000, 2), np.float32), tmp_path / "i.d", shard_rows=1)
    assert not (tmp_path / "i.d").exists()


def test_two_builds_at_once(tmp_path: Path) -> None:
    """What one writes is not removed by the other's failure, nor by its success."""
    vectors = gaussian(20, 8)
    with writing_directory(tmp_path / "i.d"):
        with pytest.raises(InputError):
            binq.build(np.full((20, 8), np.nan, np.float32), tmp_path / "i.d", shard_rows=5)
        binq.build(vectors, tmp_path / "i.d", shard_rows=5)
    assert len(Index(tmp_path / "i.d")) == 20
    assert len(list((tmp_path / "i.d").iterdir())) == 5


def test_only_shards_are_removed_once_no_manifest_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "i.d"
    binq.build(gaussian(10, 8), shards, shard_rows=5)
    old = {path.name for path in shards.glob("*.binq")}
    # Of a published index the file has such a name as well.
    other = shards / f"{'0' * 31}1.binq"
    binq.build(gaussian(10, 8), other)
    binq.build(gaussian(10, 8), shards, shard_rows=5)
    assert old < set(os.listdir(shards))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    binq.build(gaussian(10, 8), shards, shard_rows=5)
    assert not old & set(os.listdir(shards))
    with binq.open(other) as index:
        assert index.search(gaussian(1, 8), k=1).rows.tolist() == [[0]]
