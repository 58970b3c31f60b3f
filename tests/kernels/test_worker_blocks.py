"""Blocks over threads: each once, in ascending order, and an error ends them all."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from binq.kernels import blocks


def test_every_block_once_and_ascending() -> None:
    for count, workers in itertools.product((0, 1, 2, 50), (1, 2, 7)):
        done: list[tuple[int, int]] = []
        blocks.run_blocks(count, workers, lambda worker, block, to=done: to.append((worker, block)))
        assert sorted(block for _, block in done) == list(range(count))
        for worker in range(workers):
            own = [block for by, block in done if by == worker]
            assert own == sorted(own)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_stops_all(workers: int, error: type[BaseException]) -> None:
    done: list[int] = []

    def work(_worker: int, block: int) -> None:
        if block == 5:
            raise error
        time.sleep(0.001)
        done.append(block)

    before = threading.active_count()
    with pytest.raises(error):
        blocks.run_blocks(10_000, workers, work)
    assert len(done) < 100
    assert threading.active_count() == before
