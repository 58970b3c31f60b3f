"""``binq encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from binq.cli import options as opt
from binq.cli import render
from binq.types import OnBlank, OnTruncate, Precision, Role, TextFormat


def encode(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXTS...",
            help="jsonl (BEIR too), csv, tsv, Parquet or plain lines, or - for stdin.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="EMBEDDINGS", help="A Parquet file.", show_default=False
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A folder or name of a sentence-transformers model, model2vec:NAME, an endpoint "
            "such as http://localhost:11434/v1#NAME, or simhash:BITS or minhash:BITS. "
            "[default: the built-in static model]",
            show_default=False,
        ),
    ] = None,
    prompt: opt.Prompt = None,
    role: Annotated[
        Role,
        typer.Option("--role", help="Which of the model's own prompts applies."),
    ] = "document",
    truncate_dim: Annotated[
        int | None,
        typer.Option(
            "--truncate-dim", help="Keep only the first so many dimensions.", show_default=False
        ),
    ] = None,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize/--no-normalize",
            help="Scale to length 1, or do not. [default: do]",
            show_default=False,
        ),
    ] = True,
    precision: Annotated[
        Precision | None,
        typer.Option(
            "--precision",
            help="ubinary: packed signs. [default: float32; ubinary for fingerprints]",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", help="Texts at a time. [default: by model]", show_default=False
        ),
    ] = None,
    input_format: Annotated[
        TextFormat | None,
        typer.Option("--input-format", help="[default: by suffix and content]", show_default=False),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            "--text-column",
            help="Column of the text; several, joined by spaces, with commas. "
            "[default: title and text, or their like]",
            show_default=False,
        ),
    ] = None,
    id_column: opt.IdColumn = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where an interrupted run with --resume stopped."),
    ] = False,
    on_truncate: Annotated[
        OnTruncate,
        typer.Option(
            "--on-truncate", help="What to do when a text is longer than the model reads."
        ),
    ] = "warn",
    on_blank: Annotated[
        OnBlank, typer.Option("--on-blank", help="What to do with a blank text.")
    ] = "skip",
    device: opt.Device = None,
    key_file: opt.KeyFile = None,
    threads: opt.Threads = None,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Turn text into embeddings, or into fingerprints for near-duplicate search."""
    render.configure(quiet=quiet, no_color=no_color)
    from binq.text.encode import encode as encode_texts

    with render.text_progress("encoding") as progress:
        report = encode_texts(
            texts,
            output,
            model=model,
            prompt=prompt,
            role=role,
            truncate_dim=truncate_dim,
            normalize=normalize,
            precision=precision,
            batch_size=batch_size,
            kind=input_format,
            text_column=text_column,
            id_column=id_column,
            resume=resume,
            on_truncate=on_truncate,
            on_blank=on_blank,
            device=device,
            key_file=key_file,
            threads=threads,
            progress=lambda now: progress(now.rows, now.rate, now.fraction),
        )
    width = f"{report.bits} bits" if report.dim is None else f"{report.dim} dims"
    saved = [
        f"{count:,} {what}"
        for count, what in (
            (report.resumed, "from the interrupted run"),
            (report.duplicates, "duplicates"),
        )
        if count
    ]
    extra = f" ({', '.join(saved)})" if saved else ""
    render.note(f"{output}: {report.rows:,} texts as {width}{extra}")
