"""The table of methods: all that is known of a method stands in its row here.

A method is added by writing a module that fits an :class:`~binq.binarizers.affine.Affine`, naming
it in ``binq.types.Method`` and giving it a row. Nothing else asks which method a binarizer is of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import itq, learned, projections, ste, thresholds
from binq.binarizers.affine import Affine, Bools, Floats, norm_factor
from binq.types import MAX_DIM, MAX_MATRIX, Method, Scoring


@dataclass(frozen=True)
class MethodSpec:
    """What a method is, and what can be done with its codes.

    Attributes
    ----------
    about : str
        One line for people.
    fit : callable
        Called with (rows (n, dim), bits, seed, threads); returns an ``Affine``.
    widths : {"dim", "at most dim", "any"}
        Bits that it can give.
    arrays : frozenset of str
        Those of its ``Affine``; none for a method that is not fitted, and decodes to unit vectors.
    scoring : {"hamming", "asymmetric"}
        The scan that its codes are made for.
    hamming : bool
        Whether the Hamming distance of two codes says how far apart their vectors are.
    encode : callable
        Called with (rows (n, dim), Affine, threads); returns codes (n, bits) bool.
    factor : callable
        Called with (rows (n, dim), codes (n, words), Affine, threads); returns (n,) float32, what
        the asymmetric score of a row is multiplied with.
    centred : bool
        Whether the factor scales ``b @ decoder`` alone and leaves the centre: such a factor is
        needed under every metric.
    matrix : callable
        Called with (bits, dim); returns how many numbers the largest matrix holds that its fit
        makes, besides rows and codes.
    auto : callable
        Called with (scan, bits, dim); returns whether ``method=auto`` tries it.
    swept : {"always", "wide", "named"}
        When a sweep tries it: always, by default with more bits than dimensions only, or only where
        it is named.
    """

    about: str
    fit: Callable[[Floats, int, int, int], Affine]
    widths: Literal["dim", "at most dim", "any"] = "any"
    arrays: frozenset[str] = frozenset({"center", "projection", "decoder"})
    scoring: Scoring = "hamming"
    hamming: bool = True
    encode: Callable[[Floats, Affine, int], Bools] = lambda x, fitted, n: fitted.encode(x, n)
    factor: Callable[[Floats, NDArray[np.uint64], Affine, int], Floats] = norm_factor
    centred: bool = False
    matrix: Callable[[int, int], int] = lambda *_: 0
    auto: Callable[[Scoring, int, int], bool] = lambda *_: True
    swept: Literal["always", "wide", "named"] = "always"

    @property
    def needs_sample(self) -> bool:
        """Whether it is fitted on rows."""
        return bool(self.arrays)

    def allows(self, bits: int, dim: int) -> bool:
        """Return whether it can give so many bits of so many dimensions."""
        fits = bits == dim or self.widths == "any" or (bits < dim and self.widths == "at most dim")
        return fits and self.affordable(bits, dim)

    def affordable(self, bits: int, dim: int) -> bool:
        """Return whether its matrices for so many bits and dimensions are not too large."""
        return max(bits, dim) <= MAX_DIM and self.matrix(bits, dim) <= MAX_MATRIX


_THRESHOLDS: Final = frozenset({"center", "scale"})
_ROTATION: Final = frozenset({"center", "signs", "scale"})
# The simplest first: of methods that do equally well, auto takes the first.
TABLE: Final[dict[Method, MethodSpec]] = {
    "sign": MethodSpec(
        "the sign of every dimension; nothing is fitted",
        lambda x, *_: thresholds.sign(x.shape[1]),
        widths="dim",
        arrays=frozenset(),
    ),
    "mean": MethodSpec(
        "thresholds at the mean of every dimension",
        lambda x, *_: thresholds.mean(x),
        arrays=_THRESHOLDS,
        widths="dim",
        auto=lambda *_: False,  # close to median
        swept="named",
    ),
    "median": MethodSpec(
        "thresholds at the median of every dimension",
        lambda x, *_: thresholds.median(x),
        arrays=_THRESHOLDS,
        widths="dim",
    ),
    "rotate": MethodSpec(
        "structured random rotations",
        lambda x, bits, seed, _: projections.rotate(x, bits, seed),
        arrays=_ROTATION,
        swept="named",  # close to lsh
    ),
    "lsh": MethodSpec(
        "random hyperplanes",
        projections.lsh,
        matrix=lambda bits, dim: bits * max(bits, dim),  # and B^T B
        auto=lambda _, bits, dim: bits > dim,
    ),
    "itq": MethodSpec(
        "principal directions, and their rotation of least error",
        itq.fit,
        widths="at most dim",
        matrix=lambda _, dim: dim * dim,  # covariance
    ),
    "rabitq": MethodSpec(
        "a random rotation with a factor per row",
        lambda x, _, seed, __: projections.rabitq(x, seed),
        arrays=_ROTATION,
        widths="dim",
        scoring="asymmetric",
        factor=projections.rabitq_factor,
        centred=True,
        auto=lambda scan, *_: scan == "asymmetric",
    ),
    "learned": MethodSpec(
        "codes and decoder optimised together",
        learned.fit,
        scoring="asymmetric",
        hamming=False,
        encode=learned.encode,
        matrix=lambda bits, dim: dim * max(bits, dim),  # bits are fitted in blocks
        auto=lambda scan, *_: scan == "asymmetric",
    ),
    "ste": MethodSpec(
        "trained by gradient for the Hamming scan; takes a minute and more to fit",
        ste.fit,
        arrays=frozenset({"center", "projection", "threshold", "decoder"}),
        matrix=lambda bits, dim: max(bits, dim) ** 2,
        auto=lambda scan, bits, dim: scan == "hamming" and bits > dim,
        swept="wide",
    ),
}
