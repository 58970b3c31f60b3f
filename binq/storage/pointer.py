"""What stands under the URI of an index: a small object that names the file; see docs/format.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from binq.errors import IndexFileError
from binq.io.stores import FILES
from binq.storage.format import refuse_constant
from binq.storage.manifest import LIMIT as MANIFEST_LIMIT
from binq.storage.manifest import Manifest, checksum_of, name_of, require_sound
from binq.storage.preamble import LENGTH_LIMIT, MAGIC, PREAMBLE_SIZE, Preamble, corrupt

SCHEMA: Final = "binq.pointer/1"
LIMIT: Final = MANIFEST_LIMIT
"""Most bytes that stand under the URI of an index, unless it is an index file itself."""
_SCHEMA_NAME: Final = re.compile(r"binq\.pointer/([0-9]{1,9})")
_MEMBERS: Final = {"uuid": "[0-9a-f]{32}", "header": "[0-9a-f]{16}"}


@dataclass(frozen=True)
class Entry:
    """An index file in a store.

    Attributes
    ----------
    uuid : bytes
    length : int
        Of the file, in bytes.
    header : int
        The xxh3-64 of its header.
    """

    uuid: bytes
    length: int
    header: int

    @property
    def name(self) -> str:
        """What the file is called, beside others of its index."""
        return name_of(self.uuid)

    @property
    def suffix(self) -> str:
        """What its key has behind that of the pointer."""
        return FILES + self.name


@dataclass(frozen=True)
class Pointer:
    """What is published under a URI.

    Attributes
    ----------
    files : tuple of Entry
    in_place : bool
        Whether what stands there is the index file itself.
    manifest : bytes or None
        What stands there, where the files are shards.
    """

    files: tuple[Entry, ...]
    in_place: bool = False
    manifest: bytes | None = None

    def encode(self) -> bytes:
        """Return the bytes of the object that points to the files."""
        if self.manifest is not None:
            return self.manifest
        (entry,) = self.files
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "uuid": entry.uuid.hex(),
            "length": entry.length,
            "header": f"{entry.header:016x}",
        }
        document["checksum"] = checksum_of(document)
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def of_manifest(cls, data: bytes) -> Pointer:
        """Point to the shards that a manifest names.

        Raises
        ------
        IndexFileError
            If it is damaged or of a newer version.
        """
        shards = Manifest.decode(data).shards
        files = tuple(Entry(shard.uuid, shard.length, shard.header) for shard in shards)
        return cls(files, manifest=data)

    @classmethod
    def decode(cls, data: bytes, size: int) -> Pointer:
        """Read what stands under the URI of an index.

        Parameters
        ----------
        data : bytes
            All of it, or of an index file itself at least the first 128 bytes.
        size : int
            Of all of it.

        Raises
        ------
        IndexFileError
            If it is something else, damaged, or of a newer version; the caller adds the place.
        """
        if data.startswith(MAGIC):
            preamble = Preamble.decode(data[:PREAMBLE_SIZE])
            return cls((Entry(preamble.uuid, size, preamble.header_checksum),), in_place=True)
        try:
            document = json.loads(data, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            document = None
        schema = document.get("schema") if isinstance(document, dict) else None
        if isinstance(schema, str) and schema.startswith("binq.shards/"):
            return cls.of_manifest(data)
        if not isinstance(schema, str) or not _SCHEMA_NAME.fullmatch(schema):
            raise IndexFileError(
                "not a binq index",
                expected=f"an index, or {SCHEMA}",
                got="an empty object" if not data else "other content",
                next_step="make one with: binq build VECTORS -o URI",
            )
        assert isinstance(document, dict)
        require_sound(document, SCHEMA, "pointer")
        for name, pattern in _MEMBERS.items():
            value = document.get(name)
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise corrupt(f"pointer {name}", "hexadecimal digits", repr(value)[:40])
        length = document.get("length")
        if type(length) is not int or not PREAMBLE_SIZE <= length <= LENGTH_LIMIT:
            raise corrupt("pointer length", "a number of bytes", repr(length)[:40])
        entry = Entry(bytes.fromhex(document["uuid"]), length, int(document["header"], 16))
        return cls((entry,))
