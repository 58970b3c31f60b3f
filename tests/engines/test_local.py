from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from binq.engines import Item, LocalEngine, opened
from binq.errors import UsageError


def test_outcomes_come_in_the_order_of_the_items_whoever_is_done_first() -> None:
    for workers in (1, 2, 5):
        first = threading.Event()

        def task(number: int, workers: int = workers, first: threading.Event = first) -> int:
            if number == 0 and workers > 1:
                assert first.wait(10)  # until another is done
            first.set()
            if number == 7:
                raise KeyError(number)
            return -number

        items = [Item(f"item {number}", number) for number in range(20)]
        outcomes = list(LocalEngine(workers).map(task, items))
        assert [type(each.exception()) for each in outcomes].count(KeyError) == 1
        found = [None if each.exception() else each.result() for each in outcomes]
        assert found == [None if number == 7 else -number for number in range(20)]


def test_items_are_taken_as_there_is_room() -> None:
    for workers, limit, most in ((1, None, 1), (3, None, 6), (3, 2, 4), (3, 1, 1)):
        taken = 0

        def items() -> Iterator[Item[int]]:
            nonlocal taken
            for number in range(50):
                taken += 1
                yield Item(str(number), number)

        with closing(LocalEngine(workers).map(abs, items(), limit=limit)) as outcomes:
            for done, _ in enumerate(outcomes):
                assert taken <= done + most
                if done == 9:
                    break
        assert taken <= 10 + most


def test_nothing_begins_once_it_is_stopped() -> None:
    for workers in (1, 3):
        stop = threading.Event()
        items = (Item(str(number), number) for number in range(1000))
        outcomes = LocalEngine(workers).map(abs, items, stop=stop)
        next(outcomes)
        stop.set()
        assert len(list(outcomes)) <= 2 * workers


def test_an_engine_that_is_none() -> None:
    with pytest.raises(UsageError, match="engine"), opened("spark"):  # type: ignore[arg-type]
        pass
