"""The manifest of a directory of shards: which files are one index; docs/format.md specifies it.

A shard is an index file of its own, named by its UUID. What the shards are together stands in the
manifest, which is replaced by a rename: whoever reads it sees one index or the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.errors import IndexFileError, InputError
from binq.storage.format import Header, member, refuse_constant, whole
from binq.storage.preamble import LENGTH_LIMIT, corrupt

NAME: Final = "manifest.json"
SCHEMA: Final = "binq.shards/1"
MOST_SHARDS: Final = 65_536
LIMIT: Final = 24 << 20
"""Bytes of a manifest: some 200 for each shard, and the header of the whole."""

_SCHEMA_NAME = re.compile(r"binq\.shards/([0-9]{1,9})")
SHARD_NAME = re.compile(r"([0-9a-f]{32})\.binq")


def name_of(uuid: bytes) -> str:
    """Return the name of the file of a shard."""
    return f"{uuid.hex()}.binq"


def uuid_in(name: str) -> bytes | None:
    """Return the UUID that the name of a shard's file tells; None for any other name."""
    found = SHARD_NAME.fullmatch(name)
    return None if found is None else bytes.fromhex(found[1])


def is_shared(section: str) -> bool:
    """Return whether all shards of an index hold the same in a section."""
    return section.startswith("binarizer.") or section in (
        "rescore.low",
        "rescore.step",
        "ivf.centroids",
    )


def fingerprint(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the xxh3-128, in hexadecimal, of sections by name: what all shards have in common."""
    digest = xxhash.xxh3_128()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(stored.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Shard:
    """A shard, as the manifest knows it.

    Attributes
    ----------
    uuid : bytes
    rows, length : int
        ``length`` of the file, in bytes.
    header : int
        The xxh3-64 of its header.
    """

    uuid: bytes
    rows: int
    length: int
    header: int


@dataclass(frozen=True)
class Manifest:
    """What a directory of shards says of itself.

    Attributes
    ----------
    header : Header
        Of all rows together: what one file of them would say.
    shared : str
        The :func:`fingerprint` that every shard bears.
    shards : tuple of Shard
        In the order of their rows, at least one.
    """

    header: Header
    shared: str
    shards: tuple[Shard, ...]

    def encode(self) -> bytes:
        """Return the bytes of the file.

        Raises
        ------
        InputError
            If they would be too many.
        """
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "index": self.header.to_json(),
            "shared": self.shared,
            "shards": [
                {
                    "uuid": shard.uuid.hex(),
                    "rows": shard.rows,
                    "length": shard.length,
                    "header": f"{shard.header:016x}",
                }
                for shard in self.shards
            ],
        }
        document["checksum"] = checksum_of(document)
        encoded = json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1).encode()
        if len(encoded) > LIMIT or len(self.shards) > MOST_SHARDS:
            raise InputError(
                "the manifest would be too large",
                expected=f"at most {MOST_SHARDS:,} shards and {LIMIT:,} bytes",
                got=f"{len(self.shards):,} and {len(encoded):,}",
                next_step="use a larger `shard_rows`",
            )
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what :meth:`encode` returned.

        Raises
        ------
        IndexFileError
            If it is something else, damaged, or of a newer version; the reader adds the path.
        """
        try:
            document = json.loads(data, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as error:
            raise corrupt("manifest", "JSON", "something else") from error
        schema = document.get("schema") if isinstance(document, dict) else None
        known = _SCHEMA_NAME.fullmatch(schema) if isinstance(schema, str) else None
        if known is None:
            raise IndexFileError(
                "not a manifest of binq",
                expected=SCHEMA,
                got=repr(schema)[:40],
                next_step="build one into another directory, with `shard_rows`",
            )
        require_sound(document, SCHEMA, "manifest")
        header = Header.from_json(member(document, "index", dict, "manifest"))
        shared = member(document, "shared", str, "manifest")
        entries = member(document, "shards", list, "manifest")
        if not 1 <= len(entries) <= MOST_SHARDS:
            raise corrupt("manifest shards", f"1 to {MOST_SHARDS}", len(entries))
        shards = tuple(_shard(entry, f"manifest shard {i}") for i, entry in enumerate(entries))
        if len({shard.uuid for shard in shards}) != len(shards):
            raise corrupt("manifest shards", "every shard once", "a shard twice")
        total = sum(shard.rows for shard in shards)
        if total > LENGTH_LIMIT or total != header.rows:
            raise corrupt("manifest rows", header.rows, total)
        return cls(header, shared, shards)


def _shard(entry: object, where: str) -> Shard:
    uuid = member(entry, "uuid", str, where)
    name = uuid_in(f"{uuid}.binq")
    if name is None:
        raise corrupt(f"{where} uuid", "32 hexadecimal digits", repr(uuid)[:40])
    rows = whole(member(entry, "rows", int, where), f"{where} rows")
    length = whole(member(entry, "length", int, where), f"{where} length")
    checksum = member(entry, "header", str, where)
    if not re.fullmatch("[0-9a-f]{16}", checksum):
        raise corrupt(f"{where} header", "16 hexadecimal digits", repr(checksum)[:40])
    return Shard(name, rows, length, int(checksum, 16))


def checksum_of(document: Mapping[str, Any]) -> str:
    """Return the xxh3-64 of all members but the checksum, in one way of writing them."""
    rest = {name: value for name, value in document.items() if name != "checksum"}
    plain = json.dumps(rest, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_64_hexdigest(plain.encode())


def require_sound(document: Mapping[str, Any], schema: str, what: str) -> None:
    """Refuse a document of a newer schema, or one that does not fit its checksum.

    Raises
    ------
    IndexFileError
    """
    if document["schema"] != schema:
        raise IndexFileError(
            f"made by a newer binq ({document['schema']})",
            expected=schema,
            next_step="upgrade binq",
        )
    if document.get("checksum") != checksum_of(document):
        raise corrupt(what, "a matching checksum", "another")
