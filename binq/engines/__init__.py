"""An engine maps a task over items: threads of this process, or the machines of a Ray cluster.

===========  ============================================================
module       holds
===========  ============================================================
``base``     what every engine is
``local``    threads
``ray``      tasks on a Ray cluster; the only module that imports ray
``perform``  what a worker in another process does
``quiet``    how a library's threads, logs and files keep out of the way
===========  ============================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from binq.engines.base import Engine, Item, Outcome
from binq.engines.local import LocalEngine
from binq.errors import UsageError
from binq.types import ENGINES, EngineName

__all__ = ["Engine", "Item", "LocalEngine", "Outcome", "opened"]


@contextmanager
def opened(
    name: EngineName | Engine, *, workers: int = 1, threads: int | None = None
) -> Iterator[Engine]:
    """Yield an engine that is there for the block.

    Parameters
    ----------
    name : {"local", "ray"} or Engine
        An engine that is open already stays so.
    workers : int
        Threads that take items at a time, of the local engine.
    threads : int, optional
        How many threads a task may use: all of the process by default, and 1 on Ray, where there
        are as many tasks at a time as the cluster has CPUs.

    Raises
    ------
    UsageError
        If there is no such engine.
    MissingExtraError, EnvironmentFailure
        If ray is not installed, or its cluster cannot be had.
    """
    if name == "ray":
        from binq.engines.ray import ray_engine

        with ray_engine(threads) as engine:
            yield engine
    elif name == "local":
        from binq.threads import resolve

        yield LocalEngine(workers, resolve(threads))
    elif not isinstance(name, str):
        yield name
    else:
        raise UsageError("unknown engine", "`engine`", ", ".join(ENGINES), name)
