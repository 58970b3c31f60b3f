"""Items worked on ahead by a few threads of this process, taken in order."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future

from binq.engines.base import Argument, Item, Result


class LocalEngine:
    """Threads of this process.

    Parameters
    ----------
    workers : int
        How many items are worked on at a time. With one, the caller's thread does it.
    threads : int
        See `Engine`.
    """

    def __init__(self, workers: int = 1, threads: int = 1) -> None:
        self.threads = threads
        self._workers = workers

    def map(
        self,
        task: Callable[[Argument], Result],
        items: Iterable[Item[Argument]],
        *,
        limit: int | None = None,
        files: Sequence[str] = (),
        stop: threading.Event | None = None,
    ) -> Generator[Future[Result], None, None]:
        """Yield what comes of every item, in their order; see `Engine.map`.

        Threads are not waited for: they may be in the middle of a request, and whoever interrupts
        a command is not to wait for that.
        """
        del files  # what this process sees, its threads see
        stop = stop or threading.Event()
        workers = min(self._workers, limit or self._workers)
        if workers == 1:
            for item in items:
                if stop.is_set():
                    return
                result: Future[Result] = Future()
                _fulfil(result, task, item)
                yield result
            return
        todo: queue.SimpleQueue[tuple[Item[Argument], Future[Result]] | None] = queue.SimpleQueue()
        held: deque[Future[Result]] = deque()

        def serve() -> None:
            while (entry := todo.get()) is not None:
                if stop.is_set():
                    entry[1].set_exception(CancelledError())  # nobody is to wait for it
                else:
                    _fulfil(entry[1], task, entry[0])

        def add(count: int) -> None:
            for item in itertools.islice(rest, count):
                held.append(Future())
                todo.put((item, held[-1]))

        rest = iter(items)
        try:
            add(2 * workers)
            for _ in range(min(workers, len(held))):
                threading.Thread(target=serve, daemon=True).start()
            while held:
                yield held.popleft()
                if not stop.is_set():
                    add(1)
        except GeneratorExit:
            stop.set()
            raise
        finally:
            for _ in range(workers):
                todo.put(None)


def _fulfil(
    result: Future[Result], task: Callable[[Argument], Result], item: Item[Argument]
) -> None:
    try:
        result.set_result(task(item.argument))
    except Exception as error:
        result.set_exception(error)
