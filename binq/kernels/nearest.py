"""For every code the nearest of some centroids, by Hamming distance."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.hamming import topk
from binq.kernels.scan import Engine, Memory, address
from binq.kernels.tables import looked_up

FAMILY: Final = aot.Family("nearest")

Codes = npt.NDArray[np.uint64]

# Few enough for look-up tables that stay in a cache, and for their 16-bit numbers.
_CENTROIDS_PER_PASS = 4096
# Word comparisons of a block: some tens of milliseconds.
_WORK_PER_BLOCK = 1 << 26
_NUMPY_WORK = 1 << 26
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def nearest(
    codes: Codes, centroids: Codes, threads: int = 1, *, engine: Engine | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """For every code the nearest of some centroids.

    Parameters
    ----------
    codes : (n, words) uint64, C-contiguous
    centroids : (c, words) uint64
        At least one, and fewer than 2**31.
    threads : int
    engine : Engine, optional
        What runs it; chosen by what is compiled.

    Returns
    -------
    numbers : (n,) int64
        Of centroids; of several that are as near, the first.
    distances : (n,) int32

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """
    if not len(centroids):
        raise ValueError("no centroids")
    engine = engine or Engine(aot.worth_compiling(FAMILY, codes.size * len(centroids), _NUMPY_WORK))
    library = engine.library
    name = ""
    if library is not None:
        name = "nearest_counts" if "nearest_counts" in library.functions else "nearest_tables"
        if codes.ndim != 2 or codes.shape[1] > library.layout.get(f"{name}.max_words", 0):
            name = ""
    if not name:
        # This CPU has no kernel for it, or codes are too long: a scan then.
        scanning = engine if library is None else None
        numbers, distances = topk(centroids, codes, 1, threads, engine=scanning)
        return numbers[:, 0], distances[:, 0]
    assert library is not None
    if centroids.ndim != 2 or centroids.shape[1] != codes.shape[1] or codes.shape[1] == 0:
        raise ValueError(f"codes {codes.shape} and centroids {centroids.shape} differ in words")
    if codes.dtype != np.uint64 or centroids.dtype != np.uint64:
        raise TypeError("codes and centroids are uint64")
    codes = np.ascontiguousarray(codes)
    keys = np.full(len(codes), np.iinfo(np.uint64).max, np.uint64)
    for first in range(0, len(centroids), _CENTROIDS_PER_PASS):
        some = np.ascontiguousarray(centroids[first : first + _CENTROIDS_PER_PASS])
        found = _keys(library, name, codes, some, threads, engine.rows_per_block)
        np.minimum(keys, found + np.uint64(first), out=keys)
    return (keys & _LOW).astype(np.int64), (keys >> _HALF).astype(np.int32)


def _keys(
    library: aot.Library,
    name: str,
    codes: Codes,
    centroids: Codes,
    threads: int,
    rows_per_block: int | None,
) -> Codes:
    """(distance << 32) | number of the nearest centroid of every code."""
    (n, words), count = codes.shape, len(centroids)
    layout = library.layout
    held: tuple[Any, ...] = (centroids,)
    numbers: tuple[int, ...] = ()
    if name == "nearest_tables":
        held = looked_up(centroids)
        numbers = (len(held[-1]),)
    given = (*map(address, held), *numbers, count)
    block = layout[f"{name}.block"]
    size = max(block, _WORK_PER_BLOCK // (words * count) // block * block)
    size = rows_per_block or min(size, max(block, -(-n // (4 * threads))))
    keys = np.empty(n, np.uint64)
    needed = layout[f"{name}.scratch"] + layout[f"{name}.scratch_per_word"] * words
    memory = [Memory(needed) for _ in range(max(1, threads))]
    kernel = library.functions[name]

    def work(worker: int, number: int) -> None:
        first, last = number * size, min((number + 1) * size, n)
        kernel(
            address(codes), words, first, last, *given, address(keys[first:last]),
            memory[worker].addresses[0],
        )  # fmt: skip

    run_blocks(-(-n // size), threads, work)
    return keys
