"""An open index: what it holds, how queries are prepared for it, how it is searched."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import Any, Self, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.errors import InputError, UsageError, renamed
from binq.search.filters import allowed_rows
from binq.search.hits import Hits, RadiusHits
from binq.search.options import SearchOptions, SearchSettings
from binq.search.pipeline import Pipeline
from binq.search.rescore import ByCodes, ByVectors, Originals, Rescorer
from binq.similarity import comparable
from binq.storage.directory import Stored
from binq.storage.downloads import open_index
from binq.storage.sections import restore_binarizer, stored_vectors
from binq.structures import restore_structure
from binq.structures.base import Scope, Structure
from binq.structures.queries import Queries, joined
from binq.threads import resolve
from binq.types import DEFAULT_K, LAYOUTS, Layout, Locate, Metric, Rescore, Scoring
from binq.vectors import VectorSource, open_vectors


class Index:
    """An open index; ``with`` closes it, and so does letting go of it.

    Parameters
    ----------
    path : path, URI, IndexFile or IndexDirectory
        Of a file, of a directory of shards, or the URI of one in an object store: what stands there
        is fetched once, and kept in the user's cache.

    Attributes
    ----------
    file : IndexFile or IndexDirectory
        Header and identity, and the sections, which a directory holds by shard.
    binarizer : Binarizer or None
        None for an index built from bits of unknown origin: it takes packed queries only.
    ids : StoredIds or None
        None where the id is the row number.
    structure : Structure
        What finds candidates among the codes.

    Raises
    ------
    IndexFileError
        If it is missing, not an index, damaged or of an unsupported version.
    """

    def __init__(self, path: str | os.PathLike[str] | Stored) -> None:
        self.file: Stored = open_index(path) if isinstance(path, (str, os.PathLike)) else path
        header = self.file.header
        self.binarizer = restore_binarizer(self.file.shards[0])
        self.ids = self.file.ids()
        self.structure: Structure = restore_structure(self.file, self.binarizer)
        alive = self.file.alive()
        self._alive = None if alive is None else packing.unpack(alive[None], header.rows)[0]
        self._pipelines: dict[tuple[SearchOptions, bool, bool], Pipeline] = {}

    def __len__(self) -> int:
        """Return the number of rows that are alive."""
        rows = self.file.header.rows
        return rows if self._alive is None else int(np.count_nonzero(self._alive))

    def __repr__(self) -> str:
        header = self.file.header
        return f"<binq.Index {self.file.path}: {len(self)} x {header.bits} bits>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, after which the index is not searched; hits keep what they show."""
        self._pipelines.clear()
        self.file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # By path and UUID: an index that was replaced meanwhile is refused.
        return type(self), (self.file,)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.file.header.bits

    @property
    def dim(self) -> int:
        """Dimensions of the float vectors."""
        return self.file.header.dim

    @property
    def dims(self) -> tuple[int, ...]:
        """The lengths of float queries that it takes; none if it takes packed ones only."""
        if self.binarizer is None:
            return ()
        return tuple(dict.fromkeys((self.binarizer.dim, self.binarizer.input_dim)))

    @property
    def metric(self) -> Metric:
        """What scores, rescoring and truth mean."""
        return cast(Metric, self.file.header.metric)

    def search(
        self, queries: NDArray[Any], k: int = DEFAULT_K, **settings: Unpack[SearchSettings]
    ) -> Hits:
        """Find the best k rows of every query.

        Parameters
        ----------
        queries : (q, dim) floats, or (q, ceil(bits / 8)) packed bits; of one dimension: one query
        k : int
            At least 1; of n rows at most n are returned.
        settings
            The fields of :class:`binq.search.options.SearchOptions`, such as ``rescore="int8"``.

        Returns
        -------
        Hits

        Raises
        ------
        UsageError, InputError
        """
        options = SearchOptions(**settings)
        layout = _layout(options)
        with self.pipeline(options, packed=layout is not None) as pipeline:
            return pipeline.search(self.prepare(queries, layout), k)

    def radius_search(
        self,
        queries: NDArray[Any],
        radius: int,
        *,
        k: int | None = None,
        **settings: Unpack[SearchSettings],
    ) -> RadiusHits:
        """Find every row at Hamming distance at most ``radius``.

        Parameters
        ----------
        queries, settings
            As for :meth:`search`; rescoring by default is none.
        radius : int
            At least 0.
        k : int, optional
            Keep the best k of them.

        Returns
        -------
        RadiusHits

        Raises
        ------
        UsageError, InputError
        """
        options = SearchOptions(**settings)
        layout = _layout(options)
        with self.pipeline(options, packed=layout is not None, radius=True) as pipeline:
            return pipeline.radius_search(self.prepare(queries, layout), radius, k)

    def prepare(
        self, queries: NDArray[Any], packed: Layout | None = None, name: str = "queries"
    ) -> Queries:
        """Bring queries into the form in which the index compares them.

        Parameters
        ----------
        queries : (q, dim) or (q, truncate_dim) floats, or packed bits; of one dimension: one query
        packed : {"ubinary", "binary", "lsb"}, optional
            The layout of packed queries.
        name : str
            What messages call them.

        Raises
        ------
        UsageError
            If the layout is unknown.
        InputError
            If they do not fit the index, are not finite, zero under cosine, or of a norm above
            2^62 otherwise.
        """
        queries = as_rows(queries)
        if packed is not None:
            return Queries(codes=packing.from_layout(queries, self.bits, packed, where=name))
        if queries.ndim != 2 or queries.dtype.kind not in "fiu" or queries.dtype.itemsize == 1:
            raise InputError(
                "these are not float vectors",
                name,
                "a 2-D array of floats",
                f"{queries.ndim}-D {queries.dtype}",
                "give numpy.stack of the vectors, as of a frame's column"
                if queries.dtype.hasobject
                else "say with `packed` which layout bits are in",
            )
        if queries.dtype == np.float32 and np.isfinite(queries).all():
            return self.prepare_vectors(np.ascontiguousarray(queries), name)
        with closing(open_vectors(queries)) as source:
            vectors = [
                self.prepare_vectors(batch.vectors, name, _named(name, batch.start))
                for batch in source.batches()
            ]
        if not vectors:
            return self.prepare_vectors(np.empty((0, self.dim), np.float32), name)
        return joined(vectors)

    def prepare_vectors(
        self,
        vectors: NDArray[np.float32],
        name: str = "queries",
        locate: Locate | None = None,
    ) -> Queries:
        """As :meth:`prepare`, for finite float32 vectors; ``locate`` names a row in messages."""
        locate = locate or _named(name, 0)
        if self.binarizer is None:
            raise InputError(
                "this index was built from bits, and nothing says how they came about",
                name,
                "packed queries",
                "float queries",
                "give packed bits with `packed`, or build with `method=sign` or `binarizer`",
            )
        if vectors.shape[1] not in self.dims:
            raise InputError(
                "the queries have another dimension than the index",
                name,
                " or ".join(map(str, self.dims)),
                str(vectors.shape[1]),
                "encode them with the model that encoded the documents",
            )
        try:
            ready = comparable(vectors, self.metric, locate)
        except InputError as error:
            # The metric is the index's: who asks cannot take another.
            error.next_step = error.next_step.partition(", or use `metric=")[0]
            raise
        return Queries(ready, binarizer=self.binarizer)

    def pipeline(
        self, options: SearchOptions, *, packed: bool = False, radius: bool = False
    ) -> Pipeline:
        """Decide how to search, once for any number of queries; to be closed at the end.

        Parameters
        ----------
        options : SearchOptions
        packed : bool
            The queries will be bits.
        radius : bool
            All rows within a radius are wanted, by default in the order of the scan.

        Raises
        ------
        UsageError
            If the options do not go with the index or the queries.
        InputError
            If the index does not hold what they ask for.
        """
        own = options.rescore_from is options.filter_ids is options.exclude_ids is None
        key = (options, packed, radius)
        if own and key in self._pipelines:
            return self._pipelines[key]
        if packed:
            options.check_packed()
        if radius:
            options.check_radius()
        if options.effort is not None:
            self.structure.check(options.effort)
        scoring = options.scoring or cast(Scoring, self.file.header.scoring)
        if packed:
            scoring = "hamming"
        if scoring == "asymmetric":
            self.structure.require_terms()  # refused here, if the index holds none
        rescore = options.rescore or ("none" if radius else "auto")
        threads = resolve(options.threads)
        allowed = allowed_rows(
            self.ids, self._alive, self.file.header.rows, options.filter_ids, options.exclude_ids
        )
        with ExitStack() as stack:
            rescorer: Rescorer | None = None
            if options.rescore_from is not None:
                source = _opened(options, stack)
                store = Originals(source, self.file.header, force=options.force)
                rescorer = ByVectors("file", store, self.metric)
            elif not packed:
                rescorer = self._rescorer(rescore, scoring)
            pipeline = Pipeline(
                self.structure,
                self.ids,
                scoring,
                rescorer,
                None if options.factor == "auto" else options.factor,
                Scope(allowed, options.effort, threads),
                self.binarizer,
                self.file.require_unchanged,
                stack.pop_all(),
            )
        if own:
            self._pipelines[key] = pipeline
        return pipeline

    def _rescorer(self, rescore: Rescore, scoring: Scoring) -> Rescorer | None:
        """Return what the index itself holds to sort candidates by, or None for nothing."""
        header = self.file.header
        if rescore == "none":
            return None
        if rescore not in ("auto", "codes", header.rescore):
            raise InputError(
                f"the index stores no {rescore} vectors",
                str(self.file.path),
                rescore,
                header.rescore,
                f"build it with `rescore={rescore}`, or use `rescore_from=VECTORS`",
            )
        if rescore != "codes" and header.rescore != "none":
            return ByVectors(header.rescore, stored_vectors(self.file), self.metric)
        if rescore == "auto" and scoring == "hamming":
            return None
        self.structure.require_terms()  # refused here, if the index holds none
        assert self.binarizer is not None
        return ByCodes(self.structure, self.binarizer)


def as_rows(queries: Any) -> NDArray[Any]:
    """Return queries as an array in which a single one, of one dimension, is a row."""
    rows = np.asarray(queries)
    return rows[None] if rows.ndim == 1 else rows


def _named(name: str, start: int) -> Locate:
    """Return what names rows that are counted from row ``start``."""
    return lambda row: f"{name} row {start + row}"


def _opened(options: SearchOptions, stack: ExitStack) -> VectorSource:
    """Return the vectors to rescore by; those that are opened here are closed with ``stack``."""
    given = options.rescore_from
    assert given is not None
    if isinstance(given, VectorSource):
        return given
    with renamed("column", "rescore_column"):
        return stack.enter_context(open_vectors(given, column=options.rescore_column))


def _layout(options: SearchOptions) -> Layout | None:
    """Return the layout of packed queries in an array, or None for floats."""
    packed = options.packed
    if packed is None or packed == "none":
        return None
    if packed not in LAYOUTS:
        raise UsageError("unknown layout", "`packed`", ", ".join(LAYOUTS), str(packed))
    return packed
