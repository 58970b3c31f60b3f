"""A stream of queries: from any source, answered batch by batch by an open index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from binq.encoders import check_same_model
from binq.engines import Engine
from binq.errors import InputError, UsageError, stopping
from binq.index.elsewhere import searched_by
from binq.index.index import Index, as_rows
from binq.io.streams import refuse_stdin_twice
from binq.search.hits import Hits
from binq.search.options import SearchOptions, SearchSettings
from binq.search.pipeline import Pipeline
from binq.structures.queries import Queries, joined
from binq.text.questions import QuestionSource, open_questions
from binq.types import (
    DEFAULT_ENGINE,
    DEFAULT_K,
    DEFAULT_ON_ERROR,
    LAYOUTS,
    ON_ERROR,
    EngineName,
    Locate,
    OnError,
    Packed,
    Vectors,
)
from binq.vectors import Batch, VectorSource, open_vectors
from binq.vectors.refusing import sift


@dataclass(frozen=True)
class Unanswered:
    """What stands in the place of hits where a query cannot be used.

    Attributes
    ----------
    line : int
        Of the queries, counted from 1; a row of a file is a line.
    error : InputError
    """

    line: int
    error: InputError


Found = Hits | Unanswered
Ids = list[str | int]
Answer = tuple[Ids, list[Found]] | tuple[Ids, list[Found], list[str | None]]

_BATCH: Final = 1024
_NOTHING: Final = Hits(np.empty((1, 0), np.int64), None, np.empty((1, 0)), None)


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
    on_error: OnError = DEFAULT_ON_ERROR,
    engine: EngineName | Engine = DEFAULT_ENGINE,
    **settings: Unpack[SearchSettings],
) -> Iterator[Answer]:
    """Answer queries from any source, batch by batch as they come in.

    Every line has its answer, in its place: one that is blank has no hits.

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
    on_error : {"stop", "skip"}
        What a query does that cannot be used: by default the error is raised once all before it
        are answered; with skip it stands among the answers, and the others are answered.
    engine : {"local", "ray"}
        What searches the shards of an index: this process, or, where there are many queries, the
        workers of a Ray cluster; on Ray ``threads`` are those of each task, by default 1.
    settings
        The fields of :class:`binq.search.options.SearchOptions`.

    Yields
    ------
    ids : list of str and int
        Of the queries of a batch, as they were given; row numbers where they have none.
    hits : list of Hits or Unanswered
        One entry of one line for each of them.
    texts : list of str or None
        The questions, None for a line without one; only where ``text`` is given.

    Raises
    ------
    UsageError, InputError
    """
    options = SearchOptions(**settings)
    if on_error not in ON_ERROR:
        raise UsageError("no such way", "`on_error`", " or ".join(ON_ERROR), str(on_error))
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
        source = open_queries(
            index, queries, column, id_column, options.packed, options.force, every_line=True
        )
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
        searched_by(index, engine, options.threads),
        index.pipeline(options, packed=source.packed, radius=radius is not None) as pipeline,
    ):
        pipeline.candidate_count(1 if k is None else k)  # refused before anything is read
        for batch in source.read(_BATCH):
            batch, prepared = _usable(index, pipeline, source, batch)
            wrong = batch.wrong if on_error == "stop" else None
            if wrong is not None:
                batch = batch.before(wrong.offset)
            found: Iterator[Hits] = iter(())
            if len(batch.vectors):
                assert prepared is not None
                prepared = prepared.part(slice(0, len(batch.vectors)))
                if radius is not None:
                    found = iter(pipeline.radius_search(prepared, radius, k))
                else:
                    found = iter(pipeline.search(prepared, DEFAULT_K if k is None else k))
            if len(batch):
                ids, hits = _in_place(batch, found)
                if isinstance(source, QuestionSource):
                    yield ids, hits, source.texts[: len(batch)]
                else:
                    yield ids, hits
            if wrong is not None:
                assert wrong.error is not None
                raise stopping(wrong.error)


def _usable(
    index: Index, pipeline: Pipeline, source: VectorSource, batch: Batch
) -> tuple[Batch, Queries | None]:
    """Return a batch, with what the index cannot compare refused as well, and its queries."""
    if not len(batch.vectors):
        return batch, None
    locate = source.locating(batch)
    # What is wrong with all of them is said once, whatever is to be skipped.
    prepare_batch(index, source, batch.vectors[:0], locate)

    def prepared(low: int, high: int) -> Queries:
        queries = prepare_batch(
            index, source, batch.vectors[low:high], lambda row: locate(low + row)
        )
        if pipeline.weighs:
            _ = queries.weights
        return queries

    parts, refused = sift(prepared, len(batch.vectors))
    return batch.without(refused), joined(parts) if parts else None


def _in_place(batch: Batch, found: Iterator[Hits]) -> tuple[Ids, list[Found]]:
    """Return the ids of a batch and its answers, with what stands in place of hits."""
    named = None if batch.id_list is None else iter(batch.id_list)
    refused = {refusal.offset: refusal for refusal in batch.refused}
    ids: Ids = []
    hits: list[Found] = []
    for offset in range(len(batch)):
        row = batch.start + offset
        refusal = refused.get(offset)
        if refusal is None:
            ids.append(row if named is None else next(named))
            hits.append(next(found))
        else:
            ids.append(row if refusal.id is None else refusal.id)
            error = refusal.error
            hits.append(_NOTHING if error is None else Unanswered(row + 1, error))
    return ids, hits


def open_queries(
    index: Index,
    queries: Vectors | VectorSource,
    column: str | None = None,
    id_column: str | None = None,
    packed: Packed | None = None,
    force: bool = False,
    *,
    every_line: bool = False,
) -> VectorSource:
    """Open queries for an index, and check that they fit it as far as that is known by then.

    With ``every_line`` a blank line is a row, refused without an error.

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
            dims=index.dims,
            every_line=every_line,
        )
    if not force:
        check_same_model(index.file.header.model, source.metadata, source.name)
    return source


def prepare_batch(
    index: Index, source: VectorSource, vectors: NDArray[Any], locate: Locate
) -> Queries:
    """Bring a batch of an open source into the form in which the index compares it."""
    if not source.packed:
        return index.prepare_vectors(vectors, source.name, locate)
    if source.dim != index.bits:
        raise InputError(
            "the queries have another width than the codes of the index",
            source.name,
            f"{index.bits} bits",
            f"{source.dim} bits",
        )
    return Queries(codes=vectors)
