"""Memory of walks through a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from binq.kernels.scan import Memory

# Bytes that are kept for the next call, at most; walks that need more take long in any case.
_KEPT: Final = 1 << 24


class Walks:
    """Memory of walks that take turns, kept from call to call; any number of threads may call.

    Parameters
    ----------
    layout : dict
        Of the library.
    words, width : int
        Of a code, and of a line of neighbours.
    """

    def __init__(self, layout: dict[str, int], words: int, width: int) -> None:
        size = layout["walk.scratch"] + layout["walk.scratch_per_word"] * words
        self._size = size + layout["walk.scratch_per_neighbour"] * width
        self._per_slot = layout["walk.scratch_per_slot"]
        self._per_mark = layout["walk.scratch_per_mark"]
        self._free: list[tuple[int, Memory]] = []

    def call(
        self, kernel: Callable[..., None], given: tuple[Any, ...], room: tuple[int, int, int]
    ) -> None:
        """Call a kernel with what it is given, and memory that no other call has meanwhile.

        Parameters
        ----------
        kernel : callable
        given : tuple
        room : (int, int, int)
            How many walks take turns; the nodes that may wait, or be found, in each; and twice the
            nodes that may be measured, a power of two.
        """
        turns, slots, marks = room
        size = (self._size + self._per_slot * slots + self._per_mark * marks + 63) & -64
        held = None
        with contextlib.suppress(IndexError):
            held = self._free.pop()
        if held is None or held[0] < size * turns:
            held = size * turns, Memory(size * turns)
        kernel(*given, held[1].addresses[0], size, turns, slots, marks)
        if held[0] <= _KEPT:
            self._free.append(held)


def power_of_two(least: int) -> int:
    """The smallest that is not below."""
    return 1 << max(0, least - 1).bit_length()
