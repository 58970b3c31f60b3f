"""Which lists a query looks at: those whose centroids are near to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.scan import Engine, Memory, Rows, address, aligned

FAMILY: Final = aot.Family("lists")

Codes = npt.NDArray[np.uint64]
Visits = npt.NDArray[np.int32]

# Word comparisons that numpy does, with a sort, in a second or two: less than a compiler runs, but
# every process pays it.
_NUMPY_WORK: Final = 1 << 26
# Word comparisons of a block: some milliseconds.
_WORK_PER_BLOCK: Final = 1 << 22


class Centroids:
    """The codes (l, words) of lists, and what kernels compare queries with: kept once it is made.

    Raises
    ------
    ValueError, TypeError
        They are of another shape, or no uint64.
    """

    def __init__(self, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] == 0:
            raise ValueError(f"centroids {codes.shape} are not (lists, words)")
        if codes.dtype != np.uint64:
            raise TypeError(f"centroids are {codes.dtype}, not uint64")
        self.codes = np.ascontiguousarray(codes)
        self._transposed: Codes | None = None

    def of(self, library: aot.Library) -> Codes:
        """What `near_lists` of these kernels takes; there is at least one centroid."""
        if not library.layout["near_lists.transposed"]:
            return self.codes
        if self._transposed is None:
            count, words = self.codes.shape
            groups = -(-count // 8)
            transposed = aligned(groups * words * 8, np.uint64).reshape(groups, words, 8)
            whole = self.codes[: count // 8 * 8].reshape(-1, 8, words)
            transposed[: count // 8] = whole.transpose(0, 2, 1)
            if count % 8:
                transposed[-1] = self.codes[-1][:, None]
                transposed[-1, :, : count % 8] = self.codes[count // 8 * 8 :].T
            self._transposed = transposed
        return self._transposed


def near_lists(
    centroids: Codes | Centroids,
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
    centroids : (l, words) uint64, or Centroids
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
    places = _compared(centroids, queries)
    (count, words), asked = places.codes.shape, len(queries)
    if sizes.shape != (count,):
        raise ValueError(f"sizes {sizes.shape} of {count} lists")
    if sizes.dtype != np.int64:
        raise TypeError(f"sizes are {sizes.dtype}, not int64")
    if gap < 0 or (edge is not None and edge < 0) or (lists is not None and lists < 1):
        raise ValueError(f"gap {gap}, edge {edge}, lists {lists}")
    if not count or not asked:
        return np.empty((asked, 0), np.int32)
    farthest = 64 * words
    gap, edge = min(gap, farthest), farthest if edge is None else min(edge, farthest)
    least, enough = min(lists or 0, count), max(1, enough)
    sizes = np.ascontiguousarray(sizes)
    how = least, enough, gap, edge

    def plainly(query: Codes) -> npt.NDArray[np.intp]:
        return _by_numpy(places.codes, sizes, query, *how)

    return _chosen("near_lists", places, queries, (address(sizes),), how, plainly, threads, engine)


def near_allowed(
    centroids: Codes | Centroids,
    sizes: Rows,
    allowed: Rows,
    queries: Codes,
    m: int,
    known: Rows,
    *,
    threads: int = 1,
    engine: Engine | None = None,
) -> Visits:
    """Choose the lists that each query looks at for m rows, where only some rows are allowed.

    Of the rows in the lists up to where m allowed ones are met, a share is allowed: as many more
    rows does a search for m of them pass over. So it looks as far as a search for m by that share
    does, which is `known`: to the distance where as many allowed rows are met as are the same share
    of those candidates, and a gap farther. The gap is widened by what the reach lies beyond the
    edge, or by what m allowed rows are farther than m of any kind, whichever is more.

    Parameters
    ----------
    centroids, queries, threads, engine
        As for :func:`near_lists`.
    sizes, allowed : (l,) int64
        The rows of each list, and how many of them are allowed.
    m : int
        At least 1.
    known : (3, c) int64
        Numbers of candidates, ascending and at least 1, and for each a gap and an edge, at least 0.

    Returns
    -------
    (q, p) int32
        As of :func:`near_lists`; only lists with allowed rows.

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or numbers do not fit.
    """
    places = _compared(centroids, queries)
    (count, words), asked = places.codes.shape, len(queries)
    if sizes.shape != (count,) or allowed.shape != (count,):
        raise ValueError(f"sizes {sizes.shape} and {allowed.shape} of {count} lists")
    if known.ndim != 2 or known.shape[0] != 3 or not known.size or known.min() < 0 or m < 1:
        raise ValueError(f"m {m}, known {known.shape}")
    if {sizes.dtype, allowed.dtype, known.dtype} != {np.dtype(np.int64)}:
        raise TypeError("sizes and what is known are int64")
    if (known[0] < 1).any() or (allowed < 0).any() or (allowed > sizes).any():
        raise ValueError("candidates below 1, or more rows allowed than there are")
    total = int(allowed.sum())
    if not asked or not total:
        return np.empty((asked, 0), np.int32)
    sizes, allowed = np.ascontiguousarray(sizes), np.ascontiguousarray(allowed)
    # No distance is larger: sums of these stay small.
    known = np.minimum(known, np.array([[1 << 31], [64 * words], [64 * words]]))
    m = min(m, int(sizes.sum()))
    how = m, min(m, total), total, address(known), known.shape[1]

    def plainly(query: Codes) -> npt.NDArray[np.intp]:
        return _allowed_by_numpy(places.codes, sizes, allowed, query, m, known)

    given = address(sizes), address(allowed)
    return _chosen("near_allowed", places, queries, given, how, plainly, threads, engine)


def _compared(centroids: Codes | Centroids, queries: Codes) -> Centroids:
    """Centroids that queries can be compared with."""
    places = centroids if isinstance(centroids, Centroids) else Centroids(centroids)
    words = places.codes.shape[1]
    if queries.ndim != 2 or queries.shape[1] != words:
        raise ValueError(f"centroids of {words} words and queries {queries.shape}")
    if queries.dtype != np.uint64:
        raise TypeError(f"queries are {queries.dtype}, not uint64")
    return places


def _chosen(
    name: str,
    places: Centroids,
    queries: Codes,
    given: tuple[int, ...],
    how: tuple[int, ...],
    plainly: Callable[[Codes], npt.NDArray[np.intp]],
    threads: int,
    engine: Engine | None,
) -> Visits:
    """Run a kernel over blocks of queries, or numpy over every query, and fill up with -1."""
    (count, words), asked = places.codes.shape, len(queries)
    engine = engine or Engine(aot.worth_compiling(FAMILY, places.codes.size * asked, _NUMPY_WORK))
    library = engine.library
    visits = np.empty((asked, count), np.int32)
    counts = np.empty(asked, np.int64)
    if library is None:
        for i, query in enumerate(queries):
            near = plainly(query)
            visits[i, : len(near)] = near
            counts[i] = len(near)
        return _filled(visits, counts)
    compared, queries = places.of(library), np.ascontiguousarray(queries)
    kernel = library.functions[name]
    needed = scratch_of(library, words, count)
    together = library.layout["near_lists.together"]
    size = max(1, _WORK_PER_BLOCK // (places.codes.size * together)) * together
    blocks = -(-asked // size)
    memory = [Memory(needed) for _ in range(max(1, min(threads, blocks)))]
    lists, at, to, told = (address(array) for array in (compared, queries, visits, counts))

    def work(worker: int, number: int) -> None:
        first = number * size
        kernel(
            lists, words, count, *given, at + 8 * words * first, min(size, asked - first), *how,
            to + 4 * count * first, told + 8 * first, memory[worker].addresses[0],
        )  # fmt: skip

    run_blocks(blocks, threads, work)
    return _filled(visits, counts)


def scratch_of(library: aot.Library, words: int, lists: int) -> int:
    """Bytes of scratch that `near_lists` of these kernels needs."""
    layout = library.layout
    needed = layout["near_lists.scratch"] + layout["near_lists.scratch_per_word"] * words
    return needed + layout["near_lists.scratch_per_list"] * (lists + 16)


def _filled(visits: Visits, counts: Rows) -> Visits:
    """Make an array of what is known of each query, -1 after it."""
    if len(visits) == 1:
        return visits[:, : int(counts[0])]
    known = visits[:, : int(counts.max())]
    filled = np.full_like(known, -1, order="C")
    np.copyto(filled, known, where=np.arange(known.shape[1]) < counts[:, None])
    return filled


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


def _allowed_by_numpy(
    centroids: Codes, sizes: Rows, allowed: Rows, query: Codes, m: int, known: Rows
) -> npt.NDArray[np.intp]:
    away = np.bitwise_count(centroids ^ query).sum(axis=1, dtype=np.int64)
    order = np.argsort(away, kind="stable")
    # Up to every distance, so many rows; of equal distances the last says it.
    last = np.searchsorted(away[order], away[order], side="right") - 1
    far, own, every = away[order], np.cumsum(allowed[order])[last], np.cumsum(sizes[order])[last]
    total = int(own[-1])
    enough = min(m, total)
    first, plain = np.argmax(own >= enough), np.argmax(every >= enough)
    some, rows = int(own[first]), int(every[first])
    counts, gaps, edges = known.tolist()
    place = next((i for i, one in enumerate(counts) if one * some >= m * rows), len(counts) - 1)
    own_place = next((i for i, one in enumerate(counts) if one >= m), len(counts) - 1)
    wanted = min(max(-(-counts[place] * some // rows), enough), total)
    reached = int(far[np.argmax(own >= wanted)])
    beyond = max(0, int(far[first] - far[plain]), reached - edges[place])
    limit = reached + max(gaps[place], gaps[own_place]) + beyond
    chosen: npt.NDArray[np.intp] = order[(far <= limit) & (allowed[order] > 0)]
    return chosen
