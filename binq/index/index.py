"""An open index: what it holds, how queries are prepared for it, how it is searched."""

from __future__ import annotations

import math
import os
from contextlib import closing
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers import RowTerms
from binq.errors import InputError, UsageError
from binq.search.adaptive import DEFAULT_TARGET
from binq.search.hits import Hits, RadiusHits
from binq.search.pipeline import Ladder, Originals
from binq.search.queries import Queries, joined
from binq.search.rescore import VectorStore
from binq.similarity import unit_rows
from binq.storage.reader import IndexFile
from binq.storage.sections import StoredVectorReader, restore_binarizer, row_terms
from binq.structures.flat import FlatIndex
from binq.threads import resolve
from binq.types import (
    DEFAULT_OVERSAMPLE,
    LAYOUTS,
    RESCORES,
    SCORINGS,
    Layout,
    Metric,
    Rescore,
    Scoring,
    Vectors,
)
from binq.vectors import VectorSource, open_vectors


class Index:
    """An open index.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    file : IndexFile
        Header, sections and identity.
    binarizer : Binarizer or None
        None for an index built from bits of unknown origin: it takes packed queries only.
    ids : StoredIds or None
        None where the id is the row number.

    Raises
    ------
    IndexFileError
        If it is missing, not an index, damaged or of an unsupported version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = IndexFile(path)
        self.binarizer = restore_binarizer(self.file)
        self.ids = self.file.ids()
        self.codes = FlatIndex.from_file(self.file)

    def __len__(self) -> int:
        return self.file.header.rows

    def __repr__(self) -> str:
        header = self.file.header
        return f"<binq.Index {self.file.path}: {header.rows} x {header.bits} bits>"

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.file.header.bits

    @property
    def dim(self) -> int:
        """Dimensions of the float vectors."""
        return self.file.header.dim

    @property
    def metric(self) -> Metric:
        """What scores, rescoring and truth mean."""
        return cast(Metric, self.file.header.metric)

    def search(
        self,
        queries: NDArray[Any],
        k: int = 10,
        *,
        scoring: Scoring | None = None,
        rescore: Rescore = "auto",
        rescore_from: Vectors | VectorSource | None = None,
        oversample: float | Literal["auto"] = DEFAULT_OVERSAMPLE,
        target_recall: float | None = None,
        packed: Layout | None = None,
        threads: int | None = None,
    ) -> Hits:
        """Find the best k rows of every query.

        Parameters
        ----------
        queries : (q, dim) floats, or (q, ceil(bits / 8)) packed bits
        k : int
            At least 1; of n rows at most n are returned.
        scoring : {"hamming", "asymmetric"}, optional
            The scan; None means the index's own.
        rescore : {"auto", "none", "codes", "int8", "float16", "float32"}
            What sorts the survivors. ``auto`` is ``rescore_from`` if given, else the payload, else
            the codes after an asymmetric scan, else none.
        rescore_from : path or array, optional
            The vectors that the index was built from.
        oversample : float or "auto"
            ceil(k * oversample) survivors are rescored; ``auto`` decides query by query.
        target_recall : float, optional
            With ``auto``: the share of the scan's best k to keep. Default 0.99.
        packed : {"ubinary", "binary", "lsb"}, optional
            The layout of packed queries.
        threads : int, optional
            Default: as many as the process may use.

        Returns
        -------
        Hits

        Raises
        ------
        UsageError, InputError
        """
        ladder = self.ladder(
            scoring=scoring,
            rescore=rescore,
            rescore_from=rescore_from,
            oversample=oversample,
            target_recall=target_recall,
            packed=packed is not None,
            threads=threads,
        )
        with ladder:
            return ladder.search(self.prepare(queries, packed), k)

    def radius_search(
        self,
        queries: NDArray[Any],
        radius: int,
        *,
        k: int | None = None,
        scoring: Scoring | None = None,
        rescore: Rescore = "none",
        rescore_from: Vectors | VectorSource | None = None,
        packed: Layout | None = None,
        threads: int | None = None,
    ) -> RadiusHits:
        """Find every row at Hamming distance at most ``radius``.

        Parameters
        ----------
        queries, scoring, rescore_from, packed, threads
            As for :meth:`search`.
        radius : int
            At least 0.
        k : int, optional
            Keep the best k of them.
        rescore : {"auto", "none", "codes", "int8", "float16", "float32"}
            Default none.

        Returns
        -------
        RadiusHits

        Raises
        ------
        UsageError, InputError
        """
        ladder = self.ladder(
            scoring=scoring,
            rescore=rescore,
            rescore_from=rescore_from,
            packed=packed is not None,
            threads=threads,
        )
        with ladder:
            return ladder.radius_search(self.prepare(queries, packed), radius, k)

    def prepare(
        self, queries: NDArray[Any], packed: Layout | None = None, name: str = "queries"
    ) -> Queries:
        """Bring queries into the form in which the index compares them.

        Parameters
        ----------
        queries : (q, dim) or (q, truncate_dim) floats, or packed bits
        packed : {"ubinary", "binary", "lsb"}, optional
            The layout of packed queries.
        name : str
            What messages call them.

        Raises
        ------
        UsageError
            If the layout is unknown.
        InputError
            If they do not fit the index, are not finite, or zero under cosine.
        """
        queries = np.asarray(queries)
        if packed is not None:
            if packed not in LAYOUTS:
                raise UsageError("unknown layout", "packed", ", ".join(LAYOUTS), str(packed))
            return Queries(codes=packing.from_layout(queries, self.bits, packed, where=name))
        if queries.ndim != 2 or queries.dtype.kind not in "fiu" or queries.dtype.itemsize == 1:
            raise InputError(
                "these are not float vectors",
                name,
                "a 2-D array of floats",
                f"{queries.ndim}-D {queries.dtype}",
                "say with packed= which layout bits are in",
            )
        with closing(open_vectors(queries)) as source:
            vectors = [self.prepare_vectors(batch.vectors, name) for batch in source.batches()]
        if not vectors:
            return self.prepare_vectors(np.empty((0, self.dim), np.float32), name)
        return joined(vectors)

    def prepare_vectors(
        self, vectors: NDArray[np.float32], name: str = "queries", first_row: int = 0
    ) -> Queries:
        """As :meth:`prepare`, for finite float32 vectors."""

        def locate(row: int) -> str:
            return f"{name} row {first_row + row}"

        if self.binarizer is None:
            raise InputError(
                "this index was built from bits, and nothing says how they came about",
                name,
                "packed queries",
                "float queries",
                "give packed bits with `packed`, or build with `method=sign` or `binarizer`",
            )
        dims = {self.binarizer.dim, self.binarizer.input_dim}
        if vectors.shape[1] not in dims:
            raise InputError(
                "the queries have another dimension than the index",
                name,
                " or ".join(map(str, sorted(dims, reverse=True))),
                str(vectors.shape[1]),
                "encode them with the model that encoded the documents",
            )
        unit = unit_rows(vectors, locate) if self.metric == "cosine" else vectors
        return Queries(unit, binarizer=self.binarizer)

    def ladder(
        self,
        *,
        scoring: Scoring | None = None,
        rescore: Rescore = "auto",
        rescore_from: Vectors | VectorSource | None = None,
        oversample: float | Literal["auto"] = DEFAULT_OVERSAMPLE,
        target_recall: float | None = None,
        packed: bool = False,
        threads: int | None = None,
    ) -> Ladder:
        """Decide how to search: check the options once, for any number of queries.

        Parameters
        ----------
        packed : bool
            The queries will be bits.

        Other parameters are those of :meth:`search`.

        Raises
        ------
        UsageError
            If options are unknown or contradict each other.
        InputError
            If the index does not hold what they ask for.
        """
        if scoring is not None and scoring not in SCORINGS:
            raise UsageError("unknown scoring", "`scoring`", ", ".join(SCORINGS), str(scoring))
        if rescore not in RESCORES:
            raise UsageError("unknown rescoring", "`rescore`", ", ".join(RESCORES), str(rescore))
        if oversample != "auto" and (not oversample >= 1 or math.isinf(oversample)):
            raise UsageError(
                "the oversample is too small",
                "`oversample`",
                "a number of at least 1, or auto",
                str(oversample),
            )
        if target_recall is not None and oversample != "auto":
            raise UsageError("`target_recall` goes with `oversample=auto`")
        if target_recall is not None and not 0 < target_recall < 1:
            raise UsageError(
                "the target is out of range",
                "`target_recall`",
                "between 0 and 1",
                str(target_recall),
            )
        if packed and (rescore not in ("auto", "none") or rescore_from is not None):
            raise UsageError(
                "packed queries cannot be rescored",
                "`rescore`",
                "none",
                rescore,
                "give the queries as floats",
            )
        if rescore_from is not None and rescore != "auto":
            raise UsageError(
                "`rescore_from` already says what sorts the survivors",
                next_step="leave out `rescore`",
            )
        scan = scoring or cast(Scoring, self.file.header.scoring)
        if packed:
            if scoring == "asymmetric":
                raise UsageError(
                    "packed queries always scan Hamming",
                    "`scoring`",
                    "hamming",
                    scoring,
                    "give the queries as floats",
                )
            scan = "hamming"
        source = None
        store: VectorStore | None = None
        if rescore_from is not None:
            source = (
                rescore_from
                if isinstance(rescore_from, VectorSource)
                else open_vectors(rescore_from)
            )
            store = Originals(source, self.file.header)
        elif rescore not in ("none", "codes") and not packed:
            store = self._payload(rescore)
        by_codes = store is None and (
            rescore == "codes" or (rescore == "auto" and scan == "asymmetric")
        )
        by_terms = by_codes or scan == "asymmetric"
        terms = row_terms(self.file, self.binarizer) if by_terms else RowTerms()
        return Ladder(
            self.codes,
            self.ids,
            self.metric,
            scan,
            by_codes,
            store,
            terms,
            None if oversample == "auto" else oversample,
            resolve(threads),
            DEFAULT_TARGET if target_recall is None else target_recall,
            self.binarizer,
            source,
        )

    def _payload(self, wanted: Rescore) -> VectorStore | None:
        stored = self.file.header.rescore
        if wanted not in ("auto", stored):
            raise InputError(
                f"the index stores no {wanted} payload",
                str(self.file.path),
                wanted,
                stored,
                f"build it with `rescore={wanted}`, or use `rescore_from=VECTORS`",
            )
        return None if stored == "none" else StoredVectorReader(self.file)
