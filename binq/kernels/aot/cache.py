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
import stat
import struct
import sys
import time
from pathlib import Path

import xxhash

MAGIC = b"binqobj\x02"
_HEADER = struct.Struct("<I")
_DIGEST_BYTES = 16
_STALE_SECONDS = 3600.0


def directory() -> Path:
    """Where objects are kept: ``BINQ_CACHE_DIR``, or binq's place in the user's cache.

    Raises
    ------
    OSError
        There is no home directory to put it in.
    """
    chosen = os.environ.get("BINQ_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        if local:
            return Path(local) / "binq" / "cache"
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "binq"
    # Not the password database: a job without HOME should not write where nobody looks.
    home = os.environ.get("HOME") or (os.path.expanduser("~") if sys.platform == "win32" else "")
    if not home:
        raise OSError("HOME is not set")
    if sys.platform == "darwin":
        return Path(home) / "Library" / "Caches" / "binq"
    return Path(home) / ".cache" / "binq"


def _check_owner(status: os.stat_result, what: str) -> None:
    if os.name != "posix":
        return
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{what} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {what}")


def _check_directory(place: Path) -> None:
    status = os.stat(place)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{place} is not a directory")
    _check_owner(status, str(place))


def pack(code: bytes, key: str, symbols: dict[str, str], layout: dict[str, int]) -> bytes:
    """The content of a cached object."""
    fields = {"key": key, "symbols": symbols, "layout": layout}
    header = json.dumps(fields, sort_keys=True).encode()
    body = _HEADER.pack(len(header)) + header + code
    return MAGIC + xxhash.xxh3_128_digest(body) + body


def unpack(content: bytes, key: str) -> tuple[bytes, dict[str, str], dict[str, int]] | None:
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
    return body[end:], fields["symbols"], fields["layout"]


def read(path: Path) -> bytes | None:
    """Read a cached object; None when there is none.

    Raises
    ------
    OSError
        It cannot be read, or must not be believed.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        _check_directory(path.parent)
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is not a regular file")
        _check_owner(status, str(path))
        return file.read()


def write(path: Path, content: bytes) -> None:
    """Store the file whole or not at all.

    Raises
    ------
    OSError
        It cannot be stored, or others may write to its directory.
    """
    place = path.parent
    temporary = place / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_directory(place)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sweep(place)


def _sweep(place: Path) -> None:
    # What writers that were killed left behind.
    for left in place.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
