"""What the numbers of a file mean, and raw rows made into the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.bits import bytes_for, from_layout, layout_dtype, words_for
from binq.errors import InputError, UsageError
from binq.types import LAYOUTS, MAX_DIM, Layout, Locate, Packed


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about vectors that are to be read.

    Attributes
    ----------
    column, id_column : str or None
        Vector and id column, or their keys in jsonl; found where unset. An empty id column: none.
    packed : {"none", "ubinary", "binary", "lsb"} or None
        What 8-bit data are: numbers, or bits in one of the layouts.
    bits : int or None
        True width of packed codes; 8 bits a byte by default.
    dims : tuple of int
        The lengths of vectors that can be used, where they are known: the first row of such a
        length says which it is. By default that is the first row that can be read.
    every_line : bool
        Whether a blank line counts as a row, which is refused without an error; else it is passed
        over.

    Raises
    ------
    UsageError
        If ``packed`` is no layout, ``bits`` is out of range, or bits are given for numbers.
    """

    column: str | None = None
    id_column: str | None = None
    packed: Packed | None = None
    bits: int | None = None
    dims: tuple[int, ...] = ()
    every_line: bool = False

    def __post_init__(self) -> None:
        if self.packed not in (None, "none", *LAYOUTS):
            layouts = f"none or one of {', '.join(LAYOUTS)}"
            raise UsageError("no such packed layout", "`packed`", layouts, str(self.packed))
        if self.bits is not None and not 1 <= self.bits <= MAX_DIM:
            raise UsageError(
                "a code has no such width", "`bits`", f"1 to {MAX_DIM}", str(self.bits)
            )
        if self.bits is not None and self.packed == "none":
            raise UsageError(
                "`bits` is the width of packed bits", "`packed=none`", "a packed layout"
            )

    def refuse_columns(self, where: str) -> None:
        """Refuse column names for a format without columns.

        Raises
        ------
        InputError
            If one is given.
        """
        if self.column is not None or self.id_column:
            raise InputError(
                "the format has no columns", where, next_step="drop `column` and `id_column`"
            )


@dataclass(frozen=True)
class Decoder:
    """Makes rows of numbers or of bytes into rows of a batch.

    Attributes
    ----------
    width : int
        Elements of a raw row.
    dim : int
        Length of a vector, or bits of a code.
    layout : {"ubinary", "binary", "lsb"} or None
        Layout of packed bits; None for numbers.
    """

    width: int
    dim: int
    layout: Layout | None

    @property
    def empty(self) -> NDArray[Any]:
        """No rows, decoded."""
        if self.layout is None:
            return np.empty((0, self.dim), np.float32)
        return np.empty((0, words_for(self.dim)), np.uint64)

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return 4 * self.dim if self.layout is None else 8 * words_for(self.dim)

    def decode(self, raw: NDArray[Any], locate: Locate) -> NDArray[Any]:
        """Decode raw rows.

        Parameters
        ----------
        raw : (n, width) numbers, or uint8 or int8
        locate : callable
            Says where row ``i`` of ``raw`` stands, for messages.

        Returns
        -------
        (n, dim) float32 or (n, words) uint64, C-contiguous

        Raises
        ------
        InputError
            At a NaN, an infinity, a value beyond float32, or a bit beyond ``dim``.
        """
        if self.layout is None:
            return to_float32(raw, locate)
        try:
            return from_layout(np.ascontiguousarray(raw), self.dim, self.layout)
        except InputError as error:
            # from_layout knows the row inside this block only.
            row = error.where.removeprefix(" row ")
            if not row.isdigit():
                raise
            raise InputError(error.what, locate(int(row)), next_step=error.next_step) from None


def decoder_for(width: int, layout: Layout | None, bits: int | None, where: str) -> Decoder:
    """Return the decoder of rows of ``width`` elements.

    Raises
    ------
    InputError
        If rows are empty, or ``bits`` does not fit into ``width`` bytes.
    """
    dim = width if layout is None else 8 * width if bits is None else bits
    if not 1 <= dim <= MAX_DIM or width < 1:
        raise InputError("vectors have an impossible dimension", where, f"1 to {MAX_DIM}", str(dim))
    if layout is None:
        return Decoder(width, width, None)
    if bytes_for(dim) != width:
        raise InputError(
            "packed bits have the wrong width",
            where,
            f"{bytes_for(dim)} bytes for {dim} bits",
            f"{width} bytes",
            "give the true width with `bits`",
        )
    return Decoder(width, dim, layout)


def settle_layout(
    dtype: np.dtype[Any],
    packed: Packed | None,
    bits: int | None,
    where: str,
    *,
    eight_bit_numbers: bool = False,
) -> Layout | None:
    """Decide whether elements of ``dtype`` are numbers or packed bits.

    Parameters
    ----------
    dtype : dtype
        Of the elements.
    packed : {"none", "ubinary", "binary", "lsb"} or None
        What the user or the file says.
    bits : int or None
        As in `ReadOptions`.
    where : str
        The source, for messages.
    eight_bit_numbers : bool
        Whether the format says that 8-bit integers are numbers.

    Returns
    -------
    {"ubinary", "binary", "lsb"} or None
        None for numbers.

    Raises
    ------
    InputError
        If the elements are no real numbers, are ambiguous, or do not fit ``packed``.
    UsageError
        If bits are given for numbers.
    """
    if not (dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8)):
        raise InputError(
            "vectors have the wrong type",
            where,
            "float16, float32, float64 or integers",
            "objects" if dtype.hasobject else str(dtype),
        )
    if packed in (None, "none"):
        if dtype.itemsize == 1 and packed is None and not eight_bit_numbers:
            raise InputError(
                "8-bit data may be numbers or packed bits",
                where,
                got=str(dtype),
                next_step="say which with `packed=none|ubinary|binary|lsb`",
            )
        refuse_bits(bits, where)
        return None
    layout: Layout = packed  # type: ignore[assignment]
    if dtype != layout_dtype(layout):
        raise InputError(
            f"data are not packed bits in layout {layout}",
            where,
            str(layout_dtype(layout)),
            str(dtype),
            "correct `packed`",
        )
    return layout


def refuse_bits(bits: int | None, where: str) -> None:
    """Refuse a width in bits for numbers.

    Raises
    ------
    UsageError
        If ``bits`` is given.
    """
    if bits is not None:
        raise UsageError(
            "`bits` is the width of packed bits", where, "packed bits", "numbers", "drop `bits`"
        )


def to_float32(raw: NDArray[Any], locate: Locate) -> NDArray[np.float32]:
    """Convert rows to float32 and refuse what is not finite.

    Parameters
    ----------
    raw : (n, dim) real numbers
    locate : callable
        Says where row ``i`` of ``raw`` stands.

    Returns
    -------
    (n, dim) float32, C-contiguous
        ``raw`` itself where it already is that.

    Raises
    ------
    InputError
        At the first NaN, infinity, or value beyond float32's range.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(raw, dtype=np.float32)
        # A sum is NaN or infinite wherever an element is, and costs half of looking at each; it
        # may also overflow over finite elements, hence the second look.
        suspect = not np.isfinite(rows.sum())
    if suspect:
        finite = np.isfinite(rows)
        if not finite.all():
            flat = int(np.argmin(finite))
            row, column = divmod(flat, rows.shape[1])
            raise InputError(
                "a value is not a finite float32",
                f"{locate(row)} dim {column}",
                "finite numbers",
                str(raw[row, column]),
            )
    return rows
