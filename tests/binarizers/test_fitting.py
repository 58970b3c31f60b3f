"""Fitting by name: widths, refusals, seeds; thresholds are means and medians."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
from corpora import DEGENERATE, anisotropic, gaussian

from binq import binarizers
from binq.errors import InputError, UsageError
from binq.types import METHODS


def test_sign_needs_nothing() -> None:
    assert not binarizers.needs_sample("sign")
    found = binarizers.fit("sign", 5, "cosine")
    assert (found.affine.center, found.seed, found.sample) == (None, None, None)


@pytest.mark.parametrize("method", ["mean", "median"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("cut", [None, 1, 19])
def test_thresholds(method: Any, metric: Any, cut: int | None) -> None:
    sample = gaussian(101, 40) + np.float32(0.5)
    assert binarizers.needs_sample(method)
    found = binarizers.fit(method, 40, metric, sample, truncate_dim=cut, seed=3)
    prepared = sample[:, :cut].astype(np.float64)
    if metric == "cosine":
        prepared = naive.unit(prepared)
    expected = prepared.mean(axis=0) if method == "mean" else np.sort(prepared, axis=0)[50]
    assert found.affine.center is not None
    assert found.affine.center.dtype == np.float32
    assert np.allclose(found.affine.center, expected, atol=1e-6)
    assert found.affine.scale is not None
    distance = np.abs(prepared - expected).mean(axis=0)
    assert np.allclose(found.affine.scale, distance, atol=1e-6)
    assert (found.seed, found.sample, found.bits) == (3, 101, cut or 40)


def test_median_splits_in_halves() -> None:
    sample = gaussian(1000, 30) + 7
    codes = binarizers.fit("median", 30, "l2", sample).encode(sample)
    ones = np.unpackbits(codes.view(np.uint8), axis=1, bitorder="little")[:, :30].sum(axis=0)
    assert (ones == 500).all()


def test_refusals() -> None:
    for bad in (0, -1, 41):
        with pytest.raises(UsageError, match="truncat"):
            binarizers.fit("sign", 40, "ip", truncate_dim=bad)
    with pytest.raises(UsageError, match="method"):
        binarizers.fit("pca", 40, "ip")  # type: ignore[arg-type]
    for sample in (None, np.empty((0, 40), np.float32)):
        with pytest.raises(InputError, match="no rows"):
            binarizers.fit("mean", 40, "ip", sample)


def test_a_row_that_truncation_makes_zero_is_named() -> None:
    sample = gaussian(5, 4)
    sample[3, :2] = 0
    with pytest.raises(InputError, match="sample row 3"):
        binarizers.fit(
            "mean", 4, "cosine", sample, truncate_dim=2, locate=lambda row: f"sample row {row}"
        )


WIDTHS: dict[Any, tuple[int, ...]] = {
    "sign": (20,),
    "mean": (20,),
    "median": (20,),
    "rabitq": (20,),
    "itq": (1, 7, 20),
    "lsh": (1, 7, 20, 64, 130),
    "rotate": (1, 7, 20, 64, 130),
    "learned": (1, 2, 7, 20, 64, 130),
    "ste": (7, 20, 130),
}
EVERY = [(method, bits) for method, widths in WIDTHS.items() for bits in widths]


@pytest.fixture
def fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training takes as long for few rows as for many; what is tested does not need it all."""
    whole = binarizers.fitting.ste.fit
    monkeypatch.setattr(binarizers.fitting.ste, "fit", lambda *a, **k: whole(*a, **k, steps=12))


def as_bytes(found: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in found.arrays().items()}


def test_every_method_is_tested() -> None:
    assert set(WIDTHS) == set(METHODS)
    scans = {method: binarizers.default_scoring(method) for method in METHODS}
    asymmetric = {method for method, scan in scans.items() if scan == "asymmetric"}
    assert asymmetric == {"learned", "rabitq"}
    assert binarizers.default_scoring(None) == "hamming"


@pytest.mark.usefixtures("fewer_steps")
@pytest.mark.parametrize(("method", "bits"), EVERY)
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_same_bytes_at_one_and_two_threads_and_again(method: Any, bits: int, metric: Any) -> None:
    sample = anisotropic(1300, 20)
    fits = [
        binarizers.fit(method, 20, metric, sample, bits=bits, seed=5, threads=threads)
        for threads in (1, 2, 1)
    ]
    assert as_bytes(fits[0]) == as_bytes(fits[1]) == as_bytes(fits[2])
    assert (fits[0].bits, fits[0].dim, fits[0].metric) == (bits, 20, metric)
    one = fits[0].encode_with_terms(sample)
    two = fits[0].encode_with_terms(sample, threads=2)
    assert one[0].shape == (1300, -(-bits // 64))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[0], fits[0].encode(sample, threads=2))
    for name in ("factor", "addend"):
        mine, other = getattr(one[1], name), getattr(two[1], name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert np.isfinite(mine).all()
            assert np.array_equal(mine, other)
    # Bits beyond the width are never set.
    assert not naive.signs(one[0])[:, bits:].max(initial=-1) > 0


@pytest.mark.usefixtures("fewer_steps")
@pytest.mark.parametrize("method", ["lsh", "rotate", "itq", "rabitq", "learned", "ste"])
def test_the_seed_matters(method: Any) -> None:
    sample = anisotropic(300, 20)
    found = [as_bytes(binarizers.fit(method, 20, "ip", sample, seed=seed)) for seed in (0, 1)]
    assert found[0] != found[1]


@pytest.mark.usefixtures("fewer_steps")
@pytest.mark.parametrize(
    ("method", "bits"), [(m, b) for m, b in EVERY if b in (7, 20, 130) and m != "sign"]
)
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_hard_rows_give_finite_numbers(method: Any, bits: int, case: str, metric: Any) -> None:
    sample = DEGENERATE[case]
    found = binarizers.fit(method, 20, metric, sample, bits=bits)
    for array in found.arrays().values():
        assert np.isfinite(array).all()
    _, terms = found.encode_with_terms(sample)
    for term in (terms.factor, terms.addend):
        assert term is None or np.isfinite(term).all()
    if metric == "cosine" and terms.factor is not None:
        assert np.isfinite(terms.factor.astype(np.float16)).all()
    weights = found.weights(sample[:3])
    assert all(np.isfinite(a).all() for a in (weights.values, weights.base, weights.offset))


@pytest.mark.usefixtures("fewer_steps")
@pytest.mark.parametrize("method", WIDTHS)
@pytest.mark.parametrize("cut", [1, 2, 3, 13])
def test_truncation(method: Any, cut: int) -> None:
    sample = anisotropic(100, 20)
    found = binarizers.fit(method, 20, "cosine", sample, truncate_dim=cut)
    assert (found.dim, found.input_dim, found.bits) == (20, cut, cut)
    codes, terms = found.encode_with_terms(sample)
    short, short_terms = found.encode_with_terms(np.ascontiguousarray(sample[:, :cut]))
    assert np.array_equal(codes, short)
    assert (terms.factor is None) == (short_terms.factor is None)
    assert found.weights(sample[:2]).values.shape == (2, cut)


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        *((method, bits) for method in ("sign", "mean", "median", "rabitq") for bits in (19, 21)),
        *((method, 0) for method in WIDTHS),
        *((method, -3) for method in WIDTHS),
        ("itq", 21),
        ("lsh", binarizers.fitting.MAX_BITS + 1),
        ("learned", binarizers.fitting.MAX_BITS + 1),
    ],
)
def test_widths_that_a_method_cannot_give(method: Any, bits: int) -> None:
    with pytest.raises(UsageError, match="bits"):
        binarizers.fit(method, 20, "ip", gaussian(30, 20), bits=bits)
