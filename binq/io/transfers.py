"""Calls to a store, several at a time, that end in bounded time.

A call into pyarrow cannot be interrupted: it runs in a thread of its own, so that whoever waits for
it can give up, and sees to signals meanwhile.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from binq.errors import EnvironmentFailure
from binq.io.stores import TIMEOUT_VARIABLE, time_limit, translated

AT_ONCE: Final = 8
# Seconds after which whoever waits looks whether that was interrupted.
_LOOK_UP: Final = 0.25
_Answer = TypeVar("_Answer")


class Transfers:
    """Calls that concern one object.

    Parameters
    ----------
    shown : str
        What messages call it.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._interrupts = 0

    def one(self, call: Callable[[], _Answer]) -> _Answer:
        """Return what a call returns; see :meth:`several`."""
        return self.several([call])[0]

    def several(self, calls: Sequence[Callable[[], _Answer]]) -> list[_Answer]:
        """Return what calls return, at most eight of which run at a time.

        Raises
        ------
        InputError, EnvironmentFailure
            The first error of a call; or no call has ended for the time limit, or the wait was
            interrupted: calls that run then are left to themselves, and their results dropped.
        """
        limit = time_limit()
        begun = self._interrupts
        todo = iter(enumerate(calls))
        lock = threading.Lock()
        done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            while not stopped.is_set():
                with lock:
                    number, call = next(todo, (-1, None))
                if call is None:
                    return
                try:
                    done.put((number, call(), None))
                except BaseException as error:
                    done.put((number, None, error))
                    return

        for number in range(min(AT_ONCE, len(calls))):
            threading.Thread(target=work, daemon=True, name=f"binq-store-{number}").start()
        answers: dict[int, _Answer] = {}
        last = time.monotonic()
        try:
            while len(answers) < len(calls):
                try:
                    place, answer, error = done.get(timeout=min(_LOOK_UP, limit))
                except queue.Empty:
                    if self._interrupts != begun:
                        raise EnvironmentFailure("reading was interrupted", self._shown) from None
                    if time.monotonic() - last > limit:
                        raise self._silent(limit) from None
                    continue
                if error is not None:
                    with translated(self._shown):
                        raise error
                answers[place] = answer
                last = time.monotonic()
        finally:
            stopped.set()
        return [answers[number] for number in range(len(calls))]

    def interrupt(self) -> None:
        """Make calls that other threads wait for raise ``EnvironmentFailure``."""
        self._interrupts += 1

    def _silent(self, limit: float) -> EnvironmentFailure:
        return EnvironmentFailure(
            "the store is too slow",
            self._shown,
            f"an answer within {limit:g} seconds",
            next_step=f"try again later, or allow more by {TIMEOUT_VARIABLE}",
        )
