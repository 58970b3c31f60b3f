"""``binq info``."""

from __future__ import annotations

from pathlib import Path

from binq.cli import options as opt
from binq.cli import render


@opt.command(
    {
        "index": opt.INDEX,
        "verify": opt.flag("--verify", "Read the whole file and check every checksum."),
        "json": opt.JSON,
    }
)
def info(*, index: Path, verify: bool, json: bool) -> None:
    """Show what is inside an index, and whether it is whole."""
    from binq.index.describe import describe, require_whole

    found = describe(index, verify=verify)
    if json:
        render.document(found)
    else:
        rows = [(name, _shown(value)) for name, value in found.items() if name != "sections"]
        render.table(str(index), ("property", "value"), rows)
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
                for section in found["sections"]
            ],
        )
    require_whole(index, found)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_shown(entry)}" for name, entry in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(map(_shown, value)) or "-"
    return "-" if value is None else f"{value:,}" if type(value) is int else str(value)
