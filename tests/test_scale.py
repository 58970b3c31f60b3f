"""The script that measures indexes of any size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "scale.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_builds_and_measures(tmp_path: Path) -> None:
    options = "--rows 3000 --bits 64 --shard-rows 0,1000 --kind ivf --nlist 8 --queries 20 --keep"
    command = [sys.executable, str(SCRIPT), *options.split(), "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, one, many = map(json.loads, done.stdout.splitlines())
    assert one["bytes"] == (tmp_path / "ivf-3000-0.binq").stat().st_size
    shards = list((tmp_path / "ivf-3000-1000").iterdir())
    assert many["bytes"] == sum(file.stat().st_size for file in shards)
    assert len(shards) == 4
    # Lists, calibration and hits are the same.
    assert one["recall"] == many["recall"] > 0.9
    for case in (one, many):
        assert case["build_anonymous_mb"] > 10
        assert min(case[name] for name in case if name.endswith(("_s", "_ms"))) > 0

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "build_s" not in json.loads(again.stdout.splitlines()[1])
