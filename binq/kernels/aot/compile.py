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
import errno
import functools
import importlib
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from binq.kernels.aot import bus, cache
from binq.kernels.aot.cache import Symbols

ALLOWED_SYMBOLS = frozenset({"memcpy", "memmove", "memset", "bzero", "__bzero", "memset_pattern16"})

notice: Callable[[str], None] | None = None
"""Told, in one line, what a user should know: that kernels are being compiled, or why they cannot
be kept. None keeps silent."""

_CHOOSING = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
_CTYPES = {"p": ctypes.c_void_p, "n": ctypes.c_ssize_t, "f": ctypes.c_float}

_lock = threading.Lock()
_loaded: dict[Family, Library] = {}
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
    """A kernel family: the module to compile.

    Attributes
    ----------
    name : str
        Becomes part of the file name in the cache; the module in `source` of this name returns the
        compiled functions by ``kernels(features)``.
    features : tuple, optional
        What the CPU is taken to be able to, see `source.features.Features`; by default, what it is.
    """

    name: str
    features: tuple[int, str | None, bool] | None = None


class Library:
    """Loaded kernels.

    Attributes
    ----------
    functions : dict of str to callable
        The kernels. They take addresses and numbers, and return nothing.
    layout : dict of str to int
        What the family says about itself: sizes and constants that a caller has to know.
    """

    def __init__(self, code: bytes, symbols: Symbols, layout: dict[str, int]) -> None:
        from llvmlite import binding

        self.layout = layout
        compiler = _machine(host_target(), jit=True)
        # The engine owns the memory of the code: it must live as long as the functions.
        # llvmlite's own manager of memory lays sections side by side. LLVM's takes each where there
        # is room, and ends the process where two that speak of each other come to lie 2 GiB apart,
        # as in a process that maps large files.
        empty = binding.parse_assembly("")
        self._engine = binding.create_mcjit_compiler(empty, compiler, use_lmm=True)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        bus.install(self._engine)
        self.functions: dict[str, Callable[..., None]] = {}
        for name, (symbol, arguments) in symbols.items():
            prototype = ctypes.CFUNCTYPE(None, *(_CTYPES[kind] for kind in arguments))
            function = prototype(self._engine.get_function_address(symbol))
            function.library = self  # type: ignore[attr-defined]  # its code must not go before it
            self.functions[name] = function


@functools.cache
def host_target() -> Target:
    """The CPU of this machine, or the one named by NUMBA_CPU_NAME and NUMBA_CPU_FEATURES.

    Raises
    ------
    OSError
        LLVM knows no such CPU or feature; going on, it would end the process.
    """
    from llvmlite import binding

    triple = binding.get_process_triple()
    cpu = os.environ.get("NUMBA_CPU_NAME") or ""
    features = os.environ.get("NUMBA_CPU_FEATURES") or ""
    if not cpu:
        cpu = binding.get_host_cpu_name()
        features = features or binding.get_host_cpu_features().flatten()
    target = Target(triple, cpu, features)
    chosen = [f"{name}={os.environ[name]}" for name in _CHOOSING if os.environ.get(name)]
    complaint = _complaint(target) if chosen else ""
    if complaint:
        raise OSError(errno.EINVAL, complaint, " ".join(chosen))
    return target


def _complaint(target: Target) -> str:
    """What LLVM says of a target that it does not know: to stderr, and nowhere else."""
    reading, writing = os.pipe()
    stderr = os.dup(2)
    try:
        os.dup2(writing, 2)
        os.close(writing)
        _machine(target, jit=False)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    with open(reading, errors="replace") as said:
        return said.readline().partition(" (")[0].strip()


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
def _key(family: Family, target: Target) -> str:
    import llvmlite

    digest = xxhash.xxh3_128()
    here = Path(__file__).parents[1] / "source"
    parts = [target.triple, target.cpu, target.features, llvmlite.__version__, family.name]
    parts.append(str(family.features))
    files = [*sorted(here.glob("*.py")), Path(__file__), Path(bus.__file__)]
    # numba's own version takes half a second to import; the file that it is written in does not.
    numba = Path(llvmlite.__file__).parents[1] / "numba" / "_version.py"
    files += [numba] if numba.exists() else []
    for part in [*(part.encode() for part in parts), *(path.read_bytes() for path in files)]:
        digest.update(struct.pack("<I", len(part)))
        digest.update(part)
    return digest.hexdigest()


def _name(family: Family, key: str) -> str:
    return f"{family.name}-{key}.o"


def _cached(family: Family) -> Library | None:
    if family in _loaded:
        return _loaded[family]
    key = _key(family, host_target())
    parts = cache.find(_name(family, key), key)
    if parts is not None:
        _loaded[family] = Library(*parts)
    return _loaded.get(family)


def ready(family: Family) -> Library | None:
    """The family's kernels where they can be used without compiling."""
    library = _loaded.get(family)
    if library is None:
        with _lock:
            library = _cached(family)
    return library


def worth_compiling(family: Family, work: int, budget: int) -> Library | None:
    """The kernels for `work` more units of work; None where numpy is to do it.

    Kernels are used where they are ready, and where the process would have numpy do more than
    `budget` units in all, which is what it does while a compiler would run.
    """
    library = ready(family)
    if library is not None:
        return library
    spent = _spent.get(family.name, 0) + work
    if spent > budget:
        return load(family)
    _spent[family.name] = spent
    return None


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
    library = _loaded.get(family)
    if library is not None:
        return library
    with _lock:
        library = _cached(family)
        if library is None:
            _tell("compiling kernels for this CPU (once, a few seconds)")
            target = host_target()
            code, symbols, layout = compile_family(family, target)
            key = _key(family, target)
            library = _loaded[family] = Library(code, symbols, layout)
            try:
                cache.keep(_name(family, key), cache.pack(code, key, symbols, layout))
            except OSError as error:
                _tell(
                    f"compiled kernels are not kept: {error}; "
                    "name a directory of your own by BINQ_CACHE_DIR"
                )
    return library


def compile_family(
    family: Family, target: Target, *, assembly: bool = False
) -> tuple[Any, Symbols, dict[str, int]]:
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
    dict of str to (str, str)
        The symbol of every function, and the kinds of its arguments.
    dict of str to int
        What the family says about its layout.

    Raises
    ------
    RuntimeError
        A kernel refers to something that is not there at run time.
    """
    from llvmlite import binding

    source = importlib.import_module(f"binq.kernels.source.{family.name}")
    features = importlib.import_module("binq.kernels.source.features")
    machine = _machine(target, jit=False)
    able = features.of(machine) if family.features is None else features.Features(*family.features)
    kernels, layout = source.kernels(able)
    module = binding.parse_assembly("")
    for kernel in kernels.values():
        module.link_in(binding.parse_assembly(kernel.inspect_llvm()))
    symbols = {
        name: (kernel.native_name, "".join(map(features.kind_of, kernel._sig.args)))
        for name, kernel in kernels.items()
    }
    kept = {symbol for symbol, _ in symbols.values()}
    for function in module.functions:
        if not function.is_declaration and function.name not in kept:
            function.linkage = "internal"
    module.link_in(binding.parse_assembly(bus.assembly(module.triple, module.data_layout)))
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
