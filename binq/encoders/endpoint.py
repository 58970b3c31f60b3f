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
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from binq.encoders.base import FloatEncoder, FloatOptions, check_role
from binq.encoders.keys import check_url, find_key
from binq.encoders.limits import AnswerError
from binq.encoders.transport import NotServedError, RefusedError, Transport
from binq.errors import EnvironmentFailure, UsageError
from binq.types import MAX_DIM, OnWait, Role

_MAX_CONCURRENCY: Final = 32
_MAX_NAME: Final = 256
_NAMED: Final = 10
_SHOWN: Final = 40
_INPUT_TYPES: Final[dict[Role, str]] = {"query": "search_query", "document": "search_document"}


class EndpointOptions(FloatOptions, total=False):
    """What every endpoint can be told; `EndpointEncoder` says what the options mean."""

    key_file: str | os.PathLike[str] | None
    concurrency: int | None
    on_wait: OnWait | None
    transport: Transport | None


class EndpointEncoder(FloatEncoder):
    """The common part of the protocols: where to ask, and batches that the endpoint takes.

    Parameters
    ----------
    address : str
        ``http(s)://HOST/…``, with ``#MODEL`` at its end where the server offers several.
    key_file : path, optional
        Holds the key; else the environment does (see `keys.find_key`).
    concurrency : int, optional
        How many requests the endpoint takes at a time; 1 by default. They are made by whoever
        calls `encode` from as many threads.
    on_wait : callable, optional
        See `Transport`.
    transport : Transport, optional
        Stands in for the one that would be made.
    options
        See `FloatEncoder`; prompt and cut are applied here and not by the server.

    Raises
    ------
    UsageError
        If the address cannot be one, or ``concurrency`` is not from 1 to 32.
    InputError
        If the key cannot be one.
    """

    default_batch = 64
    dtype: Any = np.float32

    def __init__(
        self,
        address: str,
        *,
        key_file: str | os.PathLike[str] | None = None,
        concurrency: int | None = None,
        on_wait: OnWait | None = None,
        transport: Transport | None = None,
        **options: Unpack[FloatOptions],
    ) -> None:
        url, _, self._model = address.partition("#")
        check_url(url)
        self._url = url.rstrip("/")
        self.concurrency = 1 if concurrency is None else concurrency
        if not 1 <= self.concurrency <= _MAX_CONCURRENCY:
            expected = f"1 to {_MAX_CONCURRENCY}"
            raise UsageError(
                "not a number of requests", "`concurrency`", expected, str(concurrency)
            )
        self._transport = transport or Transport(find_key(url, key_file), on_wait=on_wait)
        # The model's name where there is one: it may move to another host and be the same.
        super().__init__(self._model or self._url, "", **options)

    def _embed(self, texts: list[str], role: Role) -> NDArray[Any]:
        rows: list[NDArray[Any]] = []
        with self._transport.redact.of_errors():
            for start in range(0, len(texts), self.batch_size):
                rows += self._ask(texts[start : start + self.batch_size], role)
        widths = {len(row) for row in rows}
        if len(widths) > 1:
            raise self._bad_answer("rows of one width", sorted(widths))
        return np.stack(rows) if rows else np.empty((0, 0), dtype=self.dtype)

    def _ask(self, texts: list[str], role: Role) -> list[NDArray[Any]]:
        request = self._request(texts, role)
        try:
            answer = self._transport.post(self._url, request, len(texts))
        except RefusedError as error:
            if self._simplify(request, error):
                return self._ask(texts, role)
            if error.status == 413 and len(texts) > 1:
                half = len(texts) // 2
                return self._ask(texts[:half], role) + self._ask(texts[half:], role)
            raise
        return self._rows(answer, len(texts))

    def _simplify(self, request: dict[str, Any], error: RefusedError) -> bool:
        """Leave out of further requests what this one had and the endpoint did not understand.

        Return whether there was such a thing.
        """
        del request, error
        return False

    @abstractmethod
    def _request(self, texts: list[str], role: Role) -> dict[str, Any]:
        """Return what is asked for."""

    @abstractmethod
    def _rows(self, answer: Any, count: int) -> list[NDArray[Any]]:
        """Return the rows of an answer to so many texts."""

    def _floats(self, value: Any) -> NDArray[np.float32]:
        """Decode a list of numbers, or base64 of little-endian float32."""
        if isinstance(value, str):
            try:
                data = base64.b64decode(value, validate=True)
                row = np.frombuffer(data, dtype="<f4").astype(np.float32)
            except (binascii.Error, ValueError):
                raise self._bad_answer("base64 of float32") from None
        elif isinstance(value, list) and all(type(number) in (float, int) for number in value):
            try:
                with np.errstate(over="ignore"):  # infinity is refused with NaN
                    row = np.array(value, dtype=np.float64).astype(np.float32)
            except (OverflowError, ValueError):
                raise self._bad_answer("numbers within float32") from None
        else:
            raise self._bad_answer("embeddings as lists of numbers or base64")
        if not 0 < len(row) <= MAX_DIM:
            raise self._bad_answer(f"1 to {MAX_DIM} dims", len(row))
        return row

    def _bad_answer(self, expected: str, got: object = "") -> EnvironmentFailure:
        return EnvironmentFailure(
            "the endpoint's answer cannot be used",
            self._url,
            expected,
            # The key is looked for before the rest is cut off: a cut may leave half of it.
            self._transport.redact(str(got))[:_SHOWN],
            "check the address",
        )


class OpenAIEncoder(EndpointEncoder):
    """A model behind an OpenAI-compatible endpoint: OpenAI, Ollama, vLLM, TEI and others.

    The address is ``http(s)://HOST/v1``; see `EndpointEncoder` for the rest.
    """

    def __init__(self, address: str, **options: Unpack[EndpointOptions]) -> None:
        super().__init__(address, **options)
        base = self._url.removesuffix("/embeddings")
        if not self._model:
            self._model = _only_model(self._transport, base)
            self.name = self._model or self._url
        self._url = f"{base}/embeddings"
        self._base64 = True

    def _request(self, texts: list[str], role: Role) -> dict[str, Any]:
        del role
        request: dict[str, Any] = {"input": texts}
        if self._model:
            request["model"] = self._model
        if self._base64:
            request["encoding_format"] = "base64"
        return request

    def _simplify(self, request: dict[str, Any], error: RefusedError) -> bool:
        # Of the request, not of the encoder: other threads may have learned it meanwhile.
        refused = "encoding_format" in request and "encoding_format" in str(error)
        self._base64 = self._base64 and not refused
        return refused

    def _rows(self, answer: Any, count: int) -> list[NDArray[Any]]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != count:
            raise self._bad_answer(f"{count} embeddings under data")
        rows: list[NDArray[np.float32] | None] = [None] * count
        for position, item in enumerate(data):
            if not isinstance(item, dict):
                raise self._bad_answer("objects under data")
            # Servers that work in parallel may answer out of order; the index is what counts.
            index = item.get("index", position)
            if type(index) is not int or not 0 <= index < count or rows[index] is not None:
                raise self._bad_answer(f"each index from 0 to {count - 1} once", index)
            rows[index] = self._floats(item.get("embedding"))
        return [row for row in rows if row is not None]


class CohereEncoder(EndpointEncoder):
    """A model behind an endpoint that speaks Cohere's protocol; floats, or bits made by the model.

    The address is ``https://HOST/v2/embed#MODEL``; see `EndpointEncoder` for the rest. The role
    goes along as ``input_type``.

    Parameters
    ----------
    bits : bool
        Ask for ``ubinary`` and yield codes: uint8, the first bit on top. They are neither cut nor
        normalized here; ``truncate_dim`` is sent as ``output_dimension``.

    Raises
    ------
    UsageError
        If the address names no model.
    """

    def __init__(
        self, address: str, *, bits: bool = False, **options: Unpack[EndpointOptions]
    ) -> None:
        if bits:
            options["normalize"] = False
            self.dtype = np.uint8
        super().__init__(address, **options)
        if not self._model:
            raise UsageError("no model is named", "`model`", f"{self._url}#MODEL")
        # Cohere takes at most 96 texts at a time.
        self.batch_size = min(self.batch_size, 96)
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

    def _request(self, texts: list[str], role: Role) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._model,
            "texts": texts,
            "input_type": _INPUT_TYPES[role],
            "embedding_types": [self._kind],
            # Cutting in silence is the server's default; an error can be acted upon.
            "truncate": "NONE",
        }
        if self._truncate_dim is not None and self._kind == "ubinary":
            request["output_dimension"] = self._truncate_dim
        return request

    def _rows(self, answer: Any, count: int) -> list[NDArray[Any]]:
        found = answer.get("embeddings") if isinstance(answer, dict) else None
        rows = found.get(self._kind) if isinstance(found, dict) else None
        if not isinstance(rows, list) or len(rows) != count:
            raise self._bad_answer(f"{count} rows under embeddings.{self._kind}")
        return [self._floats(row) if self._kind == "float" else self._code(row) for row in rows]

    def _code(self, value: Any) -> NDArray[np.uint8]:
        fine = isinstance(value, list) and all(type(n) is int and 0 <= n < 256 for n in value)
        if not fine or not 0 < len(value) <= MAX_DIM // 8:
            raise self._bad_answer("codes as lists of bytes")
        return np.array(value, dtype=np.uint8)


def _only_model(transport: Transport, base: str) -> str:
    """Return the one model that a server offers; empty where it does not list any."""
    url = f"{base}/models"
    unusable = EnvironmentFailure(
        "the endpoint's list of models cannot be used",
        url,
        "names under data",
        next_step="name the model after the address, as #MODEL",
    )
    try:
        answer = transport.get(url)
    except (RefusedError, NotServedError):
        return ""
    except AnswerError:
        raise unusable from None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise unusable
    names = [item.get("id") if isinstance(item, dict) else None for item in data]
    if not all(map(_is_name, names)):
        raise unusable
    shown = [transport.redact(str(name)) for name in names]
    if len(names) > 1:
        more = ", …" if len(names) > _NAMED else ""
        raise UsageError(
            "the endpoint offers several models",
            base,
            "one of them after the address, as #MODEL",
            ", ".join(shown[:_NAMED]) + more,
        )
    if shown != names:
        # What the model is called is written beside the vectors: a key is no name.
        raise unusable
    return shown[0] if shown else ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()
