from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from binq.encoders.sentence_transformers import SentenceTransformerEncoder
from binq.errors import EnvironmentFailure, InputError, MissingExtraError


class FakeModel:
    """What binq uses of a SentenceTransformer: one token a word, two special ones."""

    prompts: ClassVar[dict[str, str]] = {"query": "search_query: ", "passage": "search_document: "}
    default_prompt_name: str | None = None
    max_seq_length: int | None = 8

    def __init__(self, name: str, **options: Any) -> None:
        if options["device"] == "cuda:9" or "broken" in name:
            raise RuntimeError("no such thing\nlong story")
        self.options = options
        self.asked: list[Any] = []

    def __iter__(self) -> Any:
        config = types.SimpleNamespace(_commit_hash="c0ffee")
        yield types.SimpleNamespace(auto_model=types.SimpleNamespace(config=config))

    def get_sentence_embedding_dimension(self) -> int:
        return 4

    def tokenizer(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * (len(text.split()) + 2) for text in texts]}

    def encode(self, texts: list[str], **options: Any) -> Any:
        assert options["prompt"] == ""
        self.asked.append(texts)
        return np.array([[len(text), 1, 0, 0] for text in texts], np.float32)


@pytest.fixture(autouse=True)
def fake_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


def test_the_model_s_own_prompts_follow_the_role() -> None:
    encoder = SentenceTransformerEncoder("some/name", normalize=False)
    encoder.encode(["x"], "query")
    encoder.encode(["x"], "document")
    assert encoder._model.asked == [["search_query: x"], ["search_document: x"]]
    assert encoder.metadata("document")["binq.prompt"] == "search_document: "
    assert encoder.metadata("document")["binq.prompt.query"] == "search_query: "
    assert encoder.metadata()["binq.max_tokens"] == "8"
    assert encoder.revision == "c0ffee"


def test_a_prompt_of_the_user_s_replaces_them() -> None:
    encoder = SentenceTransformerEncoder("some/name", prompt="")
    encoder.encode(["x"], "query")
    assert encoder._model.asked == [["x"]]


def test_the_default_prompt_serves_a_role_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModel, "prompts", {"query": "q: ", "document": "", "all": "a: "})
    monkeypatch.setattr(FakeModel, "default_prompt_name", "all")
    encoder = SentenceTransformerEncoder("some/name")
    assert (encoder.prompt("query"), encoder.prompt("document")) == ("q: ", "a: ")


def test_code_of_a_model_is_never_run_and_a_folder_never_downloads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    encoder = SentenceTransformerEncoder(str(tmp_path), device="cpu")
    options = encoder._model.options
    assert options["trust_remote_code"] is False
    assert options["local_files_only"] is True
    assert options["device"] == "cpu"
    assert encoder.name == tmp_path.name
    revision = encoder.revision
    (tmp_path / "config.json").write_text('{"other": 1}')
    assert SentenceTransformerEncoder(str(tmp_path)).revision != revision


def test_overlong_texts_are_counted_in_tokens_with_the_prompt() -> None:
    encoder = SentenceTransformerEncoder("some/name", prompt="one two ")
    # 8 tokens less 2 special ones less 2 of the prompt leave 4 words.
    texts = ["a b c d", "a b c d e", "", "extraordinarily long words here"]
    assert encoder.overlong(texts).tolist() == [False, True, False, False]


def test_models_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModel, "max_seq_length", None)
    encoder = SentenceTransformerEncoder("some/name")
    assert not encoder.overlong(["a " * 10_000]).any()
    assert "binq.max_tokens" not in encoder.metadata()


def test_cut_and_normalized() -> None:
    encoder = SentenceTransformerEncoder("some/name", prompt="", truncate_dim=2)
    np.testing.assert_allclose(encoder.encode(["x"]), [[2**-0.5, 2**-0.5]], rtol=1e-6)
    assert encoder.encode([]).shape == (0, 2)


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="no such thing") as caught:
        SentenceTransformerEncoder("some/broken-name")
    assert "long story" not in str(caught.value)
    with pytest.raises(EnvironmentFailure, match="device"):
        SentenceTransformerEncoder("some/name", device="cuda:9")
    folder = tmp_path / "broken"
    folder.mkdir()
    with pytest.raises(InputError, match="not a usable model"):
        SentenceTransformerEncoder(str(folder))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"binq\[sentence-transformers\]"):
        SentenceTransformerEncoder("some/name")
