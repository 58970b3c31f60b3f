"""What an index file says of itself, and whether it is whole."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from binq.errors import IndexFileError
from binq.index.index import Index
from binq.io.stores import is_uri
from binq.storage.directory import Stored
from binq.storage.format import needed
from binq.storage.publishing import unnamed
from binq.storage.reader import IndexFile


def describe(path: str | os.PathLike[str], *, verify: bool = False) -> dict[str, Any]:
    """Describe an index.

    Parameters
    ----------
    path : path
    verify : bool
        Read the whole file and list what is damaged.

    Returns
    -------
    dict
        As ``binq info --json`` prints it. ``damaged`` is a list of section, offset and length in
        bytes; it is there only if ``verify`` is set. ``format`` is the version of the file,
        ``needs`` its required features, ``alive`` and ``dead`` how many rows are, ``lists`` how
        many there are and how long, only where there is something to say. A file tells its
        ``sections``, a directory its ``shards``, and what is ``left_over`` of builds before; what
        is damaged there names its ``shard``.

    Raises
    ------
    IndexFileError
        If it cannot be opened, or what tells of its lists is damaged; with ``verify`` that is
        listed.
    """
    index = Index(path)
    file = index.file
    alive = file.alive()
    found: dict[str, Any] = {
        "schema": "binq.info/1",
        "format": file.version,
        "bytes": file.length,
        "bytes_per_row": round(file.length / max(len(index), 1), 2),
        "uuid": file.uuid.hex(),
        **file.header.to_json(),
    }
    found.pop("calibration", None)  # told by the structure, where it has one
    needs = [
        name for shard in file.shards for name in needed(shard.header, shard.sections.values())
    ]
    if needs:
        found["needs"] = list(dict.fromkeys(needs))
    if isinstance(file, IndexFile):
        found["sections"] = [section.to_json() for section in file.sections.values()]
    else:
        found["shards"] = [
            {
                "name": shard.path.name,
                "first": first,
                "rows": shard.header.rows,
                "bytes": shard.length,
            }
            for first, shard in zip(file.firsts, file.shards, strict=False)
        ]
        if not is_uri(path) and (others := unnamed(file.path))[0]:
            found["left_over"] = dict(zip(("files", "bytes"), others, strict=True))
    if alive is not None:
        found["alive"] = int(np.bitwise_count(alive).sum())
        found["dead"] = file.header.rows - found["alive"]
    if verify:
        found["damaged"] = _damaged(file)
    try:
        found |= index.structure.describe()
    except IndexFileError:
        if not found.get("damaged"):
            raise
    return found


def _damaged(file: Stored) -> list[dict[str, Any]]:
    """Read all of an index, and return what is damaged."""
    if isinstance(file, IndexFile):
        return [vars(damage) for damage in file.verify()]
    return [{"shard": shard.path.name, **vars(damage)} for shard, damage in file.verify()]


def require_whole(path: str | os.PathLike[str], found: dict[str, Any]) -> None:
    """Raise if :func:`describe` found damage.

    Raises
    ------
    IndexFileError
        Naming the first damaged place.
    """
    damaged = found.get("damaged")
    if damaged:
        first = damaged[0]
        raise IndexFileError(
            "the index is corrupt",
            f"{os.path.join(path, first['shard']) if 'shard' in first else path}: "
            f"section {first['section']} at byte {first['offset']}",
            "matching checksums",
            f"{len(damaged)} damaged chunks",
            "restore it from a copy or build it again",
        )
