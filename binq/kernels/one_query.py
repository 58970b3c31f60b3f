"""One query at a time over inverted lists: a search is one call of a kernel.

What is the same from search to search, addresses and memory, is prepared once.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from binq.kernels.allowed import Chosen, Numbers
from binq.kernels.aot.compile import Library
from binq.kernels.lists import Lists
from binq.kernels.near_lists import Centroids, scratch_of
from binq.kernels.scan import WORK_WORTH_A_THREAD, Memory, Rows, address, capacity_of

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
    codes : (n, words) uint64, C-contiguous
        List by list.
    numbers : (n,) uint32
        The row at every position.
    centroids : Centroids
        Of as many words.
    offsets : (l + 1,) int64
        List i holds the positions ``[offsets[i], offsets[i + 1])``.
    sizes : (l,) int64
        The rows in each list.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """

    def __init__(
        self,
        library: Library,
        codes: Codes,
        numbers: Numbers,
        centroids: Centroids,
        offsets: Rows,
        sizes: Rows,
    ) -> None:
        (n, words), count = codes.shape, len(centroids.codes)
        numbers = Chosen(n, numbers=numbers).numbers  # type: ignore[assignment]  # as it was given
        offsets = Lists(offsets, np.empty((0, 0), np.int32)).checked(0).offsets
        if centroids.codes.shape != (count, words) or sizes.shape != (count,):
            raise ValueError(f"centroids {centroids.codes.shape} and sizes {sizes.shape} of lists")
        if not n or len(offsets) != count + 1 or not codes.flags.c_contiguous:
            raise ValueError(f"{n} codes in {len(offsets) - 1} lists of {count}")
        if codes.dtype != np.uint64 or sizes.dtype != np.int64:
            raise TypeError("codes are uint64, sizes int64")
        self._library, self._n = library, n
        self._kernel = library.functions["one_query"]
        sizes = np.ascontiguousarray(sizes)
        self._shared: dict[str, npt.NDArray[Any]] = {
            "centroids": centroids.of(library),
            "sizes": sizes,
            "offsets": offsets,
            "codes": codes,
            "rows": numbers,
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
            memory = _Memory(self._library, self._shared, self._n, self._shape, max(k, _HITS))
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
        n: int,
        shape: tuple[int, int],
        k: int,
    ) -> None:
        words, count = shape
        layout = library.layout
        self.k = k
        own = {
            "numbers": 8 * 4,
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
        self._pointers = (ctypes.c_void_p * len(order))(*map(places.get, order))
        self.given = ctypes.addressof(self._pointers)
        names = list(own)
        memory.view(0, np.int64, 4)[:] = words, count, n, WORK_WORTH_A_THREAD
        self.query = memory.view(names.index("query"), np.uint64, words)
        self.rows = memory.view(names.index("found_rows"), np.int64, k)[None]
        self.distances = memory.view(names.index("found_distances"), np.int32, k)[None]
        self.answered = ctypes.c_int64.from_address(places["answer"])
