"""Vectors in, codes out; and how a binarizer is chosen, which builds share."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from binq import binarizers
from binq import bits as packing
from binq.binarizers import Binarizer, Method, Scoring, auto
from binq.bits import LAYOUTS, Layout
from binq.errors import InputError, UsageError
from binq.similarity import METRICS, Metric
from binq.storage.publish import published
from binq.survey import Survey, rewindable, started, survey
from binq.threads import limited
from binq.vectors import VectorSource, open_vectors

Progress = Callable[[int, int | None], None]
Vectors = str | os.PathLike[str] | list[str] | NDArray[Any]

DEFAULT_SAMPLE: Final = 100_000


@dataclass(frozen=True)
class BinarizerChoice:
    """How vectors shall become bits.

    Attributes
    ----------
    method : str or None
        None stands for sign, or for "not said" where the input is bits already; auto for the best
        on rows held out of the sample.
    width : int or None
        Wanted bits per code.
    truncate_dim : int or None
    metric : str
    seed : int
        Draws the sample.
    sample : int
        Rows to fit on, at most.
    load_from, save_to : path or None
        A fitted binarizer to use in place of a fit; where to keep the one that is used.
    scoring : str
        The scan that auto chooses for.
    """

    method: Method | Literal["auto"] | None = None
    width: int | None = None
    truncate_dim: int | None = None
    metric: Metric = "cosine"
    seed: int = 0
    sample: int = DEFAULT_SAMPLE
    load_from: str | os.PathLike[str] | None = None
    save_to: str | os.PathLike[str] | None = None
    scoring: Scoring = "hamming"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError("unknown metric", "--metric", ", ".join(METRICS), self.metric)
        if self.sample < 1:
            raise UsageError("the sample is empty", "--sample", "at least 1", str(self.sample))
        if self.seed < 0:
            raise UsageError("the seed is negative", "--seed", "at least 0", str(self.seed))
        if self.load_from is not None:
            for option, value in (("--method", self.method), ("--truncate-dim", self.truncate_dim)):
                if value is not None:
                    raise UsageError(
                        f"--binarizer already says {option}", next_step=f"leave out {option}"
                    )


def choose_binarizer(
    choice: BinarizerChoice, dim: int, found: Survey | None, threads: int
) -> Binarizer:
    """Return the binarizer to use for vectors of ``dim`` dimensions: loaded, or fitted.

    Raises
    ------
    UsageError
        If the wanted width does not go with the method.
    InputError
        If a loaded binarizer is for another dimension or metric, or there is nothing to fit on.
    """
    if choice.load_from is not None:
        binarizer = binarizers.load(choice.load_from)
        if binarizer.dim != dim:
            raise InputError(
                "the binarizer is for another dimension",
                str(choice.load_from),
                str(dim),
                str(binarizer.dim),
                "use the one that was fitted on these vectors",
            )
        if binarizer.metric != choice.metric:
            raise InputError(
                "the binarizer is for another metric",
                str(choice.load_from),
                choice.metric,
                binarizer.metric,
                f"say --metric {binarizer.metric}",
            )
    elif choice.method == "auto":
        binarizer = auto.choose(
            dim,
            choice.metric,
            found.sample if found else np.empty((0, dim), np.float32),
            scoring=choice.scoring,
            bits=choice.width,
            truncate_dim=choice.truncate_dim,
            seed=choice.seed,
            threads=threads,
            locate=found.locate if found else str,
        )
    else:
        binarizer = binarizers.fit(
            choice.method or "sign",
            dim,
            choice.metric,
            found.sample if found else None,
            bits=choice.width,
            truncate_dim=choice.truncate_dim,
            seed=choice.seed,
            threads=threads,
            locate=found.locate if found else str,
        )
    if choice.width not in (None, binarizer.bits):
        raise UsageError(
            "the binarizer gives codes of another width",
            "--bits",
            str(binarizer.bits),
            str(choice.width),
        )
    return binarizer


def keep_binarizer(choice: BinarizerChoice, binarizer: Binarizer | None) -> None:
    """Save the binarizer if that is wanted, once all the input has been found good."""
    if choice.save_to is not None and binarizer is not None:
        binarizers.save(binarizer, choice.save_to)


def needs_fit(choice: BinarizerChoice) -> bool:
    """Return whether the vectors must be read once before they can be binarized."""
    if choice.load_from is not None:
        return False
    return choice.method == "auto" or binarizers.needs_sample(choice.method or "sign")


def binarize(
    vectors: Vectors,
    output: str | os.PathLike[str],
    *,
    method: Method | Literal["auto"] | None = None,
    bits: int | None = None,
    truncate_dim: int | None = None,
    metric: Metric = "cosine",
    layout: Layout = "ubinary",
    seed: int = 0,
    sample: int = DEFAULT_SAMPLE,
    save_binarizer: str | os.PathLike[str] | None = None,
    binarizer: str | os.PathLike[str] | None = None,
    column: str | None = None,
    id_column: str | None = None,
    packed: Literal["none"] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> int:
    """Turn float vectors into packed codes.

    Parameters
    ----------
    vectors : path, list of paths, "-" or (n, dim) array
    output : path
        ``.npy`` gets an (n, ceil(bits / 8)) array; ``.parquet`` gets the columns ``id`` (where
        there are ids) and ``code``, and the layout in its metadata.
    method : str, optional
        One of :data:`binq.binarizers.METHODS`, or auto for the best on rows held out of the
        sample, see :mod:`binq.binarizers.auto`; default sign.
    bits : int, optional
        Wanted width of a code.
    truncate_dim : int, optional
        Binarize only the first so many dimensions.
    metric : {"cosine", "ip", "l2"}
    layout : {"ubinary", "binary", "lsb"}
        See :mod:`binq.bits`.
    seed, sample : int
        A fit sees at most ``sample`` rows, drawn with ``seed``.
    save_binarizer, binarizer : path, optional
        Where to keep the fitted binarizer; a fitted one to use.
    column, id_column : str, optional
        Columns to read, where they are not found by themselves.
    packed : {"none"}, optional
        Says that 8-bit input is numbers.
    threads : int, optional
        Default: as many as the process may use.
    progress : callable, optional
        Called with (rows done, rows in all or None).
    notice : callable, optional
        Called with what auto picked and why.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    UsageError, InputError, EnvironmentFailure
    """
    if layout not in LAYOUTS:
        raise UsageError("unknown layout", "--layout", ", ".join(LAYOUTS), str(layout))
    kind = Path(output).suffix.lower()
    if kind not in _WRITERS:
        raise UsageError("unknown kind of output", str(output), "a name in .npy or .parquet")
    choice = BinarizerChoice(
        method, bits, truncate_dim, metric, seed, sample, binarizer, save_binarizer
    )
    with ExitStack() as stack:
        count = stack.enter_context(limited(threads))
        source = stack.enter_context(
            open_vectors(vectors, column=column, id_column=id_column, packed=packed)
        )
        if source.packed:
            raise InputError("these are bits already", source.name, "float vectors", "packed bits")
        found = None
        if needs_fit(choice):
            source, rows = rewindable(source, Path(output).resolve().parent, stack)
            found = survey(source, rows, sample, seed, metric)
        dim, batches = started(source, stack)
        fitted = choose_binarizer(choice, dim, found, count)
        if notice is not None and fitted.chosen_by is not None and choice.method == "auto":
            notice(fitted.chosen_by)
        file = stack.enter_context(published(output))
        writer = _WRITERS[kind](file, fitted.bits, layout, source)
        done = 0
        for batch in batches:
            codes = fitted.encode(batch.vectors, source.locator(batch.start), count)
            writer.append(packing.to_layout(codes, fitted.bits, layout), batch.ids)
            done += len(codes)
            if progress is not None:
                progress(done, source.rows)
        writer.finish()
        keep_binarizer(choice, fitted)
    return done


class _NpyWriter:
    """Writes an npy file of unknown length: the shape is put into the header at the end."""

    def __init__(self, file: BinaryIO, width: int, layout: Layout, source: VectorSource) -> None:
        del source  # an array has no place for ids and metadata
        self._file = file
        self._dtype = packing.layout_dtype(layout)
        self._width = packing.bytes_for(width)
        self._rows = 0
        self._write_header()

    def append(self, octets: NDArray[Any], ids: list[str] | None) -> None:
        del ids
        self._file.write(octets.tobytes())
        self._rows += len(octets)

    def finish(self) -> None:
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room for the first axis to grow, so that both headers are equally long.
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._rows, self._width),
            },
        )


class _ParquetWriter:
    """Writes the columns ``id`` and ``code``."""

    def __init__(self, file: BinaryIO, width: int, layout: Layout, source: VectorSource) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        element = pa.from_numpy_dtype(packing.layout_dtype(layout))
        self._width = packing.bytes_for(width)
        code = pa.field("code", pa.list_(element, self._width), nullable=False)
        fields = [pa.field("id", pa.string(), nullable=False), code] if source.has_ids else [code]
        facts = source.metadata | {"binq.layout": layout, "binq.bits": str(width)}
        self._schema = pa.schema(fields, metadata=facts)
        self._writer = pq.ParquetWriter(file, self._schema, compression="none")

    def append(self, octets: NDArray[Any], ids: list[str] | None) -> None:
        import pyarrow as pa

        codes = pa.FixedSizeListArray.from_arrays(pa.array(octets.reshape(-1)), self._width)
        columns = [codes] if ids is None else [pa.array(ids, pa.string()), codes]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def finish(self) -> None:
        self._writer.close()


_WRITERS: Final[dict[str, type[_NpyWriter] | type[_ParquetWriter]]] = {
    ".npy": _NpyWriter,
    ".parquet": _ParquetWriter,
}
