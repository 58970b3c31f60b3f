"""Vectors and indexes in Google Cloud Storage, of which a server on loopback takes the place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpora import debris
from gcs import GCS, running_gcs

from binq.kernels.aot.cache import directories

pytestmark = pytest.mark.slow


@pytest.fixture
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GCS]:
    with running_gcs(tmp_path_factory.mktemp("bucket")) as store:
        yield store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, in which nothing is to be compiled; and short waits."""
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    for compiled in directories()[0].glob("*.o"):
        shutil.copy2(compiled, place)
    monkeypatch.setenv("BINQ_CACHE_DIR", str(place))
    monkeypatch.setenv("BINQ_STORE_TIMEOUT", "2")
    return place


def test_a_uri_stands_for_vectors_and_indexes(
    gcs: GCS, corpus: Path, queries: Path, tmp_path: Path, cli: Any
) -> None:
    here = tmp_path / "here.binq"
    cli("build", corpus, "-o", here, "--rescore", "int8")
    gcs.objects["in/corpus.npy"] = corpus.read_bytes()
    gcs.objects["in/queries.npy"] = queries.read_bytes()
    wanted = cli("query", here, queries, "-k", 3).out
    for name, words in (("i.binq", ()), ("i.d", ("--shard-rows", 100))):
        uri = gcs.uri(name)
        cli("build", gcs.uri("in/corpus.npy"), "-o", uri, "--rescore", "int8", *words)
        assert cli("query", uri, gcs.uri("in/queries.npy"), "-k", 3).out == wanted
        judged = ("eval", uri, queries, "--truth", gcs.uri("in/corpus.npy"), "--json")
        assert cli(*judged).json["queries"] == 12
        told = cli("info", uri, "--verify", "--json").json
        assert (told["rows"], told["damaged"]) == (300, [])
    cli("compact", gcs.uri("i.d"), "-o", gcs.uri("one.binq"))
    assert cli("query", gcs.uri("one.binq"), queries, "-k", 3).out == wanted
    assert {name.partition(".files/")[0] for name in gcs.objects} == {
        *("in/corpus.npy", "in/queries.npy", "i.binq", "i.d", "one.binq")
    }
    assert debris(tmp_path) == []


def test_faults_exit_with_their_codes(
    gcs: GCS, corpus: Path, queries: Path, cache: Path, cli: Any
) -> None:
    gcs.objects["corpus.npy"] = corpus.read_bytes()
    uri = gcs.uri("i.binq")
    cli("build", gcs.uri("corpus.npy"), "-o", uri)
    wanted = cli("query", uri, queries).out
    before = dict(gcs.objects)
    for status in (403, 503):
        gcs.fault = status
        for words in (("query", uri, queries), ("build", corpus, "-o", uri)):
            error = cli(*words, code=5).err
            assert "gs://corpus/i.binq" in error
            assert "127.0.0.1" not in error
        gcs.fault = 0
    assert gcs.objects == before
    assert "no such object: gs://corpus/no.npy" in cli("query", uri, gcs.uri("no.npy"), code=3).err
    assert "no such index" in cli("info", gcs.uri("no.binq"), code=4).err
    (file,) = [name for name in gcs.objects if ".files/" in name]
    shutil.rmtree(cache / "indexes")
    gcs.objects[file] = before[file][:-1]
    assert "truncated" in cli("query", uri, queries, code=4).err
    del gcs.objects[file]
    assert "has lost a file of the index" in cli("query", uri, queries, code=5).err
    gcs.objects[file] = before[file]
    assert cli("query", uri, queries).out == wanted
