"""Text to embeddings: read, encode what is new, write one Parquet file whole."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from binq.encoders import load_encoder
from binq.encoders.base import Encoder, Role, check_role
from binq.errors import BinqWarning, EnvironmentFailure, InputError, UsageError
from binq.io.atomic import atomic_write
from binq.text import Kind, Text, TextSource, batched
from binq.text.checkpoint import Checkpoint, digest_of, kept_checkpoint, temporary_checkpoint
from binq.text.parquet import PRECISIONS, Precision, write_embeddings
from binq.threads import limited, limited_tokenizers

OnTruncate = Literal["warn", "error"]
OnBlank = Literal["skip", "error"]

# Texts are sorted by length within a window of so many batches, which evens out the batches.
_BATCHES_IN_WINDOW: Final = 32
_CHARACTERS_IN_WINDOW: Final = 1 << 24
# A batch of a few huge texts would need memory out of all proportion.
_CHARACTERS_IN_BATCH: Final = 1 << 22
_NAMED: Final = 10


@dataclass(slots=True)
class Progress:
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

    @property
    def seconds_left(self) -> float | None:
        """Estimate of what remains, where the size of the input is known."""
        if not self.fraction:
            return None
        return self.seconds * (1 - self.fraction) / self.fraction


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


def encode(
    texts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    model: str | None = None,
    prompt: str | None = None,
    role: Role = "document",
    truncate_dim: int | None = None,
    normalize: bool = True,
    precision: Precision | None = None,
    device: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    kind: Kind | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    resume: bool = False,
    on_truncate: OnTruncate = "warn",
    on_blank: OnBlank = "skip",
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stdin: BinaryIO | None = None,
) -> EncodeReport:
    """Encode texts from files or standard input into a Parquet file.

    Parameters
    ----------
    texts : path, sequence of paths, or "-"
    output : path
    model, prompt, truncate_dim, normalize, device, key_file
        See `binq.encoders.load_encoder`; the built-in model by default.
    kind, text_column, id_column, stdin
        See `binq.text.TextSource`.
    role, precision, batch_size, resume, on_truncate, on_blank, progress
        See `encode_texts`.
    threads : int, optional
        Default: as many as the process may use.

    Returns
    -------
    EncodeReport

    Raises
    ------
    UsageError, InputError, EnvironmentFailure, MissingExtraError

    Warns
    -----
    BinqWarning
        If texts were cut or left out.
    """
    check_role(role)
    source = TextSource(texts, text_column=text_column, id_column=id_column, kind=kind, stdin=stdin)
    with limited(threads) as count, limited_tokenizers(count):
        encoder = load_encoder(
            model,
            prompt=prompt,
            truncate_dim=truncate_dim,
            normalize=normalize,
            bits=precision == "ubinary",
            device=device,
            batch_size=batch_size,
            key_file=key_file,
            threads=count,
        )
        report = encode_texts(
            source,
            encoder,
            output,
            role=role,
            precision=precision,
            batch_size=batch_size,
            resume=resume,
            on_truncate=on_truncate,
            on_blank=on_blank,
            progress=progress,
        )
    _warn_of(
        report.blank,
        "texts are blank, or hold no token that the model knows, and were left out",
        report.blank_rows,
    )
    _warn_of(
        report.overlong, "texts are longer than the model reads and were cut", report.overlong_rows
    )
    return report


def _warn_of(count: int, what: str, rows: list[str]) -> None:
    if count:
        more = ", …" if count > len(rows) else ""
        warnings.warn(f"{count:,} {what}: {', '.join(rows)}{more}", BinqWarning, stacklevel=3)


def encode_texts(
    source: TextSource,
    encoder: Encoder,
    output: str | os.PathLike[str],
    *,
    role: Role = "document",
    precision: Precision | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    on_truncate: OnTruncate = "warn",
    on_blank: OnBlank = "skip",
    progress: Callable[[Progress], None] | None = None,
) -> EncodeReport:
    """Encode texts into a Parquet file of ``id`` and ``embedding``.

    The id is the text's own, or its row number in the input where texts have none. Embeddings are
    FixedSizeList<float32|float16>; codes are FixedSizeList<uint8> with the first bit on top.
    Metadata under keys that begin with ``binq.`` tell what made them.

    Parameters
    ----------
    source : TextSource
    encoder : Encoder
    output : path
        Appears whole, or not at all.
    role : {"document", "query"}
        Which prompt applies.
    precision : {"float32", "float16", "ubinary"}, optional
        How floats are written, ``ubinary`` being one bit per dim that is set where it is above
        zero; float32 by default. Codes are written as they are and take none but ``ubinary``.
    batch_size : int, optional
        Texts given to the encoder at a time; as it likes by default.
    resume : bool
        Keep a checkpoint beside the output and go on from the one that is there. It is removed
        at the end. The same text is never encoded twice.
    on_truncate : {"warn", "error"}
        Whether texts that the encoder cuts are reported or end the run.
    on_blank : {"skip", "error"}
        Whether texts that hold nothing but white space are left out and reported, or end the run.
    progress : callable, optional
        Called after every batch.

    Returns
    -------
    EncodeReport

    Raises
    ------
    UsageError
        If options do not go together.
    InputError
        If a text cannot be used, or the checkpoint belongs to another run.
    EnvironmentFailure
        If the output cannot be written, or the encoder's environment fails.
    """
    check_role(role)
    chosen = _precision(encoder, precision)
    size = encoder.batch_size if batch_size is None else batch_size
    if size < 1:
        raise UsageError("too few texts at a time", "`batch_size`", "at least 1", str(size))
    run = _Run(encoder, role, chosen, size, on_truncate, on_blank, progress)
    target = Path(os.path.realpath(output))
    if not target.parent.is_dir():
        raise EnvironmentFailure(
            "no such directory", str(target.parent), next_step="create it first"
        )
    facts = encoder.metadata(role) | {"precision": chosen}
    # What an endpoint tells only in its answers is no part of what was asked for.
    facts.pop("binq.bits", None)
    with ExitStack() as stack:
        checkpoint_for = kept_checkpoint if resume else temporary_checkpoint
        checkpoint = stack.enter_context(checkpoint_for(target, facts))
        # The place is tried before hours are spent on what goes there; and the output is there
        # before the checkpoint goes.
        file = stack.enter_context(atomic_write(output))
        run.read(source, checkpoint)
        width = write_embeddings(file, checkpoint, encoder, role, chosen, with_ids=run.with_ids)
        run.report.dim, run.report.bits = width.dim, width.bits
    run.report.seconds = time.monotonic() - run.began
    return run.report


class _Run:
    """One pass over the texts: what is new is encoded, every row noted in the checkpoint."""

    def __init__(
        self,
        encoder: Encoder,
        role: Role,
        precision: Precision,
        batch_size: int,
        on_truncate: OnTruncate,
        on_blank: OnBlank,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.encoder = encoder
        self.role: Role = role
        self.precision = precision
        self.batch_size = batch_size
        self.on_truncate = on_truncate
        self.on_blank = on_blank
        self.report = EncodeReport()
        self.with_ids = False
        self.began = time.monotonic()
        self._notify = progress
        self._progress = Progress()

    def read(self, source: TextSource, checkpoint: Checkpoint) -> None:
        """Read the texts window by window."""
        left_over = checkpoint.last
        position = 0
        window_rows = max(1024, _BATCHES_IN_WINDOW * self.batch_size)
        for window in batched(source, window_rows, _CHARACTERS_IN_WINDOW):
            self.with_ids = window[0].id is not None
            rows = [(position + i, text) for i, text in enumerate(window)]
            position += len(window)
            self._window([(at, text) for at, text in rows if self._usable(text)], checkpoint)
            self._tell(position, source.fraction)
        distinct, self.report.resumed = checkpoint.distinct(left_over)
        self.report.duplicates = self.report.rows - distinct

    def _window(self, rows: list[tuple[int, Text]], checkpoint: Checkpoint) -> None:
        digests = [digest_of(text.text) for _, text in rows]
        unique = {digest: text for digest, (_, text) in zip(digests, rows, strict=True)}
        numbers = checkpoint.find(list(unique))
        self._check_lengths([text for _, text in rows])
        new = [(digest, text) for digest, text in unique.items() if digest not in numbers]
        new.sort(key=lambda item: len(item[1].text), reverse=True)
        void: set[bytes] = set()
        for batch in _batches(new, self.batch_size):
            vectors, bits = self._encode([text for _, text in batch])
            added = [digest for digest, _ in batch]
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
            (position, text.id, numbers[digest])
            for digest, (position, text) in zip(digests, rows, strict=True)
            if digest not in void or self._leave_out(text, "text has no token that the model knows")
        ]
        checkpoint.add_rows(known)
        self.report.rows += len(known)

    def _encode(self, texts: list[Text]) -> tuple[NDArray[Any], int | None]:
        """Return the rows as they are to be written, and how many bits of them count."""
        try:
            vectors = self.encoder.encode([text.text for text in texts], self.role)
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
        if self.on_blank == "error":
            raise InputError(why, text.where, next_step="remove the row")
        self.report.blank += 1
        if len(self.report.blank_rows) < _NAMED:
            self.report.blank_rows.append(text.where)
        return False

    def _check_lengths(self, texts: list[Text]) -> None:
        flags = self.encoder.overlong([text.text for text in texts], self.role)
        for index in np.flatnonzero(flags):
            where = texts[index].where
            if self.on_truncate == "error":
                raise InputError(
                    "text is longer than the model reads",
                    where,
                    next_step="split it, or use `on_truncate=warn`",
                )
            self.report.overlong += 1
            if len(self.report.overlong_rows) < _NAMED:
                self.report.overlong_rows.append(where)

    def _tell(self, rows: int, fraction: float | None) -> None:
        if self._notify is not None:
            self._progress.rows = rows
            self._progress.encoded = self.report.encoded
            self._progress.fraction = fraction
            self._progress.seconds = time.monotonic() - self.began
            self._notify(self._progress)


def _batches(items: list[tuple[bytes, Text]], size: int) -> Iterator[list[tuple[bytes, Text]]]:
    """Cut a list into batches of at most ``size`` texts and of bounded length together."""
    held: list[tuple[bytes, Text]] = []
    characters = 0
    for item in items:
        length = len(item[1].text)
        if held and (len(held) == size or characters + length > _CHARACTERS_IN_BATCH):
            yield held
            held, characters = [], 0
        held.append(item)
        characters += length
    if held:
        yield held


def _precision(encoder: Encoder, precision: Precision | None) -> Precision:
    if precision is not None and precision not in PRECISIONS:
        raise UsageError("unknown precision", "`precision`", ", ".join(PRECISIONS), precision)
    if encoder.bits is None:
        return precision or "float32"
    if precision not in (None, "ubinary"):
        raise UsageError("the model makes bits", "`precision`", "ubinary", str(precision))
    return "ubinary"
