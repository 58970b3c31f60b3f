"""Required features: what a reader must know, or it would answer wrongly or see damage.

Each has a bit in the preamble and a name in the header's ``needs``; see docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

BITS: Final = {
    "typed_ids": 0,
    "tombstones": 1,
    "row_map": 2,
    "ivf": 3,
    "hnsw": 4,
    "dtype": 8,
    "scan": 9,
    "method": 10,
    "kind": 11,
    "other": 63,
}
"""The bit of every name. ``dtype:NAME``, ``scan:NAME``, ``method:NAME`` and ``kind:NAME`` share the
bit of their first word; a name that is not here has the bit of ``other``."""

SINCE: Final = {"typed_ids": 1, "tombstones": 1, "ivf": 2, "dtype:uint32": 2, "hnsw": 3}
"""The features that this binq reads and writes, and the format minor that brought each."""


def bits_of(names: Iterable[str]) -> int:
    """Return the required feature bits of names."""
    found = 0
    for name in names:
        found |= 1 << BITS.get(name.partition(":")[0], BITS["other"])
    return found


_KNOWN: Final = bits_of(SINCE)


def minor_of(names: Iterable[str]) -> int:
    """Return the lowest format minor that holds all of these features."""
    return max((SINCE[name] for name in names), default=0)


def unknown(bits: int, names: Iterable[str]) -> list[str]:
    """Return what this binq does not know: names, and the bits that no such name explains."""
    found = [name for name in names if name not in SINCE]
    left = bits & ~_KNOWN & ~bits_of(found)
    meaning = {bit: name for name, bit in BITS.items()}
    return found + [
        f"bit {bit} ({meaning[bit]})" if bit in meaning else f"bit {bit}"
        for bit in range(64)
        if left >> bit & 1
    ]
