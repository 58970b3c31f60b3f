"""``binq info``."""

from __future__ import annotations

from typing import Any, Final

from binq.cli import options as opt
from binq.cli import render
from binq.types import MAX_DIM

# Of the calibration of lists and graphs; --json tells all.
_COUNTS: Final = ("10", "40", "100")
_TARGETS: Final = (0.9, 0.95, 0.99)


@opt.command(
    {
        "index": opt.INDEX,
        "verify": opt.flag("--verify", "Read the whole file and check every checksum."),
        "json": opt.JSON,
    }
)
def info(*, index: str, verify: bool, json: bool) -> None:
    """Show what is inside an index, and whether it is whole."""
    from binq.index.describe import describe, require_whole

    found = describe(index, verify=verify)
    if json:
        render.document(found)
    else:
        told = {"lists": _lists, "graph": _graph, "calibration": _origin, "left_over": _left_over}
        rows = [
            (name, told.get(name, _shown)(value))
            for name, value in found.items()
            if name not in ("sections", "shards")
        ]
        render.table(index, ("property", "value"), rows)
        if "calibration" in found:
            _show_gaps(found["calibration"])
        if "shards" in found:
            _show_shards(found["shards"])
        else:
            _show_sections(found["sections"])
    require_whole(index, found)


def _show_sections(sections: list[dict[str, Any]]) -> None:
    render.table(
        "sections",
        ("name", "dtype", "shape", "offset", "bytes"),
        [
            (
                section["name"],
                section["dtype"],
                " x ".join(map(str, section["shape"])),
                f"{section['offset']:,}",
                f"{section['length']:,}",
            )
            for section in sections
        ],
    )


def _show_shards(shards: list[dict[str, Any]]) -> None:
    render.table(
        f"{len(shards):,} shards",
        ("name", "first row", "rows", "bytes"),
        [
            (shard["name"], *(f"{shard[name]:,}" for name in ("first", "rows", "bytes")))
            for shard in shards
        ],
    )


def _lists(lists: dict[str, Any]) -> str:
    sizes = f"{lists['smallest']:,} to {lists['largest']:,} rows, median {lists['median']:,g}"
    return (
        f"{lists['number']:,}: {sizes}, {lists['empty']:,} empty, "
        f"imbalance {lists['imbalance']:.2f} (1 is even)"
    )


def _left_over(others: dict[str, int]) -> str:
    return f"{others['files']:,} shards of builds before, {others['bytes']:,} bytes"


def _graph(graph: dict[str, Any]) -> str:
    reached = f"{graph['unreachable']:,} unreachable" if graph["unreachable"] else "all reachable"
    return (
        f"{graph['nodes']:,} distinct codes, {graph['mean_degree']:,} neighbours each "
        f"({graph['smallest_degree']} to {graph['largest_degree']}, of up to "
        f"{graph['most_neighbours']}), {graph['entries']:,} entries, {reached}; "
        f"{render.walked(graph['walked'])}"
    )


def _origin(calibration: dict[str, Any]) -> str:
    stand_in = " that stood in for queries" if calibration["from"] == "rows" else ""
    return f"with {calibration['queries']:,} {calibration['from']}{stand_in}"


def _show_gaps(calibration: dict[str, Any]) -> None:
    """Print, of all that is calibrated, what most searches ask for."""
    targets: list[float] = calibration["targets"]
    rows = [
        (scan, count, *(_gap(known[count][targets.index(target)]) for target in _TARGETS))
        for scan, known in calibration["gaps"].items()
        for count in _COUNTS
        if count in known
    ]
    if rows:
        render.table(
            "bits looked beyond what fills the candidates",
            ("scan", "candidates", *(f"for {target}" for target in _TARGETS)),
            rows,
        )


def _gap(bits: int) -> str:
    return "all rows" if bits >= MAX_DIM else str(bits)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_shown(entry)}" for name, entry in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(map(_shown, value)) or "-"
    return "-" if value is None else f"{value:,}" if type(value) is int else str(value)
