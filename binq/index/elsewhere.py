"""An index whose shards are searched by other processes: one task a shard, merged here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final

from binq.engines import Engine, Item, opened
from binq.errors import UsageError
from binq.index.index import Index
from binq.storage.reader import IndexFile
from binq.storage.sections import restore_binarizer
from binq.structures import restore_structure
from binq.structures.base import Scope, Structure
from binq.structures.sharded import Sharded
from binq.types import EngineName

_OPEN: Final = 64

Place = tuple[str, bytes]
"""The path of a shard, and its UUID."""


@contextmanager
def searched_by(
    index: Index, engine: EngineName | Engine, threads: int | None = None
) -> Iterator[None]:
    """Have large searches of an index done by an engine, inside the block.

    Answers are those that the index gives by itself, byte for byte.

    Parameters
    ----------
    index : Index
    engine : {"local", "ray"}
        Local leaves it as it is.
    threads : int, optional
        See :func:`binq.engines.opened`.

    Raises
    ------
    UsageError
        If there is no such engine, or the index is one file.
    MissingExtraError, EnvironmentFailure
        If it cannot be had.
    """
    if engine == "local":
        yield
        return
    structure = index.structure
    if not isinstance(structure, Sharded):
        raise UsageError(
            "one file is searched by one process",
            f"`engine={engine}`",
            "a directory of shards",
            str(index.file.path),
            "build it with `shard_rows`",
        )
    places = [(os.path.abspath(shard.path), shard.uuid) for shard in index.file.shards]
    with opened(engine, threads=threads) as there:

        def elsewhere(work: Callable[..., Any], scopes: list[Scope]) -> list[Any]:
            return _asked(there, work, places, scopes)

        structure.elsewhere = elsewhere
        try:
            yield
        finally:
            structure.elsewhere = None


def _asked(
    engine: Engine, work: Callable[..., Any], places: list[Place], scopes: list[Scope]
) -> list[Any]:
    """Return what work on every shard comes to."""
    items = [
        Item(place[0], (place, replace(scope, threads=engine.threads)), [place[0]])
        for place, scope in zip(places, scopes, strict=True)
    ]
    with closing(engine.map(partial(ask_shard, work), items)) as outcomes:
        return [outcome.result() for outcome in outcomes]


def ask_shard(work: Callable[..., Any], asked: tuple[Place, Scope]) -> Any:
    """Return what work on one shard comes to: the task of an item.

    Parameters
    ----------
    work : callable
        Such as :func:`binq.structures.sharded.answered`, all of it given but shard and scope.
    asked : (Place, Scope)
    """
    place, scope = asked
    file, structure = _opened(place)
    file.require_unchanged()
    found = work(structure, scope=scope)
    file.require_unchanged()
    return found


@lru_cache(maxsize=_OPEN)
def _opened(place: Place) -> tuple[IndexFile, Structure]:
    path, uuid = place
    file = IndexFile(path, uuid)
    return file, restore_structure(file, restore_binarizer(file))
