"""A fitted binarizer: vectors in, codes out, and the weights that queries score codes with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers.affine import Affine
from binq.binarizers.methods import TABLE, MethodSpec
from binq.errors import InputError
from binq.kernels.pack import pack
from binq.similarity import check_norms, unit_rows
from binq.types import MAX_DIM, METRICS, Locate, Method, Metric

_USUAL_SQUARES: Final = 2.0**100


@dataclass(frozen=True, eq=False)
class RowTerms:
    """What the asymmetric score of a row takes besides its bits.

    Attributes
    ----------
    factor : (n,) float32 or None
        None stands for ones.
    addend : (n,) float32 or None
        None stands for zeros.
    """

    factor: NDArray[np.float32] | None = None
    addend: NDArray[np.float32] | None = None

    def take(self, rows: NDArray[np.int64]) -> RowTerms:
        """Return the terms of some rows (m,)."""
        parts = (self.factor, self.addend)
        return RowTerms(*(None if part is None else part[rows] for part in parts))


@dataclass(frozen=True, eq=False)
class Weights:
    """Queries as the asymmetric scan takes them.

    The score of a row is ``(<values, b> + base) * factor + addend + offset``, b in -1 and +1.

    Attributes
    ----------
    values : (q, bits) float32
    base, offset : (q,) float32
    """

    values: NDArray[np.float32]
    base: NDArray[np.float32]
    offset: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Binarizer:
    """A fitted map from float vectors to codes.

    Attributes
    ----------
    method : str
        How the parameters were found.
    dim : int
        Dimensions of the vectors as they come in.
    metric : {"cosine", "ip", "l2"}
        Under cosine a vector is normalised after truncation, before anything else.
    affine : Affine
    truncate_dim : int or None
        Only the first so many dimensions are binarized.
    seed, sample : int or None
        What the fit was drawn with, and the number of rows it saw; None where nothing was fitted.
    chosen_by : str or None
        What ``--method auto`` picked and why, for people.
    """

    method: Method
    dim: int
    metric: Metric
    affine: Affine
    truncate_dim: int | None = None
    seed: int | None = None
    sample: int | None = None
    chosen_by: str | None = None

    @property
    def spec(self) -> MethodSpec:
        """What the table of methods says of its method."""
        return TABLE[self.method]

    @property
    def input_dim(self) -> int:
        """Dimensions that are binarized."""
        return self.affine.dim

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.affine.bits

    @property
    def needs_terms(self) -> bool:
        """Whether asymmetric scores need the terms of the rows."""
        return self.metric != "cosine" or self.spec.centred

    def cut(self, vectors: NDArray[np.float32], locate: Locate = str) -> NDArray[np.float32]:
        """Truncate vectors (n, dim) or (n, input_dim) to (n, input_dim).

        Raises
        ------
        InputError
            If they have another dimension; ``locate`` names a row in messages, given its number.
        """
        if vectors.shape[1] not in (self.dim, self.input_dim):
            raise InputError(
                "the vectors have another dimension than the binarizer",
                locate(0),
                str(self.dim),
                str(vectors.shape[1]),
                "use the vectors of the same model, with the same truncation",
            )
        return vectors[:, : self.input_dim]

    def prepare(
        self,
        vectors: NDArray[np.float32],
        locate: Locate = str,
        ready: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Truncate, and normalise under cosine.

        Parameters
        ----------
        vectors : (n, dim) or (n, input_dim) float32
        locate : callable
            Names a row in messages, given its number within ``vectors``.
        ready : (n, dim) float32, optional
            The same vectors as :func:`~binq.similarity.comparable` returns them, where they are at
            hand.

        Returns
        -------
        (n, input_dim) float32

        Raises
        ------
        InputError
            If the dimension does not fit, or a row cannot be compared under the metric.
        """
        cut = self.cut(vectors, locate)
        if self.metric == "cosine":
            return unit_rows(cut, locate) if ready is None or ready.shape != cut.shape else ready
        if ready is None:
            check_norms(vectors, locate)
        return cut

    def encode(
        self,
        vectors: NDArray[np.float32],
        locate: Locate = str,
        threads: int = 1,
        ready: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint64]:
        """Turn vectors into codes.

        Parameters
        ----------
        vectors : (n, dim) or (n, input_dim) float32
            Finite.
        locate, ready
            As for :meth:`prepare`.
        threads : int
            Affects speed only.

        Returns
        -------
        (n, words) uint64

        Raises
        ------
        InputError
            As :meth:`prepare`.
        """
        if self.affine.keeps_axes and self.affine.center is None and len(vectors):
            # Signs do not change with the length: the floats are touched once.
            cut = self.cut(vectors, locate)
            packed = pack(cut, None, threads)
            if self.metric == "cosine" and not packed.squares.all():
                doubtful = np.flatnonzero(packed.squares == 0)
                unit_rows(cut[doubtful], lambda row: locate(int(doubtful[row])))
            elif self.metric != "cosine" and ready is None:
                check_norms(vectors, locate, packed.squares if cut.shape == vectors.shape else None)
            return packed.codes
        return self._codes(self.prepare(vectors, locate, ready), threads)

    def signs(
        self,
        vectors: NDArray[np.float32],
        locate: Locate = str,
        threads: int = 1,
        ready: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint64]:
        """Return the signs of vectors about the centre: codes whose Hamming distance says much.

        Parameters
        ----------
        vectors, locate, threads, ready
            As for :meth:`encode`.

        Returns
        -------
        (n, ceil(input_dim / 64)) uint64
        """
        prepared = np.ascontiguousarray(self.prepare(vectors, locate, ready))
        return pack(prepared, self.affine.center, threads).codes

    def encode_with_terms(
        self,
        vectors: NDArray[np.float32],
        locate: Locate = str,
        threads: int = 1,
        ready: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.uint64], RowTerms]:
        """Turn vectors into codes, and compute what their asymmetric scores need besides.

        Parameters, errors
            As :meth:`encode`.

        Returns
        -------
        codes : (n, words) uint64
        terms : RowTerms
        """
        x = self.prepare(vectors, locate, ready)
        codes = self._codes(x, threads)
        factor = None
        if self.spec.needs_sample or self.metric != "cosine":
            factor = self.spec.factor(x, codes, self.affine, threads)
        addend = None
        if self.metric == "l2":
            addend = -np.einsum("ij,ij->i", x, x, dtype=np.float64).astype(np.float32)
        return codes, RowTerms(factor, addend)

    def weights(self, vectors: NDArray[np.float32]) -> Weights:
        """Return what queries (q, dim) or (q, input_dim) multiply codes with.

        From ``x ~ (center + b @ decoder) * factor``, or ``x ~ center + b @ decoder * factor`` where
        the factor is centred; and ``-|q - x|^2 = 2 <q, x> - |x|^2 - |q|^2``, where ``-|x|^2`` is
        the addend.
        """
        # Under ip and l2 they were checked where they came in, or stand in for such.
        queries = self.prepare(vectors) if self.metric == "cosine" else self.cut(vectors)
        values, base = self.affine.weights(queries)
        offset = np.zeros(len(queries), np.float32)
        if self.spec.centred:
            base, offset = offset, base
        if self.metric == "l2":
            squares = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
            values, base = 2 * values, 2 * base
            offset = (2 * offset - squares).astype(np.float32)
        _check_sums(values, base)
        return Weights(np.ascontiguousarray(values), base, offset)

    def _codes(self, x: NDArray[np.float32], threads: int) -> NDArray[np.uint64]:
        """Return the codes of prepared vectors."""
        affine = self.affine
        if not len(x):
            return np.empty((0, packing.words_for(self.bits)), np.uint64)
        if affine.keeps_axes:
            return pack(x, affine.center, threads).codes
        return packing.pack(self.spec.encode(x, affine, threads))

    def settings(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON can hold it."""
        return {
            "method": self.method,
            "dim": self.dim,
            "bits": self.bits,
            "metric": self.metric,
            "truncate_dim": self.truncate_dim,
            "seed": self.seed,
            "sample": self.sample,
            **({} if self.chosen_by is None else {"chosen_by": self.chosen_by}),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fitted arrays by name."""
        return self.affine.arrays() if self.spec.needs_sample else {}

    @classmethod
    def restore(cls, settings: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Binarizer:
        """Build a binarizer from what :meth:`settings` and :meth:`arrays` returned.

        Raises
        ------
        ValueError
            If something is missing, of a wrong type, shape or range.
        """
        names = ("dim", "bits", "truncate_dim", "seed", "sample")
        whole = {name: settings.get(name) for name in names}
        for name, value in whole.items():
            optional = name != "dim" and value is None
            if not optional and (type(value) is not int or not 0 <= value < 1 << 62):
                raise ValueError(f"{name} is not a whole number")
        method, metric = settings.get("method"), settings.get("metric")
        chosen_by = settings.get("chosen_by")
        if chosen_by is not None and not isinstance(chosen_by, str):
            raise ValueError("chosen_by is not a text")
        if not isinstance(method, str) or method not in TABLE:
            raise ValueError(f"the unknown method {method}")
        if metric not in METRICS:
            raise ValueError(f"the unknown metric {metric}")
        dim: int = whole["dim"]  # type: ignore[assignment]
        truncate_dim = whole["truncate_dim"]
        input_dim = dim if truncate_dim is None else truncate_dim
        if not 1 <= input_dim <= dim <= MAX_DIM:
            raise ValueError("truncate_dim is not between 1 and dim, or dim is too large")
        bits = input_dim if whole["bits"] is None else whole["bits"]
        if bits < 1:
            raise ValueError("bits are unknown")
        spec = TABLE[method]
        if not spec.allows(bits, input_dim):
            raise ValueError(f"method {method} does not give {bits} bits of {input_dim} dimensions")
        if spec.arrays != set(arrays):
            raise ValueError(f"method {method} takes {sorted(spec.arrays)}, not {sorted(arrays)}")
        given = spec.needs_sample
        affine = Affine(bits, input_dim, **arrays) if given else unfitted(method, input_dim)
        return cls(
            method, dim, metric, affine, truncate_dim, whole["seed"], whole["sample"], chosen_by
        )


def _check_sums(values: NDArray[np.float32], base: NDArray[np.float32]) -> None:
    """Refuse weights whose sums could leave float32, so that no score is ever NaN."""
    # Of usual size: no sum of as many as there can be is near the end.
    if float(np.vdot(values, values)) + float(np.vdot(base, base)) < _USUAL_SQUARES:
        return
    with np.errstate(over="ignore"):
        sums = np.abs(values).sum(axis=1)
        beyond = ~(2 * sums + np.abs(base) < np.finfo(np.float32).max)
    if beyond.any():
        raise InputError(
            "a query is too long for this binarizer",
            f"row {int(np.argmax(beyond))} of the queries",
            "scores within float32",
            next_step="scale all vectors and queries down, or use `scoring=hamming`",
        )


def unfitted(method: Method, dim: int) -> Affine:
    """Return the map of a method that needs no sample."""
    return TABLE[method].fit(np.empty((0, dim), np.float32), dim, 0, 1)
