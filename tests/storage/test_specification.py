"""docs/format.md is the specification: its tables are the code's, and suffice to write a file."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import xxhash
from corpora import gaussian

from binq import build
from binq.binarizers.affine import Affine
from binq.index.index import Index
from binq.storage import features
from binq.storage import format as fmt
from binq.storage import preamble as pre
from binq.storage.reader import IndexFile
from binq.types import Kind, Layout, Method, Metric, Scoring, StoredVectors

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")


def table(heading: str, first: str) -> list[dict[str, str]]:
    """Return the rows of the table under a heading whose first column is called ``first``."""
    part = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    (section,) = [text for text in part if text.startswith(heading + "\n")]
    lines = section[section.index(f"| {first} |") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def named(rows: list[dict[str, str]], column: str, value: str) -> dict[str, str]:
    return {row[column].strip("`"): row[value] for row in rows}


def pieces(layout: str) -> list[tuple[int, int]]:
    """Return (offset, size) of every field of a struct."""
    order, *fields = layout.split()
    sizes = [struct.calcsize(order + field) for field in fields]
    return [(sum(sizes[:number]), size) for number, size in enumerate(sizes)]


def placed(heading: str) -> dict[str, tuple[int, int]]:
    """Return the fields that a table lays out, as (offset, size)."""
    return {
        row["field"]: (int(row["offset"]), int(row["size"])) for row in table(heading, "offset")
    }


def magic_of(heading: str) -> str:
    return named(table(heading, "offset"), "field", "holds")["magic"].strip("`")


def backticked(text: str) -> list[str]:
    return re.findall(r"`([^`]*)`", text)


def test_preamble_and_footer() -> None:
    for heading, layout, size in (
        ("Preamble", pre.PREAMBLE_LAYOUT, pre.PREAMBLE_SIZE),
        ("Footer", pre.FOOTER_LAYOUT, pre.FOOTER_SIZE),
    ):
        fields = list(placed(heading).values())
        assert fields == pieces(layout)
        assert sum(length for _, length in fields) == size == struct.calcsize(layout)
    fields = placed("Preamble")
    filled = pre.Preamble(8, 9, 6, 7, b"u" * 16, 2, 3, 4, 5).encode()
    for name, value in (
        ("major", 1),
        ("minor", 8),
        ("size", 9),
        ("required", 6),
        ("optional", 7),
        ("file_length", 2),
        ("header_offset", 3),
        ("header_length", 4),
        ("header_checksum", 5),
        ("reserved", 0),
        ("checksum", xxhash.xxh3_64_intdigest(filled[:120])),
    ):
        start, size = fields[name]
        assert int.from_bytes(filled[start : start + size], "little") == value, name
    for heading, magic in (("Preamble", pre.MAGIC), ("Footer", pre.FOOTER_MAGIC)):
        assert bytes.fromhex(magic_of(heading)) == magic
    assert f"format 1.0 to 1.{pre.MINOR}" in TEXT


PARTS = ["preamble", "sections", "checksums", "header", "footer"]


def test_sizes_and_alignments() -> None:
    parts = table("Parts", "part")
    assert [row["part"] for row in parts] == [
        "preamble",
        "sections",
        "checksums",
        "header",
        "footer",
    ]
    text = json.dumps(parts)
    for number in (fmt.ALIGNMENT, fmt.CODES_ALIGNMENT, pre.HEADER_LIMIT, pre.FOOTER_SIZE):
        assert f"{number:,}" in text
    assert f"chunks of {fmt.CHUNK:,} bytes" in TEXT


def test_features() -> None:
    rows = table("Features", "bit")
    bits = {row["name"]: int(row["bit"]) for row in rows}
    assert {name: bit for name, bit in bits.items() if ":" not in name} == features.BITS
    assert all(features.BITS[name.partition(":")[0]] == bit for name, bit in bits.items())
    since = {row["name"]: row["since"] for row in rows if row["since"] != "reserved"}
    assert since == {name: f"1.{minor}" for name, minor in features.SINCE.items()}
    assert max(features.SINCE.values()) == pre.MINOR


def test_a_choice_that_1_0_does_not_know_has_a_feature() -> None:
    """Who adds a method or a dtype finds out here that old readers must be told."""
    choices = {
        "dtype": tuple(fmt.DTYPES),
        "scoring": get_args(Scoring),
        "method": get_args(Method),
        "kind": get_args(Kind),
        "metric": get_args(Metric),
        "rescore": get_args(StoredVectors),
        "packed": get_args(Layout),
    }
    known = {row["choice"]: backticked(row["values"]) for row in table("Features", "choice")}
    assert set(known) == set(choices)
    for name, values in choices.items():
        new = [value for value in values if value not in known[name]]
        told = {f"{name}:{value}": value for value in new}
        missing = [value for value in told.values() if value not in features.SINCE]
        missing = [value for value in missing if f"{name}:{value}" not in features.SINCE]
        assert not missing, "say in binq/storage/features.py that readers must know it"
        assert [value for value in values if value not in new] == known[name]


def test_header_members() -> None:
    members = set(named(table("Header", "member"), "member", "means"))
    header = fmt.Header(1, 1, 1, 1, "ip", None, "", "")
    bare = fmt.Section("checksums", "uint64", (0,), 128, 0)
    whole = replace(header, ids="int64", calibration={}, shard={})
    document = json.loads(fmt.encode_header(whole, [], bare, ""))
    assert set(document) == members
    left_out = members - set(json.loads(fmt.encode_header(header, [], bare, "")))
    assert left_out == {"needs", "calibration", "shard"}


def sections_of(path: Path) -> dict[str, tuple[str, int]]:
    sections = IndexFile(path).sections.values()
    return {section.name: (section.dtype, len(section.shape)) for section in sections}


def test_sections(tmp_path: Path) -> None:
    """Those of every method, metric and stored vectors are specified, and no others are."""
    rows = {row["name"].strip("`"): row for row in table("Sections", "name")}
    found: dict[str, set[str]] = {}
    every = product(get_args(Metric), get_args(Method), ("none",))
    stored = product(("ip",), ("mean",), get_args(StoredVectors))
    for metric, method, rescore in [*every, *stored]:
        path = tmp_path / f"{metric}-{method}-{rescore}.binq"
        if method != "ste" or metric == "ip":  # slow to fit
            build(
                gaussian(40, 20),
                path,
                method=method,
                metric=metric,
                rescore=rescore,
                scoring="asymmetric",
            )
    build(gaussian(40, 20), tmp_path / "lists.binq", kind="ivf")
    golden = Path(__file__).parents[1] / "data"
    for path in (*tmp_path.glob("*.binq"), *golden.glob("*.binq")):
        for name, (dtype, axes) in sections_of(path).items():
            found.setdefault(name, set()).add(dtype)
            assert axes == rows[name]["shape"].rstrip(",)").count(",") + 1
    for name, row in rows.items():
        assert found.pop(name) == set(backticked(row["dtype"])), name
    assert not found
    arrays = {name.partition(".")[2] for name in rows if name.startswith("binarizer.")}
    assert arrays == set(Affine.__dataclass_fields__) - {"bits", "dim"}


def put(into: bytearray, heading: str, **values: int | bytes) -> None:
    """Fill fields where the table of a heading lays them."""
    for name, value in values.items():
        start, size = placed(heading)[name]
        into[start : start + size] = (
            value if isinstance(value, bytes) else value.to_bytes(size, "little")
        )


def by_hand(arrays: dict[str, np.ndarray], needs: Sequence[str], **members: Any) -> bytes:
    """Write an index from the document alone."""
    rows = table("Header", "member")
    header = {
        row["member"].strip("`"): json.loads(row["example"].strip("`"))
        for row in rows
        if row["example"].startswith("`")
    } | members
    file = bytearray(128)
    sections, checksums = [], []
    for name, array in arrays.items():
        file += bytes(-len(file) % (4096 if name == "codes" else 64))
        data = array.tobytes()
        entry = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
        sections.append(entry | {"offset": len(file), "length": len(data)})
        checksums += [
            xxhash.xxh3_64_intdigest(data[at : at + 1_048_576])
            for at in range(0, len(data), 1_048_576)
        ]
        file += data
    file += bytes(-len(file) % 64)
    stored = b"".join(checksum.to_bytes(8, "little") for checksum in checksums)
    place = {"offset": len(file), "length": len(stored), "xxh3": xxhash.xxh3_64_hexdigest(stored)}
    file += stored + bytes(-len(stored) % 64)
    header |= {"sections": sections, "checksums": place} | ({"needs": needs} if needs else {})
    encoded = json.dumps(header).encode()
    start = len(file)
    file += encoded + bytes(-len(encoded) % 64)
    length = len(file) + 32
    bits = named(table("Features", "bit"), "name", "bit")
    magic = {
        heading: bytes.fromhex(
            named(table(heading, "offset"), "field", "holds")["magic"].strip("`")
        )
        for heading in ("Preamble", "Footer")
    }
    preamble, footer = bytearray(128), bytearray(32)
    same: dict[str, Any] = {"uuid": b"0123456789abcdef", "file_length": length}
    put(footer, "Footer", magic=magic["Footer"], **same)
    put(
        preamble,
        "Preamble",
        magic=magic["Preamble"],
        major=1,
        minor=1 if needs else 0,
        size=128,
        required=sum(1 << int(bits[name]) for name in needs),
        header_offset=start,
        header_length=len(encoded),
        header_checksum=xxhash.xxh3_64_intdigest(encoded),
        **same,
    )
    put(preamble, "Preamble", checksum=xxhash.xxh3_64_intdigest(bytes(preamble[:120])))
    return bytes(preamble + file[128:] + footer)


def test_an_index_made_by_hand_opens(tmp_path: Path) -> None:
    path = tmp_path / "hand.binq"
    codes = np.array([[0b1], [0b11], [0b1111111111]], "<u8")
    names = {
        "ids.offsets": np.array([0, 1, 1, 4], "<u8"),
        "ids.bytes": np.frombuffer("añc".encode(), np.uint8),
    }
    path.write_bytes(by_hand({"codes": codes, **names}, []))
    index = Index(path)
    assert index.file.version == "1.0"
    assert index.file.verify() == []
    hits = index.search(np.array([[0b10, 0]], np.uint8), 3, packed="lsb", scoring="hamming")
    assert list(zip(*hits.rows.tolist(), *hits.distances.tolist(), strict=True)) == [  # type: ignore[union-attr]
        (1, 1),
        (0, 2),
        (2, 9),
    ]
    assert hits.ids == [["", "a", "ñc"]]

    numbers = {"ids.uint64": np.array([7, (1 << 64) - 1, 0], "<u8")}
    dead = {"tombstones": np.array([0b100], "<u8")}
    needs = ["typed_ids", "tombstones"]
    path.write_bytes(by_hand({"codes": codes, **numbers, **dead}, needs, ids="uint64"))
    file = IndexFile(path)
    assert file.version == "1.1"
    assert file.verify() == []
    assert list(file.ids() or []) == [7, (1 << 64) - 1, 0]
    assert (file.alive() == np.array([0b011], np.uint64)).all()  # type: ignore[union-attr]
