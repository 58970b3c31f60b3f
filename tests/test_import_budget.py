"""What a command loads before it has anything to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer.main

from binq.cli.app import app

HEAVY = ("numpy", "numba", "pyarrow", "xxhash", "threadpoolctl", "ir_measures", "ray")
PROBE = f"""
import sys
sys.argv = ["binq", *sys.argv[1:]]
from binq.cli.app import main
try:
    main()
except SystemExit as left:
    found = [name for name in {HEAVY!r} if name in sys.modules]
    sys.stderr.write(f"code {{left.code}} loaded {{found}}")
"""


COMMANDS: Any = typer.main.get_command(app)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS.commands)],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == "code 0 loaded []"
    assert done.stdout


@pytest.mark.parametrize("words", [["build"], ["query", "--nope"], ["nope"]], ids=" ".join)
def test_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1].endswith("code 2 loaded []")
