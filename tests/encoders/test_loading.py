from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from endpoints import FakeEndpoint

from binq.encoders import BUILT_IN, check_same_model, load_encoder, load_for
from binq.encoders.endpoint import CohereEncoder, OpenAIEncoder
from binq.encoders.fingerprints import FingerprintEncoder
from binq.encoders.static import StaticEncoder
from binq.errors import InputError, MissingExtraError, UsageError

FOLDER = Path(sys.modules[StaticEncoder.__module__].__file__ or "").parent / "static_model"


def test_what_a_model_may_be(endpoint: FakeEndpoint) -> None:
    assert isinstance(load_encoder(f"{endpoint.url}#m"), OpenAIEncoder)
    assert isinstance(load_encoder(f"{endpoint.root}/v2/embed#m"), CohereEncoder)
    assert load_encoder(f"{endpoint.root}/v2/embed#m", bits=True).bits == 0
    fingerprints = load_encoder("minhash:128")
    assert isinstance(fingerprints, FingerprintEncoder)
    assert (fingerprints.method, fingerprints.bits) == ("minhash", 128)


@pytest.mark.parametrize("model", [None, BUILT_IN, str(FOLDER), f"model2vec:{FOLDER}"])
def test_static_models(model: str | None) -> None:
    pytest.importorskip("model2vec")
    encoder = load_encoder(model, prompt="p ", truncate_dim=32)
    assert isinstance(encoder, StaticEncoder)
    assert encoder.encode(["x"]).shape == (1, 32)


def test_other_names_go_to_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="sentence-transformers"):
        load_encoder("organisation/model")


def test_an_address_without_its_beginning_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    (tmp_path / "a#b").mkdir()
    with pytest.raises((InputError, MissingExtraError)):  # a folder may be called so
        load_encoder(str(tmp_path / "a#b"))
    for path in (str(tmp_path / "b"), "./b", "../no/b"):
        with pytest.raises(InputError, match=r"no such folder.*; check the path"):
            load_encoder(path)
    for model in ("localhost:11434/v1#m", "127.0.0.1:80", "api.openai.com/v1#m", "me:pw@host:8/v1"):
        with pytest.raises(UsageError, match="http:// or https:// in front") as caught:
            load_encoder(model, concurrency=2)
        assert "pw" not in str(caught.value)


@pytest.mark.parametrize("model", ["", " ", "simhash:x", "minhash:7", "model2vec:", "http://"])
def test_what_a_model_may_not_be(model: str) -> None:
    with pytest.raises(UsageError):
        load_encoder(model)


@pytest.mark.parametrize(
    ("model", "options", "option"),
    [
        (None, {"device": "cpu"}, "device"),
        (None, {"key_file": "k"}, "key_file"),
        (None, {"batch_size": 0}, "batch_size"),
        ("simhash:64", {"prompt": "p"}, "prompt"),
        ("simhash:64", {"truncate_dim": 3}, "truncate_dim"),
        ("http://127.0.0.1:9/v1#m", {"device": "cpu"}, "device"),
        ("http://127.0.0.1:9/v1#m", {"batch_size": 0}, "batch_size"),
        ("a/name", {"key_file": "k"}, "key_file"),
    ],
)
def test_options_that_a_model_cannot_heed_are_refused(
    model: str | None, options: dict[str, Any], option: str
) -> None:
    with pytest.raises(UsageError, match=option):
        load_encoder(model, **options)


def test_the_built_in_model_and_fingerprints_load_on_the_word_of_a_record() -> None:
    pytest.importorskip("model2vec")
    recorded = load_encoder(truncate_dim=64).metadata()
    encoder = load_for(recorded)
    assert encoder.metadata()["binq.model"] == BUILT_IN
    assert encoder.encode(["x"], "query").shape == (1, 64)
    recorded = load_encoder("minhash:64").metadata()
    assert load_for(recorded).encode(["x"]).shape == (1, 8)


@pytest.mark.parametrize(
    "name", ["org/model", "http://127.0.0.1:9/v1", "/tmp", "model2vec:org/model", "https://h/v1"]
)
def test_nothing_else_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded on the word of a record")

    monkeypatch.setattr("binq.encoders.loading.load_encoder", refuse)
    with pytest.raises(InputError, match="model"):
        load_for({"binq.model": name})


def test_unknown_origin_wants_a_model() -> None:
    with pytest.raises(UsageError, match="model"):
        load_for({})
    assert load_for({}, "simhash:64").bits == 64


def test_the_named_model_must_be_the_recorded_one(endpoint: FakeEndpoint) -> None:
    recorded = load_encoder(f"{endpoint.url}#m", truncate_dim=4).metadata()
    # The same model may have moved to another address.
    encoder = load_for(recorded, f"{endpoint.url}/embeddings#m", prompt="q: ")
    assert encoder.encode(["x"]).shape == (1, 4)
    with pytest.raises(
        InputError, match=r"another model than the index records: model: expected m, got other"
    ):
        load_for(recorded, f"{endpoint.url}#other")
    assert load_for(recorded, f"{endpoint.url}#other", force=True).name == "other"


def test_bits_of_the_model_s_own_making_are_asked_for_again(endpoint: FakeEndpoint) -> None:
    made = load_encoder(f"{endpoint.root}/v2/embed#m", bits=True)
    made.encode(["x"])
    encoder = load_for(made.metadata(), f"{endpoint.root}/v2/embed#m")
    assert encoder.encode(["x"], "query").shape == (1, 2)


def test_what_makes_models_differ() -> None:
    one = {"binq.model": "m", "binq.revision": "1", "binq.normalized": "true"}
    check_same_model(one, one | {"binq.prompt": "other"}, "here")
    check_same_model({}, one, "here")
    check_same_model(one, {}, "here")
    check_same_model(one, one | {"binq.revision": ""}, "here")
    by_files = {"binq.model": "m", "binq.revision": "c" * 32}
    check_same_model(by_files, by_files | {"binq.model": "copy-of-m"}, "here")
    for change in (
        {"binq.model": "n"},
        {"binq.revision": "2"},
        {"binq.normalized": "false"},
        {"binq.truncate_dim": "5"},
    ):
        with pytest.raises(InputError, match="here"):
            check_same_model(one, one | change, "here")


@pytest.mark.parametrize("value", ["x", "0", "-1", "9" * 30, ""])
def test_damaged_records(value: str) -> None:
    with pytest.raises(InputError, match="damaged"):
        load_for({"binq.model": BUILT_IN, "binq.truncate_dim": value})
