"""One file from shards: the same rows under the same numbers, and the same answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.building.shard_lists import (
    BY_POSITION,
    append_section,
    begin_section,
    dead_of,
    section_of,
)
from binq.errors import InputError, UsageError
from binq.io.outputs import refuse_inside, refuse_overwrites
from binq.kernels.scan import MAX_ROWS
from binq.storage.directory import IndexDirectory
from binq.storage.downloads import open_index
from binq.storage.format import TYPED_IDS
from binq.storage.ids import write_texts
from binq.storage.manifest import is_shared
from binq.storage.reader import IndexFile
from binq.storage.sections import restore_binarizer, write_tombstones
from binq.storage.uploads import into_stores
from binq.storage.writer import IndexWriter, creation_time, writing_index
from binq.structures.ivf import Ivf
from binq.types import Progress
from binq.version import __version__

# Rows of the lists that are joined at a time; a longer list is joined by itself.
_AT_ONCE: Final = 1 << 18


@dataclass(frozen=True)
class CompactReport:
    """What was written.

    Attributes
    ----------
    rows, shards : int
        ``rows`` with dead ones.
    size : int
        Of the file, in bytes.
    """

    rows: int
    shards: int
    size: int


@into_stores
def compact(
    index: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CompactReport:
    """Make one file of the shards of an index; it appears whole under its name, or not at all.

    Rows keep their numbers, and answers are the same. Every shard is verified before it is copied.

    Parameters
    ----------
    index : path or URI
        A directory of shards.
    output : path or URI
    overwrite : bool
        Replace a file of another kind than an index.
    progress : callable, optional
        Called with (shards done, shards in all).

    Returns
    -------
    CompactReport

    Raises
    ------
    UsageError
        If it is no directory of shards, or of a kind of which no file can be made.
    IndexFileError
        If a shard is missing or damaged.
    InputError
        If a file cannot hold so many rows.
    EnvironmentFailure
        If the file cannot be written.
    """
    refuse_inside(index, {"`output`": output}, called="the index")
    refuse_overwrites({"`output`": (output, "index")}, index, folders=[index], overwrite=overwrite)
    with open_index(index) as shards:
        if isinstance(shards, IndexFile):
            raise UsageError(
                "this index is one file already", os.fspath(index), "a directory of shards"
            )
        header = shards.header
        if header.kind not in ("flat", "ivf"):
            raise UsageError(
                f"shards of kind {header.kind} cannot be joined",
                os.fspath(index),
                "flat or ivf",
                header.kind,
                "build the file from the vectors",
            )
        if header.rows > MAX_ROWS:
            raise InputError(
                "a file cannot hold so many rows", str(index), f"{MAX_ROWS:,}", f"{header.rows:,}"
            )
        with writing_index(output) as writer:
            for number, shard in enumerate(shards.shards):
                _require_whole(shard)
                if progress is not None:
                    progress(number, len(shards.shards))
            _write(shards, writer)
            writer.finish(replace(header, created=creation_time(), binq=__version__))
            shards.require_unchanged()
        return CompactReport(header.rows, len(shards.shards), writer.written_as.file_length)


def _write(index: IndexDirectory, writer: IndexWriter) -> None:
    """Write all sections, in the order in which a build writes them."""
    files, first = index.shards, index.shards[0]
    shared = {name: section for name, section in first.sections.items() if is_shared(name)}
    order = [name for name in first.sections if name.startswith("rescore.")]
    order += [name for name in BY_POSITION[1:] if name in first.sections]
    begin_section(first, writer, "codes")
    for name in order:
        if name in shared:
            _copy(first, writer, name)
        else:
            begin_section(first, writer, name)
            if name.startswith("rescore."):
                for file in files:
                    append_section(file, writer, name)
    _write_ids(index, writer)
    if index.header.kind == "flat":
        for name in BY_POSITION:
            for file in files if name in first.sections else ():
                append_section(file, writer, name)
    else:
        _write_lists(index, writer)
    write_tombstones(writer, np.concatenate([dead_of(file) for file in files]))
    for name in shared:
        if name.startswith("binarizer."):
            _copy(first, writer, name)


def _write_lists(index: IndexDirectory, writer: IndexWriter) -> None:
    """Write centroids, and codes, terms and rows list by list: of every list, shard by shard."""
    files = index.shards
    binarizer = restore_binarizer(files[0])
    lists = [Ivf.restore(file, binarizer) for file in files]
    sizes = np.array([shard.sizes for shard in lists])
    starts = np.concatenate([np.zeros((len(files), 1), np.int64), np.cumsum(sizes, axis=1)], axis=1)
    _copy(files[0], writer, "ivf.centroids")
    ends = np.concatenate([[0], np.cumsum(sizes.sum(axis=0))])
    writer.add("ivf.offsets", ends.astype(np.uint64))
    writer.section("ivf.rows", np.uint32)
    names = [name for name in BY_POSITION if name in files[0].sections]
    arrays = {name: [section_of(file, name) for file in files] for name in names}
    for low, high in _runs(ends):
        spans = [slice(*starts[number, [low, high]]) for number in range(len(files))]
        parts = [np.repeat(np.arange(low, high), sizes[i, low:high]) for i in range(len(files))]
        # Stable: within a list shards stand in the order of their rows, and rows in theirs.
        order = np.argsort(np.concatenate(parts), kind="stable")
        for name in names:
            joined = [array[span] for array, span in zip(arrays[name], spans, strict=True)]
            writer.append(name, np.concatenate(joined)[order])
        rows = [
            shard.lists.rows[span].astype(np.int64) + first
            for shard, span, first in zip(lists, spans, index.firsts, strict=False)
        ]
        writer.append("ivf.rows", np.concatenate(rows)[order].astype(np.uint32))


def _runs(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield runs of lists that hold few enough rows to be joined at once."""
    low = 0
    while low < len(ends) - 1:
        high = int(np.searchsorted(ends, ends[low] + _AT_ONCE, side="right")) - 1
        high = max(low + 1, high)
        yield low, high
        low = high


def _write_ids(index: IndexDirectory, writer: IndexWriter) -> None:
    kind, ids = index.header.ids, index.ids()
    if ids is not None and kind == "strings":
        write_texts(writer, ids)
    elif kind in TYPED_IDS:
        writer.section(f"ids.{kind}", kind)
        for file in index.shards:
            own = np.zeros(file.header.rows, kind)  # of dead rows alone
            if file.header.ids in TYPED_IDS:
                own = section_of(file, f"ids.{file.header.ids}").astype(kind)
            writer.append(f"ids.{kind}", own)


def _require_whole(shard: IndexFile) -> None:
    """Refuse to copy damage, which would have checksums that fit from then on."""
    damaged = shard.verify()
    if damaged:
        raise shard.corrupt(
            f"section {damaged[0].section} at byte {damaged[0].offset}",
            "matching checksums",
            f"{len(damaged)} damaged chunks",
        )


def _copy(file: IndexFile, writer: IndexWriter, name: str) -> None:
    begin_section(file, writer, name)
    append_section(file, writer, name)
