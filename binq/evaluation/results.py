"""What an evaluation found, and the floors that it has to reach."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.errors import CheckFailed, UsageError
from binq.evaluation.judge import BY_SCAN, BY_TRUTH
from binq.structures.base import Effort
from binq.version import __version__

BY_QRELS: Final = ("nDCG", "R", "RR", "AP")


@dataclass(frozen=True, eq=False)
class Point:
    """What one effort gives at one k, and what it costs.

    Attributes
    ----------
    effort : Effort or None
        None where every row was scanned.
    k : int
    scanned : float
        The share of all rows that a query is compared with, on average.
    queries_per_second : float
        Of a batch.
    latency_ms : dict
        Of single queries; see :class:`Evaluation`.
    metrics : dict
        Those at this k; see :class:`Evaluation`.
    """

    effort: Effort | None
    k: int
    scanned: float
    queries_per_second: float
    latency_ms: dict[str, Any]
    metrics: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the entry of it in what ``binq eval --json`` prints."""
        return {
            **({"exhaustive": True} if self.effort is None else self.effort.given),
            "k": self.k,
            "scanned": self.scanned,
            "queries_per_second": self.queries_per_second,
            "latency_ms": self.latency_ms,
            "metrics": self.metrics,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found; of several efforts, ``curve`` tells of each.

    Attributes
    ----------
    facts : dict
        What was evaluated, and how: n, queries, bits, method, scoring, rescore and so on.
    metrics : dict
        By name; each a dict with ``value``, and ``low`` and ``high`` (the 95 % interval) or
        ``std``. Of several efforts, those of the last.
    latency_ms : dict
        Median and 95th percentile of single queries, and how they were taken; of several efforts,
        with the last.
    query_ids : list of str or of int
        One per query.
    per_query : dict of str to (q,) float64
        The same metrics for every query; NaN where a query has none.
    curve : list of Point
        Of several efforts: one for each of them and each k.
    exhaustive : list of Point
        Beside a curve: one for each k, with every row scanned.
    """

    facts: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    latency_ms: dict[str, Any]
    query_ids: list[Any]
    per_query: dict[str, NDArray[np.float64]] = field(repr=False)
    curve: list[Point] = field(default_factory=list)
    exhaustive: list[Point] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the document that ``binq eval --json`` prints."""
        document = {
            "schema": "binq.eval/1",
            "binq": __version__,
            **self.facts,
            "metrics": self.metrics,
            "latency_ms": self.latency_ms,
        }
        if self.curve:
            document["curve"] = [point.to_json() for point in self.curve]
            document["exhaustive"] = [point.to_json() for point in self.exhaustive]
        return document

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one row per query: its id and its metrics, None where it has none."""
        for number, query in enumerate(self.query_ids):
            values = {name: float(column[number]) for name, column in self.per_query.items()}
            yield {
                "query": query,
                **{name: None if value != value else value for name, value in values.items()},
            }

    def require(self, floors: dict[str, float]) -> None:
        """Raise unless every metric named reaches its floor.

        Raises
        ------
        UsageError
            If a metric was not evaluated.
        CheckFailed
            If one is below.
        """
        for name, floor in floors.items():
            if name not in self.metrics:
                raise UsageError(
                    "that metric was not evaluated", f"`fail_under={name}`", ", ".join(self.metrics)
                )
            value = self.metrics[name]["value"]
            if value < floor:
                raise CheckFailed(f"{name} is too low", "", f"at least {floor}", f"{value:.4f}")


def parse_floors(
    texts: Sequence[str], ks: Sequence[int], *, truth: bool = True, qrels: bool = False
) -> dict[str, float]:
    """Read floors such as ``recall@10=0.95``.

    Raises
    ------
    UsageError
        If one is not of that form, its metric is not one of those that are evaluated by a truth,
        by qrels or by a whole scan, whichever there are, or its k is not among ``ks``.
    """
    floors = {}
    known = BY_TRUTH * truth + BY_SCAN + BY_QRELS * qrels
    for text in texts:
        match = re.fullmatch(r"([^=\s]+@(\d+))=([0-9.eE+-]+)", text)
        try:
            floors[match[1]] = float(match[3])  # type: ignore[index]
        except (TypeError, ValueError):
            raise UsageError(
                "not a floor", f"`fail_under={text}`", "METRIC@K=VALUE, such as recall@10=0.95"
            ) from None
        assert match is not None
        name = match[1].partition("@")[0]
        if name not in known:
            needed = {**dict.fromkeys(BY_TRUTH, "truth"), **dict.fromkeys(BY_QRELS, "qrels")}
            raise UsageError(
                "that metric is not evaluated",
                f"`fail_under={text}`",
                "one of " + ", ".join(known),
                name,
                f"give `{needed[name]}`" if name in needed else "",
            )
        if int(match[2]) not in ks:
            raise UsageError(
                "that k is not evaluated",
                f"`fail_under={text}`",
                "one of " + ", ".join(map(str, ks)),
                match[2],
                "add it to -k",
            )
    return floors


def check_floors(floors: dict[str, float], *, exact: bool) -> None:
    """Refuse floors for metrics that an index has not, once it is open.

    Parameters
    ----------
    floors : dict
        As from :func:`parse_floors`.
    exact : bool
        Whether the index looks at every row.

    Raises
    ------
    UsageError
    """
    missing = "recall_scan" if exact else "recall_expected"
    for name in floors:
        if name.startswith(missing):
            raise UsageError(
                "that metric is not evaluated",
                f"`fail_under={name}`",
                next_step=f"an index that scans {'every row' if exact else 'some lists'} has none",
            )
