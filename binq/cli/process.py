"""A command as a process: the signals that end it, and the memory that it may have."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

from binq.errors import EnvironmentFailure, ExitCode

_LEAST_MEMORY: Final = 1 << 30
_MEMORY_OF_A_BLAS_THREAD: Final = 64 << 20
_GRACE: Final = 0.7
_CODES: Final = {int(signal.SIGINT): ExitCode.SIGINT, int(signal.SIGTERM): ExitCode.SIGTERM}


class Terminated(BaseException):
    """SIGTERM arrived; unwinding removes temporary files on the way out."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


_NUMBERS: Final = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
_RAISING: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise inside the block, so that it cleans up; then be as before.

    What was told to ignore a signal goes on ignoring it.
    """
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    passed_over: list[int] = []

    def unraisable(found: Any) -> None:
        """Send an interrupt again that was raised where nothing can be, as in import callbacks."""
        number = _NUMBERS.get(found.exc_type)
        if number is None:
            hook(found)
        else:
            passed_over.append(number)
            # Not a timer of `threading`: to start one waits for it, and the signal came meanwhile.
            _thread.start_new_thread(_send_later, (number,))

    sys.unraisablehook = unraisable
    try:
        for each, raising in _RAISING.items():
            if signal.getsignal(each) is not signal.SIG_IGN:
                before[each] = signal.signal(each, raising)
        yield
        for number in passed_over:  # the command was over before it was sent again
            signal.raise_signal(number)
    finally:
        sys.unraisablehook = hook
        for each, handler in before.items():
            signal.signal(each, handler)


def end_soon() -> None:
    """Let a signal end the process within a second, wherever it is; it must be binq's own.

    Python hears a signal between two of its own steps, and a product of large matrices is one step
    that may last for minutes. So a thread is told of the signal too, and ends the process where the
    main thread has not come to its end shortly after. As after any end, outputs are whole or not
    there.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    # What a child of a fork hears is no signal to this process.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    _thread.start_new_thread(_end, (told,))


def _end(told: int) -> None:
    for number in iter(lambda: os.read(told, 1), b""):
        code = _CODES.get(number[0])
        if code is not None:
            time.sleep(_GRACE)
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(2, b"\r\x1b[K\x1b[?25h")  # a bar goes, and the cursor that it hid is back
            if "binq.engines.quiet" in sys.modules:
                sys.modules["binq.engines.quiet"].clear_all()
            os._exit(code)


def _send_later(number: int) -> None:
    time.sleep(0.02)
    os.kill(os.getpid(), number)


def require_memory(limits: str = "/proc/self/limits") -> None:
    """Refuse a limit on memory (``ulimit -v``) under which libraries end the process themselves.

    OpenBLAS does so, in its own words, where it finds no room for its threads: above that limit it
    gets as many as there is room for. Systems without the file set no such limit.

    Raises
    ------
    EnvironmentFailure
    """
    try:
        with open(limits, "rb") as file:
            soft = file.read().partition(b"Max address space")[2].split()[:1]
    except OSError:
        return
    if not soft or not soft[0].isdigit():  # unlimited
        return
    limit = int(soft[0])
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
