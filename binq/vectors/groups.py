"""Row groups decoded once and kept on disk, for rows that are fetched again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import InputError

_LARGE_FILES: Final = "/var/tmp"  # where they belong: /tmp may be memory
_Key = tuple[str, int]


class DecodedGroups:
    """The decoded row groups of all files of one source, in one unnamed temporary file.

    The first time that rows of a group are wanted, nothing is kept: it may be the last. The second
    time the whole group is decoded and kept, as far as half of the free disk reaches, so that no
    group is decoded more than twice. The file lies in ``TMPDIR``, or ``/var/tmp``, and vanishes
    when it is closed or the process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: set[_Key] = set()
        self._places: dict[_Key, int | None] = {}
        self._file: IO[bytes] | None = None
        self._room = 0
        self._end = 0
        self._values: NDArray[np.float32] = np.empty(0, np.float32)

    def get(
        self,
        key: _Key,
        shape: tuple[int, int],
        blocks: Callable[[], Iterator[NDArray[np.float32]]],
    ) -> NDArray[np.float32] | None:
        """Return a group, or None where it is wanted for the first time or cannot be kept.

        Parameters
        ----------
        key : (path, number)
        shape : (rows, dim)
        blocks : callable
            Returns the rows of the group as (m, dim) arrays in order.
        """
        with self._lock:
            if key not in self._wanted:
                self._wanted.add(key)
                return None
            if key not in self._places:
                self._places[key] = self._keep(4 * shape[0] * shape[1], blocks)
            place = self._places[key]
            if place is None:
                return None
            return self._values[place : place + shape[0] * shape[1]].reshape(shape)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._wanted.clear()
            self._places.clear()
            self._values = np.empty(0, np.float32)
            self._end = 0
            if self._file is not None:
                self._file.close()
                self._file = None

    def _keep(self, size: int, blocks: Callable[[], Iterator[NDArray[np.float32]]]) -> int | None:
        """Write a group, and return at which number of the file it begins; None if it cannot be."""
        # Without disk, or with a bad row that nobody asked for, groups are decoded anew each time.
        with suppress(OSError, InputError):
            if self._file is None:
                import shutil
                import tempfile

                fits = os.path.isdir(_LARGE_FILES) and not os.environ.get("TMPDIR")
                directory = _LARGE_FILES if fits else tempfile.gettempdir()
                self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
                self._room = shutil.disk_usage(directory).free // 2
            if self._end + size > self._room:
                return None
            start = self._end
            self._file.seek(start)
            for block in blocks():
                self._file.write(np.ascontiguousarray(block).data)
            self._file.flush()
            self._end = start + size
            self._values = np.asarray(np.memmap(self._file, np.float32, "r", 0, (self._end // 4,)))
            return start // 4
        return None
