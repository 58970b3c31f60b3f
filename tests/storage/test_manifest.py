"""Manifests: hostile, damaged, replaced while somebody reads; and what becomes of files."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from corpora import debris, gaussian
from forging import header_of, with_header
from torture.test_payloads import forged

import binq
from binq.errors import BinqError, EnvironmentFailure, IndexFileError, InputError
from binq.index.index import Index
from binq.io import atomic
from binq.storage import publishing
from binq.storage.manifest import LIMIT, NAME, name_of
from binq.structures import ivf

Times = Callable[[int], int]
QUERIES = gaussian(3, 8, 1)
NUMBERS = (0, 1, 2**31 - 1, 2**31 + 1, 2**32, 2**53, 2**63 - 1, 2**63 + 1, 2**64 - 1, -1, 1.5)
OTHERS = (None, True, "", "x", [], {}, [[]], "../../etc/passwd", "a" * 32, float("nan"))


def shards(place: Path, seed: int = 0, **settings: Any) -> Path:
    settings = {"shard_rows": 4, "rescore": "int8", "method": "mean"} | settings
    binq.build(gaussian(10, 8, seed), place, **settings)
    return place


def document_of(place: Path) -> Any:
    return json.loads((place / NAME).read_bytes())


def write(place: Path, document: Any) -> None:
    """Write a manifest with a checksum that fits, computed as docs/format.md says."""
    if isinstance(document, dict):
        document.pop("checksum", None)
        plain = json.dumps(document, sort_keys=True, separators=(",", ":"))
        document["checksum"] = f"{xxhash.xxh3_64_intdigest(plain.encode()):016x}"
    (place / NAME).write_text(json.dumps(document))


def refused(place: Path, match: str) -> IndexFileError:
    with pytest.raises(IndexFileError, match=match) as caught:
        Index(place)
    error = caught.value
    assert str(place) in error.line()
    assert error.next_step
    return error


def test_a_manifest_written_by_hand(tmp_path: Path) -> None:
    """The specification suffices: a manifest is put together from what the files say."""
    place = shards(tmp_path / "i.d")
    wanted = Index(place).search(QUERIES, 5)
    old = document_of(place)
    files = sorted(place.glob("*.binq"), key=lambda p: header_of(p.read_bytes())["shard"]["first"])
    header = header_of(files[0].read_bytes())
    for name in ("sections", "checksums", "shard", "needs"):
        header.pop(name, None)
    entries = [
        {
            "uuid": path.stem,
            "rows": header_of(data)["rows"],
            "length": len(data),
            "header": f"{int.from_bytes(data[72:80], 'little'):016x}",
        }
        for path in files
        for data in [path.read_bytes()]
    ]
    assert entries == old["shards"]
    arrays = Index(files[0]).binarizer.arrays()  # type: ignore[union-attr]
    low, step = (
        Index(files[0]).file.array(f"rescore.{n}", "float32", (8,)) for n in ("low", "step")
    )
    digest = xxhash.xxh3_128()
    for name, array in sorted(
        {
            **{f"binarizer.{n}": a for n, a in arrays.items()},
            "rescore.low": low,
            "rescore.step": step,
        }.items()
    ):
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode() + array.tobytes())
    write(
        place,
        {
            "schema": "binq.shards/1",
            "index": header | {"rows": 10, "sources": old["index"]["sources"]},
            "shared": digest.hexdigest(),
            "shards": entries,
        },
    )
    assert np.array_equal(Index(place).search(QUERIES, 5).scores, wanted.scores)


def test_shards_that_are_not_what_the_manifest_says(tmp_path: Path) -> None:
    place = shards(tmp_path / "i.d")
    good = document_of(place)

    def forged(change: Callable[[Any], None], match: str) -> None:
        document = json.loads(json.dumps(good))
        change(document)
        write(place, document)
        refused(place, match)

    a, b, c = good["shards"]
    forged(lambda d: d.update(shards=[b, a, c]), "does not belong .*first row")
    forged(lambda d: d.update(shards=[a, a, c]), "a shard twice")
    forged(lambda d: d.update(shards=[]), "1 to 65536")
    forged(lambda d: d["index"].update(rows=11), "manifest rows")
    forged(lambda d: d["shards"][0].update(rows=2**62), "manifest rows")
    forged(lambda d: d["shards"][0].update(rows=2**63), "integer from 0")
    forged(lambda d: d["shards"][0].update(length=1), "shard length")
    forged(lambda d: d["shards"][0].update(header="0" * 16), "header checksum")
    forged(lambda d: d["shards"][0].update(uuid="../" + "a" * 29), "32 hexadecimal")
    forged(lambda d: d["shards"][0].update(uuid="f" * 32), "a shard of the index is missing")
    forged(lambda d: d.update(shared="0"), "does not belong .*shared")
    forged(lambda d: d["index"].update(metric="l2"), "does not belong .*metric")
    forged(lambda d: d["index"].update(kind="ivf"), "does not belong .*kind")
    forged(lambda d: d.update(schema="binq.shards/2"), "made by a newer binq")
    forged(lambda d: d.update(schema="x"), "not a manifest of binq")
    write(place, good)
    assert len(Index(place)) == 10


def test_shards_of_different_indexes_are_refused(tmp_path: Path) -> None:
    """They were made by another binarizer, for another scan, metric, or of another width."""
    first = shards(tmp_path / "a.d")
    for number, (settings, seed, what) in enumerate(
        (
            ({}, 1, "shared"),
            ({"metric": "ip"}, 0, "metric"),
            ({"truncate_dim": 7}, 0, "bits"),
            ({"scoring": "asymmetric"}, 0, "scoring"),
            ({"rescore": "float16"}, 0, "rescore"),
            ({"method": "median"}, 0, "binarizer"),
        )
    ):
        mixed = tmp_path / f"m{number}.d"
        shutil.copytree(first, mixed)
        other = shards(tmp_path / f"o{number}.d", seed, **settings)
        document, theirs = document_of(first), document_of(other)
        entry = theirs["shards"][1]
        shutil.copy(other / f"{entry['uuid']}.binq", mixed)
        document["shards"][1] = entry
        write(mixed, document)
        assert what in refused(mixed, "does not belong").where


@pytest.mark.slow
def test_damage(tmp_path: Path, cli: Callable[..., Any]) -> None:
    place = shards(tmp_path / "i.d")
    good = (place / NAME).read_bytes()
    for at in range(len(good)):
        for bit in (1, 1 << random.Random(at).randrange(1, 8)):
            damaged = bytearray(good)
            damaged[at] ^= bit
            if json_of(bytes(damaged)) == json_of(good):
                continue  # white space, or a letter in other case
            (place / NAME).write_bytes(damaged)
            refused(place, ".")
    for length in range(0, len(good), 7):
        (place / NAME).write_bytes(good[:length])
        refused(place, ".")
    with open(place / NAME, "wb") as file:
        file.truncate(LIMIT + 1)
    refused(place, f"at most {LIMIT}")
    (place / NAME).write_bytes(b"[" * 1_000_000)
    refused(place, "JSON")
    (place / NAME).unlink()
    refused(place, "not an index")
    (place / NAME).mkdir()
    refused(place, "not an index")
    (place / NAME).rmdir()
    os.mkfifo(place / NAME)
    refused(place, "not an index")
    (place / NAME).unlink()
    (place / NAME).write_bytes(good)
    shard = place / name_of(Index(place).file.shards[1].uuid)
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    refused(place, "truncated")
    for content in (b"", b"no index", data[:100]):
        shard.write_bytes(content)
        assert refused(place, ".").next_step == "restore it from a copy or build it again"
    shard.unlink()
    refused(place, "a shard of the index is missing")
    assert "missing" in cli("query", place, "-", code=4, stdin=b"").err
    shard.write_bytes(data)
    header = header_of(data)
    shard.write_bytes(with_header(data, header | {"shard": {"first": 4, "shared": "f"}}))
    refused(place, "shard header checksum|shard length")


def json_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


@pytest.mark.slow
@pytest.mark.torture
def test_forged_manifests(tmp_path: Path, times: Times) -> None:
    """Whatever a manifest says: an error of binq's, or an answer; no crash, no endless loop."""
    place = shards(tmp_path / "i.d")
    good = document_of(place)
    draw = random.Random(0)
    paths = list(places(good))
    for _ in range(times(5000)):
        document = json.loads(json.dumps(good))
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            path = draw.choice(paths)
            spot = document
            try:
                for key in path[:-1]:
                    spot = spot[key]
                spot[path[-1]] = deepcopy(draw.choice((*NUMBERS, *OTHERS, *good["shards"])))
            except (KeyError, IndexError, TypeError):
                continue
        # Where a list gave way to an object, the place in it becomes a name.
        write(place, json.loads(json.dumps(document)))
        try:
            with Index(place) as index:
                index.search(QUERIES, 5)
                list(index.file.verify())
        except (IndexFileError, EnvironmentFailure):
            pass


@pytest.mark.slow
@pytest.mark.torture
def test_forged_shards(tmp_path: Path, times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections of one shard lie, with checksums that fit: an answer in range, or an error."""
    monkeypatch.setattr(ivf, "FEW", 0)
    draw, answered = random.Random(1), 0
    for kind in ("flat", "ivf", "hnsw"):
        place = tmp_path / kind
        binq.build(gaussian(60, 8), place, shard_rows=25, kind=kind, rescore="int8")
        good = document_of(place)
        whole = {e["uuid"]: (place / f"{e['uuid']}.binq").read_bytes() for e in good["shards"]}
        for _ in range(times(500)):
            document = deepcopy(good)
            entry = draw.choice(document["shards"])
            data = forged(whole[entry["uuid"]], draw)
            entry |= {
                "length": len(data),
                "header": f"{int.from_bytes(data[72:80], 'little'):016x}",
            }
            (place / f"{entry['uuid']}.binq").write_bytes(data)
            write(place, document)
            try:
                with Index(place) as index:
                    settings = draw.choice(
                        ({}, {"filter_ids": range(9)}, {"scoring": "asymmetric"}, {"threads": 3})
                    )
                    rows = index.search(QUERIES, 5, **settings).rows
                    near = index.radius_search(QUERIES, 3).rows
                    assert ((rows >= 0) & (rows < 60)).all()
                    assert ((near >= 0) & (near < 60)).all()
                    answered += 1
                    if kind != "hnsw":
                        binq.compact(place, tmp_path / "one.binq")
            except BinqError as error:
                assert error.exit_code in (3, 4), repr(error)  # noqa: PT017
            (place / f"{entry['uuid']}.binq").write_bytes(whole[entry["uuid"]])
    assert 0 < answered < 3 * times(500)


def places(document: Any, above: tuple[Any, ...] = ()) -> Any:
    """Yield the path of everything in a document."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def test_verify_finds_what_shards_should_share(tmp_path: Path) -> None:
    """A shard may say that it has the binarizer of the others, and have another."""
    place, other = shards(tmp_path / "a.d"), shards(tmp_path / "b.d", 1)
    document, theirs = document_of(place), document_of(other)
    data = (other / f"{theirs['shards'][1]['uuid']}.binq").read_bytes()
    header = header_of(data)
    header["shard"]["shared"] = document["shared"]
    data = with_header(data, header)
    entry = theirs["shards"][1]
    (place / f"{entry['uuid']}.binq").write_bytes(data)
    entry |= {"length": len(data), "header": f"{int.from_bytes(data[72:80], 'little'):016x}"}
    document["shards"][1] = entry
    write(place, document)
    (found,) = Index(place).file.verify()
    assert found[1].section == "shared"


def test_a_reader_keeps_what_it_opened_and_a_new_one_finds_the_new(tmp_path: Path) -> None:
    place = shards(tmp_path / "i.d")
    old = Index(place)
    before = old.search(QUERIES, 5, rescore="none").rows
    pickled = pickle.dumps(old)
    shards(place, 3)
    assert np.array_equal(old.search(QUERIES, 5, rescore="none").rows, before)
    assert not np.array_equal(Index(place).search(QUERIES, 5, rescore="none").rows, before)
    with pytest.raises(IndexFileError, match="the index was replaced"):
        pickle.loads(pickled)
    same = Index(place)
    assert pickle.loads(pickle.dumps(same)).file.uuid == same.file.uuid


def names_in(place: Path) -> set[str]:
    return {path.name for path in place.glob("*.binq")}


def test_files_that_no_manifest_has_named_for_ten_minutes_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    place = shards(tmp_path / "i.d")
    first = names_in(place)
    for name in first:
        os.utime(place / name, (0, 0))  # written long ago, and named until now
    assert "left_over" not in cli("info", place, "--json").json
    (place / "mine.binq").write_text("mine")
    shards(place, 1)
    second = names_in(place) - first - {"mine.binq"}
    assert names_in(place) == first | second | {"mine.binq"}
    size = sum((place / name).stat().st_size for name in first)
    assert cli("info", place, "--json").json["left_over"] == {"files": 3, "bytes": size}
    assert f"3 shards of builds before, {size:,} bytes" in cli("info", place).out
    now, writing = time.time, publishing.writing_index
    monkeypatch.setattr(publishing.time, "time", lambda: now() + 700)
    seen = []

    def watched(*given: Any) -> Any:
        seen.append(names_in(place))
        return writing(*given)

    monkeypatch.setattr(publishing, "writing_index", watched)
    # They make room before the build begins. What it replaces stays, by whatever clock.
    shards(place, 2)
    assert seen[0] == second | {"mine.binq"}
    left = names_in(place)
    assert second | {"mine.binq"} < left
    assert len(left) == 7


@pytest.mark.slow
def test_what_a_killed_build_left_goes_though_the_next_one_fails(
    children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that is killed each time does not fill the disk."""
    place = shards(tmp_path / "i.d")
    before = names_in(place)
    np.save(tmp_path / "v.npy", gaussian(40, 8, 5))
    words = ("build", "v.npy", "-o", "i.d", "--shard-rows", "4")
    number, left = 20, set[str]()
    while len(left) < 3:
        end = children.start("children:killed_at", number, str(tmp_path), *words).wait()
        assert end.code == -signal.SIGKILL, end.err
        number, left = number + 5, names_in(place) - before
    now = time.time
    for later, there in ((500, left), (700, set())):
        monkeypatch.setattr(publishing.time, "time", lambda later=later: now() + later)
        with pytest.raises(InputError, match="no row can be used"):
            binq.build(np.zeros((9, 8), np.float32), place, shard_rows=4, on_error="skip")
        assert names_in(place) == before | there
    assert len(Index(place)) == 10
    assert not debris(place)


def test_a_shard_that_is_gone_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where machines do not share locks, one may take another's shards for what was left."""
    place = shards(tmp_path / "i.d")
    wanted = Index(place).search(QUERIES, 5).rows
    publish = publishing.DirectoryWriter.publish

    def bereft(self: Any, manifest: Any) -> int:
        os.unlink(place / name_of(manifest.shards[1].uuid))
        return publish(self, manifest)

    monkeypatch.setattr(publishing.DirectoryWriter, "publish", bereft)
    with pytest.raises(EnvironmentFailure, match=r"a shard is gone that was just written: .*i\.d/"):
        shards(place, 1)
    assert np.array_equal(Index(place).search(QUERIES, 5).rows, wanted)
    assert len(names_in(place)) == 3


def test_errors_name_the_directory_as_it_was_given(children: Any, tmp_path: Path) -> None:
    """Not the files in it that have no names yet."""
    np.save(tmp_path / "v.npy", gaussian(4000, 64))
    for kind in ("flat", "ivf"):
        words = ("build", "v.npy", "-o", "i.d", "--shard-rows", "2000", "--kind", kind)
        for size in (500, 20_000):
            end = children.start("children:cramped", size, str(tmp_path), *words).wait()
            assert end.code == 5, end
            what = "cannot write: i.d: got file too large; the output was left as it was"
            assert end.err == f"binq: error: {what}\n"
            assert not (tmp_path / "i.d").exists()


def test_a_file_that_is_gone_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that has read the old manifest finds its files gone: it reads the new one."""
    place, other = shards(tmp_path / "i.d"), shards(tmp_path / "o.d", 1)
    wanted = Index(other).search(QUERIES, 5).rows
    from binq.storage.directory import IndexDirectory

    read = IndexDirectory._read
    rounds = []

    def replaced(self: Any) -> bytes:
        data = read(self)
        if not rounds:
            shutil.rmtree(place)
            shutil.copytree(other, place)
        rounds.append(data)
        return data

    monkeypatch.setattr(IndexDirectory, "_read", replaced)
    assert np.array_equal(Index(place).search(QUERIES, 5).rows, wanted)
    assert len(rounds) == 2


def test_every_step_of_a_publication_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old index answers until the manifest is replaced, and nothing of the new is left."""
    place = shards(tmp_path / "i.d")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    wanted = Index(place).search(QUERIES, 5).rows
    reached = failed = 0
    for name in ("fsync", "replace", "open", "mkdir"):
        real = getattr(os, name)
        for number in range(100):
            calls = 0

            def failing(*given: Any, real: Any = real, number: int = number, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == number + 1:
                    raise OSError(5, "Input/output error")
                return real(*given, **more)

            with monkeypatch.context() as patch:
                patch.setattr(atomic.os, name, failing)
                try:
                    shards(place, 1)
                except BinqError:
                    failed += 1
            if calls <= number:
                break
            reached += 1
            there = {path.name: path.read_bytes() for path in place.iterdir()}
            if there != before:
                # The last sync comes after the rename: what it says is that the new is there.
                assert not np.array_equal(Index(place).search(QUERIES, 5).rows, wanted)
                shutil.rmtree(place)
                place.mkdir()
                for file, data in before.items():
                    (place / file).write_bytes(data)
    assert reached > 10
    assert failed > 8


@pytest.mark.slow
def test_readers_during_replaces(tmp_path: Path) -> None:
    place = shards(tmp_path / "i.d")
    whole = {}
    for seed in (0, 1):
        shards(tmp_path / f"{seed}.d", seed)
        whole[seed] = Index(tmp_path / f"{seed}.d").search(QUERIES, 5).rows.tolist()
    stop, wrong = threading.Event(), []
    answers = [0]

    def read() -> None:
        while not stop.is_set():
            try:
                with Index(place) as index:
                    if index.search(QUERIES, 5).rows.tolist() not in whole.values():
                        wrong.append("a mixture")
            except BinqError as error:
                wrong.append(str(error))
            answers[0] += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(25):
        shards(place, turn % 2)
        # As the first write of the next hour does.
        keep = {shard["uuid"] for shard in document_of(place)["shards"]}
        for path in place.glob("*.binq"):
            if path.stem not in keep:
                path.unlink()
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert answers[0] > 5


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_kill_at_every_call(
    children: Any, tmp_path: Path, times: Times, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """The whole old index answers, or the whole new one; what is left goes later."""
    vectors = gaussian(40, 8, 5)
    np.save(tmp_path / "v.npy", vectors)
    place = shards(tmp_path / "i.d")

    def answer(path: Path) -> Any:
        with Index(path) as index:
            assert not [*index.file.verify()]
            return index.search(QUERIES, 5, rescore="none").rows.tolist()

    old = answer(place)
    binq.build(vectors, tmp_path / "n.d", shard_rows=9, kind=kind)
    new = answer(tmp_path / "n.d")
    words = ("build", "v.npy", "-o", "i.d", "--shard-rows", "9", "--kind", kind)
    seen, number = set(), 1
    while (end := children.start("children:killed_at", number, str(tmp_path), *words).wait()).code:
        assert end.code == -signal.SIGKILL, end.err
        rows = answer(place)
        assert rows in (old, new)
        seen.add(rows == new)
        if rows == new:
            shards(place)
        number += 1 if times(10) == 10 else 5
    assert number > 20
    assert False in seen
    assert True in seen or times(10) < 10
    assert answer(place) == new
    assert not debris(place)
    now = time.time
    monkeypatch.setattr(publishing.time, "time", lambda: now() + 700)
    shards(place)
    shards(place, 1)
    # The index, and the one that it replaced.
    assert len(names_in(place)) == 3 + 3
    assert not debris(place)
