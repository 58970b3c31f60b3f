"""One batch of texts: its rows as they are to be written, and which texts none can be made of."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.encoders import Encoder, load_encoder
from binq.errors import EnvironmentFailure, InputError
from binq.text.columns import Text
from binq.threads import limited, limited_tokenizers
from binq.types import Precision, Role


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of some texts, which are named by their places in the batch.

    Attributes
    ----------
    parts : list of (place, rows, bits or None)
        Rows as they are to be written, of the texts from that place on, and how many bits of each
        count.
    faults : list of (place, InputError)
        Texts of which nothing can be made, and why.
    """

    parts: list[tuple[int, NDArray[Any], int | None]]
    faults: list[tuple[int, InputError]]


class BatchEncoder:
    """Encodes batches, from any number of threads.

    Parameters
    ----------
    encoder : Encoder
    role : {"document", "query"}
    precision : {"float32", "float16", "ubinary"}
    to_the_end : bool
        Whether all faults of a batch are of interest, or the first one ends the work.
    """

    def __init__(
        self, encoder: Encoder, role: Role, precision: Precision, *, to_the_end: bool
    ) -> None:
        self._encoder = encoder
        self._role = role
        self._precision = precision
        self._to_the_end = to_the_end

    def encode(self, texts: Sequence[str], start: int = 0) -> Encoded:
        """Encode texts, of which some may turn out to be at fault: then by halves, to find them."""
        try:
            rows, bits = self._rows(texts)
        except InputError as error:
            if len(texts) == 1:
                return Encoded([], [(start, error)])
        else:
            return Encoded([(start, rows, bits)], [])
        half = len(texts) // 2
        first = self.encode(texts[:half], start)
        if first.faults and not self._to_the_end:
            return first
        second = self.encode(texts[half:], start + half)
        return Encoded(first.parts + second.parts, first.faults + second.faults)

    def _rows(self, texts: Sequence[str]) -> tuple[NDArray[Any], int | None]:
        """Return the rows as they are to be written, and how many bits of them count."""
        vectors = self._encoder.encode(texts, self._role)
        if vectors.dtype == np.uint8:
            return vectors, 8 * vectors.shape[1]
        if self._precision == "ubinary":
            return np.packbits(vectors > 0, axis=1), vectors.shape[1]
        if self._precision == "float16":
            with np.errstate(over="ignore"):
                halves = vectors.astype(np.float16)
            if not np.isfinite(halves).all():
                raise InputError(
                    "an embedding does not fit float16",
                    next_step="use `precision=float32`, or `normalize`",
                )
            return halves, None
        return vectors, None


@dataclass(frozen=True)
class EncodeTask:
    """Encodes batches in whatever process it is called, which loads the model once.

    Attributes
    ----------
    model : tuple of (str, object)
        What `load_encoder` is told, by name.
    metadata : dict of str to str
        What the encoder says of itself where the run was begun, and has to say here.
    role, precision, to_the_end
        See `BatchEncoder`.
    threads : int
        How many it may use.
    """

    model: tuple[tuple[str, Any], ...]
    metadata: dict[str, str]
    role: Role
    precision: Precision
    to_the_end: bool
    threads: int

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encode texts as `BatchEncoder.encode` does.

        Raises
        ------
        EnvironmentFailure
            If the model here is in another state.
        """
        with limited(self.threads) as count, limited_tokenizers(count):
            encoder = _loaded(self.model, count)
            found = facts_of(encoder, self.role)
            for key in sorted(self.metadata.keys() | found.keys()):
                if self.metadata.get(key) != found.get(key):
                    raise EnvironmentFailure(
                        f"a worker's model has another {key.removeprefix('binq.')}",
                        platform.node(),
                        self.metadata.get(key, "none"),
                        found.get(key, "none"),
                        "put the same files of the model on every machine",
                    )
            batch = BatchEncoder(encoder, self.role, self.precision, to_the_end=self.to_the_end)
            return batch.encode(texts)


@lru_cache(maxsize=1)
def _loaded(model: tuple[tuple[str, Any], ...], threads: int) -> Encoder:
    return load_encoder(**dict(model), threads=threads)


def facts_of(encoder: Encoder, role: Role) -> dict[str, str]:
    """Return what decides the vectors: the metadata, without what only an answer tells."""
    facts = encoder.metadata(role)
    # An endpoint tells the width of its codes in its answers; it is no part of what is asked for.
    facts.pop("binq.bits", None)
    return facts


def at(text: Text, error: InputError) -> InputError:
    """Return an error with the place of the text at which it came up."""
    where = ", ".join(filter(None, (error.where, text.named)))
    return InputError(error.what, where, error.expected, error.got, error.next_step)
