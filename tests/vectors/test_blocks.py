from __future__ import annotations

import numpy as np

from binq.vectors.blocks import CACHE_BLOCKS, CACHE_BYTES, BlockCache


def block(rows: int) -> np.ndarray:
    return np.zeros((rows, 1 << 10), dtype=np.float32)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = BlockCache()
    rows = CACHE_BYTES // 3 // 4096
    for start in range(3):
        cache.keep("a", start, block(rows))
    cache.used("a", 0)
    cache.keep("b", 0, block(rows))
    assert [start for start, _ in cache.of("a")] == [2, 0]
    assert [start for start, _ in cache.of("b")] == [0]


def test_number_and_repetition() -> None:
    cache = BlockCache()
    for start in range(CACHE_BLOCKS + 5):
        cache.keep("a", start, block(1))
        cache.keep("a", start, block(1))
    assert len(list(cache.of("a"))) == CACHE_BLOCKS
    cache.forget("a")
    assert list(cache.of("a")) == []
    cache.keep("a", 0, block(CACHE_BYTES // 4096))
    assert len(list(cache.of("a"))) == 1


def test_views_are_copied_so_that_the_whole_is_not_held() -> None:
    cache = BlockCache()
    cache.keep("a", 0, block(4)[1:2])
    ((_, kept),) = cache.of("a")
    assert kept.flags.owndata
    assert kept.shape == (1, 1024)
