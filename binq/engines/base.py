"""What every engine is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Item(NamedTuple, Generic[Argument]):
    """Something to do.

    Attributes
    ----------
    name : str
        What messages call it, such as its file and row.
    argument
        What the task is given: plain data, of which an engine may make a copy elsewhere.
    files : sequence of str
        Absolute paths of what the task reads for it; a worker that cannot see one of them is an
        error that says so.
    """

    name: str
    argument: Argument
    files: Sequence[str] = ()


class Outcome(Protocol[Result_co]):
    """What comes of an item, now or later; `concurrent.futures.Future` is one."""

    def done(self) -> bool:
        """Return whether it is known."""

    def result(self) -> Result_co:
        """Wait for the result, or raise what the task raised."""

    def exception(self) -> BaseException | None:
        """Wait, and return what the task raised."""


class Engine(Protocol):
    """Maps a task over items.

    Attributes
    ----------
    threads : int
        How many threads a task may use for itself.
    """

    threads: int

    def map(
        self,
        task: Callable[[Argument], Result],
        items: Iterable[Item[Argument]],
        *,
        limit: int | None = None,
        files: Sequence[str] = (),
        stop: threading.Event | None = None,
    ) -> Generator[Outcome[Result], None, None]:
        """Yield what comes of every item, in the order of the items.

        Parameters
        ----------
        task : callable
            A function of a module, or a `functools.partial` of one with plain data. It knows
            nothing of the engine, and may be called twice for an item whose worker died.
        items : iterable
            Taken as there is room: of what is yielded, the next few are under way.
        limit : int, optional
            How many items may be worked on at a time.
        files : sequence of str
            Absolute paths of what the task reads for every item.
        stop : Event, optional
            Once it is set, no further item is begun; what is under way is still yielded, done or
            not. It is set, too, when the iteration is left before its end.
        """
