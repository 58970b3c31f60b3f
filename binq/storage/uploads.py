"""Publishing an index in an object store: its file first, then the small object that points to it.

Whoever reads sees the index that was there, or the new one. Files that neither the pointer nor the
one before it names are removed by a later publication, once they are an hour old.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from binq.errors import (
    BinqError,
    EnvironmentFailure,
    IndexFileError,
    InputError,
    UsageError,
    index_changed,
)
from binq.io.objects import StoreObject
from binq.io.outputs import Outputs, content_of, refuse_inside, refuse_overwrites
from binq.io.paths import expand
from binq.io.stores import FILES, Location, is_uri, locate
from binq.io.transfers import Transfers
from binq.storage.directory import IndexDirectory, open_stored
from binq.storage.downloads import read_pointer
from binq.storage.manifest import NAME as MANIFEST
from binq.storage.manifest import uuid_in
from binq.storage.pointer import Entry, Pointer

_PART: Final = 8 << 20
_HEAD: Final = 1 << 12
GRACE_SECONDS: Final = 3600.0
"""How old a file must be that a publication removes."""
_SCRATCH: Final = "binq-publishing-"
_CLEANING: Final = 1.0
_LARGE_FILES: Final = "/var/tmp"  # where they belong: /tmp may be memory
_INPUTS: Final = ("vectors", "index", "check_queries")
_OURS: Final = b'"binq.'
_Build = TypeVar("_Build", bound=Callable[..., Any])


@contextmanager
def publishing(
    output: str | os.PathLike[str], *inputs: object, overwrite: bool = False
) -> Iterator[str | os.PathLike[str]]:
    """Yield where to write an index: the output itself, or of a URI a temporary place.

    What is there when the block ends without an error is verified, uploaded and published.

    Parameters
    ----------
    output : path or URI
    *inputs : path, sequence of paths, array or None
        Refused where they name the output.
    overwrite : bool
        Whether an object of another kind may be replaced.

    Raises
    ------
    UsageError
        If what the URI names is an input, or something else than an index.
    EnvironmentFailure
        If the store is at fault: what was published before still is, unless the very last answer
        was lost, which an error then says.
    """
    if not is_uri(output):
        yield output
        return
    location = locate(output)
    location.require_key()
    _refuse_inputs(location, inputs)
    old = _replaced(location, overwrite)
    with _scratch() as folder:
        local = folder / "index.binq"
        yield local
        new = _checked(local)
        for entry in new.files:
            _upload(location, entry, local if new.manifest is None else local / entry.name)
        _write(location, new.encode())
    _collect(location, {entry.name for entry in (*new.files, *old)})


def into_stores(build: _Build) -> _Build:
    """Make a function that writes an index to ``output`` take a URI for that."""
    taken = signature(build)

    @wraps(build)
    def run(*given: Any, **named: Any) -> Any:
        call = taken.bind(*given, **named)
        settings = call.arguments.get("settings", {})
        inputs = (*(call.arguments.get(name) for name in _INPUTS), settings.get("binarizer"))
        overwrite = bool(call.arguments.get("overwrite"))
        _refuse_shards(call.arguments["output"], call.arguments.get("index"))
        _refuse_outputs(call.arguments["output"], settings.get("save_binarizer"))
        with publishing(call.arguments["output"], *inputs, overwrite=overwrite) as place:
            call.arguments["output"] = place
            return build(*call.args, **call.kwargs)

    return cast(_Build, run)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a directory to build in, which is gone when the block ends.

    What a run that was killed left behind, the next one removes.
    """
    fits = os.path.isdir(_LARGE_FILES) and not os.environ.get("TMPDIR")
    above = Path(_LARGE_FILES if fits else tempfile.gettempdir())
    descriptor = -1
    try:
        _remove_leftovers(above)
        folder = above / f"{_SCRATCH}{os.urandom(8).hex()}"
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        with suppress(OSError):  # where there are no locks, nobody takes it for a leftover either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EnvironmentFailure("no place to build in", str(above), got=reason) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_leftovers(above: Path) -> None:
    """Remove directories of this user's dead runs, which are not locked any more."""
    ours = re.compile(rf"{_SCRATCH}[0-9a-f]{{16}}")
    for name in filter(ours.fullmatch, os.listdir(above)):
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(above / name, flags)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(above / name, ignore_errors=True)
            finally:
                os.close(descriptor)


def _checked(local: Path) -> Pointer:
    """Read an index whole, and return what points to it."""
    with open_stored(local) as stored:
        if any(stored.verify()):
            raise index_changed(str(local))
        if isinstance(stored, IndexDirectory):
            return Pointer.of_manifest((local / MANIFEST).read_bytes())
        return Pointer((Entry(stored.uuid, stored.length, stored.header_checksum),))


def _refuse_inputs(location: Location, inputs: object) -> None:
    """Refuse a place of an input, be it named by itself, under a prefix or by a pattern."""
    if location.scheme == "file":
        refuse_overwrites({"index": (location.path, None)}, inputs)
    elif isinstance(inputs, (list, tuple)):
        for part in inputs:
            _refuse_inputs(location, part)
    elif is_uri(inputs):
        given = [locate(str(inputs))]
        with suppress(BinqError):  # said when they are read
            found = expand([str(inputs)])
            given += [each.location for each in found if isinstance(each, StoreObject)]
        if any((each.scheme, each.path) == (location.scheme, location.path) for each in given):
            step = "choose another name"
            raise UsageError("index would replace an input", location.shown, next_step=step)


def _refuse_shards(output: object, index: object) -> None:
    """Refuse the URI of a file among the shards that are read."""
    if isinstance(index, (str, os.PathLike)) and is_uri(output) and not is_uri(index):
        location = locate(cast(str, output))
        if location.scheme == "file":
            refuse_inside(index, {"`output`": location.path}, called="the index")


def _refuse_outputs(output: object, kept: str | os.PathLike[str] | None) -> None:
    """Refuse the URI of a file that is another output."""
    if kept is not None and is_uri(output):
        location = locate(cast(str, output))
        if location.scheme == "file":
            both = {"`output`": (location.path, None), "`save_binarizer`": (kept, None)}
            refuse_overwrites(cast(Outputs, both))


def _replaced(location: Location, overwrite: bool) -> tuple[Entry, ...]:
    """Return the files of the index that is published there, after refusing other things.

    Raises
    ------
    UsageError, EnvironmentFailure
    """
    try:
        file = StoreObject(location).open()
        head = file.read(_HEAD)
    except InputError:
        _require_bucket(location)
        return ()  # nothing is there
    ours = content_of(head) == "index" or (head[:1] == b"{" and _OURS in head)
    if head and not ours and not overwrite:
        raise UsageError(
            "an object of another kind is there",
            location.shown,
            "index",
            content_of(head) or "something unknown",
            "choose another name, or use `overwrite`",
        )
    with suppress(IndexFileError):
        return read_pointer(location).files
    return ()


def _require_bucket(location: Location) -> None:
    """Find out before the work that there is no such bucket; who may not ask is not refused."""
    from pyarrow.fs import FileType

    if location.scheme == "file":
        return
    bucket = location.path.partition("/")[0]
    transfers = Transfers(location.shown)
    found = None
    with suppress(EnvironmentFailure):
        (found,) = transfers.one(lambda: location.filesystem().get_file_info([bucket]))
    if found is not None and found.type == FileType.NotFound:
        step = "make it first"
        raise EnvironmentFailure("there is no such bucket", location.shown, next_step=step)


def _upload(location: Location, entry: Entry, local: Path) -> None:
    """Write a file to its place beside the pointer."""
    target = location.sibling(entry.suffix)
    _write(target, local)
    transfers = Transfers(target.shown)
    (found,) = transfers.one(lambda: target.filesystem().get_file_info([target.path]))
    if found.size != entry.length:
        raise EnvironmentFailure(
            "the store keeps less than it was sent",
            target.shown,
            f"{entry.length} bytes",
            f"{found.size}",
            "try again",
        )


def _write(target: Location, content: bytes | Path) -> None:
    """Write an object, which appears whole under its name.

    After a failure nothing is left that is not whole, as far as the store can still be told so.
    """
    transfers = Transfers(target.shown)
    system = transfers.one(target.filesystem)
    path = target.path
    if target.scheme == "file":  # where a rename does what a store does by itself
        path = f"{target.path}.{os.urandom(8).hex()}.tmp"
        transfers.one(lambda: system.create_dir(os.path.dirname(path), recursive=True))
    stream = transfers.one(lambda: system.open_output_stream(path, compression=None))
    try:
        if isinstance(content, bytes):
            transfers.one(partial(stream.write, content))
        else:
            with open(content, "rb") as file:
                while part := file.read(_PART):
                    transfers.one(partial(stream.write, part))
        transfers.one(stream.close)
        if path != target.path:
            transfers.one(lambda: system.move(path, target.path))
    except BaseException as error:
        if isinstance(content, Path) or path != target.path:
            # Whoever interrupts does not wait for a store.
            _abandon(system, stream, path, _CLEANING if isinstance(error, Exception) else 0.0)
        raise


def _abandon(system: Any, stream: Any, path: str, seconds: float) -> None:
    """Remove what became of an upload, in so many seconds or behind the scenes.

    A stream that is let go of is completed, whatever it holds: nobody points to that, and a later
    publication removes it.
    """

    def clean() -> None:
        with suppress(Exception):
            stream.close()
        with suppress(Exception):
            system.delete_file(path)

    cleaner = threading.Thread(target=clean, daemon=True, name="binq-store-clean")
    cleaner.start()
    cleaner.join(seconds)


def _collect(location: Location, named: set[str]) -> None:
    """Remove old files of an index that no pointer names; that it cannot be done is no error."""
    from pyarrow.fs import FileSelector, FileType

    with suppress(BinqError):
        place = location.sibling(FILES)
        transfers = Transfers(place.shown)
        system = transfers.one(place.filesystem)
        selector = FileSelector(place.path.rstrip("/"), allow_not_found=True)
        before = time.time_ns() - int(1e9 * GRACE_SECONDS)
        old = [
            info.path
            for info in transfers.one(lambda: system.get_file_info(selector))
            if info.type == FileType.File
            and info.base_name not in named
            and uuid_in(info.base_name)
            and (info.mtime_ns or before) < before
        ]
        transfers.several([partial(system.delete_file, path) for path in old])
