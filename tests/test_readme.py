"""The README is a promise: every command in it runs, and prints what it says."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_data", place / "sample_data")
    return place


@pytest.mark.slow
def test_every_command_runs_and_prints_what_is_shown(workplace: Path) -> None:
    script = _script()
    ran = 0
    for command, shown in script.commands(README):
        if script.is_setup(command):
            continue  # test_make_demo runs the one; the other is how this test came to run
        if script.missing_tool(command):
            continue
        code, printed = script.run(command, workplace)
        assert code == 0, f"{command}\n{printed}"
        if shown:
            assert _same(printed, shown), f"{command}\n{printed}\nrun: python scripts/readme.py"
        ran += 1
    assert ran > 8


def _same(printed: str, shown: str) -> bool:
    """Compare text by the letter, and decimal fractions to 0.02: CPUs round sums differently."""
    fraction = re.compile(r"(-?[0-9]+\.[0-9]+)")
    mine, theirs = fraction.split(printed), fraction.split(shown)
    return len(mine) == len(theirs) and all(
        abs(float(a) - float(b)) < 0.02 if number % 2 else a == b
        for number, (a, b) in enumerate(zip(mine, theirs, strict=True))
    )


@pytest.mark.slow
def test_python_examples_run(workplace: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert examples
    for code in examples:
        subprocess.run([sys.executable, "-c", code], cwd=workplace, check=True)


def test_the_reference_has_not_drifted() -> None:
    assert _script().with_reference(README) == README, "run: python scripts/readme.py"


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(sys.prefix) / ".ready").exists(), reason="not in the environment that make sets up"
)
def test_make_demo() -> None:
    done = subprocess.run(
        ["make", "demo", f"VENV={sys.prefix}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "recall@10" in done.stdout
