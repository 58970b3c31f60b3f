"""Read the next batch while the last one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator

from binq.vectors.source import Batch

_AHEAD = 2


def prefetched(batches: Iterator[Batch]) -> Generator[Batch]:
    """Yield the same batches, read by a thread that stays at most two batches ahead.

    An error of the reader is raised where its batch would have come. Closing the generator stops
    the thread.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def offer(item: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for batch in batches:
                offer(batch)
                if stopped.is_set():
                    return
            offer(None)
        except BaseException as error:
            offer(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        # A reader that waits for a silent stream is left behind: it holds nothing that must end.
        reader.join(timeout=1)
