"""What a search can be told, in one place: its names, defaults and checks."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from binq.errors import UsageError
from binq.structures.base import Effort
from binq.types import (
    DEFAULT_OVERSAMPLE,
    RESCORES,
    SCORINGS,
    Packed,
    Rescore,
    Scoring,
    Vectors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from binq.vectors import VectorSource

Ids: TypeAlias = "str | os.PathLike[str] | Sequence[str] | Sequence[int] | NDArray[Any]"
"""The path of a file of ids, or the ids themselves."""


class CommonSettings(TypedDict, total=False):
    """The fields of :class:`SearchOptions` but how far to look, as keywords."""

    scoring: Scoring | None
    rescore: Rescore | None
    rescore_from: Vectors | VectorSource | None
    rescore_column: str | None
    oversample: float | Literal["auto"] | None
    filter_ids: Ids | None
    exclude_ids: Ids | None
    packed: Packed | None
    force: bool
    threads: int | None


class SearchSettings(CommonSettings, total=False):
    """The fields of :class:`SearchOptions`, as keywords."""

    target_recall: float | None
    nprobe: int | None
    ef: int | None


@dataclass(frozen=True)
class SearchOptions:
    """How to search; checked when it is made.

    Attributes
    ----------
    scoring : {"hamming", "asymmetric"}, optional
        The scan; default the index's own.
    rescore : {"auto", "none", "codes", "int8", "float16", "float32"}, optional
        What sorts the candidates. ``auto``, the default, is ``rescore_from`` if given, else the
        stored vectors, else the codes after an asymmetric scan, else none. Within a radius the
        default is none, unless ``rescore_from`` is given.
    rescore_from : path, array or open source, optional
        The vectors that the index was built from, row by row. An open source stays open.
    rescore_column : str, optional
        Their column, if there are several.
    oversample : float or "auto", optional
        ceil(k * oversample) candidates are rescored, by default 4 k; ``auto`` decides query by
        query, so that 99 % of the scan's best are expected to be kept.
    target_recall : float, optional
        How far an index of lists or with a graph looks: the share of the whole scan's candidates
        to find, by default 0.95. A flat index scans every row, and refuses it.
    nprobe : int, optional
        How many lists an index of lists looks into, the nearest ones; in place of
        ``target_recall``.
    ef : int, optional
        How many of the best rows a walk through a graph goes on from, at least as many as it is to
        find; in place of ``target_recall``.
    filter_ids, exclude_ids : path, sequence or array, optional
        Only rows with these ids, and no row with those, are returned. A file holds one id a line
        (text or JSON), a Parquet column, or a 1-D npy array. A number and its decimal digits are
        the same id.
    packed : {"none", "ubinary", "binary", "lsb"}, optional
        The layout of packed queries; none says that 8-bit queries are numbers.
    force : bool
        Take vectors although another model made them than the index.
    threads : int, optional
        Default: as many as the process may use.

    Raises
    ------
    UsageError
        If a value is unknown or out of range, or two contradict each other.
    """

    scoring: Scoring | None = None
    rescore: Rescore | None = None
    rescore_from: Vectors | VectorSource | None = None
    rescore_column: str | None = None
    oversample: float | Literal["auto"] | None = None
    target_recall: float | None = None
    nprobe: int | None = None
    ef: int | None = None
    filter_ids: Ids | None = None
    exclude_ids: Ids | None = None
    packed: Packed | None = None
    force: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.scoring is not None and self.scoring not in SCORINGS:
            raise UsageError("unknown scoring", "`scoring`", ", ".join(SCORINGS), str(self.scoring))
        if self.rescore is not None and self.rescore not in RESCORES:
            raise UsageError(
                "unknown rescoring", "`rescore`", ", ".join(RESCORES), str(self.rescore)
            )
        if self.oversample not in (None, "auto") and (
            isinstance(self.oversample, str)
            or not self.oversample >= 1
            or math.isinf(self.oversample)
        ):
            raise UsageError(
                "no such oversample",
                "`oversample`",
                "a number of at least 1, or auto",
                str(self.oversample),
            )
        if self.target_recall is not None and not 0 < self.target_recall < 1:
            raise UsageError(
                "the target is out of range",
                "`target_recall`",
                "above 0 and below 1",
                str(self.target_recall),
            )
        for name, what in (("nprobe", "number of lists"), ("ef", "number of rows")):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(
                    f"no such {what}", f"`{name}`", "a whole number of at least 1", str(value)
                )
        given = [f"`{name}`" for name in Effort(self.target_recall, self.nprobe, self.ef).given][:2]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} both say how far to look")
        if self.rescore_from is not None and self.rescore not in (None, "auto"):
            raise UsageError(
                "`rescore_from` already says what sorts the candidates",
                next_step="leave out `rescore`",
            )
        if self.rescore_column is not None and self.rescore_from is None:
            raise UsageError("`rescore_column` goes with `rescore_from`")

    @property
    def factor(self) -> float | Literal["auto"]:
        """What ``oversample`` comes to."""
        return DEFAULT_OVERSAMPLE if self.oversample is None else self.oversample

    @property
    def effort(self) -> Effort | None:
        """How far a structure shall look; None for its own default."""
        effort = Effort(self.target_recall, self.nprobe, self.ef)
        return effort if effort.given else None

    @property
    def paths(self) -> list[Any]:
        """What may name files that a search reads."""
        ids = [x for x in (self.filter_ids, self.exclude_ids) if isinstance(x, (str, os.PathLike))]
        return [self.rescore_from, *ids]

    def check_radius(self) -> None:
        """Refuse what has no meaning where every row within a Hamming distance is wanted.

        Raises
        ------
        UsageError
        """
        if self.oversample is not None:
            raise UsageError(
                "`radius` rescores every row that it finds or none, and picks no candidates",
                next_step="leave out `oversample`",
            )
        if self.effort is not None:
            raise UsageError(
                "`radius` finds every row within a distance, whatever the effort",
                next_step="leave out `nprobe`, `ef` and `target_recall`",
            )
        if self.scoring == "asymmetric":
            raise UsageError(
                "`radius` is a Hamming distance",
                "`scoring`",
                "hamming",
                self.scoring,
                "to sort what is found by the whole query, use `rescore=codes`",
            )

    def check_packed(self) -> None:
        """Refuse what needs floats, for queries that are bits.

        Raises
        ------
        UsageError
        """
        if self.rescore not in (None, "auto", "none") or self.rescore_from is not None:
            raise UsageError(
                "packed queries cannot be rescored",
                "`rescore`",
                "none",
                self.rescore or "`rescore_from`",
                "give the queries as floats",
            )
        if self.scoring == "asymmetric":
            raise UsageError(
                "packed queries always scan Hamming",
                "`scoring`",
                "hamming",
                self.scoring,
                "give the queries as floats",
            )
