"""One encoding run: texts read window by window, what is new encoded, every row kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from binq.encoders import Encoder
from binq.engines import Engine, Item, LocalEngine
from binq.errors import EnvironmentFailure, InputError, stopping
from binq.text.batches import BatchEncoder, Encoded, EncodeTask, at
from binq.text.checkpoint import Checkpoint, digest_of
from binq.text.columns import Text
from binq.text.options import EncodeOptions, EncodeProgress, EncodeReport
from binq.text.source import TextSource, batched
from binq.vectors.ids import CommonType, note_of

# Texts are sorted by length within a window of so many batches, which evens out the batches.
_BATCHES_IN_WINDOW: Final = 32
_CHARACTERS_IN_WINDOW: Final = 1 << 24
# A batch of a few huge texts would need memory out of all proportion.
_CHARACTERS_IN_BATCH: Final = 1 << 22
_NAMED: Final = 10


@dataclass(frozen=True)
class Place:
    """Where batches are encoded.

    Attributes
    ----------
    engine : Engine
    task : callable, optional
        What it is to do, in whatever process; by default the run's own encoder does it.
    limit : int, optional
        How many batches at a time.
    files : sequence of str
        What the task reads.
    """

    engine: Engine
    task: EncodeTask | None = None
    limit: int | None = None
    files: Sequence[str] = ()


@dataclass(slots=True)
class _Window:
    """Texts that were read together.

    Attributes
    ----------
    texts : list of Text
        In their order, up to where the run stops.
    start : int
        Number of the first in the input.
    fraction : float or None
        How much of the input had been read after it.
    digests : dict of int to bytes
        Of texts that can be encoded, by their places in the window.
    unique : dict of bytes to Text
        One text for each digest.
    numbers : dict of bytes to int
        Where the vectors are, by digest, as far as they are known.
    faults : dict of bytes to InputError
        Why there is none.
    """

    texts: list[Text]
    start: int
    fraction: float | None
    digests: dict[int, bytes]
    unique: dict[bytes, Text]
    numbers: dict[bytes, int]
    faults: dict[bytes, InputError] = field(default_factory=dict)


class Run:
    """One pass over the texts: what is new is encoded, every row noted in the checkpoint.

    Parameters
    ----------
    encoder : Encoder
    options : EncodeOptions
    place : Place, optional
        Where batches are encoded: by default in this process, by the encoder's own number of
        threads.
    """

    def __init__(
        self, encoder: Encoder, options: EncodeOptions, place: Place | None = None
    ) -> None:
        self.encoder = encoder
        self.options = options
        self.precision = options.precision_for(encoder)
        self._skip = options.on_error == "skip"
        self._place = place or Place(LocalEngine(encoder.concurrency))
        self._task = (
            self._place.task
            or BatchEncoder(encoder, options.role, self.precision, to_the_end=self._skip).encode
        )
        self.batch_size = options.batch_size or encoder.batch_size
        self.report = EncodeReport()
        self.ids = CommonType()
        self.began = time.monotonic()
        self._progress = EncodeProgress()
        self._first_fault: InputError | None = None
        # What has been read and is not done with, in order; and what ended the reading.
        self._windows: deque[_Window] = deque()
        self._batches: deque[tuple[_Window, list[Text]]] = deque()
        self._end: Exception | None = None

    def read(self, source: TextSource, checkpoint: Checkpoint) -> None:
        """Read the texts window by window, and encode what is new batch by batch."""
        left_over = checkpoint.last
        failure: Exception | None = None
        stop = threading.Event()
        place = self._place
        items = self._items(source, checkpoint)
        outcomes = place.engine.map(
            self._task, items, limit=place.limit, files=place.files, stop=stop
        )
        with closing(outcomes):
            for outcome in outcomes:
                window, batch = self._batches.popleft()
                if failure is not None:
                    # What is done all the same is kept for the next run.
                    if outcome.done() and outcome.exception() is None:
                        self._keep(window, batch, outcome.result(), checkpoint)
                    continue
                while self._windows[0] is not window:
                    self._finish(self._windows.popleft(), checkpoint)
                try:
                    encoded = outcome.result()
                except Exception as error:
                    failure = error
                else:
                    failure = self._fault_of(batch, encoded)
                    self._keep(window, batch, encoded, checkpoint)
                if failure is not None:
                    stop.set()
        if isinstance(failure, EnvironmentFailure):
            self._say_how_to_go_on(failure, checkpoint)
        if failure is not None:
            raise failure
        while self._windows:
            self._finish(self._windows.popleft(), checkpoint)
        if self._end is not None:
            raise self._end
        if self._first_fault is not None and not self.report.rows:
            raise self._first_fault
        if source.could_be_ids is not None:
            self.report.id_note = note_of(source.could_be_ids)
        distinct, self.report.resumed = checkpoint.distinct(left_over)
        self.report.duplicates = self.report.rows - distinct

    def _items(self, source: TextSource, checkpoint: Checkpoint) -> Iterator[Item[list[str]]]:
        """Yield batches of texts that are new; what ends the reading is raised after them."""
        window_rows = max(1024, _BATCHES_IN_WINDOW * self.batch_size)
        position = 0
        try:
            for texts in batched(source.read(), window_rows, _CHARACTERS_IN_WINDOW):
                judged = self._judged(texts)
                ids = [text.id for text in judged if text.id is not None and text.fault is None]
                if ids:
                    self.ids.add(ids)
                fault, end = None, len(judged)
                if not self._skip:
                    found = ((i, text.fault) for i, text in enumerate(judged) if text.fault)
                    end, fault = next(found, (end, None))
                if fault is None or self.options.resume:
                    # What precedes a row at which the run stops is kept for the next one.
                    yield from self._window(judged[:end], position, source.fraction, checkpoint)
                if fault is not None:
                    raise stopping(fault)
                position += len(judged)
        except Exception as error:
            self._end = error

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

    def _window(
        self, texts: list[Text], start: int, fraction: float | None, checkpoint: Checkpoint
    ) -> Iterator[Item[list[str]]]:
        """Yield batches of what is new in a window, and remember whose they are."""
        digests = {
            place: digest_of(text.text)
            for place, text in enumerate(texts)
            if text.fault is None and not _is_blank(text)
        }
        unique = {digest: texts[place] for place, digest in digests.items()}
        numbers = checkpoint.find(list(unique))
        new = [
            text
            for digest, text in unique.items()
            if digest not in numbers and not any(digest in each.unique for each in self._windows)
        ]
        new.sort(key=lambda text: len(text.text), reverse=True)
        window = _Window(texts, start, fraction, digests, unique, numbers)
        self._windows.append(window)
        for batch in batched(new, self.batch_size, _CHARACTERS_IN_BATCH):
            self._batches.append((window, batch))
            more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
            yield Item(f"{batch[0].named}{more}", [text.text for text in batch])

    def _fault_of(self, batch: list[Text], encoded: Encoded) -> InputError | None:
        """Return what of a batch ends the run, if anything does."""
        if not encoded.faults:
            return None
        place, fault = encoded.faults[0]
        # Where nothing at all is taken, it is not these texts that are at fault.
        if len(batch) == len(encoded.faults) > 1 and not self.report.encoded:
            return at(batch[place], fault)
        return None if self._skip else stopping(at(batch[place], fault))

    def _keep(
        self, window: _Window, batch: list[Text], encoded: Encoded, checkpoint: Checkpoint
    ) -> None:
        """Keep the vectors of a batch."""
        window.faults.update((digest_of(batch[i].text), fault) for i, fault in encoded.faults)
        for start, vectors, bits in encoded.parts:
            count = len(vectors)
            added = [digest_of(text.text) for text in batch[start : start + count]]
            if bits is None:
                # A text of which the model knows no token has no direction.
                some: NDArray[np.bool_] = np.any(vectors != 0, axis=1)
                added = [digest for digest, kept in zip(added, some, strict=True) if kept]
                vectors = vectors[some]
            given = checkpoint.add_vectors(added, vectors, bits)
            window.numbers.update(zip(added, given, strict=True))
            self.report.encoded += count
            self._tell(self._progress.rows + count, self._progress.fraction)

    def _finish(self, window: _Window, checkpoint: Checkpoint) -> None:
        """Note the rows of a window, of which all batches are done."""
        numbers, faults = window.numbers, window.faults
        # What was under way in a window before, when this one was read.
        missing = [each for each in window.unique if each not in numbers and each not in faults]
        numbers.update(checkpoint.find(missing))
        for later in self._windows:
            shared = {digest: fault for digest, fault in faults.items() if digest in later.unique}
            later.faults.update(shared)
        known = []
        for place, text in enumerate(window.texts):
            digest = window.digests.get(place, b"")
            if digest in numbers:
                name = None if text.id is None else str(text.id)
                known.append((window.start + place, name, numbers[digest]))
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
        self._tell(window.start + len(window.texts), window.fraction)

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
