"""Opening an index, whether it is a file or a directory of shards."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq import bits as packing
from binq.errors import EnvironmentFailure, IndexFileError
from binq.storage import preamble as pre
from binq.storage.format import Header
from binq.storage.ids import JoinedIds, StoredIds
from binq.storage.manifest import LIMIT, NAME, Manifest, fingerprint, is_shared, name_of
from binq.storage.reader import Damage, IndexFile, Opened, open_regular

_AGAIN: Final = "restore it from a copy or build it again"
_ROUNDS: Final = 100
# Files that a command has open beside those of an index, at most about.
_OTHERS: Final = 64
# What one shard may say otherwise than the whole.
_OWN: Final = {"rows", "sources", "created", "binq", "ids", "calibration", "shard", "model"}


class IndexDirectory(Opened):
    """An open directory of shards: the header of all rows together, and the files that hold them.

    Opening reads the manifest, and opens and checks every shard as :class:`IndexFile` does: its
    time grows with the shards, not with their rows. All files are held open, so that an index that
    is replaced meanwhile stays whole.

    Used in a ``with`` statement it is closed at its end.

    Parameters
    ----------
    path : path
    uuid : bytes, optional
        Refuse any other index; a pickled one is opened again so.

    Attributes
    ----------
    path : Path
    header : Header
    shards : list of IndexFile
        In the order of their rows.
    firsts : list of int
        The number of the first row of every shard, and of all rows.
    uuid : bytes
        The xxh3-128 of the manifest.
    version : str
        "major.minor" of the newest format among the files.
    length : int
        Of all files, in bytes.

    Raises
    ------
    IndexFileError
        If it is missing, no index, damaged or of an unsupported version.
    EnvironmentFailure
        If it may not be read.
    """

    def __init__(self, path: str | os.PathLike[str], uuid: bytes | None = None) -> None:
        super().__init__(path)
        self.shards: list[IndexFile] = []
        read = b""
        for _ in range(_ROUNDS):
            data = self._read()
            try:
                self._open(data)
                break
            except (IndexFileError, EnvironmentFailure):
                self._close_shards()
                # Where it was replaced meanwhile, a file that it names may be gone: read it again.
                if data == read:
                    raise
                read = data
        self.uuid = xxhash.xxh3_128_digest(data)
        if uuid not in (None, self.uuid):
            assert uuid is not None
            raise IndexFileError(
                "the index was replaced",
                str(self.path),
                f"UUID {uuid.hex()}",
                self.uuid.hex(),
            )
        self.length = len(data) + sum(shard.length for shard in self.shards)
        self.version = max(
            (shard.version for shard in self.shards),
            key=lambda version: [int(part) for part in version.split(".")],
        )

    def ids(self) -> StoredIds | None:
        """Return the ids, or None where the id is the row number."""
        if self.header.ids == "rows":
            return None
        parts = [(shard.header.rows, shard.ids()) for shard in self.shards]
        return JoinedIds(self, parts, self.header.ids == "strings")

    def alive(self) -> NDArray[np.uint64] | None:
        """Return which rows are alive as a bitmap, see :meth:`IndexFile.alive`; None for all."""
        words = [shard.alive() for shard in self.shards]
        if all(part is None for part in words):
            return None
        mask = np.ones(self.header.rows, np.bool_)
        for first, shard, part in zip(self.firsts, self.shards, words, strict=False):
            if part is not None:
                rows = shard.header.rows
                mask[first : first + rows] = packing.unpack(part[None], rows)[0]
        alive: NDArray[np.uint64] = packing.pack(mask[None])[0]
        return alive

    def require_unchanged(self) -> None:
        """Refuse to go on where a shard was written to, cut or extended since it was opened.

        Raises
        ------
        IndexFileError
        """
        for shard in self.shards:
            shard.require_unchanged()

    def close(self) -> None:
        """Close all files; arrays that were handed out stay valid, and keep their bytes."""
        for shard in self.shards:
            shard.close()

    def verify(self) -> Iterator[tuple[IndexFile, Damage]]:
        """Read all shards whole and yield what is damaged; the manifest was checked on opening.

        Raises
        ------
        IndexFileError
            If a file was changed in place since it was opened.
        """
        for shard in self.shards:
            found = shard.verify()
            yield from ((shard, damage) for damage in found)
            if not found and shared_of(shard) != self._manifest.shared:
                yield shard, Damage("shared", 0, shard.length)

    def _read(self) -> bytes:
        """Return the bytes of the manifest, no more than it may have."""
        path = self.path / NAME
        missing = "make one with: binq build VECTORS -o INDEX.binq, or with `shard_rows`"
        try:
            descriptor = open_regular(path)
        except IndexFileError:
            raise IndexFileError(
                "not an index", str(self.path), f"a file, or a directory with {NAME}", "", missing
            ) from None
        with open(descriptor, "rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise self._placed(pre.corrupt("manifest", f"at most {LIMIT} bytes", "more"))
        return data

    def _open(self, data: bytes) -> None:
        """Open all shards that a manifest names, and check that they are what it says."""
        try:
            manifest = Manifest.decode(data)
        except IndexFileError as error:
            raise self._placed(error) from error
        self._manifest, self.header = manifest, manifest.header
        self.firsts = [0]
        for entry in manifest.shards:
            name = name_of(entry.uuid)
            if not os.path.lexists(self.path / name):
                raise IndexFileError(
                    "a shard of the index is missing", str(self.path), name, "", _AGAIN
                )
            try:
                shard = IndexFile(self.path / name)
            except EnvironmentFailure as error:
                raise self._helped(error, len(manifest.shards)) from error
            except IndexFileError as error:
                if not error.next_step.startswith("upgrade"):
                    error.next_step = _AGAIN  # a shard is not made by itself
                raise
            self.shards.append(shard)
            for what, wanted, got in (
                ("UUID", entry.uuid.hex(), shard.uuid.hex()),
                ("length", entry.length, shard.length),
                ("rows", entry.rows, shard.header.rows),
                ("header checksum", f"{entry.header:016x}", f"{shard.header_checksum:016x}"),
            ):
                if wanted != got:
                    raise shard.corrupt(f"shard {what}", f"{wanted}, as {NAME} says", got)
            self._check(shard)
            self.firsts.append(self.firsts[-1] + entry.rows)

    def _helped(self, error: EnvironmentFailure, shards: int) -> EnvironmentFailure:
        """Return the error of a shard that cannot be opened; of a limit, what it should be."""
        if getattr(error.__cause__, "errno", None) != errno.EMFILE:
            return error
        return EnvironmentFailure(
            "the shards of the index cannot all be open at once",
            str(self.path),
            f"two files for each of {shards:,} shards",
            error.got,
            f"allow more with ulimit -n {2 * shards + _OTHERS}",
        )

    def _check(self, shard: IndexFile) -> None:
        """Refuse a shard that does not belong with the others, or not in its place."""
        place = shard.header.shard or {}
        names = [field.name for field in fields(Header) if field.name not in _OWN]
        wanted: dict[str, object] = {name: getattr(self.header, name) for name in names}
        got: dict[str, object] = {name: getattr(shard.header, name) for name in names}
        wanted |= {"first row": self.firsts[-1], "shared": self._manifest.shared}
        got |= {"first row": place.get("first"), "shared": place.get("shared")}
        for name, value in wanted.items():
            if value != got[name]:
                raise IndexFileError(
                    "a shard does not belong to the index",
                    f"{shard.path}: {name}",
                    str(value)[:80],
                    str(got[name])[:80],
                    _AGAIN,
                )

    def _close_shards(self) -> None:
        self.close()
        self.shards = []


Stored = IndexFile | IndexDirectory


def open_stored(path: str | os.PathLike[str]) -> Stored:
    """Open an index, whichever it is.

    Raises
    ------
    IndexFileError, EnvironmentFailure
        As both do.
    """
    return IndexDirectory(path) if os.path.isdir(path) else IndexFile(path)


def shared_of(shard: IndexFile) -> str:
    """Return the fingerprint of what a shard should have in common with others; reads it."""
    return fingerprint(
        {
            name: shard.array(name, section.dtype, section.shape)
            for name, section in shard.sections.items()
            if is_shared(name)
        }
    )
