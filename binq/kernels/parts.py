"""Codes that lie in several arrays, such as the shards of an index, scanned as if they were one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


class Parts:
    """Codes in several arrays, one after the other: row 0 of each follows the last one before.

    Parameters
    ----------
    arrays : sequence of (n_i, words) uint64, C-contiguous
        At least one; they may be read-only memory maps.

    Attributes
    ----------
    edges : list of int
        The first row of every array, and the number of all rows.
    addresses : list of int
        Where each array is.
    shape : (int, int)
        Of all together, as an array has it.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes do not fit.
    """

    def __init__(self, arrays: Sequence[Codes]) -> None:
        words = {array.shape[1:] for array in arrays}
        if len(words) != 1 or any(array.ndim != 2 for array in arrays):
            raise ValueError(f"codes {[array.shape for array in arrays]} differ in words")
        if any(array.dtype != np.uint64 for array in arrays):
            raise TypeError("codes are uint64")
        if not all(array.flags.c_contiguous for array in arrays):
            raise ValueError("codes are not C-contiguous")
        self.arrays = list(arrays)
        self.addresses = [array.__array_interface__["data"][0] for array in arrays]
        self.edges = [0, *itertools.accumulate(map(len, arrays))]
        self.shape: tuple[int, int] = (self.edges[-1], arrays[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many words there are."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, rows: Rows) -> Codes:
        """Return a copy of the codes (m, words) of rows (m,)."""
        found = np.empty((len(rows), self.shape[1]), np.uint64)
        own = np.searchsorted(self.edges, rows, side="right") - 1
        for number in np.unique(own).tolist():
            places = np.flatnonzero(own == number)
            found[places] = self.arrays[number][rows[places] - self.edges[number]]
        return found


def distinct(rows: Rows) -> tuple[Rows, Rows]:
    """Return the distinct ones of rows (q, m), ascending, and the place of each among them."""
    chosen, places = np.unique(rows, return_inverse=True)
    return chosen, places.reshape(rows.shape)


def edges_of(codes: Codes | Parts) -> list[int]:
    """Return the first row of every array that holds some of the codes, and how many there are."""
    return codes.edges if isinstance(codes, Parts) else [0, len(codes)]


def arrays_of(codes: Codes | Parts) -> list[Codes]:
    """Return the arrays that hold the codes."""
    return codes.arrays if isinstance(codes, Parts) else [codes]


def part_of(edges: list[int], rows: Rows) -> Rows:
    """Return the number of the array (m,) in which rows (m,) lie."""
    found: Rows = np.searchsorted(edges, rows, side="right") - 1
    return found
