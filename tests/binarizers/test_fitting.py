"""Fitting by name: widths, refusals, seeds; thresholds are means and medians."""

from __future__ import annotations

import itertools
from typing import Any

import naive
import numpy as np
import pytest
from corpora import DEGENERATE, anisotropic, gaussian

from binq import binarizers
from binq.binarizers import TABLE
from binq.errors import InputError, UsageError
from binq.similarity import unit_rows
from binq.types import METHODS, METRICS


def test_sign_needs_nothing() -> None:
    found = binarizers.fit("sign", 5, "cosine")
    assert (found.affine.center, found.seed, found.sample) == (None, None, None)


@pytest.mark.parametrize("method", ["mean", "median"])
def test_thresholds(method: Any) -> None:
    sample = gaussian(101, 40) + np.float32(0.5)
    for metric, cut in itertools.product(METRICS, (None, 1, 19)):
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
QUICK_AND_SLOW = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("learned", "ste") else [])
    for name in WIDTHS
]
pytestmark = pytest.mark.usefixtures("few_steps")


def as_bytes(found: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in found.arrays().items()}


def test_every_method_has_a_row() -> None:
    assert set(TABLE) == set(METHODS) == set(WIDTHS)
    assert next(iter(TABLE)) == "sign"
    assert {name for name, spec in TABLE.items() if not spec.needs_sample} == {"sign"}
    assert {name for name, spec in TABLE.items() if not spec.hamming} == {"learned"}
    for name, spec in TABLE.items():
        assert spec.about
        assert binarizers.default_scoring(name) == spec.scoring
        wanted = "asymmetric" if name in ("learned", "rabitq") else "hamming"
        assert spec.scoring == wanted
        for bits in (1, 7, 20, 64, 130):
            wide = name in ("lsh", "rotate", "learned", "ste")
            assert spec.allows(bits, 20) == (bits == 20 or wide or (name == "itq" and bits < 20))
    assert binarizers.default_scoring(None) == "hamming"


@pytest.mark.slow
@pytest.mark.parametrize("method", QUICK_AND_SLOW)
def test_same_bytes_at_one_and_two_threads_and_again(method: Any) -> None:
    sample = anisotropic(1300, 20)
    for bits, metric in itertools.product(WIDTHS[method], METRICS):
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


@pytest.mark.parametrize("method", WIDTHS)
def test_rows_at_unit_length_are_not_normalised_again(method: Any) -> None:
    sample = anisotropic(300, 20)
    unit = unit_rows(sample)
    fitted = binarizers.fit(method, 20, "cosine", sample)
    assert fitted.prepare(sample, str, unit) is unit
    for cut in (None, 13):
        fitted = binarizers.fit(method, 20, "cosine", sample, truncate_dim=cut)
        assert np.array_equal(fitted.encode(sample, str, 1, unit), fitted.encode(sample))
        codes, terms = fitted.encode_with_terms(sample, str, 1, unit)
        assert np.array_equal(codes, fitted.encode_with_terms(sample)[0])
        assert np.array_equal(terms.factor, fitted.encode_with_terms(sample)[1].factor)
    plain = binarizers.fit(method, 20, "ip", sample)
    assert plain.prepare(sample, str, unit) is not unit


def test_the_seed_matters() -> None:
    sample = anisotropic(300, 20)
    for method in ("lsh", "rotate", "itq", "rabitq", "learned", "ste"):
        found = [as_bytes(binarizers.fit(method, 20, "ip", sample, seed=seed)) for seed in (0, 1)]
        assert found[0] != found[1], method


@pytest.mark.slow
@pytest.mark.parametrize("method", QUICK_AND_SLOW[1:])
def test_hard_rows_give_finite_numbers(method: Any) -> None:
    widths = [bits for bits in WIDTHS[method] if bits in (7, 20, 130)]
    for sample, bits, metric in itertools.product(DEGENERATE.values(), widths, ("cosine", "l2")):
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


@pytest.mark.parametrize("method", WIDTHS)
def test_truncation(method: Any) -> None:
    sample = anisotropic(100, 20)
    for cut in (1, 2, 3, 13):
        found = binarizers.fit(method, 20, "cosine", sample, truncate_dim=cut)
        assert (found.dim, found.input_dim, found.bits) == (20, cut, cut)
        codes, terms = found.encode_with_terms(sample)
        short, short_terms = found.encode_with_terms(np.ascontiguousarray(sample[:, :cut]))
        assert np.array_equal(codes, short)
        assert (terms.factor is None) == (short_terms.factor is None)
        assert found.weights(sample[:2]).values.shape == (2, cut)


def test_widths_that_a_method_cannot_give() -> None:
    bad = [(method, bits) for method in METHODS for bits in (0, -3)]
    bad += [(method, bits) for method in ("sign", "mean", "median", "rabitq") for bits in (19, 21)]
    bad += [("itq", 21), ("lsh", 16_385), ("ste", 16_385), ("rotate", 65_537), ("learned", 65_537)]
    for method, bits in bad:
        with pytest.raises(UsageError, match="bits"):
            binarizers.fit(method, 20, "ip", gaussian(30, 20), bits=bits)
