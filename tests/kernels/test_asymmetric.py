"""Asymmetric kernels: whole sums of quantized weights, their bound, scores in full precision."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest

from binq.kernels import asymmetric


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


def _quantized_scores(case: dict[str, Any], query_bits: int) -> Any:
    """Scores of all rows from the quantized weights: whole numbers, then float32."""
    units, steps = asymmetric._quantize(_padded(case), query_bits)
    sums = (units.astype(np.float64) @ naive.signs(case["codes"]).T).astype(np.float32)
    scores = sums * steps[:, None] + case["base"][:, None]
    if case["mul"] is not None or case["add"] is not None:
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


@pytest.mark.parametrize("words", range(1, 41))
def test_topk_is_the_oracle(words: int) -> None:
    for n in (1, 127, 128, 129, 400):
        seed = words * 7 + n
        case = _case(seed, words, n)
        query_bits = 4 + seed % 5
        scores = _quantized_scores(case, query_bits)
        for k in (1, 10, n):
            rows, found = asymmetric.topk(**case, k=k, threads=1 + seed % 3, query_bits=query_bits)
            want_rows, want = naive.smallest(-scores, k)
            np.testing.assert_array_equal(rows, want_rows)
            np.testing.assert_array_equal(found, -want)


@pytest.mark.parametrize("words", range(1, 41))
def test_one_query_is_the_oracle(words: int) -> None:
    for seed, n in enumerate((1, 31, 33, 127, 128, 129, 600), words):
        case = _case(seed, words, n)
        case |= {"weights": case["weights"][:1], "base": case["base"][:1]}
        for query_bits in (4, 5, 6, 8):
            scores = _quantized_scores(case, query_bits)
            for k, threads in ((1, 1), (10, 3), (n, 1)):
                rows, found = asymmetric.topk(**case, k=k, threads=threads, query_bits=query_bits)
                want_rows, want = naive.smallest(-scores, k)
                np.testing.assert_array_equal(rows, want_rows)
                np.testing.assert_array_equal(found, -want)


def test_one_query_with_the_largest_weights_there_are() -> None:
    codes = np.random.default_rng(0).integers(0, 2**64, (300, 3), dtype=np.uint64)
    codes[5] = np.uint64(2**64 - 1)
    case: dict[str, Any] = {"codes": codes, "weights": np.ones((1, 192), np.float32)}
    case |= {"base": np.zeros(1, np.float32), "mul": None, "add": None}
    for query_bits in (4, 5, 6, 7, 8):
        rows, found = asymmetric.topk(**case, k=300, query_bits=query_bits)
        want_rows, want = naive.smallest(-_quantized_scores(case, query_bits), 300)
        assert rows[0, 0] == 5
        np.testing.assert_array_equal(rows, want_rows)
        np.testing.assert_array_equal(found, -want)


@pytest.mark.parametrize("query_bits", [4, 5, 6, 7, 8])
def test_bound_holds(query_bits: int) -> None:
    for seed in range(20):
        case = _case(seed, 1 + seed, 150)
        n = len(case["codes"])
        rows, found = asymmetric.topk(**case, k=n, query_bits=query_bits)
        exact = np.take_along_axis(_exact_scores(case), rows, axis=1)
        bound = asymmetric.error_bound(case["weights"], query_bits)[:, None]
        scale = 1.0 if case["mul"] is None else np.abs(case["mul"])[rows]
        size = np.abs(case["weights"]).sum(axis=1, keepdims=True) + np.abs(case["base"])[:, None]
        added = 0.0 if case["add"] is None else np.abs(case["add"])[rows]
        rounding = 4 * np.finfo(np.float32).eps * (scale * size + added)
        assert (np.abs(found - exact) <= bound * scale + rounding).all()


def test_finer_weights_are_closer() -> None:
    weights = np.random.default_rng(0).standard_normal((6, 768)).astype(np.float32)
    bounds = np.array([asymmetric.error_bound(weights, bits) for bits in range(4, 9)])
    assert (bounds[1:] < 0.6 * bounds[:-1]).all()


def test_long_codes_do_not_overflow() -> None:
    random = np.random.default_rng(0)
    for words in (100, 127, asymmetric.MAX_WORDS):
        codes = random.integers(0, 2**64, (130, words), dtype=np.uint64)
        codes[7] = np.uint64(2**64 - 1)
        weights = np.ones((4, 64 * words), np.float32)
        weights[1] = 8 / 127  # of 8 bits: nothing but a lower part, and the largest there is
        weights[1, 0] = 1
        weights[2:] = random.standard_normal((2, 64 * words))
        case = {"codes": codes, "weights": weights, "base": np.zeros(4, np.float32)}
        for query_bits in (4, 5, 6, 7, 8):
            if words > 127 and query_bits > 6:
                with pytest.raises(ValueError, match="not 4 to 6"):
                    asymmetric.topk(**case, k=130, query_bits=query_bits)
                continue
            rows, scores = asymmetric.topk(**case, k=130, query_bits=query_bits)
            want = _quantized_scores({**case, "mul": None, "add": None}, query_bits)
            assert rows[0, 0] == 7
            np.testing.assert_array_equal(scores, -np.sort(-want, axis=1))
            bound = asymmetric.error_bound(weights, query_bits)
            assert abs(scores[0, 0] - 64 * words) <= bound[0] + 1e-6 * 64 * words


def test_exact_scores() -> None:
    for seed in range(12):
        case = _case(seed, 1 + 3 * seed, 60)
        rows = np.random.default_rng(seed).integers(0, 60, (len(case["weights"]), 9))
        want = np.take_along_axis(_exact_scores(case), rows, axis=1)
        np.testing.assert_allclose(asymmetric.exact(rows=rows, **case), want, rtol=1e-6, atol=1e-6)
        with pytest.raises(IndexError):
            asymmetric.exact(rows=rows + 60, **case)


def test_many_blocks_and_threads_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asymmetric, "_WORK_PER_BLOCK", 1)
    random = np.random.default_rng(0)
    case = {
        "codes": random.integers(0, 4, (20_000, 2), dtype=np.uint64),
        "weights": random.standard_normal((3, 128)).astype(np.float32),
        "base": np.zeros(3, np.float32),
    }
    want_rows, want = naive.smallest(-_quantized_scores({**case, "mul": None, "add": None}, 5), 500)
    for threads in (1, 2, 4):
        rows, scores = asymmetric.topk(**case, k=500, threads=threads, query_bits=5)
        np.testing.assert_array_equal(rows, want_rows)
        np.testing.assert_array_equal(scores, -want)


def test_what_does_not_fit_is_refused() -> None:
    case = _case(0, 2, 10)
    good = {name: case[name] for name in ("codes", "weights", "base")}
    for query_bits in (3, 9):
        with pytest.raises(ValueError, match="query_bits"):
            asymmetric.topk(**good, k=1, query_bits=query_bits)
    with pytest.raises(ValueError, match="weights"):
        asymmetric.topk(**{**good, "weights": good["weights"][:, :60]}, k=1)
    with pytest.raises(ValueError, match="finite"):
        asymmetric.topk(**{**good, "weights": good["weights"] * np.float32("nan")}, k=1)
    with pytest.raises(ValueError, match="mul"):
        asymmetric.topk(**good, k=1, mul=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="k is"):
        asymmetric.topk(**good, k=-1)
    assert asymmetric.topk(**{**good, "codes": good["codes"][:0]}, k=4)[0].shape[1] == 0
