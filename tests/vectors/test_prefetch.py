"""Reading ahead changes neither batches nor errors, and ends before the source is closed."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from binq.errors import InputError
from binq.vectors import Batch, VectorSource, open_vectors
from binq.vectors.prefetch import prefetched
from binq.vectors.sample import started


class Counting(VectorSource):
    """So many batches of one row, then an error if one is given."""

    def __init__(self, count: int, error: InputError | None = None) -> None:
        super().__init__("counting")
        self.count = count
        self.error = error
        self.ended = False

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        del max_rows
        try:
            for number in range(self.count):
                yield Batch(number, np.full((1, 2), number, np.float32), None)
            if self.error is not None:
                raise self.error
        finally:
            self.ended = True


def test_all_batches_in_order() -> None:
    for count in (0, 1, 2, 3, 10):
        assert [batch.start for batch in prefetched(Counting(count))] == list(range(count))


def test_an_error_comes_where_its_batch_would() -> None:
    batches = prefetched(Counting(2, InputError("bad", "row 2")))
    assert [next(batches).start, next(batches).start] == [0, 1]
    with pytest.raises(InputError, match="row 2"):
        next(batches)


def test_closing_ends_the_reader_and_its_pass() -> None:
    before = threading.active_count()
    source = Counting(1000)
    batches = prefetched(source)
    assert next(batches).start == 0
    batches.close()
    assert threading.active_count() == before
    assert source.ended


@pytest.mark.parametrize("by_path", [True, False])
def test_an_error_ends_a_reader_that_waits_for_a_silent_stream(
    tmp_path: Path, by_path: bool
) -> None:
    before = threading.active_count()
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDWR), "r+b", buffering=0) as pipe:
        pipe.write(b"[1, 2]\n")
        with pytest.raises(RuntimeError), ExitStack() as stack:  # noqa: PT012
            source = open_vectors(path) if by_path else open_vectors("-", stdin=pipe)
            stack.enter_context(source)
            assert started(source, stack)[0] == 2
            raise RuntimeError
        assert threading.active_count() == before
        # Nobody is left to take what comes next.
        pipe.write(b"[3, 4]\n")
        assert pipe.read(7) == b"[3, 4]\n"
