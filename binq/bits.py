"""Packing conventions: bits as words, and the three byte layouts that others write.

Inside binq a code of ``bits`` bits is a row of ``words = ceil(bits / 64)`` little-endian uint64:
bit ``j`` stands in word ``j // 64`` at position ``j % 64``, and the bits beyond ``bits`` are zero.
Read as bytes this is FAISS's order. Outside there are three layouts of ``ceil(bits / 8)`` bytes:

========  =====  =====================================================================
layout    dtype  convention
========  =====  =====================================================================
ubinary   uint8  most significant bit first: ``numpy.packbits``, sentence-transformers
binary    int8   the ubinary byte minus 128 (which flips its top bit)
lsb       uint8  least significant bit first: FAISS
========  =====  =====================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError
from binq.types import Layout

_REVERSED = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), axis=1
).ravel()


def words_for(bits: int) -> int:
    """Return the number of uint64 words that hold ``bits`` bits."""
    return -(-bits // 64)


def bytes_for(bits: int) -> int:
    """Return the number of bytes that hold ``bits`` bits."""
    return -(-bits // 8)


def layout_dtype(layout: Layout) -> np.dtype[Any]:
    """Return the dtype in which ``layout`` is stored: int8 for ``binary``, else uint8."""
    return np.dtype(np.int8 if layout == "binary" else np.uint8)


def pack(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack booleans into codes.

    Parameters
    ----------
    flags : (n, bits) bool

    Returns
    -------
    (n, words) uint64
    """
    return _widen(np.packbits(flags, axis=1, bitorder="little"), flags.shape[1])


def unpack(codes: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    """Unpack codes into booleans.

    Parameters
    ----------
    codes : (n, words) uint64
    bits : int
        True width of a code.

    Returns
    -------
    (n, bits) bool
    """
    raw = np.ascontiguousarray(codes, dtype="<u8").view(np.uint8)
    return np.unpackbits(raw, axis=1, count=bits, bitorder="little").view(np.bool_)


def to_layout(codes: NDArray[np.uint64], bits: int, layout: Layout) -> NDArray[Any]:
    """Write codes in one of the three byte layouts.

    Parameters
    ----------
    codes : (n, words) uint64
    bits : int
    layout : {"ubinary", "binary", "lsb"}

    Returns
    -------
    (n, ceil(bits / 8)) uint8, or int8 for ``binary``
    """
    raw = np.ascontiguousarray(codes, dtype="<u8").view(np.uint8)[:, : bytes_for(bits)]
    if layout == "lsb":
        return np.ascontiguousarray(raw)
    raw = _REVERSED[raw]
    return raw if layout == "ubinary" else (raw ^ np.uint8(0x80)).view(np.int8)


def from_layout(
    packed: NDArray[Any], bits: int, layout: Layout, *, where: str = "", first_row: int = 0
) -> NDArray[np.uint64]:
    """Read codes from one of the three byte layouts.

    Parameters
    ----------
    packed : (n, ceil(bits / 8)) uint8, or int8 for ``binary``
    bits : int
        True width of a code.
    layout : {"ubinary", "binary", "lsb"}
    where : str
        Name of the source, for messages.
    first_row : int
        Row number of ``packed[0]`` in that source, for messages.

    Returns
    -------
    (n, words) uint64

    Raises
    ------
    InputError
        If the dtype or the number of bytes does not fit the layout, or a bit beyond ``bits`` is
        set.
    """
    wanted = layout_dtype(layout)
    if packed.dtype != wanted:
        raise InputError(
            f"packed bits in layout {layout} have the wrong type",
            where,
            str(wanted),
            str(packed.dtype),
            "say with `packed` which layout it is",
        )
    if packed.ndim != 2 or packed.shape[1] != bytes_for(bits):
        raise InputError(
            "packed bits have the wrong width",
            where,
            f"{bytes_for(bits)} bytes for {bits} bits",
            f"{packed.shape[-1] if packed.ndim else 0} bytes",
        )
    raw = packed.view(np.uint8)
    if layout == "binary":
        raw = raw ^ np.uint8(0x80)
    if layout != "lsb":
        raw = _REVERSED[raw]
    if bits % 8:
        beyond = np.flatnonzero(raw[:, -1] >> np.uint8(bits % 8))
        if beyond.size:
            raise InputError(
                f"a bit beyond bit {bits} is set",
                f"{where} row {first_row + int(beyond[0])}",
                next_step="give the true width with `bits`, and the layout with `packed`",
            )
    return _widen(raw, bits)


def _widen(raw: NDArray[np.uint8], bits: int) -> NDArray[np.uint64]:
    """Pad rows of bytes with zero bytes to whole words."""
    width = words_for(bits) * 8
    if raw.shape[1] != width:
        padded = np.zeros((len(raw), width), dtype=np.uint8)
        padded[:, : raw.shape[1]] = raw
        raw = padded
    words = np.ascontiguousarray(raw).view("<u8")
    return words.astype(np.uint64, copy=False)
