"""Kernels as object code: compiled once per CPU, kept in a per-user cache, loaded without numba.

A *family* is a source file with numba kernels.  The first use compiles it (seconds) to object code
for the CPU of this machine and stores that; from then on llvmlite alone loads it (milliseconds).
Functions are called through ctypes, which releases the GIL.

Where nothing can be stored, the kernels are compiled in memory and `notice` is told so, once.

Kernels have no way to raise: code that could would refer to the runtime of numba or Python, which
is not there.  `compile_family` refuses such a reference (`ALLOWED_SYMBOLS`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import os
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from binq.kernels.aot import cache

ALLOWED_SYMBOLS = frozenset({"memcpy", "memmove", "memset", "bzero", "__bzero", "memset_pattern16"})

notice: Callable[[str], None] | None = None
"""Told, in one line, what a user should know: that kernels are being compiled, or why they cannot
be kept. None keeps silent."""

_lock = threading.Lock()
_loaded: dict[tuple[str, str], Library] = {}
_noticed: set[str] = set()
_spent: dict[str, int] = {}


@dataclass(frozen=True)
class Target:
    """The CPU that code is made for.

    Attributes
    ----------
    triple : str
        LLVM's name of architecture, vendor and system.
    cpu : str
        LLVM's name of the CPU.
    features : str
        LLVM feature list, ``"+avx2,-avx512f,..."``; empty for those the CPU's name implies.
    """

    triple: str
    cpu: str
    features: str


@dataclass(frozen=True)
class Family:
    """A kernel family: the module to compile, and the files that its code comes from.

    Attributes
    ----------
    name : str
        Becomes part of the file name in the cache.
    source : str
        Module beside this one whose ``kernels(machine)`` returns the compiled functions.
    files : tuple of str
        All source modules whose text the object depends on.
    """

    name: str
    source: str
    files: tuple[str, ...]


class Library:
    """Loaded kernels.

    Attributes
    ----------
    layout : dict of str to int
        What the family says about itself, such as the register width it was made for.
    """

    def __init__(self, code: bytes, symbols: dict[str, str], layout: dict[str, int]) -> None:
        from llvmlite import binding

        self.layout = layout
        compiler = _machine(host_target(), jit=True)
        # The engine owns the memory of the code: it must live as long as the functions.
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), compiler)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self._addresses = {
            name: self._engine.get_function_address(symbol) for name, symbol in symbols.items()
        }

    def function(self, name: str, *arguments: Any) -> Callable[..., None]:
        """The kernel `name` as a function of ctypes `arguments`; it returns nothing."""
        function = ctypes.CFUNCTYPE(None, *arguments)(self._addresses[name])
        function.library = self  # type: ignore[attr-defined]  # its code must not go before it
        return function


@functools.cache
def host_target() -> Target:
    """The CPU of this machine, or the one named by NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""
    from llvmlite import binding

    triple = binding.get_process_triple()
    cpu = os.environ.get("NUMBA_CPU_NAME") or ""
    features = os.environ.get("NUMBA_CPU_FEATURES") or ""
    if not cpu:
        cpu = binding.get_host_cpu_name()
        features = features or binding.get_host_cpu_features().flatten()
    return Target(triple, cpu, features)


def _machine(target: Target, *, jit: bool) -> Any:
    from llvmlite import binding

    with contextlib.suppress(RuntimeError):  # newer versions of llvmlite do it on import
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    features = target.features
    if target.triple.startswith("x86_64"):
        # Explicit 512-bit vectors are meant, where LLVM's tuning would split them.
        features = ",".join(filter(None, (features, "-prefer-256-bit")))
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=features,
        opt=3,
        reloc="pic" if not jit else "default",
        codemodel="default" if not jit else "jitdefault",
        jit=jit,
    )


def _tell(message: str) -> None:
    if notice is not None and message not in _noticed:
        _noticed.add(message)
        notice(message)


@functools.cache
def _versions() -> str:
    package = sys.modules[__package__.partition(".")[0]]
    own = getattr(package, "__version__", "0")
    return f"binq {own} llvmlite {_version('llvmlite')} numba {_version('numba')}"


def _version(package: str) -> str:
    """The installed version, by the name of its metadata's folder.

    ``importlib.metadata`` takes a tenth of a cold query to import; it is asked where that fails.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin:
        prefix, suffix = f"{package}-", ".dist-info"
        for name in os.listdir(Path(spec.origin).parents[1]):
            if name.startswith(prefix) and name.endswith(suffix):
                return name[len(prefix) : -len(suffix)]
    from importlib.metadata import version

    return version(package)


@functools.cache
def _key(family: Family, target: Target) -> str:
    digest = xxhash.xxh3_128()
    here = Path(__file__).parents[1] / "source"
    parts = [target.triple, target.cpu, target.features, _versions(), family.name]
    for part in [p.encode() for p in parts] + [
        path.read_bytes()
        for path in (*(here / f"{name}.py" for name in family.files), Path(__file__))
    ]:
        digest.update(struct.pack("<I", len(part)))
        digest.update(part)
    return digest.hexdigest()


def _path(family: Family, key: str) -> Path:
    return cache.directory() / f"{family.name}-{key}.o"


def _cached(family: Family) -> Library | None:
    memo = (family.name, _key(family, host_target()))
    if memo in _loaded:
        return _loaded[memo]
    try:
        path = _path(family, memo[1])
    except OSError:
        return None
    try:
        content = cache.read(path)
    except OSError as error:
        _tell(f"kernel cache not used: {error.strerror or error}")
        return None
    parts = None if content is None else cache.unpack(content, memo[1])
    if parts is None:
        return None
    _loaded[memo] = Library(*parts)
    return _loaded[memo]


def is_ready(family: Family) -> bool:
    """Whether the family can be used without compiling."""
    with _lock:
        return _cached(family) is not None


def worth_compiling(family: Family, work: int, budget: int) -> bool:
    """Whether kernels are to be used, and not numpy, for `work` more units of work.

    They are where they are ready, and where the process would have numpy do more than `budget`
    units in all, which is what it does while a compiler would run.
    """
    if is_ready(family):
        return True
    spent = _spent.get(family.name, 0) + work
    if spent > budget:
        return True
    _spent[family.name] = spent
    return False


def load(family: Family) -> Library:
    """The family's kernels for this CPU, from memory, from the cache, or compiled now.

    Parameters
    ----------
    family : Family
        What to load.

    Returns
    -------
    Library
    """
    with _lock:
        library = _cached(family)
        if library is None:
            _tell("compiling kernels for this CPU (once, a few seconds)")
            target = host_target()
            code, symbols, layout = compile_family(family, target)
            key = _key(family, target)
            library = _loaded[family.name, key] = Library(code, symbols, layout)
            try:
                cache.write(_path(family, key), cache.pack(code, key, symbols, layout))
            except OSError as error:
                _tell(f"compiled kernels are not kept: {error.strerror or error}")
    return library


def compile_family(
    family: Family, target: Target, *, assembly: bool = False
) -> tuple[Any, dict[str, str], dict[str, int]]:
    """Compile a family, for this CPU or any other.

    Parameters
    ----------
    family : Family
        What to compile.
    target : Target
        For which CPU.
    assembly : bool
        Return the text of the assembly in place of the object code.

    Returns
    -------
    bytes or str
        Object code or assembly.
    dict of str to str
        The symbol of every function.
    dict of str to int
        What the family says about its layout.

    Raises
    ------
    RuntimeError
        A kernel refers to something that is not there at run time.
    """
    from llvmlite import binding

    source = importlib.import_module(f"binq.kernels.source.{family.source}")
    machine = _machine(target, jit=False)
    kernels, layout = source.kernels(machine)
    module = None
    for kernel in kernels.values():
        part = binding.parse_assembly(kernel.inspect_llvm())
        if module is None:
            module = part
        else:
            module.link_in(part)
    assert module is not None
    symbols = {name: kernel.native_name for name, kernel in kernels.items()}
    for function in module.functions:
        if not function.is_declaration and function.name not in symbols.values():
            function.linkage = "internal"
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    unknown = undefined_symbols(module)
    if unknown:
        raise RuntimeError(f"kernels of {family.name} refer to {', '.join(sorted(unknown))}")
    emit = machine.emit_assembly if assembly else machine.emit_object
    return emit(module), symbols, layout


def undefined_symbols(module: Any) -> set[str]:
    """What an LLVM module refers to and neither defines nor may expect from the C library."""
    names = {f.name for f in module.functions if f.is_declaration}
    names |= {v.name for v in module.global_variables if v.is_declaration}
    return {n for n in names if not n.startswith("llvm.")} - ALLOWED_SYMBOLS
