"""Indexes in an object store: published whole, fetched once, checked; or an error that says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpora import debris, gaussian
from stores import BUCKET, FAULTS, KEY_ID, S3, SECRET, Handler

import binq
from binq.errors import EnvironmentFailure, IndexFileError, InputError, UsageError
from binq.kernels.aot.cache import directories
from binq.storage import uploads

URI = f"s3://{BUCKET}/kept/docs.binq"
Fault = Callable[[Handler, bytes], bool]


pytestmark = pytest.mark.usefixtures("s3")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, in which nothing is to be compiled; and short waits."""
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    for compiled in directories()[0].glob("*.o"):
        shutil.copy2(compiled, place)
    monkeypatch.setenv("BINQ_CACHE_DIR", str(place))
    monkeypatch.setenv("BINQ_STORE_TIMEOUT", "1")
    return place


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.binq"))


def answers(index: Any) -> list[list[int]]:
    with binq.open(index) as opened:
        rows: list[list[int]] = opened.search(gaussian(4, 48, seed=1), k=5).rows.tolist()
        return rows


def test_a_uri_stands_for_an_index_everywhere(
    s3: S3, corpus: Path, queries: Path, tmp_path: Path, cache: Path, cli: Any
) -> None:
    here = tmp_path / "here.binq"
    cli("build", corpus, "-o", here, "--rescore", "int8")
    cli("build", s3.put("corpus.npy", corpus), "-o", URI, "--rescore", "int8")
    pointer = json.loads(s3.ask("GET", "kept/docs.binq")[1])
    name = f"{pointer['uuid']}.binq"
    assert s3.names() == ["corpus.npy", "kept/docs.binq", f"kept/docs.binq.files/{name}"]
    asked = s3.put("queries.npy", queries)
    for words in (("-k", 3), ("--rescore", "none"), ("--radius", 20)):
        wanted = cli("query", here, queries, *words).out
        assert cli("query", URI, asked, *words).out == wanted
    assert answers(URI) == answers(here) == answers(f"s3://{BUCKET}/kept/docs.binq.files/{name}")
    judged = [
        cli("eval", place, queries, "--truth", truth, "--json").json["metrics"]
        for place, truth in ((URI, f"s3://{BUCKET}/corpus.npy"), (here, corpus))
    ]
    assert judged[0] == judged[1]
    assert cli("info", URI, "--verify", "--json").json["uuid"] == pointer["uuid"]
    assert URI in cli("info", URI).out
    assert kept(cache) == [name, name]  # under its own URI it is kept once more
    fetched = [path for method, path, _ in s3.requests if method == "GET" and name in path]
    assert len(fetched) == 3
    # An index that was put there by other means is one too.
    assert answers(s3.put("plain.binq", here)) == answers(here)
    assert debris(tmp_path) == []


def test_a_new_index_takes_the_place_of_the_old(s3: S3, cache: Path) -> None:
    first, second = gaussian(300, 48), gaussian(200, 48, seed=5)
    binq.build(first, URI)
    old = binq.open(URI)
    wanted = answers(URI)
    binq.build(second, URI)
    assert answers(URI) != wanted
    assert old.search(gaussian(4, 48, seed=1), k=5).rows.tolist() == wanted
    assert len(kept(cache)) == 2
    # The file before is there for who has read the pointer; the one before that goes after an hour.
    files = [key for key in s3.names() if key.endswith(".binq") and ".files/" in key]
    assert len(files) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "GRACE_SECONDS", -5.0)
        s3.put("kept/docs.binq.files/notes.txt", b"not ours")
        binq.build(first, URI)
    left = [key for key in s3.names() if key.endswith(".binq") and ".files/" in key]
    assert len(left) == 2
    assert "kept/docs.binq.files/notes.txt" in s3.names()
    assert len(set(files) & set(left)) == 1
    assert answers(URI) == wanted


def test_a_reader_of_an_old_pointer_reads_it_again(s3: S3, corpus: Path, cache: Path) -> None:
    binq.build(corpus, URI)
    stale = s3.ask("GET", "kept/docs.binq")[1]
    (old,) = [key for key in s3.names() if key.endswith(".binq") and ".files/" in key]
    binq.build(gaussian(200, 48, seed=5), URI)
    s3.ask("DELETE", old)
    wanted = answers(URI)
    shutil.rmtree(cache / "indexes")
    once = iter([stale])

    def stale_once(handler: Handler, _: bytes) -> bool:
        if handler.command != "GET" or handler.path != f"/{BUCKET}/kept/docs.binq":
            return False
        content = next(once, None)
        if content is None:
            return False
        handler.reply(206, {"ETag": '"old"'}, content)
        return True

    s3.fault = stale_once
    assert answers(URI) == wanted
    assert next(once, None) is None
    # Where nothing else was published, the store has lost a file.
    s3.fault = None
    s3.put("kept/docs.binq", stale)
    with pytest.raises(EnvironmentFailure, match="has lost a file of the index: s3://corpus/kept"):
        binq.open(URI)


def test_damage_in_the_store_is_the_index_s(s3: S3, corpus: Path, cache: Path) -> None:
    binq.build(corpus, URI)
    (key,) = [key for key in s3.names() if key.endswith(".binq") and ".files/" in key]
    data = s3.ask("GET", key)[1]
    for place in (0, 20, 40, 130, 5000, len(data) // 2, len(data) - 3):
        changed = bytearray(data)
        changed[place] ^= 4
        s3.put(key, bytes(changed))
        with pytest.raises(IndexFileError, match=f"s3://{BUCKET}/{key}") as error:
            binq.open(URI)
        assert "/dev/fd" not in str(error.value)
    for changed_length in (data[:-1], data[:50], data + b"x"):
        s3.put(key, changed_length)
        with pytest.raises(IndexFileError, match=r"is truncated|has bytes behind its end"):
            binq.open(URI)
    s3.put(key, s3.put("other.npy", corpus) and corpus.read_bytes())
    with pytest.raises(IndexFileError):
        binq.open(URI)
    assert kept(cache) == []
    s3.put(key, data)
    wanted = answers(URI)
    # What was damaged in the cache is fetched again where opening it shows that.
    (local,) = cache.rglob("*.binq")
    local.write_bytes(data[:1000])
    assert answers(URI) == wanted
    for content, message in ((b"{}", "not a binq index"), (b"", "not a binq index")):
        with pytest.raises(IndexFileError, match=message):
            binq.open(s3.put("no.binq", content))
    with pytest.raises(IndexFileError, match="no such index: s3://corpus/none"):
        binq.open(f"s3://{BUCKET}/none")


def test_shards_are_one_index_there_too(
    s3: S3, corpus: Path, queries: Path, tmp_path: Path, cache: Path, cli: Any
) -> None:
    here = tmp_path / "here.binq"
    cli("build", corpus, "-o", here)
    said = cli("build", corpus, "-o", URI, "--shard-rows", 70).err
    assert f"{URI}: 300 rows" in said
    manifest = json.loads(s3.ask("GET", "kept/docs.binq")[1])
    names = [f"{shard['uuid']}.binq" for shard in manifest["shards"]]
    assert len(names) == 5
    assert {f"kept/docs.binq.files/{name}" for name in names} < set(s3.names())
    assert cli("query", URI, queries).out == cli("query", here, queries).out
    assert kept(cache) == sorted(names)
    cli("compact", URI, "-o", f"s3://{BUCKET}/one.binq")
    assert answers(f"s3://{BUCKET}/one.binq") == answers(here)
    assert "one file already" in cli("compact", f"s3://{BUCKET}/one.binq", "-o", "x", code=2).err
    shutil.rmtree(next(cache.rglob(json.loads(s3.ask("GET", "one.binq")[1])["uuid"] + "*")).parent)
    # Only what is missing is fetched again.
    next(cache.rglob(names[3])).unlink()
    s3.requests.clear()
    assert answers(URI) == answers(here)
    fetched = [path for method, path, _ in s3.requests if method == "GET" and ".files/" in path]
    assert fetched == [f"/{BUCKET}/kept/docs.binq.files/{names[3]}"]
    assert len(cli("info", URI, "--verify", "--json").json["shards"]) == 5
    # A shard of another index is none of this one's.
    shutil.rmtree(cache / "indexes")
    key = f"kept/docs.binq.files/{names[1]}"
    data = s3.ask("GET", key)[1]
    s3.put(key, s3.ask("GET", f"kept/docs.binq.files/{names[0]}")[1])
    with pytest.raises(IndexFileError, match=f"s3://{BUCKET}/{key}"):
        binq.open(URI)
    s3.ask("DELETE", key)
    with pytest.raises(EnvironmentFailure, match="has lost a file of the index"):
        binq.open(URI)
    s3.put(key, data)
    # One file takes the place of many, and many that of one.
    binq.build(gaussian(200, 48, seed=5), URI)
    assert answers(URI) != answers(here)
    binq.build(corpus, URI, shard_rows=299)
    assert answers(URI) == answers(here)


def test_what_is_no_index_is_not_replaced(s3: S3, corpus: Path, cli: Any) -> None:
    uri = s3.put("corpus.npy", corpus)
    for named in (uri, f"s3://{BUCKET}/", f"s3://{BUCKET}/*.npy"):
        with pytest.raises(UsageError, match="index would replace an input"):
            binq.build(named, uri, overwrite=True)
    with pytest.raises(UsageError, match=r"another kind is there: .*expected index, got npy"):
        binq.build(corpus, uri)
    assert s3.ask("GET", "corpus.npy")[1] == corpus.read_bytes()
    binq.build(corpus, uri, overwrite=True)
    assert answers(uri)
    words = ("binarize", corpus, "-o", f"s3://{BUCKET}/c.npy")
    assert "only an index can be written to a store" in cli(*words, code=2).err
    for named in (f"s3://{BUCKET}", f"s3://{BUCKET}/", f"s3://{BUCKET}/a/"):
        assert "the URI names no object" in cli("build", corpus, "-o", named, code=2).err
        assert "the URI names no object" in cli("info", named, code=2).err
    assert "no such bucket" in cli("build", corpus, "-o", "s3://nowhere/x", code=5).err
    assert "no such index" in cli("info", corpus.parent.as_uri(), code=4).err


def test_the_cache_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uris = [f"s3://{BUCKET}/{number}.binq" for number in range(4)]
    for number, uri in enumerate(uris):
        binq.build(gaussian(100 + number, 48), uri)
    size = binq.build(gaussian(100, 48), tmp_path / "x.binq").size
    monkeypatch.setenv("BINQ_CACHE_BYTES", str(2 * size + size // 2))
    opened = [binq.open(uri) for uri in uris[:2]]
    before = [index.search(gaussian(2, 48), k=3).rows.tolist() for index in opened]
    time.sleep(0.01)
    answers(uris[0])  # so that the other one was not used for longest
    names = [index.file.path.name for index in opened]
    answers(uris[2])
    assert names[0] in kept(cache)
    assert names[1] not in kept(cache)
    answers(uris[3])
    assert len(kept(cache)) == 2
    # Who has a file open keeps it, whether it is gone or was used meanwhile.
    assert [index.search(gaussian(2, 48), k=3).rows.tolist() for index in opened] == before
    monkeypatch.setenv("BINQ_CACHE_BYTES", "0")
    answers(uris[1])
    assert kept(cache) == [names[1]]  # the one that is wanted is kept, however large
    for wrong in ("10G", "-1", "٣"):
        monkeypatch.setenv("BINQ_CACHE_BYTES", wrong)
        with pytest.raises(UsageError, match="BINQ_CACHE_BYTES"):
            binq.open(uris[0])


def test_many_readers_fetch_a_file_once(s3: S3, corpus: Path, cache: Path) -> None:
    binq.build(corpus, URI)
    s3.requests.clear()
    found: list[Any] = []
    readers = [threading.Thread(target=lambda: found.append(answers(URI))) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(found) == 6
    assert all(one == found[0] for one in found)
    (name,) = kept(cache)
    assert sum(name in path for method, path, _ in s3.requests if method == "GET") == 1


def test_the_cache_is_this_user_s_alone(corpus: Path, cache: Path) -> None:
    binq.build(corpus, URI)
    answers(URI)
    places = [cache / "indexes", *(cache / "indexes").iterdir()]
    assert [place.stat().st_mode & 0o777 for place in places] == [0o700, 0o700]
    os.chmod(cache / "indexes", 0o777)
    with pytest.raises(EnvironmentFailure, match=r"cannot be kept: .*others may write"):
        binq.open(URI)


def test_a_file_on_disk_can_be_published_to(corpus: Path, tmp_path: Path) -> None:
    uri = (tmp_path / "there" / "docs.binq").as_uri()
    binq.build(corpus, uri)
    wanted = answers(uri)
    binq.build(gaussian(200, 48), uri)
    assert answers(uri) != wanted
    assert sorted(os.listdir(tmp_path / "there")) == ["docs.binq", "docs.binq.files"]


def test_no_link_of_the_cache_is_written_through(corpus: Path, tmp_path: Path, cache: Path) -> None:
    uri = (tmp_path / "docs.binq").as_uri()
    own = tmp_path / "own.txt"
    own.write_text("mine")
    for shard_rows in (None, 100):
        binq.build(corpus, uri, shard_rows=shard_rows, overwrite=True)
        wanted = answers(uri)
        for kept in [path for path in cache.rglob("*") if path.is_file()]:
            kept.unlink()
            kept.symlink_to(own)
            if kept.stem in (tmp_path / "docs.binq").read_text() + "manifest":
                with pytest.raises(EnvironmentFailure, match="a link is in the cache"):
                    answers(uri)
            kept.unlink()
        assert own.read_text() == "mine"
        assert answers(uri) == wanted


def test_a_file_is_an_input_by_its_uri_too(corpus: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "own" / "v.npy"
    vectors.parent.mkdir()
    shutil.copy(corpus, vectors)
    os.link(vectors, tmp_path / "linked.npy")
    names = (vectors, vectors.parent, tmp_path / "linked.npy")
    given = [name if plain else name.as_uri() for name in names for plain in (True, False)]
    for name in (*given, str(vectors.parent / "*.npy")):
        for output in (vectors, vectors.as_uri()):
            with pytest.raises(UsageError, match="would replace an input"):
                binq.build(name, output, overwrite=True)
        with pytest.raises(UsageError, match="index would replace an input"):
            binq.build(gaussian(20, 48), vectors.as_uri(), check_queries=name, kind="ivf",
                       overwrite=True)  # fmt: skip
    with pytest.raises(UsageError, match="an input lies in output"):
        binq.build(vectors.as_uri(), vectors.parent, shard_rows=100)
    assert vectors.read_bytes() == corpus.read_bytes()
    shards = tmp_path / "i.d"
    binq.build(vectors, shards, shard_rows=100)
    for path in shards.iterdir():
        with pytest.raises(UsageError, match="output lies in the index"):
            binq.compact(shards, path.as_uri(), overwrite=True)
    assert answers(str(shards))


@pytest.mark.slow
def test_an_interrupted_build_leaves_nothing(
    s3: S3, corpus: Path, tmp_path: Path, start: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    binq.build(gaussian(200, 48), URI)
    wanted = answers(URI)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("BINQ_STORE_TIMEOUT", "30")
    uploading = threading.Event()

    def stuck(handler: Handler, _: bytes) -> bool:
        if handler.command != "PUT":
            return False
        uploading.set()
        return FAULTS["silent"](handler, b"")

    for signal_number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        uploading.clear()
        s3.fault = stuck
        with start("build", corpus, "-o", URI) as process:
            assert uploading.wait(30)
            assert len(os.listdir(scratch)) == 1
            process.send_signal(signal_number)
            assert process.wait(10) == code
        s3.fault = None
        assert len(os.listdir(scratch)) == (signal_number == signal.SIGKILL)
        assert answers(URI) == wanted
    run("build", corpus, "-o", URI)  # removes what the killed one left
    assert os.listdir(scratch) == []


@pytest.mark.slow
@pytest.mark.torture
def test_whatever_fails_the_old_index_answers(
    s3: S3, corpus: Path, times: Callable[[int], int], cache: Path, cli: Any
) -> None:
    """Every kind of fault, from every request of a publication or of a first query on."""
    binq.build(gaussian(200, 48, seed=5), URI)
    old = answers(URI)
    s3.requests.clear()
    cli("build", corpus, "-o", URI)
    new, writes = answers(URI), len(s3.requests)
    tried = [(name, first) for first in range(writes) for name in FAULTS]
    step = len(tried) // times(50) or 1
    seen = set()
    for name, first in tried[step // 2 :: step]:
        s3.clear()
        binq.build(gaussian(200, 48, seed=5), URI)
        left = iter(range(first))

        def fault(handler: Handler, body: bytes, name: str = name, left: Any = left) -> bool:
            return next(left, None) is None and FAULTS[name](handler, body)

        s3.fault = fault
        try:
            binq.build(corpus, URI)
        except EnvironmentFailure as error:
            told = str(error)
            assert told.isprintable()
            assert SECRET not in told
            assert KEY_ID not in told
            seen.add(name)
            s3.fault = None
            assert answers(URI) in (old, new)
        else:
            s3.fault = None
            assert answers(URI) == new
        for file in cache.rglob("*.binq"):
            file.unlink()
        left = iter(range(first % 4))

        def slow(handler: Handler, body: bytes, name: str = name, left: Any = left) -> bool:
            return next(left, None) is None and FAULTS[name](handler, body)

        s3.fault = slow
        try:
            found = answers(URI)
        except (EnvironmentFailure, InputError) as error:
            assert error.exit_code == 5, error  # noqa: PT017
        else:
            assert found in (old, new)
        s3.fault = None
    assert len(seen) >= min(len(FAULTS), len(tried[step // 2 :: step]) // 2)


def test_an_output_is_no_other_by_its_uri(corpus: Path, tmp_path: Path, cli: Any) -> None:
    """The index took the place of the binarizer that was kept right before."""
    (tmp_path / "aside").symlink_to(tmp_path)
    fit = {"method": "mean", "overwrite": True}
    for kept in (tmp_path / "b", tmp_path / "aside" / "b"):
        for shard_rows in (None, 100):
            with pytest.raises(UsageError, match="output and save_binarizer are one file"):
                binq.build(corpus, (tmp_path / "b").as_uri(), save_binarizer=kept,
                           shard_rows=shard_rows, **fit)  # fmt: skip
            assert not (tmp_path / "b").exists()
    uri = (tmp_path / "i.binq").as_uri()
    binq.build(corpus, uri, save_binarizer=tmp_path / "b", **fit)
    before = (tmp_path / "b").read_bytes()
    with pytest.raises(UsageError, match="index would replace an input"):
        binq.build(corpus, (tmp_path / "b").as_uri(), binarizer=tmp_path / "b", overwrite=True)
    assert (tmp_path / "b").read_bytes() == before
    with binq.open(uri) as index:
        assert index.file.header.rows == 300
    shards = tmp_path / "i.d"
    binq.build(corpus, shards.as_uri(), shard_rows=100)
    wanted = answers(shards.as_uri())
    judged = ("eval", shards.as_uri(), corpus, "--truth", corpus)
    for path in (shards, *shards.with_name("i.d.files").iterdir()):
        for words in (
            ("compact", shards.as_uri(), "-o", path),
            ("query", shards.as_uri(), corpus, "-o", path, "--format", "jsonl"),
            (*judged, "--cache-truth", path),
        ):
            assert "would replace an input" in cli(*words, "--overwrite", code=2).err
    assert answers(shards.as_uri()) == wanted
