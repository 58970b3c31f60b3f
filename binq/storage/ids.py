"""The ids of an index: strings end to end with offsets, or integers; written, and read singly."""

from __future__ import annotations

import operator
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.errors import BinqWarning, InputError
from binq.vectors.ids import CommonType, Ids, IdType

if TYPE_CHECKING:
    from binq.storage.directory import IndexDirectory
    from binq.storage.reader import IndexFile
    from binq.storage.writer import IndexWriter

_BLOCK: Final = 4096
# As the integers of an index are written; of more digits none is.
_DECIMAL: Final = re.compile(r"0|-?[1-9][0-9]{0,19}")


class StoredIds(ABC):
    """The ids of an index, indexed by row number as a list is; each a str, or an int."""

    def __init__(self, file: IndexFile | IndexDirectory, rows: int) -> None:
        self._file = file
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Any:
        number = operator.index(row)
        if not -self._rows <= number < self._rows:
            raise IndexError(f"row {number} of {self._rows}")
        return self._at(number % self._rows)

    def __iter__(self) -> Iterator[Any]:
        for first in range(0, self._rows, _BLOCK):
            yield from self._block(first, min(first + _BLOCK, self._rows))

    def __reduce__(self) -> tuple[Any, ...]:
        # By the file's path and UUID: an index that was replaced meanwhile is refused.
        return type(self._file).ids, (self._file,)

    @abstractmethod
    def find(
        self, wanted: Sequence[str] | Sequence[int], alive: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find the rows of some ids.

        Parameters
        ----------
        wanted : sequence of str or of int
            None twice. A number and its decimal digits are the same id.
        alive : (n,) bool, optional
            Which rows are not dead; by default all.

        Returns
        -------
        found : (n,) bool
            Whether a row, alive or dead, carries one of them.
        known : (len(wanted),) bool
            Which of them a row that is alive carries.
        """

    @abstractmethod
    def _at(self, row: int) -> str | int:
        """Return the id of a row that is there."""

    @abstractmethod
    def _block(self, first: int, end: int) -> Iterable[str | int]:
        """Return the ids of rows that are there, from ``first`` up to ``end``."""


class IntegerIds(StoredIds):
    """Ids that are int64 or uint64."""

    def __init__(self, file: IndexFile, values: NDArray[Any]) -> None:
        super().__init__(file, len(values))
        self._values = values

    def find(
        self, wanted: Sequence[str] | Sequence[int], alive: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find the rows of some ids; see ``StoredIds.find``."""
        limits = np.iinfo(self._values.dtype)
        numbers = [int(value) if _is_integer(value) else None for value in wanted]
        fit = [number is not None and limits.min <= number <= limits.max for number in numbers]
        possible = np.array(fit, np.bool_)
        held = np.array(list(compress(numbers, fit)), self._values.dtype)
        found = np.isin(self._values, held)
        living = self._values if alive is None else self._values[alive]
        known = possible.copy()
        known[possible] = np.isin(held, living)
        return found, known

    def _at(self, row: int) -> int:
        return int(self._values[row])

    def _block(self, first: int, end: int) -> Iterable[int]:
        return cast("list[int]", self._values[first:end].tolist())


class StringIds(StoredIds):
    """Ids that are strings, decoded one at a time.

    Offsets come from the file, so each is checked where it is used.
    """

    def __init__(
        self, file: IndexFile, offsets: NDArray[np.uint64], data: NDArray[np.uint8]
    ) -> None:
        super().__init__(file, len(offsets) - 1)
        self._offsets = offsets
        self._data = data

    def find(
        self, wanted: Sequence[str] | Sequence[int], alive: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find the rows of some ids; see ``StoredIds.find``.

        Raises
        ------
        IndexFileError
            If an offset leads out of the ids.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        # Arrow reads all offsets at once and follows them unchecked.
        offsets = self._offsets
        if (offsets[1:] < offsets[:-1]).any() or int(offsets[-1]) > len(self._data):
            raise self._file.corrupt("ids.offsets", "places inside ids.bytes, ascending", "others")
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._data)]
        ids = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)
        names = pa.array(
            [str(value).encode(errors="surrogatepass") for value in wanted], pa.large_binary()
        )
        found = pc.is_in(ids, value_set=names).to_numpy(zero_copy_only=False)
        living = ids if alive is None else ids.filter(pa.array(alive))
        known = pc.is_in(names, value_set=living).to_numpy(zero_copy_only=False)
        return found, known.astype(np.bool_, copy=False)

    def _at(self, row: int) -> str:
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        if not start <= end <= len(self._data):
            raise self._file.corrupt(f"id of row {row}", "a place inside ids.bytes", "another")
        try:
            return self._data[start:end].tobytes().decode()
        except UnicodeDecodeError:
            raise self._file.corrupt(f"id of row {row}", "UTF-8", "other bytes") from None

    def _block(self, first: int, end: int) -> Iterable[str]:
        places = self._offsets[first : end + 1]
        if places[-1] <= len(self._data) and (places[1:] >= places[:-1]).all():
            text = self._data[int(places[0]) : int(places[-1])].tobytes()
            with suppress(UnicodeDecodeError):  # to be found and named one at a time
                bounds = pairwise((places - places[0]).tolist())
                return [text[start:stop].decode() for start, stop in bounds]
        return map(self._at, range(first, end))


class JoinedIds(StoredIds):
    """The ids of several shards, one after the other.

    Parameters
    ----------
    file : IndexDirectory
    parts : list of (int, StoredIds or None)
        How many rows a shard has, and their ids; None where all of its rows are dead.
    texts : bool
        Whether integers are written as texts, since others are.
    """

    def __init__(
        self, file: IndexDirectory, parts: list[tuple[int, StoredIds | None]], texts: bool
    ) -> None:
        ends = np.cumsum([rows for rows, _ in parts])
        super().__init__(file, int(ends[-1]))
        self._parts = parts
        self._ends = ends
        self._texts = texts

    def find(
        self, wanted: Sequence[str] | Sequence[int], alive: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find the rows of some ids; see ``StoredIds.find``."""
        found = np.zeros(self._rows, np.bool_)
        known = np.zeros(len(wanted), np.bool_)
        for end, (rows, ids) in zip(self._ends, self._parts, strict=True):
            if ids is not None:
                own = slice(end - rows, end)
                found[own], there = ids.find(wanted, None if alive is None else alive[own])
                known |= there
        return found, known

    def _at(self, row: int) -> str | int:
        part = int(np.searchsorted(self._ends, row, side="right"))
        rows, ids = self._parts[part]
        place = row - int(self._ends[part]) + rows
        return next(iter(self._of(ids, place, place + 1)))

    def _block(self, first: int, end: int) -> Iterable[str | int]:
        for stop, (rows, ids) in zip(self._ends.tolist(), self._parts, strict=True):
            low, high = max(first, stop - rows), min(end, stop)
            if low < high:
                yield from self._of(ids, low - stop + rows, high - stop + rows)

    def _of(self, ids: StoredIds | None, first: int, end: int) -> Iterable[str | int]:
        """Return the ids of some rows of a shard."""
        if ids is None:
            return ["" if self._texts else 0] * (end - first)
        found = ids._block(first, end)
        return map(str, found) if self._texts else found


def _is_integer(value: str | int) -> bool:
    """Return whether an id is written as the integers of an index are."""
    return isinstance(value, int) or _DECIMAL.fullmatch(value) is not None


class IdWriter:
    """Writes ids where there are any, and finds those that stand on more than one row.

    Integers are written at the end, when it is known which type holds them all; where none does, or
    other ids are strings, they are written as strings, in decimal.
    """

    def __init__(self, writer: IndexWriter) -> None:
        self._writer = writer
        self._type = CommonType()
        self._numbers: list[NDArray[Any]] = []
        self._strings = False
        self._end = 0
        self._hashes: list[NDArray[np.uint64]] = []

    def append(
        self, ids: Ids | None, places: NDArray[np.int64] | None = None, count: int = 0
    ) -> None:
        """Append the ids of some rows; None where the source has none.

        Parameters
        ----------
        ids : list or array
        places, count : optional
            Which of ``count`` rows they are of, where they are not of all: the others are dead, and
            what is written for them stands for nothing.

        Raises
        ------
        InputError
            If one is not valid Unicode.
        """
        if ids is None:
            return
        numbers = None if self._type.name == "strings" else np.empty(0, np.int64)
        if len(ids):
            numbers = self._type.add(ids)
        if places is not None:
            numbers, ids = _scattered(numbers, ids, places, count)
        if self._type.name != "strings" and numbers is not None:
            self._numbers.append(numbers)
            return
        for held in self._numbers:
            self._append_strings(held.tolist())
        self._numbers = []
        self._append_strings(ids.tolist() if isinstance(ids, np.ndarray) else ids)

    @property
    def type(self) -> CommonType:
        """What the ids are so far."""
        return self._type

    def hashes(self) -> NDArray[np.uint64]:
        """Return what tells ids apart, of all rows so far, (n,); or nothing where there are none.

        An integer tells itself; a text its xxh3-64.
        """
        parts = [*self._hashes, *(numbers.view(np.uint64) for numbers in self._numbers)]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)

    def warn_of_duplicates(self, dead: NDArray[np.bool_] | None = None) -> None:
        """Warn, once all rows are there, if an id stands on more than one of those not dead."""
        hashes = self.hashes()
        if dead is None or not len(hashes):
            warn_of_duplicates(hashes)
        else:
            warn_of_duplicates(hashes[~dead], lambda: np.flatnonzero(~dead))

    def finish(self) -> IdType:
        """Write what is left to write, once all rows are there.

        Returns
        -------
        str
            What the header is to say that the ids are.
        """
        found = self._type.name
        if self._numbers and found != "rows":  # as it is where all rows are dead
            self._writer.section(f"ids.{found}", found)
            for numbers in self._numbers:
                self._writer.append(f"ids.{found}", numbers.astype(found, copy=False))
        return found

    def _append_strings(self, ids: list[Any]) -> None:
        if not self._strings:
            self._strings = True
            self._writer.section("ids.offsets", np.uint64)
            self._writer.section("ids.bytes", np.uint8)
            self._writer.append("ids.offsets", np.zeros(1, np.uint64))
        try:
            encoded = [str(name).encode() for name in ids]
        except UnicodeEncodeError as error:
            raise InputError(
                "an id is not valid Unicode", repr(error.object)[:80], "no lone surrogates"
            ) from error
        ends = self._end + np.cumsum([len(text) for text in encoded], dtype=np.uint64)
        self._end = int(ends[-1]) if len(ends) else self._end
        self._writer.append("ids.offsets", ends)
        self._writer.append("ids.bytes", np.frombuffer(b"".join(encoded), np.uint8))
        hashes = map(xxhash.xxh3_64_intdigest, encoded)
        self._hashes.append(np.fromiter(hashes, np.uint64, len(ids)))


def text_hashes(hashes: NDArray[np.uint64], kind: IdType) -> NDArray[np.uint64]:
    """Return what tells ids apart from texts, given what tells those of a type apart."""
    if kind == "strings":
        return hashes
    numbers = hashes.view(np.int64) if kind == "int64" else hashes
    digits = (xxhash.xxh3_64_intdigest(str(number).encode()) for number in numbers.tolist())
    return np.fromiter(digits, np.uint64, len(hashes))


def warn_of_duplicates(
    hashes: NDArray[np.uint64], numbers: Callable[[], NDArray[np.int64]] | None = None
) -> None:
    """Warn if an id stands on more than one row.

    Parameters
    ----------
    hashes : (m,) uint64
        What tells ids apart.
    numbers : callable, optional
        Returns the numbers (m,) of the rows; by default all are there.
    """
    ordered = np.sort(hashes)
    if not (ordered[1:] == ordered[:-1]).any():
        return
    del ordered
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    repeated = first[counts > 1]
    rows = np.flatnonzero(hashes == hashes[repeated.min()])[:2]
    if numbers is not None:
        rows = numbers()[rows]
    warnings.warn(
        f"{len(repeated)} ids stand on more than one row (first: rows {rows[0]} and"
        f" {rows[1]}); the row is the identity",
        BinqWarning,
        stacklevel=5,
    )


def write_texts(writer: IndexWriter, ids: StoredIds) -> None:
    """Write ids that are read from an index as texts."""
    writer.section("ids.offsets", np.uint64)
    writer.section("ids.bytes", np.uint8)
    writer.append("ids.offsets", np.zeros(1, np.uint64))
    end = 0
    for first in range(0, len(ids), _BLOCK):
        some = ids._block(first, min(first + _BLOCK, len(ids)))
        encoded = [str(name).encode() for name in some]
        ends = end + np.cumsum([len(text) for text in encoded], dtype=np.uint64)
        end = int(ends[-1])
        writer.append("ids.offsets", ends)
        writer.append("ids.bytes", np.frombuffer(b"".join(encoded), np.uint8))


def _scattered(
    numbers: NDArray[Any] | None, ids: Ids, places: NDArray[np.int64], count: int
) -> tuple[NDArray[Any] | None, Ids]:
    """Return ids for all of ``count`` rows, as numbers if they are, given those of some."""
    if numbers is not None:
        every = np.zeros(count, numbers.dtype)
        every[places] = numbers
        return every, every
    names: list[Any] = [""] * count
    for place, name in zip(places.tolist(), ids, strict=True):
        names[place] = name
    return None, names
