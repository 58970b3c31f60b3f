"""Turn shingled texts into near-duplicate fingerprints.

A shingle is a run of `width` code points; a text shorter than that is one shingle of its own.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from binq.kernels.aot import compile as aot
from binq.kernels.blocks import run_blocks
from binq.kernels.scan import Memory, address

FAMILY: Final = aot.Family("shingles")

# Code points per block and hash function: a few tens of milliseconds.
_WORK_PER_BLOCK = 1 << 24


def fingerprints(
    method: Literal["simhash", "minhash"],
    points: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    width: int,
    masks: NDArray[np.uint32],
    multipliers: NDArray[np.uint32],
    threads: int = 1,
) -> NDArray[np.uint8]:
    """The codes of texts.

    simhash: the signs of random projections of shingle counts. Two texts whose count vectors
    enclose the angle t differ in each bit with probability t / pi, if the projections are normally
    distributed; the sum of four uniform bytes stands in for that (Charikar: Similarity estimation
    techniques from rounding algorithms, STOC 2002, section 3).

    minhash: one bit of the smallest hash of the shingle set, per hash function. Two texts whose
    shingle sets have the Jaccard similarity J differ in each bit with probability (1 - J) / 2 (Li,
    Koenig: b-bit minwise hashing, WWW 2010, with b = 1).

    Parameters
    ----------
    method : {"simhash", "minhash"}
    points : (total,) uint32
        The code points of all texts, one after another.
    offsets : (n + 1,) int64
        Where each text begins in `points`.
    width : int
        Code points in a shingle, at least 1.
    masks, multipliers : (8 * bytes,) uint32
        Random, and random odd numbers; a pair of them makes one hash function.
    threads : int

    Returns
    -------
    (n, bytes) uint8
        First bit on top; the same at any number of threads.

    Raises
    ------
    ValueError
        Shapes or dtypes do not fit.
    """
    n, bits = len(offsets) - 1, len(masks)
    if bits % 8 or not bits or multipliers.shape != masks.shape or width < 1:
        raise ValueError(f"{bits} masks, {len(multipliers)} multipliers, shingles of {width}")
    if n < 0 or offsets[0] < 0 or offsets[-1] > len(points) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets do not fit {len(points)} code points")
    for array, dtype in (
        (points, np.uint32),
        (offsets, np.int64),
        (masks, np.uint32),
        (multipliers, np.uint32),
    ):
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(f"an array is not C-contiguous {np.dtype(dtype)}")
    codes = np.zeros((n, bits // 8), np.uint8)
    if n == 0:
        return codes
    kernel = aot.load(FAMILY).functions[method]
    per_text = max(1, int(offsets[-1] - offsets[0]) // n) * bits
    rows = max(1, min(_WORK_PER_BLOCK // per_text, n // (4 * max(1, threads))))
    texts = (address(points), address(offsets))
    hashes = (width, address(masks), address(multipliers), codes.shape[1], address(codes))

    def work(_worker: int, block: int) -> None:
        sizes = (4 * bits, 8 * bits) if method == "simhash" else (4 * bits,)
        scratch = Memory(*sizes)
        some = block * rows, min((block + 1) * rows, n)
        kernel(*texts, *some, *hashes, *scratch.addresses)

    run_blocks(-(-n // rows), threads, work)
    return codes
