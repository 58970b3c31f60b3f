"""npy files, mapped, and npy streams."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.io.objects import StoreObject, open_binary, size_of
from binq.io.paths import opening
from binq.io.streams import ByteStream
from binq.vectors.batch import Batch, sifted
from binq.vectors.decoding import Decoder, ReadOptions, decoder_for, settle_layout
from binq.vectors.ids import Ids
from binq.vectors.matrix import MatrixSource
from binq.vectors.source import VectorSource, rows_per_batch

_MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER: Final = 1 << 16


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int


def open_npy(path: str, options: ReadOptions) -> VectorSource:
    """Map an npy file, or read it by ranges where it is an object of a store.

    Raises
    ------
    InputError
        If the header is damaged or describes anything but a 2-D array of real numbers, or the
        file's length is not what the header says.
    EnvironmentFailure
        If the file cannot be read.
    """
    with opening(path), open_binary(path) as file:
        size = size_of(file)
        header = _read_header(file.read, path)
    decoder = _decoder(header, options, path)
    wanted = header.offset + math.prod(header.shape) * header.dtype.itemsize
    if size != wanted:
        what = "npy file is truncated" if size < wanted else "npy file has bytes after its data"
        raise InputError(what, path, f"{wanted} bytes", f"{size} bytes")

    order: Literal["F", "C"] = "F" if header.fortran else "C"
    if isinstance(path, StoreObject) and header.fortran:
        _refuse_fortran(header, path, "write it in C order, or download it")
    return MatrixSource.of_file(path, decoder, header.dtype, header.offset, header.shape, order)


def from_array(array: NDArray[Any], options: ReadOptions) -> VectorSource:
    """Take the rows of an array in memory.

    Raises
    ------
    InputError
        If it is no 2-D array of real numbers.
    """
    header = _Header(array.dtype, array.shape, False, 0)
    decoder = _decoder(header, options, "array")
    return MatrixSource("array", array.shape[0], decoder, lambda: array, None)


class NpyStream(VectorSource):
    """An npy file that arrives through a pipe, in C order.

    Raises
    ------
    InputError
        As ``open_npy`` does, and at an array in Fortran order.
    """

    def __init__(self, stream: ByteStream, options: ReadOptions) -> None:
        super().__init__(stream.name)
        self.rewindable = False
        self._stream = stream
        header = _read_header(stream.read_exactly, self.name)
        if header.fortran:
            _refuse_fortran(header, self.name, "give the file by its path")
        self._dtype = header.dtype
        self._decoder = _decoder(header, options, self.name)
        self.rows: int = header.shape[0]
        self.dim: int = self._decoder.dim
        self.layout = self._decoder.layout
        self._begun = False

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield all rows in order; see ``VectorSource.read``."""
        if self._begun:
            raise InputError("a stream can be read only once", self.name)
        self._begun = True
        step = rows_per_batch(self._decoder.row_bytes, max_rows)
        row_bytes = self._decoder.width * self._dtype.itemsize
        for start in range(0, self.rows, step):
            wanted = min(step, self.rows - start)
            data = self._stream.read_exactly(wanted * row_bytes)
            rows = len(data) // row_bytes
            if rows:
                raw = np.frombuffer(data, self._dtype, rows * self._decoder.width)
                decode = partial(self._decoded, raw.reshape(rows, -1), start)
                yield sifted(start, rows, decode, self._decoder.empty)
            if rows < wanted:
                raise InputError(
                    "npy stream is truncated", self.locate(start + rows), f"{self.rows} rows"
                )
        if self._stream.read_exactly(1):
            raise InputError("npy stream has bytes after its data", self.name, f"{self.rows} rows")

    def _decoded(self, raw: NDArray[Any], start: int, low: int, high: int) -> NDArray[Any]:
        return self._decoder.decode(raw[low:high], self.locator(start + low))

    def _fingerprint(self) -> str:
        return self._stream.fingerprint()

    def interrupt(self) -> None:
        """End a read that waits in another thread."""
        self._stream.interrupt()

    def close(self) -> None:
        """Let go of everything."""
        self._stream.close()


class NpyWriter:
    """Writes an npy file of unknown length: the shape is put into the header at the end.

    Parameters
    ----------
    file : binary file
    dtype : dtype
    width : int
        Of a row.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], width: int) -> None:
        self._file = file
        self._dtype = dtype
        self._width = width
        self._rows = 0
        self._write_header()

    def append(self, rows: NDArray[Any], ids: Ids | None = None) -> None:
        """Write rows (n, width); an array has no place for their ids."""
        del ids
        self._file.write(rows.tobytes())
        self._rows += len(rows)

    def finish(self) -> None:
        """Write the header anew, now that the number of rows is known."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room for the first axis to grow, so that both headers are equally long.
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._rows, self._width),
            },
        )


def _read_header(read: Callable[[int], bytes], where: str) -> _Header:
    """Read an npy header of version 1, 2 or 3, bounded, evaluating literals only."""
    head = read(8)
    if len(head) < 8 or head[:6] != _MAGIC:
        raise InputError("not an npy file", where, "an npy header")
    version = head[6]
    if version not in (1, 2, 3):
        raise InputError("npy version is not supported", where, "1, 2 or 3", str(version))
    length_bytes = 2 if version == 1 else 4
    length_field = read(length_bytes)
    length = int.from_bytes(length_field, "little")
    if len(length_field) < length_bytes or length > _MAX_HEADER:
        raise InputError(
            "npy header is damaged", where, f"at most {_MAX_HEADER} bytes", f"{length} bytes"
        )
    text = read(length)
    if len(text) < length:
        raise InputError(
            "npy file is truncated", where, f"a header of {length} bytes", f"{len(text)} bytes"
        )
    try:
        entries = ast.literal_eval(text.decode("utf-8" if version == 3 else "latin-1").strip())
        descr, fortran, shape = (entries[key] for key in ("descr", "fortran_order", "shape"))
        structured = not isinstance(descr, str)
        dtype = np.dtype(object if structured else descr)
        if not isinstance(fortran, bool) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("shape")
        shape = tuple(shape)
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        raise InputError("npy header is damaged", where, "descr, fortran_order, shape") from None
    if structured:
        raise InputError("vectors have the wrong type", where, "numbers", "structured records")
    return _Header(dtype, shape, fortran, 8 + length_bytes + length)


def _refuse_fortran(header: _Header, where: str, step: str) -> None:
    if min(header.shape, default=0) > 1:
        what = "an npy array in Fortran order cannot be streamed"
        raise InputError(what, where, "C order", next_step=step)


def _decoder(header: _Header, options: ReadOptions, where: str) -> Decoder:
    layout = settle_layout(header.dtype, options.packed, options.bits, where)
    if len(header.shape) != 2:
        raise InputError(
            "array has the wrong number of dimensions",
            where,
            "2-D (rows, dim)",
            f"{len(header.shape)}-D {header.shape}",
        )
    return decoder_for(header.shape[1], layout, options.bits, where)
