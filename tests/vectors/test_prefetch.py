"""Reading ahead changes neither batches nor errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from binq.errors import InputError
from binq.vectors import Batch, prefetched


def _batches(count: int) -> Iterator[Batch]:
    for number in range(count):
        yield Batch(number, np.full((1, 2), number, np.float32), None)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_all_batches_in_order(count: int) -> None:
    assert [batch.start for batch in prefetched(_batches(count))] == list(range(count))


def test_an_error_comes_where_its_batch_would() -> None:
    def failing() -> Iterator[Batch]:
        yield from _batches(2)
        raise InputError("bad", "row 2")

    batches = prefetched(failing())
    assert [next(batches).start, next(batches).start] == [0, 1]
    with pytest.raises(InputError, match="row 2"):
        next(batches)


def test_closing_stops_the_reader() -> None:
    before = threading.active_count()
    batches = prefetched(_batches(1000))
    assert next(batches).start == 0
    batches.close()
    assert threading.active_count() == before
