"""Text to embeddings: read, encode what is new, write one file whole."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from binq.encoders import Encoder, is_endpoint, load_encoder, model_files
from binq.engines import Engine, opened
from binq.errors import BinqWarning, EnvironmentFailure
from binq.io.atomic import atomic_write
from binq.io.outputs import by_suffix, refuse_overwrites
from binq.text.batches import EncodeTask, facts_of
from binq.text.checkpoint import checkpoint_path, kept_checkpoint, temporary_checkpoint
from binq.text.embeddings import SUFFIXES, write_embeddings
from binq.text.options import EncodeOptions, EncodeProgress, EncodeReport
from binq.text.run import Place, Run
from binq.text.source import TextSource
from binq.threads import limited, limited_tokenizers
from binq.types import (
    DEFAULT_ENGINE,
    DEFAULT_ON_ERROR,
    EngineName,
    OnBlank,
    OnError,
    OnTruncate,
    OnWait,
    Precision,
    Role,
    TextFormat,
)


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
    kind: TextFormat | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    resume: bool = False,
    on_truncate: OnTruncate = "warn",
    on_blank: OnBlank = "skip",
    on_error: OnError = DEFAULT_ON_ERROR,
    concurrency: int | None = None,
    engine: EngineName | Engine = DEFAULT_ENGINE,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[EncodeProgress], None] | None = None,
    on_wait: OnWait | None = None,
    stdin: BinaryIO | None = None,
) -> EncodeReport:
    """Encode texts from files or standard input into a file of embeddings.

    Parameters
    ----------
    texts : path, sequence of paths, or "-"
    output : path
        ``.parquet``, ``.npy`` or ``.jsonl``.
    model, prompt, truncate_dim, normalize, device, key_file, concurrency, on_wait
        See `binq.encoders.load_encoder`; the built-in model by default.
    kind, text_column, id_column, stdin
        See `binq.text.TextSource`.
    role, precision, batch_size, resume, on_truncate, on_blank, on_error, progress
        See `EncodeOptions`.
    engine : {"local", "ray"}
        Where texts are encoded: in this process, or by the workers of a Ray cluster, each of which
        loads the model from its own machine and reads keys from its own environment.
    overwrite : bool
        Replace a file of another kind than what is written.
    threads : int, optional
        Default: as many as the process may use; on Ray, those of each task: 1.

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
    options = EncodeOptions(
        role, precision, batch_size, resume, on_truncate, on_blank, on_error, progress
    )
    source = TextSource(texts, text_column=text_column, id_column=id_column, kind=kind, stdin=stdin)
    kept = checkpoint_path(output) if resume else None
    refuse_overwrites(
        {
            "`output`": (output, by_suffix(output, SUFFIXES)),
            "the checkpoint": (kept, None),
            "the checkpoint's journal": (kept and f"{kept}-journal", None),
        },
        *(source.paths, key_file),
        folders=[model],
        overwrite=overwrite,
    )
    told: dict[str, Any] = {
        "prompt": prompt,
        "truncate_dim": truncate_dim,
        "normalize": normalize,
        "bits": precision == "ubinary",
        "device": device,
        "batch_size": batch_size,
        "concurrency": concurrency,
    }
    with ExitStack() as stack:
        count = stack.enter_context(limited(threads))
        stack.enter_context(limited_tokenizers(count))
        encoder = load_encoder(model, key_file=key_file, threads=count, on_wait=on_wait, **told)
        place = None
        if engine != "local":
            there = stack.enter_context(opened(engine, threads=threads))
            place = _place_of(there, encoder, options, model, key_file, told)
        report = encode_texts(source, encoder, output, options, place)
    _warn_of(
        report.blank,
        "texts are blank, or hold no token that the model knows, and were left out",
        report.blank_rows,
    )
    _warn_of(
        report.overlong, "texts are longer than the model reads and were cut", report.overlong_rows
    )
    _warn_of(report.skipped, "rows cannot be used and were left out", report.skipped_rows, "; ")
    return report


def _place_of(
    engine: Engine,
    encoder: Encoder,
    options: EncodeOptions,
    model: str | None,
    key_file: str | os.PathLike[str] | None,
    told: dict[str, Any],
) -> Place:
    """Return how an engine of other processes encodes with the same model."""
    found, key, files = model_files(model, key_file)
    task = EncodeTask(
        (("model", found), ("key_file", key), *told.items()),
        facts_of(encoder, options.role),
        options.role,
        options.precision_for(encoder),
        options.on_error == "skip",
        engine.threads,
    )
    # Of what an endpoint takes at a time, the workers share.
    return Place(engine, task, encoder.concurrency if is_endpoint(model) else None, files)


def _warn_of(count: int, what: str, rows: list[str], between: str = ", ") -> None:
    if count:
        listed = between.join([*rows, "…"] if count > len(rows) else rows)
        warnings.warn(f"{count:,} {what}: {listed}", BinqWarning, stacklevel=3)


def encode_texts(
    source: TextSource,
    encoder: Encoder,
    output: str | os.PathLike[str],
    options: EncodeOptions,
    place: Place | None = None,
) -> EncodeReport:
    """Encode texts into a file of ``id`` and ``embedding``.

    The id is the text's own, or its row number in the input where texts have none. Ids are integers
    if all are, and one type of 64 bits holds them; else strings. Parquet holds embeddings as
    FixedSizeList<float32|float16>, codes as FixedSizeList<uint8> with the first bit on top, and
    metadata under keys that begin with ``binq.`` that tell what made them.

    Parameters
    ----------
    source : TextSource
    encoder : Encoder
    output : path
        Appears whole, or not at all, in the format of its suffix.
    options : EncodeOptions
    place : Place, optional
        Where they are encoded, if not in this process.

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
    content = by_suffix(output, SUFFIXES)
    run = Run(encoder, options, place)
    target = Path(os.path.realpath(output))
    if not target.parent.is_dir():
        raise EnvironmentFailure(
            "no such directory", str(target.parent), next_step="create it first"
        )
    facts = facts_of(encoder, options.role) | {"precision": run.precision}
    with ExitStack() as stack:
        checkpoint_for = kept_checkpoint if options.resume else temporary_checkpoint
        checkpoint = stack.enter_context(checkpoint_for(target, facts))
        # The place is tried before hours are spent on what goes there; and the output is there
        # before the checkpoint goes.
        file = stack.enter_context(atomic_write(output))
        run.read(source, checkpoint)
        shape = write_embeddings(
            file, content, checkpoint, encoder, options.role, run.precision, run.ids.name
        )
    run.report.bits = shape.bits
    run.report.dim = shape.width if shape.bits is None else None
    run.report.seconds = time.monotonic() - run.began
    return run.report
