"""Opening whatever the user names as one source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError, UsageError
from binq.io.paths import detect, expand
from binq.io.streams import ByteStream
from binq.vectors.blocks import BlockCache
from binq.vectors.decoding import Packed, check_options
from binq.vectors.jsonl import JsonlSource
from binq.vectors.npy import NpyStream, from_array, open_npy
from binq.vectors.source import ShardedSource, VectorSource
from binq.vectors.texmex import open_texmex

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_vectors(
    paths: Paths | NDArray[Any],
    *,
    column: str | None = None,
    id_column: str | None = None,
    packed: Packed = None,
    bits: int | None = None,
    stdin: BinaryIO | None = None,
) -> VectorSource:
    """Open one or more paths, globs or directories, standard input, or an array.

    Parameters
    ----------
    paths : path, sequence of paths, or (n, dim) array
        ``-`` is standard input and stands alone. Explicit paths keep their order; the files of a
        glob or directory are sorted with numbers by value.
    column, id_column : str, optional
        Vector and id column of Parquet and Arrow, or their keys in jsonl; found where unset.
    packed : {"none", "ubinary", "binary", "lsb"}, optional
        What 8-bit data are: numbers, or bits in one of the layouts.
    bits : int, optional
        True width of packed codes; 8 bits a byte by default.
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
    check_options(packed, bits)
    if isinstance(paths, np.ndarray):
        if column is not None or id_column is not None:
            raise UsageError("an array has no columns", "array", next_step="drop the column names")
        return from_array(paths, packed, bits)
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    names = [os.fspath(path) for path in paths]
    if not names:
        raise UsageError("no vectors are named", expected="a path, or - for standard input")
    if "-" in names:
        if len(names) > 1:
            raise UsageError("standard input stands alone", "-", "no other paths")
        return _open_stream(ByteStream.of_stdin(stdin), column, id_column, packed, bits)
    files = expand(names)
    cache = BlockCache()
    sources = [
        _open_file(path, column=column, id_column=id_column, packed=packed, bits=bits, cache=cache)
        for path in files
    ]
    return sources[0] if len(sources) == 1 else ShardedSource(sources)


def _open_file(
    path: str,
    *,
    column: str | None,
    id_column: str | None,
    packed: Packed,
    bits: int | None,
    cache: BlockCache,
) -> VectorSource:
    kind = detect(path)
    if kind == "pipe":
        return _open_stream(ByteStream.of_path(path), column, id_column, packed, bits)
    if kind == "jsonl":
        return JsonlSource(
            path,
            partial(ByteStream.of_path, path),
            path,
            column=column,
            id_column=id_column,
            packed=packed,
            bits=bits,
        )
    if kind == "parquet" or kind == "arrow" or kind == "arrow-stream":
        from binq.vectors.columnar import open_columnar

        return open_columnar(
            path,
            kind,
            column=column,
            id_column=id_column,
            packed=packed,
            bits=bits,
            cache=cache,
        )
    _refuse_columns(path, column, id_column)
    if kind == "npy":
        return open_npy(path, packed, bits)
    return open_texmex(path, kind, packed, bits)


def _open_stream(
    stream: ByteStream,
    column: str | None,
    id_column: str | None,
    packed: Packed,
    bits: int | None,
) -> VectorSource:
    head = stream.peek()
    if head[:1] == b"\x93":
        _refuse_columns(stream.name, column, id_column)
        return NpyStream(stream, packed, bits)
    if head.startswith((b"PAR1", b"ARROW1")):
        raise InputError(
            "Parquet and Arrow cannot be read from a pipe",
            stream.name,
            "jsonl or npy",
            next_step="give the file by its path",
        )
    return JsonlSource(
        stream.name,
        lambda: stream,
        None,
        column=column,
        id_column=id_column,
        packed=packed,
        bits=bits,
    )


def _refuse_columns(where: str, column: str | None, id_column: str | None) -> None:
    """Refuse column names for formats without columns.

    Raises
    ------
    InputError
        If one is given.
    """
    if column is not None or id_column is not None:
        raise InputError(
            "the format has no columns", where, next_step="drop `column` and `id_column`"
        )
