"""A sweep as a page of HTML that needs nothing else, and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, BinaryIO, Final

import numpy as np

from binq.evaluation.plot import COLOURS, new_figure, save
from binq.sweeping.results import Row, Sweep

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse}
td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
td:nth-child(-n+2),th:nth-child(-n+2),.left{text-align:left}tr.front{background:#eef6ee}
pre{background:#f4f4f4;padding:.6rem;overflow-x:auto}.wide{overflow-x:auto}
.best{border-left:4px solid #009e73;padding:.2rem 1rem}svg{max-width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#444}
"""
_WIDTH: Final = 760
_HEIGHT: Final = 360
_EDGE: Final = 48
_KEY: Final = 170
_APART: Final = 28
Points = list[tuple[float, float, str]]


def html(found: Sweep, commands: Sequence[str] = ()) -> str:
    """Return the page: recommendation, table, figures, bits and the worst queries.

    Parameters
    ----------
    found : Sweep
    commands : sequence of str
        The lines to type, as the command line writes them.
    """
    facts = found.facts
    what = "held-out rows as queries" if facts["held_out"] else "queries"
    chosen, recall = found.recommendation, f"recall@{facts['k']}"
    tried = _by_oversample(found.rows)
    body = [
        "<h1>Which bits for these embeddings?</h1>",
        f"<p>{facts['swept']:,} of {facts['n']:,} rows of {facts['dim']} dimensions, "
        f"{facts['queries']:,} {what}, metric {escape(facts['metric'])}, "
        f"{recall} against exact float32.</p>",
        f'<div class="best"><p><b>{escape(chosen.verdict)}</b></p><p>{escape(chosen.sentence)}</p>'
        f"<pre>{escape(chr(10).join(commands))}</pre></div>",
        "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in found.notes) + "</ul>",
        "<h2>Everything that was tried</h2>",
        "<p>recall: nothing stored but those bytes. ×N: the scan's best N·k rescored by exact "
        "vectors. Green: no other row has as few bytes and as much recall.</p>",
        _table(found),
        "<h2>Recall over bytes</h2>",
        _chart(_by_method(found.rows), "bytes per vector (logarithmic)", recall, doubling=True),
        "<h2>Recall over oversample, rescored by exact vectors</h2>",
        _chart(tried, "oversample (logarithmic)", recall, doubling=True, joined=True),
        "<h2>Bits</h2>",
        "<p>The share of rows in which each bit is set, from the most often set bit to the least. "
        "A flat line at one half is ideal; a dead bit is the same in every row.</p>",
        _balance(found.rows),
        f"<h2>Queries that {escape(chosen.row.name)} serves worst</h2>",
        _worst(found.worst),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>binq sweep</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def draw(found: Sweep, sink: BinaryIO, suffix: str) -> None:
    """Draw recall over bytes with matplotlib, in the format of a suffix.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    figure = new_figure((8, 5))
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(_by_method(found.rows).items()):
        bytes_, recalls = zip(*((x, y) for x, y, _ in points), strict=True)
        colour, marker = COLOURS[number % len(COLOURS)], "os^Dv"[number // len(COLOURS) % 5]
        axes.plot(bytes_, recalls, marker, color=colour, label=name)
    front = [(row.bytes, row.recall.value) for row in found.rows if row.pareto]
    axes.step(*zip(*front, strict=True), where="post", color="#999999", linewidth=1, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bytes per vector")
    axes.set_ylabel(f"recall@{found.facts['k']}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    save(figure, sink, suffix)


def _by_method(rows: Sequence[Row]) -> dict[str, Points]:
    series: dict[str, Points] = {}
    for row in rows:
        name = row.method if row.kind != "binq" else f"{row.method}, {row.scoring}"
        series.setdefault(name, []).append((row.bytes, row.recall.value, row.name))
    return series


def _by_oversample(rows: Sequence[Row]) -> dict[str, Points]:
    """Return the rows on the front and, of the others, the best few."""
    some = [row for row in rows if row.kind == "binq" and len(row.rescored) > 1]
    some = sorted(some, key=lambda row: (not row.pareto, -row.recall.value))[:10]
    return {row.name: [(x, e.value, row.name) for x, e in row.rescored.items()] for row in some}


def _table(found: Sweep) -> str:
    oversamples = sorted({x for row in found.rows for x in row.rescored})
    head = ["method", "scan", "bits", "bytes", f"recall@{found.facts['k']}", "95 % interval"]
    head += [f"×{x:g}" for x in oversamples]
    head += ["ms/query/M rows", "fit s", "vectors/s", "dead bits"]
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    for row in found.rows:
        cells = [row.method, row.scoring, _cell(row.bits, ""), f"{row.bytes:,}"]
        cells += [f"{row.recall.value:.4f}", f"{row.recall.low:.4f} to {row.recall.high:.4f}"]
        cells += [f"{row.rescored[x].value:.4f}" if x in row.rescored else "" for x in oversamples]
        cells += [
            _cell(row.scan_ms, ".2f"),
            _cell(row.fit_seconds, ".2f"),
            _cell(row.encode_per_second, ",.0f"),
            _cell(row.dead_bits, ""),
        ]
        mark = ' class="front"' if row.pareto else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def _cell(value: float | None, shape: str) -> str:
    return "" if value is None else format(value, shape)


def _worst(worst: Sequence[dict[str, Any]]) -> str:
    lines = [
        '<tr><th class="left">query</th><th>recall</th><th>rescored</th>'
        "<th>score of the first neighbour</th><th>of the last</th></tr>"
    ]
    for entry in worst:
        deep = _cell(entry["rescored"], ".3f")
        if deep:
            deep += f" (×{entry['oversample']:g})"
        lines.append(
            f'<tr><td class="left">{escape(str(entry["query"]))}</td>'
            f"<td>{entry['recall']:.3f}</td><td>{deep}</td>"
            f"<td>{entry['first_score']:.4f}</td><td>{entry['last_score']:.4f}</td></tr>"
        )
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def _balance(rows: Sequence[Row]) -> str:
    series: dict[str, Points] = {}
    for row in rows:
        name = f"{row.method}, {row.bits} bits"
        if row.balance is None or name in series:
            continue
        ordered = np.sort(row.balance)[::-1]
        places = np.unique(np.linspace(0, len(ordered) - 1, 200).astype(int))
        last = max(len(ordered) - 1, 1)
        series[f"{name}, {row.dead_bits} dead"] = [
            (float(place) / last, float(ordered[place]), f"{name}: {ordered[place]:.3f}")
            for place in places
        ]
    return _chart(
        series, "bits, by how often they are set", "share of ones", joined=True, dots=False
    )


def _chart(
    series: dict[str, Points],
    across: str,
    up: str,
    *,
    doubling: bool = False,
    joined: bool = False,
    dots: bool = True,
) -> str:
    """Return a chart as SVG: points or lines by name, with a key."""
    points = [point for part in series.values() for point in part]
    if not points:
        return "<p>Nothing to draw.</p>"
    place = np.log2 if doubling else float
    xs = [float(place(x)) for x, _, _ in points]
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    bottom = max(0.0, np.floor(10 * min(y for _, y, _ in points)) / 10)
    top = max(min(1.0, np.ceil(10 * max(y for _, y, _ in points)) / 10), bottom + 0.1)
    height = max(_HEIGHT, 2 * _EDGE + 16 * len(series))
    plain, tall = _WIDTH - 2 * _EDGE - _KEY, height - 2 * _EDGE

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _EDGE + plain * (float(place(x)) - left) / (right - left),
            height - _EDGE - tall * (y - bottom) / (top - bottom),
        )

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(up)} over {escape(across)}">'
    ]
    for share in np.linspace(bottom, top, round((top - bottom) * 10) + 1):
        y = height - _EDGE - tall * (share - bottom) / (top - bottom)
        parts.append(
            f'<path d="M{_EDGE} {y:.1f}H{_EDGE + plain}" stroke="#e5e5e5"/>'
            f'<text x="{_EDGE - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.1f}</text>'
        )
    written = -float(_WIDTH)
    for x in sorted({x for x, _, _ in points}) if doubling else (0.0, 0.5, 1.0):
        across_at = at(x, bottom)[0]
        if across_at - written < _APART:
            continue
        written = across_at
        parts.append(
            f'<text x="{across_at:.1f}" y="{height - _EDGE + 16}" text-anchor="middle">{x:g}</text>'
        )
    parts.append(
        f'<text x="{_EDGE + plain / 2}" y="{height - 12}" text-anchor="middle">{escape(across)}'
        f'</text><text x="{_EDGE}" y="{_EDGE - 16}">{escape(up)}</text>'
    )
    for number, (name, part) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = ("", "6 3", "2 3")[number // len(COLOURS) % 3]
        where = [at(x, y) for x, y, _ in part]
        if joined:
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in where)
            parts.append(
                f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.5" '
                f'stroke-dasharray="{dash}"/>'
            )
        if dots:
            fill = colour if number < len(COLOURS) else "#fff"
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}">'
                f"<title>{escape(label)}: {value:.4f} at {size:g}</title></circle>"
                for (x, y), (size, value, label) in zip(where, part, strict=True)
            ]
        y = _EDGE + 16 * number
        x = _EDGE + plain + 16
        parts.append(
            f'<path d="M{x} {y}h16" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
            f'<text x="{x + 22}" y="{y + 4}">{escape(name)}</text>'
        )
    return "".join(parts) + "</svg>"
