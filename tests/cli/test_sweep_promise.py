"""What ``binq sweep`` prints can be typed, and then gives what was printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import anisotropic, gaussian, write_jsonl, write_parquet

Cli = Callable[..., Any]
_FIGURE = re.compile(r"rows: recall@\d+ ([0-9.]+) \(([0-9.]+) to ([0-9.]+)\)")


def shell(command: str, place: Path) -> str:
    """Run a command in a real shell, where ``binq`` is this one; return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(place: Path, command: str, truth: str) -> str:
    """Sweep, do what is printed, and require the figure; return all that was printed."""
    printed = shell(command, place)
    lines = printed.replace("\\\n", " ").splitlines()
    build, query = (line.strip() for line in lines if line.startswith("  binq "))
    found = _FIGURE.search(" ".join(lines))
    assert found is not None
    value, low, high = map(float, found.groups())
    shell(f"{build} --threads 1", place)
    assert len(shell(f"{query} --format jsonl", place).splitlines()) > 50
    judge = query.replace("binq query", "binq eval", 1) + f" --truth {truth} --json"
    [reached] = [
        entry["value"]
        for name, entry in json.loads(shell(judge, place))["metrics"].items()
        if name.startswith("recall@")
    ]
    assert low - 0.0006 <= reached <= high + 0.0006  # three digits are printed
    if "Measured on all" in " ".join(lines):
        assert reached == pytest.approx(value, abs=0.0006)
    return " ".join(printed.split())


@pytest.mark.slow
def test_printed_commands_reach_what_was_printed(tmp_path: Path) -> None:
    few = "--no-peers --methods sign,itq --threads 1 -q"
    # Files in two parts, under names that a shell must be told of.
    (tmp_path / "my -o docs").mkdir()
    vectors = anisotropic(5000, 40)
    for part in range(2):
        rows = vectors[part::2]
        np.save(tmp_path / "my -o docs" / f"part {part}.npy", rows)
    np.save(tmp_path / "q.npy", anisotropic(120, 40, seed=1))
    files = "'my -o docs/part*.npy'"
    for more in ("", " --max-minutes 0"):
        told = kept(
            tmp_path,
            f"binq sweep {files} q.npy {few} --bits 40 --sample 2000 --target-recall 0.7{more}",
            files,
        )
        assert told.startswith("Probably: " if more else "Yes: ")
        assert "rescored from my -o docs/part*.npy" in told
        assert f"--rescore-from {files}" in told
    # Columns that have to be named, another metric, a seed; the sample holds all rows.
    write_parquet(tmp_path / "d.parquet", gaussian(700, 24), [f"d{n}" for n in range(700)])
    write_parquet(tmp_path / "q.parquet", gaussian(60, 24, 1), [f"q{n}" for n in range(60)])
    told = kept(
        tmp_path,
        f"binq sweep d.parquet q.parquet {few} --metric ip --seed 3 -k 4 --target-recall 0.6 "
        "--column embedding --id-column id",
        "d.parquet",
    )
    assert "--rescore-column embedding" in told
    # Lines of text, which no row can be fetched from: vectors are stored.
    write_jsonl(tmp_path / "d.jsonl", 3 * gaussian(1500, 16), [f"d{n}" for n in range(1500)])
    write_jsonl(tmp_path / "q.jsonl", 3 * gaussian(80, 16, 1), [f"q{n}" for n in range(80)])
    told = kept(
        tmp_path,
        f"binq sweep d.jsonl q.jsonl {few} --metric l2 --bits 16 --sample 700 --target-recall 0.9",
        "d.jsonl",
    )
    assert "--rescore-from" not in told
    assert "--rescore " in told


@pytest.mark.slow
def test_more_rows_than_a_sweep_looks_at_by_default(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scales = (1 + np.arange(40, dtype=np.float32)) ** -0.5
    centres = gaussian(1000, 40) * scales
    spread = gaussian(40, 64, seed=3)
    for name, count in (("d.npy", 130_000), ("q.npy", 100)):
        near = centres[rng.integers(0, 1000, count)]
        noise = rng.standard_normal((count, 40), np.float32) * scales
        np.save(tmp_path / name, (near + noise) @ spread)
    told = kept(
        tmp_path,
        "binq sweep d.npy q.npy --no-peers --methods sign --bits 64 --threads 2 -q "
        "--target-recall 0.5",
        "d.npy",
    )
    assert "100,000 of 130,000 rows" in told
    assert "Measured on all 130,000 rows" in told


def test_long_commands_are_folded_as_a_shell_takes_them(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "it's -k 5 --metric ip of a name.npy"
    np.save(name, gaussian(60, 16))
    few = ("--methods", "sign", "--no-peers", "-k", "3", "--seed", "12", "--metric", "l2")
    printed = cli("sweep", name, *few).out
    found = cli("sweep", name, *few, "--json").json["recommendation"]
    assert max(map(len, printed.splitlines())) <= 80
    assert " \\\n    --" in printed
    whole = printed.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in whole if line.startswith("  binq ")]
    assert commands == [shlex.split(found["build"]), shlex.split(found["query"])]
    assert printed.startswith(found["verdict"].split(",")[0])


@pytest.mark.slow
def test_a_bar_moves_while_the_first_step_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import time

    from binq.cli import render

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(render, "_quiet", False)
    with render.progress("sweeping") as progress:
        progress(0, 7)
        assert shown.getvalue() == ""
        time.sleep(2)
        assert "sweeping" in shown.getvalue()
        assert "0/7" in shown.getvalue()
    before = shown.getvalue()
    with render.progress("sweeping") as progress:
        progress(0, 7)
    time.sleep(1.2)
    assert shown.getvalue() == before  # short work shows none
