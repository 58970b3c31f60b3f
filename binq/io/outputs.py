"""Outputs that would destroy something, refused before anything is done.

An output may be neither an input nor another output, by whatever name: files are told apart by
device and inode. What stands under its name may be replaced by a file of the same kind; by one of
another kind only if that is asked for. Kinds are told by first bytes, whatever the name.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, TypeAlias, TypeVar

from binq.errors import BinqError, UsageError
from binq.io.atomic import require_local
from binq.io.objects import StoreObject
from binq.io.paths import expand
from binq.io.stores import FILES, is_uri, locate

Content = Literal[
    "index",
    "npy",
    "npz",
    "binarizer",
    "kept neighbours",
    "parquet",
    "arrow",
    "jsonl",
    "text",
    "html",
    "png",
    "svg",
    "pdf",
    "checkpoint",
]
Outputs: TypeAlias = "Mapping[str, tuple[str | os.PathLike[str] | None, Content | None]]"
"""By what messages call it: where an output goes and what it will hold. The path is None for one
that is not wanted, ``-`` for stdout; the content None for that, and for what is never replaced."""

_Format = TypeVar("_Format")
_MAGIC: Final[tuple[tuple[bytes, Content], ...]] = (
    (rb"\x89BINQ", "index"),
    (rb"\x93NUMPY", "npy"),
    # A zip archive names its first member at byte 30: these are the ones that binq writes.
    (rb"PK\x03\x04.{26}settings\.npy", "binarizer"),
    (rb"PK\x03\x04.{26}key\.npy", "kept neighbours"),
    (rb"PK\x03\x04", "npz"),
    (rb"PAR1", "parquet"),
    (rb"ARROW1|\xff{4}", "arrow"),
    (rb"\x89PNG", "png"),
    (rb"%PDF-", "pdf"),
    (rb"SQLite format 3\0", "checkpoint"),
    (rb"(?i:\s*<(!doctype )?html\b)", "html"),
    (rb"(?i:\s*<(\?xml.{,500}?<(!doctype )?)?svg\b)", "svg"),
    (rb"(\xef\xbb\xbf)?\s*(\{\s*[\"}]|\[\s*[-\d.])", "jsonl"),
)
_HEAD: Final = 4096


def by_suffix(
    output: str | os.PathLike[str], known: Mapping[str, _Format], next_step: str = ""
) -> _Format:
    """Return the format that the suffix of an output stands for.

    Raises
    ------
    UsageError
        If it stands for none, or is a URI.
    """
    require_local(output)
    suffix = os.path.splitext(output)[1].lower()
    if suffix not in known:
        what, got = "the suffix of the output says no format", suffix or "none"
        raise UsageError(what, os.fspath(output), ", ".join(known), got, next_step)
    return known[suffix]


def refuse_overwrites(
    outputs: Outputs,
    *inputs: object,
    folders: Sequence[str | os.PathLike[str] | None] = (),
    overwrite: bool = False,
) -> None:
    """Refuse outputs that are inputs or one another, or replace a file of another kind.

    Parameters
    ----------
    outputs : mapping of str to (path or None, content or None)
    *inputs : path, sequence of paths, array or None
        Paths may be globs, directories of vector files, and ``-``; a mapped array is its file. What
        is no path, or leads nowhere, is passed over.
    folders : sequence of paths
        Every file in these directories is an input; of a published index, named by its URI, every
        file beside the pointer to them.
    overwrite : bool
        Whether files of other kinds may be replaced.

    Raises
    ------
    UsageError
    """
    wanted = {name: (os.fspath(path), kind) for name, (path, kind) in outputs.items() if path}
    places: dict[object, str] = {}
    for name, (path, kind) in wanted.items():
        if path == "-" and kind is not None:
            raise UsageError(f"{name} cannot go to stdout", path, "the name of a file")
        other = places.setdefault(_place(path), name)
        if other != name:
            raise UsageError(f"{other} and {name} are one file", path, next_step=_ANOTHER)
    there = {name: found for name, (path, _) in wanted.items() if (found := _output_at(path))}
    if not there:
        return
    above = [found for folder in folders if folder and (found := _folder(folder))]
    for name, found in there.items():
        path, kind = wanted[name]
        for source, read in _files(inputs):
            if os.path.samestat(read, found):
                raise _is_input(name, path, source)
        if path == "-":
            continue
        for parent in _parents(path):
            if any(os.path.samestat(parent, folder) for folder in above):
                raise _is_input(name, path, path)
        if kind is not None and found.st_size and not overwrite:
            _refuse_other_kind(path, kind)


def refuse_inside(
    directory: str | os.PathLike[str],
    outputs: Mapping[str, object],
    *inputs: object,
    called: str = "`output`",
) -> None:
    """Refuse an output that is a directory or lies in it, and a directory that holds an input.

    Parameters
    ----------
    directory : path
    outputs : mapping of str to path or None
        Other outputs, by what messages call them.
    *inputs
        As of :func:`refuse_overwrites`.
    called : str
        What messages call the directory.

    Raises
    ------
    UsageError
    """
    if os.fspath(directory) == "-":
        raise UsageError("`output` cannot go to stdout", "-", "the name of a directory")
    within = os.path.join(os.path.realpath(directory), "")
    for name, path in outputs.items():
        if not isinstance(path, (str, os.PathLike)):
            continue
        place = os.path.join(os.path.realpath(path), "")
        if place == within:
            raise UsageError(f"{name} would replace {called}", os.fspath(path), next_step=_ANOTHER)
        if place.startswith(within):
            raise UsageError(f"{name} lies in {called}", os.fspath(path), next_step=_ANOTHER)
    found = _stat(within, "", stat.S_ISDIR)
    if found is not None:
        for source, _ in _files(inputs):
            if any(os.path.samestat(parent, found) for parent in _parents(source)):
                raise UsageError(f"an input lies in {called}", source, next_step=_ANOTHER)


_ANOTHER: Final = "choose another name"


def _is_input(name: str, path: str, source: str) -> UsageError:
    if path == "-":
        return UsageError("stdout is an input", source, next_step="name a file with `output`")
    where = path if source == path else f"{path}, which is {source}"
    return UsageError(f"{name} would replace an input", where, next_step=_ANOTHER)


def _refuse_other_kind(path: str, kind: Content) -> None:
    try:
        with open(os.path.realpath(path), "rb") as file:
            found = content_of(file.read(_HEAD))
    except OSError:
        found = None
    if found != kind:
        raise UsageError(
            "a file of another kind is there",
            path,
            kind,
            found or "something unknown",
            f"{_ANOTHER}, or use `overwrite`",
        )


def content_of(head: bytes) -> Content | None:
    """Return what a file holds, by its first bytes; None for what binq does not write."""
    for magic, content in _MAGIC:
        if re.match(magic, head, re.DOTALL):
            return content
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    return None if b"\0" in head else "text"


def _place(path: str) -> object:
    """Return what is equal for two paths of one file, whether it is there or not."""
    found = _output_at(path)
    if found is not None:
        return found.st_dev, found.st_ino
    directory, name = os.path.split(os.path.realpath(path))
    above = _stat(directory, "", stat.S_ISDIR)
    return (above.st_dev, above.st_ino, name) if above else (directory, name)


def _output_at(path: str) -> os.stat_result | None:
    """Return the status of the file that an output would replace; None where there is none.

    ``v.npy/`` leads nowhere, and so does what lies behind ``v.npy/..``; but such names are resolved
    by then, and are those of a file.
    """
    found = _stat(path, "stdout")
    return found if found or path == "-" else _stat(os.path.realpath(path), "")


def _stat(
    path: str | os.PathLike[str], stream: str, wanted: object = stat.S_ISREG
) -> os.stat_result | None:
    """Return the status of a file, ``-`` being a standard stream; None where there is none."""
    with suppress(OSError, ValueError, AttributeError):
        named: str | os.PathLike[str] | int = path
        if stream and path == "-":
            named = getattr(sys, stream).fileno()
        found = os.stat(named)
        if wanted(found.st_mode):  # type: ignore[operator]
            return found
    return None


def _folder(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return the status of a directory, or of that where a published index has its files."""
    with suppress(BinqError):
        if is_uri(path):
            location = locate(path)
            path = location.path + FILES if location.scheme == "file" else os.devnull
    return _stat(path, "", stat.S_ISDIR)


def _files(given: object) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files that inputs name."""
    if isinstance(given, (list, tuple)):
        for part in given:
            yield from _files(part)
        return
    given = getattr(given, "filename", given)  # of a mapped array
    if not isinstance(given, (str, os.PathLike)):
        return
    path = os.fspath(given)
    if not isinstance(path, str):
        return
    with suppress(BinqError):
        if is_uri(path) and locate(path).scheme != "file":
            return  # no output takes the place of an object but an index, which sees to that itself
        for name in ["-"] if path == "-" else expand([path]):
            name = name.location.path if isinstance(name, StoreObject) else name
            found = _stat(name, "stdin")
            if found is not None:
                yield name, found


def _parents(path: str) -> Iterator[os.stat_result]:
    """Yield the directories in which a file lies."""
    path = os.path.realpath(path)
    while (above := os.path.dirname(path)) != path:
        path = above
        found = _stat(path, "", stat.S_ISDIR)
        if found is not None:
            yield found
