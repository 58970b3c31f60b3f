"""Fingerprints that tell one file of vectors from another without reading all of it.

A file's fingerprint is the hexadecimal xxh3_128 of its size (8 bytes, little-endian) followed by

- its whole content, where that is at most 1 MiB;
- else 16 pieces of 64 KiB each, the first at offset 0, the last ending at the end of the file, the
  others evenly between: piece ``i`` starts at ``i * (size - 65536) // 15``.

It notices another file, another length, another header or footer; it is no checksum of every byte.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.io.objects import ObjectFile, open_binary, size_of
from binq.io.paths import opening

WHOLE: Final = 1 << 20
PIECE: Final = 1 << 16
PIECES: Final = 16


def fingerprint_file(path: str) -> str:
    """Return the fingerprint of a file.

    Raises
    ------
    InputError
        If it is not there any more.
    EnvironmentFailure
        If it cannot be read.
    """
    with opening(path), open_binary(path) as file:
        size = size_of(file)
        state = _begin(size)
        pieces = _pieces(size)
        if isinstance(file, ObjectFile):
            for piece in file.ranges((start, end - start) for start, end in pieces):
                state.update(piece)
            return str(state.hexdigest())
        for start, end in pieces:
            file.seek(start)
            state.update(file.read(end - start))
    return str(state.hexdigest())


def fingerprint_array(array: NDArray[Any]) -> str:
    """Return the fingerprint that a file holding the rows of ``array`` would have."""
    row_bytes = max(1, array[:1].nbytes)
    state = _begin(array.nbytes)
    for start, end in _pieces(array.nbytes):
        first = start // row_bytes
        rows = np.ascontiguousarray(array[first : -(-end // row_bytes)])
        data = rows.reshape(-1).view(np.uint8)
        state.update(data[start - first * row_bytes : end - first * row_bytes].data)
    return str(state.hexdigest())


def _begin(size: int) -> Any:
    state = xxhash.xxh3_128()
    state.update(size.to_bytes(8, "little"))
    return state


def _pieces(size: int) -> list[tuple[int, int]]:
    if size <= WHOLE:
        return [(0, size)]
    starts = (i * (size - PIECE) // (PIECES - 1) for i in range(PIECES))
    return [(start, start + PIECE) for start in starts]
