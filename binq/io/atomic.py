"""Output files appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from binq.errors import EnvironmentFailure, UsageError

# Linux gives files without a name: a process that is killed leaves nothing behind.
_O_TMPFILE: int = getattr(os, "O_TMPFILE", 0)
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EPERM}


@contextmanager
def published(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same directory, which is synced and then renamed over
    ``path``. A symlink stays and what it points to is replaced; the mode of a replaced file is
    kept. After any failure the old file is still there, and nothing else is.

    Parameters
    ----------
    path : path
        Where the file shall appear.

    Yields
    ------
    BinaryIO
        Opened for writing, reading and seeking.

    Raises
    ------
    UsageError
        If ``path`` is ``-``.
    EnvironmentFailure
        If the place cannot be written to, or the disk is full, or a sync or the rename fails.
    """
    if os.fspath(path) == "-":
        raise UsageError("this output cannot go to stdout", "-", "the name of a file")
    target = Path(os.path.realpath(path))
    mode = _mode_for(target)
    with _failures_named(path):
        file, name = _open_temporary(target)
    try:
        with _failures_named(path):
            try:
                yield file
                file.flush()
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
                if name is None:
                    name = _give_name(file, target)
            finally:
                file.close()
            os.replace(name, target)
            name = None
            _sync_directory(target.parent)
    finally:
        if name is not None:
            with suppress(OSError):
                os.unlink(name)


@contextmanager
def _failures_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an ``OSError`` of this file system into binq's own, naming the output."""
    try:
        yield
    except EnvironmentFailure:
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        raise EnvironmentFailure(
            "cannot write",
            os.fspath(path),
            got=(error.strerror or str(error)).lower(),
            next_step="the output was left as it was",
        ) from error


def _mode_for(target: Path) -> int:
    """Return the permission bits of the new file, after refusing what cannot be replaced."""

    def refuse(what: str, step: str) -> EnvironmentFailure:
        return EnvironmentFailure("cannot write", str(target), "a regular file", what, step)

    try:
        found = os.stat(target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise refuse("no such directory", f"create {target.parent} first") from None
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
    except OSError as error:
        raise refuse((error.strerror or str(error)).lower(), "choose another place") from error
    if stat.S_ISDIR(found.st_mode):
        raise refuse("a directory", "name a file inside it")
    if not stat.S_ISREG(found.st_mode):
        raise refuse("something that is not a file", "name a regular file")
    if not os.access(target, os.W_OK):
        raise refuse("a read-only file", "make it writable or choose another name")
    return stat.S_IMODE(found.st_mode)


def _open_temporary(target: Path) -> tuple[BinaryIO, str | None]:
    """Open an unnamed file beside ``target``, or a uniquely named one where there are none."""
    if _O_TMPFILE and os.path.isdir("/proc/self/fd"):
        try:
            descriptor = os.open(target.parent, _O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            return os.fdopen(descriptor, "w+b"), None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    name = _unique_name(target)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(name, flags, 0o600), "w+b"), name


def _give_name(file: BinaryIO, target: Path) -> str:
    """Link an unnamed file to a unique temporary name and return it."""
    name = _unique_name(target)
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        # With a directory descriptor Python calls linkat(), which follows the link in /proc.
        os.link(str(file.fileno()), name, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)
    return name


def _unique_name(target: Path) -> str:
    return str(target.parent / f".{target.name[:200]}.{os.urandom(8).hex()}.tmp")


def _sync_directory(directory: Path) -> None:
    """Make a rename durable; file systems and systems that cannot sync a directory are passed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF, errno.EACCES, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)
