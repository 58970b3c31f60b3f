"""One encoding run: texts read window by window, what is new encoded, every row kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.encoders import Encoder, check_role
from binq.errors import EnvironmentFailure, InputError, UsageError, stopping
from binq.text.ahead import ahead
from binq.text.batches import BatchEncoder, Encoded, at
from binq.text.checkpoint import Checkpoint, digest_of
from binq.text.columns import Text
from binq.text.source import TextSource, batched
from binq.types import (
    DEFAULT_ON_ERROR,
    ON_ERROR,
    PRECISIONS,
    OnBlank,
    OnError,
    OnTruncate,
    Precision,
    Role,
)
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
        Whether texts that the encoder cuts are reported, or are rows that cannot be used.
    on_blank : {"skip", "error"}
        Whether texts that hold nothing but white space are left out and reported, or are rows
        that cannot be used.
    on_error : {"stop", "skip"}
        Whether the run ends at a row that cannot be used, or leaves it out, counts it and goes on.
        Where no row is left, it ends all the same.
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
    on_error: OnError = DEFAULT_ON_ERROR
    progress: Callable[[EncodeProgress], None] | None = None

    def __post_init__(self) -> None:
        check_role(self.role)
        if self.precision not in (None, *PRECISIONS):
            known = ", ".join(PRECISIONS)
            raise UsageError("unknown precision", "`precision`", known, str(self.precision))
        if self.on_error not in ON_ERROR:
            known = ", ".join(ON_ERROR)
            raise UsageError("unknown choice", "`on_error`", known, str(self.on_error))
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
    skipped : int
        Rows left out since they cannot be used.
    skipped_rows : list of str
        Where the first ten of them stand, and what is wrong with them.
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
    skipped: int = 0
    skipped_rows: list[str] = field(default_factory=list)
    seconds: float = 0.0
    id_note: str | None = None


class Run:
    """One pass over the texts: what is new is encoded, every row noted in the checkpoint."""

    def __init__(self, encoder: Encoder, options: EncodeOptions) -> None:
        self.encoder = encoder
        self.options = options
        self.precision = options.precision_for(encoder)
        self._batch = BatchEncoder(
            encoder, options.role, self.precision, to_the_end=options.on_error == "skip"
        )
        self.batch_size = options.batch_size or encoder.batch_size
        self.report = EncodeReport()
        self.ids = CommonType()
        self.began = time.monotonic()
        self._progress = EncodeProgress()
        self._skip = options.on_error == "skip"
        self._first_fault: InputError | None = None

    def read(self, source: TextSource, checkpoint: Checkpoint) -> None:
        """Read the texts window by window."""
        left_over = checkpoint.last
        position = 0
        window_rows = max(1024, _BATCHES_IN_WINDOW * self.batch_size)
        for texts in batched(source.read(), window_rows, _CHARACTERS_IN_WINDOW):
            window = self._judged(texts)
            ids = [text.id for text in window if text.id is not None and text.fault is None]
            if ids:
                self.ids.add(ids)
            end = len(window)
            if not self._skip:
                end = next((i for i, text in enumerate(window) if text.fault is not None), end)
            if end == len(window) or self.options.resume:
                # What precedes a row at which the run stops is kept for the next one.
                self._window(window[:end], position, checkpoint)
            if end < len(window):
                fault = window[end].fault
                assert fault is not None
                raise stopping(fault)
            position += len(window)
            self._tell(position, source.fraction)
        if self._first_fault is not None and not self.report.rows:
            raise self._first_fault
        if source.could_be_ids is not None:
            self.report.id_note = note_of(source.could_be_ids)
        distinct, self.report.resumed = checkpoint.distinct(left_over)
        self.report.duplicates = self.report.rows - distinct

    def _judged(self, texts: list[Text]) -> list[Text]:
        """Return texts with what the options find wrong with them."""
        judged = [
            replace(text, fault=_refusal("text is blank", text, "remove the row"))
            if self.options.on_blank == "error" and text.fault is None and _is_blank(text)
            else text
            for text in texts
        ]
        read = [i for i, text in enumerate(judged) if text.fault is None and not _is_blank(text)]
        flags = self.encoder.overlong([judged[i].text for i in read], self.options.role)
        for i in (read[number] for number in np.flatnonzero(flags)):
            if self.options.on_truncate == "error":
                step = "split it, or use `on_truncate=warn`"
                fault = _refusal("text is longer than the model reads", judged[i], step)
                judged[i] = replace(judged[i], fault=fault)
            else:
                self.report.overlong += 1
                _note(self.report.overlong_rows, judged[i].where)
        return judged

    def _window(self, window: list[Text], start: int, checkpoint: Checkpoint) -> None:
        digests = {
            position: digest_of(text.text)
            for position, text in enumerate(window)
            if text.fault is None and not _is_blank(text)
        }
        unique = {digest: window[position] for position, digest in digests.items()}
        numbers = checkpoint.find(list(unique))
        new = [text for digest, text in unique.items() if digest not in numbers]
        new.sort(key=lambda text: len(text.text), reverse=True)
        void: set[bytes] = set()
        faults: dict[bytes, InputError] = {}
        for encoded in self._batches(new, checkpoint):
            faults.update((digest_of(text.text), fault) for text, fault in encoded.faults)
            for texts, vectors, bits in encoded.parts:
                added = [digest_of(text.text) for text in texts]
                if bits is None:
                    # A text of which the model knows no token has no direction.
                    some: NDArray[np.bool_] = np.any(vectors != 0, axis=1)
                    void.update(
                        digest for digest, kept in zip(added, some, strict=True) if not kept
                    )
                    added = [digest for digest in added if digest not in void]
                    vectors = vectors[some]
                given = checkpoint.add_vectors(added, vectors, bits)
                numbers.update(zip(added, given, strict=True))
                self.report.encoded += len(texts)
                self._tell(self._progress.rows + len(texts), self._progress.fraction)
        known = []
        for position, text in enumerate(window):
            digest = digests.get(position, b"")
            if digest in numbers:
                name = None if text.id is None else str(text.id)
                known.append((start + position, name, numbers[digest]))
            elif text.fault is not None:
                self._leave_out(text, text.fault)
            elif digest in faults:
                self._leave_out(text, at(text, faults[digest]))
            elif self.options.on_blank == "error":
                why = "text has no token that the model knows"
                self._leave_out(text, _refusal(why, text, "remove the row"))
            else:
                self.report.blank += 1
                _note(self.report.blank_rows, text.where)
        checkpoint.add_rows(known)
        self.report.rows += len(known)

    def _batches(self, texts: list[Text], checkpoint: Checkpoint) -> Iterator[Encoded]:
        """Yield what comes of texts, batch by batch; raise what ends the run after that."""
        failure: Exception | None = None
        stop = threading.Event()
        batches = batched(texts, self.batch_size, _CHARACTERS_IN_BATCH)
        for batch, result in ahead(self._batch.encode, batches, self.encoder.concurrency, stop):
            if failure is not None and not (result.done() and result.exception() is None):
                continue
            try:
                encoded = result.result()
            except Exception as error:
                failure = error
                stop.set()
                continue
            if encoded.faults and failure is None:
                text, fault = encoded.faults[0]
                # Where nothing at all is taken, it is not these texts that are at fault.
                nothing = len(batch) == len(encoded.faults) > 1 and not self.report.encoded
                if not self._skip or nothing:
                    failure = at(text, fault) if nothing else stopping(at(text, fault))
                    stop.set()
            yield encoded
        if isinstance(failure, EnvironmentFailure):
            self._say_how_to_go_on(failure, checkpoint)
        if failure is not None:
            raise failure

    def _leave_out(self, text: Text, fault: InputError) -> None:
        """Count a row that cannot be used, or end the run there."""
        if not self._skip:
            raise stopping(fault)
        self._first_fault = self._first_fault or fault
        self.report.skipped += 1
        got = f" ({fault.got})" if fault.got else ""
        _note(self.report.skipped_rows, f"{text.named}: {fault.what}{got}")

    def _say_how_to_go_on(self, failure: EnvironmentFailure, checkpoint: Checkpoint) -> None:
        """Add to an error of the model or its endpoint what a next run could begin with."""
        done = checkpoint.last
        if not done and failure.next_step:
            return
        if not self.options.resume:
            step = "run it with `resume`, which keeps what is done for the next run"
        elif done:
            step = f"run it again with `resume`: {done:,} texts are done"
        else:
            step = "run it again with `resume`"
        failure.next_step = "; ".join(filter(None, (failure.next_step, step)))

    def _tell(self, rows: int, fraction: float | None) -> None:
        if self.options.progress is not None:
            self._progress.rows = rows
            self._progress.encoded = self.report.encoded
            self._progress.fraction = fraction
            self._progress.seconds = time.monotonic() - self.began
            self.options.progress(self._progress)


def _is_blank(text: Text) -> bool:
    return not text.text.strip()


def _note(rows: list[str], row: str) -> None:
    if len(rows) < _NAMED:
        rows.append(row)


def _refusal(what: str, text: Text, next_step: str) -> InputError:
    return InputError(what, text.named, next_step=next_step)
