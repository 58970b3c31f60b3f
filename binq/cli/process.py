"""A command as a process: the signals that end it, and the memory that it may have."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

from binq.errors import EnvironmentFailure

_LEAST_MEMORY: Final = 1 << 30
_MEMORY_OF_A_BLAS_THREAD: Final = 64 << 20


class Terminated(BaseException):
    """SIGTERM arrived; unwinding removes temporary files on the way out."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


_RAISING: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise inside the block, so that it cleans up; then be as before.

    What was told to ignore a signal goes on ignoring it.
    """
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda found: _again(found) or hook(found)
    try:
        for each, raising in _RAISING.items():
            if signal.getsignal(each) is not signal.SIG_IGN:
                before[each] = signal.signal(each, raising)
        yield
    finally:
        sys.unraisablehook = hook
        for each, handler in before.items():
            signal.signal(each, handler)


def _again(found: Any) -> bool:
    """Return whether an interrupt was raised where nothing can be, which shows it and goes on.

    Callbacks of the import system are such a place. The signal is sent once more, a moment later.
    """
    numbers = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
    number = numbers.get(found.exc_type)
    if number is not None:
        timer = threading.Timer(0.02, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
    return number is not None


def require_memory() -> None:
    """Refuse a limit on memory (``ulimit -v``) under which libraries end the process themselves.

    OpenBLAS does so, in its own words, where it finds no room for its threads: above that limit it
    gets as many as there is room for.

    Raises
    ------
    EnvironmentFailure
    """
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return
    if limit < _LEAST_MEMORY:
        raise EnvironmentFailure(
            "too little memory is allowed",
            "ulimit -v",
            f"at least {_LEAST_MEMORY >> 10} KiB",
            f"{limit >> 10} KiB",
            "raise the limit",
        )
    room = (limit - _LEAST_MEMORY) // _MEMORY_OF_A_BLAS_THREAD
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, min(room, os.cpu_count() or 1))))
