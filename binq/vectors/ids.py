"""Ids as they are given, and which type holds all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from binq.errors import Marked

Ids: TypeAlias = "list[Any] | NDArray[Any]"
"""Ids of some rows, as they were given: str and int, or the int64 or uint64 of a column."""
IdType = Literal["rows", "strings", "int64", "uint64"]
"""What ids are: ``rows`` where there are none and row numbers serve."""

OTHER_IDS: Final = "give every row an id, or choose others with `id_column` (empty: row numbers)"
"""What to do where some rows have no id."""

_NAMED: Final = 8
_LIMITS: Final = np.iinfo(np.int64), np.iinfo(np.uint64)


class CommonType:
    """The type that holds all ids of a source, settled as they come.

    Integers, as long as all are and one type of 64 bits holds them, else strings.
    """

    def __init__(self) -> None:
        self._seen = self._strings = self._unsigned = False
        self._low = self._high = 0

    @property
    def name(self) -> IdType:
        """What they are so far."""
        signed, unsigned = _LIMITS
        if not self._seen:
            return "rows"
        if self._strings:
            return "strings"
        # A column of uint64 stays one, however small its numbers.
        if self._low >= 0 and (self._unsigned or self._high > signed.max):
            return "uint64" if self._high <= unsigned.max else "strings"
        return "int64" if signed.min <= self._low and self._high <= signed.max else "strings"

    def join(self, other: CommonType) -> None:
        """Take what others are into account."""
        self._seen |= other._seen
        self._strings |= other._strings
        self._unsigned |= other._unsigned
        self._low = min(self._low, other._low)
        self._high = max(self._high, other._high)

    def add(self, ids: Ids) -> NDArray[Any] | None:
        """Take further ids, at least one, into account; return integers as an array."""
        numbers = None if self._strings else integers(ids)
        self._seen = True
        if numbers is None:
            self._strings = True
        else:
            self._unsigned |= isinstance(ids, np.ndarray) and ids.dtype == np.uint64
            self._low = min(self._low, int(numbers.min()))
            self._high = max(self._high, int(numbers.max()))
        return numbers


def integers(ids: Ids) -> NDArray[Any] | None:
    """Return ids as int64 or else uint64; None where not all are integers that fit one."""
    if isinstance(ids, np.ndarray):
        return ids
    if all(type(value) is int for value in ids):
        for dtype in (np.int64, np.uint64):
            with suppress(OverflowError):
                return np.array(ids, dtype)
    return None


def joined_ids(parts: Sequence[Ids | None]) -> Ids:
    """Return the ids of several parts of one source as one; None is none."""
    held = [part for part in parts if part is not None]
    if held and all(isinstance(part, np.ndarray) for part in held):
        return np.concatenate(held)
    return [value for part in held for value in part]


def odd_one(ids: Ids, kind: IdType) -> str:
    """Return, as Python writes it, the first id that is not of a type; nothing if all are."""
    values = ids.tolist() if isinstance(ids, np.ndarray) else ids
    if kind == "strings":
        return next((repr(value) for value in values if not isinstance(value, str)), "")
    limits = np.iinfo(kind)
    fits = (type(value) is int and limits.min <= value <= limits.max for value in values)
    return next((repr(value)[:80] for value, fit in zip(values, fits, strict=True) if not fit), "")


def is_id(value: object) -> bool:
    """Return whether a value of JSON is an id: a string or an integer."""
    return isinstance(value, str) or type(value) is int


def note_of(candidates: Sequence[str]) -> Marked:
    """Return a line that says that row numbers serve as ids, and which columns could."""
    names = ", ".join(candidates[:_NAMED]) + (", …" if len(candidates) > _NAMED else "")
    could = f"; candidates for `id_column`: {names}" if names else ""
    return Marked(f"no column of ids was found, so row numbers serve{could}")
