"""Writing a directory of shards: files first, under their UUIDs, then the manifest that names them.

Whoever reads sees the manifest that was there, or the new one. Writers hold a shared lock on the
directory; only who can have it alone removes files: its own where it failed, and others, before it
begins and once it is done, that no manifest has named for ten minutes. Those are shards of an index
before, which searches by other processes may be about to open, and what a killed build left.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from binq.errors import BinqError, EnvironmentFailure, IndexFileError, UsageError
from binq.io.atomic import atomic_write, failures_named, sync_directory
from binq.storage.manifest import LIMIT, NAME, Manifest, Shard, name_of, uuid_in
from binq.storage.reader import IndexFile, open_regular
from binq.storage.writer import IndexWriter, writing_index

GRACE_SECONDS: Final = 600.0
"""For how long no manifest has named a file that is removed."""
_SHARD: Final = "shard"
_UNFINISHED: Final = (_SHARD, "lists", NAME)
_TEMPORARY = re.compile(rf"\.({'|'.join(map(re.escape, _UNFINISHED))})\.[0-9a-f]{{16}}\.tmp")
_OURS: Final = b'"binq.shards/'


class DirectoryWriter:
    """Writes shards, and at last the manifest; made by :func:`writing_directory`.

    Attributes
    ----------
    path : Path
        The directory.
    written : set of str
        Names of the files that were written.
    helped : bool
        Whether other processes write shards for this one: some may have died, or have written what
        nobody waited for, so that all new files are its own.
    replaced_index : set of str
        Names of the files of the index that another was published in place of.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: set[str] = set()
        self.helped = False
        self.replaced_index: set[str] = set()
        self._before = set(os.listdir(path))

    def wrote(self, shard: Shard) -> None:
        """Take note of a shard that was written for this directory."""
        self.written.add(name_of(shard.uuid))

    @property
    def own(self) -> set[str]:
        """Names of all files that were written for this index, as far as they are known."""
        return self.written | (set(os.listdir(self.path)) - self._before if self.helped else set())

    def replaced(self, shard: Shard, by: Shard) -> None:
        """Remove a shard that was written, since another holds its rows."""
        self.wrote(by)
        name = name_of(shard.uuid)
        if name not in (_named(self.path) or {name}):
            with suppress(OSError):
                os.unlink(self.path / name)

    def publish(self, manifest: Manifest) -> int:
        """Make shards that are there the index, in place of what the directory held.

        Returns
        -------
        int
            The bytes of the index.

        Raises
        ------
        InputError
            If they are too many.
        EnvironmentFailure
            If the manifest cannot be written, or a shard is gone: the old one is still there.
        """
        encoded = manifest.encode()
        for shard in manifest.shards:
            self._require(shard)
        self.replaced_index = _named(self.path) or set()
        _mark(self.path, self.replaced_index - {name_of(shard.uuid) for shard in manifest.shards})
        with atomic_write(self.path / NAME) as file:
            file.write(encoded)
        return len(encoded) + sum(shard.length for shard in manifest.shards)

    def _require(self, shard: Shard) -> None:
        """Refuse to name a shard that is gone, as where machines do not share their locks."""
        path = self.path / name_of(shard.uuid)
        with suppress(OSError):
            if os.stat(path).st_size == shard.length:
                return
        raise EnvironmentFailure(
            "a shard is gone that was just written",
            str(path),
            next_step="have one machine at a time build into a directory",
        )


@contextmanager
def writing_shard(directory: str | os.PathLike[str]) -> Iterator[IndexWriter]:
    """Write a file that appears in a directory under the name of its UUID.

    It is nobody's until a manifest names it. See :func:`binq.storage.writer.writing_index`.
    """
    given: list[str] = []

    def named(uuid: bytes) -> str:
        given.append(name_of(uuid))
        return given[0]

    try:
        with writing_index(os.path.join(directory, _SHARD), named) as writer:
            yield writer
    except BaseException:
        # It has its name already where only the last sync failed; so may a file of equal bytes.
        known = _named(Path(directory))
        for name in given:
            if known is not None and name not in known:
                with suppress(OSError):
                    os.unlink(os.path.join(directory, name))
        raise


@contextmanager
def writing_directory(path: str | os.PathLike[str]) -> Iterator[DirectoryWriter]:
    """Write shards into a directory, which is made if need be; the block is to publish them.

    After any failure the index is what it was.

    Raises
    ------
    UsageError
        If something else is there.
    EnvironmentFailure
        If the directory cannot be made or written to.
    """
    target = Path(os.path.realpath(path))
    descriptor, made = _entered(target, path)
    writer = DirectoryWriter(target)
    try:
        yield writer
    except BinqError as error:
        error.where = _as_given(error.where, target, path)
        raise
    finally:
        # A file system without locks keeps what nobody names.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _collect(target, writer.own, writer.replaced_index)
            if made:
                os.rmdir(target)  # where nothing is in it
        os.close(descriptor)


def _as_given(where: str, target: Path, path: str | os.PathLike[str]) -> str:
    """Return the place that an error names, in the directory as the user called it.

    Files that are not there yet have no name that a user would know.
    """
    within, _, name = where.partition(os.path.join(target, ""))
    if within or not name:
        return where
    return os.fspath(path) if name in _UNFINISHED else os.path.join(path, name)


def refuse_other_things(path: str | os.PathLike[str]) -> None:
    """Refuse to write shards where something is that is none.

    Raises
    ------
    UsageError
    """
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(
            "shards go into a directory", os.fspath(path), "a directory", "a file", _ANOTHER
        ) from None
    except OSError:
        return  # said when it is written to
    if NAME in names:
        with suppress(OSError, IndexFileError):
            # Through a link the manifest of another index would be replaced.
            linked = os.path.islink(os.path.join(path, NAME))
            if not linked and _OURS in _manifest_in(Path(path)):
                return
        names = [NAME]
    for name in sorted(names):
        if name == NAME or not (uuid_in(name) or _TEMPORARY.fullmatch(name)):
            raise UsageError(
                "the directory holds other things than shards",
                os.path.join(path, name),
                f"an empty directory, or one with a {NAME} of binq",
                "",
                _ANOTHER,
            )


_ANOTHER: Final = "choose another name"


def _entered(target: Path, path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Make a directory if need be, open and lock it; return its descriptor, and whether made."""
    with failures_named(path):
        while True:
            made = False
            if not target.parent.is_dir():
                step = f"create {target.parent} first"
                raise EnvironmentFailure(
                    "cannot write", os.fspath(path), "a directory", "no such directory", step
                )
            refuse_other_things(target)
            with suppress(FileExistsError):
                os.mkdir(target)
                made = True
                sync_directory(target.parent)
            descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not made:
                # What builds before it left makes room for this one.
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _collect(target)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            # A run that failed may have removed it before it was locked.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(target)):
                    return descriptor, made
            os.close(descriptor)


def _named(directory: Path) -> set[str] | None:
    """Return the files that the manifest names; None where it cannot be read."""
    try:
        data = _manifest_in(directory)
        return {name_of(shard.uuid) for shard in Manifest.decode(data).shards}
    except (OSError, IndexFileError):
        return None if os.path.lexists(directory / NAME) else set()


def _manifest_in(directory: Path) -> bytes:
    """Return the manifest that is there, no more of it than one may have.

    Raises
    ------
    IndexFileError, OSError
        If it is no regular file, or cannot be read; a pipe is not waited for.
    """
    with open(open_regular(directory / NAME), "rb") as file:
        return file.read(LIMIT + 1)


def _mark(directory: Path, names: set[str]) -> None:
    """Note on files that will no longer be named when that was: their status is changed now."""
    for name in names:
        with suppress(OSError):
            # Neither contents nor time of the last write: readers would take that for damage.
            os.chmod(directory / name, stat.S_IMODE(os.stat(directory / name).st_mode))


def _collect(directory: Path, own: Collection[str] = (), replaced: Collection[str] = ()) -> None:
    """Remove files that no manifest names: one's own, and others that long."""
    named = _named(directory)
    if named is None:
        return
    for name in os.listdir(directory):
        unfinished = name in own and _TEMPORARY.fullmatch(name)
        if name in named or name in replaced or not (uuid_in(name) or unfinished):
            continue
        with suppress(OSError):
            idle = time.time() - os.stat(directory / name, follow_symlinks=False).st_ctime
            if name in own or (idle > GRACE_SECONDS and _is_shard(directory / name)):
                os.unlink(directory / name)


def unnamed(directory: Path) -> tuple[int, int]:
    """Return how many shards lie there that the manifest does not name, and their bytes."""
    named = _named(directory)
    sizes = []
    for name in os.listdir(directory) if named is not None else ():
        if uuid_in(name) and name not in (named or ()):
            with suppress(OSError):
                sizes.append(os.stat(directory / name, follow_symlinks=False).st_size)
    return len(sizes), sum(sizes)


def _is_shard(path: Path) -> bool:
    """Return whether a file is a shard; other indexes, as in a store, have such names too."""
    try:
        with IndexFile(path) as file:
            return not path.is_symlink() and file.header.shard is not None
    except (IndexFileError, EnvironmentFailure):
        return False
