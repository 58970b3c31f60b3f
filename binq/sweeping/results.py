"""What a sweep found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import Binarizer
from binq.evaluation.statistics import Estimate
from binq.version import __version__

OVERSAMPLES: Final = (1.0, 4.0, 10.0)
StoredFloats = Literal["int8", "float16"]
Rescoring = Literal["none", "file", "int8", "float16"]
"""What sorts candidates: nothing but the codes, the original file, vectors stored in the index."""
RowKind = Literal["binq", "floats", "faiss"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One way of storing the corpus, and what it costs.

    Attributes
    ----------
    kind : {"binq", "floats", "faiss"}
        A binarizer; the vectors in fewer bits; another library.
    method : str
    bits : int or None
        Width of a code.
    truncate_dim : int or None
    scoring : str
        The scan.
    bytes : int
        Per vector, with the terms that the scan needs.
    recall : Estimate
        Nothing but those bytes stored, searched as ``binq query`` does by default.
    rescored : dict of float to Estimate
        By oversample X: the share of the true top k inside the scan's best ceil(k * X), which is
        the recall of exact rescoring.
    scan_ms : float or None
        Milliseconds per query and million rows, in a batch, on all threads.
    fit_seconds, encode_per_second : float or None
    pareto : bool
        No other row has both as few bytes and as much recall.
    per_query : (q,) float64
    rescored_per_query : dict of float to (q,) float64
    candidates : (q, m) int32 or None
        The scan's best rows.
    balance : (bits,) float64 or None
        Share of the rows in which each bit is set.
    fitted : Binarizer or None
    """

    kind: RowKind
    method: str
    bits: int | None = None
    truncate_dim: int | None = None
    scoring: str
    bytes: int
    recall: Estimate
    rescored: dict[float, Estimate]
    scan_ms: float | None = None
    fit_seconds: float | None = None
    encode_per_second: float | None = None
    pareto: bool = False
    per_query: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    rescored_per_query: dict[float, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    candidates: NDArray[np.int32] | None = field(default=None, repr=False)
    balance: NDArray[np.float64] | None = field(default=None, repr=False)
    fitted: Binarizer | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return what tells the row from the others, for people."""
        width = "" if self.bits is None else f", {self.bits} bits"
        return f"{self.method}{width}, {self.scoring}"

    @property
    def dead_bits(self) -> int | None:
        """Bits that are the same in every row."""
        if self.balance is None:
            return None
        return int(np.count_nonzero((self.balance == 0) | (self.balance == 1)))

    def to_json(self) -> dict[str, Any]:
        """Return the row without its arrays."""
        what = ("kind", "method", "bits", "truncate_dim", "scoring", "bytes")
        return {
            **{name: getattr(self, name) for name in what},
            "recall": vars(self.recall),
            "rescored": {f"{x:g}": vars(found) for x, found in self.rescored.items()},
            "scan_ms_per_million": self.scan_ms,
            "fit_seconds": self.fit_seconds,
            "encode_per_second": self.encode_per_second,
            "pareto": self.pareto,
            "dead_bits": self.dead_bits,
        }


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What to build.

    Attributes
    ----------
    row : Row
    by : {"none", "file", "int8", "float16"}
        What candidates are rescored by: vectors stored in the index, or those that it was built
        from, of which nothing is stored.
    oversample : float or None
        None without rescoring by vectors: the default of ``binq query``.
    bytes : int
        Per vector, stored vectors included.
    recall : Estimate
        On all rows, by the queries that are reported on.
    basis : {"measured", "extrapolated"}
        How it is known.
    sample_recall : Estimate or None
        The same on the rows that were swept over, where those are not all.
    reached : bool
        Whether the target was.
    verdict : str
        One sentence: whether these embeddings can be binarized so far.
    sentence : str
        The figure, what it was measured on, and what else a reader of the verdict has to know.
    build, query : dict
        Keywords that do it: ``binq.build(vectors, path, **build)``, then
        ``binq.open(path).search(queries, **query)``.
    """

    row: Row
    by: Rescoring
    oversample: float | None
    bytes: int
    recall: Estimate
    basis: Literal["measured", "extrapolated"]
    sample_recall: Estimate | None
    reached: bool
    verdict: str
    sentence: str
    build: dict[str, Any]
    query: dict[str, Any]

    @property
    def stored(self) -> str:
        """The vectors stored for rescoring: none, int8 or float16."""
        return "none" if self.by == "file" else self.by

    def to_json(self) -> dict[str, Any]:
        """Return everything; the row by what names it."""
        named = ("method", "bits", "truncate_dim", "scoring")
        sample = self.sample_recall
        own = vars(self) | {
            "recall": vars(self.recall),
            "sample_recall": None if sample is None else vars(sample),
        }
        return {
            **{name: getattr(self.row, name) for name in named},
            "payload": self.stored,
            "rescore": own.pop("by"),
            **{name: value for name, value in own.items() if name != "row"},
        }


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    facts : dict
        What was swept: rows, queries, dim, metric, k, threads, seed and so on.
    rows : list of Row
        Ordered by (bytes, recall descending).
    recommendation : Recommendation
    comparison : dict or None
        The recommended row against the best row of another method in as few bytes: the paired
        ``difference`` with its interval, and whether they can be told ``apart``.
    notes : list of str
        What a reader of the figures has to know.
    worst : list of dict
        The queries that the recommended row serves worst.
    """

    facts: dict[str, Any]
    rows: list[Row]
    recommendation: Recommendation
    comparison: dict[str, Any] | None
    notes: list[str]
    worst: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the document that ``binq sweep --json`` prints, commands as their keywords."""
        return {
            "schema": "binq.sweep/1",
            "binq": __version__,
            **self.facts,
            "rows": [row.to_json() for row in self.rows],
            "recommendation": self.recommendation.to_json(),
            "comparison": self.comparison,
            "notes": self.notes,
            "worst_queries": self.worst,
        }

    def table(self) -> list[str]:
        """Return the table as lines of text, of 80 characters where names and numbers let it."""
        at = list(self.rows[0].rescored) if self.rows else []
        head = ["", "method", "bits", "scan", "bytes", f"recall@{self.facts['k']}"]
        head += [f"x{x:g}" for x in at] + ["ms", "fit s", "enc/s"]
        lines = [head]
        for row in self.rows:
            half = (row.recall.high - row.recall.low) / 2
            cells = [
                "*" if row.pareto else "",
                row.method,
                "-" if row.bits is None else str(row.bits),
                {"asymmetric": "asym", "hamming": "hamm"}.get(row.scoring, row.scoring),
                str(row.bytes),
                f"{row.recall.value:.3f} ±{half:.3f}",
            ]
            cells += [f"{row.rescored[x].value:.3f}" if x in row.rescored else "-" for x in at]
            cells += [_brief(row.scan_ms), _brief(row.fit_seconds), _brief(row.encode_per_second)]
            lines.append(cells)
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        left = {0, 1, 3}
        return [
            " ".join(
                cell.ljust(width) if place in left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]


def _brief(value: float | None) -> str:
    """Write a number in at most five characters."""
    if value is None:
        return "-"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * size or (unit == "M" and value >= size):
            short = value / size
            return f"{short:.0f}{unit}" if short >= 10 else f"{short:.1f}{unit}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
