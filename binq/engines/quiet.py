"""What keeps a library's threads, logs, signals and scratch files out of the user's way."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

# Of the path of a folder that is to hold sockets, whose whole paths may have 107 bytes.
_LONGEST: Final = 24
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_folders: list[str] = []


@contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, for the block and the processes begun in it."""
    new = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextmanager
def own_folder() -> Iterator[str]:
    """Yield a new folder of this user's, with a short path, and `clear` it after the block."""
    place = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="binq-ray-", dir=place if len(place) < _LONGEST else "/tmp")
    _folders.append(folder)
    try:
        yield folder
    finally:
        clear(folder)
        _folders.remove(folder)


def clear_all() -> None:
    """Clear the folders of all blocks, for a process that is about to end in the midst of them."""
    for folder in _folders:
        clear(folder)


def clear(folder: str) -> None:
    """End the children of this process whose arguments name a folder, and remove the folder.

    What these have begun themselves is ended too.
    """
    import psutil  # comes with ray

    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(folder in word for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what the block does to the handlers of SIGINT and SIGTERM.

    A SIGTERM that a handler of the block made a `SystemExit` is raised again for the one before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield
    except SystemExit as left:
        restore()
        if left.code == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        restore()


@contextmanager
def silenced(library: str) -> Iterator[None]:
    """Drop what the logger of a library says, and what its threads print.

    They are known by their names, which begin with the library's and an underscore.
    """
    logger = logging.getLogger(library)
    level = logger.level
    streams = sys.stdout, sys.stderr
    logger.setLevel(logging.CRITICAL + 1)
    sys.stdout, sys.stderr = (_Stream(stream, f"{library}_") for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        logger.setLevel(level)


class _Stream:
    """A stream to which threads of some names cannot write."""

    def __init__(self, stream: Any, prefix: str) -> None:
        self._stream = stream
        self._prefix = prefix

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith(self._prefix):
            return len(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
