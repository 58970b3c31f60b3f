"""Decoded rows kept for the next time they are wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES: Final = 64 << 20
CACHE_BLOCKS: Final = 256


class BlockCache:
    """The blocks of decoded rows used last, of all files of one source together."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], NDArray[np.float32]] = OrderedDict()
        self._bytes = 0

    def of(self, path: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield first row and rows of every block kept of a file."""
        for (owner, start), block in list(self._blocks.items()):
            if owner == path:
                yield start, block

    def used(self, path: str, start: int) -> None:
        """Note that a block was of use."""
        self._blocks.move_to_end((path, start))

    def keep(self, path: str, start: int, block: NDArray[np.float32]) -> None:
        """Keep a block, and let go of those used longest ago.

        Parameters
        ----------
        path : str
            The file.
        start : int
            Row of the file that ``block[0]`` is.
        block : (n, dim) float32
        """
        self._drop((path, start))
        # A view would hold the whole decoding buffer, which is up to twice as large.
        self._blocks[path, start] = block if block.flags.owndata else block.copy()
        self._bytes += block.nbytes
        while self._bytes > CACHE_BYTES or len(self._blocks) > CACHE_BLOCKS:
            self._drop(next(iter(self._blocks)))

    def forget(self, path: str) -> None:
        """Let go of all blocks of a file."""
        for start, _ in self.of(path):
            self._drop((path, start))

    def _drop(self, key: tuple[str, int]) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            self._bytes -= block.nbytes
