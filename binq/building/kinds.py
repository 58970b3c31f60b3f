"""What each kind of index is told, and what makes it."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from binq.binarizers import TABLE, Binarizer
from binq.building.graph import GraphMaker
from binq.building.lists import MAX_LISTS, ListMaker
from binq.errors import UsageError
from binq.storage.writer import IndexWriter
from binq.types import KINDS, STORED_VECTORS, Kind, Method, Metric, StoredVectors

Maker: TypeAlias = ListMaker | GraphMaker
"""Puts the codes of an index into another order, and writes the sections of its kind."""

MAX_M: Final = 128
MAX_EF_CONSTRUCTION: Final = 4_096

_TAKEN_BY: Final[dict[str, tuple[Kind, ...]]] = {
    "nlist": ("ivf",),
    "m": ("hnsw",),
    "ef_construction": ("hnsw",),
    "check_queries": ("ivf", "hnsw"),
}
_MOST: Final = {"nlist": MAX_LISTS, "m": MAX_M, "ef_construction": MAX_EF_CONSTRUCTION}
_WHAT: Final = {"ivf": "lists", "hnsw": "graph"}


def check_kind(kind: Kind, rescore: StoredVectors, **given: Any) -> None:
    """Refuse kinds of indexes and of stored vectors that are none, and what one does not take.

    Parameters
    ----------
    kind : {"flat", "ivf", "hnsw"}
    rescore : {"none", "int8", "float16", "float32"}
    nlist, m, ef_construction, check_queries
        None where they are not given.

    Raises
    ------
    UsageError
    """
    if rescore not in STORED_VECTORS:
        stored = ", ".join(STORED_VECTORS)
        raise UsageError("unknown kind of vectors", "`rescore`", stored, str(rescore))
    if kind not in KINDS:
        raise UsageError("unknown kind", "`kind`", ", ".join(KINDS), str(kind))
    for name, value in given.items():
        if value is None:
            continue
        kinds = _TAKEN_BY[name]
        if kind not in kinds:
            raise UsageError(
                f"an index of kind {kind} has no {' or '.join(_WHAT[one] for one in kinds)}",
                f"`{name}`",
                next_step=f"say {' or '.join(f'`kind={one}`' for one in kinds)}",
            )
        most = _MOST.get(name)
        if most is not None and not 1 <= value <= most:
            raise UsageError("no such number", f"`{name}`", f"1 to {most:,}", str(value))


def refuse_without_distance(kind: Kind, method: Method | Literal["auto"] | None) -> None:
    """Refuse codes of which no graph can be made.

    Raises
    ------
    UsageError
    """
    if method is None or method == "auto" or kind != "hnsw":
        return
    if not TABLE[method].hamming:
        raise UsageError(
            "a graph is made by Hamming distance, which codes of that method do not carry",
            "`method`",
            "another, such as itq or ste",
            method,
            "or say `kind=ivf`",
        )


def maker_of(
    kind: Kind,
    writer: IndexWriter,
    binarizer: Binarizer | None,
    metric: Metric,
    threads: int,
    *,
    nlist: int | None,
    m: int | None,
    ef_construction: int | None,
) -> Maker | None:
    """Return what makes an index of a kind from its codes; None where they stay as they are."""
    if kind == "ivf":
        return ListMaker(writer, binarizer, metric, nlist, threads)
    if kind == "hnsw":
        return GraphMaker(writer, binarizer, metric, threads, m, ef_construction)
    return None
