"""Building an index: vectors stream in, codes and payload stream out, one file appears."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from binq import binarizers
from binq import bits as packing
from binq.binarizers import Binarizer, default_scoring
from binq.building.choose import BinarizerChoice, choose_binarizer, keep_binarizer, needs_fit
from binq.errors import InputError, UsageError
from binq.similarity import unit_rows
from binq.storage.format import Header
from binq.storage.ids import IdWriter
from binq.storage.sections import Int8Range, TermWriter, VectorWriter
from binq.storage.writer import creation_time, writing_index
from binq.threads import limited
from binq.types import (
    DEFAULT_SAMPLE,
    LAYOUTS,
    SCORINGS,
    STORED_VECTORS,
    Layout,
    Method,
    Metric,
    Progress,
    Scoring,
    StoredVectors,
    Vectors,
)
from binq.vectors import VectorSource, open_vectors
from binq.vectors.sample import Sample, read_sample, rewindable, started
from binq.version import __version__


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes
    ----------
    rows, dim, bits : int
    method : str or None
        None for bits of unknown origin.
    rescore : str
        The payload.
    size : int
        Of the file, in bytes.
    chosen_by : str or None
        What ``method="auto"`` picked and why.
    """

    rows: int
    dim: int
    bits: int
    method: str | None
    rescore: StoredVectors
    size: int
    chosen_by: str | None = None


def build(
    vectors: Vectors,
    output: str | os.PathLike[str],
    *,
    method: Method | Literal["auto"] | None = None,
    bits: int | None = None,
    truncate_dim: int | None = None,
    metric: Metric = "cosine",
    seed: int = 0,
    sample: int = DEFAULT_SAMPLE,
    save_binarizer: str | os.PathLike[str] | None = None,
    binarizer: str | os.PathLike[str] | None = None,
    scoring: Scoring | None = None,
    rescore: StoredVectors = "none",
    packed: Layout | Literal["none"] | None = None,
    column: str | None = None,
    id_column: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an index file; it appears whole under its name, or not at all.

    Parameters
    ----------
    vectors : path, list of paths, "-" or (n, dim) array
        Floats or packed bits.
    output : path
    method : str, optional
        One of :data:`binq.METHODS`, or auto for the best on rows held out of the
        sample under ``scoring``, see :mod:`binq.building.auto`; default sign. For packed input
        it says how the bits came about, so that the index takes float queries; only sign can be
        said, anything else needs ``binarizer``.
    bits : int, optional
        Wanted width of a code; of packed input its true width.
    truncate_dim : int, optional
        Binarize only the first so many dimensions; the payload keeps all.
    metric : {"cosine", "ip", "l2"}
    seed, sample : int
        A fit sees at most ``sample`` rows, drawn with ``seed``.
    save_binarizer, binarizer : path, optional
        Where to keep the fitted binarizer; a fitted one to use.
    scoring : {"hamming", "asymmetric"}, optional
        The scan that the index is for; default the one that the method's codes are made for.
    rescore : {"none", "int8", "float16", "float32"}
        Vectors to store for rescoring.
    packed : {"none", "ubinary", "binary", "lsb"}, optional
        What 8-bit input is.
    column, id_column : str, optional
        Columns to read, where they are not found by themselves.
    threads : int, optional
        Default: as many as the process may use.
    progress : callable, optional
        Called with (rows done, rows in all or None).

    Returns
    -------
    BuildReport

    Raises
    ------
    UsageError, InputError, EnvironmentFailure

    Warns
    -----
    BinqWarning
        If an id stands on more than one row.
    """
    if rescore not in STORED_VECTORS:
        raise UsageError("unknown payload", "`rescore`", ", ".join(STORED_VECTORS), str(rescore))
    if scoring is not None and scoring not in SCORINGS:
        raise UsageError("unknown scoring", "`scoring`", ", ".join(SCORINGS), str(scoring))
    choice = BinarizerChoice(
        method,
        bits,
        truncate_dim,
        metric,
        seed,
        sample,
        binarizer,
        save_binarizer,
        scoring or "hamming",
    )
    with ExitStack() as stack:
        count = stack.enter_context(limited(threads))
        source = stack.enter_context(_open(vectors, column, id_column, packed, bits))
        found = None
        if source.packed:
            _refuse_for_packed(choice, rescore, source)
        elif needs_fit(choice) or rescore == "int8":
            source, rows = rewindable(source, Path(os.path.realpath(output)).parent, stack)
            found = read_sample(source, rows, sample, seed, metric)
        dim, batches = started(source, stack)
        fitted = _binarizer_for(choice, source, dim, found, count)
        scan = scoring or default_scoring(fitted.method if fitted else None)
        if scan == "asymmetric" and source.packed:
            _refuse_asymmetric(fitted)
        width = fitted.bits if fitted else dim
        words = packing.words_for(width)

        writer = stack.enter_context(writing_index(output))
        writer.section("codes", np.uint64, (words,))
        terms = TermWriter(writer, metric)
        payload = None
        if rescore != "none":
            spread = Int8Range.spanning(found.low, found.high) if found else None
            payload = VectorWriter(writer, rescore, dim, spread if rescore == "int8" else None)
        ids = IdWriter(writer)
        rows = 0
        for batch in batches:
            locate = source.locator(batch.start)
            if fitted is None or source.packed:
                writer.append("codes", batch.vectors)
            elif scan == "hamming":
                writer.append("codes", fitted.encode(batch.vectors, locate, count))
            else:
                codes, found_terms = fitted.encode_with_terms(batch.vectors, locate, count)
                writer.append("codes", codes)
                terms.append(found_terms)
            if payload is not None:
                kept = unit_rows(batch.vectors, locate) if metric == "cosine" else batch.vectors
                payload.append(kept, locate)
            ids.append(batch.ids)
            rows += len(batch.vectors)
            if progress is not None:
                progress(rows, source.rows)
        ids.warn_of_duplicates()
        if fitted is not None:
            for name, array in fitted.arrays().items():
                writer.add(f"binarizer.{name}", array)
        header = Header(
            rows=rows,
            dim=fitted.dim if fitted else dim,
            bits=width,
            words=words,
            metric=metric,
            binarizer=fitted.settings() if fitted else None,
            created=creation_time(),
            binq=__version__,
            scoring=scan,
            rescore=rescore,
            ids=ids.kind,
            packed=source.layout,
            sources=source.describe(),
            model=source.metadata,
        )
        writer.finish(header)
        keep_binarizer(choice, fitted)
    return BuildReport(
        rows,
        header.dim,
        width,
        fitted.method if fitted else None,
        rescore,
        os.stat(output).st_size,
        fitted.chosen_by if fitted and method == "auto" else None,
    )


def _open(
    vectors: Vectors,
    column: str | None,
    id_column: str | None,
    packed: Layout | Literal["none"] | None,
    bits: int | None,
) -> VectorSource:
    """Open the input; ``bits`` is the true width of codes, and not said of floats."""
    packed_bits = bits if packed in LAYOUTS else None
    source = open_vectors(
        vectors, column=column, id_column=id_column, packed=packed, bits=packed_bits
    )
    if source.packed and bits not in (None, source.dim):
        # Fixed-size binary is bits without being said to be.
        source.close()
        source = open_vectors(vectors, column=column, id_column=id_column, bits=bits)
    return source


def _refuse_for_packed(
    choice: BinarizerChoice, rescore: StoredVectors, source: VectorSource
) -> None:
    """Refuse what needs floats, where the input is bits."""
    if rescore != "none":
        raise UsageError(
            "an index built from bits takes no payload",
            "`rescore`",
            "none",
            rescore,
            "build from the float vectors",
        )
    if choice.truncate_dim is not None:
        raise UsageError("bits cannot be truncated", "`truncate_dim`", "float vectors", source.name)
    if needs_fit(choice):
        raise UsageError(
            f"method {choice.method} cannot be fitted on bits",
            "`method`",
            "sign",
            str(choice.method),
            "give the fitted binarizer with `binarizer`",
        )
    if choice.save_to is not None and choice.load_from is None and choice.method is None:
        raise UsageError("there is no binarizer to save", "`save_binarizer`", "float vectors")


def _refuse_asymmetric(binarizer: Binarizer | None) -> None:
    """Refuse an asymmetric scan of bits whose floats are not there to say more of them."""
    if binarizer is None or binarizer.needs_terms:
        raise UsageError(
            "an index built from bits has nothing for an asymmetric scan",
            "`scoring`",
            "hamming",
            "asymmetric",
            "build from the float vectors, or say `method=sign` under cosine",
        )


def _binarizer_for(
    choice: BinarizerChoice, source: VectorSource, dim: int, found: Sample | None, threads: int
) -> Binarizer | None:
    """Return the binarizer of the index, or None for bits of unknown origin."""
    if not source.packed:
        return choose_binarizer(choice, dim, found, threads)
    if choice.load_from is None:
        return choose_binarizer(choice, dim, None, threads) if choice.method else None
    binarizer = binarizers.load(choice.load_from)
    if binarizer.bits != dim:
        raise InputError(
            "the binarizer gives codes of another width",
            str(choice.load_from),
            f"{dim} bits",
            f"{binarizer.bits} bits",
        )
    return binarizer
