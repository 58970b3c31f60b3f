"""One query at a time over inverted lists: a search is one call of a kernel.

What is the same from search to search, addresses and memory, is prepared once.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Chosen, Numbers
from binq.kernels.aot.compile import Library
from binq.kernels.lists import Lists
from binq.kernels.near_lists import Centroids, scratch_of
from binq.kernels.parts import Parts, arrays_of, edges_of
from binq.kernels.scan import (
    MAX_ROWS,
    WORK_WORTH_A_THREAD,
    Memory,
    Rows,
    address,
    capacity_of,
)

Codes = npt.NDArray[np.uint64]
Distances = npt.NDArray[np.int32]

# Hits that memory is made for at least, and at most: more take long whatever is prepared.
_HITS: Final = 100
_MOST_HITS: Final = 1 << 14
_UINT64 = np.dtype(np.uint64)


class OneQuery:
    """Codes in inverted lists, to be searched for one query at a time.

    Any number of threads may search at once.

    Parameters
    ----------
    library : Library
        Of the family of `near_lists`.
    codes : (n, words) uint64, C-contiguous, or Parts
        List by list, in every part.
    numbers : (n,) uint32
        The row at every position. Of parts there is an array for each, with numbers that are
        counted from the first row of the part; and so of offsets.
    centroids : Centroids
        Of as many words.
    offsets : (l + 1,) int64
        List i holds the positions ``[offsets[i], offsets[i + 1])``.
    sizes : (l,) int64
        The rows in each list, of all parts together.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """

    def __init__(
        self,
        library: Library,
        codes: Codes | Parts,
        numbers: Numbers | Sequence[Numbers],
        centroids: Centroids,
        offsets: Rows | Sequence[Rows],
        sizes: Rows,
    ) -> None:
        (n, words), count = codes.shape, len(centroids.codes)
        rows = Chosen(n, numbers=numbers).numbers or []
        given = [offsets] if isinstance(offsets, np.ndarray) else offsets
        edges = [Lists(own, np.empty((0, 0), np.int32)).checked(0).offsets for own in given]
        if centroids.codes.shape != (count, words) or sizes.shape != (count,):
            raise ValueError(f"centroids {centroids.codes.shape} and sizes {sizes.shape} of lists")
        if not 0 < n <= MAX_ROWS or {len(own) for own in edges} != {count + 1}:
            raise ValueError(f"{n} codes in {[len(own) - 1 for own in edges]} lists of {count}")
        arrays = arrays_of(codes if isinstance(codes, Parts) else Parts([codes]))
        if sizes.dtype != np.int64:
            raise TypeError("sizes are int64")
        firsts, held = edges_of(codes)[:-1], [len(array) for array in arrays]
        if held != [len(numbered) for numbered in rows] or len(held) != len(edges):
            raise ValueError(f"codes {held}, numbers {list(map(len, rows))} of {len(edges)} parts")
        self._library, self._n = library, n
        self._kernel = library.functions["one_query"]
        sizes = np.ascontiguousarray(sizes)
        self._shared: dict[str, npt.NDArray[Any]] = {
            "centroids": centroids.of(library),
            "sizes": sizes,
            "spans": np.array([held, firsts]).T.copy(),
        }
        self._parts: dict[str, list[npt.NDArray[Any]]] = {
            "offsets": edges,
            "codes": arrays,
            "rows": rows,
        }
        self._shape = words, count
        self._free: list[_Memory] = []

    def topk(
        self,
        query: Codes,
        k: int,
        enough: int,
        *,
        gap: int = 0,
        edge: int | None = None,
        lists: int | None = None,
    ) -> tuple[Rows, Distances] | None:
        """The k nearest codes on the lists that `near_lists.near_lists` would choose.

        Parameters
        ----------
        query : (1, words) uint64
        k : int
            At least 1, and at most n.
        enough, gap, edge, lists
            As for `near_lists.near_lists`.

        Returns
        -------
        rows : (1, k) int64
        distances : (1, k) int32
            As `hamming.topk` returns them. None in place of both where there are so many hits, or
            codes on the lists, that threads are of use, or where something is wrong with the lists:
            `hamming.topk` says what.

        Raises
        ------
        ValueError, TypeError
            Shapes, dtypes or numbers do not fit.
        """
        words, count = self._shape
        if query.shape != (1, words) or not 0 < k <= self._n:
            raise ValueError(f"query {query.shape} of {words} words, k of {k}")
        if query.dtype != _UINT64:
            raise TypeError(f"query is {query.dtype}, not uint64")
        if gap < 0 or (edge is not None and edge < 0) or (lists is not None and lists < 1):
            raise ValueError(f"gap {gap}, edge {edge}, lists {lists}")
        if k > _MOST_HITS:
            return None
        farthest = 64 * words
        memory = None
        with contextlib.suppress(IndexError):
            memory = self._free.pop()  # no other thread has it until it is given back
        if memory is None or memory.k < k:
            memory = _Memory(
                self._library, self._shared, self._parts, self._n, self._shape, max(k, _HITS)
            )
        try:
            memory.query[:] = query
            self._kernel(
                memory.given,
                0 if lists is None else min(lists, count),
                min(max(1, enough), self._n + 1),
                min(gap, farthest),
                farthest if edge is None else min(edge, farthest),
                k,
                capacity_of(k, self._n),
            )
            if not memory.answered.value:
                return None
            return memory.rows[:, :k].copy(), memory.distances[:, :k].copy()
        finally:
            self._free.append(memory)


class _Memory:
    """What one search at a time works on, for up to `k` hits."""

    def __init__(
        self,
        library: Library,
        shared: dict[str, npt.NDArray[Any]],
        parts: dict[str, list[npt.NDArray[Any]]],
        n: int,
        shape: tuple[int, int],
        k: int,
    ) -> None:
        words, count = shape
        layout = library.layout
        self.k = k
        own = {
            "numbers": 8 * 5,
            "query": 8 * words,
            "visits": 4 * count,
            "seen": count // 8 + 8,
            "table": 32 * count,
            "keys": 8 * capacity_of(k, n),
            "scratch": max(scratch_of(library, words, count), layout["one_query.scan_scratch"]),
            "answer": 8 * layout["one_query.answer_size"],
            "found_rows": 8 * k,
            "found_distances": 4 * k,
        }
        self._memory = memory = Memory(*own.values())
        places = dict(zip(own, memory.addresses, strict=True))
        places |= {name: address(array) for name, array in shared.items()}
        order = sorted(places, key=lambda name: layout[f"one_query.{name}"])
        given = [places[name] for name in order]
        order = sorted(parts, key=lambda name: layout[f"one_query.part.{name}"])
        for arrays in zip(*(parts[name] for name in order), strict=True):
            given += map(address, arrays)
        self._pointers = (ctypes.c_void_p * len(given))(*given)
        self.given = ctypes.addressof(self._pointers)
        names = list(own)
        number = len(parts["codes"])
        memory.view(0, np.int64, 5)[:] = words, count, n, WORK_WORTH_A_THREAD, number
        self.query = memory.view(names.index("query"), np.uint64, words)
        self.rows = memory.view(names.index("found_rows"), np.int64, k)[None]
        self.distances = memory.view(names.index("found_distances"), np.int32, k)[None]
        self.answered = ctypes.c_int64.from_address(places["answer"])
