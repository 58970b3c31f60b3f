"""Packing signs: kernel, numpy and oracle give the same bits, whatever the values."""

from __future__ import annotations

from collections.abc import Callable

import naive
import numpy as np
import pytest

from binq.kernels import pack
from binq.kernels.aot import compile as aot
from binq.kernels.scan import Engine


def _floats(dim: int, n: int = 37) -> np.ndarray:
    # Rows further apart than they are long.
    x = np.random.default_rng(dim).standard_normal((n, dim + 3)).astype(np.float32)[:, :dim]
    x[3, -1] = np.nan
    x[5, 0] = np.inf
    x[6, 0] = -np.inf
    x[7, 0] = 1e30
    x[8] = -0.0
    x[9] = 1e-42
    return x


def test_pack(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(pack.FAMILY)
    for dim in (*range(1, 131), 768, 1000, 1024):
        x = _floats(dim)
        threshold = np.random.default_rng(0).standard_normal(dim).astype(np.float32)
        for limit in (None, threshold):
            packed = pack.pack(x, limit, threads=1 + dim % 2, engine=engine)
            want = naive.pack(x > (0 if limit is None else limit))
            np.testing.assert_array_equal(packed.codes, want)
            np.testing.assert_array_equal(packed.finite, np.isfinite(x).all(axis=1))
            fine = np.flatnonzero(packed.finite & (np.abs(x).max(axis=1) < 1e18))
            squares = (x[fine].astype(np.float64) ** 2).sum(axis=1)
            np.testing.assert_allclose(packed.squares[fine], squares, rtol=1e-5, atol=1e-30)


def test_kernel_and_numpy_agree_to_the_last_bit() -> None:
    for dim in (1, 15, 16, 17, 64, 100, 768):
        x = np.random.default_rng(dim).standard_normal((50, dim)).astype(np.float32)
        compiled = pack.pack(x, engine=Engine(aot.load(pack.FAMILY)))
        for ours, numpys in zip(compiled, pack.pack(x, engine=Engine(None)), strict=True):
            np.testing.assert_array_equal(ours, numpys)


def test_blocks_and_threads_agree() -> None:
    x = np.random.default_rng(0).standard_normal((1000, 70)).astype(np.float32)
    engine = Engine(aot.load(pack.FAMILY), rows_per_block=14)
    one = pack.pack(x, engine=engine)
    for threads in (2, 3):
        for a, b in zip(one, pack.pack(x, None, threads, engine=engine), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.codes, naive.pack(x > 0))


def test_what_does_not_fit_is_refused() -> None:
    x = np.zeros((4, 8), np.float32)
    with pytest.raises(TypeError):
        pack.pack(x.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="next to each other"):
        pack.pack(x.T)
    with pytest.raises(ValueError, match="threshold"):
        pack.pack(x, np.zeros(7, np.float32))
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        pack.pack(x[:, :0])
    assert pack.pack(x[:0]).codes.shape == (0, 1)
