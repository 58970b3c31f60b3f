"""Embeddings from an HTTP endpoint: OpenAI's protocol, which most servers speak, and Cohere's.

==================================  ==================================================
address                             protocol
==================================  ==================================================
``http://HOST/v1``                  OpenAI: ``POST /v1/embeddings``
``http://HOST/v1/embeddings``       the same, written out
``https://HOST/v2/embed``           Cohere: ``texts``, ``input_type``, ``embedding_types``
==================================  ==================================================

``#MODEL`` after the address names the model; a server that offers exactly one need not be told.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.encoders.base import FloatEncoder, Role, check_role
from binq.encoders.transport import RefusedError, Transport, check_url, find_key
from binq.errors import BinqError, EnvironmentFailure, UsageError
from binq.types import MAX_DIM

_BATCH: Final = 64
_INPUT_TYPES: Final[dict[Role, str]] = {"query": "search_query", "document": "search_document"}


class _Endpoint:
    """Where to ask and for what; shared by the protocols."""

    def __init__(
        self, address: str, key_file: str | os.PathLike[str] | None, transport: Transport | None
    ) -> None:
        url, _, self.model = address.partition("#")
        check_url(url)
        self.url = url.rstrip("/")
        self.transport = transport or Transport(find_key(url, key_file))

    @property
    def name(self) -> str:
        """The model's name where there is one: it may move to another host and be the same."""
        return self.model or self.url


class OpenAIEncoder(FloatEncoder):
    """A model behind an OpenAI-compatible endpoint: OpenAI, Ollama, vLLM, TEI and others.

    Parameters
    ----------
    address : str
        ``http(s)://HOST/v1``, with ``#MODEL`` at its end where the server offers several.
    prompt, truncate_dim, normalize, batch_size
        See `FloatEncoder`; prompt and cut are applied here and not by the server.
    key_file : path, optional
        Holds the key; else the environment does (see `transport.find_key`).
    transport : Transport, optional
        Stands in for the one that would be made.

    Raises
    ------
    UsageError
        If the address cannot be one.
    InputError
        If the key cannot be one.
    """

    def __init__(
        self,
        address: str,
        *,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool = True,
        batch_size: int | None = None,
        key_file: str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._endpoint = _Endpoint(address, key_file, transport)
        base = self._endpoint.url.removesuffix("/embeddings")
        if not self._endpoint.model:
            self._endpoint.model = _only_model(self._endpoint.transport, base)
        self._url = f"{base}/embeddings"
        self._base64 = True
        super().__init__(
            self._endpoint.name,
            "",
            prompt=prompt,
            truncate_dim=truncate_dim,
            normalize=normalize,
            batch_size=batch_size or _BATCH,
        )

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        del role
        rows: list[NDArray[np.float32]] = []
        for start in range(0, len(texts), self.batch_size):
            rows += self._ask(texts[start : start + self.batch_size])
        return _stacked(rows, self._url)

    def _ask(self, texts: list[str]) -> list[NDArray[np.float32]]:
        request: dict[str, Any] = {"input": texts}
        if self._endpoint.model:
            request["model"] = self._endpoint.model
        if self._base64:
            request["encoding_format"] = "base64"
        try:
            answer = self._endpoint.transport.post(self._url, request)
        except RefusedError as error:
            if self._base64 and "encoding_format" in str(error):
                self._base64 = False
                return self._ask(texts)
            if error.status == 413 and len(texts) > 1:
                half = len(texts) // 2
                return self._ask(texts[:half]) + self._ask(texts[half:])
            raise
        return self._rows(answer, len(texts))

    def _rows(self, answer: Any, count: int) -> list[NDArray[np.float32]]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != count:
            raise _bad_answer(self._url, f"{count} embeddings under data")
        rows: list[NDArray[np.float32] | None] = [None] * count
        for position, item in enumerate(data):
            if not isinstance(item, dict):
                raise _bad_answer(self._url, "objects under data")
            # Servers that work in parallel may answer out of order; the index is what counts.
            index = item.get("index", position)
            if type(index) is not int or not 0 <= index < count or rows[index] is not None:
                raise _bad_answer(self._url, f"each index from 0 to {count - 1} once", index)
            rows[index] = _floats(item.get("embedding"), self._url)
        return [row for row in rows if row is not None]


class CohereEncoder(FloatEncoder):
    """A model behind an endpoint that speaks Cohere's protocol; floats, or bits made by the model.

    Parameters
    ----------
    address : str
        ``https://HOST/v2/embed#MODEL``.
    bits : bool
        Ask for ``ubinary`` and yield codes: uint8, the first bit on top.
    prompt, truncate_dim, normalize, batch_size, key_file, transport
        See `OpenAIEncoder`. The role goes along as ``input_type``. Codes are neither cut nor
        normalized here; ``truncate_dim`` is sent as ``output_dimension``.

    Raises
    ------
    UsageError
        If the address cannot be one, or names no model.
    InputError
        If the key cannot be one.
    """

    def __init__(
        self,
        address: str,
        *,
        bits: bool = False,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool = True,
        batch_size: int | None = None,
        key_file: str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._endpoint = _Endpoint(address, key_file, transport)
        if not self._endpoint.model:
            raise UsageError("no model is named", "`model`", f"{self._endpoint.url}#MODEL")
        super().__init__(
            self._endpoint.name,
            "",
            prompt=prompt,
            truncate_dim=truncate_dim,
            normalize=normalize and not bits,
            # Cohere takes at most 96 texts at a time.
            batch_size=min(batch_size or _BATCH, 96),
        )
        self._kind = "ubinary" if bits else "float"
        self.bits = 0 if bits else None

    def encode(self, texts: Sequence[str], role: Role = "document") -> NDArray[Any]:
        """Return (n, dim) float32, or with ``bits`` (n, bits / 8) uint8, the first bit on top."""
        check_role(role)
        if self._kind == "float":
            return super().encode(texts, role)
        prompt = self.prompt(role)
        codes = self._embed([prompt + text for text in texts], role)
        if len(codes):
            self.bits = 8 * codes.shape[1]
        return codes

    def metadata(self, role: Role = "document") -> dict[str, str]:
        """Return what `FloatEncoder.metadata` does; for bits, their layout and width as well."""
        entries = super().metadata(role)
        if self.bits is not None:
            entries["binq.layout"] = "ubinary"
            if self.bits:
                entries["binq.bits"] = str(self.bits)
        return entries

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        rows: list[NDArray[Any]] = []
        for start in range(0, len(texts), self.batch_size):
            rows += self._ask(texts[start : start + self.batch_size], role)
        if self._kind == "float":
            return _stacked(rows, self._endpoint.url)
        return _stacked(rows, self._endpoint.url, np.uint8)

    def _ask(self, texts: list[str], role: Role) -> list[NDArray[Any]]:
        url = self._endpoint.url
        request: dict[str, Any] = {
            "model": self._endpoint.model,
            "texts": texts,
            "input_type": _INPUT_TYPES[role],
            "embedding_types": [self._kind],
            # Cutting in silence is the server's default; an error can be acted upon.
            "truncate": "NONE",
        }
        if self._truncate_dim is not None and self._kind == "ubinary":
            request["output_dimension"] = self._truncate_dim
        try:
            answer = self._endpoint.transport.post(url, request)
        except RefusedError as error:
            if error.status == 413 and len(texts) > 1:
                half = len(texts) // 2
                return self._ask(texts[:half], role) + self._ask(texts[half:], role)
            raise
        found = answer.get("embeddings") if isinstance(answer, dict) else None
        rows = found.get(self._kind) if isinstance(found, dict) else None
        if not isinstance(rows, list) or len(rows) != len(texts):
            raise _bad_answer(url, f"{len(texts)} rows under embeddings.{self._kind}")
        if self._kind == "float":
            return [_floats(row, url) for row in rows]
        return [_code(row, url) for row in rows]


def _only_model(transport: Transport, base: str) -> str:
    """Return the one model that a server offers; empty where it does not list any."""
    try:
        answer = transport.get(f"{base}/models")
    except BinqError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return ""
    data = answer.get("data") if isinstance(answer, dict) else None
    names = [item["id"] for item in data or [] if isinstance(item, dict) and item.get("id")]
    if len(names) > 1:
        raise UsageError(
            "the endpoint offers several models",
            base,
            "one of them after the address, as #MODEL",
            ", ".join(map(str, names[:10])),
        )
    return str(names[0]) if names else ""


def _floats(value: Any, url: str) -> NDArray[np.float32]:
    """Decode a list of numbers, or base64 of little-endian float32."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
            row = np.frombuffer(data, dtype="<f4").astype(np.float32)
        except (binascii.Error, ValueError):
            raise _bad_answer(url, "base64 of float32") from None
    elif isinstance(value, list) and all(type(number) in (float, int) for number in value):
        try:
            row = np.array(value, dtype=np.float64).astype(np.float32)
        except (OverflowError, ValueError):
            raise _bad_answer(url, "numbers within float32") from None
    else:
        raise _bad_answer(url, "embeddings as lists of numbers or base64")
    if not 0 < len(row) <= MAX_DIM:
        raise _bad_answer(url, f"1 to {MAX_DIM} dims", len(row))
    return row


def _code(value: Any, url: str) -> NDArray[np.uint8]:
    fine = isinstance(value, list) and all(type(n) is int and 0 <= n < 256 for n in value)
    if not fine or not 0 < len(value) <= MAX_DIM // 8:
        raise _bad_answer(url, "codes as lists of bytes")
    return np.array(value, dtype=np.uint8)


def _stacked(rows: list[NDArray[Any]], url: str, dtype: Any = np.float32) -> NDArray[Any]:
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise _bad_answer(url, "rows of one width", sorted(widths))
    return np.stack(rows) if rows else np.empty((0, 0), dtype=dtype)


def _bad_answer(url: str, expected: str, got: object = "") -> EnvironmentFailure:
    return EnvironmentFailure(
        "the endpoint's answer cannot be used", url, expected, str(got), "check the address"
    )
