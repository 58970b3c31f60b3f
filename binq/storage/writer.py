"""Writing an index: arrays stream in side by side, one whole file comes out."""

from __future__ import annotations

import mmap
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.errors import InputError
from binq.io.atomic import atomic_write, scratch_beside
from binq.storage import features
from binq.storage import format as fmt
from binq.storage import preamble as pre

_REORDERED: Final = 65_536


class _SectionWriter:
    """One section being written: its file, its shape so far, the checksums of its chunks."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        self.file = file
        self.dtype = dtype
        self.row_shape = row_shape
        self.rows = 0
        self.length = 0
        self.checksums: list[int] = []
        self._chunk = xxhash.xxh3_64()
        self._room = fmt.CHUNK

    def append(self, rows: NDArray[Any]) -> None:
        if rows.dtype != self.dtype or rows.shape[1:] != self.row_shape:
            raise TypeError(f"a section of {self.dtype}{self.row_shape} got {rows.dtype}")
        stored = np.ascontiguousarray(rows, self.dtype.newbyteorder("<"))
        data = stored.reshape(-1).view(np.uint8).data
        self.file.write(data)
        self.rows += len(rows)
        self.length += len(data)
        while data:
            part = data[: self._room]
            self._chunk.update(part)
            self._room -= len(part)
            data = data[len(part) :]
            if not self._room:
                self._close_chunk()

    def close(self) -> list[int]:
        """Return the checksums of all chunks."""
        if self._room != fmt.CHUNK:
            self._close_chunk()
        return self.checksums

    def _close_chunk(self) -> None:
        self.checksums.append(self._chunk.intdigest())
        self._chunk = xxhash.xxh3_64()
        self._room = fmt.CHUNK


class IndexWriter:
    """Collects sections and lays them in one file; made by :func:`writing_index`.

    The codes go straight into the file. The sections that grow beside them are spooled to unnamed
    files in the same directory and copied behind the codes at the end, so that a stream of unknown
    length is written in one pass and in bounded memory.

    Attributes
    ----------
    written_as : Preamble
        What the file begins with, once it is finished.
    """

    written_as: pre.Preamble

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str], stack: ExitStack) -> None:
        self._file = file
        self._path = path
        self._stack = stack
        self._sections: dict[str, _SectionWriter] = {}
        self._scattered: tuple[NDArray[np.int64], int] | None = None

    def section(
        self,
        name: str,
        dtype: str | np.dtype[Any] | type,
        row_shape: Sequence[int] = (),
        *,
        spooled: bool = False,
    ) -> None:
        """Begin the section ``name`` of rows of ``row_shape``; ``codes`` must be the first.

        Codes that are ``spooled`` are to be put in order by :meth:`reorder`.
        """
        if not self._sections and name != "codes":
            raise ValueError("codes is the first section")
        straight = name == "codes" and not spooled
        target = self._codes_file() if straight else self._scratch()
        self._sections[name] = _SectionWriter(target, np.dtype(dtype), tuple(row_shape))

    def _codes_file(self) -> BinaryIO:
        self._file.seek(fmt.align(pre.PREAMBLE_SIZE, fmt.CODES_ALIGNMENT))
        return self._file

    def _scratch(self) -> BinaryIO:
        return self._stack.enter_context(scratch_beside(self._path))

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Append rows to the section ``name``."""
        if self._scattered is not None:
            places, count = self._scattered
            every = np.zeros((count, *rows.shape[1:]), rows.dtype)
            every[places] = rows
            rows = every
        self._sections[name].append(rows)

    @contextmanager
    def scattered(self, places: NDArray[np.int64], count: int) -> Iterator[None]:
        """Inside the block, take what is appended for some of ``count`` rows; others are zeros."""
        self._scattered = (places, count)
        try:
            yield
        finally:
            self._scattered = None

    def written(self, name: str) -> NDArray[Any]:
        """Return what was appended to a spooled section so far, mapped."""
        part = self._sections[name]
        part.file.flush()
        shape = (part.rows, *part.row_shape)
        if not part.length:
            return np.empty(shape, part.dtype)
        memory = mmap.mmap(part.file.fileno(), part.length, access=mmap.ACCESS_READ)
        return np.frombuffer(memory, part.dtype.newbyteorder("<")).reshape(shape)

    def reorder(self, names: Sequence[str], order: NDArray[np.uint32]) -> None:
        """Put the rows of spooled sections in this order (n,), where they are there."""
        for name in names:
            old = self._sections.get(name)
            if old is None:
                continue
            rows = self.written(name)
            target = self._codes_file() if name == "codes" else self._scratch()
            new = self._sections[name] = _SectionWriter(target, old.dtype, old.row_shape)
            for first in range(0, len(order), _REORDERED):
                new.append(rows[order[first : first + _REORDERED]].astype(old.dtype, copy=False))
            old.file.close()

    def holds(self, name: str) -> bool:
        """Return whether a section was begun."""
        return name in self._sections

    def drop(self, name: str) -> None:
        """Leave out a spooled section after all."""
        self._sections.pop(name).file.close()

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Write a whole array as the section ``name``."""
        self.section(name, array.dtype, array.shape[1:])
        self.append(name, array)

    def finish(self, header: fmt.Header) -> None:
        """Lay the spooled sections, checksums, header, footer and preamble.

        The file is of the lowest format version that holds it: it needs what the header and the
        names of its sections say, and no more.
        """
        sections, checksums = [], []
        for name, part in self._sections.items():
            checksums += part.close()
            if part.file is self._file:
                offset = fmt.align(pre.PREAMBLE_SIZE, fmt.CODES_ALIGNMENT)
                self._file.seek(offset + part.length)
            else:
                offset = self._pad()
                part.file.seek(0)
                shutil.copyfileobj(part.file, self._file, 1 << 20)
                part.file.close()
            shape = (part.rows, *part.row_shape)
            sections.append(fmt.Section(name, part.dtype.name, shape, offset, part.length))
        table = np.array(checksums, dtype="<u8").tobytes()
        checksum_section = fmt.Section(
            "checksums", "uint64", (len(checksums),), self._pad(), len(table)
        )
        self._file.write(table)
        encoded = fmt.encode_header(
            header, sections, checksum_section, xxhash.xxh3_64_hexdigest(table)
        )
        if len(encoded) > pre.HEADER_LIMIT:
            raise InputError(
                "the header would be too large",
                expected=f"at most {pre.HEADER_LIMIT} bytes",
                got=f"{len(encoded)}",
                next_step="build from fewer files, or join them first",
            )
        identity = (
            xxhash.xxh3_128_digest(table + encoded)
            if "SOURCE_DATE_EPOCH" in os.environ
            else uuid.uuid4().bytes
        )
        header_offset = self._pad()
        self._file.write(encoded)
        length = self._pad() + pre.FOOTER_SIZE
        self._file.write(pre.encode_footer(identity, length))
        needs = fmt.needed(header, sections)
        preamble = pre.Preamble(
            minor=features.minor_of(needs),
            size=pre.PREAMBLE_SIZE,
            required=features.bits_of(needs),
            optional=0,
            uuid=identity,
            file_length=length,
            header_offset=header_offset,
            header_length=len(encoded),
            header_checksum=xxhash.xxh3_64_intdigest(encoded),
        )
        self._file.seek(0)
        self._file.write(preamble.encode())
        self.written_as = preamble

    def _pad(self) -> int:
        """Write zero bytes up to the next aligned offset and return it."""
        position = self._file.tell()
        offset = fmt.align(position)
        self._file.write(bytes(offset - position))
        return offset


@contextmanager
def writing_index(
    path: str | os.PathLike[str], named: Callable[[bytes], str] | None = None
) -> Iterator[IndexWriter]:
    """Write an index that appears under ``path`` when the block ends without an error.

    The block must call :meth:`IndexWriter.finish`.

    Parameters
    ----------
    path : path
    named : callable, optional
        Given the UUID, returns the name to appear under in place of the last part of ``path``.

    Raises
    ------
    EnvironmentFailure
        If the file cannot be written; the old one is left as it was.
    """
    writers: list[IndexWriter] = []
    final = None if named is None else lambda: named(writers[0].written_as.uuid)
    with atomic_write(path, named=final) as file, ExitStack() as stack:
        writers.append(IndexWriter(file, path, stack))
        yield writers[0]


def creation_time() -> str:
    """Return the present time, or that of ``SOURCE_DATE_EPOCH``, as ISO 8601 in UTC.

    Raises
    ------
    InputError
        If ``SOURCE_DATE_EPOCH`` is not a number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        seconds = time.time() if epoch is None else int(epoch)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            "SOURCE_DATE_EPOCH is not a time", expected="seconds since 1970", got=repr(epoch)
        ) from error
