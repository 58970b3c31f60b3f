"""Indexes in object stores: what a URI points to is fetched once, checked, and kept to be mapped.

Files are kept in the user's cache, in a directory for each URI, named by their UUID: another index
under the same URI is another file. Those that were not used for longest go first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from binq.errors import EnvironmentFailure, IndexFileError, InputError, UsageError
from binq.io.atomic import atomic_write
from binq.io.objects import ObjectFile, StoreObject
from binq.io.stores import Location, endpoint, is_uri, locate
from binq.kernels.aot.cache import private_directory
from binq.storage.directory import Stored, open_stored
from binq.storage.manifest import NAME as MANIFEST
from binq.storage.manifest import SHARD_NAME
from binq.storage.pointer import LIMIT, Entry, Pointer
from binq.storage.preamble import MAGIC
from binq.storage.reader import IndexFile

SIZE_VARIABLE: Final = "BINQ_CACHE_BYTES"
_DEFAULT_SIZE: Final = 10 << 30
_FOLDER: Final = "indexes"
_WINDOW: Final = 32 << 20
_HEAD: Final = 1 << 12
_STALE_SECONDS: Final = 3600.0
_PLACE_NAME: Final = re.compile(r"[0-9a-f]{32}")
_AGAIN: Final = "publish the index again"


def open_index(path: str | os.PathLike[str]) -> Stored:
    """Open an index by its path, or what a URI points to once it was fetched.

    Raises
    ------
    UsageError
        If a URI names nothing.
    IndexFileError
        If there is no index, or it is damaged or of an unsupported version.
    EnvironmentFailure
        If it may not be read, the store is at fault, or there is no room for its files.
    """
    if not is_uri(path):
        return open_stored(path)
    location = locate(path)
    limit = _limit()
    for last in (False, True):
        pointer = read_pointer(location)
        try:
            return open_stored(_kept(location, pointer, limit))
        except _Vanished as error:
            # Another index may have been published meanwhile, and files of this one removed.
            if last:
                raise error.told from None
        except IndexFileError:
            # Another process may have made room for another index.
            if last or not pointer.manifest:
                raise
    raise AssertionError


def read_pointer(location: Location) -> Pointer:
    """Return what stands under the URI of an index.

    Raises
    ------
    UsageError
        If it is the URI of a bucket or a prefix.
    IndexFileError
        If there is nothing, or no index.
    EnvironmentFailure
        If the store is at fault.
    """
    location.require_key()
    try:
        file = StoreObject(location).open()
        data = file.read(min(file.size, _HEAD))
        if not data.startswith(MAGIC) and data[:1] == b"{" and file.size <= LIMIT:
            data += file.read()
    except InputError as error:
        raise IndexFileError(
            "no such index", location.shown, next_step="make one with: binq build VECTORS -o URI"
        ) from error
    try:
        return Pointer.decode(data, file.size)
    except IndexFileError as error:
        raise _placed(error, location.shown) from error


class _Vanished(Exception):
    """A file that a pointer names is not there."""

    def __init__(self, shown: str) -> None:
        super().__init__(shown)
        self.told = EnvironmentFailure(
            "the store has lost a file of the index", shown, next_step=_AGAIN
        )


def _kept(location: Location, pointer: Pointer, limit: int) -> Path:
    """Return an index in the cache, after putting there what is missing of it."""
    whose = f"{location.scheme}\0{endpoint(location)}\0{location.path}"
    digest = hashlib.blake2b(whose.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    try:
        root = private_directory(_FOLDER)
        place = private_directory(_FOLDER, digest)
    except OSError as error:
        step = "name one of your own by BINQ_CACHE_DIR"
        what = "the index cannot be kept"
        shown = location.shown
        raise EnvironmentFailure(what, shown, "a directory for it", str(error), step) from error
    kept = {place / entry.name: entry for entry in pointer.files}
    if not all(map(_is_kept, kept, kept.values())):
        with _locked(place):
            for target, entry in kept.items():
                if not _is_kept(target, entry):  # another process may have fetched it meanwhile
                    source = location if pointer.in_place else location.sibling(entry.suffix)
                    _download(source, entry, target)
            _evict(root, limit, set(kept))
    if pointer.manifest is None:
        return next(iter(kept))
    manifest = place / MANIFEST
    _refuse_link(manifest)
    if not manifest.exists() or manifest.read_bytes() != pointer.manifest:
        with atomic_write(manifest) as file:
            file.write(pointer.manifest)
    return place


def _refuse_link(path: Path) -> None:
    """Refuse a link where a file of the cache would be: what it leads to is not the cache's.

    Raises
    ------
    EnvironmentFailure
    """
    if path.is_symlink():
        what, step = "a link is in the cache of indexes", "remove it"
        raise EnvironmentFailure(what, str(path), "a file", next_step=step)


def _is_kept(target: Path, entry: Entry) -> bool:
    """Whether a file of the cache is the one that is wanted; if so, note that it is in use."""
    _refuse_link(target)
    try:
        with IndexFile(target, entry.uuid) as file:
            same = (file.length, file.header_checksum) == (entry.length, entry.header)
    except IndexFileError:
        return False
    if same:
        with suppress(OSError):
            # When it was written shows readers that it is unchanged.
            os.utime(target, ns=(time.time_ns(), os.stat(target).st_mtime_ns))
    return same


def _download(source: Location, entry: Entry, target: Path) -> None:
    """Fetch a file, and give it its name once all of it was found to be whole."""
    name = source.shown
    try:
        file = StoreObject(source).open()
    except InputError:
        raise _Vanished(name) from None
    if file.size != entry.length:
        what = "is truncated" if file.size < entry.length else "has bytes behind its end"
        lengths = f"{entry.length} bytes", f"{file.size}"
        raise IndexFileError(f"the index {what}", name, *lengths, next_step=_AGAIN)
    with atomic_write(target) as output:
        for offset in range(0, file.size, _WINDOW):
            output.write(_part(file, offset))
        output.flush()
        try:
            with IndexFile(f"/dev/fd/{output.fileno()}", entry.uuid) as found:
                damages = found.verify()
                checksum = found.header_checksum
        except IndexFileError as error:
            raise _placed(error, name) from error
        if damages or checksum != entry.header:
            where = f"{name}: " + (f"section {damages[0].section}" if damages else "header")
            raise IndexFileError(
                "the index is corrupt", where, "matching checksums", "others", _AGAIN
            )


def _part(file: ObjectFile, offset: int) -> bytes:
    (data,) = file.ranges([(offset, min(_WINDOW, file.size - offset))])
    return data


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Let one process at a time fetch what is kept in a directory."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # without locks two may fetch the same, and the later one counts
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _evict(root: Path, limit: int, wanted: set[Path]) -> None:
    """Remove the files that were not used for longest until the others fit; never `wanted` ones.

    Who has such a file open keeps it whole. Only names that this module gives are looked at.
    """
    kept: list[tuple[int, int, Path]] = []
    for place in _inside(root, _PLACE_NAME):
        for path in _inside(place, SHARD_NAME):
            with suppress(OSError):
                status = path.lstat()
                kept.append((status.st_atime_ns, status.st_size, path))
    room = limit - sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if room >= 0:
            break
        if path not in wanted:
            with suppress(OSError):
                path.unlink()
                room += size
                path.parent.rmdir()  # where it was the last


def _inside(folder: Path, names: re.Pattern[str]) -> list[Path]:
    with suppress(OSError):
        return [folder / name for name in os.listdir(folder) if names.fullmatch(name)]
    return []


def _limit() -> int:
    """Return how many bytes of indexes are kept.

    Raises
    ------
    UsageError
    """
    told = os.environ.get(SIZE_VARIABLE, "")
    if told and not (told.isascii() and told.isdigit()):
        raise UsageError("not a number of bytes", SIZE_VARIABLE, "such as 10737418240", repr(told))
    return int(told) if told else _DEFAULT_SIZE


def _placed(error: IndexFileError, shown: str) -> IndexFileError:
    """Return an error that names a URI in place of an open file."""
    where = re.sub(r"^/dev/fd/[0-9]+(: )?", "", error.where)
    place = ": ".join(part for part in (shown, where) if part)
    return IndexFileError(error.what, place, error.expected, error.got, error.next_step)
