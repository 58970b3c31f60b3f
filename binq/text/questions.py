"""Questions as a source of query vectors: encoded as they come, by the model an index is for."""

from __future__ import annotations

import os
import warnings
from codecs import BOM_UTF8
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Final

import numpy as np

from binq.bits import from_layout
from binq.encoders import Encoder, load_for
from binq.encoders.base import check_unicode
from binq.errors import BinqWarning, InputError, UsageError
from binq.io.streams import ByteStream, lines
from binq.storage.format import Header
from binq.threads import limited_tokenizers, resolve
from binq.vectors.batch import Batch
from binq.vectors.refusing import Refusal
from binq.vectors.source import VectorSource

# Questions are few; a batch is answered before the next one is read.
_BATCH: Final = 64


class QuestionSource(VectorSource):
    """Texts, encoded batch by batch.

    Attributes
    ----------
    texts : list of str or None
        Those of the batch that was yielded last; None where there is none, or none that can be
        read.

    Parameters
    ----------
    name : str
        What messages call it.
    batches : iterable of lists
        Texts as they arrive; None for a blank line, and an error for one that cannot be read.
    encoder : Encoder
    signs : bool
        Pack the signs of the encoder's floats, as ``encode --precision ubinary`` does.
    threads : int
        For the tokenizer.
    """

    def __init__(
        self,
        name: str,
        batches: Iterable[list[str | InputError | None]],
        encoder: Encoder,
        *,
        signs: bool,
        threads: int,
    ) -> None:
        super().__init__(name)
        self.rewindable = False
        self.layout = "ubinary" if signs or encoder.bits is not None else None
        self.metadata = encoder.metadata("query")
        self.texts: list[str | None] = []
        self._batches = batches
        self._encoder = encoder
        self._signs = signs
        self._threads = threads

    def read(self, max_rows: int | None = None) -> Generator[Batch]:
        """Yield the questions as vectors; see ``VectorSource.read``."""
        start = 0
        for arrived in self._batches:
            size = min(max_rows or _BATCH, _BATCH)
            for first in range(0, len(arrived), size):
                part = arrived[first : first + size]
                texts = [text for text in part if isinstance(text, str)]
                self.texts = [text if isinstance(text, str) else None for text in part]
                refused = tuple(
                    Refusal(offset, None, text)
                    for offset, text in enumerate(part)
                    if not isinstance(text, str)
                )
                vectors = self._encode(texts) if texts else np.empty((0, 0), np.float32)
                yield Batch(start, vectors, None, refused)
                start += len(part)
        self.rows = start

    def _encode(self, texts: list[str]) -> Any:
        with limited_tokenizers(self._threads):
            rows = self._encoder.encode(texts, "query")
        if self.layout is None:
            self.dim = rows.shape[1]
            return rows
        self.dim = rows.shape[1] if rows.dtype != np.uint8 else 8 * rows.shape[1]
        data = np.packbits(rows > 0, axis=1) if self._signs else rows
        return from_layout(data, self.dim, "ubinary")


def open_questions(
    header: Header,
    texts: str | Sequence[str],
    *,
    model: str | None = None,
    prompt: str | None = None,
    device: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    force: bool = False,
    threads: int | None = None,
    stdin: BinaryIO | None = None,
) -> QuestionSource:
    """Open questions for an index.

    Parameters
    ----------
    header : Header
        Of the index; what it records of its model decides which one is used.
    texts : str or sequence of str
        One question or several; the string ``-`` is standard input, one question a line, of
        which a blank one has no answer.
    model, prompt, device, key_file, force, threads
        See `binq.encoders.load_for`.
    stdin : binary file, optional
        Stands in for the process's standard input.

    Raises
    ------
    UsageError
        If a question is blank, or the model is not known and not named.
    InputError
        If the model is another one than the recorded one, or has to be named.
    EnvironmentFailure, MissingExtraError
        If the model cannot be had.
    """
    several = [texts] if isinstance(texts, str) else list(texts)
    if texts != "-" and not all(text.strip() for text in several):
        raise UsageError("a question is blank", "`text`", "at least one word")
    for text in several:
        check_unicode(text, "`text`")
    count = resolve(threads)
    encoder = load_for(
        header.model,
        model,
        prompt=prompt,
        device=device,
        key_file=key_file,
        threads=count,
        on_wait=_warn_of_wait,
        force=force,
    )
    from_signs = header.model.get("binq.precision") == "ubinary" and header.binarizer is None

    return QuestionSource(
        "stdin" if texts == "-" else "`text`",
        _arriving(ByteStream.of_stdin(stdin)) if texts == "-" else [list(several)],
        encoder,
        signs=from_signs and encoder.bits is None,
        threads=count,
    )


def _warn_of_wait(why: str, seconds: float) -> None:
    told = f"the endpoint is asked again in {max(1, round(seconds))} s: {why}"
    warnings.warn(told, BinqWarning, stacklevel=2)


def _arriving(stream: ByteStream) -> Iterator[list[str | InputError | None]]:
    """Yield the questions at hand whenever no further one is waiting."""
    held: list[str | InputError | None] = []
    number = 0
    for data in lines(stream):
        if data is not None:
            number += 1
            held.append(_question(data, f"{stream.name} line {number}", number == 1))
        # At once where a line is too long: its end may be far, or nowhere.
        if held and (data is None or isinstance(data, InputError) or len(held) == _BATCH):
            yield held
            held = []
    if held:
        yield held


def _question(data: bytes | InputError, where: str, first: bool) -> str | InputError | None:
    """Return what stands on a line: a question, nothing, or what cannot be read."""
    if isinstance(data, InputError):
        data.where = where
        return data
    try:
        return data.removeprefix(BOM_UTF8 if first else b"").decode().strip() or None
    except UnicodeDecodeError:
        return InputError("question is not UTF-8", where)
