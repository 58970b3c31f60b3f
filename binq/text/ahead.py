"""Batches worked on ahead by a few threads, taken in order."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    task: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    stop: threading.Event,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield every item, in order, with what comes of a task.

    Parameters
    ----------
    task : callable
        Called from several threads at once, or from this one where there is but one.
    items : iterable
        Taken as there is something to do: of what is yielded, the next few are under way.
    threads : int
    stop : Event
        Once it is set, no further task begins; what is under way is still yielded, done or not.
        It is set, too, when the iteration is left. Threads are not waited for: they may be in the
        middle of a request, and whoever interrupts a command is not to wait for that.
    """
    if threads == 1:
        for item in items:
            if stop.is_set():
                return
            result: Future[Result] = Future()
            _fulfil(result, task, item)
            yield item, result
        return
    todo: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()
    held: deque[tuple[Item, Future[Result]]] = deque()

    def serve() -> None:
        while (entry := todo.get()) is not None:
            if not stop.is_set():
                _fulfil(entry[1], task, entry[0])

    def add(count: int) -> None:
        for item in itertools.islice(rest, count):
            held.append((item, Future()))
            todo.put(held[-1])

    rest = iter(items)
    try:
        add(2 * threads)
        for _ in range(min(threads, len(held))):
            threading.Thread(target=serve, daemon=True).start()
        while held:
            yield held.popleft()
            if not stop.is_set():
                add(1)
    finally:
        stop.set()
        for _ in range(threads):
            todo.put(None)


def _fulfil(result: Future[Result], task: Callable[[Item], Result], item: Item) -> None:
    try:
        result.set_result(task(item))
    except Exception as error:
        result.set_exception(error)
