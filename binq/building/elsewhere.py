"""Shards built by other processes: each opens the sources and writes one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from binq.building.shard_lists import LaidShard
from binq.building.shards import ShardedRows, ShardPlan, WrittenShard, build_shard
from binq.engines import Engine, Item
from binq.errors import BinqError, UsageError
from binq.io.paths import expand, named
from binq.io.stores import is_uri
from binq.storage.manifest import name_of
from binq.threads import limited
from binq.types import LAYOUTS, EngineName, Packed, Progress, Vectors
from binq.vectors import Batch, VectorSource

_EPOCH: Final = "SOURCE_DATE_EPOCH"
# So many files are looked for before a worker opens any, to say what is wrong in clear words.
_LOOKED_FOR: Final = 100


@dataclass(frozen=True, eq=False)
class BuildTask:
    """Writes shards, in whatever process.

    Attributes
    ----------
    plan : ShardPlan
    vectors : list of str
        Absolute paths, and URIs.
    settings : mapping
        How to read them: what :func:`binq.vectors.open_vectors` is told.
    epoch : str or None
        The time that files are stamped with.
    """

    plan: ShardPlan
    vectors: list[str]
    settings: Mapping[str, Any]
    epoch: str | None

    def __call__(self, rows: tuple[int, int]) -> WrittenShard:
        """Write the shard of rows ``rows[0]`` to ``rows[1]``."""
        with _stamped(self.epoch), limited(self.plan.threads):
            return build_shard(self.plan, *rows, self.vectors, self.settings)


@dataclass(frozen=True, eq=False)
class LayTask:
    """Writes shards again, list by list, in whatever process.

    Attributes
    ----------
    lay : callable
        See :func:`binq.building.shard_lists.lay_shard`; all of it is given but the UUID.
    epoch : str or None
        The time that files are stamped with.
    """

    lay: Callable[[bytes], LaidShard]
    epoch: str | None

    def __call__(self, uuid: bytes) -> LaidShard:
        """Write the shard of a UUID."""
        with _stamped(self.epoch):
            return self.lay(uuid)


@contextmanager
def _stamped(epoch: str | None) -> Iterator[None]:
    """Stamp files inside the block with a time of another process, or with the present one."""
    before = os.environ.pop(_EPOCH, None)
    if epoch is not None:
        os.environ[_EPOCH] = epoch
    try:
        yield
    finally:
        os.environ.pop(_EPOCH, None)
        if before is not None:
            os.environ[_EPOCH] = before


@dataclass(frozen=True, eq=False)
class ShardsElsewhere:
    """Has the shards of an index written by an engine.

    Attributes
    ----------
    engine : Engine
    vectors : list of str
        As they were given.
    settings : mapping
        See `BuildTask`.
    progress : callable or None
    """

    engine: Engine
    vectors: list[str]
    settings: Mapping[str, Any]
    progress: Progress | None = None

    def write(
        self, plan: ShardPlan, each: int, batches: Iterator[Batch], source: VectorSource
    ) -> Iterator[WrittenShard]:
        """Yield shards of ``each`` rows in their order, at least one.

        ``batches`` of the source are read where nothing else tells how many rows it has.
        """
        rows = _count(batches, source)
        names, paths = _absolute(self.vectors)
        plan = replace(plan, threads=self.engine.threads)
        task = BuildTask(plan, names, self.settings, os.environ.get(_EPOCH))
        starts = range(0, max(1, rows), each)
        items = (
            Item(f"{source.name}: rows {first} to {min(first + each, rows)}", (first, first + each))
            for first in starts
        )
        files = [plan.directory, *list(paths)[:_LOOKED_FOR]]
        with closing(self.engine.map(task, items, files=files)) as outcomes:
            for first, outcome in zip(starts, outcomes, strict=True):
                try:
                    written = outcome.result()
                except BinqError as error:
                    error.where = _as_given(error.where, paths)
                    raise
                skipped = [_as_given(row, paths) for row in written.skipped_rows]
                yield replace(written, skipped_rows=skipped)
                if self.progress is not None:
                    self.progress(min(first + each, rows), rows)

    def lay(
        self, task: Callable[..., LaidShard], directory: str, uuids: list[bytes]
    ) -> Iterator[LaidShard]:
        """Yield what becomes of the shards in a directory; see `Elsewhere`."""
        laying = LayTask(partial(task, self.engine.threads), os.environ.get(_EPOCH))
        paths = [os.path.join(directory, name_of(uuid)) for uuid in uuids]
        items = [Item(path, uuid, [path]) for path, uuid in zip(paths, uuids, strict=True)]
        with closing(self.engine.map(laying, items)) as outcomes:
            for outcome in outcomes:
                yield outcome.result()


def built_by(
    engine: Engine,
    rows: ShardedRows,
    vectors: list[str],
    settings: Mapping[str, Any],
    progress: Progress | None,
) -> ShardedRows:
    """Return what has an engine write the shards that ``rows`` writes.

    Parameters
    ----------
    engine, vectors, settings, progress
        See `ShardsElsewhere`.
    rows : ShardedRows
    """
    rows.directory.helped = True
    return replace(rows, elsewhere=ShardsElsewhere(engine, vectors, settings, progress))


def check_sources(
    vectors: Vectors, shard_rows: int | None, engine: EngineName | Engine
) -> list[str]:
    """Return the names of sources that other processes can read.

    Raises
    ------
    UsageError
        If there are others, or what is built is one file.
    """
    if shard_rows is None:
        raise UsageError(
            "one file is built by one process",
            f"`engine={engine}`",
            "shards",
            next_step="say how large with `shard_rows`",
        )
    names = [] if not isinstance(vectors, (str, os.PathLike, list)) else named(vectors, "vectors")
    if not names or names == ["-"]:
        raise _unreadable(engine, "standard input" if names else "arrays")
    return names


def check_rereadable(source: VectorSource, engine: EngineName | Engine) -> None:
    """Refuse a source that can be read but once, such as a pipe, to other processes.

    Raises
    ------
    UsageError
    """
    if engine != "local" and not source.rewindable:
        raise _unreadable(engine, source.name)


def reading_again(
    source: VectorSource,
    column: str | None,
    id_column: str | None,
    packed: Packed | None,
    bits: int | None,
) -> dict[str, Any]:
    """Return what `open_vectors` is told by whoever opens the same input again."""
    told: dict[str, Any] = {"column": column, "id_column": id_column, "on_error": source.on_error}
    if packed in LAYOUTS:
        return told | {"packed": packed, "bits": bits}
    # Fixed-size binary is bits without being said to be.
    return told | ({"bits": source.dim} if source.packed else {"packed": packed})


def _unreadable(engine: EngineName | Engine, got: str) -> UsageError:
    return UsageError(
        "other processes cannot read these vectors",
        f"`engine={engine}`",
        "files, or URIs of object stores",
        got,
        "write them to a file",
    )


def _count(batches: Iterator[Batch], source: VectorSource) -> int:
    """Return how many rows there are."""
    first = next(batches, None)  # whoever watches the first rows sees them
    if source.rows is not None:
        return source.rows
    count = 0 if first is None else first.start + len(first)
    for batch in batches:
        count = batch.start + len(batch)
    return count


def _absolute(given: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return files by absolute paths, with URIs among them; and what the user called the files."""
    names: list[str] = []
    called: dict[str, str] = {}
    for name in given:
        found = {name: name} if is_uri(name) else {os.path.abspath(p): p for p in expand([name])}
        names += found
        called |= {} if is_uri(name) else found
    return names, called


def _as_given(text: str, paths: Mapping[str, str]) -> str:
    """Return a message in which files are called as the user called them."""
    for path, given in paths.items():
        if path != given and path in text:
            text = text.replace(path, given)
    return text
