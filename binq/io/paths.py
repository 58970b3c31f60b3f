"""From what the user names to files in order, and what each file is."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.io.objects import StoreObject, find, open_binary
from binq.io.stores import is_uri

Format = Literal[
    "npy", "parquet", "arrow", "arrow-stream", "jsonl", "fvecs", "bvecs", "fbin", "u8bin", "pipe"
]

_MAGIC: Final[tuple[tuple[bytes, Format], ...]] = (
    (b"\x93NUMPY", "npy"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow-stream"),
)
_BY_SUFFIX: Final[dict[str, Format]] = {
    ".fvecs": "fvecs",
    ".bvecs": "bvecs",
    ".fbin": "fbin",
    ".u8bin": "u8bin",
}
_SUFFIXES: Final = {
    *_BY_SUFFIX,
    *(".npy", ".parquet", ".pq", ".arrow", ".arrows", ".ipc", ".feather", ".jsonl", ".ndjson"),
}
_FORMATS: Final = "npy, Parquet, Arrow, jsonl, fvecs, bvecs, fbin or u8bin"


@contextmanager
def opening(path: str) -> Iterator[None]:
    """Turn what the system says about ``path`` into binq's exceptions.

    Raises
    ------
    InputError
        If the file does not exist or is a directory.
    EnvironmentFailure
        If it may not be read, or reading fails.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("no such file", path, next_step="check the path") from None
    except IsADirectoryError:
        raise InputError("not a file but a directory", path) from None
    except (InputError, EnvironmentFailure):
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EnvironmentFailure("cannot read", path, got=reason) from error


def natural_key(path: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sorting key under which ``shard-2`` stands before ``shard-10``."""
    parts = re.split(r"([0-9]+)", path)
    return tuple(
        (1, int(part), part) if odd else (0, 0, part)
        for odd, part in ((i % 2, part) for i, part in enumerate(parts))
    )


def named(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], what: str) -> list[str]:
    """Return one path or several as a list, in which ``-``, standard input, stands alone.

    Raises
    ------
    UsageError
        If there is none, others stand beside ``-``, or what is given are no paths.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    if not isinstance(several, (list, tuple)) or not all(
        isinstance(path, (str, os.PathLike)) for path in several
    ):
        raise _no_paths(paths, what)
    names = [os.fspath(path) for path in several]
    if not names:
        raise UsageError(f"no {what} are named", expected="a path, or - for standard input")
    if "-" in names and len(names) > 1:
        raise UsageError("standard input stands alone", "-", "no other paths")
    return names


def _no_paths(given: Any, what: str) -> UsageError:
    """Return the error of what are neither paths nor an array, such as a frame of pandas."""
    kind = type(given)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__.partition('.')[0]}.{name}"
    expected = "a path or a list of paths"
    advice = "write them to a file"
    if what == "vectors":
        expected = "a path, a list of paths or a 2-D numpy array"
        advice = "give numpy.stack(vectors)"
        if hasattr(given, "columns"):
            advice = (
                "give numpy.stack(df['embedding']), or df.to_numpy() where every dimension is a "
                "column, or write Parquet, which keeps the ids"
            )
    return UsageError(f"{what} cannot be taken from this", "", expected, name, advice)


def expand(paths: Sequence[str]) -> list[str]:
    """Turn paths, globs and directories into files, and URIs into objects of a store.

    Explicit paths keep their order; the files of a glob or of a directory, and the objects under a
    prefix, are sorted by ``natural_key``. An existing path is never taken for a glob.

    Raises
    ------
    InputError
        If a path does not exist, a glob matches nothing, or a directory holds no vector file.
    EnvironmentFailure
        If a store cannot be asked.
    """
    files: list[str] = []
    for path in paths:
        if is_uri(path):
            files += _objects(path)
            continue
        if os.path.lexists(path) or not glob.has_magic(path):
            files += _files(path)
            continue
        matches = sorted(glob.glob(path, recursive=True), key=natural_key)
        if not matches:
            raise InputError("no file matches", path, next_step="check the pattern")
        for match in matches:
            files += _files(match)
    return files


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    with opening(path):
        inside = sorted(os.listdir(path), key=natural_key)
    files = [
        full
        for full in (os.path.join(path, name) for name in inside if name[0] not in "._")
        if os.path.isfile(full) and _is_vector_file(full)
    ]
    if not files:
        raise InputError("no vector files in the directory", path, _FORMATS)
    return files


def _objects(uri: str) -> list[str]:
    """Return the object that a URI names, or the vector files under a prefix or of a pattern."""
    found = find(uri, pattern=True)
    if isinstance(found, StoreObject):
        return [found]
    files: list[str] = [
        each
        for each in sorted(found, key=natural_key)
        if os.path.basename(each)[0] not in "._" and _is_vector_file(each)
    ]
    if not files:
        raise InputError("no vector files under the URI", uri.partition("?")[0], _FORMATS)
    return files


def _is_vector_file(path: str) -> bool:
    if os.path.splitext(path)[1].lower() in _SUFFIXES:
        return True
    return format_of(_head(path)) is not None


def format_of(head: bytes) -> Format | None:
    """Return the format that the first bytes of a file tell; None for text and what bears none."""
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def detect(path: str) -> Format:
    """Return the format of a file: by its first bytes, else by its suffix.

    Raises
    ------
    InputError
        If it is missing, empty without a telling suffix, or of no format that binq reads.
    EnvironmentFailure
        If it may not be read.
    """
    suffix = os.path.splitext(path)[1].lower()
    with opening(path):
        if not isinstance(path, StoreObject):
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return "pipe"
        head = _head(path)
    kind = format_of(head)
    if kind is not None:
        return kind
    # A suffix goes before a look at text: an fvecs file of 123 dims begins with "{".
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"["):
        return "jsonl"
    _refuse_compressed(head, path)
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"  # of which the first line may be one that cannot be used
    if not head:
        raise InputError("the file is empty", path, _FORMATS)
    raise InputError("not a format that binq reads", path, _FORMATS)


def refuse_in_pipe(head: bytes, name: str, instead: str = "") -> None:
    """Refuse what cannot be read forward only, given its first bytes.

    Raises
    ------
    InputError
        If they are those of Parquet, Arrow or gzip, or of fvecs, fbin and the like.
    """
    if format_of(head) in ("parquet", "arrow"):
        raise InputError(
            "Parquet and Arrow cannot be read from a pipe",
            name,
            instead,
            next_step="give the file by its path",
        )
    _refuse_compressed(head, name)
    # These begin with counts of 32 bits, the dimension among them, which is below 2^16.
    if head[2:4] == b"\0\0" or (head[3:4] == b"\0" and head[6:8] == b"\0\0"):
        raise InputError(
            "not a format that can be read from a pipe",
            name,
            instead,
            "binary data",
            "give the file by its path",
        )


def _refuse_compressed(head: bytes, name: str) -> None:
    if head.startswith(b"\x1f\x8b"):
        raise InputError(
            "the file is compressed",
            name,
            next_step="decompress it into binq: zcat FILE | binq … -",
        )


def _head(path: str) -> bytes:
    with opening(path), open_binary(path) as file:
        return file.read(4096)
