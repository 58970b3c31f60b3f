"""Files of every format version open and answer the same, for ever."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import naive
import numpy as np
import pytest
from data.make_golden import (
    DEAD,
    DIM,
    GRAPHED,
    GROWN,
    LISTED,
    ROWS,
    SHARDED,
    corpus,
    grow,
    ids,
    make,
)
from forging import header_of

from binq.index.describe import describe
from binq.index.index import Index
from binq.version import __version__

SHA256 = {
    "flat-1.0.binq": "f51656da316a61065e99bc0549780712d5d7c8fb0ee59c5e218d9cc7f3e24f70",
    "asymmetric-1.0.binq": "92838166de748b3e7ee7d962ca97d3060c0932c6bda6176d1fab6c7222c5fd3d",
    "typed-dead-1.1.binq": "5c39e03ea0392e912d69ea01820ac5f4ad9fff54880c6980fafb4c35a45289ca",
    "typed-1.1.binq": "fc04b8567996a2c980c54ebb29eebd9fbc72169bdbbc011942ecadd640a9da79",
    "dead-1.1.binq": "b2f75f9687c70781fb2ea50aa4337ba4ddfb0184590ea26948240fd12e38185a",
    "ivf-1.2.binq": "d9aa1d107a305cd0d509f1b2d88d965af6c4283c42464287de8707d166a3ddd9",
    "ivf-dead-1.2.binq": "1fd7b870272b86f91df9227a001071bfa2452cbbed695043b3fd86923780d1d2",
    "ivf-learned-1.2.binq": "3ffe179e1d9cc7d8ac6c5d2f74edf35262fa892922a52a8e35e0edb0af344308",
    "hnsw-1.3.binq": "385c1630911ca868289d889f702e4e28218372b73c3dfa4cdd0de9f7d1476843",
    "hnsw-dead-1.3.binq": "60709698d55e27210dab778a87ee43fed84a0ac2765706889890a834db3a4bbc",
    "hnsw-distinct-1.3.binq": "768d9792709afcbca3ed604ceea8d9fd92cf1c7785feabedf6018c0802ffa529",
    "flat-shards-1": "90724f78a2f7d690440a6ecc015c5ec1ba4e50538dfc9a4400bed29e0e5b9cda",
    "ivf-shards-1": "47e6c234104d497ed270b4c576011fe91d0195b70ea53770d4b176bad00df162",
}
DATA = Path(__file__).parent / "data"


def opened(name: str) -> Index:
    path = DATA / name
    # The file itself must never change: a format that needs another gets a file of its own.
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]
    index = Index(path)
    assert index.file.verify() == []
    assert index.file.header.created == "1970-01-01T00:00:00Z"
    assert index.file.version == describe(path)["format"] == name.rpartition("-")[2][:3]
    return index


def test_flat_1_0() -> None:
    index = opened("flat-1.0.binq")
    assert list(index.ids or []) == ids()
    header = index.file.header
    assert (header.rows, header.dim, header.bits, header.words) == (ROWS, DIM, DIM, 2)
    assert (header.metric, header.rescore, header.ids) == ("l2", "float16", "strings")
    assert header.scoring == "hamming"

    vectors = corpus()
    means = vectors.astype(np.float64).mean(axis=0).astype(np.float32)
    codes = naive.pack(vectors > means)
    assert np.array_equal(index.structure.codes, codes)
    queries = vectors[:5] + np.float32(0.25)
    probes = naive.pack(queries > means)
    scan = index.search(queries, 10, rescore="none")
    fine = index.search(queries, 10, oversample=2)
    for number, query in enumerate(queries):
        expected = naive.topk(codes, probes[number], 20)
        found = zip(scan.distances[number].tolist(), scan.rows[number].tolist(), strict=True)
        assert list(found) == expected[:10]
        scores = naive.score(query, vectors, "l2")
        best = sorted((row for _, row in expected), key=lambda row: (-scores[row], row))[:10]
        assert fine.rows[number].tolist() == best
        assert fine.scores[number].tolist() == scores[best].tolist()  # exact: quarters all


def test_what_1_0_holds_is_still_written_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, as long as the version of binq, which the header tells, is the same."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    old = (DATA / "flat-1.0.binq").read_bytes()
    make(tmp_path, "flat-1.0.binq")
    new = (tmp_path / "flat-1.0.binq").read_bytes()
    if __version__ == header_of(old)["binq"]:
        assert new == old
    assert new[8:32] == old[8:32]
    assert header_of(new) | {"binq": "", "checksums": ""} == header_of(old) | {
        "binq": "",
        "checksums": "",
    }


def test_what_came_with_1_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers for ids, and rows that are dead, beside the sections of the flat file of 1.0."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    plain = opened("flat-1.0.binq")
    for name, what in GROWN.items():
        index = opened(name)
        numbers = what.get("ids")
        dead = what.get("dead", [])
        assert list(index.ids or []) == (ids() if numbers is None else numbers.tolist())
        alive = index.file.alive()
        rows = sum(1 << row for row in range(ROWS) if row not in dead)
        assert (alive is None) if not dead else (alive is not None and alive.tolist() == [rows])
        assert np.array_equal(index.structure.codes, plain.structure.codes)
        found = describe(DATA / name)
        assert found["needs"] == ["typed_ids"] * (numbers is not None) + ["tombstones"] * bool(dead)
        assert found.get("alive", ROWS) == ROWS - len(dead)
        grow(DATA / "flat-1.0.binq", tmp_path / name, **what)
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_asymmetric_1_0() -> None:
    """Learned codes of 100 bits of the first 60 dims, and int8 vectors of all."""
    index = opened("asymmetric-1.0.binq")
    assert list(index.ids or []) == ids()
    header = index.file.header
    assert (header.rows, header.dim, header.bits, header.words) == (ROWS, DIM, 100, 2)
    assert (header.metric, header.rescore, header.scoring) == ("ip", "int8", "asymmetric")
    assert header.binarizer == {
        "method": "learned",
        "dim": DIM,
        "bits": 100,
        "metric": "ip",
        "truncate_dim": 60,
        "seed": 3,
        "sample": ROWS,
    }
    sections = {name: (part.dtype, part.shape) for name, part in index.file.sections.items()}
    assert sections["codes"] == ("uint64", (ROWS, 2))
    assert sections["codes.factor"] == ("float32", (ROWS,))
    assert "codes.addend" not in sections
    assert sections["binarizer.center"] == ("float32", (60,))
    assert sections["binarizer.projection"] == ("float32", (60, 100))
    assert sections["binarizer.decoder"] == ("float32", (100, 60))

    def stored(name: str) -> np.ndarray:
        dtype, shape = sections[name]
        return np.asarray(index.file.array(name, dtype, shape)).astype(np.float64)

    vectors = corpus()
    queries = vectors[:5] + np.float32(0.25)
    center, decoder = stored("binarizer.center"), stored("binarizer.decoder")
    signs = naive.signs(np.asarray(index.structure.codes))
    assert (signs[:, 100:] == -1).all()
    rebuilt = (center + signs[:, :100] @ decoder) * stored("codes.factor")[:, None]
    norms = np.linalg.norm(vectors[:, :60].astype(np.float64), axis=1)
    assert np.allclose(np.linalg.norm(rebuilt, axis=1), norms, rtol=1e-5)
    error = ((vectors[:, :60] - rebuilt) ** 2).sum()
    assert error < 0.05 * ((vectors[:, :60] - center) ** 2).sum()

    coarse = index.search(queries, 10, rescore="codes", oversample=4)
    fine = index.search(queries, 10, oversample=4)
    assert coarse.distances is None
    for number, query in enumerate(queries):
        scores = query[:60].astype(np.float64) @ rebuilt.T
        wanted = np.sort(scores)[::-1][:10]
        assert np.allclose(coarse.scores[number], scores[coarse.rows[number]], rtol=1e-5)
        assert np.allclose(coarse.scores[number], wanted, rtol=1e-5)
        true = naive.score(query, vectors, "ip")
        # Half a step of 10 / 255 in every dimension.
        bound = np.abs(query).sum() * 5 / 255 + 1e-3
        assert (np.abs(fine.scores[number] - true[fine.rows[number]]) <= bound).all()
        assert fine.scores[number][0] >= true.max() - bound


def test_lists_1_2() -> None:
    """Codes list by list, what says where, and how far to look: read as docs/format.md says."""
    vectors = corpus()
    queries = vectors[:5] + np.float32(0.25)
    for name in LISTED:
        index = opened(name)
        header, sections = index.file.header, index.file.sections
        assert header.kind == "ivf"
        centroids, offsets, rows, codes = (
            np.asarray(index.file.array(part, sections[part].dtype, sections[part].shape))
            for part in ("ivf.centroids", "ivf.offsets", "ivf.rows", "codes")
        )
        assert sorted(rows.tolist()) == list(range(ROWS))
        lists = np.repeat(np.arange(len(centroids)), np.diff(offsets.astype(np.int64)))
        assert all((np.diff(rows[lists == one].astype(np.int64)) > 0).all() for one in set(lists))
        if name == "ivf-learned-1.2.binq":
            where = index.file.array("binarizer.center", "float32", (60,))
            places, asked = naive.pack(vectors[:, :60] > where), naive.pack(queries[:, :60] > where)
        else:
            places = np.empty_like(codes)
            places[rows] = codes
            assert index.binarizer is not None
            ready = queries / np.linalg.norm(queries, axis=1, keepdims=True)
            asked = index.binarizer.encode(ready if header.metric == "cosine" else queries)
        dead = DEAD if "dead" in name else []
        for row, own in zip(rows, lists, strict=True):
            if row not in dead:
                assert naive.topk(centroids, places[row], 1)[0][1] == own

        # Of two lists, the best rows of those; of all, those of a flat index.
        for nprobe in (2, 100):
            found = index.search(queries, 6, rescore="none", nprobe=nprobe)
            for number, probe in enumerate(asked):
                near = [one for _, one in naive.topk(centroids, probe, nprobe)]
                there = np.setdiff1d(rows[np.isin(lists, near)], dead)
                if header.scoring == "asymmetric":
                    assert np.isin(found.rows[number], there).all()
                    continue
                best = naive.topk(places[there], probe, 6)
                assert found.rows[number].tolist() == [there[row] for _, row in best]
        assert index.search(queries, 50).rows.shape == (5, ROWS - len(dead))
        assert set(header.calibration or {}) == {"queries", "from", "targets", "gaps"}
    ids_of_dead = opened("ivf-dead-1.2.binq").ids
    assert ids_of_dead is not None
    assert [ids_of_dead[row] for row in (1, 38)] == [2**53 + 1, 2**53 + 38]
    plain, listed = opened("asymmetric-1.0.binq"), opened("ivf-learned-1.2.binq")
    hits, others = plain.search(queries, 10), listed.search(queries, 10, nprobe=100)
    assert others.rows.tolist() == hits.rows.tolist()
    assert others.scores.tolist() == hits.scores.tolist()


def test_shards_1() -> None:
    """A directory answers as the file of the same rows does, whose answers are tested above."""
    queries = corpus()[:5] + np.float32(0.25)
    for name, (one, each) in SHARDED.items():
        data = b"".join(p.name.encode() + p.read_bytes() for p in sorted((DATA / name).iterdir()))
        assert hashlib.sha256(data).hexdigest() == SHA256[name]
        manifest = json.loads((DATA / name / "manifest.json").read_bytes())
        assert manifest["schema"] == "binq.shards/1"
        assert manifest["index"]["rows"] == ROWS
        many, single = Index(DATA / name), opened(one)
        assert [*many.file.verify()] == []
        assert [shard.header.rows for shard in many.file.shards] == [
            min(each, ROWS - first) for first in range(0, ROWS, each)
        ]
        told = describe(DATA / name)
        assert [shard["name"] for shard in told["shards"]] == [
            f"{shard['uuid']}.binq" for shard in manifest["shards"]
        ]
        assert list(many.ids or []) == ids()
        assert np.array_equal(*(index.structure.take(np.arange(ROWS)) for index in (many, single)))
        efforts: list[dict[str, int]] = [{"nprobe": 2}, {"nprobe": 100}]
        for effort in efforts if "ivf" in name else [{}]:
            for settings in ({}, {"rescore": "none"}):
                hits, wanted = (
                    ix.search(queries, 7, **settings, **effort) for ix in (many, single)
                )
                assert hits.rows.tolist() == wanted.rows.tolist()
                assert hits.scores.tolist() == wanted.scores.tolist()
        found, wanted = (index.radius_search(queries, 30) for index in (many, single))
        assert found.rows.size > 5
        assert (found.lims.tolist(), found.rows.tolist()) == (
            wanted.lims.tolist(),
            wanted.rows.tolist(),
        )


def test_graphs_1_3() -> None:
    """Codes node by node, equal ones as one; links, and where to begin: as docs/format.md says."""
    for name in GRAPHED:
        index = opened(name)
        header, sections = index.file.header, index.file.sections
        n = header.rows
        assert (header.kind, n) == ("hnsw", 11 if "distinct" in name else ROWS)
        vectors = corpus()[:n]
        codes, rows, lines, entries = (
            np.asarray(index.file.array(part, sections[part].dtype, sections[part].shape))
            for part in ("codes", "hnsw.rows", "hnsw.neighbours", "hnsw.entries")
        )
        assert sorted(rows.tolist()) == list(range(n))
        starts = np.arange(n + 1)
        if "distinct" in name:
            assert "hnsw.starts" not in sections
        else:
            starts = np.asarray(
                index.file.array("hnsw.starts", "uint32", (len(lines) + 1,))
            ).astype(int)
        assert (starts[0], starts[-1], len(starts)) == (0, n, len(lines) + 1)
        nodes = [slice(a, b) for a, b in pairwise(starts)]
        assert all((codes[node] == codes[node.start]).all() for node in nodes)
        assert all((np.diff(rows[node].astype(int)) > 0).all() for node in nodes)
        assert len(np.unique(codes, axis=0)) == len(nodes)
        linked = [{int(node) for node in line if node != 2**32 - 1} for line in lines]
        assert all(number not in line for number, line in enumerate(linked))
        near = set(entries.tolist())
        for _ in nodes:
            near |= set().union(*(linked[node] for node in near))
        assert near == set(range(len(nodes)))

        places = np.empty_like(codes)
        places[rows] = codes
        dead = DEAD if "dead" in name else []
        queries = vectors[:5] + np.float32(0.25)
        ready = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        assert index.binarizer is not None
        asked = index.binarizer.encode(ready if header.metric == "cosine" else queries)
        there = np.setdiff1d(np.arange(n), dead)
        for effort in ({}, {"ef": 50}):
            found = index.search(queries, 6, scoring="hamming", rescore="none", **effort)
            for number, probe in enumerate(asked):
                best = naive.topk(places[there], probe, 6)
                assert found.rows[number].tolist() == [there[row] for _, row in best]
        assert index.search(queries, 50).rows.shape == (5, n - len(dead))
        known = {"queries", "from", "targets", "gaps", "pools"}
        assert known - {"pools"} <= set(header.calibration or {}) <= known
    assert "pools" in (opened("hnsw-1.3.binq").file.header.calibration or {})
    plain, graphed = opened("flat-1.0.binq"), opened("hnsw-1.3.binq")
    every = np.arange(ROWS)
    assert np.array_equal(plain.structure.take(every), graphed.structure.take(every))
