"""Rows that cannot be used: found one by one, and carried beside those that can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from binq.errors import InputError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that cannot be used, or a line with nothing on it.

    Attributes
    ----------
    offset : int
        Number of the row within its batch.
    id : str, int or None
        None where it has none, or none that can be read.
    error : InputError or None
        What is wrong with it; None for a blank line.
    """

    offset: int
    id: str | int | None
    error: InputError | None


def refuse(offset: int, row_id: str | int | None, error: InputError) -> Refusal:
    """Return the refusal of a row, its error naming the id where there is one."""
    if row_id is not None:
        error.where += f" id {row_id!r}"
    # An error that is kept would keep all that the functions it passed through held.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return Refusal(offset, row_id, error)


def sift(
    work: Callable[[int, int], Result], rows: int
) -> tuple[list[Result], dict[int, InputError]]:
    """Do work on rows, leaving out those that it refuses.

    Where the work on several rows fails, it is done on each half of them: a block in which all is
    well costs nothing more, and what is refused does not depend on how rows came in blocks.

    Parameters
    ----------
    work : callable
        Called with a half-open range of rows; raises ``InputError`` if one of them cannot be used.
    rows : int

    Returns
    -------
    results : list
        Of the ranges on which the work was done, in order: of all rows that can be used.
    refused : dict of int to InputError
        What is wrong with each of the others, in order.
    """
    results: list[Result] = []
    refused: dict[int, InputError] = {}
    ranges = [(0, rows)] if rows else []
    while ranges:
        low, high = ranges.pop()
        try:
            results.append(work(low, high))
        except InputError as error:
            if high - low == 1:
                refused[low] = error
            else:
                middle = (low + high) // 2
                ranges += [(middle, high), (low, middle)]
    return results, refused
