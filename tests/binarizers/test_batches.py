"""Batches over threads: in order, and an error ends them."""

from __future__ import annotations

import time

import pytest

from binq.binarizers.batches import map_batches


def test_after_an_error_no_batch_begins() -> None:
    begun: list[int] = []

    def work(start: int, stop: int) -> int:
        begun.append(start)
        time.sleep(0.02)
        if start == 0:
            raise KeyboardInterrupt
        return stop

    with pytest.raises(KeyboardInterrupt):
        list(map_batches(work, 100, 2, batch=1))
    assert len(begun) <= 4
