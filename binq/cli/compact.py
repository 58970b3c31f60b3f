"""``binq compact``."""

from __future__ import annotations

from binq.cli import options as opt
from binq.cli import render


@opt.command(
    {
        "index": opt.argument(
            str, "DIRECTORY", "A directory of shards, of build --shard-rows, or the URI of one."
        ),
        "output": opt.output("The index file, or an s3:// or gs:// URI.", "INDEX", kind=str),
        "overwrite": opt.OVERWRITE,
    }
)
def compact(*, index: str, output: str, overwrite: bool) -> None:
    """Make one index file of shards; rows keep their numbers, and answers are the same."""
    from binq.building.compact import compact as make_one

    with render.progress("verifying") as progress:
        report = make_one(index, output, overwrite=overwrite, progress=progress)
    render.note(
        f"{output}: {report.rows:,} rows of {report.shards:,} shards, {report.size:,} bytes"
    )
