"""The first 128 and the last 32 bytes of an index file; docs/format.md specifies them."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import xxhash

from binq.errors import IndexFileError
from binq.storage import features

MAGIC: Final = b"\x89BINQ\r\n\x1a"
FOOTER_MAGIC: Final = b"BINQ-END"
MAJOR: Final = 1
MINOR: Final = 3
PREAMBLE_SIZE: Final = 128
FOOTER_SIZE: Final = 32
HEADER_LIMIT: Final = 1 << 20
LENGTH_LIMIT: Final = 1 << 62

PREAMBLE_LAYOUT: Final = "< 8s H H I Q Q 16s Q Q Q Q 40s Q"
FOOTER_LAYOUT: Final = "< 16s Q 8s"
_PREAMBLE = struct.Struct(PREAMBLE_LAYOUT)
_CHECKED: Final = PREAMBLE_SIZE - 8


def corrupt(what: str, expected: object = "", got: object = "") -> IndexFileError:
    """Return the error of an index that is damaged; the reader adds the path."""
    return IndexFileError(
        "the index is corrupt",
        what,
        str(expected),
        str(got),
        "restore it from a copy or build it again",
    )


def made_by_newer(version: str, needs: list[str]) -> IndexFileError:
    """Return the error of an index that only a newer binq can read; the reader adds the path."""
    what = f", needs {', '.join(needs)}" if needs else ""
    return IndexFileError(
        f"made by a newer binq (format {version}{what})",
        expected=f"at most format {MAJOR}.{MINOR} ({', '.join(features.SINCE)})",
        next_step="upgrade binq",
    )


class Preamble(NamedTuple):
    """The first 128 bytes behind magic and major, in their order; sizes in bytes."""

    minor: int
    size: int
    required: int
    optional: int
    uuid: bytes
    file_length: int
    header_offset: int
    header_length: int
    header_checksum: int

    @property
    def version(self) -> str:
        """The version of the file's format."""
        return f"{MAJOR}.{self.minor}"

    def encode(self) -> bytes:
        """Return the 128 bytes."""
        body = _PREAMBLE.pack(MAGIC, MAJOR, *self, b"", 0)[:_CHECKED]
        return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))

    @classmethod
    def decode(cls, data: bytes) -> Preamble:
        """Read the first bytes of a file, as far as every format 1.x has them alike.

        What the features are is to be looked at next, and only then :meth:`check` to be called.

        Raises
        ------
        IndexFileError
            If they are not those of an index, damaged, or of a newer major version.
        """
        if not data.startswith(MAGIC):
            raise IndexFileError(
                "not a binq index",
                expected="a file that begins with the binq signature",
                got="an empty file" if not data else "other content",
                next_step="make one with: binq build VECTORS -o INDEX.binq",
            )
        if len(data) < PREAMBLE_SIZE:
            raise corrupt("preamble", f"{PREAMBLE_SIZE} bytes", f"{len(data)}")
        _, major, *fields, _, checksum = _PREAMBLE.unpack(data)
        preamble = cls(*fields)
        # The version is looked at first: only its own version may say what a checksum covers.
        if major > MAJOR:
            raise made_by_newer(f"{major}.{preamble.minor}", [])
        if checksum != xxhash.xxh3_64_intdigest(data[:_CHECKED]):
            raise corrupt("preamble", "a matching checksum", "another")
        if major < MAJOR:
            raise corrupt("preamble", f"format {MAJOR}", major)
        return preamble

    def check(self) -> None:
        """Check sizes and offsets; the length of the file itself is for the reader to compare.

        Raises
        ------
        IndexFileError
        """
        if self.size != PREAMBLE_SIZE:
            raise corrupt("preamble", f"size {PREAMBLE_SIZE}", self.size)
        if self.header_length > HEADER_LIMIT:
            raise corrupt("header length", f"at most {HEADER_LIMIT}", self.header_length)
        last = self.file_length - self.header_length
        if (
            max(self.file_length, self.header_offset) > LENGTH_LIMIT
            or not PREAMBLE_SIZE <= self.header_offset <= last
        ):
            raise corrupt("header offset", "a place inside the file", self.header_offset)


def encode_footer(uuid: bytes, file_length: int) -> bytes:
    """Return the last 32 bytes of a file."""
    return struct.pack(FOOTER_LAYOUT, uuid, file_length, FOOTER_MAGIC)
