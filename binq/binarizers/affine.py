"""A binarizer is an affine map followed by a sign.

``bit_j = [x_j > threshold_j]``: sign, mean and median differ only in how the thresholds are found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from binq import bits as packing
from binq.errors import InputError
from binq.similarity import METRICS, Metric, normalize

Locate = Callable[[int], str]


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
    truncate_dim : int or None
        Only the first so many dimensions are binarized.
    threshold : (bits,) float32 or None
        None stands for zeros.
    seed, sample : int or None
        What the fit was drawn with, and the number of rows it saw; None where nothing was fitted.
    """

    method: str
    dim: int
    metric: Metric
    truncate_dim: int | None = None
    threshold: NDArray[np.float32] | None = None
    seed: int | None = None
    sample: int | None = None

    @property
    def input_dim(self) -> int:
        """Dimensions that are binarized."""
        return self.truncate_dim or self.dim

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.input_dim

    def prepare(self, vectors: NDArray[np.float32], locate: Locate = str) -> NDArray[np.float32]:
        """Truncate, and normalise under cosine.

        Parameters
        ----------
        vectors : (n, dim) or (n, truncate_dim) float32
        locate : callable
            Names a row in messages, given its number within ``vectors``.

        Returns
        -------
        (n, input_dim) float32

        Raises
        ------
        InputError
            If the dimension does not fit, or under cosine a row is zero.
        """
        if vectors.shape[1] not in (self.dim, self.input_dim):
            raise InputError(
                "the vectors have another dimension than the binarizer",
                locate(0),
                str(self.dim),
                str(vectors.shape[1]),
                "use the vectors of the same model, with the same truncation",
            )
        cut = vectors[:, : self.input_dim]
        return unit_rows(cut, locate) if self.metric == "cosine" else cut

    def encode(self, vectors: NDArray[np.float32], locate: Locate = str) -> NDArray[np.uint64]:
        """Turn vectors into codes.

        Parameters
        ----------
        vectors : (n, dim) or (n, truncate_dim) float32
            Finite.
        locate : callable
            Names a row in messages, given its number within ``vectors``.

        Returns
        -------
        (n, words) uint64

        Raises
        ------
        InputError
            As :meth:`prepare`.
        """
        prepared = self.prepare(vectors, locate)
        return packing.pack(prepared > (0 if self.threshold is None else self.threshold))

    def settings(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON can hold it."""
        return {
            "method": self.method,
            "dim": self.dim,
            "metric": self.metric,
            "truncate_dim": self.truncate_dim,
            "seed": self.seed,
            "sample": self.sample,
        }

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the fitted arrays by name."""
        return {} if self.threshold is None else {"threshold": self.threshold}

    @classmethod
    def restore(cls, settings: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> Binarizer:
        """Build a binarizer from what :meth:`settings` and :meth:`arrays` returned.

        Raises
        ------
        ValueError
            If something is missing, of a wrong type, shape or range.
        """
        whole = {name: settings.get(name) for name in ("dim", "truncate_dim", "seed", "sample")}
        for name, value in whole.items():
            optional = name != "dim" and value is None
            if not optional and (type(value) is not int or not 0 <= value < 1 << 62):
                raise ValueError(f"{name} is not a whole number")
        if not isinstance(settings.get("method"), str) or settings.get("metric") not in METRICS:
            raise ValueError("method or metric is missing or unknown")
        binarizer = cls(
            method=settings["method"],
            metric=settings["metric"],
            threshold=arrays.get("threshold"),
            **whole,  # type: ignore[arg-type]
        )
        if not 1 <= binarizer.input_dim <= binarizer.dim:
            raise ValueError("truncate_dim is not between 1 and dim")
        threshold = binarizer.threshold
        if threshold is not None and (
            threshold.dtype != np.float32
            or threshold.shape != (binarizer.bits,)
            or not np.isfinite(threshold).all()
        ):
            raise ValueError("threshold is not one finite float32 for each bit")
        return binarizer


def unit_rows(vectors: NDArray[np.float32], locate: Locate = str) -> NDArray[np.float32]:
    """Normalise rows, refusing zero rows.

    Parameters
    ----------
    vectors : (n, dim) float32
    locate : callable
        Names a row in messages, given its number within ``vectors``.

    Raises
    ------
    InputError
        If a row has norm zero.
    """
    unit, zero = normalize(vectors)
    if zero.size:
        raise InputError(
            "a vector has norm zero",
            locate(int(zero[0])),
            "a direction, since the metric is cosine",
            next_step="drop that row, or use --metric ip or l2",
        )
    return unit
