"""Static models: an embedding is the weighted mean of its tokens' vectors.

The built-in model is one of them. It lies in ``static_model`` beside this file and is read from
there and from nowhere else; `model2vec <https://github.com/MinishLab/model2vec>`_ runs it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np
import xxhash
from numpy.typing import NDArray

from binq.encoders.base import FloatEncoder, FloatOptions
from binq.errors import EnvironmentFailure, InputError, missing_extra
from binq.io.paths import opening
from binq.types import Role

BUILT_IN: Final = "binq-static-1"
"""The name under which metadata and index headers know the built-in model."""

FINGERPRINT_LENGTH: Final = 32
"""Hexadecimal digits of `fingerprint_folder`; no other revision has as many."""

_BUILT_IN_FOLDER: Final = Path(__file__).parent / "static_model"
_FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
# Of a table of float32: 64 MiB.
_TABLE_NUMBERS: Final = 1 << 24


class StaticEncoder(FloatEncoder):
    """A model2vec model.

    It reads texts to their end, however long they are.

    Parameters
    ----------
    model : str or path, optional
        A folder that holds a model2vec model, or a name on the hub (which may be downloaded);
        the built-in model by default.
    options
        See `FloatEncoder`.

    Raises
    ------
    MissingExtraError
        If model2vec is not installed.
    InputError
        If the folder does not hold a model2vec model.
    EnvironmentFailure
        If a model on the hub cannot be had.
    """

    # The tokenizer works through a batch on all threads; beyond this many texts it gains nothing.
    default_batch = 1024

    def __init__(
        self, model: str | os.PathLike[str] | None = None, **options: Unpack[FloatOptions]
    ) -> None:
        folder = _BUILT_IN_FOLDER if model is None else Path(model)
        if model is None or folder.is_dir():
            name = BUILT_IN if model is None else folder.resolve().name
            revision = fingerprint_folder(folder, _FILES)
        else:
            name, revision = os.fspath(model), ""
        super().__init__(name, revision, **options)
        self._model = _load(os.fspath(folder if revision else name), local=bool(revision))
        self._table = _weighted(self._model)

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        del role
        if not texts:
            return np.empty((0, self._model.dim), dtype=np.float32)
        if self._table is None:
            rows: NDArray[Any] = self._model.encode(
                texts,
                max_length=None,
                normalize=False,
                batch_size=self.batch_size,
                use_multiprocessing=False,
            )
            return rows
        out = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        for row, tokens in zip(out, self._model.tokenize(texts), strict=True):
            if tokens:
                np.divide(self._table.take(tokens, axis=0).sum(axis=0), len(tokens), out=row)
        return out


def _weighted(model: Any) -> NDArray[np.float32] | None:
    """Return the vector of each token, weighted once and not at every text; None if too large."""
    vectors, weights, mapping = model.embedding, model.weights, model.token_mapping
    count = len(vectors) if mapping is None else len(mapping)
    if count * vectors.shape[1] > _TABLE_NUMBERS:
        return None
    table: NDArray[np.float32] = np.asarray(
        vectors if mapping is None else vectors[mapping], dtype=np.float32
    )
    return table if weights is None else table * np.asarray(weights, np.float32)[:count, None]


def fingerprint_folder(folder: Path, names: Sequence[str]) -> str:
    """Return what tells two states of a model's files apart: xxh3_128 in hexadecimal.

    Raises
    ------
    InputError
        If a file is missing.
    EnvironmentFailure
        If one may not be read.
    """
    digest = xxhash.xxh3_128()
    for name in names:
        path = folder / name
        with opening(str(path)), open(path, "rb") as file:
            digest.update(f"{name} {os.fstat(file.fileno()).st_size}\n".encode())
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return str(digest.hexdigest())


def is_static_model(folder: Path) -> bool:
    """Return whether a folder holds a model2vec model, by its configuration alone."""
    try:
        config = (folder / "config.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return '"model2vec"' in config and (folder / "tokenizer.json").is_file()


def _load(where: str, *, local: bool) -> Any:
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise missing_extra("model2vec", "text", "encoding text") from error
    try:
        return StaticModel.from_pretrained(where, force_download=False)
    except Exception as error:  # the libraries below raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if local:
            raise InputError(
                "not a usable model2vec model", where, ", ".join(_FILES), reason
            ) from error
        raise EnvironmentFailure(
            "cannot get the model", where, got=reason, next_step="give the path of a local copy"
        ) from error
