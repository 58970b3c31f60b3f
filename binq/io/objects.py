"""Objects of stores: found by their URIs, read by ranges, refused where they change meanwhile."""

from __future__ import annotations

import fnmatch
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, BinaryIO, Final, cast

from binq.errors import EnvironmentFailure, InputError
from binq.io.stores import Location, locate
from binq.io.transfers import AT_ONCE, Transfers

PART: Final = 2 << 20
"""Most bytes that one request asks for."""
BLOCK: Final = 1 << 16
"""Bytes that are fetched at least."""
_MOST_AHEAD: Final = AT_ONCE * PART // BLOCK
Identity = tuple[int, object]
"""Length of an object, and its entity tag, or the time when it was last written."""


class StoreObject(str):
    """The name of an object, which is read where others open a file of their disk.

    As a string it is its URI without options, as messages show it.

    Attributes
    ----------
    location : Location
    """

    location: Location

    def __new__(cls, location: Location) -> StoreObject:
        """Name the object at a place; nothing is asked of the store yet."""
        made = super().__new__(cls, location.shown)
        made.location = location
        made._identity = None
        made._transfers = Transfers(location.shown)
        return made

    _identity: Identity | None
    _transfers: Transfers

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process reads the same object, or none.
        return _named, (self.location, self._identity)

    def open(self) -> ObjectFile:
        """Open the object.

        Raises
        ------
        InputError
            If there is none, or it is not the one that was opened before.
        EnvironmentFailure
            If the store refuses, fails, cannot be reached or is too slow.
        """
        file, identity = self._look()
        return ObjectFile(self, file, identity[0], self._transfers)

    def require_unchanged(self) -> None:
        """Refuse to go on where the object is another than when it was first opened.

        Raises
        ------
        InputError, EnvironmentFailure
        """
        self._look()

    def interrupt(self) -> None:
        """End a read that waits in another thread."""
        self._transfers.interrupt()

    def _look(self) -> tuple[Any, Identity]:
        """Open the object, and compare it with what was opened first."""
        try:
            file, identity = self._transfers.one(partial(_opened, self.location))
        except InputError:
            if self._identity is None:
                raise
            raise vanished(self) from None
        if self._identity not in (None, identity):
            raise InputError(
                "the object was changed while it was read",
                self.location.shown,
                next_step="write another object and read that",
            )
        self._identity = identity
        return file, identity


class ObjectFile(io.RawIOBase):
    """An object as a file, read by ranges of which the last are kept.

    What is read in order is fetched ahead, several ranges at a time.

    Attributes
    ----------
    size : int
    """

    def __init__(self, source: StoreObject, file: Any, size: int, transfers: Transfers) -> None:
        self.size = size
        self._source = source
        self._file = file
        self._transfers = transfers
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._ahead = 1

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        view = memoryview(buffer).cast("B")
        found = self.read(view.nbytes)
        view[: len(found)] = found
        return len(found)

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes, fewer only at the end."""
        left = max(0, self.size - self._position)
        end = self._position + (left if size is None or size < 0 else min(size, left))
        pieces = []
        while self._position < end:
            number, start = divmod(self._position, BLOCK)
            piece = self._block(number, -(-end // BLOCK))[start : start + end - self._position]
            pieces.append(piece)
            self._position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def ranges(self, spans: Iterable[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of spans (offset, length), which are fetched several at a time."""
        calls: list[Callable[[], bytes]] = []
        counts = []
        for offset, length in spans:
            starts = range(offset, offset + length, PART)
            calls += [
                partial(self._fetch, start, min(PART, offset + length - start)) for start in starts
            ]
            counts.append(len(starts))
        try:
            parts = iter(self._transfers.several(calls))
        except InputError:
            raise vanished(self._source) from None
        return [b"".join(next(parts) for _ in range(count)) for count in counts]

    def _block(self, number: int, upto: int) -> bytes:
        """Return a block, the last one being shorter; those before ``upto`` are wanted too."""
        if number not in self._blocks:
            # Where the block before is at hand, reading goes on in order: ever more is fetched.
            following = number - 1 in self._blocks
            self._ahead = min(2 * self._ahead, _MOST_AHEAD) if following else 1
            upto = min(max(upto, number + self._ahead), number + _MOST_AHEAD)
            start, end = number * BLOCK, min(upto * BLOCK, self.size)
            (data,) = self.ranges([(start, end - start)])
            for place in range(0, len(data), BLOCK):
                self._blocks[number + place // BLOCK] = data[place : place + BLOCK]
            while len(self._blocks) > 2 * _MOST_AHEAD:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch(self, offset: int, length: int) -> bytes:
        found: bytes = self._file.read_at(length, offset)
        if len(found) != length:
            raise EnvironmentFailure(
                "the store sent less than it announced",
                str(self._source),
                f"{length} bytes from {offset} on",
                f"{len(found)}",
                "try again",
            )
        return found


def vanished(name: str) -> EnvironmentFailure:
    """Return the error of an object that was there before."""
    return EnvironmentFailure("the object vanished while it was read", name, next_step="try again")


def open_binary(path: str) -> BinaryIO:
    """Open a local file or an object of a store for reading."""
    if isinstance(path, StoreObject):
        return cast(BinaryIO, path.open())
    return open(path, "rb")


def size_of(file: BinaryIO) -> int:
    """Return the length of a file that :func:`open_binary` opened, in bytes."""
    return file.size if isinstance(file, ObjectFile) else os.fstat(file.fileno()).st_size


def find(uri: str, pattern: bool) -> StoreObject | list[StoreObject]:
    """Return the object that a URI names, or those right under a prefix, in no order.

    Parameters
    ----------
    uri : str
    pattern : bool
        Whether the last part of the URI, where it holds ``*`` or ``[``, is a pattern of names.

    Raises
    ------
    InputError
        If there is none.
    EnvironmentFailure
    """
    from pyarrow.fs import FileSelector, FileType

    location = locate(uri)
    transfers = Transfers(location.shown)
    system = transfers.one(location.filesystem)
    above, _, last = location.path.rstrip("/").rpartition("/")
    wanted = "*"
    if not pattern or not any(sign in last for sign in "*["):
        (found,) = transfers.one(lambda: system.get_file_info([location.path.rstrip("/")]))
        if found.type == FileType.File and not location.path.endswith("/"):
            return StoreObject(location)
        if found.type != FileType.Directory:
            raise InputError("no such object", location.shown, next_step="check the URI")
        above = location.path.rstrip("/")
    else:
        wanted = last
    listed: Sequence[Any] = transfers.one(lambda: system.get_file_info(FileSelector(above)))
    place = location.shown if wanted == "*" else location.shown.rpartition("/")[0]
    prefix = Location(location.scheme, above, location.options, place.rstrip("/"))
    return [
        StoreObject(prefix.child(entry.base_name))
        for entry in listed
        if entry.type == FileType.File and fnmatch.fnmatchcase(entry.base_name, wanted)
    ]


def _named(location: Location, identity: Identity | None) -> StoreObject:
    named = StoreObject(location)
    named._identity = identity
    return named


def _opened(location: Location) -> tuple[Any, Identity]:
    """Open an object; return it and what tells it from one that takes its place."""
    system = location.filesystem()
    file = system.open_input_file(location.path)
    size = file.size()
    tag = (file.metadata() or {}).get("ETag")
    if tag is None:
        (info,) = system.get_file_info([location.path])
        return file, (size, (info.size, info.mtime_ns))
    return file, (size, tag)
