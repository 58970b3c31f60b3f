"""An affine map followed by a sign, and a linear map back.

``bit_j = [((x - center) @ projection)_j > threshold_j]`` and, with b = 2 bit - 1,
``x ~ center + b @ decoder``. A query q is scored against a code without the row's floats as
``(<decoder @ q, b> + <center, q>) * factor``, the factor being one number per row.

Methods differ only in how the arrays are found. Both maps have cheap special cases: the projection
may be the identity or a structured rotation, and the decoder its transpose times a scale per bit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.binarizers.batches import map_batches, serial_blas
from binq.binarizers.rotation import rotate, rotate_back

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_ROWS = 4096
_LARGEST: Final = 2.0**80
"""Vectors have norms of at most 2^62: no fit gives centres, decoders and scales beyond this."""
_MOST_PASSES: Final = 16


@dataclass(frozen=True, eq=False)
class Affine:
    """Arrays of an affine binarizer; float32 except ``signs``.

    Attributes
    ----------
    bits, dim : int
    center : (dim,) or None
        Subtracted first; None is zero.
    projection : (dim, bits) or None
    signs : (rotations, passes, dim) uint8 or None
        The structured rotation in place of a projection, see :mod:`binq.binarizers.rotation`.
        Without either the projection is the identity, and bits equals dim.
    threshold : (bits,) or None
        None is zero.
    decoder : (bits, dim) or None
        From codes in -1 and +1 to vectors.
    scale : (bits,) or None
        Without a decoder: the decoder is the transposed projection, row j times ``scale[j]``.
    """

    bits: int
    dim: int
    center: Floats | None = None
    projection: Floats | None = None
    signs: NDArray[np.uint8] | None = None
    threshold: Floats | None = None
    decoder: Floats | None = None
    scale: Floats | None = None

    def __post_init__(self) -> None:
        wanted: dict[str, tuple[int | None, ...]] = {
            "center": (self.dim,),
            "projection": (self.dim, self.bits),
            "signs": (None, None, self.dim),
            "threshold": (self.bits,),
            "decoder": (self.bits, self.dim),
            "scale": (self.bits,),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is None:
                continue
            dtype = np.uint8 if name == "signs" else np.float32
            fits = array.ndim == len(shape) and all(
                size in (None, got) for size, got in zip(shape, array.shape, strict=True)
            )
            if array.dtype != dtype or not fits:
                raise ValueError(f"{name} is not a {np.dtype(dtype)} array of {shape}")
            most = _LARGEST if name in ("center", "decoder", "scale") else np.finfo(np.float32).max
            # NaN is within nothing.
            if not -most <= array.min(initial=0) <= array.max(initial=0) <= most:
                raise ValueError(f"{name} holds a number that is none, or too large")
        if self.signs is not None:
            rotations, passes, _ = self.signs.shape
            if not 1 <= passes <= _MOST_PASSES or rotations != -(-self.bits // self.dim):
                raise ValueError("signs are of another number of rotations")
        if self.projection is None and self.signs is None and self.bits != self.dim:
            raise ValueError("without a projection there is one bit per dimension")
        if self.decoder is None and (self.scale is None or self.projection is not None):
            raise ValueError("there is no decoder")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are there, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}

    def project(self, x: Floats) -> Floats:
        """Return ``x @ projection``, (n, bits)."""
        if self.signs is not None:
            return rotate(x, self.signs, self.bits)
        return x if self.projection is None else x @ self.projection

    def transform(self, x: Floats) -> Floats:
        """Return the affine part of the map, (n, bits): a bit is set where it is positive."""
        projected = self.project(x if self.center is None else x - self.center)
        return projected if self.threshold is None else projected - self.threshold

    def encode(self, x: Floats, threads: int = 1) -> Bools:
        """Return the codes of rows (n, dim) as (n, bits) bool; the same at any thread count."""
        codes = np.empty((len(x), self.bits), np.bool_)

        def work(start: int, stop: int) -> None:
            np.greater(self.transform(x[start:stop]), 0.0, out=codes[start:stop])

        with serial_blas():
            for _ in map_batches(work, len(x), threads):
                pass
        return codes

    @property
    def keeps_axes(self) -> bool:
        """Whether bit j is the sign of dimension j, about the centre where there is one."""
        return self.projection is None and self.signs is None and self.threshold is None

    def magnified(self, power: int, *, decoder: bool = True) -> Affine:
        """Return the map for vectors that are ``2**power`` times as long.

        Parameters
        ----------
        power : int
        decoder : bool
            Whether the decoder is to give vectors of that length too.
        """
        names = ["center", "threshold", *(["decoder", "scale"] if decoder else [])]
        arrays = self.arrays()
        return replace(self, **{n: np.ldexp(arrays[n], power) for n in names if n in arrays})

    def reconstruct(self, codes: Bools) -> Floats:
        """Return the vectors that codes (n, bits) stand for, (n, dim)."""
        signs = np.where(codes, np.float32(1), np.float32(-1))
        if self.decoder is not None:
            vectors = signs @ self.decoder
        elif self.signs is not None:
            vectors = rotate_back(signs * self.scale, self.signs)
        else:
            vectors = signs * self.scale
        return vectors if self.center is None else vectors + self.center

    def weights(self, queries: Floats) -> tuple[Floats, Floats]:
        """Return what queries (q, dim) multiply codes with: weights (q, bits) and bases (q,)."""
        if self.decoder is not None:
            weights = queries @ self.decoder.T
        else:
            assert self.scale is not None
            weights = self.project(queries) * self.scale
        if self.center is None:
            return weights, np.zeros(len(queries), np.float32)
        return weights, queries @ self.center


def norm_factor(x: Floats, codes: NDArray[np.uint64], fitted: Affine, threads: int = 1) -> Floats:
    """Return the factor that gives every reconstruction its vector's own norm, (n,) float32.

    ``||x|| / ||center + b @ decoder||``, 1 where either is zero. Without it a row whose
    reconstruction is long would win queries by its length; it is worth 4 to 9 points of recall@10
    to every method measured, while the unbiased factor ``||x||^2 / <x, center + b @ decoder>`` is
    worth less.
    """
    factor = np.ones(len(x), np.float32)

    def work(start: int, stop: int) -> None:
        rows = x[start:stop]
        norm = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        vectors = fitted.reconstruct(packing.unpack(codes[start:stop], fitted.bits))
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        some = (length > 0) & (norm > 0)
        ratio = np.ones(len(rows))
        np.divide(norm, length, out=ratio, where=some)
        factor[start:stop] = np.minimum(ratio, np.finfo(np.float32).max)

    with serial_blas():
        for _ in map_batches(work, len(x), threads):
            pass
    return factor


def mean_of(x: Floats) -> Floats:
    """Return the mean of the rows, (dim,), summed in float64."""
    total = np.zeros(x.shape[1], np.float64)
    for start in range(0, len(x), _ROWS):
        total += x[start : start + _ROWS].sum(axis=0, dtype=np.float64)
    return (total / len(x)).astype(np.float32)


def ridge_decoder(
    x: Floats, codes: Bools, center: Floats | None, *, ridge: float = 1e-3, threads: int = 1
) -> Floats:
    """Return the least-squares decoder of codes, (bits, dim) float32.

    Solves ``(B^T B + ridge n I) D = B^T (x - center)``: of all decoders that of least error on
    ``x``, where a transposed projection is so only for orthogonal rows and independent bits.
    ``B^T B`` has n on its diagonal, so ``ridge`` is relative to it, and a bit that never flips or
    that repeats another costs nothing but its share of the constant. Where rows are fewer than
    bits, ``D = B^T (B B^T + ridge n I)^-1 (x - center)``, which is the same.
    """
    bits, dim = codes.shape[1], x.shape[1]
    if len(x) < bits:
        signs = np.where(codes, np.float64(1), np.float64(-1))
        with serial_blas():
            gram = signs @ signs.T
            gram[np.diag_indices(len(x))] += ridge * len(x)
            wanted = x.astype(np.float64) if center is None else x.astype(np.float64) - center
            return (signs.T @ np.linalg.solve(gram, wanted)).astype(np.float32)
    gram = np.zeros((bits, bits), np.float64)
    cross = np.zeros((bits, dim), np.float64)

    def work(start: int, stop: int) -> tuple[Floats, Floats]:
        b = np.where(codes[start:stop], np.float32(1), np.float32(-1))
        y = x[start:stop] if center is None else x[start:stop] - center
        return b.T @ b, b.T @ y

    with serial_blas():
        for part_gram, part_cross in map_batches(work, len(x), threads, batch=_ROWS):
            gram += part_gram
            cross += part_cross
        gram[np.diag_indices(bits)] += ridge * len(x)
        return np.linalg.solve(gram, cross).astype(np.float32)
