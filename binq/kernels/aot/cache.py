"""The per-user cache of compiled kernels.

A cached object is code that will run, so a file is only believed when it and its directory belong
to this user and nobody else may write to them, and when its checksum holds; anything else is as if
it were not there.  It is written to a temporary file and renamed, so that readers and other writers
never see half of it.

Layout of a cached object: 8 bytes of magic, the xxh3-128 of all that follows, the length of the
header (uint32, little-endian), the header (JSON: key, functions and their symbols, layout), the
object code.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import xxhash

MAGIC = b"binqobj\x03"
_HEADER = struct.Struct("<I")
_DIGEST_BYTES = 16
_STALE_SECONDS = 3600.0
# Objects of one family: for as many versions, environments and CPUs that share a home.
_KEPT = 8
_UNUSED_SECONDS = 30 * 86400.0
# How exactly the time of the last use is noted: not at every use, which would be a write.
_NOTED_SECONDS = 86400.0
_NAME = re.compile(
    r"(?P<temporary>\.)?(?P<family>[a-z]+)-[0-9a-f]{32}\.o"
    r"(?(temporary)\.[0-9]+\.[0-9a-f]{8}\.tmp)"
)

_Result = TypeVar("_Result")
Symbols = dict[str, tuple[str, str]]
"""Of every kernel, its symbol and the kinds of its arguments: pointer, index, float."""


def directories() -> list[Path]:
    """Where objects are kept: in the first of these where they can be.

    That is ``BINQ_CACHE_DIR`` and no other, or binq's place in the user's cache, and where there is
    none a private directory under the system's temporary one.
    """
    chosen = os.environ.get("BINQ_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    base = os.environ.get("XDG_CACHE_HOME")
    # Not the password database: a job without HOME should not write where nobody looks.
    home = os.environ.get("HOME")
    if base and os.path.isabs(base):
        usual = [Path(base) / "binq"]
    elif home and sys.platform == "darwin":
        usual = [Path(home) / "Library" / "Caches" / "binq"]
    else:
        usual = [Path(home) / ".cache" / "binq"] if home else []
    return [*usual, _temporary()]


def private_directory(*names: str) -> Path:
    """Return a directory that is this user's alone, in the first of these where it can be made.

    Raises
    ------
    OSError
        There is none; of each it tells why.
    """

    def made(place: Path) -> Path:
        for name in ("", *names):
            place = place / name
            _make(place)
            _check_directory(place)
        return place

    return _in_the_first(made)


def _in_the_first(work: Callable[[Path], _Result]) -> _Result:
    """What work returns for the first directory where it can be done.

    Raises
    ------
    OSError
        There is none; of each it tells why.
    """
    reasons = []
    for place in directories():
        try:
            return work(place)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
    raise OSError(", ".join(reasons))


def _temporary() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"binq-{os.geteuid()}"


def _check_owner(status: os.stat_result, what: str) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{what} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {what}")


def _check_directory(place: Path) -> None:
    shared = place == _temporary()
    status = os.lstat(place) if shared else os.stat(place)
    if shared and stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"others may enter {place}")
    above = os.stat(place.parent).st_mode if shared else 0
    if above & (stat.S_IWGRP | stat.S_IWOTH) and not above & stat.S_ISVTX:
        raise PermissionError(f"others may rename {place}")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{place} is not a directory")
    _check_owner(status, str(place))


def pack(code: bytes, key: str, symbols: Symbols, layout: dict[str, int]) -> bytes:
    """The content of a cached object."""
    fields = {"key": key, "symbols": symbols, "layout": layout}
    header = json.dumps(fields, sort_keys=True).encode()
    body = _HEADER.pack(len(header)) + header + code
    return MAGIC + xxhash.xxh3_128_digest(body) + body


def unpack(content: bytes, key: str) -> tuple[bytes, Symbols, dict[str, int]] | None:
    """What `pack` was given; None when it is damaged or was made for another key."""
    start = len(MAGIC) + _DIGEST_BYTES
    body = content[start:]
    digest = xxhash.xxh3_128_digest(body)
    if content[:start] != MAGIC + digest or len(body) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack_from(body)
    end = _HEADER.size + length
    fields = json.loads(body[_HEADER.size : end])
    if fields["key"] != key:
        return None
    symbols = {name: (symbol, kinds) for name, (symbol, kinds) in fields["symbols"].items()}
    return body[end:], symbols, fields["layout"]


def find(name: str, key: str) -> tuple[bytes, Symbols, dict[str, int]] | None:
    """What `pack` was given for a file of this name and key; None when it is nowhere kept."""
    for place in directories():
        with contextlib.suppress(OSError):
            content = read(place / name)
            parts = None if content is None else unpack(content, key)
            if parts is not None:
                return parts
    return None


def keep(name: str, content: bytes) -> None:
    """Store a file in the first directory where that can be done.

    Raises
    ------
    OSError
        There is none; of each it tells why.
    """
    _in_the_first(lambda place: write(place / name, content))


def read(path: Path) -> bytes | None:
    """Read a cached object, and note that it is in use; None when there is none.

    Raises
    ------
    OSError
        It cannot be read, or must not be believed.
    """
    try:
        _check_directory(path.parent)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is not a regular file")
        _check_owner(status, str(path))
        if time.time() - status.st_mtime > _NOTED_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(file.fileno())
        return file.read()


def write(path: Path, content: bytes) -> None:
    """Store the file whole or not at all, and remove what is no longer used.

    Raises
    ------
    OSError
        It cannot be stored, or others may write to its directory.
    """
    place = path.parent
    temporary = place / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    _make(place)
    _check_directory(place)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sweep(place, path.name)


def _make(place: Path) -> None:
    """Make a directory and those above it for this user; nothing in a directory of another's."""
    # `Path.mkdir` gives its mode to the last directory alone.
    if not place.is_dir():
        if place != _temporary():
            _make(place.parent)
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
    elif os.stat(place).st_uid not in (os.geteuid(), 0):
        raise PermissionError(f"{place} belongs to another user")


def _sweep(place: Path, written: str) -> None:
    """Remove objects that nobody used for long, or that newer ones follow, and dead temporaries.

    Only regular files of this user are removed, whose names are those that `write` gives; the
    directory is this user's, so that nobody else can put another file in their place.
    """
    now = time.time()
    families: dict[str, list[tuple[float, str]]] = {}
    with os.scandir(place) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is None or entry.name == written:
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    continue
                if name["temporary"] is None:
                    families.setdefault(name["family"], []).append((status.st_mtime, entry.path))
                elif now - status.st_mtime > _STALE_SECONDS:
                    os.unlink(entry.path)
    for objects in families.values():
        objects.sort(reverse=True)
        for number, (used, file) in enumerate(objects, start=1):
            if number >= _KEPT or now - used > _UNUSED_SECONDS:
                with contextlib.suppress(OSError):
                    os.unlink(file)
