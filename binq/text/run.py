"""One encoding run: texts read window by window, what is new encoded, every row kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.encoders import Encoder, check_role
from binq.errors import InputError, UsageError
from binq.text.checkpoint import Checkpoint, digest_of
from binq.text.columns import Text
from binq.text.source import TextSource, batched
from binq.types import PRECISIONS, OnBlank, OnTruncate, Precision, Role
from binq.vectors.ids import CommonType, note_of

# Texts are sorted by length within a window of so many batches, which evens out the batches.
_BATCHES_IN_WINDOW: Final = 32
_CHARACTERS_IN_WINDOW: Final = 1 << 24
# A batch of a few huge texts would need memory out of all proportion.
_CHARACTERS_IN_BATCH: Final = 1 << 22
_NAMED: Final = 10


@dataclass(slots=True)
class EncodeProgress:
    """How far a run has come.

    Attributes
    ----------
    rows : int
        Texts dealt with so far.
    encoded : int
        Texts that this run has encoded.
    fraction : float or None
        Share of the input that has been read, where its size is known.
    seconds : float
        Since the run began.
    """

    rows: int = 0
    encoded: int = 0
    fraction: float | None = None
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Texts a second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class EncodeOptions:
    """What an encoding run can be told.

    Attributes
    ----------
    role : {"document", "query"}
        Which prompt applies.
    precision : {"float32", "float16", "ubinary"} or None
        How floats are written, ``ubinary`` being one bit per dim that is set where it is above
        zero; float32 by default. Codes are written as they are and take none but ``ubinary``.
    batch_size : int or None
        Texts given to the encoder at a time; as it likes by default.
    resume : bool
        Keep a checkpoint beside the output and go on from the one that is there. It is removed
        at the end. The same text is never encoded twice.
    on_truncate : {"warn", "error"}
        Whether texts that the encoder cuts are reported or end the run.
    on_blank : {"skip", "error"}
        Whether texts that hold nothing but white space are left out and reported, or end the run.
    progress : callable or None
        Called after every batch.

    Raises
    ------
    UsageError
        If a value is none of these.
    """

    role: Role = "document"
    precision: Precision | None = None
    batch_size: int | None = None
    resume: bool = False
    on_truncate: OnTruncate = "warn"
    on_blank: OnBlank = "skip"
    progress: Callable[[EncodeProgress], None] | None = None

    def __post_init__(self) -> None:
        check_role(self.role)
        if self.precision not in (None, *PRECISIONS):
            known = ", ".join(PRECISIONS)
            raise UsageError("unknown precision", "`precision`", known, str(self.precision))
        if self.batch_size is not None and self.batch_size < 1:
            got = str(self.batch_size)
            raise UsageError("too few texts at a time", "`batch_size`", "at least 1", got)

    def precision_for(self, encoder: Encoder) -> Precision:
        """Return how what ``encoder`` yields is written.

        Raises
        ------
        UsageError
            If it yields codes and floats are wanted.
        """
        if encoder.bits is None:
            return self.precision or "float32"
        if self.precision not in (None, "ubinary"):
            raise UsageError("the model makes bits", "`precision`", "ubinary", str(self.precision))
        return "ubinary"


@dataclass(slots=True)
class EncodeReport:
    """What a run did.

    Attributes
    ----------
    rows : int
        Rows written.
    dim, bits : int or None
        Width of the output: of embeddings, or of codes.
    encoded : int
        Distinct texts that were encoded by this run.
    resumed : int
        Distinct texts whose vectors an interrupted run had left.
    duplicates : int
        Rows whose text had occurred before.
    blank, overlong : int
        Texts left out since they hold nothing; texts whose end the model did not read.
    blank_rows, overlong_rows : list of str
        Where the first ten of each stand.
    seconds : float
        How long it took.
    id_note : str or None
        Which columns could hold ids, where none was found.
    """

    rows: int = 0
    dim: int | None = None
    bits: int | None = None
    encoded: int = 0
    resumed: int = 0
    duplicates: int = 0
    blank: int = 0
    overlong: int = 0
    blank_rows: list[str] = field(default_factory=list)
    overlong_rows: list[str] = field(default_factory=list)
    seconds: float = 0.0
    id_note: str | None = None


class Run:
    """One pass over the texts: what is new is encoded, every row noted in the checkpoint."""

    def __init__(self, encoder: Encoder, options: EncodeOptions) -> None:
        self.encoder = encoder
        self.options = options
        self.precision = options.precision_for(encoder)
        self.batch_size = options.batch_size or encoder.batch_size
        self.report = EncodeReport()
        self.ids = CommonType()
        self.began = time.monotonic()
        self._progress = EncodeProgress()

    def read(self, source: TextSource, checkpoint: Checkpoint) -> None:
        """Read the texts window by window."""
        left_over = checkpoint.last
        position = 0
        window_rows = max(1024, _BATCHES_IN_WINDOW * self.batch_size)
        for window in batched(source, window_rows, _CHARACTERS_IN_WINDOW):
            ids = [text.id for text in window if text.id is not None]
            if ids:
                self.ids.add(ids)
            rows = [(position + i, text) for i, text in enumerate(window)]
            position += len(window)
            self._window([(at, text) for at, text in rows if self._usable(text)], checkpoint)
            self._tell(position, source.fraction)
        if source.could_be_ids is not None:
            self.report.id_note = note_of(source.could_be_ids)
        distinct, self.report.resumed = checkpoint.distinct(left_over)
        self.report.duplicates = self.report.rows - distinct

    def _window(self, rows: list[tuple[int, Text]], checkpoint: Checkpoint) -> None:
        digests = [digest_of(text.text) for _, text in rows]
        unique = {digest: text for digest, (_, text) in zip(digests, rows, strict=True)}
        numbers = checkpoint.find(list(unique))
        self._check_lengths([text for _, text in rows])
        new = [text for digest, text in unique.items() if digest not in numbers]
        new.sort(key=lambda text: len(text.text), reverse=True)
        void: set[bytes] = set()
        for batch in batched(new, self.batch_size, _CHARACTERS_IN_BATCH):
            vectors, bits = self._encode(batch)
            added = [digest_of(text.text) for text in batch]
            if bits is None:
                # A text of which the model knows no token has no direction.
                some: NDArray[np.bool_] = np.any(vectors != 0, axis=1)
                void.update(digest for digest, kept in zip(added, some, strict=True) if not kept)
                added = [digest for digest in added if digest not in void]
                vectors = vectors[some]
            numbers.update(zip(added, checkpoint.add_vectors(added, vectors, bits), strict=True))
            self.report.encoded += len(batch)
            self._tell(self._progress.rows + len(batch), self._progress.fraction)
        known = [
            (position, None if text.id is None else str(text.id), numbers[digest])
            for digest, (position, text) in zip(digests, rows, strict=True)
            if digest not in void or self._leave_out(text, "text has no token that the model knows")
        ]
        checkpoint.add_rows(known)
        self.report.rows += len(known)

    def _encode(self, texts: list[Text]) -> tuple[NDArray[Any], int | None]:
        """Return the rows as they are to be written, and how many bits of them count."""
        try:
            vectors = self.encoder.encode([text.text for text in texts], self.options.role)
        except InputError as error:
            if error.where.startswith(texts[0].where):
                raise
            span = texts[0].where if len(texts) == 1 else f"among them {texts[0].where}"
            raise InputError(
                error.what, f"{error.where}, {span}", error.expected, error.got, error.next_step
            ) from error
        if vectors.dtype == np.uint8:
            return vectors, 8 * vectors.shape[1]
        if self.precision == "ubinary":
            return np.packbits(vectors > 0, axis=1), vectors.shape[1]
        if self.precision == "float16":
            with np.errstate(over="ignore"):
                halves = vectors.astype(np.float16)
            if not np.isfinite(halves).all():
                raise InputError(
                    "an embedding does not fit float16",
                    texts[0].where,
                    next_step="use `precision=float32`, or `normalize`",
                )
            return halves, None
        return vectors, None

    def _usable(self, text: Text) -> bool:
        return bool(text.text.strip()) or self._leave_out(text, "text is blank")

    def _leave_out(self, text: Text, why: str) -> bool:
        """Count a text that gives no vector, or refuse it; return False."""
        if self.options.on_blank == "error":
            raise InputError(why, text.where, next_step="remove the row")
        self.report.blank += 1
        if len(self.report.blank_rows) < _NAMED:
            self.report.blank_rows.append(text.where)
        return False

    def _check_lengths(self, texts: list[Text]) -> None:
        flags = self.encoder.overlong([text.text for text in texts], self.options.role)
        for index in np.flatnonzero(flags):
            where = texts[index].where
            if self.options.on_truncate == "error":
                raise InputError(
                    "text is longer than the model reads",
                    where,
                    next_step="split it, or use `on_truncate=warn`",
                )
            self.report.overlong += 1
            if len(self.report.overlong_rows) < _NAMED:
                self.report.overlong_rows.append(where)

    def _tell(self, rows: int, fraction: float | None) -> None:
        if self.options.progress is not None:
            self._progress.rows = rows
            self._progress.encoded = self.report.encoded
            self._progress.fraction = fraction
            self._progress.seconds = time.monotonic() - self.began
            self.options.progress(self._progress)
