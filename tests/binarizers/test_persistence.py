"""A binarizer as npz: it comes back the same, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from corpora import gaussian

from binq import binarizers
from binq.errors import InputError
from binq.types import METHODS


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("method", METHODS)
def test_round_trip(tmp_path: Path, method: binarizers.Method) -> None:
    sample = gaussian(50, 12)
    before = binarizers.fit(method, 12, "cosine", sample, truncate_dim=9, seed=4)
    binarizers.save(before, tmp_path / "b.npz")
    after = binarizers.load(tmp_path / "b.npz")
    assert after.settings() == before.settings()
    arrays = before.arrays()
    assert {name: a.tobytes() for name, a in after.arrays().items()} == {
        name: a.tobytes() for name, a in arrays.items()
    }
    assert np.array_equal(after.encode(sample), before.encode(sample))
    for mine, other in zip(
        vars(after.weights(sample)).values(), vars(before.weights(sample)).values(), strict=True
    ):
        assert np.array_equal(mine, other)
    with np.load(tmp_path / "b.npz", allow_pickle=False) as archive:
        assert json.loads(str(archive["settings"]))["method"] == method


def npz(**arrays: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


GOOD = npz(settings=np.array(json.dumps({"method": "sign", "dim": 3, "metric": "ip"})))


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    for data in (
        b"",
        b"PK",
        b"nonsense",
        pickle.dumps({"a": 1}),
        GOOD[:-9],
        GOOD[: len(GOOD) // 2],
        npz(other=np.zeros(3)),
        npz(settings=np.array("{")),
        npz(settings=np.array("[]")),
        npz(settings=np.array("3")),
        npz(settings=np.zeros(3)),
        npz(settings=np.array('{"method": "sign", "dim": 0, "metric": "ip"}')),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match="not a binarizer"):
            binarizers.load(path)


def test_an_unknown_method_is_named(tmp_path: Path) -> None:
    for method in ("kmeans", "", None, ["sign"]):
        settings = {"method": method, "dim": 3, "metric": "ip"}
        (tmp_path / "b.npz").write_bytes(npz(settings=np.array(json.dumps(settings))))
        with pytest.raises(InputError) as caught:
            binarizers.load(tmp_path / "b.npz")
        assert caught.value.got == f"the unknown method {method}"


def test_an_object_array_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    with path.open("wb") as file:
        np.savez(file, settings=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a binarizer"):
        binarizers.load(path)


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such binarizer"):
        binarizers.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="not a binarizer"):
        binarizers.load(tmp_path)


def test_a_single_array_is_no_binarizer(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", gaussian(2, 2))
    with pytest.raises(InputError, match="not a binarizer"):
        binarizers.load(tmp_path / "b.npy")
