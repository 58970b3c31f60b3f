"""Bytes as they arrive: files, pipes, and knowing whether more is waiting."""

from __future__ import annotations

import io
import json
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final, cast

import xxhash

from binq.errors import EnvironmentFailure, InputError, UsageError
from binq.io.objects import StoreObject
from binq.io.paths import opening

_MAX_LINE: Final = 64 << 20
_MOST_BRACKETS: Final = 1 << 20
_PIPE_READ: Final = 1 << 16
_FILE_READ: Final = 1 << 20
# Seconds after which a read that waits looks whether it was interrupted.
_LOOK_UP: Final = 0.25


def refuse_stdin_twice(**sources: Any) -> None:
    """Refuse more than one source that is standard input, which can be read once.

    Parameters
    ----------
    sources
        By parameter: ``"-"``, or a list with it, is standard input; anything else is not.

    Raises
    ------
    UsageError
    """
    named = [
        f"`{name}`"
        for name, source in sources.items()
        if any(
            isinstance(part, str) and part == "-"
            for part in (source if isinstance(source, list | tuple) else [source])
        )
    ]
    if len(named) > 1:
        raise UsageError(
            "standard input can be read once", " and ".join(named), next_step="name files"
        )


class ByteStream:
    """A file or pipe read forward once, by the descriptor and without a buffer that hides bytes.

    Parameters
    ----------
    name : str
        What messages call it.
    file : int or binary file
        A descriptor, or a file; one without a descriptor (in memory) is read through its methods.
    owned : bool
        Whether ``close`` closes the descriptor.
    """

    def __init__(self, name: str, file: int | BinaryIO, *, owned: bool = False) -> None:
        self.name = name
        self._file: BinaryIO | None = None
        self._fd = -1
        self._owned = owned
        self._pushed = b""
        self._interrupted = False
        self._ended = False
        self._hash = xxhash.xxh3_128()
        if isinstance(file, int):
            self._fd = file
        else:
            try:
                self._fd = file.fileno()
            except (io.UnsupportedOperation, AttributeError):
                self._file = file
        with opening(name):
            self._regular = self._fd < 0 or stat.S_ISREG(os.fstat(self._fd).st_mode)

    @classmethod
    def of_path(cls, path: str) -> ByteStream:
        """Open a file, a FIFO or an object of a store.

        Raises
        ------
        InputError
            If it does not exist.
        EnvironmentFailure
            If it may not be read.
        """
        if isinstance(path, StoreObject):
            return cls(path, cast(BinaryIO, path.open()))
        with opening(path):
            return cls(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), owned=True)

    @classmethod
    def of_stdin(cls, stdin: BinaryIO | None) -> ByteStream:
        """Read ``stdin``, or the process's own."""
        if stdin is None:
            if sys.stdin is None:
                raise EnvironmentFailure("standard input is closed", "stdin")
            stdin = sys.stdin.buffer
        return cls("stdin", stdin)

    def read(self) -> bytes:
        """Return what comes next, waiting for it; ``b""`` at the end."""
        if self._pushed:
            data, self._pushed = self._pushed, b""
            return data
        # A terminal would be read on after its end, and wait for another.
        data = b"" if self._ended else self._read()
        self._ended = not data
        self._hash.update(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return ``size`` bytes, waiting for them; fewer only at the end."""
        parts: list[bytes] = []
        missing = size
        while missing > 0:
            data = self.read()
            if not data:
                break
            if len(data) > missing:
                data, self._pushed = data[:missing], data[missing:]
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def peek(self) -> bytes:
        """Return what comes next, waiting for it, and leave it to be read."""
        if not self._pushed:
            self._pushed = self.read()
        return self._pushed

    def ready(self) -> bool:
        """Return whether ``read`` would answer at once; False where the system cannot tell."""
        if self._pushed or self._regular or self._ended:
            return True
        try:
            return self._waiting(0)
        except (OSError, ValueError):
            return False

    def interrupt(self) -> None:
        """Make a read that waits in another thread raise ``EnvironmentFailure``."""
        self._interrupted = True

    def fingerprint(self) -> str:
        """Return the xxh3_128 of all bytes read so far, in hexadecimal."""
        return str(self._hash.hexdigest())

    def close(self) -> None:
        """Close the descriptor if it is owned."""
        if self._owned and self._fd >= 0:
            os.close(self._fd)
            self._owned = False

    def _read(self) -> bytes:
        with opening(self.name):
            if self._file is not None:
                return self._file.read(_FILE_READ)
            if self._regular:
                return os.read(self._fd, _FILE_READ)
            while True:
                while not self._waiting(_LOOK_UP):
                    if self._interrupted:
                        raise EnvironmentFailure("reading was interrupted", self.name)
                # Whoever shares the pipe may have made it non-blocking, and taken what was there.
                with suppress(BlockingIOError):
                    return os.read(self._fd, _PIPE_READ)

    def _waiting(self, seconds: float) -> bool:
        """Return whether there is something to read, or the end, within so many seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(int(1000 * seconds)))


def parse_json(line: bytes | str) -> Any:
    """Return the value that a line of JSON stands for.

    Raises
    ------
    ValueError, RecursionError
        If it is not JSON, or made of so many brackets that it would take many times its length.
    """
    if len(line) > _MOST_BRACKETS:
        data = line.encode(errors="replace") if isinstance(line, str) else line
        if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
            raise ValueError("too many brackets")
    return json.loads(line)


def lines(stream: ByteStream) -> Iterator[bytes | InputError | None]:
    """Yield lines; None whenever the next one is not complete and reading on would wait.

    In place of a line that is longer than 64 MiB comes an error, as soon as that is known; what is
    left of the line is passed over.
    """
    unfinished: list[bytes] = []
    held = 0
    too_long = False
    while True:
        if not stream.ready():
            yield None
        data = stream.read()
        if not data:
            break
        head, newline, rest = data.partition(b"\n")
        held += len(head)
        if not too_long:
            unfinished.append(head)
            too_long = held > _MAX_LINE
            if too_long:
                unfinished = []
                yield InputError("line is too long", stream.name, f"at most {_MAX_LINE} bytes")
        if newline:
            if not too_long:
                yield b"".join(unfinished)
            too_long = False
            *complete, last = rest.split(b"\n")
            yield from complete
            unfinished, held = [last], len(last)
    if held and not too_long:
        yield b"".join(unfinished)
