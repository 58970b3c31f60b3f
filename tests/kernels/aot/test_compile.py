"""Kernels as object code: for which CPU, and referring to nothing that is not there."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from binq.kernels import asymmetric, descent, hamming, pack, shingles
from binq.kernels import topk as keys
from binq.kernels.aot import cache
from binq.kernels.aot import compile as aot

FAMILIES = [hamming.FAMILY, asymmetric.FAMILY, pack.FAMILY, descent.FAMILY, shingles.FAMILY]
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
    content = cache.read(aot._path(family, key))
    if content is None:
        pytest.skip("compiled kernels cannot be kept here")
    unpacked = cache.unpack(content, key)
    assert unpacked is not None
    code, symbols, _ = unpacked
    assert symbols
    if code[:4] == b"\x7fELF":
        assert _elf_undefined(code) <= aot.ALLOWED_SYMBOLS


_CROSS = """
import sys
from binq.kernels import hamming
from binq.kernels.aot import compile as aot
target = aot.Target("x86_64-unknown-linux-gnu", sys.argv[1], "")
text, symbols, layout = aot.compile_family(hamming.FAMILY, target, assembly=True)
counted = any("vpopcntq" in line and "zmm" in line for line in text.splitlines())
print(layout["counts"], counted, layout["lanes"])
"""


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [("icelake-server", "1 True 32"), ("x86-64", "0 False 16")],
)
def test_other_cpus_get_their_instructions(cpu: str, expected: str) -> None:
    if not aot.host_target().triple.startswith("x86_64"):
        pytest.skip("LLVM optimises for the CPU it runs on first")
    result = subprocess.run(
        [sys.executable, "-c", _CROSS, cpu], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == expected


def test_arrays_are_aligned() -> None:
    for count in (1, 7, 1000):
        assert keys.aligned(count, np.float32).ctypes.data % 64 == 0


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_change_in_any_source_is_a_new_object(family: aot.Family) -> None:
    place = Path(aot.__file__).parents[1] / "source"
    found, waiting = set(), [family.source]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            text = (place / f"{name}.py").read_text()
            waiting += re.findall(r"^from binq\.kernels\.source\.(\w+) import", text, re.MULTILINE)
    assert set(family.files) == found
