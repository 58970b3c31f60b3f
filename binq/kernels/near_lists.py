"""Which lists a query looks at: those whose centroids are near to it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.hamming import FAMILY
from binq.kernels.scan import Engine, Memory, Rows, address

Codes = npt.NDArray[np.uint64]
Visits = npt.NDArray[np.int32]

# Word comparisons that numpy does while a compiler would run.
_NUMPY_WORK: Final = 1 << 29
# Word comparisons of a block: some milliseconds.
_WORK_PER_BLOCK: Final = 1 << 22


def near_lists(
    centroids: Codes,
    sizes: Rows,
    queries: Codes,
    enough: int,
    *,
    gap: int = 0,
    edge: int | None = None,
    lists: int | None = None,
    threads: int = 1,
    engine: Engine | None = None,
) -> Visits:
    """Choose the lists that each query looks at.

    Parameters
    ----------
    centroids : (l, words) uint64, C-contiguous
    sizes : (l,) int64
        The rows that count in each list; lists without any are left out.
    queries : (q, words) uint64
    enough : int
        How many rows the lists shall hold; all lists are taken where they hold fewer.
    gap : int
        How much farther to look than to the lists that hold so many.
    edge : int, optional
        Where the distance at which enough rows are met lies beyond it, the gap is widened by the
        excess: of a query that is far from all rows, many lists lie at about the same distance.
    lists : int, optional
        At least 1: so many lists, if they hold enough rows, and else as few as do.
    threads : int
    engine : Engine, optional
        What runs it; chosen by what is compiled.

    Returns
    -------
    (q, p) int32
        Numbers of lists by ascending (distance, number), -1 after the last: as `hamming.topk` and
        `asymmetric.topk` take them.

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or numbers do not fit.
    """
    if centroids.ndim != 2 or queries.ndim != 2 or centroids.shape[1] != queries.shape[1]:
        raise ValueError(f"centroids {centroids.shape} and queries {queries.shape} differ in words")
    (count, words), asked = centroids.shape, len(queries)
    if words == 0 or sizes.shape != (count,):
        raise ValueError(f"sizes {sizes.shape} of {count} lists, codes of {words} words")
    if centroids.dtype != np.uint64 or queries.dtype != np.uint64 or sizes.dtype != np.int64:
        raise TypeError("centroids and queries are uint64, sizes int64")
    if gap < 0 or (edge is not None and edge < 0) or (lists is not None and lists < 1):
        raise ValueError(f"gap {gap}, edge {edge}, lists {lists}")
    if not count or not asked:
        return np.empty((asked, 0), np.int32)
    farthest = 64 * words
    gap, edge = min(gap, farthest), farthest if edge is None else min(edge, farthest)
    least, enough = min(lists or 0, count), max(1, enough)
    engine = engine or Engine(aot.worth_compiling(FAMILY, centroids.size * asked, _NUMPY_WORK))
    library = engine.library
    visits = np.empty((asked, count), np.int32)
    counts = np.empty(asked, np.int64)
    if library is None:
        for i, query in enumerate(queries):
            near = _by_numpy(centroids, sizes, query, least, enough, gap, edge)
            visits[i, : len(near)] = near
            counts[i] = len(near)
        return _filled(visits, counts)
    centroids, queries = np.ascontiguousarray(centroids), np.ascontiguousarray(queries)
    sizes = np.ascontiguousarray(sizes)
    kernel, layout = library.functions["near_lists"], library.layout
    needed = layout["near_lists.scratch"] + layout["near_lists.scratch_per_word"] * words
    needed += layout["near_lists.scratch_per_list"] * (count + 4)
    given = address(centroids), words, count, address(sizes)
    size = max(1, _WORK_PER_BLOCK // centroids.size)
    blocks = -(-asked // size)
    memory = [Memory(needed) for _ in range(max(1, min(threads, blocks)))]
    at, to, told = address(queries), address(visits), address(counts)

    def work(worker: int, number: int) -> None:
        first = number * size
        kernel(
            *given, at + 8 * words * first, min(size, asked - first), least, enough, gap, edge,
            to + 4 * count * first, told + 8 * first, memory[worker].addresses[0],
        )  # fmt: skip

    run_blocks(blocks, threads, work)
    return _filled(visits, counts)


def _filled(visits: Visits, counts: Rows) -> Visits:
    """Make an array of what is known of each query, -1 after it."""
    if len(visits) == 1:
        return visits[:, : int(counts[0])]
    visits = visits[:, : int(counts.max())].copy()
    visits[np.arange(visits.shape[1]) >= counts[:, None]] = -1
    return visits


def _by_numpy(
    centroids: Codes, sizes: Rows, query: Codes, least: int, enough: int, gap: int, edge: int
) -> npt.NDArray[np.intp]:
    filled = np.flatnonzero(sizes > 0)
    away = np.bitwise_count(centroids[filled] ^ query).sum(axis=1, dtype=np.int64)
    order = np.argsort(away, kind="stable")
    near, away = filled[order], away[order]
    met = np.cumsum(sizes[near])
    if least and met[:least][-1:].sum() >= enough:
        return near[:least]
    reached = (met >= enough) & (np.arange(1, len(near) + 1) >= least)
    if not reached.any():
        return near
    reach = int(away[np.argmax(reached)])
    chosen: npt.NDArray[np.intp] = near[away <= reach + gap + max(0, reach - edge)]
    return chosen
