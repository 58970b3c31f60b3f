"""JSON documents that hold vectors: not read, but told how `jq` makes lines of them.

What services answer is one document, whatever its shape: OpenAI's has ``data[].embedding``,
Cohere's ``embeddings.float``, Chroma's ``ids`` and ``embeddings``, Qdrant's
``result.points[].vector``. None of them is known by name here: the longest list of numbers near
the beginning is what the vectors look like, and where it stands says the rest.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from binq.errors import InputError
from binq.types import ID_NAMES

HEAD: Final = 1 << 18
"""How many bytes of a document are looked at."""

# The closing quote may be missing, so that no string is looked at twice.
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLOSING: Final = {"[": "]", "{": "}"}
_ITEMS: Final = 3
_DEPTH: Final = 12

Step = str | None
"""A key of an object; None for every item of a list."""


def refuse_document(head: bytes, name: str, path: str | None) -> None:
    """Refuse a JSON document whose vectors stand deeper in it, given its first bytes.

    Parameters
    ----------
    head : bytes
        Of the file or stream; more than `HEAD` is not looked at.
    name : str
        What messages call it.
    path : str or None
        The file, where it is one.

    Raises
    ------
    InputError
        With the command line that makes lines of it.
    """
    text = head[:HEAD].decode("utf-8-sig", "ignore").lstrip()
    line, newline, rest = text.partition("\n")
    if newline and rest.strip() and _is_json(line):
        return  # more than one line of JSON: whatever they hold, they are lines
    document = _completed(text)
    if not rest.strip() and _is_row(document):
        return
    steps = _steps(document)
    if steps is None:
        return
    program = shlex.quote(_program(steps, document))
    if path is None:
        advice = f"send it through: jq -c {program}"
    else:
        file = f"./{path}" if path.startswith("-") else os.fspath(path)
        advice = f"make lines of it: jq -c {program} {shlex.quote(file)} | binq … -"
    raise InputError(
        "the vectors stand inside one JSON document",
        name,
        "one object or array per line",
        f"vectors at {_path(steps)}",
        advice,
    )


def advice_on_line(entry: dict[str, Any]) -> str:
    """Say which `jq` brings up the vector of a line's object, where one stands deeper in it."""
    steps = _steps(entry)
    if not steps:
        return ""
    key = next((key for key in ID_NAMES if isinstance(entry.get(key), str | int)), None)
    program = _path(steps)
    if key is not None:
        row_id = "id" if key == "id" else f"id: {_path([key])}"
        program = f"{{{row_id}, embedding: {program}}}"
    return f"send the lines through: jq -c {shlex.quote(program)}"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _completed(text: str) -> Any:
    """Return what the beginning of a document stands for, up to the last value that is whole."""
    stack: list[str] = []
    end = depth = 0  # what is open where the last whole value ends is open for good
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in _CLOSING:
            stack.append(_CLOSING[mark])
        elif mark in ("]", "}"):
            if not stack or stack.pop() != mark:
                return None
            end, depth = token.end(), len(stack)
        elif mark == ",":
            end, depth = token.start(), len(stack)
        if not stack:
            break
    try:
        return json.loads(text[:end] + "".join(reversed(stack[:depth])))
    except (ValueError, RecursionError):
        return None


def _is_row(value: Any) -> bool:
    """Return whether a value is a vector, or an object with one under a key of its own."""
    if isinstance(value, dict):
        return any(_is_row(v) for k, v in value.items() if isinstance(v, list) and k != "ids")
    return isinstance(value, list) and any(map(_is_number, value))


def _steps(document: Any) -> list[Step] | None:
    """Return where the longest list with a number in it stands; None if not all are numbers."""
    lists = list(_lists(document, []))
    steps, values = max(lists, key=lambda found: len(found[1]), default=([], [None]))
    return steps if all(map(_is_number, values)) else None


def _lists(value: Any, steps: list[Step]) -> Iterator[tuple[list[Step], list[Any]]]:
    """Yield the lists with a number in them, and where they stand; of items only the first few."""
    if len(steps) > _DEPTH:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lists(inner, [*steps, key])
    elif isinstance(value, list):
        if any(map(_is_number, value)):
            yield steps, value
        else:
            for inner in islice(value, _ITEMS):
                yield from _lists(inner, [*steps, None])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _program(steps: list[Step], document: Any) -> str:
    """Return the jq program that prints a line for every vector, with its id where it has one."""
    last = max((place for place, step in enumerate(steps) if step is None), default=-1)
    outer, inner = steps[: last + 1], steps[last + 1 :]
    item = _first(document, outer)
    if inner and isinstance(item, dict):
        key = next((key for key in ID_NAMES if isinstance(item.get(key), str | int)), None)
        if key is not None:
            row_id = "id" if key == "id" else f"id: {_path([key])}"
            vector = "embedding" if inner == ["embedding"] else f"embedding: {_path(inner)}"
            return (f"{_path(outer)} | " if outer else "") + f"{{{row_id}, {vector}}}"
    elif outer.count(None) == 1:
        for depth in range(last - 1, -1, -1):
            beside = _first(document, outer[:depth])
            ids = beside.get("ids") if isinstance(beside, dict) else None
            if isinstance(ids, list) and ids and all(isinstance(i, str | int) for i in ids):
                pair = f"[{_path([*outer[:depth], 'ids'])}, {_path(outer[:-1])}]"
                return f"{pair} | transpose[] | {{id: .[0], embedding: .[1]}}"
    return _path(steps)


def _first(value: Any, steps: list[Step]) -> Any:
    """Return what the steps lead to, of lists the first item; None where that has no such key."""
    for step in steps:
        if not value or (step is not None and step not in value):
            return None
        value = value[0] if step is None else value[step]
    return value


def _path(steps: list[Step]) -> str:
    """Write steps as jq does: ``.data[].embedding``."""
    text = ""
    for step in steps:
        if step is None:
            text += "[]" if text else ".[]"
        else:
            text += "." + (step if _WORD.fullmatch(step) else json.dumps(step))
    return text or "."
