"""One batch of texts: its rows as they are to be written, and which texts none can be made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq.encoders import Encoder
from binq.errors import InputError
from binq.text.columns import Text
from binq.types import Precision, Role


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of some texts.

    Attributes
    ----------
    parts : list of (texts, rows, bits or None)
        Rows as they are to be written, and how many bits of each count.
    faults : list of (Text, InputError)
        Texts of which nothing can be made, and why.
    """

    parts: list[tuple[list[Text], NDArray[Any], int | None]]
    faults: list[tuple[Text, InputError]]


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

    def encode(self, texts: list[Text]) -> Encoded:
        """Encode texts, of which some may turn out to be at fault: then by halves, to find them."""
        try:
            rows, bits = self._rows([text.text for text in texts])
        except InputError as error:
            if len(texts) == 1:
                return Encoded([], [(texts[0], error)])
        else:
            return Encoded([(texts, rows, bits)], [])
        half = len(texts) // 2
        first = self.encode(texts[:half])
        if first.faults and not self._to_the_end:
            return first
        second = self.encode(texts[half:])
        return Encoded(first.parts + second.parts, first.faults + second.faults)

    def _rows(self, texts: list[str]) -> tuple[NDArray[Any], int | None]:
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


def at(text: Text, error: InputError) -> InputError:
    """Return an error with the place of the text at which it came up."""
    where = ", ".join(filter(None, (error.where, text.named)))
    return InputError(error.what, where, error.expected, error.got, error.next_step)
