"""What an index file says of itself, and whether it is whole."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from binq.errors import IndexFileError
from binq.index.index import Index
from binq.storage.format import needed


def describe(path: str | os.PathLike[str], *, verify: bool = False) -> dict[str, Any]:
    """Describe an index file.

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
        many there are and how long, only where there is something to say.

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
        "sections": [section.to_json() for section in file.sections.values()],
    }
    found.pop("calibration", None)  # told by the structure, where it has one
    needs = needed(file.header, file.sections.values())
    if needs:
        found["needs"] = needs
    if alive is not None:
        found["alive"] = int(np.bitwise_count(alive).sum())
        found["dead"] = file.header.rows - found["alive"]
    if verify:
        found["damaged"] = [vars(damage) for damage in file.verify()]
    try:
        found |= index.structure.describe()
    except IndexFileError:
        if not found.get("damaged"):
            raise
    return found


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
            f"{path}: section {first['section']} at byte {first['offset']}",
            "matching checksums",
            f"{len(damaged)} damaged chunks",
            "restore it from a copy or build it again",
        )
