"""``binq encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binq.cli import options as opt
from binq.cli import render
from binq.types import OnBlank, OnTruncate, Precision, Role, TextFormat


@opt.command(
    {
        "texts": opt.argument(
            list[str],
            "TEXTS...",
            "jsonl (BEIR too), csv, tsv, Parquet or plain lines, or - for stdin.",
        ),
        "output": opt.output(
            "A file in .parquet, .npy (no ids) or .jsonl; only Parquet says what model made it.",
            "EMBEDDINGS",
        ),
        "model": opt.option(
            str,
            "A folder or name of a sentence-transformers model, model2vec:NAME, an endpoint "
            "such as http://localhost:11434/v1#NAME, or simhash:BITS or minhash:BITS. "
            "[default: the built-in static model]",
        ),
        "prompt": opt.PROMPT,
        "role": opt.option(Role, "Which of the model's own prompts applies.", "document"),
        "truncate_dim": opt.option(int, "Keep only the first so many dimensions."),
        "normalize": opt.option(
            bool,
            "Scale to length 1, or do not. [default: do]",
            True,
            "--normalize/--no-normalize",
        ),
        "precision": opt.option(
            Precision,
            "Numbers, or ubinary: their signs, as bits. "
            "[default: float32; ubinary for fingerprints]",
        ),
        "batch_size": opt.option(int, "Texts at a time. [default: by model]"),
        "kind": opt.option(TextFormat, "[default: by suffix and content]", None, "--input-format"),
        "text_column": opt.option(
            str,
            "Column of the text; several, joined by spaces, with commas. "
            "[default: title and text, or their like]",
        ),
        "id_column": opt.ID_COLUMN,
        "resume": opt.flag("--resume", "Go on where an interrupted run with --resume stopped."),
        "on_truncate": opt.option(
            OnTruncate, "What to do when a text is longer than the model reads.", "warn"
        ),
        "on_blank": opt.option(OnBlank, "What to do with a blank text.", "skip"),
        "on_error": opt.ON_ERROR,
        **opt.MODEL_RUNS,
        "concurrency": opt.option(int, "Requests to an endpoint at a time. [default: 1]"),
        "engine": opt.ENGINE,
        "overwrite": opt.OVERWRITE,
        "threads": opt.THREADS_OR_TASKS,
    }
)
def encode(*, texts: list[str], output: Path, **settings: Any) -> None:
    """Turn text into embeddings, or into fingerprints for near-duplicate search."""
    from binq.text.encode import encode as encode_texts

    render.awaiting("texts", "one a line, plain or JSON", texts)
    with render.text_progress("encoding") as progress:
        report = encode_texts(
            texts,
            output,
            progress=lambda now: progress(now.rows, now.rate, now.fraction),
            on_wait=progress.waiting,
            **settings,
        )
    if report.id_note is not None:
        render.note(report.id_note)
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
