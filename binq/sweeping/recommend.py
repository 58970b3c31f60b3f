"""What to build: the fewest bytes that reach the recall aimed at, on all rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import TABLE, default_scoring
from binq.errors import Marked
from binq.evaluation.statistics import Estimate, clustered, recall
from binq.storage.sections import Int8Range
from binq.sweeping.extrapolate import extrapolate
from binq.sweeping.grounds import AllRows, Halves, Way, rescored
from binq.sweeping.measure import STORED, Setting
from binq.sweeping.results import Recommendation, Row
from binq.types import DEFAULT_SAMPLE, Method, Vectors

DEFAULT_TARGET: Final = 0.95
DEFAULT_MINUTES: Final = 10.0
# With fewer the normal interval is not to be trusted.
_FEWEST: Final = 20


@dataclass(frozen=True, eq=False)
class _Judged:
    """A way, and what is known of its recall on all rows."""

    way: Way
    choosing: float
    recall: Estimate
    sample: Estimate | None = None
    basis: Literal["measured", "extrapolated"] = "measured"
    seconds: float = 0.0
    """What measuring would have taken, where it was not done."""


def with_pareto(rows: list[Row]) -> list[Row]:
    """Order rows by (bytes, recall descending), and mark those that none has both beaten."""
    ordered = sorted(rows, key=lambda row: (row.bytes, -row.recall.value))
    best = -math.inf
    found = []
    for row in ordered:
        found.append(replace(row, pareto=row.recall.value > best))
        best = max(best, row.recall.value)
    return found


class Recommender:
    """Chooses by the queries that choose, and reports by those that are reported on.

    Of all rows of binarizers, alone, rescored from the file that they came from, or with int8 or
    float16 vectors stored, the one of the fewest bytes in all that reaches the target; among equals
    the one that rescores less, then the one of the higher recall. Where none reaches it, the one of
    the highest recall. What reaches it on a sample is measured again on all rows, or where that
    takes too long extrapolated to them, until one holds there.

    Parameters
    ----------
    setting : Setting
    target : float
    vectors : path or list of paths, optional
        What candidates can be rescored from, with nothing stored.
    column : str, optional
        Its column, as the user named it.
    minutes : float
        What measuring on all rows may take.
    step : callable
        Called before a way is measured on all rows.
    """

    def __init__(
        self,
        setting: Setting,
        target: float,
        vectors: Vectors | None,
        column: str | None,
        minutes: float,
        step: Callable[[], None],
    ) -> None:
        self._setting = setting
        self._target = target
        self._vectors = vectors
        self._column = column
        self._step = step
        self._all: AllRows | None = None
        self._halves: Halves | None = None
        if setting.data.sampled:
            self._all, self._halves = AllRows(setting, 60 * minutes), Halves(setting)
        corpus = setting.data.corpus
        self._spread = Int8Range.spanning(corpus.min(axis=0), corpus.max(axis=0))
        self._failed = 0

    def recommend(self, rows: Sequence[Row]) -> Recommendation:
        """Recommend one of the rows of a sweep."""
        choosing = self._setting.data.choosing
        ways = self._ways(rows)
        for way in ways:
            if way.bound[choosing].mean() < self._target:
                continue
            found = self._judge(way)
            if found is None:
                continue
            if found.choosing >= self._target:
                return self._told(found)
            self._failed += 1
        best = max(ways, key=lambda way: (way.bound[choosing].mean(), -way.bytes))
        closest = self._judge(best, anyway=True)
        assert closest is not None
        return self._told(closest)

    def _ways(self, rows: Sequence[Row]) -> list[Way]:
        """Return what can be recommended, the cheapest first."""
        data = self._setting.data
        dim = data.raw.shape[1]
        ways = []
        for row in rows:
            if row.kind != "binq":
                continue
            ways.append(Way(row, "none", None, row.bytes, row.per_query))
            for x, bound in row.rescored_per_query.items():
                if self._vectors is not None:
                    ways.append(Way(row, "file", x, row.bytes, bound))
                for stored, width in STORED.items():
                    ways.append(Way(row, stored, x, row.bytes + dim * width, bound))
        ways.sort(key=lambda w: (w.bytes, w.oversample or 0, -w.bound[data.choosing].mean()))
        return ways

    def _judge(self, way: Way, *, anyway: bool = False) -> _Judged | None:
        """Return what is known of a way; None where it falls short on the sample already.

        With ``anyway`` there is always an answer.
        """
        data = self._setting.data
        begun = time.perf_counter()
        swept = self._on_sample(way)
        seconds = time.perf_counter() - begun
        found = self._measured(way, swept)
        if found.choosing < self._target and not anyway:
            return None
        if self._all is None or self._halves is None:
            return found
        smaller = self._halves.recalls(way)
        ahead = self._extrapolated(swept, smaller, data.choosing)
        seconds = self._all.seconds(way, seconds)
        if (anyway or ahead.high >= self._target) and self._all.affords(seconds):
            self._step()
            return replace(self._measured(way, self._all.recall(way)), sample=found.recall)
        reported = self._extrapolated(swept, smaller, data.reported)
        return _Judged(way, ahead.value, reported, found.recall, "extrapolated", seconds)

    def _on_sample(self, way: Way) -> NDArray[np.float64]:
        """Return the recall of every query on the rows swept over."""
        setting = self._setting
        if way.by == "none" or way.by == "file" or way.oversample is None:
            return way.bound
        assert way.row.candidates is not None
        near = way.row.candidates[:, : setting.candidate_count(way.oversample)].astype(np.int64)
        whole = [(0, setting.data.corpus)]
        return recall(rescored(near, whole, way.by, self._spread, setting), setting.truth)

    def _measured(self, way: Way, found: NDArray[np.float64]) -> _Judged:
        data = self._setting.data
        return _Judged(way, float(found[data.choosing].mean()), self._estimate(found))

    def _estimate(
        self, found: NDArray[np.float64], seen: NDArray[np.bool_] | None = None
    ) -> Estimate:
        data = self._setting.data
        seen = data.reported if seen is None else seen
        return Estimate.of(found[seen], data.groups[seen])

    def _extrapolated(
        self,
        swept: NDArray[np.float64],
        smaller: list[NDArray[np.float64]],
        seen: NDArray[np.bool_],
    ) -> Estimate:
        """Return recall on all rows, from that on the sample and on parts of it."""
        assert self._all is not None
        return extrapolate(
            self._estimate(swept, seen),
            [float(found[seen].mean()) for found in smaller],
            max(1.0, self._all.rows / len(self._setting.data.raw)),
            int(seen.sum()) * self._setting.k,
        )

    def _told(self, found: _Judged) -> Recommendation:
        """Return a recommendation in words and keywords."""
        way, setting = found.way, self._setting
        reached = found.choosing >= self._target
        query: dict[str, Any] = {"k": setting.k}
        if way.by == "file":
            query["rescore_from"] = self._vectors
            if self._column is not None:
                query["rescore_column"] = self._column
        if way.oversample is not None:
            query["oversample"] = way.oversample
        return Recommendation(
            way.row,
            way.by,
            way.oversample,
            way.bytes,
            found.recall,
            found.basis,
            found.sample,
            reached,
            Marked(self._verdict(found, reached)),
            Marked(self._figure(found)),
            _build(way, setting),
            query,
        )

    def _verdict(self, found: _Judged, reached: bool) -> str:
        way, setting = found.way, self._setting
        how = {
            "none": "with no floats kept",
            "file": f"rescored from {_named(self._vectors)}",
        }.get(way.by, f"rescored by {way.by} vectors stored beside")
        what = f"{way.row.method} at {way.row.bits} bits, {how},"
        aim = f"recall@{setting.k} of {self._target:g}"
        cost = f"{way.bytes:,} bytes a vector in place of {4 * setting.data.raw.shape[1]:,}"
        if not reached:
            near = f"{found.recall.value:.3f}"
            return f"No: nothing tried reaches {aim}; closest comes {what} at {near} and {cost}."
        sure = "Yes" if found.basis == "measured" else "Probably"
        if (found.recall.low, found.recall.high) == (0.0, 1.0):
            sure = "Perhaps"  # the sample is too small to be halved
        return f"{sure}: {what} reaches {aim} at {cost}."

    def _figure(self, found: _Judged) -> str:
        """Return the figure of a recommendation, with what it rests on."""
        data, way = self._setting.data, found.way
        rows = len(data.raw) if self._all is None else self._all.rows
        value = f"recall@{self._setting.k} {_interval(found.recall)}"
        others = f"{rows:,} other rows" if data.held_out else f"{rows:,} rows"
        how = f"{way.row.scoring} scan"
        if way.oversample is not None:
            how += f", `oversample={way.oversample:g}`"
        if found.basis == "measured":
            text = f"Measured on all {others}: {value}, {how}."
        else:
            text = (
                f"Extrapolated to all {others}: {value}, {how}. To measure it there takes "
                f"about {_minutes(found.seconds)}, see `max_minutes`."
            )
        if found.sample is not None:
            text += f" On the {len(data.raw):,} rows swept over: {_interval(found.sample)}."
        if self._failed:
            some = "One other" if self._failed == 1 else f"{self._failed} others"
            short = "fell" if found.basis == "measured" else "would fall"
            text += f" {some} reached the target there and {short} short of it on all rows."
        return text


def _interval(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _minutes(seconds: float) -> str:
    minutes = max(1, math.ceil(seconds / 60))
    return f"{minutes:,} minute{'s' * (minutes > 1)}"


def _named(vectors: Vectors | None) -> str:
    """Return what a sentence calls files."""
    if isinstance(vectors, list):
        return f"{vectors[0]} and {len(vectors) - 1} more" if len(vectors) > 1 else str(vectors[0])
    return str(vectors)


def _build(way: Way, setting: Setting) -> dict[str, Any]:
    """Return what ``binq.build`` has to be told beyond its defaults."""
    row = way.row
    dim = setting.data.raw.shape[1]
    # Where a fit saw a part of the rows only, that of the build shall see no others.
    partly = TABLE[cast(Method, row.method)].needs_sample and setting.sample < setting.data.total
    beyond = {
        "truncate_dim": (row.truncate_dim, None),
        "bits": (row.bits if row.truncate_dim is None else dim, dim),
        "metric": (setting.metric, "cosine"),
        "scoring": (row.scoring, default_scoring(row.method)),
        "rescore": ("none" if way.by == "file" else way.by, "none"),
        "seed": (setting.seed, 0),
        "sample": (setting.sample if partly else DEFAULT_SAMPLE, DEFAULT_SAMPLE),
    }
    wanted = {name: value for name, (value, default) in beyond.items() if value != default}
    return {"method": row.method, **wanted}


def compare(
    rows: Sequence[Row], chosen: Recommendation, setting: Setting
) -> tuple[dict[str, Any] | None, str | None]:
    """Compare the recommended row with the best other method in as few bytes, query by query.

    Returns
    -------
    comparison : dict or None
        None where there is no other.
    note : str or None
        What to say where the queries are too few to tell them apart.
    """
    seen, groups = setting.data.reported, setting.data.groups
    x = chosen.oversample

    def values(row: Row) -> NDArray[np.float64]:
        return (row.per_query if x is None else row.rescored_per_query[x])[seen]

    others = [
        row
        for row in rows
        if row.kind == "binq" and row.method != chosen.row.method and row.bytes <= chosen.row.bytes
    ]
    if not others:
        return None, None
    other = max(others, key=lambda row: float(values(row).mean()))
    difference = values(chosen.row) - values(other)
    found = clustered(difference, groups[seen])
    distinct = len(np.unique(groups[seen]))
    apart = distinct >= _FEWEST and not found.low <= 0 <= found.high
    finite = {name: value if math.isfinite(value) else None for name, value in vars(found).items()}
    comparison = {
        "row": chosen.row.name,
        "other": other.name,
        "measure": f"recall@{setting.k}" if x is None else f"candidate_recall@{setting.k}, x{x:g}",
        "difference": finite,
        "apart": apart,
    }
    if apart:
        return comparison, None
    need = "more"
    if found.value and math.isfinite(found.high):
        ratio = ((found.high - found.value) / found.value) ** 2
        need = f"about {max(math.ceil(distinct * ratio), _FEWEST):,}"
    return comparison, (
        f"{distinct:,} different queries are too few to tell {chosen.row.name} from "
        f"{other.name}: difference {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}); "
        f"it takes {need} queries"
    )
