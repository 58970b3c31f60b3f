"""Asymmetric kernels: whole sums of quantized weights, scores in full precision."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binq.kernels import asymmetric
from binq.kernels.scan import Engine

EngineOf = Callable[..., Engine]


def _case(seed: int, words: int, n: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**64, (n, words), dtype=np.uint64)
    bits = 64 * words - int(random.integers(0, 64))
    count = int(random.integers(1, 6))
    weights = random.standard_normal((count, bits)).astype(np.float32)
    if seed % 5 == 1:
        codes[:] = codes[:1]
    elif seed % 5 == 2:
        codes &= np.uint64(1)
    elif seed % 5 == 3:
        weights = np.sign(weights)
    elif seed % 5 == 4:
        weights[0] = 0
        weights[:, 3:] *= np.float32(1e-3)
    return {
        "codes": codes,
        "weights": weights,
        "base": random.standard_normal(count).astype(np.float32),
        "mul": (random.random(n) - 0.3).astype(np.float32) if seed % 2 else None,
        "add": random.standard_normal(n).astype(np.float32) if seed % 3 else None,
    }


def _padded(case: dict[str, Any]) -> Any:
    weights = np.zeros((len(case["weights"]), 64 * case["codes"].shape[1]), np.float32)
    weights[:, : case["weights"].shape[1]] = case["weights"]
    return weights


def _quantized_scores(case: dict[str, Any]) -> Any:
    """Scores of all rows from the quantized weights: whole numbers, then float32."""
    units, steps = naive.units(_padded(case))
    sums = (units.astype(np.float64) @ naive.signs(case["codes"]).T).astype(np.float32)
    scores = sums * steps[:, None] + case["base"][:, None]
    if case.get("mul") is not None or case.get("add") is not None:
        mul = np.float32(1) if case["mul"] is None else case["mul"]
        add = np.float32(0) if case["add"] is None else case["add"]
        scores = scores * mul + add
    return scores + np.float32(0)


def _exact_scores(case: dict[str, Any]) -> Any:
    scores = _padded(case).astype(np.float64) @ naive.signs(case["codes"]).T
    scores += case["base"][:, None]
    if case["mul"] is not None:
        scores *= case["mul"]
    if case["add"] is not None:
        scores += case["add"]
    return scores


def check(
    case: dict[str, Any], k: int, engine: Engine, threads: int = 1, scores: Any = None
) -> None:
    """Search, and compare with all `scores`, which are made here if they are not given."""
    rows, found = asymmetric.topk(**case, k=k, threads=threads, engine=engine)
    scores = _quantized_scores(case) if scores is None else scores
    want_rows, want = naive.smallest(-scores, k)
    np.testing.assert_array_equal(rows, want_rows)
    np.testing.assert_array_equal(found, -want)


@given(seed=st.integers(0, 1 << 32), data=st.data())
def test_any_shape(engine_of: EngineOf, seed: int, data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([1, 31, 33, 127, 128, 129, 400, 600]), "n")
    case = _case(seed, data.draw(st.integers(1, 20), "words"), n)
    if data.draw(st.booleans(), "one query"):
        case |= {"weights": case["weights"][:1], "base": case["base"][:1]}
    engine = engine_of(asymmetric.FAMILY, rows_per_block=data.draw(st.sampled_from([None, 128])))
    check(case, data.draw(st.sampled_from([1, 10, n]), "k"), engine, data.draw(st.integers(1, 3)))


@pytest.mark.slow
def test_every_width(engine_of: EngineOf) -> None:
    engine = engine_of(asymmetric.FAMILY)
    for words in range(1, 41):
        for n in (1, 129, 400):
            case = _case(words * 7 + n, words, n)
            scores = _quantized_scores(case)
            one = {**case, "weights": case["weights"][:1], "base": case["base"][:1]}
            for k in (1, n):
                check(case, k, engine, scores=scores)
                check(one, k, engine, scores=scores[:1])


def test_the_scan_is_as_near_as_its_units_are() -> None:
    for seed in range(20):
        case = _case(seed, 1 + seed, 150)
        rows, found = asymmetric.topk(**case, k=150)
        exact = np.take_along_axis(_exact_scores(case), rows, axis=1)
        units, steps = naive.units(_padded(case))
        weights = _padded(case).astype(np.float64)
        bound = np.abs(weights - units * steps[:, None]).sum(axis=1, keepdims=True)
        scale = 1.0 if case["mul"] is None else np.abs(case["mul"])[rows]
        size = np.abs(weights).sum(axis=1, keepdims=True) + np.abs(case["base"])[:, None]
        added = 0.0 if case["add"] is None else np.abs(case["add"])[rows]
        rounding = 4 * np.finfo(np.float32).eps * (scale * size + added)
        assert (np.abs(found - exact) <= bound * scale + rounding).all()


@pytest.mark.slow
def test_the_largest_weights_there_are(engine_of: EngineOf) -> None:
    engine = engine_of(asymmetric.FAMILY)
    random = np.random.default_rng(0)
    for words in (3, 100, asymmetric.max_words()):
        codes = random.integers(0, 2**64, (130, words), dtype=np.uint64)
        codes[7] = np.uint64(2**64 - 1)
        weights = np.ones((4, 64 * words), np.float32)
        weights[1] = 1 / 127
        weights[1, 0] = 1
        weights[2:] = random.standard_normal((2, 64 * words))
        for count in (1, 4):
            case = {"codes": codes, "weights": weights[:count], "base": np.zeros(count, np.float32)}
            rows, scores = asymmetric.topk(**case, k=130, engine=engine)
            assert rows[0, 0] == 7
            want = -np.sort(-_quantized_scores(case), axis=1)
            # Sums of so many weights round: the step of the longest codes may differ in its end.
            np.testing.assert_allclose(scores, want, rtol=1e-6, atol=1e-6)


def test_exact_scores() -> None:
    for seed in range(12):
        case = _case(seed, 1 + 3 * seed, 60)
        rows = np.random.default_rng(seed).integers(0, 60, (len(case["weights"]), 9))
        want = np.take_along_axis(_exact_scores(case), rows, axis=1)
        np.testing.assert_allclose(asymmetric.exact(rows=rows, **case), want, rtol=1e-6, atol=1e-6)
        with pytest.raises(IndexError):
            asymmetric.exact(rows=rows + 60, **case)


def test_blocks_passes_and_threads_agree(engine_of: EngineOf) -> None:
    engine = engine_of(asymmetric.FAMILY, rows_per_block=2048, queries_per_pass=4)
    random = np.random.default_rng(0)
    for count in (1, 7):
        case = {
            "codes": random.integers(0, 4, (20_000, 2), dtype=np.uint64),
            "weights": random.standard_normal((count, 128)).astype(np.float32),
            "base": np.zeros(count, np.float32),
        }
        for threads in (1, 2, 4):
            check(case, 500, engine, threads)


def test_what_does_not_fit_is_refused() -> None:
    case = _case(0, 2, 10)
    good = {name: case[name] for name in ("codes", "weights", "base")}
    with pytest.raises(ValueError, match="weights"):
        asymmetric.topk(**{**good, "weights": good["weights"][:, :60]}, k=1)
    for name in ("weights", "base"):
        for value in ("nan", "inf", "-inf"):
            wrong = good[name].copy()
            wrong[-1] = np.float32(value)
            with pytest.raises(ValueError, match="finite"):
                asymmetric.topk(**{**good, name: wrong}, k=1)
            rows = np.zeros((len(wrong), 1), np.int64)
            with pytest.raises(ValueError, match="finite"):
                asymmetric.exact(**{**good, name: wrong}, rows=rows)
    with pytest.raises(ValueError, match="mul"):
        asymmetric.topk(**good, k=1, mul=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="k is"):
        asymmetric.topk(**good, k=-1)
    assert asymmetric.topk(**{**good, "codes": good["codes"][:0]}, k=4)[0].shape[1] == 0


def test_exact_scores_of_several_threads_do_not_meet() -> None:
    """Every call has scratch memory of its own until its kernel has returned."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**64, (1000, 12), np.uint64)
    weights = random.standard_normal((32, 768)).astype(np.float32)
    base, rows = np.zeros(32, np.float32), random.integers(0, 1000, (32, 100))
    want = asymmetric.exact(codes, weights, base, rows)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(asymmetric.exact, codes, weights, base, rows) for _ in range(200)]
        assert all(np.array_equal(call.result(), want) for call in calls)
