"""Index files taken apart and put together again with checksums that fit."""

from __future__ import annotations

import json
import struct
from typing import Any

import xxhash

from binq.storage.format import CHUNK
from binq.storage.preamble import FOOTER_SIZE


def preamble_fields(data: bytes) -> dict[str, int]:
    """Return the numbers of the preamble, read by the offsets of the specification."""
    names = ("file_length", "header_offset", "header_length", "header_checksum")
    return dict(zip(names, struct.unpack_from("<QQQQ", data, 48), strict=True))


def header_of(data: bytes) -> dict[str, Any]:
    """Return the header's document."""
    found = preamble_fields(data)
    start = found["header_offset"]
    document: dict[str, Any] = json.loads(data[start : start + found["header_length"]])
    return document


def with_preamble(data: bytes, at: int, field: bytes) -> bytes:
    """Return the file with some bytes of its preamble replaced, and the checksum made to fit."""
    body = bytearray(data[:120])
    body[at : at + len(field)] = field
    return bytes(body) + struct.pack("<Q", xxhash.xxh3_64_intdigest(body)) + data[128:]


def with_header(data: bytes, header: Any) -> bytes:
    """Return the file with another header (a document, or raw bytes), all checksums fitting."""
    start = preamble_fields(data)["header_offset"]
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = data[128:start] + encoded
    body += bytes(-len(body) % 64)
    length = 128 + len(body) + FOOTER_SIZE
    fields = struct.pack("<QQQQ", length, start, len(encoded), xxhash.xxh3_64_intdigest(encoded))
    footer = data[32:48] + struct.pack("<Q", length) + b"BINQ-END"
    return with_preamble(data[:128], 48, fields) + body + footer


def with_checksums(data: bytes) -> bytes:
    """Return the file with the checksums of its sections made to fit what they hold."""
    header = header_of(data)
    sums = b""
    for section in header["sections"]:
        end = section["offset"] + section["length"]
        for at in range(section["offset"], end, CHUNK):
            sums += struct.pack("<Q", xxhash.xxh3_64_intdigest(data[at : min(at + CHUNK, end)]))
    table = header["checksums"]
    start = table["offset"]
    data = data[:start] + sums + data[start + len(sums) :]
    return with_header(
        data, header | {"checksums": table | {"xxh3": xxhash.xxh3_64_hexdigest(sums)}}
    )
