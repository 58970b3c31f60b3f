"""The small object that points to an index: what is not one, or damaged, is said to be so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import xxhash

from binq.errors import IndexFileError
from binq.storage.pointer import Entry, Pointer

FORMAT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
ENTRY = Entry(bytes(range(16)), 4096, 0xFEEDFACE)


def test_what_is_written_is_read() -> None:
    data = Pointer((ENTRY,)).encode()
    assert Pointer.decode(data, len(data)) == Pointer((ENTRY,))
    assert ENTRY.suffix == ".files/000102030405060708090a0b0c0d0e0f.binq"


def test_the_specification_is_enough_to_read_and_write_one() -> None:
    block = re.search(r"```json\n(\{\s+\"schema\": \"binq\.pointer/1\".*?)```", FORMAT, re.DOTALL)
    assert block is not None
    shown = block[1]
    (entry,) = Pointer.decode(shown.encode(), len(shown)).files
    assert Pointer((entry,)).encode().decode() == shown
    members = json.loads(shown)
    said = members.pop("checksum")
    plain = json.dumps(members, sort_keys=True, separators=(",", ":"))
    assert xxhash.xxh3_64_hexdigest(plain.encode()) == said


def test_every_flipped_bit_is_noticed() -> None:
    data = Pointer((ENTRY,)).encode()
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        try:
            read = Pointer.decode(bytes(changed), len(changed))
        except IndexFileError:
            continue
        assert read == Pointer((ENTRY,)), bytes(changed)  # white space


def test_what_cannot_be_a_pointer() -> None:
    good = json.loads(Pointer((ENTRY,)).encode())

    def signed(**changes: object) -> bytes:
        members = {name: value for name, value in (good | changes).items() if name != "checksum"}
        plain = json.dumps(members, sort_keys=True, separators=(",", ":"))
        return json.dumps(
            {**members, "checksum": xxhash.xxh3_64_hexdigest(plain.encode())}
        ).encode()

    assert Pointer.decode(signed(note="new"), 1).files == (ENTRY,)
    wrong = {
        b"": "not a binq index: expected an index, or binq.pointer/1, got an empty object",
        b"[1]": "not a binq index",
        b"{": "not a binq index",
        b"[" * 100_000: "not a binq index",
        b'{"schema": 1}': "not a binq index",
        signed(schema="binq.pointer/2"): "made by a newer binq .binq.pointer/2.*upgrade binq",
        signed(schema="binq.pointer/1\n"): "not a binq index",
        json.dumps(good | {"length": 5000}).encode(): "pointer: expected a matching checksum",
        signed(uuid="../../x"): "corrupt: pointer uuid",
        signed(uuid=32 * "A"): "corrupt: pointer uuid",
        signed(header=7): "corrupt: pointer header",
        b"\x89BINQ\r\n\x1a": "corrupt: preamble",
    }
    for length in (-1, 0, 127, 2**62 + 1, 2**400, 1.0, True, None, "4096"):
        wrong[signed(length=length)] = "corrupt: pointer length"
    for data, message in wrong.items():
        with pytest.raises(IndexFileError, match=message):
            Pointer.decode(data, len(data))
