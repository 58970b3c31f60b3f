"""Read the next batch while the last one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing

from binq.vectors.batch import Batch
from binq.vectors.source import VectorSource

_AHEAD = 2


def prefetched(source: VectorSource) -> Generator[Batch]:
    """Yield the batches of a source, read by a thread that stays at most two batches ahead.

    An error of the reader is raised where its batch would have come. Closing the generator
    ends the thread, even where it waits for a silent stream: the source may be closed afterwards.
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
            with closing(source.batches()) as batches:
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
        source.interrupt()
        reader.join()
