"""Opening whatever the user names as one source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, BinaryIO, cast

import numpy as np

from binq.errors import InputError, UsageError
from binq.io.objects import StoreObject, open_binary
from binq.io.paths import Format, detect, expand, named, opening, refuse_in_pipe
from binq.io.streams import ByteStream
from binq.types import ON_ERROR, OnError, Packed, Vectors
from binq.vectors.arrays import open_arrays
from binq.vectors.decoding import ReadOptions
from binq.vectors.documents import HEAD, refuse_document
from binq.vectors.groups import DecodedGroups
from binq.vectors.npy import NpyStream, from_array, open_npy
from binq.vectors.source import ShardedSource, VectorSource

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_vectors(
    paths: Paths | Vectors,
    *,
    column: str | None = None,
    id_column: str | None = None,
    packed: Packed | None = None,
    bits: int | None = None,
    dims: tuple[int, ...] = (),
    every_line: bool = False,
    on_error: OnError | None = None,
    stdin: BinaryIO | None = None,
) -> VectorSource:
    """Open one or more paths, globs, directories or URIs, standard input, or arrays.

    Parameters
    ----------
    paths : path, sequence of paths, (n, dim) array, or iterable of (m, dim) arrays
        ``-`` is standard input and stands alone. Explicit paths keep their order; the files of a
        glob or directory are sorted with numbers by value. ``s3://BUCKET/KEY`` and ``gs://…`` name
        an object of a store, or all objects right under a prefix. An iterable begins again with
        each pass, see `ArraysSource`.
    column, id_column, packed, bits, dims, every_line
        See `ReadOptions`.
    on_error : {"stop", "skip"}, optional
        What a row that cannot be used does, see `VectorSource.batches`; None: it stops whoever
        reads, who has no choice.
    stdin : binary file, optional
        Stands in for the process's standard input.

    Returns
    -------
    VectorSource

    Raises
    ------
    UsageError
        If options contradict one another.
    InputError
        If a path leads nowhere, or what it leads to cannot be used.
    EnvironmentFailure
        If a file may not be read.
    """
    if on_error not in (None, *ON_ERROR):
        raise UsageError("no such way", "`on_error`", " or ".join(ON_ERROR), str(on_error))
    options = ReadOptions(column, id_column, packed, bits, dims, every_line)
    source = _open(paths, options, stdin)
    source.on_error = on_error
    return source


def has_columns(paths: Paths | Vectors) -> bool:
    """Whether vectors come with columns, whose names can be chosen, as far as files tell.

    Not those of arrays, nor of npy files and the like. What cannot be told before it is read, a
    stream, is taken to have them.
    """
    if not isinstance(paths, (str, os.PathLike, list, tuple)):
        return False
    names = named(paths, "vectors")
    if names == ["-"]:
        return True
    kinds: set[Format] = {"parquet", "arrow", "arrow-stream", "jsonl", "pipe"}
    try:
        return any(detect(path) in kinds for path in expand(names))
    except InputError:
        return True  # whoever opens it says what is wrong


def _open(paths: Paths | Vectors, options: ReadOptions, stdin: BinaryIO | None) -> VectorSource:
    if not isinstance(paths, (str, os.PathLike, list, tuple)):
        found = _open_arrays(paths, options)
        if found is not None:
            if options.column is not None or options.id_column is not None:
                raise UsageError(
                    "an array has no columns", found.name, next_step="drop the column names"
                )
            return found
    names = named(cast("Paths", paths), "vectors")  # it refuses what are none
    if names == ["-"]:
        return _open_stream(ByteStream.of_stdin(stdin), options)
    groups = DecodedGroups()
    sources = [_open_file(path, options, groups) for path in expand(names)]
    return sources[0] if len(sources) == 1 else ShardedSource(sources)


def _open_arrays(given: Any, options: ReadOptions) -> VectorSource | None:
    """Open one array or several; None where it is something else."""
    if isinstance(given, np.ndarray):
        return from_array(given, options)
    return open_arrays(given, options) if isinstance(given, Iterable) else None


def _open_file(path: str, options: ReadOptions, groups: DecodedGroups) -> VectorSource:
    try:
        kind = detect(path)
    except InputError:
        from binq.vectors.frames import refuse_csv

        refuse_csv(path)
        raise
    if kind == "pipe":
        return _open_stream(ByteStream.of_path(path), options)
    if kind == "jsonl":
        from binq.vectors.jsonl import JsonlSource

        with opening(path), open_binary(path) as file:
            refuse_document(file.read(HEAD), path, None if isinstance(path, StoreObject) else path)
        return JsonlSource(path, partial(ByteStream.of_path, path), path, options)
    if kind == "parquet" or kind == "arrow" or kind == "arrow-stream":
        from binq.vectors.columnar import open_columnar

        return open_columnar(path, kind, options, groups)
    options.refuse_columns(path)
    if kind == "npy":
        return open_npy(path, options)
    from binq.vectors.texmex import open_texmex

    return open_texmex(path, kind, options)


def _open_stream(stream: ByteStream, options: ReadOptions) -> VectorSource:
    head = stream.peek()
    if head[:1] == b"\x93":
        options.refuse_columns(stream.name)
        return NpyStream(stream, options)
    refuse_in_pipe(head, stream.name, "jsonl or npy")
    refuse_document(head, stream.name, None)
    from binq.vectors.jsonl import JsonlSource

    return JsonlSource(stream.name, lambda: stream, None, options)
