"""Index files taken apart and put together again with checksums that fit."""

from __future__ import annotations

import json
import struct
from typing import Any

import xxhash

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
