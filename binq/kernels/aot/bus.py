"""What ends a command whose mapped file is cut short: a line, and an exit code.

To read a page that a file no longer has is a fault of the instruction (SIGBUS). A handler in Python
would run after that instruction, which never ends; so it is machine code, part of every compiled
family, and calls only ``write`` and ``_exit``. Several threads may fault at once: the first speaks,
the others wait for the end. It is put in place with the first family that is loaded, in a process
that has said what is to be written: a command, never the library. From the first mapped file until
then a callback of ctypes stands in, which runs inside the signal: it needs no other library, but
waits for Python's lock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

FUNCTION = "binq_bus_error"
TABLE = "binq_bus_table"
_ENTRIES = 10

last_words: Callable[[str | None], tuple[bytes, int]] | None = None
"""Given the name of a file, or None for one that nobody watches, returns what to write when it is
cut short and the code to exit with; None leaves the signal alone."""

_watched: tuple[int, int, str] = (0, 0, "")
_installed: tuple[Any, int] | None = None
_texts: list[Any] = []
_speaking = allocate_lock()
_callback: Any = None


def assembly(triple: str, layout: str) -> str:
    """The handler as LLVM assembly, and its table.

    The table holds the addresses of ``write`` and ``_exit``, the address and length of the file
    that is watched, then text, length and exit code: first for a fault inside it, then for others.
    """
    from llvmlite import ir

    word, small = ir.IntType(64), ir.IntType(32)
    byte = ir.IntType(8).as_pointer()
    module = ir.Module()
    module.triple, module.data_layout = triple, layout
    table = ir.GlobalVariable(module, ir.ArrayType(word, _ENTRIES), TABLE)
    table.initializer = ir.Constant(table.value_type, [0] * _ENTRIES)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [small, byte, byte]), FUNCTION)
    # Whoever finds the flag raised turns in a loop until the process ends.
    flag = ir.GlobalVariable(module, word, "binq_bus_flag")
    flag.initializer = ir.Constant(word, 0)
    build = ir.IRBuilder(function.append_basic_block())
    waiting, speaking = function.append_basic_block(), function.append_basic_block()
    raised = build.atomic_rmw("xchg", flag, word(1), "seq_cst")
    build.cbranch(build.icmp_unsigned("==", raised, word(0)), speaking, waiting)
    build.position_at_end(waiting)
    build.load_atomic(flag, "seq_cst", 8)
    build.branch(waiting)
    build.position_at_end(speaking)

    def entry(number: int) -> Any:
        return build.load(build.gep(table, [small(0), small(number)]))

    def called(number: int, *arguments: Any) -> None:
        kind = ir.FunctionType(word, [argument.type for argument in arguments])
        build.call(build.inttoptr(entry(number), kind.as_pointer()), arguments)

    place = build.gep(function.args[1], [small(_address_at("apple" in triple))])
    at = build.load(build.bitcast(place, word.as_pointer()))
    inside = build.icmp_unsigned("<", build.sub(at, entry(2)), entry(3))
    text, length, code = (
        build.select(inside, entry(number), entry(number + 3)) for number in (4, 5, 6)
    )
    called(0, small(2), build.inttoptr(text, byte), length)
    called(1, build.trunc(code, small))
    build.ret_void()
    return str(module)


def watch(address: int, length: int, name: str) -> None:
    """Blame faults in this memory on the file of this name; the last that was told counts."""
    global _watched
    _watched = address, length, name
    prepare()
    if _installed is not None:
        _fill(_installed[1])


def prepare() -> None:
    """Be ready for a mapped file that is cut short, in a command; asked for before it is read."""
    global _callback
    if last_words is not None and _installed is _callback is None:
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        _callback = kind(_speak)
        _handle(ctypes.cast(_callback, ctypes.c_void_p).value or 0)


def _speak(_number: int, info: int, _context: int) -> None:
    """Do what the machine code does."""
    assert last_words is not None
    _speaking.acquire()  # for good
    place = ctypes.c_uint64.from_address(info + _address_at(sys.platform == "darwin")).value
    address, length, name = _watched
    said, code = last_words(name if address <= place < address + length else None)
    os.write(2, said)
    os._exit(code)


def _address_at(darwin: bool) -> int:
    """Return the place of ``si_addr`` in ``siginfo_t``: where the fault was."""
    return 24 if darwin else 16


def install(engine: Any) -> None:
    """Put in place the handler of a family that is loaded, once and where it is asked for."""
    global _installed
    if _installed is not None or last_words is None:
        return
    table = engine.get_global_value_address(TABLE)
    _fill(table)
    _installed = engine, table  # the code must not go
    _handle(engine.get_function_address(FUNCTION))


def _handle(function: int) -> None:
    """Let the function at this address be called for every SIGBUS."""
    # struct sigaction: handler, signals to hold back (none), flags (SA_SIGINFO).
    shape, siginfo = ("P4xi", 0x40) if sys.platform == "darwin" else ("P128xi4xP", 4)
    rest = () if sys.platform == "darwin" else (0,)
    action = struct.pack(shape, function, siginfo, *rest)
    ctypes.pythonapi.sigaction(int(signal.SIGBUS), action, None)


def _fill(table: int) -> None:
    """Write the table, and keep what it points to."""
    global _texts
    assert last_words is not None
    address, length, name = _watched
    calls = (ctypes.pythonapi.write, ctypes.pythonapi._exit)  # what the process itself calls
    words = [ctypes.cast(call, ctypes.c_void_p).value or 0 for call in calls]
    words += [address, length]
    texts = []
    for file in (name, None):
        said, code = last_words(file)
        texts.append(ctypes.create_string_buffer(said))
        words += [ctypes.addressof(texts[-1]), len(said), code]
    ctypes.memmove(table, (ctypes.c_int64 * _ENTRIES)(*words), 8 * _ENTRIES)
    _texts = texts
