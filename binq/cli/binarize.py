"""``binq binarize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from binq import types
from binq.cli import options as opt
from binq.cli import render


@opt.command(
    {
        "vectors": opt.VECTORS,
        "output": opt.output("A .npy or .parquet file.", "CODES"),
        **opt.BINARIZER,
        "layout": opt.option(types.Layout, "How bits are packed into bytes.", "ubinary"),
        "packed": opt.option(Literal["none"], "none: 8-bit input is numbers."),
        **opt.COLUMNS,
        "overwrite": opt.OVERWRITE,
        "threads": opt.THREADS,
    }
)
def binarize(*, vectors: list[str], output: Path, layout: types.Layout, **settings: Any) -> None:
    """Turn float vectors into packed bits."""
    from binq.building.binarize import binarize as binarize_vectors

    render.awaiting("vectors", render.VECTOR_LINES, vectors)
    with render.progress("binarizing") as progress:
        rows = binarize_vectors(
            vectors, output, layout=layout, progress=progress, notice=render.note, **settings
        )
    render.note(f"{output}: {rows:,} codes in layout {layout}")
