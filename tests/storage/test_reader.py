"""Damage: flipped bits, cut files, junk behind the end, and what verify finds."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest
from corpora import gaussian, write_jsonl
from forging import header_of, preamble_fields

from binq import build
from binq.errors import BinqError, IndexFileError
from binq.index.index import Index
from binq.search.options import SearchOptions
from binq.storage.format import Header
from binq.storage.reader import IndexFile

QUERIES = gaussian(3, 20, seed=1)
HEADER = Header(0, 4, 4, 1, "ip", None, "", "", packed="lsb")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="module")
def whole(place: Path) -> bytes:
    corpus = write_jsonl(place / "c.jsonl", gaussian(30, 20), [f"id{n}" for n in range(30)])
    build(corpus, place / "whole.binq", method="median", rescore="float16")
    return (place / "whole.binq").read_bytes()


@pytest.fixture(scope="module")
def answer(whole: bytes, place: Path) -> tuple[object, ...]:
    return answered(written(whole, place))


def answered(path: Path) -> tuple[object, ...]:
    hits = Index(path).search(QUERIES, 4)
    return hits.ids, hits.distances.tolist(), hits.scores.tolist()


def written(data: bytes, place: Path) -> Path:
    path = place / "damaged.binq"
    path.write_bytes(data)
    return path


@contextmanager
def flipped(path: Path, data: bytes, bit: int) -> Iterator[None]:
    """Flip one bit in place, and flip it back."""
    at = bit // 8
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit % 8]), at)
        yield
        os.pwrite(file.fileno(), data[at : at + 1], at)


@pytest.mark.slow
@pytest.mark.torture
def test_every_bit_of_preamble_header_and_footer(
    whole: bytes, place: Path, answer: tuple[object, ...]
) -> None:
    found = preamble_fields(whole)
    start, length = found["header_offset"], found["header_length"]
    spans = [(0, 128), (start, start + length), (len(whole) - 32, len(whole))]
    path = written(whole, place)
    for low, high in spans:
        for bit in range(8 * low, 8 * high):
            with flipped(path, whole, bit):
                try:
                    assert answered(path) == answer
                except IndexFileError as error:
                    assert str(error).isprintable()  # noqa: PT017


def test_every_flip_of_the_preamble_is_noticed(whole: bytes, place: Path) -> None:
    path = written(whole, place)
    for bit in range(8 * 128):
        with flipped(path, whole, bit), pytest.raises(IndexFileError):
            IndexFile(path)


@pytest.mark.torture
def test_every_length_up_to_header_and_4_kib(whole: bytes, place: Path) -> None:
    found = preamble_fields(whole)
    longest = min(len(whole), found["header_length"] + 128 + 4096)
    path = written(whole, place)
    with path.open("r+b") as file:
        for length in range(longest - 1, -1, -1):
            file.truncate(length)
            with pytest.raises(IndexFileError):
                IndexFile(path)


@pytest.mark.torture
def test_random_lengths_and_junk(whole: bytes, place: Path, times: Callable[[int], int]) -> None:
    draw = random.Random(0)
    for _ in range(times(1000)):
        with pytest.raises(IndexFileError):
            IndexFile(written(whole[: draw.randrange(len(whole))], place))
        junk = draw.randbytes(draw.choice([1, 32, 64, 4096]))
        with pytest.raises(IndexFileError, match="behind its end"):
            IndexFile(written(whole + junk, place))
    with pytest.raises(IndexFileError):
        IndexFile(written(whole + whole, place))
    with pytest.raises(IndexFileError):
        IndexFile(written(whole + bytes(64), place))


@pytest.mark.torture
def test_flips_of_sections_are_found_by_verify_and_harmless_to_search(
    whole: bytes, place: Path, times: Callable[[int], int]
) -> None:
    """Everything between preamble and header: sections, checksums, and the gaps."""
    draw = random.Random(1)
    end = preamble_fields(whole)["header_offset"]
    sections = header_of(whole)["sections"]
    ends = [8 * s["offset"] for s in sections] + [8 * (s["offset"] + s["length"]) for s in sections]
    bits = [bit for edge in ends for bit in (edge - 1, edge, edge + 1)]
    bits += [draw.randrange(8 * 128, 8 * end) for _ in range(times(1000))]
    for section in sections:
        span = 8 * section["offset"], 8 * (section["offset"] + section["length"])
        bits += [draw.randrange(*span) for _ in range(times(150))]
    path = written(whole, place)
    for bit in bits:
        with flipped(path, whole, bit), warnings.catch_warnings():
            damage = IndexFile(path).verify()
            assert len(damage) == 1, bit
            assert damage[0].offset <= bit // 8 < damage[0].offset + damage[0].length
            warnings.simplefilter("ignore", RuntimeWarning)  # a flip may make a number infinite
            try:
                answered(path)
            except BinqError as error:
                assert error.exit_code == 4  # noqa: PT017


@pytest.mark.torture
def test_zeroed_and_swapped_pages_are_found(place: Path, times: Callable[[int], int]) -> None:
    path = place / "pages.binq"
    build(gaussian(3000, 64), path, rescore="float32")
    data = path.read_bytes()
    pages = preamble_fields(data)["header_offset"] // 4096
    draw = random.Random(2)
    for _ in range(times(400)):
        a, b = draw.sample(range(1, pages), 2)
        first, second = (slice(4096 * page, 4096 * (page + 1)) for page in (a, b))
        changed = bytearray(data)
        if draw.random() < 0.5:
            changed[first] = bytes(4096)
        else:
            changed[first], changed[second] = data[second], data[first]
        if changed != data:
            assert IndexFile(written(bytes(changed), place)).verify()


def test_a_whole_file_verifies(whole: bytes, place: Path) -> None:
    assert IndexFile(written(whole, place)).verify() == []


def test_other_files(place: Path) -> None:
    for data in (b"", b"\x89", b"\x89BINQ\r\n\x1a", b"not an index at all", b"\0"):
        with pytest.raises(IndexFileError):
            IndexFile(written(data, place))


def test_missing_directory_and_fifo(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="no such index"):
        IndexFile(tmp_path / "none.binq")
    with pytest.raises(IndexFileError, match="not an index"):
        IndexFile(tmp_path)
    with pytest.raises(IndexFileError):
        IndexFile(tmp_path / "a" / "b")


def test_arrays_are_read_only_views(whole: bytes, place: Path) -> None:
    file = IndexFile(written(whole, place))
    codes = file.array("codes", "uint64", (30, 1))
    with pytest.raises(ValueError, match="read-only"):
        codes[0] = 1
    for name, dtype, shape in [
        ("codes", "int64", (30, 1)),
        ("codes", "uint64", (30,)),
        ("codes", "uint64", (31, 1)),
        ("absent", "uint64", (1,)),
    ]:
        with pytest.raises(IndexFileError, match="corrupt"):
            file.array(name, dtype, shape)


def test_a_pickled_file_opens_again_and_refuses_another(whole: bytes, tmp_path: Path) -> None:
    path = written(whole, tmp_path)
    file = IndexFile(path)
    kept = pickle.dumps((file, file.ids()))
    again, ids = pickle.loads(kept)
    assert again.header == file.header
    assert list(ids) == list(file.ids() or ())
    build(gaussian(30, 20), path)
    with pytest.raises(IndexFileError, match="replaced"):
        pickle.loads(kept)


def test_a_file_opened_by_a_relative_path_is_pickled_from_anywhere(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(whole, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(path.parent)
    file = IndexFile(path.name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickle.dumps(file)).header == file.header
    assert str(file.path) == path.name


def test_a_closed_file(whole: bytes, place: Path) -> None:
    with IndexFile(written(whole, place)) as file:
        codes = file.array("codes", "uint64", (30, 1))
        before = codes.copy()
    assert np.array_equal(codes, before)
    with pytest.raises(ValueError, match="closed"):
        file.array("codes", "uint64", (30, 1))
    file.close()


def test_a_plain_file_says_1_0(whole: bytes, place: Path) -> None:
    file = IndexFile(written(whole, place))
    assert file.version == "1.0"
    assert file.alive() is None
    assert b"needs" not in whole


def test_an_old_file_stays_whole_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "i.binq"
    build(gaussian(50, 20), path)
    old = Index(path)
    before = old.search(QUERIES, 5).rows.tolist()
    build(gaussian(80, 20, seed=9), path)
    assert old.search(QUERIES, 5).rows.tolist() == before
    assert old.file.verify() == []
    assert len(Index(path)) == 80


def test_a_file_changed_in_place_is_refused(tmp_path: Path) -> None:
    """Cut, emptied, lengthened, or written over by another of the same length."""
    path, other = tmp_path / "i.binq", tmp_path / "other.binq"
    build(gaussian(3000, 20), path, rescore="float16")
    build(gaussian(3000, 20, seed=9), other, rescore="float16")
    data = path.read_bytes()

    def over() -> None:
        assert other.stat().st_size == len(data)
        shutil.copyfile(other, path)

    changes: list[Callable[[], object]] = [
        lambda: os.truncate(path, 5000),
        lambda: os.truncate(path, 0),
        lambda: os.truncate(path, len(data) + 1),
        over,
    ]
    for change in changes:
        path.write_bytes(data)
        os.utime(path, (1, 1))
        index = Index(path)
        index.search(QUERIES, 5)
        change()
        searches: list[Callable[[], object]] = [
            lambda index=index: index.search(QUERIES, 5),
            lambda index=index: index.search(QUERIES, 5, scoring="asymmetric"),
            lambda index=index: index.radius_search(QUERIES, 3),
            index.file.verify,
        ]
        for search in searches:
            with pytest.raises(IndexFileError, match=r"changed in place.*i\.binq.*rename"):
                search()


def test_a_file_changed_while_it_is_searched_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "i.binq"
    build(gaussian(50, 20), path)
    index = Index(path)
    with index.pipeline(SearchOptions()) as pipeline:
        queries = index.prepare(QUERIES)
        found = pipeline.candidates(queries, 5)
        os.utime(path, (1, 1))
        with pytest.raises(IndexFileError, match="changed in place"):
            pipeline.rescore(queries, found, 5)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server, chdir(tmp_path):
        server.bind("socket")
        for name in ("fifo", "socket", "/dev/null", "."):
            with pytest.raises(IndexFileError, match="not an index"):
                IndexFile(name)


def test_verify_of_a_file_that_is_cut_meanwhile(whole: bytes, place: Path) -> None:
    file = IndexFile(written(whole, place))
    file.require_unchanged = lambda: os.truncate(file.path, 4096)  # type: ignore[method-assign]
    with pytest.raises(IndexFileError, match="changed in place"):
        file.verify()
