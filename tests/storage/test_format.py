"""The bytes of the format: round trips, versions, features, and headers that lie."""

from __future__ import annotations

import copy
import json
import random
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian
from data.make_golden import grow
from forging import header_of, preamble_fields, with_header, with_preamble
from hypothesis import given
from hypothesis import strategies as st

from binq import build
from binq.errors import BinqError, IndexFileError
from binq.index.describe import describe
from binq.index.index import Index
from binq.storage import format as fmt
from binq.storage import preamble as pre

QUERIES = gaussian(3, 24, seed=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small index with every kind of section."""
    place = tmp_path_factory.mktemp("format")
    corpus = place / "corpus.jsonl"
    rows = gaussian(20, 24).tolist()
    corpus.write_text(
        "".join(json.dumps({"id": f"é{n}", "embedding": row}) + "\n" for n, row in enumerate(rows))
    )
    build(corpus, place / "whole.binq", method="mean", rescore="int8")
    return (place / "whole.binq").read_bytes()


@pytest.fixture(scope="module")
def grown(whole: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same with what 1.1 added: integers for ids, and rows that are dead."""
    place = tmp_path_factory.mktemp("grown")
    (place / "whole.binq").write_bytes(whole)
    grow(place / "whole.binq", place / "grown.binq", np.arange(20) - 5, dead=[3, 19])
    return (place / "grown.binq").read_bytes()


def opened(data: bytes, place: Path) -> Index:
    path = place / "mutant.binq"
    path.write_bytes(data)
    return Index(path)


def is_clean(data: bytes, place: Path) -> bool:
    """Open, describe, verify and search; return whether it was refused, which must be clean."""
    path = place / "mutant.binq"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that a lie makes infinite
        try:
            json.dumps(describe(path, verify=True), allow_nan=False).encode()
            index = Index(path)
            hits = index.search(QUERIES, 5)
            assert all(0 <= row < 20 for line in hits.rows.tolist() for row in line)
            _ = hits.ids
            index.file.alive()
        except BinqError as error:
            assert error.exit_code in (3, 4), repr(error)  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017
            return True
    return False


numbers = st.integers(0, 1 << 62)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    st.binary(min_size=16, max_size=16),
    st.integers(160, pre.LENGTH_LIMIT),
    st.data(),
)
def test_preamble_round_trip(uuid: bytes, length: int, data: st.DataObject) -> None:
    header_length = data.draw(st.integers(0, min(pre.HEADER_LIMIT, length - 128)))
    offset = data.draw(st.integers(128, length - header_length))
    checksum = data.draw(st.integers(0, (1 << 64) - 1))
    features = st.integers(0, (1 << 64) - 1)
    minor, bits = data.draw(st.integers(0, 65535)), (data.draw(features), data.draw(features))
    preamble = pre.Preamble(minor, 128, *bits, uuid, length, offset, header_length, checksum)
    preamble.check()
    encoded = preamble.encode()
    assert len(encoded) == 128
    assert pre.Preamble.decode(encoded) == preamble


@given(st.data())
def test_header_round_trip(data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 1 << 16))
    header = fmt.Header(
        rows=data.draw(numbers),
        dim=data.draw(st.integers(1, 1 << 16)),
        bits=bits,
        words=-(-bits // 64),
        metric=data.draw(st.sampled_from(["cosine", "ip", "l2"])),
        binarizer=data.draw(st.none() | st.dictionaries(texts, st.integers() | texts)),
        created=data.draw(texts),
        binq=data.draw(texts),
        rescore=data.draw(st.sampled_from(["none", "int8", "float16", "float32"])),
        ids=data.draw(st.sampled_from(["strings", "rows"])),
        packed=data.draw(st.sampled_from([None, "ubinary", "binary", "lsb"])),
        sources=data.draw(
            st.lists(st.fixed_dictionaries({"rows": numbers, "fingerprint": texts}), max_size=3)
        ),
        model=data.draw(st.dictionaries(texts, texts, max_size=3)),
    )
    position, sections = 128, []
    for name in data.draw(st.lists(texts, unique=True, max_size=4)):
        dtype = data.draw(st.sampled_from(["uint8", "int64", "float16"]))
        shape = tuple(data.draw(st.lists(st.integers(0, 900), min_size=1, max_size=4)))
        position = fmt.align(position, 4096 if name == "codes" else 64)
        length = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        sections.append(fmt.Section(name, dtype, shape, position, length))
        position += length
    chunks = sum(-(-section.length // (1 << 20)) for section in sections)
    table = fmt.Section("checksums", "uint64", (chunks,), fmt.align(position), 8 * chunks)
    encoded = fmt.encode_header(header, sections, table, "0123456789abcdef")
    end = table.offset + table.length
    assert fmt.decode_header(encoded, end) == (header, sections, table, "0123456789abcdef")
    with pytest.raises(IndexFileError, match="inside the file"):
        fmt.decode_header(encoded, end - 1)


def test_layout_is_as_specified(whole: bytes) -> None:
    """Read by hand, from the offsets that the specification gives."""
    assert whole[:8] == b"\x89BINQ\r\n\x1a"
    assert struct.unpack_from("<HHI", whole, 8) == (1, 0, 128)
    found = preamble_fields(whole)
    assert found["file_length"] == len(whole)
    assert whole[-8:] == b"BINQ-END"
    assert whole[-32:-16] == whole[32:48]
    header = header_of(whole)
    codes = header["sections"][0]
    assert codes["name"] == "codes"
    assert (codes["dtype"], codes["shape"], codes["offset"]) == ("uint64", [20, 1], 4096)
    stored = np.frombuffer(whole, "<u8", 20, 4096)
    assert not (stored >> np.uint64(24)).any()
    assert all(section["offset"] % 64 == 0 for section in header["sections"])


def test_newer_major_is_refused_naming_both_versions(whole: bytes, tmp_path: Path) -> None:
    for major in (2, 3, 65535):
        newer = with_preamble(whole, 8, struct.pack("<HH", major, 7))
        message = rf"newer binq \(format {major}\.7\): .* at most format 1\.3 .*; upgrade binq"
        with pytest.raises(IndexFileError, match=message):
            opened(newer, tmp_path)
        # A newer major may check itself in another way: it is refused for its version all the same.
        with pytest.raises(IndexFileError, match="newer binq"):
            opened(whole[:8] + struct.pack("<H", major) + whole[10:], tmp_path)


def test_newer_minor_and_optional_features_are_read(whole: bytes, tmp_path: Path) -> None:
    newer = with_preamble(whole, 10, struct.pack("<H", 9))
    index = opened(with_preamble(newer, 24, struct.pack("<Q", (1 << 64) - 1)), tmp_path)
    assert len(index.search(QUERIES, 5).rows) == 3
    assert index.file.version == describe(index.file.path)["format"] == "1.9"


def from_the_future(whole: bytes, names: Any, bits: int, **members: Any) -> bytes:
    """Return the file as a binq of format 1.7 might write it."""
    header = header_of(whole) | {"needs": names} | members
    features = struct.pack("<HIQ", 7, 128, bits)
    return with_preamble(with_header(whole, header), 10, features)


def test_what_a_newer_binq_made_is_never_called_corrupt(whole: bytes, tmp_path: Path) -> None:
    """Whatever else of the header is new: its needs are read before anything is checked."""
    section = header_of(whole)["sections"][0]
    strange: list[dict[str, Any]] = [
        {},
        {"kind": "disk", "scoring": "ternary", "metric": "hyperbolic", "ids": "uuid"},
        {"binarizer": {"method": "matryoshka"}, "rescore": "pq", "bit_order": "msb"},
        {"sections": [section | {"dtype": "bfloat16", "shape": [20]}]},
        {"sections": [section | {"shape": {"rows": 20}, "offset": -1, "length": "long"}]},
        {"sections": "elsewhere", "checksums": None, "rows": None, "words": 0},
    ]
    for members in strange:
        data = from_the_future(whole, ["typed_ids", "row_map", "dtype:bfloat16"], 261, **members)
        with pytest.raises(IndexFileError) as caught:
            opened(data, tmp_path)
        line = str(caught.value)
        assert line.startswith("made by a newer binq (format 1.7, needs row_map, dtype:bfloat16): ")
        assert line.endswith("; upgrade binq")
        assert str(tmp_path / "mutant.binq") in line
        assert caught.value.exit_code == 4
    # The same where preamble and footer are not as they are today, or where the end is missing.
    data = from_the_future(whole, ["row_map"], 4)
    for other in (
        with_preamble(data, 12, struct.pack("<I", 256)),
        with_preamble(data, 48, struct.pack("<Q", 1 << 63)),
        data[:-32] + bytes(32),
        data[:-32],
        data + b"more",
    ):
        with pytest.raises(IndexFileError, match=r"newer binq \(format 1\.7, needs row_map\)"):
            opened(other, tmp_path)


def test_needs_that_cannot_be_read_are_named_by_their_bits(whole: bytes, tmp_path: Path) -> None:
    start = preamble_fields(whole)["header_offset"]
    for data, message in (
        (from_the_future(whole, ["row_map"], 4)[:start], r"needs bit 2 \(row_map\)"),
        (from_the_future(whole, None, 1 << 40), "needs bit 40"),
        (from_the_future(whole, ["\u202eno name", 7], 1 << 11), r"needs bit 11 \(kind\)"),
        (from_the_future(whole, "hnsw", 129 << 2), r"needs bit 2 \(row_map\), bit 9 \(scan\)"),
        (from_the_future(whole, ["kind:disk"], 3 << 11), r"needs kind:disk, bit 12"),
        (from_the_future(whole, ["zstd"], 1 << 63), r"needs zstd\)"),
        (with_preamble(whole, 64, struct.pack("<Q", 1 << 63)), "corrupt"),
    ):
        with pytest.raises(IndexFileError, match=message):
            opened(data, tmp_path)


def test_needs_and_what_is_there_must_agree(whole: bytes, tmp_path: Path) -> None:
    for names, bits in ((["tombstones"], 2), (["typed_ids"], 1), ([], 2), (["tombstones"], 0)):
        with pytest.raises(IndexFileError, match="corrupt"):
            opened(from_the_future(whole, names, bits), tmp_path)
    with pytest.raises(IndexFileError, match="corrupt"):
        opened(from_the_future(whole, [], 0, ids="int64"), tmp_path)


def test_unknown_member_and_section_are_ignored(whole: bytes, tmp_path: Path) -> None:
    header = header_of(whole)
    header["from_the_future"] = {"a": [1]}
    assert len(opened(with_header(whole, header), tmp_path)) == 20


def test_header_that_is_no_header(whole: bytes, tmp_path: Path) -> None:
    deep, wide = b"[" * 100_000, b"1" * 5000
    nothing = (b"", b"{", b"[]", b"null", b"\xff\xfe", deep, wide)
    for raw in (*nothing, b'{"rows": NaN}', b'{"rows": 1e999}'):
        with pytest.raises(IndexFileError, match="corrupt"):
            opened(with_header(whole, raw), tmp_path)


def test_header_that_is_too_long(whole: bytes, tmp_path: Path) -> None:
    header = json.dumps(header_of(whole)).encode()
    opened(with_header(whole, header + b" " * ((1 << 20) - len(header))), tmp_path)
    with pytest.raises(IndexFileError, match="header length"):
        opened(with_header(whole, header + b" " * ((1 << 20) - len(header) + 1)), tmp_path)


INTEGERS = [0, 1, 2**31 - 1, 2**31 + 1, 2**32, 2**53, 2**63 - 1, 2**63 + 1, 2**64 - 1, -1, 2**200]
OTHERS = [None, True, 1.5, float("nan"), "", "x", "\ud800", "../../x", [], {}, [[]], [0], {"a": 1}]


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a document."""
    inside = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


@pytest.mark.slow
@pytest.mark.torture
def test_mutated_headers_are_clean(
    whole: bytes, grown: bytes, tmp_path: Path, times: Callable[[int], int]
) -> None:
    """Thousands of lies, checksums recomputed; a quarter of them two lies at once."""
    draw = random.Random(0)
    for data in (whole, grown):
        header = header_of(data)
        spots = places(header)
        shapes = [spot for spot in spots if {"shape", "offset", "length"} & set(spot)]
        refused = 0
        for turn in range(times(10_000)):
            lie = header
            for _ in range(2 if turn % 4 == 0 else 1):
                spot = draw.choice(shapes if draw.random() < 0.4 else spots)
                value = draw.choice(INTEGERS if draw.random() < 0.6 else OTHERS)
                # The first lie may have taken away the place of the second.
                with suppress(TypeError, KeyError, IndexError):
                    lie = replaced(lie, spot, value)
            refused += is_clean(with_header(data, lie), tmp_path)
        assert refused > turn * 0.4  # most lies are noticed


@pytest.mark.slow
@pytest.mark.torture
def test_every_integer_of_the_header(whole: bytes, grown: bytes, tmp_path: Path) -> None:
    for data in (whole, grown):
        header = header_of(data)
        for spot in places(header):
            inner = header
            for key in spot:
                inner = inner[key]
            if type(inner) is int:
                for value in INTEGERS:
                    is_clean(with_header(data, replaced(header, spot, value)), tmp_path)


def test_swapped_and_overlapping_sections(whole: bytes, tmp_path: Path) -> None:
    header = header_of(whole)
    count = len(header["sections"])
    for a in range(count):
        for b in range(count):
            lie = copy.deepcopy(header)
            lie["sections"][a]["offset"] = header["sections"][b]["offset"]
            if a != b:
                assert is_clean(with_header(whole, lie), tmp_path)
            lie = copy.deepcopy(header)
            lie["sections"][a]["name"] = header["sections"][b]["name"]
            if a != b:
                assert is_clean(with_header(whole, lie), tmp_path)
        lie = copy.deepcopy(header)
        del lie["sections"][a]
        assert is_clean(with_header(whole, lie), tmp_path)


def test_no_rows_and_huge_rows(tmp_path: Path) -> None:
    """An axis of zero makes every section empty, however long its rows are said to be."""
    path = tmp_path / "none.binq"
    build(np.empty((0, 24), np.float32), path, rescore="float32")
    data = path.read_bytes()
    header = header_of(data)
    for huge in (2**31, 2**50, 2**61, 2**62):
        for names in ({"bits", "words"}, {"dim"}, {"dim", "bits", "words"}):
            lie = copy.deepcopy(header) | dict.fromkeys(names, huge)
            if "bits" in names:
                lie["words"] = -(-huge // 64)
                lie["sections"][0]["shape"] = [0, lie["words"]]
            if "dim" in names:
                lie["binarizer"]["dim"] = huge
                lie["sections"][-1]["shape"] = [0, huge]
            if names == {"dim"}:
                lie["binarizer"]["truncate_dim"] = 24
            is_clean(with_header(data, lie), tmp_path)


def test_mutated_preambles(whole: bytes, tmp_path: Path) -> None:
    for at in (48, 56, 64):
        for value in INTEGERS:
            if 0 <= value < 2**64:
                lie = with_preamble(whole, at, struct.pack("<Q", value))
                assert is_clean(lie, tmp_path), (at, value)
