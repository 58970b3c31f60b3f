"""Vectors in an object store: the same rows as from files, or an error that says what failed."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import gaussian, write_jsonl, write_parquet
from stores import BUCKET, FAULTS, KEY_ID, S3, SECRET

import binq
from binq.errors import EnvironmentFailure, InputError
from binq.io import objects
from binq.io.paths import detect, expand
from binq.vectors import open_vectors

ROWS, DIM = 3000, 24


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same vectors in every format, with ids where there is a place for them."""
    vectors = gaussian(ROWS, DIM)
    ids = [f"row-{i}" for i in range(ROWS)]
    place = {name: tmp_path / f"v.{name}" for name in ("npy", "jsonl", "parquet", "arrow")}
    place |= {name: tmp_path / f"v.{name}" for name in ("arrows", "fvecs", "fbin")}
    np.save(place["npy"], vectors)
    write_jsonl(place["jsonl"], vectors, ids)
    table = pq.read_table(write_parquet(place["parquet"], vectors, ids))
    pq.write_table(table, place["parquet"], row_group_size=700)
    for name, kind in (("arrow", pa.ipc.new_file), ("arrows", pa.ipc.new_stream)):
        with kind(place[name], table.schema) as writer:
            writer.write_table(table, 700)
    prefixed = np.empty((ROWS, DIM + 1), "<i4")
    prefixed[:, 0], prefixed[:, 1:] = DIM, vectors.view("<i4")
    prefixed.tofile(place["fvecs"])
    place["fbin"].write_bytes(np.array([ROWS, DIM], "<u4").tobytes() + vectors.tobytes())
    return place


def read(source: Any) -> tuple[list[Any], np.ndarray]:
    with open_vectors(source) as opened:
        batches = list(opened.batches())
        ids = [row for batch in batches for row in (batch.ids if batch.ids is not None else [])]
        return ids, np.concatenate([batch.vectors for batch in batches])


def test_every_format_reads_as_from_disk(
    s3: S3, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART", 1 << 17)  # so that files are many ranges
    rows = np.array([0, 1, 2, 700, 1399, ROWS - 1])
    for name, path in files.items():
        for uri in (s3.put(f"in/v.{name}", path), path.as_uri()):
            ids, vectors = read(uri)
            wanted_ids, wanted = read(path)
            assert ids == wanted_ids
            np.testing.assert_array_equal(vectors, wanted)
            with open_vectors(uri) as there, open_vectors(path) as here:
                np.testing.assert_array_equal(there.take(rows), here.take(rows))
                assert [one["fingerprint"] for one in there.describe()] == [
                    one["fingerprint"] for one in here.describe()
                ]
    assert all(asked for method, _, asked in s3.requests if method == "GET")


def test_few_rows_of_a_large_object_are_fetched_alone(s3: S3, tmp_path: Path) -> None:
    vectors = gaussian(20_000, 256)
    np.save(tmp_path / "v.npy", vectors)
    uri = s3.put("v.npy", tmp_path / "v.npy")
    rows = np.array([3, 4, 9_000, 19_999])
    with open_vectors(uri) as source:
        s3.requests.clear()
        np.testing.assert_array_equal(source.take(rows), vectors[rows])
    spans = [
        [int(end) for end in asked.removeprefix("bytes=").split("-")]
        for _, _, asked in s3.requests
        if asked
    ]
    assert len(spans) == 3
    assert sum(end + 1 - start for start, end in spans) == 4 * vectors[0].nbytes


def test_a_prefix_is_read_as_a_directory(s3: S3, tmp_path: Path) -> None:
    for number in (10, 2, 1):
        np.save(tmp_path / f"shard-{number}.npy", np.full((2, 8), number, np.float32))
        s3.put(f"shards/shard-{number}.npy", tmp_path / f"shard-{number}.npy")
    s3.put("shards/_SUCCESS", b"")
    s3.put("shards/.hidden.npy", tmp_path / "shard-1.npy")
    s3.put("shards/notes.txt", b"not vectors")
    s3.put("shards/deeper/shard-3.npy", tmp_path / "shard-1.npy")
    prefix = f"s3://{BUCKET}/shards"
    for uri in (prefix, f"{prefix}/"):
        with open_vectors(uri) as source:
            assert [batch.vectors[0, 0] for batch in source.batches()] == [1, 2, 10]
            assert source.locate(3) == f"{prefix}/shard-2.npy row 1"
    with open_vectors(f"{prefix}/*-1*.npy") as source:
        assert [batch.vectors[0, 0] for batch in source.batches()] == [1, 10]
    with open_vectors([f"{prefix}/shard-2.npy", str(tmp_path / "shard-1.npy")]) as source:
        assert [batch.vectors[0, 0] for batch in source.batches()] == [2, 1]
    for missing in (f"s3://{BUCKET}/none.npy", "s3://nowhere/v.npy", f"{prefix}/x*.npy"):
        with pytest.raises(InputError, match=r"no such object|no vector files under the URI"):
            open_vectors(missing)


def test_an_object_that_changes_is_refused(s3: S3, files: dict[str, Path]) -> None:
    for name, path in files.items():
        uri = s3.put(f"v.{name}", path)
        with open_vectors(uri) as source:
            list(source.batches())
            source.release()
            s3.put(f"v.{name}", path.read_bytes())  # the same content is the same object
            list(source.batches())
            source.release()
            changed = bytearray(path.read_bytes())
            changed[-1 if name in ("npy", "fvecs", "fbin") else len(changed) // 2] ^= 1
            s3.put(f"v.{name}", bytes(changed))
            with pytest.raises(InputError, match="was changed while it was read"):
                list(source.batches())
    # In another process, too.
    uri = s3.put("v.npy", files["npy"])
    (named,) = expand([uri])
    with open_vectors(named) as source:
        list(source.batches())
    again = pickle.loads(pickle.dumps(named))
    assert again == uri
    assert detect(again) == "npy"
    s3.put("v.npy", files["fbin"])
    with pytest.raises(InputError, match="was changed while it was read"):
        detect(again)
    # Between the first range and the last of one pass, too.
    uri = s3.put("v.npy", files["npy"])
    with open_vectors(uri) as source:
        batches = source.batches(1000)
        next(batches)
        s3.put("v.npy", files["npy"].read_bytes()[:-1] + b"\0")
        with pytest.raises(InputError, match="was changed while it was read"):
            list(batches)


def test_damage_is_the_content_s_fault(s3: S3, files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in files.items():
        (tmp_path / "cut").mkdir(exist_ok=True)
        cut = tmp_path / "cut" / path.name
        cut.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(InputError) as here:
            read(cut)
        with pytest.raises(InputError) as there:
            read(s3.put(f"cut/{path.name}", cut))
        assert there.value.what == here.value.what, name
    fortran = tmp_path / "f.npy"
    np.save(fortran, np.asfortranarray(gaussian(4, 3)))
    with pytest.raises(InputError, match="Fortran order cannot be streamed"):
        open_vectors(s3.put("f.npy", fortran))


@pytest.mark.slow
def test_a_store_that_fails_is_the_environment(
    s3: S3, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Any
) -> None:
    monkeypatch.setenv("BINQ_STORE_TIMEOUT", "1")
    tried = [("npy", fault) for fault in FAULTS] + [("parquet", "cut"), ("jsonl", "503")]
    for name, fault in tried:
        uri = s3.put(f"v.{name}", files[name])
        with open_vectors(uri) as source:
            s3.fault = FAULTS[fault]
            with pytest.raises(EnvironmentFailure, match=f"the store .*s3://{BUCKET}/v"):
                list(source.batches())
            s3.fault = None
            assert sum(map(len, source.batches())) == ROWS
    for fault in ("403", "silent"):
        s3.fault = FAULTS[fault]
        done = cli("build", uri, "-o", tmp_path / "x.binq", code=5)
        assert SECRET not in done.err
        assert KEY_ID not in done.err
        assert not (tmp_path / "x.binq").exists()
        s3.fault = None


def test_a_fault_that_passes_costs_nothing(s3: S3, files: dict[str, Path]) -> None:
    uri = s3.put("v.npy", files["npy"])
    for name in ("503", "cut", "hung up"):
        once = iter([FAULTS[name]])
        s3.fault = lambda handler, body, once=once: next(once, lambda *_: False)(handler, body)  # type: ignore[misc]
        np.testing.assert_array_equal(read(uri)[1], gaussian(ROWS, DIM))


def test_who_waits_can_be_interrupted(s3: S3, files: dict[str, Path]) -> None:
    with open_vectors(s3.put("v.npy", files["npy"])) as source:
        s3.fault = FAULTS["silent"]
        threading.Timer(0.3, source.interrupt).start()
        with pytest.raises(EnvironmentFailure, match="reading was interrupted"):
            list(source.batches())
        s3.fault = None
        assert len(list(source.batches())) == 1


def test_commands_take_uris(s3: S3, files: dict[str, Path], tmp_path: Path, cli: Any) -> None:
    docs = s3.put("docs.parquet", files["parquet"])
    cli("build", docs, "-o", tmp_path / "there.binq")
    binq.build(files["parquet"], tmp_path / "here.binq")
    words = (docs, "-k", 2, "--rescore-from")
    there = cli("query", tmp_path / "there.binq", *words, docs).out
    assert there == cli("query", tmp_path / "here.binq", *words, files["parquet"]).out
    assert len(there.splitlines()) == ROWS
    sources = cli("info", tmp_path / "there.binq", "--json").json["sources"]
    assert sources == cli("info", tmp_path / "here.binq", "--json").json["sources"]
    assert b"s3://" not in (tmp_path / "there.binq").read_bytes()
