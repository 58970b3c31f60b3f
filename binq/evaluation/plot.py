"""Plots: whether one can be drawn, and recall over speed as matplotlib draws it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final

from binq.errors import UsageError, missing_extra
from binq.evaluation.results import Evaluation

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Told apart by colour-blind readers as well (Okabe & Ito, "Color Universal Design", 2008)."""

_SUFFIXES: Final = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse a plot that cannot be drawn.

    Raises
    ------
    UsageError
        If the suffix says no format.
    MissingExtraError
        If matplotlib is not installed.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            "the suffix of the plot says no format", f"`plot={path}`", ", ".join(_SUFFIXES)
        )
    _require_matplotlib()


def new_figure(size: tuple[float, float]) -> Any:
    """Return a figure of matplotlib, so many inches wide and high.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    _require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def save(figure: Any, sink: BinaryIO, suffix: str) -> None:
    """Write a figure in the format of a suffix."""
    figure.savefig(sink, format=suffix.lower().lstrip("."), dpi=150)


def _require_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "plot", "`plot`")


def draw_curve(found: Evaluation, sink: BinaryIO, suffix: str) -> None:
    """Draw the speed of batches and of single queries over ``recall_scan``, a line for each k.

    A dashed line is the speed of the scan of every row.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    figure = new_figure((10, 4.5))
    batch, single = figure.subplots(1, 2)
    for number, whole in enumerate(found.exhaustive):
        colour = COLOURS[number % len(COLOURS)]
        points = [point for point in found.curve if point.k == whole.k]
        recalls = [point.metrics[f"recall_scan@{whole.k}"]["value"] for point in points]
        batch.plot(recalls, [point.queries_per_second for point in points], "o-", color=colour)
        batch.axhline(whole.queries_per_second, color=colour, linestyle="--", linewidth=1)
        times = [point.latency_ms["median"] for point in points]
        single.plot(recalls, times, "o-", color=colour, label=f"k = {whole.k}")
        single.axhline(whole.latency_ms["median"], color=colour, linestyle="--", linewidth=1)
        for point, recall in zip(points, recalls, strict=True):
            effort = point.effort.given if point.effort else {}
            told = "".join(f"{value:g}" for value in effort.values())
            place = (recall, point.queries_per_second)
            batch.annotate(
                told, place, xytext=(4, 4), textcoords="offset points", fontsize="x-small"
            )
    for axes, title in ((batch, "queries a second, in a batch"), (single, "ms, a query at a time")):
        axes.set_yscale("log")
        axes.set_xlabel("recall_scan")
        axes.set_title(f"{title} (dashed: every row)", fontsize="medium")
        axes.grid(alpha=0.3, which="both")
    single.legend(fontsize="small")
    save(figure, sink, suffix)
