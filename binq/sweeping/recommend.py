"""What to build: the fewest bytes that reach the recall aimed at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from binq.binarizers import default_scoring
from binq.errors import Marked
from binq.evaluation.statistics import Estimate, clustered, recall
from binq.similarity import best_first, scores
from binq.sweeping.measure import STORED, Setting, restored
from binq.sweeping.results import Recommendation, Row
from binq.types import StoredVectors

DEFAULT_TARGET: Final = 0.95
# With fewer the normal interval is not to be trusted.
_FEWEST: Final = 20
_BLOCK_BYTES: Final = 32 << 20


@dataclass(frozen=True, eq=False)
class _Option:
    """A row, with or without vectors stored to rescore its candidates."""

    row: Row
    stored: StoredVectors
    oversample: float | None
    bytes: int
    bound: NDArray[np.float64]
    """Recall of every query, or what it cannot exceed."""


def _rescored(
    near: NDArray[np.int64], vectors: NDArray[np.float32], setting: Setting
) -> NDArray[np.int64]:
    """Return the best k (q, k) of rows (q, m) by their stored vectors (n, dim)."""
    queries = setting.data.queries
    best = np.empty((len(near), min(setting.k, near.shape[1])), np.int64)
    step = max(1, _BLOCK_BYTES // (8 * vectors.shape[1] * near.shape[1]))
    for start in range(0, len(near), step):
        rows = near[start : start + step]
        found = scores(queries[start : start + step], vectors[rows], setting.metric)
        order = best_first(rows, found, setting.k)
        best[start : start + step] = np.take_along_axis(rows, order, axis=1)
    return best


def with_pareto(rows: list[Row]) -> list[Row]:
    """Order rows by (bytes, recall descending), and mark those that none has both beaten."""
    ordered = sorted(rows, key=lambda row: (row.bytes, -row.recall.value))
    best = -math.inf
    found = []
    for row in ordered:
        found.append(replace(row, pareto=row.recall.value > best))
        best = max(best, row.recall.value)
    return found


def recommend(rows: Sequence[Row], setting: Setting, target: float) -> Recommendation:
    """Choose by the queries that choose, and report by those that are reported on.

    Of all rows of binarizers, alone or with int8 or float16 vectors stored to rescore by, the one
    of the fewest bytes in all that reaches the target; among equals the one that rescores less,
    then the one of the higher recall. Where none reaches it, the one of the highest recall.
    """
    data = setting.data
    dim = data.raw.shape[1]
    options = []
    for row in rows:
        if row.kind != "binq":
            continue
        options.append(_Option(row, "none", None, row.bytes, row.per_query))
        for stored, width in STORED.items():
            size = row.bytes + dim * width
            options += [
                _Option(row, stored, x, size, bound) for x, bound in row.rescored_per_query.items()
            ]
    options.sort(key=lambda o: (o.bytes, o.oversample or 0, -o.bound[data.choosing].mean()))
    stores: dict[StoredVectors, NDArray[np.float32]] = {}

    def measured(option: _Option) -> NDArray[np.float64]:
        if option.stored == "none" or option.oversample is None:
            return option.row.per_query
        if option.stored not in stores:
            stores[option.stored] = restored(data.corpus, option.stored)
        assert option.row.candidates is not None
        count = setting.candidate_count(option.oversample)
        near = option.row.candidates[:, :count].astype(np.int64)
        return recall(_rescored(near, stores[option.stored], setting), setting.truth)

    chosen, found, reached = None, None, False
    for option in options:
        if option.bound[data.choosing].mean() >= target:
            found = measured(option)
            if found[data.choosing].mean() >= target:
                chosen, reached = option, True
                break
    if chosen is None or found is None:
        chosen = max(options, key=lambda o: (o.bound[data.choosing].mean(), -o.bytes))
        found = measured(chosen)
    x = chosen.oversample
    estimate = Estimate.of(found[data.reported], data.groups[data.reported])
    return Recommendation(
        chosen.row,
        chosen.stored,
        x,
        chosen.bytes,
        estimate,
        reached,
        Marked(_sentence(chosen, estimate, reached, target, setting)),
        _build(chosen, setting),
        {"k": setting.k} | ({} if x is None else {"oversample": x}),
    )


def _sentence(option: _Option, estimate: Any, reached: bool, target: float, s: Setting) -> str:
    row = option.row
    how = "no floats stored"
    if option.oversample is not None:
        how = f"{option.stored} vectors to rescore by and `oversample={option.oversample:g}`"
    aim = f"recall@{s.k} of {target:g}"
    start = f"For {aim}: build" if reached else f"Nothing tried reaches {aim}; closest comes"
    return (
        f"{start} {row.method} at {row.bits} bits with {row.scoring} scoring and {how}: recall "
        f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}) at {option.bytes:,} "
        f"bytes a vector, {row.bytes:,} of them scanned, where float32 takes "
        f"{4 * s.data.raw.shape[1]:,}."
    )


def _build(option: _Option, setting: Setting) -> dict[str, Any]:
    """Return what ``binq.build`` has to be told beyond its defaults."""
    row = option.row
    dim = setting.data.raw.shape[1]
    beyond = {
        "truncate_dim": (row.truncate_dim, None),
        "bits": (row.bits if row.truncate_dim is None else dim, dim),
        "metric": (setting.metric, "cosine"),
        "scoring": (row.scoring, default_scoring(row.method)),
        "rescore": (option.stored, "none"),
        "seed": (setting.seed, 0),
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
