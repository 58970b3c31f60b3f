"""npy and npz files from anywhere: read only where they hold as much as they claim."""

from __future__ import annotations

import io
import lzma
import math
import os
import stat
import tokenize
import zipfile
import zlib
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

_MOST_ARRAYS: Final = 64
_MOST_PACKED: Final = 16
"""How many times as large arrays may be as the file that they are packed in."""
_SLACK: Final = 1 << 20
_DAMAGE: Final = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,  # numpy looks in headers for what Python 2 wrote
)


def read_npy(data: bytes) -> NDArray[Any]:
    """Return the array of an npy file.

    Raises
    ------
    ValueError
        If it is none, or not as long as it claims.
    """
    try:
        _check(io.BytesIO(data), len(data))
        found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError("not a whole npy file") from error
    return found


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name.

    Nothing is unpacked before all arrays are known to fit the file that they are in.

    Raises
    ------
    ValueError
        If it is none, or holds far more than its own size.
    OSError
        If it cannot be read.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a file")  # a device may have no end
            archive = zipfile.ZipFile(file)
            entries = archive.infolist()
            most = _MOST_PACKED * status.st_size + _SLACK
            if len(entries) > _MOST_ARRAYS or sum(entry.file_size for entry in entries) > most:
                raise ValueError("too many or too large arrays")
            for entry in entries:
                with archive.open(entry) as part:
                    _check(part, entry.file_size)
            found = {}
            for entry in entries:
                with archive.open(entry) as part:
                    name = entry.filename.removesuffix(".npy")
                    found[name] = np.lib.format.read_array(part, allow_pickle=False)
            return found
    except _DAMAGE as error:
        raise ValueError("not a whole npz file") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _check(file: IO[bytes], length: int) -> None:
    """Refuse an npy file whose header says another size than it has."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    # Of items without a size any number fits.
    sized = dtype.itemsize > 0 and not dtype.hasobject
    if not sized or file.tell() + math.prod(shape) * dtype.itemsize != length:
        raise ValueError("not the size that it claims")
