"""Kernels as object code: for which CPU, and referring to nothing that is not there."""

from __future__ import annotations

import ast
import itertools
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from binq.kernels import (
    asymmetric,
    descent,
    graph,
    hamming,
    lists,
    near_lists,
    nearest,
    pack,
    scan,
    shingles,
)
from binq.kernels.allowed import Chosen
from binq.kernels.aot import cache
from binq.kernels.aot import compile as aot

FAMILIES = [
    module.FAMILY
    for module in (
        hamming, asymmetric, pack, nearest, lists, near_lists, graph, descent, shingles
    )
]  # fmt: skip
ROOT = Path(__file__).parents[3]


def test_named_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    aot.host_target.cache_clear()
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    assert aot.host_target().cpu == "haswell"
    assert aot.host_target().features == ""
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx2")
    aot.host_target.cache_clear()
    assert aot.host_target().features == "+avx2"
    aot.host_target.cache_clear()


@pytest.mark.parametrize("name", ["NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"])
def test_a_cpu_that_llvm_does_not_know_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """LLVM itself would tell it on stderr, many times, and end the process."""
    aot.host_target.cache_clear()
    monkeypatch.setenv(name, "+nonsense")
    with pytest.raises(OSError, match=rf"'\+nonsense' is not a recognized.*{name}=\+nonsense"):
        aot.host_target()
    aot.host_target.cache_clear()
    assert capfd.readouterr() == ("", "")


def _elf_undefined(code: bytes) -> set[str]:
    """Names of the undefined symbols of a 64-bit little-endian ELF object."""
    (table_at,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, table_at + i * size) for i in range(count)]
    names = set()
    for section in sections:
        if section[1] != 2:
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, _, _, index = struct.unpack_from("<IBBH", code, at)
            if index == 0 and name:
                start = strings + name
                names.add(code[start : code.index(b"\0", start)].decode())
    return names


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_objects_refer_to_nothing_but_the_c_library(family: aot.Family) -> None:
    aot.load(family)
    key = aot._key(family, aot.host_target())
    unpacked = cache.find(f"{family.name}-{key}.o", key)
    if unpacked is None:
        pytest.skip("compiled kernels cannot be kept here")
    assert unpacked is not None
    code, symbols, _ = unpacked
    assert set(symbols) == set(aot.load(family).functions)
    if code[:4] == b"\x7fELF":
        assert _elf_undefined(code) <= aot.ALLOWED_SYMBOLS


def test_a_scan_of_all_rows_compiles_nothing_else() -> None:
    """What lists need would double the time of the first query on a machine."""
    scans = {"scan_counts", "scan_tables"}
    assert set(aot.load(hamming.FAMILY).functions) - scans == {"scan_rows", "measure"}
    own = {"scan", "scan_one", "quantize", "measure"}
    assert set(aot.load(asymmetric.FAMILY).functions) == own


# Kernels that nobody looks at have names, and are not compiled.
_LATER = """
import functools, sys, types
from numba import cfunc
from binq.kernels import graph, hamming
from binq.kernels.aot import compile as aot
from binq.kernels.source import graph as of_graph, hamming as of_hamming

def later(signature, **how):
    return lambda function: functools.partial(cfunc(signature, **how), function)

def only(source, *names):
    every, source.cfunc = source.kernels, later
    def kernels(features):
        found, layout = every(features)
        known.clear()
        known.update(found)
        return {name: found[name]() for name in names if name in found}, layout
    source.kernels = kernels

known = {}
"""
_CROSS = """
only(of_hamming, "scan_counts", "measure")
target = aot.Target("x86_64-unknown-linux-gnu", sys.argv[1], "")
text, symbols, layout = aot.compile_family(hamming.FAMILY, target, assembly=True)
counted = any("vpopcntq" in line and "zmm" in line for line in text.splitlines())
print("scan_counts" in known, counted, layout["lanes"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "expected"),
    [("icelake-server", "True True 32"), ("x86-64", "False False 16")],
)
def test_other_cpus_get_their_instructions(cpu: str, expected: str) -> None:
    if not aot.host_target().triple.startswith("x86_64"):
        pytest.skip("LLVM optimises for the CPU it runs on first")
    result = subprocess.run(
        [sys.executable, "-c", _LATER + _CROSS, cpu],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == expected


# numba types `search` once for each width of registers, which is all that graphs ask for.
_CROSS_GRAPH = """
told = set()
only(of_graph, "search")
compiled = of_graph.kernels

@functools.cache
def typed(lanes):
    found = compiled(types.SimpleNamespace(lanes=lanes))
    told.add((tuple(sorted(known)), tuple(sorted(found[1].items()))))
    return found

of_graph.kernels = lambda features: typed(features.lanes)
for arch, cpu, instruction in (
    ("x86_64", "x86-64", "pshufb"), ("x86_64", "haswell", "vpshufb"),
    ("x86_64", "icelake-server", "vpopcnt"), ("aarch64", "generic", "cnt"),
):
    target = aot.Target(arch + "-unknown-linux-gnu", cpu, "")
    text, symbols, layout = aot.compile_family(graph.FAMILY, target, assembly=True)
    print(any(line.strip().startswith(instruction) for line in text.splitlines()))
print(len(told))
"""


@pytest.mark.slow
def test_graphs_are_compiled_for_other_cpus_with_one_layout_of_memory() -> None:
    """Without a shuffle, with one, with counts of bits, and with those of NEON."""
    if not aot.host_target().triple.startswith("x86_64"):
        pytest.skip("LLVM optimises for the CPU it runs on first")
    result = subprocess.run(
        [sys.executable, "-c", _LATER + _CROSS_GRAPH],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["False", "True", "True", "True", "1"]


def test_arrays_are_aligned() -> None:
    for count in (1, 7, 1000):
        array = scan.aligned(count, np.float32)
        assert len(array) == count
        assert scan.address(array) == array.ctypes.data
        assert array.ctypes.data % 64 == 0
        array.flags.writeable = False
        assert scan.address(array) == array.ctypes.data
    memory = scan.Memory(1, 100, 0, 8)
    for number, (where, size) in enumerate(zip(memory.addresses, (1, 100, 0, 8), strict=True)):
        assert where % 64 == 0
        assert memory.view(number, np.uint8, size).ctypes.data == where


def test_sizes_that_caller_and_kernel_share_are_told_by_the_object() -> None:
    """No number with a name stands both in a caller and in a source."""

    def named(path: Path) -> dict[str, str]:
        found = {}
        for node in ast.parse(path.read_text()).body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            target = node.targets[0] if isinstance(node, ast.Assign) else target
            if isinstance(target, ast.Name) and node.value is not None:
                numbers = all(
                    isinstance(
                        part, (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
                    )
                    for part in ast.walk(node.value)
                )
                if numbers:
                    found[target.id.strip("_")] = ast.unparse(node.value)
        return found

    place = Path(aot.__file__).parents[1]
    callers = [path for path in place.glob("*.py") if path.name != "shingles.py"]
    sources = [named(path) for path in (place / "source").glob("*.py")]
    told = set().union(*sources)
    for path in callers:
        assert not told & set(named(path)), path
        assert "kernels.source" not in path.read_text(), path


def test_scratch_is_as_large_as_a_scan_needs() -> None:
    """Nothing behind the bytes that the layout tells of is written."""
    random = np.random.default_rng(0)
    library = aot.load(hamming.FAMILY)
    units = aot.load(asymmetric.FAMILY)
    for words, count in itertools.product((1, 2, 3, 12, 33), (1, 2, 5)):
        codes = random.integers(0, 2**64, (5000, words), np.uint64)
        queries = random.integers(0, 2**64, (count, words), np.uint64)
        weights = random.standard_normal((count, 64 * words)).astype(np.float32)
        base, ones = np.zeros(count, np.float32), np.ones(5000, np.float32)
        factors = asymmetric.Factors(ones, ones, 1)
        for scan_of_all in (
            hamming.prepared(library, codes, queries, np.int32(10_000)),
            asymmetric.prepared(units, codes, weights, base, factors),
        ):
            layout = scan_of_all.library.layout
            name = f"{scan_of_all.name}.scratch"
            whole = layout[name] + words * layout[f"{name}_per_word"]
            members = scan.members_of(count, layout[f"{scan_of_all.name}.group"])
            spans = [[0, 4097, 0, len(members)], [4100, 5000, 0, len(members)]]
            tasks = scan.Tasks(np.array(spans), members, [(0, 2)])
            for allowed in (None, random.integers(0, 2**64, 79, np.uint64)):
                state = scan.State(scan_of_all, tasks, Chosen(5000, None, allowed), 100, 10)
                memory = scan.Memory(whole + 4096)
                guard = memory.view(0, np.uint8, whole + 4096)[whole:]
                guard[:] = 77
                state.use_scratch(memory.addresses[0])
                state.run(0, 2)
                assert (guard == 77).all(), (name, words)


def test_a_change_in_any_source_is_a_new_object() -> None:
    """An object's key is of all that is in `source`, which takes nothing from beside it."""
    for path in (Path(aot.__file__).parents[1] / "source").iterdir():
        if path.suffix == ".py":
            for module in re.findall(r"^from (binq\S*) import", path.read_text(), re.MULTILINE):
                assert module.startswith("binq.kernels.source"), path
        else:
            assert path.name == "__pycache__"


SCATTERED = """
import ctypes
import llvmlite.binding, numpy as np  # what loads is loaded before
from binq.kernels import hamming, nearest, scan
from binq.structures.flat import Flat
from binq.structures.queries import Queries
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *4 * [ctypes.c_int]]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
def taken(size):
    return libc.mmap(None, size, 0, 0x4022, -1, 0)  # no access, nothing reserved
page = 4096
start = taken(3 << 30)
for size in (256 * page, 16 * page, page):
    while taken(size) > start:
        pass
libc.munmap(start + (3 << 30) - 4 * page, 4 * page)
codes = np.arange(3000, dtype=np.uint64).reshape(-1, 1)
print(Flat(codes, lambda: None).nearest(Queries(codes=codes[7:8]), 1).rows.tolist())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="maps memory as Linux does")
def test_kernels_load_where_room_is_scattered() -> None:
    # Some pages are free, and all else lies 3 GiB away: no section may go there by itself.
    done = subprocess.run(
        [sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "[[7]]\n"), done.stderr
