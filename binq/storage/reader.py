"""Reading an index: mapped, checked in O(1) on opening, verified in full on request."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.errors import EnvironmentFailure, IndexFileError, index_changed
from binq.kernels.aot import bus
from binq.storage import format as fmt
from binq.storage import preamble as pre
from binq.storage.ids import IntegerIds, StoredIds, StringIds


@dataclass(frozen=True)
class Damage:
    """A place where an index is not what was written; offsets in bytes."""

    section: str
    offset: int
    length: int


class Opened(ABC):
    """What is opened by its path: closed by a ``with`` statement, pickled as where it lies.

    Attributes
    ----------
    path : Path
    uuid : bytes
        What is opened again must have it.
    """

    uuid: bytes

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._absolute = os.path.abspath(path)  # now: the working directory may change

    @abstractmethod
    def close(self) -> None:
        """Close what is open; arrays that were handed out stay valid, and keep its bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._absolute, self.uuid)

    def corrupt(self, what: str, expected: object, got: object) -> IndexFileError:
        """Return the error of damage found in this index."""
        return self._placed(pre.corrupt(what, expected, got))

    def _placed(self, error: IndexFileError) -> IndexFileError:
        """Return an error with the path before what it concerns."""
        where = ": ".join(part for part in (os.fspath(self.path), error.where) if part)
        return IndexFileError(error.what, where, error.expected, error.got, error.next_step)


class IndexFile(Opened):
    """An open index: its header, and its sections as read-only arrays over the mapped file.

    Opening checks the exact length of the file, preamble, footer and header, and the bounds of
    every section, without reading the sections. Bytes of sections may still be damaged: see
    :meth:`verify`.

    Used in a ``with`` statement it is closed at its end.

    Parameters
    ----------
    path : path
    uuid : bytes, optional
        Refuse any other file; a pickled index is opened again so.

    Attributes
    ----------
    path : Path
    header : Header
    sections : dict of str to Section
    uuid : bytes
    version : str
        "major.minor" of the file's format.
    length : int
        Of the file, in bytes.
    header_checksum : int
        The xxh3-64 of its header.

    Raises
    ------
    IndexFileError
        If it is missing, not an index, damaged or of an unsupported version.
    EnvironmentFailure
        If it may not be read.
    """

    def __init__(self, path: str | os.PathLike[str], uuid: bytes | None = None) -> None:
        super().__init__(path)
        try:
            self._descriptor = open_regular(self.path)
            self._release = weakref.finalize(self, os.close, self._descriptor)
            self._seen = _state(self._descriptor)
            self._map = _mapped(self.path, self._descriptor)
            if self._map:
                start = np.frombuffer(self._map, np.uint8).ctypes.data
                bus.watch(start, len(self._map), str(self.path))
            preamble = pre.Preamble.decode(self._map[: pre.PREAMBLE_SIZE])
            fmt.refuse_newer(preamble, self._map)
            preamble.check()
            self.length, self.uuid, self.version = len(self._map), preamble.uuid, preamble.version
            self.header_checksum = preamble.header_checksum
            if uuid not in (None, self.uuid):
                raise IndexFileError(
                    "the index was replaced", expected=f"UUID {uuid.hex()}", got=self.uuid.hex()
                )
            if self.length != preamble.file_length:
                raise IndexFileError(
                    "the index is truncated"
                    if self.length < preamble.file_length
                    else "the index has bytes behind its end",
                    expected=f"{preamble.file_length} bytes",
                    got=f"{self.length}",
                    next_step="restore it from a copy or build it again",
                )
            footer = self._map[self.length - pre.FOOTER_SIZE :]
            if footer != pre.encode_footer(preamble.uuid, self.length):
                raise pre.corrupt("footer", "the preamble's UUID and length", "other bytes")
            start = preamble.header_offset
            encoded = self._map[start : start + preamble.header_length]
            if xxhash.xxh3_64_intdigest(encoded) != preamble.header_checksum:
                raise pre.corrupt("header", "a matching checksum", "another")
            self._header_span = (start, start + preamble.header_length)
            self.header, sections, self._checksums, self._checksums_hash = fmt.decode_header(
                encoded, start, preamble.required
            )
            self.sections = {section.name: section for section in sections}
        except IndexFileError as error:
            raise self._placed(error) from error

    @property
    def shards(self) -> list[IndexFile]:
        """The files that hold it: itself."""
        return [self]

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a section as a read-only array over the map.

        Parameters
        ----------
        name : str
        dtype : str
            The dtype that the caller will take it for.
        shape : tuple of int
            The shape that the caller will take it for; -1 stands for any size.

        Raises
        ------
        IndexFileError
            If there is no such section, or it is of another dtype or shape.
        """
        if not self._map:
            raise ValueError(f"{self.path} is closed")
        section = self.sections.get(name)
        if section is None:
            raise self.corrupt(f"section {name}", "present", "absent")
        fits = len(shape) == len(section.shape) and all(
            want in (-1, got) for want, got in zip(shape, section.shape, strict=True)
        )
        if section.dtype != dtype or not fits:
            raise self.corrupt(
                f"section {name}", f"{dtype} {shape}", f"{section.dtype} {section.shape}"
            )
        if not section.length:
            return np.empty(section.shape, section.numpy_dtype)
        count = section.length // section.numpy_dtype.itemsize
        flat = np.frombuffer(self._map, section.numpy_dtype, count, section.offset)
        return flat.reshape(section.shape)

    def ids(self) -> StoredIds | None:
        """Return the ids, or None where the id is the row number."""
        stored, rows = self.header.ids, self.header.rows
        if stored == "rows":
            return None
        if stored in fmt.TYPED_IDS:
            return IntegerIds(self, self.array(f"ids.{stored}", stored, (rows,)))
        offsets = self.array("ids.offsets", "uint64", (rows + 1,))
        return StringIds(self, offsets, self.array("ids.bytes", "uint8", (-1,)))

    def alive(self) -> NDArray[np.uint64] | None:
        """Return which rows are alive, or None where all are.

        Returns
        -------
        (ceil(n / 64),) uint64, or None
            Bit r % 64 of word r // 64 is set where row r is alive; bits behind the last row are
            zero.
        """
        if "tombstones" not in self.sections:
            return None
        rows = self.header.rows
        alive: NDArray[np.uint64] = ~self.array("tombstones", "uint64", (-(-rows // 64),))
        if rows % 64:
            alive[-1] &= np.uint64((1 << rows % 64) - 1)
        return alive

    def require_unchanged(self) -> None:
        """Refuse to go on where the file was written to, cut or extended since it was opened.

        A file that is replaced by a rename, as binq does it, is not changed: this one stays whole.

        Raises
        ------
        IndexFileError
        """
        if self._descriptor < 0:
            raise ValueError(f"{self.path} is closed")
        if _state(self._descriptor) != self._seen:
            raise index_changed(str(self.path))

    def close(self) -> None:
        """Close the file; arrays that were handed out stay valid, and keep its bytes."""
        self._release()
        self._descriptor = -1
        with suppress(BufferError):  # an array still looks at the map, which goes when it does
            if isinstance(self._map, mmap.mmap):
                self._map.close()
        self._map = b""

    def verify(self) -> list[Damage]:
        """Read the whole file and return what is damaged: nothing, if all is well.

        Every chunk of every section is compared with its checksum, the checksums with theirs, and
        the bytes between sections with zero. (Preamble, header and footer were checked on opening.)

        Raises
        ------
        IndexFileError
            If the file was changed in place since it was opened.
        """
        self.require_unchanged()
        damages = list(self._damaged_gaps())
        table = self._checksums
        stored = self._read(table.offset, table.length)
        if xxhash.xxh3_64_hexdigest(stored) != self._checksums_hash:
            return [Damage("checksums", table.offset, table.length), *damages]
        expected = iter(np.frombuffer(stored, "<u8").tolist())
        for section in self.sections.values():
            end = section.offset + section.length
            for offset in range(section.offset, end, fmt.CHUNK):
                chunk = self._read(offset, min(fmt.CHUNK, end - offset))
                if xxhash.xxh3_64_intdigest(chunk) != next(expected):
                    damages.append(Damage(section.name, offset, len(chunk)))
        return damages

    def _read(self, offset: int, length: int) -> bytes:
        """Read bytes by the descriptor: of a file that is cut meanwhile, no fault but an error."""
        found = os.pread(self._descriptor, length, offset)
        if len(found) != length:
            raise index_changed(str(self.path))
        return found

    def _damaged_gaps(self) -> Iterator[Damage]:
        """Yield the stretches between sections that are not zero."""
        position = pre.PREAMBLE_SIZE
        spans = [(s.offset, s.offset + s.length) for s in self.sections.values()]
        spans.append((self._checksums.offset, self._checksums.offset + self._checksums.length))
        spans += [self._header_span, (self.length - pre.FOOTER_SIZE, self.length)]
        for start, end in spans:
            gap = self._read(position, start - position)
            if gap.count(0) != len(gap):
                yield Damage("padding", position, len(gap))
            position = end


def open_regular(path: Path) -> int:
    """Open a regular file, without waiting for whoever would write to a pipe.

    Raises
    ------
    IndexFileError
        If there is none.
    EnvironmentFailure
        If it may not be read.
    """
    missing = "make one with: binq build VECTORS -o INDEX.binq"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except FileNotFoundError:
        raise IndexFileError("no such index", next_step=missing) from None
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ENXIO):  # ENXIO: a socket
            raise _unreadable(path, error) from error
    raise IndexFileError("not an index", expected="a file", next_step=missing)


def _mapped(path: Path, descriptor: int) -> mmap.mmap | bytes:
    """Map a whole file read-only."""
    try:
        empty = not os.fstat(descriptor).st_size
        if empty:
            return b""
        if sys.version_info >= (3, 13):  # before, a map keeps a descriptor of its own
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> EnvironmentFailure:
    reason = (error.strerror or str(error)).lower()
    step = "allow more with ulimit -n" if error.errno == errno.EMFILE else ""
    return EnvironmentFailure("cannot read the index", str(path), got=reason, next_step=step)


def _state(descriptor: int) -> tuple[int, int]:
    """Return what shows whether a file was written to: its size, and when it last was."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns
