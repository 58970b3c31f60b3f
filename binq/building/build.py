"""Building an index: vectors stream in, codes and stored vectors stream out, one file appears."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Unpack, cast

from binq import binarizers
from binq.binarizers import Binarizer, default_scoring
from binq.building.choose import choose_binarizer, keep_binarizer, look, needs_fit, watched
from binq.building.elsewhere import built_by, check_rereadable, check_sources, reading_again
from binq.building.kinds import check_kind, maker_of, refuse_without_distance
from binq.building.lists import StandIns, read_queries
from binq.building.options import BinarizerOptions, BinarizerSettings
from binq.building.rows import RowWriter, Skipping, warn_of_skipped
from binq.building.shards import ShardedRows, ShardPlan, check_shards
from binq.engines import Engine, opened
from binq.errors import InputError, UsageError
from binq.io.streams import refuse_stdin_twice
from binq.storage.format import Header
from binq.storage.manifest import NAME as MANIFEST
from binq.storage.publishing import writing_directory
from binq.storage.sections import Int8Range
from binq.storage.uploads import into_stores
from binq.storage.writer import writing_index
from binq.structures.flat import refuse_wide
from binq.structures.pools import GraphCalibration
from binq.structures.queries import Queries
from binq.threads import limited
from binq.types import (
    DEFAULT_ENGINE,
    DEFAULT_ON_ERROR,
    LAYOUTS,
    EngineName,
    Kind,
    Metric,
    OnError,
    Packed,
    Progress,
    Scoring,
    StoredVectors,
    Vectors,
)
from binq.vectors import Batch, VectorSource, open_vectors
from binq.vectors.ids import IdType, note_of
from binq.vectors.sample import Sample, started


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes
    ----------
    rows, dim, bits : int
        ``rows`` are those that are not dead.
    method : str or None
        None for bits of unknown origin.
    rescore : str
        The stored vectors.
    size : int
        Of the file, in bytes.
    chosen_by : str or None
        What ``method="auto"`` picked and why.
    ids : {"rows", "strings", "int64", "uint64"}
        What the ids of the index are; ``rows`` where row numbers serve.
    id_note : str or None
        Which columns could hold ids, where none was found.
    skipped : int
        How many rows could not be used and are dead, with ``on_error="skip"``.
    skipped_rows : list of str
        The first few of them, and what is wrong with them.
    walked : int or None
        Of a graph, for up to how many candidates a search by the default target walks: for more,
        or where it is 0 for any, all rows are scanned, which takes no longer there. None of
        anything else, and of shards.
    """

    rows: int
    dim: int
    bits: int
    method: str | None
    rescore: StoredVectors
    size: int
    chosen_by: str | None = None
    ids: IdType = "rows"
    id_note: str | None = None
    skipped: int = 0
    skipped_rows: list[str] = field(default_factory=list)
    walked: int | None = None


@into_stores
def build(
    vectors: Vectors,
    output: str | os.PathLike[str],
    *,
    shard_rows: int | None = None,
    kind: Kind = "flat",
    nlist: int | None = None,
    m: int | None = None,
    ef_construction: int | None = None,
    check_queries: Vectors | None = None,
    rescore: StoredVectors = "none",
    packed: Packed | None = None,
    column: str | None = None,
    id_column: str | None = None,
    on_error: OnError = DEFAULT_ON_ERROR,
    engine: EngineName | Engine = DEFAULT_ENGINE,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    **settings: Unpack[BinarizerSettings],
) -> BuildReport:
    """Build an index; it appears whole under its name, or not at all.

    Parameters
    ----------
    vectors : path, list of paths, "-", (n, dim) array or iterable of (m, dim) arrays
        Floats or packed bits. An iterable is gone through once, or more often for a fit: it has to
        begin again each time.
    output : path or URI
        The index under the URI of an object store is built in a temporary place, and published once
        it is whole.
    shard_rows : int, optional
        Write a directory of files with at most so many rows each.
    kind : {"flat", "ivf", "hnsw"}
        The structure over the codes: flat scans all of them, ivf lays them in inverted lists, hnsw
        links them into a graph.
    nlist : int, optional
        How many lists; default 4 sqrt(n).
    m, ef_construction : int, optional
        Of a graph: a code has up to 2 m neighbours (16), chosen from so many near ones (100).
    check_queries : path, list of paths or array, optional
        Queries to calibrate searches of lists and graphs with, of which half is used (by a hash of
        the id); by default rows stand in for queries.
    rescore : {"none", "int8", "float16", "float32"}
        Vectors to store for rescoring, with all their dimensions.
    packed : {"none", "ubinary", "binary", "lsb"}, optional
        What 8-bit input is.
    column, id_column : str, optional
        Columns to read, where they are not found by themselves.
    on_error : {"stop", "skip"}
        What a row does that cannot be used: by default the error is raised and nothing is written;
        with skip the row keeps its number, is dead, and is never found.
    engine : {"local", "ray"}
        What writes shards: this process, or the workers of a Ray cluster, each of which reads its
        rows itself. The binarizer is fitted here.
    overwrite : bool
        Replace files of another kind than what is written.
    threads : int, optional
        Default: as many as the process may use; on Ray, those of each task: 1.
    progress : callable, optional
        Called with (rows done, rows in all or None).
    method, bits, truncate_dim, metric, seed, sample, binarizer, save_binarizer, scoring
        See :class:`binq.building.options.BinarizerOptions`. For packed input ``method`` says how
        the bits came about, so that the index takes float queries; only sign can be said, anything
        else needs ``binarizer``.

    Returns
    -------
    BuildReport

    Raises
    ------
    UsageError, InputError, EnvironmentFailure

    Warns
    -----
    BinqWarning
        If an id stands on more than one row, and of rows that were skipped.
    """
    structure = {"nlist": nlist, "m": m, "ef_construction": ef_construction}
    check_kind(kind, rescore, **structure, check_queries=check_queries)
    options = BinarizerOptions(**settings)
    refuse_without_distance(kind, options.method)
    _check_output(options, output, shard_rows, vectors, check_queries, overwrite)
    refuse_stdin_twice(vectors=vectors, check_queries=check_queries)
    names = [] if engine == "local" else check_sources(vectors, shard_rows, engine)
    # What is entered last ends first: the output, then reading ahead, then the source it reads.
    with ExitStack() as stack:
        there = stack.enter_context(opened(engine, threads=threads)) if names else None
        count = stack.enter_context(limited(threads))
        source = stack.enter_context(
            _open(vectors, column, id_column, packed, options.bits, on_error)
        )
        check_rereadable(source, engine)
        sample = None
        if source.packed:
            _refuse_for_packed(options, rescore, source)
        elif needs_fit(options) or rescore == "int8":
            source, sample = look(source, output, options, stack, rescore)
        dim, batches = started(source, stack)
        binarizer = _binarizer_for(options, source, dim, sample, count, kind)
        refuse_without_distance(kind, binarizer.method if binarizer else None)
        scan = _scan_of(options, binarizer, source, dim)
        int8 = sample if rescore == "int8" else None
        spread = None if int8 is None else Int8Range.spanning(int8.low, int8.high)
        how = dim, options.metric, binarizer, scan, rescore, spread, count
        given = check_queries, options.metric, dim, binarizer, packed, source.packed
        checked = read_queries(*given)
        rows = _rows(stack, output, shard_rows, source, how, kind, structure, checked)
        if there is not None and isinstance(rows, ShardedRows):
            reading = reading_again(source, column, id_column, packed, options.bits)
            rows = built_by(there, rows, names, reading, progress)
        header = rows.write(_counted(watched(batches, binarizer), source, progress), source)
        keep_binarizer(options, binarizer)
        size = rows.publish()
    warn_of_skipped(rows)
    note = None if source.could_be_ids is None else note_of(source.could_be_ids)
    chosen = binarizer.chosen_by if binarizer and options.method == "auto" else None
    return _report(header, binarizer, rows, size, chosen, note)


def _rows(
    stack: ExitStack,
    output: str | os.PathLike[str],
    shard_rows: int | None,
    source: VectorSource,
    how: tuple[int, Metric, Binarizer | None, Scoring, StoredVectors, Int8Range | None, int],
    kind: Kind,
    structure: dict[str, int | None],
    checked: Queries | None,
) -> RowWriter | ShardedRows:
    """Open the output, and return what writes rows to it; ``how`` is what `RowWriter` takes."""
    if shard_rows is not None:
        check_shards(shard_rows, source.rows)
        into = stack.enter_context(writing_directory(output))
        graph = structure["m"], structure["ef_construction"]
        plan = ShardPlan(str(into.path), *how, kind, *graph, checked)
        return ShardedRows(into, plan, shard_rows, structure["nlist"])
    writer = stack.enter_context(writing_index(output))
    _, metric, binarizer, *_, threads = how
    maker = maker_of(kind, writer, binarizer, metric, threads, **structure)
    return RowWriter(writer, *how, maker, checked, StandIns() if maker else None)


def _report(
    header: Header,
    binarizer: Binarizer | None,
    rows: Skipping,
    size: int,
    chosen_by: str | None,
    id_note: str | None,
) -> BuildReport:
    walked = None
    if header.kind == "hnsw" and header.calibration is not None:
        walked = GraphCalibration.from_json(header.calibration).walked()
    return BuildReport(
        header.rows - rows.skipped,
        header.dim,
        header.bits,
        binarizer.method if binarizer else None,
        cast(StoredVectors, header.rescore),
        size,
        chosen_by,
        header.id_type,
        id_note,
        rows.skipped,
        rows.skipped_rows,
        walked,
    )


def _check_output(
    options: BinarizerOptions,
    output: str | os.PathLike[str],
    shard_rows: int | None,
    vectors: Vectors,
    check_queries: Vectors | None,
    overwrite: bool,
) -> None:
    """Refuse outputs that would destroy something, and shards that there cannot be."""
    if shard_rows is None:
        if os.path.lexists(os.path.join(output, MANIFEST)):
            step = "choose another name, or say how large shards are with `shard_rows`"
            raise UsageError("a directory of shards is there", os.fspath(output), next_step=step)
        options.refuse_overwrites(output, "index", vectors, check_queries, overwrite=overwrite)
        return
    check_shards(shard_rows, None)
    options.refuse_directory(output, vectors, check_queries, overwrite=overwrite)


def _counted(
    batches: Iterator[Batch], source: VectorSource, progress: Progress | None
) -> Iterator[Batch]:
    """Pass batches on, and tell how many rows are done once the next is asked for."""
    for batch in batches:
        yield batch
        if progress is not None:
            progress(batch.start + len(batch), source.rows)


def _open(
    vectors: Vectors,
    column: str | None,
    id_column: str | None,
    packed: Packed | None,
    bits: int | None,
    on_error: OnError,
) -> VectorSource:
    """Open the input; ``bits`` is the true width of codes, and not said of floats."""
    packed_bits = bits if packed in LAYOUTS else None
    source = open_vectors(
        vectors,
        column=column,
        id_column=id_column,
        packed=packed,
        bits=packed_bits,
        on_error=on_error,
    )
    if source.packed and bits not in (None, source.dim):
        # Fixed-size binary is bits without being said to be.
        source.close()
        source = open_vectors(
            vectors, column=column, id_column=id_column, bits=bits, on_error=on_error
        )
    return source


def _refuse_for_packed(
    options: BinarizerOptions, rescore: StoredVectors, source: VectorSource
) -> None:
    """Refuse what needs floats, where the input is bits."""
    if rescore != "none":
        raise UsageError(
            "an index built from bits stores no vectors",
            "`rescore`",
            "none",
            rescore,
            "build from the float vectors",
        )
    if options.truncate_dim is not None:
        raise UsageError("bits cannot be truncated", "`truncate_dim`", "float vectors", source.name)
    if needs_fit(options):
        raise UsageError(
            f"method {options.method} cannot be fitted on bits",
            "`method`",
            "sign",
            str(options.method),
            "give the fitted binarizer with `binarizer`",
        )
    if options.save_binarizer is not None and options.binarizer is None and options.method is None:
        raise UsageError("there is no binarizer to save", "`save_binarizer`", "float vectors")


def _scan_of(
    options: BinarizerOptions, binarizer: Binarizer | None, source: VectorSource, dim: int
) -> Scoring:
    """Return the scan of the index, if what there is suffices for it."""
    scan = options.scoring or default_scoring(binarizer.method if binarizer else None)
    if scan == "asymmetric":
        if source.packed and (binarizer is None or binarizer.needs_terms):
            raise UsageError(
                "an index built from bits has nothing for an asymmetric scan",
                "`scoring`",
                "hamming",
                "asymmetric",
                "build from the float vectors, or say `method=sign` under cosine",
            )
        refuse_wide(binarizer.bits if binarizer else dim)
    return scan


def _binarizer_for(
    options: BinarizerOptions,
    source: VectorSource,
    dim: int,
    sample: Sample | None,
    threads: int,
    kind: Kind,
) -> Binarizer | None:
    """Return the binarizer of the index, or None for bits of unknown origin."""
    if not source.packed:
        return choose_binarizer(options, dim, sample, threads, distance=kind == "hnsw")
    if options.binarizer is None:
        return choose_binarizer(options, dim, None, threads) if options.method else None
    binarizer = binarizers.load(options.binarizer)
    if binarizer.bits != dim:
        raise InputError(
            "the binarizer gives codes of another width",
            str(options.binarizer),
            f"{dim} bits",
            f"{binarizer.bits} bits",
        )
    return binarizer
