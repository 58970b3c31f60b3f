"""The documents are a promise: every command in them runs, and prints what it says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import binq
from binq.binarizers.methods import TABLE
from binq.errors import BinqError, ExitCode

ROOT = Path(__file__).parent.parent


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


script = _script()
NAMES = [str(path.relative_to(ROOT)) for path in script.documents()]


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_everything_runs_and_prints_what_is_shown(name: str, tmp_path: Path) -> None:
    place = script.fresh_place(tmp_path)
    for step in script.steps(_text(name)):
        if step.is_setup or step.missing_tool:
            continue  # test_make_demo runs the one; the others are how this test came to run
        code, printed = step.run(place)
        assert code == 0, f"{step.code}\n{printed}"
        if step.shown:
            wrong = f"{step.code}\n{printed}\nrun: python scripts/docs.py {name}"
            assert _same(printed, step.shown), wrong


def _same(printed: str, shown: str) -> bool:
    """Compare text by the letter, and decimal fractions to 0.02: CPUs round sums differently."""
    fraction = re.compile(r"(-?[0-9]+\.[0-9]+)")
    mine, theirs = fraction.split(printed), fraction.split(shown)
    return len(mine) == len(theirs) and all(
        abs(float(a) - float(b)) < 0.02 if number % 2 else a == b
        for number, (a, b) in enumerate(zip(mine, theirs, strict=True))
    )


def test_documents_are_there_and_have_something_to_run() -> None:
    ran = Counter({name: sum(1 for _ in script.steps(_text(name))) for name in NAMES})
    assert ran.total() > 40
    for name in ("README.md", "docs/python.md", "docs/choosing.md", "docs/text.md"):
        assert ran[name] > 3, name


def test_the_reference_has_not_drifted() -> None:
    text = script.REFERENCE.read_text(encoding="utf-8")
    assert script.with_reference(text) == text, "run: python scripts/docs.py docs/cli.md"


def test_the_readme_is_short() -> None:
    assert len(_text("README.md").splitlines()) <= 250


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", _text(name), flags=re.S)):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, f"{name}: {target}"


def test_files_that_the_guide_names_exist() -> None:
    named = re.findall(r"`((?:binq|tests|scripts|docs)/[\w/.]*)`", _text("CONTRIBUTING.md"))
    assert len(named) > 20
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing, missing


def test_the_guide_names_every_room() -> None:
    guide = _text("CONTRIBUTING.md")
    for room in (ROOT / "binq").iterdir():
        if room.is_dir() and room.name != "__pycache__":
            assert f"`binq/{room.name}/`" in guide, room.name


def test_tables_say_what_the_code_says() -> None:
    cli, python, quantizers = (_text(f"docs/{name}.md") for name in ("cli", "python", "quantizers"))
    for code in ExitCode:
        assert re.search(rf"^\|[^|]*\b{int(code)}\b[^|]*\|", cli, re.MULTILINE), code
    for error in BinqError.__subclasses__():
        assert f"| `{error.__name__}` |" in python
        row = re.search(rf"^\| `{error.__name__}` \|.*\| {int(error.exit_code)} \|$", python, re.M)
        assert row, error
    for name, method in TABLE.items():
        row = re.search(rf"^\|[^|]*`{name}`[^|]*\|([^|]*)\|([^|]*)\|", quantizers, re.MULTILINE)
        assert row, name
        assert row[2].strip().lower() == method.scoring, name
        assert ("any" in row[1]) == (method.widths == "any"), name
    for name in set(re.findall(r"`binq\.(\w+)", python)):
        assert name in dir(binq) or (ROOT / "binq" / name).is_dir(), name


def test_workflows_and_metadata_are_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    tests = yaml.safe_load(_text(".github/workflows/test.yml"))
    matrix = tests["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert len(matrix["os"]) == 3
    assert any(step.get("run") == "make test" for step in tests["jobs"]["test"]["steps"])
    release = yaml.safe_load(_text(".github/workflows/release.yml"))
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    hooks = yaml.safe_load(_text(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    citation = yaml.safe_load(_text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The binq developers"}]
    assert {"message", "title", "version"} <= set(citation)


def test_the_citation_names_this_version() -> None:
    assert f'version: "{binq.__version__}"' in _text("CITATION.cff")


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
