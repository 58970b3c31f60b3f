"""A stream of queries: from any source, answered batch by batch by an open index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from binq.encoders import check_same_model
from binq.errors import InputError, UsageError
from binq.index.index import Index, as_rows
from binq.io.streams import refuse_stdin_twice
from binq.search.hits import Hits, RadiusHits
from binq.search.options import SearchOptions, SearchSettings
from binq.structures.queries import Queries
from binq.text.questions import QuestionSource, open_questions
from binq.types import DEFAULT_K, LAYOUTS, Packed, Vectors
from binq.vectors import VectorSource, open_vectors

Answer = tuple[list[Any], list[Hits]] | tuple[list[Any], list[Hits], list[str]]

_BATCH: Final = 1024


def query(
    index: str | os.PathLike[str] | Index,
    queries: Vectors | VectorSource | None = None,
    k: int | None = None,
    *,
    text: str | Sequence[str] | None = None,
    model: str | None = None,
    prompt: str | None = None,
    device: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    radius: int | None = None,
    column: str | None = None,
    id_column: str | None = None,
    **settings: Unpack[SearchSettings],
) -> Iterator[Answer]:
    """Answer queries from any source, batch by batch as they come in.

    Parameters
    ----------
    index : path or Index
    queries : path, list of paths, "-", array or open source, optional
        Either these or ``text``.
    k : int, optional
        Default 10; with ``radius`` unlimited.
    text, model, prompt, device, key_file : optional
        Questions in place of vectors; see `binq.text.questions.open_questions`.
    radius : int, optional
        Return every row at Hamming distance at most ``radius``.
    column, id_column : str, optional
        Columns of the queries to read.
    settings
        The fields of :class:`binq.search.options.SearchOptions`.

    Yields
    ------
    ids : list of str or of int
        Of the queries of a batch, as they were given; row numbers where they have none.
    hits : list of Hits
        One entry of one line for each of them.
    texts : list of str
        The questions; only where ``text`` is given.

    Raises
    ------
    UsageError, InputError
    """
    options = SearchOptions(**settings)
    refuse_stdin_twice(
        queries=queries,
        text=text if isinstance(text, str) else None,
        filter_ids=options.filter_ids,
        exclude_ids=options.exclude_ids,
    )
    for_text = {"model": model, "prompt": prompt, "device": device, "key_file": key_file}
    for_vectors = {"packed": options.packed, "column": column, "id_column": id_column}
    for name, value in (for_vectors if text is not None else for_text).items():
        if value is not None:
            other = "vectors, not with `text`" if text is not None else "`text`"
            raise UsageError(f"`{name}` goes with {other}", next_step=f"leave out `{name}`")
    if (queries is None) == (text is None):
        raise UsageError("queries come as vectors or as text", expected="`queries` or `text`")
    index = index if isinstance(index, Index) else Index(index)
    if text is None:
        assert queries is not None
        source = open_queries(index, queries, column, id_column, options.packed, options.force)
    else:
        source = open_questions(
            index.file.header,
            text,
            model=model,
            prompt=prompt,
            device=device,
            key_file=key_file,
            force=options.force,
            threads=options.threads,
        )
    # A source that the caller opened is the caller's to close.
    with (
        nullcontext() if source is queries else source,
        index.pipeline(options, packed=source.packed, radius=radius is not None) as pipeline,
    ):
        pipeline.candidate_count(1 if k is None else k)  # refused before anything is read
        for batch in source.batches(_BATCH):
            prepared = prepare_batch(index, source, batch.vectors, batch.start)
            numbers = list(range(batch.start, batch.start + len(prepared)))
            ids = batch.id_list or numbers
            found: Hits | RadiusHits
            if radius is not None:
                found = pipeline.radius_search(prepared, radius, k)
            else:
                found = pipeline.search(prepared, DEFAULT_K if k is None else k)
            if isinstance(source, QuestionSource):
                yield ids, list(found), source.texts
            else:
                yield ids, list(found)


def open_queries(
    index: Index,
    queries: Vectors | VectorSource,
    column: str | None = None,
    id_column: str | None = None,
    packed: Packed | None = None,
    force: bool = False,
) -> VectorSource:
    """Open queries for an index, and check that they fit it as far as that is known by then.

    Raises
    ------
    InputError
        If their metadata name another model than the index, unless ``force`` is set.
    """
    if isinstance(queries, VectorSource):
        source = queries
    else:
        source = open_vectors(
            as_rows(queries) if isinstance(queries, np.ndarray) else queries,
            column=column,
            id_column=id_column,
            packed=packed,
            bits=index.bits if packed in LAYOUTS else None,
        )
    if not force:
        check_same_model(index.file.header.model, source.metadata, source.name)
    return source


def prepare_batch(index: Index, source: VectorSource, vectors: NDArray[Any], start: int) -> Queries:
    """Bring a batch of an open source into the form in which the index compares it."""
    if not source.packed:
        return index.prepare_vectors(vectors, source.name, source.locator(start))
    if source.dim != index.bits:
        raise InputError(
            "the queries have another width than the codes of the index",
            source.name,
            f"{index.bits} bits",
            f"{source.dim} bits",
        )
    return Queries(codes=vectors)
