from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from binq.encoders.static import BUILT_IN, StaticEncoder, fingerprint_folder, is_static_model
from binq.errors import InputError, MissingExtraError

FOLDER = Path(sys.modules[StaticEncoder.__module__].__file__ or "").parent / "static_model"


@pytest.fixture(scope="module")
def encoder() -> StaticEncoder:
    pytest.importorskip("model2vec")
    return StaticEncoder()


def test_it_tells_meaning_apart_without_shared_words(encoder: StaticEncoder) -> None:
    texts = ["a small dog sleeps", "the puppy is napping", "interest rates were raised"]
    dog, puppy, bank = encoder.encode(texts)
    assert dog @ puppy > dog @ bank + 0.2


def test_shape_length_and_type(encoder: StaticEncoder) -> None:
    rows = encoder.encode(["one", "two words", "日本"])
    assert rows.shape == (3, 256)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 256)


def test_a_text_has_the_same_embedding_in_any_company(encoder: StaticEncoder) -> None:
    texts = [f"text {'x ' * (i % 5)} number {i}" for i in range(40)]
    together = encoder.encode(texts)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], row)


def test_a_long_text_is_read_to_its_end(encoder: StaticEncoder) -> None:
    long = "harbour " * 3000
    with_end = long + "volcano " * 3000
    assert encoder.encode([long])[0] @ encoder.encode([with_end])[0] < 0.95
    assert not encoder.overlong([with_end]).any()


def test_cut_and_normalization(encoder: StaticEncoder) -> None:
    full = encoder.encode(["some text"])[0]
    short = StaticEncoder(truncate_dim=64).encode(["some text"])[0]
    np.testing.assert_allclose(short, full[:64] / np.linalg.norm(full[:64]), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="fewer dims"):
        StaticEncoder(truncate_dim=300).encode(["x"])


def test_a_folder_is_the_same_model_under_another_name(encoder: StaticEncoder) -> None:
    other = StaticEncoder(FOLDER)
    np.testing.assert_array_equal(other.encode(["x y"]), encoder.encode(["x y"]))
    assert encoder.metadata()["binq.model"] == BUILT_IN
    assert other.metadata()["binq.model"] == "static_model"
    assert other.revision == encoder.revision


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    assert not is_static_model(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        StaticEncoder(tmp_path)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text('{"model_type": "model2vec"}')
    assert is_static_model(tmp_path)
    pytest.importorskip("model2vec")
    with pytest.raises(InputError, match="not a usable model2vec model"):
        StaticEncoder(tmp_path)


def test_the_fingerprint_sees_every_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    before = fingerprint_folder(tmp_path, ["a", "b"])
    (tmp_path / "b").write_text("c")
    assert fingerprint_folder(tmp_path, ["a", "b"]) != before


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(MissingExtraError, match=r"binq\[text\]"):
        StaticEncoder()


@pytest.mark.slow
def test_nothing_is_fetched() -> None:
    pytest.importorskip("model2vec")
    program = """
import socket
def refuse(*a, **k): raise AssertionError("network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from binq.encoders import load_encoder
print(load_encoder().encode(["x"]).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "(1, 256)\n", done.stderr
