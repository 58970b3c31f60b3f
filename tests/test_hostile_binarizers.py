"""Binarizers that claim too much: clean errors, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import gaussian
from forging import header_of, with_header

import binq
from binq import binarizers
from binq.binarizers import Binarizer
from binq.errors import BinqError, InputError, UsageError
from binq.index.index import Index
from binq.types import METHODS

ASKED = gaussian(4, 10, seed=5)


def test_a_forged_index_takes_no_memory(tmp_path: Path) -> None:
    binq.build(np.zeros((0, 8), np.float32), tmp_path / "none")
    data = (tmp_path / "none").read_bytes()
    header = header_of(data)
    for dim in (65_537, 1 << 31, 1 << 40):
        wide = {"dim": dim, "bits": dim, "words": -(-dim // 64)}
        binarizer = header["binarizer"] | {"dim": dim, "bits": dim}
        sections = [s | {"shape": [0, wide["words"]]} for s in header["sections"]]
        forged = header | wide | {"binarizer": binarizer, "sections": sections}
        (tmp_path / "forged").write_bytes(with_header(data, forged))
        with pytest.raises(BinqError, match="dim: expected 1 to 65536"):
            Index(tmp_path / "forged")


def settings_of(method: str, dim: int, bits: int) -> dict[str, Any]:
    return {"method": method, "dim": dim, "bits": bits, "metric": "ip"} | dict.fromkeys(
        ("truncate_dim", "seed", "sample")
    )


def test_restoring_takes_no_more_than_the_limits() -> None:
    for method in METHODS:
        for dim, bits in ((1 << 31, 1 << 31), (65_537, 65_537), (1 << 61, 8)):
            with pytest.raises(ValueError, match=r".+"):
                Binarizer.restore(settings_of(method, dim, bits), {})


def test_fits_that_would_be_too_large_are_refused_at_once() -> None:
    """The limit on memory stands for all that a fit would have made."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    try:
        for method, dim, bits in (
            ("lsh", 65_536, None),
            ("lsh", 65_536, 8192),
            ("lsh", 8, 65_536),
            ("itq", 65_536, 16),
            ("ste", 65_536, 16),
            ("ste", 16, 65_536),
            ("learned", 65_536, 16),
        ):
            with pytest.raises(UsageError, match="too large a matrix"):
                binarizers.fit(method, dim, "ip", np.ones((2, dim), np.float32), bits=bits)
        wide = gaussian(3, 65_536)
        for method in ("sign", "mean", "median", "rotate", "rabitq"):
            found = binarizers.fit(method, 65_536, "ip", wide)
            codes, terms = found.encode_with_terms(wide)
            assert codes.shape == (3, 1024)
            assert terms.factor is not None
            assert np.isfinite(terms.factor).all()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_codes_that_are_too_wide_for_the_asymmetric_scan(tmp_path: Path) -> None:
    wide, path = gaussian(3, 40_000), tmp_path / "wide"
    for method in ("rabitq", "sign", "rotate"):
        with pytest.raises(InputError, match="at most 32768 bits"):
            binq.build(wide, path, method=method, scoring="asymmetric")
    binq.build(wide, path)
    assert Index(path).search(wide, 1).rows.ravel().tolist() == [0, 1, 2]
    for settings in ({"scoring": "asymmetric"}, {"rescore": "codes"}):
        with pytest.raises(InputError, match="at most 32768 bits"):
            Index(path).search(wide, 1, **settings)


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        sink,
        {
            "descr": array.dtype.str,
            "fortran_order": False,
            "shape": array.shape if shape is None else shape,
        },
    )
    return sink.getvalue() + array.tobytes()


@pytest.mark.slow
def test_an_npz_that_claims_or_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    small, settings = np.zeros(9, np.float32), np.array(json.dumps(settings_of("itq", 3, 3)))
    bombs: list[dict[str, bytes]] = [
        {"center.npy": npy(np.zeros(1 << 25, np.float32))},
        {"center.npy": npy(small, (1 << 40,))},
        {"center.npy": npy(small, (1 << 31, 0))},
        {"center.npy": npy(small, (3, 4))},
        {"center.npy": npy(np.empty(0, "<U0"), (1 << 40,))},
        {"center.npy": npy(small).replace(b"}", b" ")},
        {f"a{number}.npy": npy(small) for number in range(100)},
    ]
    for bomb in bombs:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in ({"settings.npy": npy(settings)} | bomb).items():
                archive.writestr(name, data)
        assert path.stat().st_size < 1 << 20
        with pytest.raises(InputError, match="not a binarizer"):
            binarizers.load(path)
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path, tmp_path / "fifo", "/dev/zero"):  # nothing is waited for, or endless
        with pytest.raises(InputError, match="not a binarizer"):
            binarizers.load(place)
    fitted = binarizers.fit("itq", 10, "ip", gaussian(40, 10))
    arrays = fitted.arrays() | {"settings": np.array(json.dumps(fitted.settings()))}
    np.savez_compressed(path, **arrays)
    assert np.array_equal(binarizers.load(path).encode(ASKED), fitted.encode(ASKED))
