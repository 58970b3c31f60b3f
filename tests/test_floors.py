"""Imports point downwards, in no circle; a module that has no floor yet fails."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "binq"

# The rooms from the top: a room imports from those below it, in no circle.
ROOMS = (
    "__main__",
    "cli",
    "sweeping",
    "benchmark",
    "building",
    "evaluation",
    "index",
    "search",
    "text",
    "encoders",
    "structures",
    "storage",
    "binarizers",
    "vectors",
    "engines",
    "io",
    "kernels",
)
# At the foot of the house, for every room: modules that know little but each other.
GROUND = ("similarity", "bits", "threads", "types", "errors", "version")
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def floor_of(module: str) -> int:
    """Return the number of a module's room, counted from the bottom."""
    if module == "binq":
        return 0
    room = module.split(".")[1]
    assert room in ROOMS + GROUND, f"{module} stands in no room; give it one"
    return len(ROOMS) - ROOMS.index(room) if room in ROOMS else 0


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return what a module imports of binq, wherever in the file; but not for types alone."""
    found = set()
    tree = ast.parse(MODULES[module].read_text())  # its own: parts are taken out
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return frozenset(name for name in found if name in MODULES and name != module)


def test_imports_point_downwards() -> None:
    for module in MODULES:
        for other in imports_of(module):
            assert floor_of(other) <= floor_of(module), f"{module} imports {other}, from above it"


def test_no_circles() -> None:
    try:
        TopologicalSorter({module: imports_of(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_few_names_at_the_top() -> None:
    names = {path.relative_to(PACKAGE).parts[0] for path in MODULES.values()}
    assert len(names) <= 24, sorted(names)


def test_nobody_reaches_into_private_parts() -> None:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("binq"):
                names = [alias.name for alias in node.names]
                private = [name for name in names if name[0] == "_" and name[1] != "_"]
                assert not private, f"{module} imports {private} of {node.module}"


def test_only_render_prints() -> None:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                pytest.fail(f"{module} prints")


def test_kernels_know_arrays_only() -> None:
    for module in MODULES:
        if module.startswith("binq.kernels."):
            others = [name for name in imports_of(module) if not name.startswith("binq.kernels")]
            assert not others, module


def test_only_its_engine_imports_ray() -> None:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and any(alias.name == "ray" for alias in node.names):
                assert module == "binq.engines.ray"


def test_files_and_functions_stay_short() -> None:
    for module, path in MODULES.items():
        lines = len(path.read_text().splitlines())
        assert lines < 400, f"{module} has {lines} lines"
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                assert lines < 120, f"{module}.{node.name} has {lines} lines"


def test_names_say_something_and_every_module_says_what_it_is() -> None:
    for module, tree in TREES.items():
        assert not {"utils", "core", "common", "helpers"} & set(module.split("."))
        assert ast.get_docstring(tree), module
