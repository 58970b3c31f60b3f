"""fvecs, bvecs, fbin and u8bin files, mapped.

``fvecs`` and ``bvecs``: every row is its dim as little-endian int32, then that many float32 or
uint8. ``fbin`` and ``u8bin``: rows and dim as little-endian uint32, then all rows.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.io.fingerprint import fingerprint_file
from binq.io.objects import open_binary, size_of
from binq.io.paths import opening
from binq.types import Layout, Locate
from binq.vectors.batch import Batch
from binq.vectors.decoding import ReadOptions, decoder_for, settle_layout
from binq.vectors.matrix import MatrixSource
from binq.vectors.source import VectorSource


class _PrefixedRows(MatrixSource):
    """Rows that each begin with their dim."""

    def _elements(self, raw: NDArray[Any], locate: Locate) -> NDArray[Any]:
        wrong = np.flatnonzero(raw["dim"] != self._decoder.width)
        if wrong.size:
            row = int(wrong[0])
            raise InputError(
                "rows disagree in dimension",
                locate(row),
                f"dim {self._decoder.width}",
                f"dim {raw['dim'][row]}",
            )
        elements: NDArray[Any] = raw["elements"]
        return elements


def open_texmex(
    path: str,
    kind: Literal["fvecs", "bvecs", "fbin", "u8bin"],
    options: ReadOptions,
) -> VectorSource:
    """Map a file of one of the four formats. 8-bit data are numbers unless ``options`` say else.

    Raises
    ------
    InputError
        If the file's length does not fit its header, or a dim is below 1.
    EnvironmentFailure
        If the file cannot be read.
    """
    element = np.dtype("<f4") if kind in ("fvecs", "fbin") else np.dtype(np.uint8)
    layout = settle_layout(element, options.packed, options.bits, path, eight_bit_numbers=True)
    with opening(path), open_binary(path) as file:
        size = size_of(file)
        head = file.read(8)
    if kind in ("fbin", "u8bin"):
        if len(head) < 8:
            raise InputError(f"{kind} file is truncated", path, "8 bytes or more", f"{size} bytes")
        rows, width = (int(n) for n in np.frombuffer(head, "<u4"))
        wanted = 8 + rows * width * element.itemsize
        if size != wanted:
            raise InputError(
                f"{kind} file has the wrong length",
                path,
                f"{wanted} bytes for {rows} rows of dim {width}",
                f"{size} bytes",
            )
        decoder = decoder_for(width, layout, options.bits, path)
        return MatrixSource.of_file(path, decoder, element, 8, (rows, width))
    if not size:
        return _NoRows(path, layout)
    width = int.from_bytes(head[:4], "little", signed=True)
    decoder = decoder_for(width, layout, options.bits, path)
    row_bytes = 4 + width * element.itemsize
    rows, rest = divmod(size, row_bytes)
    if rest:
        raise InputError(
            f"{kind} file has the wrong length",
            path,
            f"a multiple of {row_bytes} bytes for dim {width}",
            f"{size} bytes",
        )
    row_type = np.dtype([("dim", "<i4"), ("elements", element, (width,))])
    return _PrefixedRows.of_file(path, decoder, row_type, 0, (rows,))


class _NoRows(VectorSource):
    """A file in which neither a row nor a dim stands."""

    def __init__(self, path: str, layout: Layout | None) -> None:
        super().__init__(path)
        self.rows = 0
        self.layout = layout

    def read(self, max_rows: int | None = None) -> Generator[Batch]:  # noqa: ARG002
        """Yield all rows in order; see ``VectorSource.read``."""
        yield from ()

    def _fingerprint(self) -> str:
        return fingerprint_file(self.name)
