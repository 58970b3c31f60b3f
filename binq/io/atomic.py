"""Output files appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from binq.errors import EnvironmentFailure, UsageError

# Linux gives files without a name: a process that is killed leaves nothing behind.
_O_TMPFILE: Final[int] = getattr(os, "O_TMPFILE", 0)
_UNSUPPORTED: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EPERM}
_BUFFER: Final = 1 << 17
_STORE: Final = re.compile(r"(s3|gs|file)://?")


def require_local(path: str | os.PathLike[str]) -> None:
    """Refuse an output that is the URI of a store.

    Raises
    ------
    UsageError
    """
    if _STORE.match(os.fspath(path)) and not os.path.lexists(os.fspath(path).partition("/")[0]):
        where = os.fspath(path).partition(":")[0]
        raise UsageError("only an index can be written to a store", f"{where}://", "a local path")


@contextmanager
def atomic_write(
    path: str | os.PathLike[str],
    *,
    unnamed: bool = True,
    named: Callable[[], str] | None = None,
) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same directory, which is synced and then renamed over
    ``path``. A symlink stays and what it points to is replaced. The owner and the permissions of
    a replaced file are kept (set-uid and set-gid bits are not); where the owner cannot be kept,
    the permissions are those of a new file. After any failure the old file is still there, and
    nothing else is; what a run that was killed left behind, the next one for ``path`` removes.

    Parameters
    ----------
    path : path
        Where the file shall appear.
    unnamed : bool
        Hold the bytes in a file without a name where the system has such.
    named : callable, optional
        Returns, once the file is written, the name to give it in place of the last part of
        ``path``, which messages and temporary files are called by.

    Yields
    ------
    BinaryIO
        Opened for writing, reading and seeking. Its own failures are raised as
        :class:`EnvironmentFailure`; what else fails inside the block is passed on as it is.

    Raises
    ------
    UsageError
        If ``path`` is ``-`` or the URI of a store.
    EnvironmentFailure
        If the place cannot be written to, or the disk is full, or a sync or the rename fails.
    """
    if os.fspath(path) == "-":
        raise UsageError("this output cannot go to stdout", "-", "the name of a file")
    require_local(path)
    target = Path(os.path.realpath(path))
    if not os.path.basename(path):
        raise _refused(path, "a directory", "name a file inside it")
    old = _replaceable(target)
    _remove_leftovers(target)
    file, name = _open_temporary(target, path, unnamed)
    held = None
    try:
        with failures_named(path):
            held = os.dup(file.fileno())  # keeps the lock until the temporary name is gone
            fresh = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if old is not None:
                os.fchmod(file.fileno(), 0o600)  # until it is whole, nobody else's
        yield cast(BinaryIO, file)
        with failures_named(path):
            file.flush()
            if old is not None:
                _take_over(file.fileno(), old, fresh)
            os.fsync(file.fileno())
            if name is None:
                name = _unique_name(target)  # known before it is there: a signal may come any time
                _give_name(file.fileno(), name)
            file.close()
            os.replace(name, target if named is None else target.parent / named())
        name = None
        outcome = "the new file is there, but a power cut may undo it"
        with failures_named(path, outcome, "cannot sync the directory of the output"):
            sync_directory(target.parent)
    finally:
        with suppress(OSError):
            file.close()
        if name is not None:
            with suppress(OSError):
                os.unlink(name)
        if held is not None:
            os.close(held)


def scratch_beside(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file without a name in the directory of an output; it vanishes when it is closed.

    Its failures are raised as :class:`EnvironmentFailure` of the output.
    """
    file, name = _open_temporary(Path(os.path.realpath(path)), path, unnamed=True)
    if name is not None:
        os.unlink(name)
    return cast(BinaryIO, file)


@contextmanager
def scratch_name(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the name of an empty file in the directory of an output.

    It is for who has to open a file by its name. The name is gone when the block ends, and should
    the process be killed before, with the next :func:`atomic_write` for ``path``.
    """
    with failures_named(path):
        descriptor, name = _create(Path(os.path.realpath(path)))
    try:
        yield name
    finally:
        with suppress(OSError):
            os.unlink(name)
        os.close(descriptor)


class _OutputFile(io.FileIO):
    """A file whose own failures name the output that it is to become."""

    def __init__(self, descriptor: int, output: str | os.PathLike[str]) -> None:
        super().__init__(descriptor, "r+")
        self._output = output

    def write(self, data: Any) -> int:
        with failures_named(self._output):
            return super().write(data)

    def readinto(self, buffer: Any) -> int:
        with failures_named(self._output):
            return cast(int, super().readinto(buffer))


@contextmanager
def failures_named(
    path: str | os.PathLike[str],
    outcome: str = "the output was left as it was",
    what: str = "cannot write",
) -> Iterator[None]:
    """Turn an ``OSError`` of this file system into binq's own, naming the output."""
    try:
        yield
    except EnvironmentFailure:
        raise
    except OSError as error:
        raise EnvironmentFailure(
            what,
            os.fspath(path),
            got=(error.strerror or str(error)).lower(),
            next_step=outcome,
        ) from error


def _replaceable(target: Path) -> os.stat_result | None:
    """Return what stands there, if anything does, after refusing what cannot be replaced."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            step = f"create {target.parent} first"
            raise _refused(target, "no such directory", step) from None
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _refused(target, reason, "choose another place") from error
    if stat.S_ISDIR(found.st_mode):
        raise _refused(target, "a directory", "name a file inside it")
    if not stat.S_ISREG(found.st_mode):
        raise _refused(target, "something that is not a file", "name a regular file")
    if not os.access(target, os.W_OK):
        raise _refused(target, "a read-only file", "make it writable or choose another name")
    return found


def _refused(path: str | os.PathLike[str], what: str, step: str) -> EnvironmentFailure:
    return EnvironmentFailure("cannot write", os.fspath(path), "a regular file", what, step)


def _take_over(descriptor: int, old: os.stat_result, fresh: int) -> None:
    """Give a file owner and permissions of the one that it replaces.

    Permissions mean something for their owner only: where the owner cannot be kept, they are
    ``fresh``, those that a new file has.
    """
    mode = old.st_mode & 0o777
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError:
            mode = fresh
    os.fchmod(descriptor, mode)


def _open_temporary(
    target: Path, output: str | os.PathLike[str], unnamed: bool
) -> tuple[io.BufferedRandom, str | None]:
    """Open an unnamed file beside ``target``, or a uniquely named one where there are none.

    The kernel applies the umask to its mode: to look at the umask a process has to set it, for
    all of its threads.
    """
    with failures_named(output):
        if unnamed and _O_TMPFILE and os.path.isdir("/proc/self/fd"):
            try:
                flags = _O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                descriptor = os.open(target.parent, flags, 0o666)
                _lock(descriptor)
                return io.BufferedRandom(_OutputFile(descriptor, output), _BUFFER), None
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        descriptor, name = _create(target)
        return io.BufferedRandom(_OutputFile(descriptor, output), _BUFFER), name


def _give_name(descriptor: int, name: str) -> None:
    """Link an unnamed file to a name."""
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        # With a directory descriptor Python calls linkat(), which follows the link in /proc.
        os.link(str(descriptor), name, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def _unique_name(target: Path) -> str:
    return f"{target.parent / _stem(target)}.{os.urandom(8).hex()}.tmp"


def _stem(target: Path) -> str:
    """Return how the temporary names of an output begin; a name has 255 bytes at most."""
    return "." + os.fsdecode(os.fsencode(target.name)[:200])


def _create(target: Path) -> tuple[int, str]:
    """Create a file under a unique temporary name, locked; return its descriptor and name."""
    while True:
        name = _unique_name(target)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _lock(descriptor)
        if os.path.lexists(name):
            return descriptor, name
        os.close(descriptor)  # another run took it for a leftover before it was locked


def _lock(descriptor: int) -> None:
    """Say that a temporary file is in use, until its last descriptor is closed."""
    with suppress(OSError):  # where there are no locks, nobody takes it for a leftover either
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_leftovers(target: Path) -> None:
    """Remove what dead runs left of an output: own files, under its temporary names, not locked."""
    ours = re.compile(re.escape(_stem(target)) + r"\.[0-9a-f]{16}\.tmp")
    with suppress(OSError):
        for name in filter(ours.fullmatch, os.listdir(target.parent)):
            with suppress(OSError):
                _remove_unlocked(target.parent / name)


def _remove_unlocked(path: Path) -> None:
    # Neither a link is followed nor a FIFO waited for.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
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
