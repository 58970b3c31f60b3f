"""Run row blocks on a few plain threads.

Kernels release the GIL, so that threads are enough.  Blocks are short: between two of them Python
runs, and Ctrl-C is heard.  Every worker takes blocks in ascending order, which is what the kernels
that keep the nearest rely on; which worker gets which block changes no result.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable


def run_blocks(count: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(worker, block)`` for every block in ``range(count)``.

    Parameters
    ----------
    count : int
        Number of blocks.
    threads : int
        Workers; no more are started than there are blocks.
    work : callable
        Gets the worker's number, below `threads`, and the block's. The first error it raises
        stops all workers and is raised here.
    """
    if threads <= 1 or count <= 1:
        for block in range(count):
            work(0, block)
        return
    blocks = itertools.count()
    stop = threading.Event()
    errors: list[BaseException] = []

    def serve(worker: int) -> None:
        try:
            while not stop.is_set():
                block = next(blocks)
                if block >= count:
                    return
                work(worker, block)
        except BaseException as error:
            errors.append(error)
            stop.set()

    others = [
        threading.Thread(target=serve, args=(worker,), daemon=True)
        for worker in range(1, min(threads, count))
    ]
    try:
        for thread in others:
            thread.start()
        # This thread works too: the one that Ctrl-C interrupts.
        serve(0)
    finally:
        stop.set()
        for thread in others:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
